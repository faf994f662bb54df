//! The background pass after a start: reads every settled record once, slowly, and compares it with what
//! the index said. The index is a cache; this finds the records that somebody edited or damaged by hand.

use std::sync::Arc;
use std::time::Duration;

use super::Handle;
use crate::store::{Difference, Summary};

/// Records read at a time.
const BATCH: usize = 64;

/// The pause between two batches: 100,000 records take some minutes and hardly any of the machine.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a start is left alone before the pass begins.
const DELAY: Duration = Duration::from_secs(30);

/// Starts the pass.
pub fn spawn(handle: Handle) {
    tokio::spawn(async move {
        tokio::time::sleep(DELAY).await;
        let Ok(ids) = handle.query(|core| core.settled_ids()).await else { return };
        for chunk in ids.chunks(BATCH) {
            let chunk = chunk.to_vec();
            let Ok(known) = handle.query(move |core| core.summaries(&chunk)).await else { return };
            check(&handle, known).await;
            tokio::time::sleep(PAUSE).await;
        }
    });
}

async fn check(handle: &Handle, known: Vec<Summary>) {
    let store = Arc::clone(handle.store());
    let Ok(found) = tokio::task::spawn_blocking(move || store.verify(&known)).await else { return };
    for difference in found {
        tracing::warn!(?difference, "a record differs from the index");
        handle.note(move |core| core.correct(difference)).await;
    }
}

impl super::core::Core {
    /// Takes over what the background pass found on disk.
    pub fn correct(&mut self, difference: Difference) {
        match difference {
            // Only a record that is settled still: one that is live now is the core's own.
            Difference::Changed(task) if self.is_settled(task.id) => {
                if task.status.is_ended() {
                    self.replace_settled(Summary::of(&task));
                } else {
                    let message =
                        format!("the record of task {} was edited by hand; restart the daemon to use it", task.id);
                    self.add_problem(message);
                }
            }
            Difference::Changed(_) => {}
            Difference::Missing(id) => self.forget_settled(id),
            Difference::Bad(id, problem) => {
                self.forget_settled(id);
                self.add_problem(problem.to_string());
            }
        }
    }
}
