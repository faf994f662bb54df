//! Tells followers that a log has grown: one inotify instance for all of them.
//!
//! Its events are read on the thread that serves the API, where the followers are: between a write in a task
//! and the bytes on a follower's connection lies one wake. When the kernel has no more watches to give, a
//! follower looks every 200 ms instead.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// How often a follower looks that could get no watch.
const POLL: Duration = Duration::from_millis(200);

/// How often a watched file is looked at all the same: a lost event must not stall a follower for ever.
const LOOK: Duration = Duration::from_secs(5);

/// The shared instance; made when the first follower comes.
#[derive(Debug, Clone, Default)]
pub(super) struct Tails(Arc<Mutex<Watches>>);

#[derive(Debug, Default)]
struct Watches {
    inotify: Option<Arc<AsyncFd<OwnedFd>>>,
    /// By watch descriptor: all followers of one file share it. The sender knows how many there are.
    files: HashMap<i32, watch::Sender<()>>,
}

impl Watches {
    fn instance(&mut self, tails: &Tails) -> io::Result<Arc<AsyncFd<OwnedFd>>> {
        if let Some(inotify) = &self.inotify {
            return Ok(Arc::clone(inotify));
        }
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let fd = Arc::new(register(fd)?);
        tokio::spawn(listen(Arc::clone(&fd), tails.clone()));
        self.inotify = Some(Arc::clone(&fd));
        Ok(fd)
    }
}

/// Puts the descriptor into the runtime's own wait.
#[allow(unsafe_code)]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is returned, which hands it to nobody who could close it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

impl Tails {
    /// Watches an open file for growth, until the tail is dropped.
    pub(super) fn tail(&self, file: &File) -> Tail {
        let watch = self.watch(file).inspect_err(|error| tracing::debug!(%error, "polling a log")).ok();
        Tail { watch, tails: self.clone() }
    }

    fn watch(&self, file: &File) -> io::Result<(i32, watch::Receiver<()>)> {
        let mut watches = self.lock();
        let inotify = watches.instance(self)?;
        // By descriptor: the name may be another file's by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let wd = inotify::add_watch(inotify.get_ref(), path, inotify::WatchFlags::MODIFY)?;
        let grown = watches.files.entry(wd).or_insert_with(|| watch::channel(()).0);
        Ok((wd, grown.subscribe()))
    }

    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the followers of the files that have grown, for as long as the daemon lives.
async fn listen(inotify: Arc<AsyncFd<OwnedFd>>, tails: Tails) {
    while let Ok(mut ready) = inotify.readable().await {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify.get_ref(), &mut buffer);
        loop {
            match events.next() {
                Ok(event) => wake(&tails.lock(), &event),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => {
                    tracing::warn!(%error, "logs cannot be watched any more; followers look now and then");
                    return;
                }
            }
        }
        ready.clear_ready();
    }
}

/// Events that were lost may have been anybody's.
fn wake(watches: &Watches, event: &inotify::Event<'_>) {
    if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
        watches.files.values().for_each(|grown| grown.send_replace(()));
    } else if let Some(grown) = watches.files.get(&event.wd()) {
        grown.send_replace(());
    }
}

/// A watch on one log.
#[derive(Debug)]
pub(super) struct Tail {
    watch: Option<(i32, watch::Receiver<()>)>,
    tails: Tails,
}

impl Tail {
    /// Returns when the file may have grown since it was last asked; `true`: because a while has passed.
    pub(super) async fn grown(&mut self) -> bool {
        let Some((_, grown)) = &mut self.watch else {
            tokio::time::sleep(POLL).await;
            return true;
        };
        tokio::time::timeout(LOOK, grown.changed()).await.is_err()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let Some((wd, grown)) = self.watch.take() else { return };
        let mut watches = self.tails.lock();
        drop(grown);
        if watches.files.get(&wd).is_some_and(|grown| grown.receiver_count() > 0) {
            return;
        }
        watches.files.remove(&wd);
        if let Some(inotify) = &watches.inotify {
            // The file may be gone, and its watch with it.
            let _ = inotify::remove_watch(inotify.get_ref(), wd);
        }
    }
}
