//! Who waits for something of a task: answered with the record itself, at the moment when it is saved.
//!
//! The doorbell says only where to look, and the look would have to wait for the rest of the supervisor's turn,
//! with its launches and clean-ups. A waiter is given the record before those.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Event;
use super::core::Core;
use crate::task::{Task, TaskId};

/// What a record has to be like.
pub type Fits = Arc<dyn Fn(&Task) -> bool + Send + Sync>;

/// Gets the record once it fits; `None`: look at it again, it may be settled or gone.
pub(crate) struct Waiter {
    pub(crate) id: TaskId,
    pub(crate) fits: Fits,
    pub(crate) reply: oneshot::Sender<Option<Box<Task>>>,
}

/// All who wait.
#[derive(Default)]
pub(super) struct Waiters(HashMap<TaskId, Vec<Waiter>>);

impl Waiters {
    /// Answers a waiter, at once or later.
    pub(super) fn add(&mut self, core: &Core, waiter: Waiter) {
        if let Some(waiter) = answer(core, waiter, false) {
            let waiting = self.0.entry(waiter.id).or_default();
            // Who has gone away meanwhile makes room.
            waiting.retain(|other| !other.reply.is_closed());
            waiting.push(waiter);
        }
    }

    /// Answers those whom a ring of the doorbell concerns.
    pub(super) fn rung(&mut self, core: &Core, event: Event) {
        let Event::Task { id } = event else { return };
        let Some(waiting) = self.0.remove(&id) else { return };
        let left: Vec<Waiter> = waiting.into_iter().filter_map(|waiter| answer(core, waiter, true)).collect();
        if !left.is_empty() {
            self.0.insert(id, left);
        }
    }
}

/// Gives the waiter back when it has to go on waiting. `saved`: what is not on disk yet is not told.
fn answer(core: &Core, waiter: Waiter, saved: bool) -> Option<Waiter> {
    let record = match core.task(waiter.id) {
        // The ring after the save answers it.
        Some(_) if !saved && core.is_dirty(waiter.id) => return Some(waiter),
        Some(task) if saved && core.is_dirty(waiter.id) => (waiter.fits)(task).then_some(None),
        Some(task) => (waiter.fits)(task).then(|| Some(Box::new(task.clone()))),
        None => Some(None),
    };
    let Some(record) = record else { return Some(waiter) };
    let _ = waiter.reply.send(record);
    None
}
