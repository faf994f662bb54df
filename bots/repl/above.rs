//! What is printed above the prompt while a line may be being typed: notices and answers.

use std::sync::mpsc;

use super::cursor::Cursor;
use super::editor::Printer;

/// What the printer thread is given.
struct Told {
    text: String,
    /// The cursor is here once this was printed.
    cursor: Option<u64>,
}

/// Prints whole lines above the prompt, from anywhere and in order. The printer has a thread, since it may block: nobody
/// waits for a terminal here.
#[derive(Clone)]
pub(crate) struct Above(mpsc::Sender<Told>);

impl Above {
    pub(crate) fn new(mut printer: Printer, cursor: Cursor) -> Self {
        let (out, told) = mpsc::channel::<Told>();
        std::thread::spawn(move || {
            for Told { text, cursor: at } in told {
                if !text.is_empty() && printer.print(text).is_err() {
                    return;
                }
                if let Some(at) = at {
                    cursor.advance(at);
                }
            }
        });
        Above(out)
    }

    /// Prints lines, each ended.
    pub(crate) fn say(&self, text: String) {
        self.tell(text, None);
    }

    /// Prints lines; then the notices up to this one were told.
    pub(crate) fn tell(&self, text: String, cursor: Option<u64>) {
        // The printer ends with the terminal; then nobody is left to tell.
        let _ = self.0.send(Told { text, cursor });
    }
}
