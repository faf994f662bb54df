//! What an agent does, as a person reads it: its words as they come, its calls in a line each, results shortened.
//!
//! It is the log of the agent's run (`run-N/out.log`), for `octo task ID logs -f`. Whoever talks with the agent gets the
//! same as [`Said`]. Nothing is decided by either; the journal is what counts.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde_json::Value;
use tokio::sync::broadcast;

use crate::run::RunDir;
use crate::task::TaskId;

/// The longest line of a call or a result, in characters.
const LINE_MAX: usize = 240;

/// The most lines of a result.
const LINES_MAX: usize = 8;

/// What somebody who talks with an agent is told while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It begins with what was said under this key.
    Heard {
        /// The key.
        key: String,
    },
    /// More of its words.
    Delta(String),
    /// It calls a tool.
    Tool {
        /// The tool.
        name: String,
        /// The call, in a line.
        line: String,
    },
    /// It started a task.
    Task(TaskId),
    /// It asks its owner.
    Question {
        /// The question's id in the record.
        id: String,
        /// What.
        text: String,
        /// The answers offered.
        choices: Vec<String>,
    },
    /// It has said all, and waits for what is said next.
    Done {
        /// Its last words, whole.
        text: String,
    },
    /// It could not go on.
    Error {
        /// Why.
        message: String,
    },
}

/// Whom to tell.
pub(super) type Watchers = broadcast::Sender<Said>;

/// The log of one run of an agent.
#[derive(Debug)]
pub(super) struct Transcript {
    file: Option<File>,
    watchers: Option<Watchers>,
    /// The last byte began no new line.
    in_line: bool,
}

impl Transcript {
    /// Opens the log, at its end. An agent works also where it cannot be opened.
    pub(super) fn open(dir: &RunDir, watchers: Option<Watchers>) -> Transcript {
        let file = open(dir.path(), &dir.log_path());
        let file = file.inspect_err(|error| tracing::warn!(id = %dir.id(), %error, "an agent has no transcript")).ok();
        Transcript { file, watchers, in_line: false }
    }

    /// Words of the model, as they come.
    pub(super) fn words(&mut self, text: &str) {
        self.write(text);
        self.tell(|| Said::Delta(text.to_owned()));
    }

    /// The model has said all for this turn.
    pub(super) fn turn_over(&mut self) {
        if self.in_line {
            self.write("\n");
        }
    }

    /// The model calls a tool.
    pub(super) fn call(&mut self, name: &str, arguments: &Value) {
        let line = shown(name, arguments);
        self.line(&format!("→ {line}"));
        self.tell(|| Said::Tool { name: name.to_owned(), line });
    }

    /// A tool gave its result.
    pub(super) fn result(&mut self, text: &str, is_error: bool) {
        let mark = if is_error { "✗" } else { "←" };
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let first = lines.next().unwrap_or("(nothing)");
        self.line(&format!("{mark} {}", cut(first)));
        let mut more = 0;
        for line in lines {
            more += 1;
            if more < LINES_MAX {
                self.line(&format!("  {}", cut(line)));
            }
        }
        if more >= LINES_MAX {
            self.line(&format!("  ... {} more lines", more + 1 - LINES_MAX));
        }
    }

    /// Octo says something about the agent.
    pub(super) fn note(&mut self, text: &str) {
        self.line(&format!("· {}", cut(text)));
    }

    /// Tells watchers alone.
    pub(super) fn tell(&self, said: impl FnOnce() -> Said) {
        if let Some(watchers) = self.watchers.as_ref().filter(|w| w.receiver_count() > 0) {
            let _ = watchers.send(said());
        }
    }

    fn line(&mut self, text: &str) {
        let start = if self.in_line { "\n" } else { "" };
        self.write(&format!("{start}{text}\n"));
    }

    fn write(&mut self, text: &str) {
        if let Some(last) = text.chars().last() {
            self.in_line = last != '\n';
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(text.as_bytes())
        {
            tracing::warn!(%error, "an agent's transcript ends here");
            self.file = None;
        }
    }
}

fn open(folder: &Path, log: &Path) -> io::Result<File> {
    DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    File::options().append(true).create(true).mode(0o600).open(log)
}

/// A call in a line.
fn shown(name: &str, arguments: &Value) -> String {
    let main = ["command", "path", "question", "thought", "task_id", "pattern", "summary", "task", "prompt"];
    let of_main = main.iter().find_map(|key| arguments.get(key)?.as_str());
    match (of_main, arguments) {
        (Some(text), _) => cut(&format!("{name}: {}", text.replace('\n', " ⏎ "))),
        (None, Value::Object(fields)) if fields.is_empty() => name.to_owned(),
        (None, other) => cut(&format!("{name} {other}")),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LINE_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_turn_reads_like_a_conversation() {
        let folder = tempfile::tempdir().unwrap();
        let id: TaskId = "c4b1e09a".parse().unwrap();
        let dir = RunDir::new(folder.path(), id, 1);
        let mut transcript = Transcript::open(&dir, None);
        transcript.words("I look ");
        transcript.words("around.");
        transcript.call("shell", &json!({"command": "ls\npwd"}));
        let many: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
        transcript.result(&many.join("\n"), false);
        transcript.result("", true);
        transcript.note("the model is asked again");
        let text = std::fs::read_to_string(dir.log_path()).unwrap();
        let want = "I look around.\n→ shell: ls ⏎ pwd\n← 1\n  2\n  3\n  4\n  5\n  6\n  7\n  8\n  ... 12 more lines\n\
                    ✗ (nothing)\n· the model is asked again\n";
        assert_eq!(text, want);
    }
}
