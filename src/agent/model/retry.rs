//! Asking again: what passes by itself is tried again, with the server's own delay and within a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Calling, Model, ModelError, Request};

/// Written into the live text before a reply begins anew, since what was shown of the broken one does not count.
pub const BEGUN_AGAIN: &str = "\n[the answer broke off; asking again]\n";

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The most tries in all, at least one.
    pub tries: u32,
    /// The first wait when the server does not say how long; each further one is twice as long.
    pub first: Duration,
    /// The longest wait. When the server asks for more, the error is handed to the caller at once: a task that
    /// has to wait long is parked, and holds no slot meanwhile.
    pub most: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { tries: 6, first: Duration::from_secs(1), most: Duration::from_secs(60) }
    }
}

/// A wait before another try, as it is told to whoever wants to log or show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The try that failed, counted from 1.
    pub attempt: u32,
    /// Why.
    pub error: ModelError,
    /// How long is waited now.
    pub delay: Duration,
}

type Hear = dyn Fn(&Wait) + Send + Sync;

/// A model that is asked again when what went wrong may pass: rate limits, overload, failures of the server, a
/// network that was away, replies that broke off.
///
/// A rate limit whose end is farther away than [`Policy::most`] is returned as it is, with its
/// [`reset`](super::ErrorKind::RateLimited): the caller parks the task until then.
#[derive(Clone)]
pub struct Retry<M> {
    inner: M,
    policy: Policy,
    on_wait: Option<Arc<Hear>>,
}

impl<M: Model> Retry<M> {
    /// Wraps a model, with the usual bounds.
    pub fn new(inner: M) -> Retry<M> {
        Retry { inner, policy: Policy::default(), on_wait: None }
    }

    /// Sets the bounds.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Retry<M> {
        self.policy = policy;
        self
    }

    /// Tells `hear` of every wait, before it begins.
    #[must_use]
    pub fn on_wait(mut self, hear: impl Fn(&Wait) + Send + Sync + 'static) -> Retry<M> {
        self.on_wait = Some(Arc::new(hear));
        self
    }

    /// The wait after a failure; `None`: the failure is final.
    pub(super) fn delay(&self, attempt: u32, error: &ModelError) -> Option<Duration> {
        if !error.is_passing() || attempt >= self.policy.tries {
            return None;
        }
        match error.retry_after {
            Some(asked) if asked > self.policy.most => None,
            // A little more than asked, so that many who were told the same time do not come back at once.
            Some(asked) => Some(asked + asked.min(Duration::from_secs(1)).mul_f64(0.1 * chance())),
            None => {
                let doubled = self.policy.first.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
                Some(doubled.min(self.policy.most).mul_f64(0.5 + 0.5 * chance()))
            }
        }
    }
}

/// A number from 0 up to 1.
fn chance() -> f64 {
    let random = uuid::Uuid::new_v4();
    let [a, b, ..] = *random.as_bytes();
    f64::from(u16::from_le_bytes([a, b])) / f64::from(u16::MAX)
}

impl<M: Model> Model for Retry<M> {
    fn call<'a>(&'a self, request: &'a Request, on_text: &'a mut (dyn FnMut(&str) + Send)) -> Calling<'a> {
        Box::pin(async move {
            let begun = Instant::now();
            let mut attempt = 0;
            loop {
                attempt += 1;
                let mut told = false;
                let mut tell = |text: &str| {
                    told |= !text.is_empty();
                    on_text(text);
                };
                let error = match self.inner.call(request, &mut tell).await {
                    Ok(reply) => return Ok(reply),
                    Err(error) => error,
                };
                let Some(delay) = self.delay(attempt, &error) else { return Err(error) };
                tracing::info!(
                    model = %request.model, attempt, delay_ms = delay.as_millis() as u64,
                    after_ms = begun.elapsed().as_millis() as u64, "asking a model again: {error}"
                );
                if let Some(hear) = &self.on_wait {
                    hear(&Wait { attempt, error, delay });
                }
                if told {
                    on_text(BEGUN_AGAIN);
                }
                tokio::time::sleep(delay).await;
            }
        })
    }
}
