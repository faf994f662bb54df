//! Switches that break a promise on purpose, so that the tests of the promises can show that they would notice.
//!
//! They exist in builds with debug assertions only, and are read from `OCTO_BREAK` (words with commas between):
//!
//! | word | what is broken |
//! |---|---|
//! | `no_claim` | a shim runs its command without having won the claim |
//! | `no_folder_fsync` | what gives saved records their names for good is not synced |
//! | `daemon_as_parent` | runs end with the daemon, as if they were its own children |
//! | `told_before_saved` | a request is answered before its record is on disk |

#[cfg(debug_assertions)]
pub(crate) use active::{Late, broken};

/// Tells whether a promise is to be broken: never, in this build.
#[cfg(not(debug_assertions))]
pub(crate) const fn broken(_promise: &str) -> bool {
    false
}

#[cfg(debug_assertions)]
mod active {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use crate::command::Env;
    use crate::store::{Persist, ReadError, SaveError, Store, Summary, Write};
    use crate::task::{Task, TaskId};

    /// Tells whether a promise is to be broken.
    pub(crate) fn broken(promise: &str) -> bool {
        std::env::var("OCTO_BREAK").is_ok_and(|words| words.split(',').any(|word| word == promise))
    }

    /// A store that says "saved" and saves a little later.
    #[derive(Debug)]
    pub(crate) struct Late {
        store: Arc<Store>,
        later: mpsc::Sender<(Vec<Write>, Vec<Vec<TaskId>>)>,
    }

    impl Late {
        pub(crate) fn new(store: Arc<Store>) -> Late {
            let (later, due) = mpsc::channel::<(Vec<Write>, Vec<Vec<TaskId>>)>();
            let behind = Arc::clone(&store);
            std::thread::spawn(move || {
                for (batch, together) in due {
                    #[allow(clippy::disallowed_methods)] // the lateness itself
                    std::thread::sleep(Duration::from_millis(10));
                    let _ = behind.save(&batch, &together);
                }
            });
            Late { store, later }
        }
    }

    impl Persist for Late {
        fn save(&self, batch: &[Write], together: &[Vec<TaskId>]) -> Vec<Result<(), SaveError>> {
            let _ = self.later.send((batch.to_vec(), together.to_vec()));
            batch.iter().map(|_| Ok(())).collect()
        }
        fn read(&self, id: TaskId) -> Result<Task, ReadError> {
            self.store.read(id)
        }
        fn note_ended(&self, summary: &Summary) {
            self.store.note_ended(summary);
        }
        fn env(&self, digest: &str) -> Result<Env, ReadError> {
            self.store.env(digest)
        }
        fn drop_env(&self, digest: &str) {
            self.store.drop_env(digest);
        }
        fn env_digests(&self) -> Vec<String> {
            self.store.env_digests()
        }
    }
}
