//! Tells followers that a log has grown: one inotify watcher for all of them, through `notify`.
//!
//! When the kernel has no more watches to give, a follower looks every 200 ms instead.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How often a follower looks that could get no watch.
const POLL: Duration = Duration::from_millis(200);

type Paths = Arc<Mutex<HashMap<PathBuf, (Arc<Notify>, usize)>>>;

/// The shared watcher; made when the first follower comes.
#[derive(Debug, Clone, Default)]
pub(super) struct Tails {
    paths: Paths,
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tails {
    /// Watches a file for growth, until the tail is dropped.
    pub(super) fn tail(&self, path: &Path) -> Tail {
        let mut paths = lock(&self.paths);
        let entry = paths.entry(path.to_owned()).or_default();
        entry.1 += 1;
        let (grown, first) = (Arc::clone(&entry.0), entry.1 == 1);
        drop(paths);
        let watched = !first || self.watch(path).inspect_err(|error| tracing::debug!(%error, "polling a log")).is_ok();
        Tail { path: path.to_owned(), grown, watched, tails: self.clone() }
    }

    fn watch(&self, path: &Path) -> notify::Result<()> {
        let mut watcher = lock(&self.watcher);
        if watcher.is_none() {
            let paths = Arc::clone(&self.paths);
            *watcher =
                Some(notify::recommended_watcher(move |event: notify::Result<notify::Event>| ring(&paths, event))?);
        }
        watcher.as_mut().map_or(Ok(()), |w| w.watch(path, RecursiveMode::NonRecursive))
    }

    fn unwatch(&self, path: &Path) {
        let mut paths = lock(&self.paths);
        let Some(entry) = paths.get_mut(path) else { return };
        entry.1 -= 1;
        if entry.1 > 0 {
            return;
        }
        paths.remove(path);
        drop(paths);
        if let Some(watcher) = lock(&self.watcher).as_mut() {
            // The file may be gone, and its watch with it.
            let _ = watcher.unwatch(path);
        }
    }
}

/// Wakes the followers of the files that an event names; an error or overflow wakes all.
fn ring(paths: &Paths, event: notify::Result<notify::Event>) {
    let paths = lock(paths);
    match event {
        Ok(event) if !event.need_rescan() => {
            for path in &event.paths {
                if let Some((grown, _)) = paths.get(path) {
                    grown.notify_waiters();
                    grown.notify_one();
                }
            }
        }
        Ok(_) | Err(_) => paths.values().for_each(|(grown, _)| grown.notify_waiters()),
    }
}

/// A watch on one log.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    grown: Arc<Notify>,
    watched: bool,
    tails: Tails,
}

impl Tail {
    /// Returns when the file may have grown.
    pub(super) async fn grown(&self) {
        // Even a watched file is looked at now and then: a lost event must not stall a follower for ever.
        let limit = if self.watched { Duration::from_secs(5) } else { POLL };
        let _ = tokio::time::timeout(limit, self.grown.notified()).await;
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.tails.unwatch(&self.path);
    }
}
