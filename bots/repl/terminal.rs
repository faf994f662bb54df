//! The terminal's own settings: put back whatever happens.

use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// The settings at the start. The editor changes them for each line; if the program ends inside of
/// one, nobody else would put them back.
static AT_START: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal's settings as they were.
pub(crate) struct Saved;

impl Saved {
    /// Notes the settings, and has a panic put them back before it speaks.
    pub(crate) fn take() -> Self {
        *AT_START.lock().unwrap_or_else(PoisonError::into_inner) = tcgetattr(std::io::stdin()).ok();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            usual(info);
        }));
        Saved
    }

    /// Puts the settings back.
    pub(crate) fn restore(&self) {
        restore();
    }
}

fn restore() {
    // `try_lock`: a panic must never wait.
    if let Ok(saved) = AT_START.try_lock()
        && let Some(termios) = saved.as_ref()
    {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, termios);
    }
}
