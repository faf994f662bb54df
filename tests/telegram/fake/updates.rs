//! The queue of updates, with the semantics of `getUpdates`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::methods::{Outcome, Refusal};
use super::{Inner, World};

/// What the older of two polls is told.
pub(super) const TERMINATED: &str =
    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";

const WEBHOOK: &str =
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";

/// The most that one answer holds.
const LIMIT: u64 = 100;

fn id(update: &Value) -> u64 {
    update["update_id"].as_u64().unwrap_or(0)
}

impl Inner {
    /// Puts an update into the queue under the next number, if the bot wants its kind.
    pub(super) fn queue(&mut self, kind: &str, what: Value) -> u64 {
        let number = self.next_update;
        self.next_update += 1 + self.mischief.gap;
        if self.allowed.as_ref().is_none_or(|kinds| kinds.iter().any(|k| k == kind)) {
            let mut update = Map::new();
            update.insert("update_id".to_owned(), json!(number));
            update.insert(kind.to_owned(), what);
            self.queue.push(Value::Object(update));
        }
        number
    }

    /// An update counts as confirmed as soon as a higher offset is asked for.
    fn confirm(&mut self, offset: i64) {
        if offset == 0 {
            return;
        }
        let cut = match u64::try_from(offset) {
            Ok(first) => first,
            Err(_) => {
                // A negative offset counts from the end; all before is forgotten.
                let kept = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
                let first = self.queue.len().saturating_sub(kept);
                self.queue.get(first).map_or(0, id)
            }
        };
        let (gone, left) = std::mem::take(&mut self.queue).into_iter().partition(|u| id(u) < cut);
        self.queue = left;
        self.confirmed.extend::<Vec<_>>(gone);
    }

    fn batch(&self, limit: usize) -> Vec<Value> {
        let mut batch: Vec<Value> = self.queue.iter().take(limit).cloned().collect();
        if !batch.is_empty() {
            let again = self.confirmed.iter().rev().take(self.mischief.repeat).cloned();
            batch.extend(again);
        }
        if self.mischief.reversed {
            batch.reverse();
        }
        batch
    }
}

pub(super) async fn get(world: &World, params: &Value) -> Outcome {
    let number = |name: &str| params[name].as_i64();
    let limit = number("limit").map_or(LIMIT, |n| u64::try_from(n).unwrap_or(1).clamp(1, LIMIT));
    let limit = usize::try_from(limit).unwrap_or(1);
    let timeout = Duration::from_secs(number("timeout").and_then(|n| u64::try_from(n).ok()).unwrap_or(0).min(50));
    let (me, timeout) = {
        let mut inner = world.held();
        if inner.webhook {
            return Err(Refusal::new(409, WEBHOOK));
        }
        if let Some(kinds) = params["allowed_updates"].as_array() {
            let kinds: Vec<String> = kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            inner.allowed = (!kinds.is_empty()).then_some(kinds);
        }
        inner.confirm(number("offset").unwrap_or(0));
        inner.poll += 1;
        (inner.poll, inner.hold.map_or(timeout, |most| timeout.min(most)))
    };
    world.tell();
    let end = tokio::time::Instant::now() + timeout;
    loop {
        let arrived = world.arrived.notified();
        {
            let inner = world.held();
            if inner.poll != me {
                return Err(Refusal::new(409, TERMINATED));
            }
            let batch = inner.batch(limit);
            if !batch.is_empty() {
                return Ok(Value::Array(batch));
            }
        }
        if tokio::time::timeout_at(end, arrived).await.is_err() {
            return Ok(json!([]));
        }
    }
}
