//! The line editor on its thread: prompt, history, completion and hints.

use std::borrow::Cow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use octo::chat::{Argument, COMMANDS};
use octo::cli::Terminal;
use octo::command::{Refused, RefusedCode};
use octo::render::{fit, waiting};
use octo::task::Status;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Context, ExternalPrinter, Helper, Validator};

use super::known::{self, Known, KnownQuestion, KnownTask};

/// The prompt.
const PROMPT: &str = "octo> ";

/// What came from the keyboard.
#[derive(Debug)]
pub(crate) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C: what was typed was dropped.
    Cleared,
    /// Ctrl-C where nothing was typed.
    Interrupted,
    /// Ctrl-D, or the terminal went away.
    End,
}

/// The handle on the editor's thread.
pub(crate) struct Editor {
    prompts: mpsc::Sender<String>,
    typed: tokio::sync::mpsc::Receiver<Typed>,
}

/// Prints above the prompt.
pub(crate) type Printer = Box<dyn ExternalPrinter + Send>;

impl Editor {
    /// Opens the editor; it reads nothing before [`Editor::read`].
    pub(crate) fn open(
        terminal: Terminal,
        known: Arc<Mutex<Known>>,
        history: Option<PathBuf>,
    ) -> Result<(Self, Printer), Refused> {
        let failed =
            |e: ReadlineError| Refused::new(RefusedCode::Internal, format!("the terminal cannot be used: {e}"));
        let config = Config::builder().history_ignore_space(true).completion_type(CompletionType::List).build();
        let mut inner = rustyline::Editor::<Assistant, DefaultHistory>::with_config(config).map_err(failed)?;
        // Shared with the editor's thread: what Ctrl-C means depends on it.
        let empty = Arc::new(AtomicBool::new(false));
        inner.set_helper(Some(Assistant { known, terminal, empty: Arc::clone(&empty) }));
        let history = history.filter(|file| prepare_history(file).is_ok());
        if let Some(file) = &history {
            // A history that cannot be read is worth no more than starting anew.
            let _ = inner.load_history(file);
        }
        // Before the first line is read, or it would print nothing.
        let printer = Box::new(inner.create_external_printer().map_err(failed)?);
        let (prompts, asked) = mpsc::channel::<String>();
        // One prompt, one answer: the bound is never waited for.
        let (answer, typed) = tokio::sync::mpsc::channel(1);
        let work = move || {
            while let Ok(begun) = asked.recv() {
                let typed = match read(&mut inner, &begun, history.as_deref(), terminal.colour) {
                    Typed::Cleared if empty.load(Ordering::Relaxed) => Typed::Interrupted,
                    typed => typed,
                };
                if answer.blocking_send(typed).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("editor".to_owned())
            .spawn(work)
            .map_err(|e| Refused::new(RefusedCode::Internal, format!("no thread for the terminal: {e}")))?;
        Ok((Editor { prompts, typed }, printer))
    }

    /// Shows the prompt and reads one line, of which this is typed already.
    pub(crate) async fn read(&mut self, begun: String) -> Typed {
        if self.prompts.send(begun).is_err() {
            return Typed::End;
        }
        self.typed.recv().await.unwrap_or(Typed::End)
    }
}

/// Makes the history file, readable by its owner alone.
fn prepare_history(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file).map(drop)
}

fn read(
    editor: &mut rustyline::Editor<Assistant, DefaultHistory>,
    begun: &str,
    history: Option<&Path>,
    colour: bool,
) -> Typed {
    let painted = if colour { format!("\x1b[1;36m{PROMPT}\x1b[0m") } else { PROMPT.to_owned() };
    match editor.readline_with_initial(&(PROMPT.to_owned(), painted), (begun, "")) {
        Ok(line) => {
            if editor.add_history_entry(&line).unwrap_or(false)
                && let Some(file) = history
            {
                // What cannot be remembered was still typed.
                let _ = editor.append_history(file);
            }
            Typed::Line(line)
        }
        Err(ReadlineError::Interrupted) => Typed::Cleared,
        Err(_) => Typed::End,
    }
}

/// Knows what can be typed.
#[derive(Helper, Validator)]
struct Assistant {
    known: Arc<Mutex<Known>>,
    terminal: Terminal,
    /// The hint on the screen is that of an empty line.
    empty: Arc<AtomicBool>,
}

impl Assistant {
    /// The hint behind what was typed, as wide as there is room.
    fn fitting(&self, line: &str) -> Option<Hint> {
        let hint = hint(line, &known::lock(&self.known))?;
        // A hint that wraps would jump about.
        let room = (self.terminal.width)()?.checked_sub(PROMPT.len() + line.chars().count() + 1)?;
        Some(Hint { shown: fit(&hint.shown, room), ..hint })
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(complete(&line[..pos], &known::lock(&self.known)))
    }
}

impl Hinter for Assistant {
    type Hint = Hint;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Hint> {
        self.empty.store(line.is_empty(), Ordering::Relaxed);
        // On an empty line a hint could be taken for something typed, unless it is dim.
        if pos < line.len() || line.is_empty() && !self.terminal.colour {
            return None;
        }
        self.fitting(line)
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if !self.terminal.colour {
            return Cow::Borrowed(hint);
        }
        // A notice above the prompt does not make the editor ask for its hint again, but what waits is another by then.
        let now = if self.empty.load(Ordering::Relaxed) {
            self.fitting("").map_or_else(String::new, |hint| hint.shown)
        } else {
            hint.to_owned()
        };
        Cow::Owned(format!("\x1b[2m{now}\x1b[0m"))
    }
}

/// What is shown dimly behind the cursor.
#[derive(Debug, PartialEq, Eq)]
struct Hint {
    shown: String,
    /// What the right arrow key adds; `None` when it is just an explanation.
    accepted: Option<String>,
}

impl rustyline::hint::Hint for Hint {
    fn display(&self) -> &str {
        &self.shown
    }

    fn completion(&self) -> Option<&str> {
        self.accepted.as_deref()
    }
}

/// The candidates for the last word of what was typed, and where that word begins.
fn complete(typed: &str, known: &Known) -> (usize, Vec<Pair>) {
    let start = typed.rfind(char::is_whitespace).map_or(0, |i| i + 1);
    let word = &typed[start..];
    let before: Vec<&str> = typed[..start].split_whitespace().collect();
    let plain = |words: &[&str]| -> Vec<Pair> {
        let fitting = words.iter().filter(|w| w.starts_with(word));
        fitting.map(|w| Pair { display: (*w).to_owned(), replacement: format!("{w} ") }).collect()
    };
    let Some(name) = before.first() else {
        let names: Vec<&str> = COMMANDS.iter().map(|c| c.name).collect();
        return (start, if word.starts_with('/') { plain(&names) } else { Vec::new() });
    };
    let argument = COMMANDS.iter().find(|c| c.name == *name).map_or(Argument::Free, |c| c.argument);
    if let (Argument::Task(_), [id, "resume", ..]) = (argument, &before[1..]) {
        return answers(typed, id, known);
    }
    let pairs = match (argument, &before[1..]) {
        (Argument::Words(words), []) => plain(words),
        (Argument::Words(_), ["kill"]) => tasks(word, known, |t| !t.status.is_ended()),
        (Argument::Status, []) => plain(&Status::ALL.map(Status::word)),
        (Argument::Task(_), []) => {
            // Who asks, first.
            let mut all = tasks(word, known, |t| !t.questions.is_empty());
            all.extend(tasks(word, known, |t| t.questions.is_empty()));
            all
        }
        (Argument::Task(verbs), [_]) => plain(verbs),
        _ => Vec::new(),
    };
    (start, pairs)
}

/// The tasks whose number or id begins with the word.
fn tasks(word: &str, known: &Known, wanted: impl Fn(&KnownTask) -> bool) -> Vec<Pair> {
    let by_number = word.strip_prefix('#').unwrap_or(word);
    let fitting = known.tasks.iter().filter(|t| wanted(t)).filter_map(|t| {
        let name = if t.number.starts_with(by_number) { &t.number } else { &t.id };
        name.starts_with(by_number).then_some((name, t))
    });
    fitting
        .map(|(name, t)| Pair {
            display: format!("{name:<8} {} {:<10} {}", t.status.icon(), t.status, fit(&t.title, 40)),
            replacement: format!("{name} "),
        })
        .collect()
}

/// What can follow `/task ID resume `: the choices of the question that is meant, or the questions there are.
fn answers(typed: &str, id: &str, known: &Known) -> (usize, Vec<Pair>) {
    let none = (typed.len(), Vec::new());
    let Some(task) = known.find(id) else { return none };
    let Some(verb) = typed.find(" resume ") else { return none };
    let behind = typed[verb + " resume ".len()..].trim_start();
    let start = typed.len() - behind.len();
    let (start, rest, question) = match behind.strip_prefix("--question ").map(str::trim_start) {
        Some(named) => match named.split_once(' ') {
            Some((id, rest)) => {
                let rest = rest.trim_start();
                (typed.len() - rest.len(), rest, task.questions.iter().find(|q| q.id == id))
            }
            None => return (start, questions(task, behind)),
        },
        None => (start, behind, task.only_question()),
    };
    let Some(question) = question else { return (start, questions(task, rest)) };
    let fold = rest.to_lowercase();
    let fitting = question.choices.iter().filter(|c| octo::render::sanitize::line(c) == **c);
    let fitting = fitting.filter(|c| c.to_lowercase().starts_with(&fold));
    (start, fitting.map(|c| Pair { display: c.clone(), replacement: c.clone() }).collect())
}

/// The ways to name one of a task's questions.
fn questions(task: &KnownTask, word: &str) -> Vec<Pair> {
    let pair = |q: &KnownQuestion| Pair {
        display: format!("--question {}  {}", q.id, fit(&q.line, 60)),
        replacement: format!("--question {} ", q.id),
    };
    task.questions.iter().map(pair).filter(|p| p.replacement.starts_with(word)).collect()
}

/// The hint behind what was typed.
fn hint(typed: &str, known: &Known) -> Option<Hint> {
    let explain = |shown: String| Some(Hint { shown, accepted: None });
    let words: Vec<&str> = typed.split_whitespace().collect();
    let open = !typed.ends_with(char::is_whitespace);
    match words.as_slice() {
        [] if typed.is_empty() && known.answering => explain("the agent is answering; Ctrl-C stops waiting".to_owned()),
        [] if typed.is_empty() && known.questions() > 0 => {
            let shows = if known.questions() == 1 { "it" } else { "them" };
            explain(format!("{}: /recap shows {shows}", waiting(known.questions())))
        }
        [name] if open && name.len() > 1 && name.starts_with('/') => {
            if let Some(command) = COMMANDS.iter().find(|c| c.name == *name) {
                return explain(format!(" {}", usage(command)));
            }
            let mut fitting = COMMANDS.iter().filter(|c| c.name.starts_with(name));
            let rest = fitting.next()?.name[name.len()..].to_owned();
            fitting.next().is_none().then_some(Hint { shown: rest.clone(), accepted: Some(rest) })
        }
        [name] if !open => explain(usage(COMMANDS.iter().find(|c| c.name == *name)?)),
        ["/task", id, "resume"] if !open => explain(known.find(id)?.questions.first()?.line.clone()),
        ["/task", id, "resume", "--question", question] if !open => {
            explain(known.find(id)?.questions.iter().find(|q| q.id == *question)?.line.clone())
        }
        ["/task", id] | ["/bg", "kill", id] => {
            let task = known.find(id)?;
            let gap = if open { "  " } else { " " };
            explain(format!("{gap}{} {} {}", task.status.icon(), task.status, task.title))
        }
        _ => None,
    }
}

/// A command's forms in one line: `COMMAND | list | kill ID | clear`, `ID [cancel | logs]`.
fn usage(command: &octo::chat::Command) -> String {
    if let Argument::Task(verbs) = command.argument {
        return format!("ID [{}]", verbs.join(" | "));
    }
    command.forms.iter().map(|(form, _)| *form).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use octo::command::Listing;
    use octo::task::{Stamp, Task};

    fn known() -> Known {
        let task = |number: u64, id: &str, command: &str| {
            let mut task = Task::new(id.parse().unwrap(), number, Stamp::default());
            command.clone_into(&mut task.command);
            task
        };
        let mut ended = task(11, "a0000011", "make\x1b[2J test");
        ended.status = Status::Failed;
        let question = |id: &str, kind: &str, choices: [&str; 2]| octo::task::Question {
            id: id.to_owned(),
            text: "Go on?".to_owned(),
            kind: kind.to_owned(),
            choices: choices.map(str::to_owned).into(),
            open: true,
            ..octo::task::Question::default()
        };
        let mut asks = task(13, "b0000013", "ask");
        asks.questions = vec![question("q1", "question", ["yes", "not now, please"])];
        let mut asks_twice = task(14, "b0000014", "ask twice");
        asks_twice.questions =
            vec![question("q1", "question", ["yes", "no"]), question("q2", "permission", ["allow", "deny"])];
        let listing = Listing {
            active: vec![task(12, "c4b1e09a", "sleep 60"), asks, asks_twice],
            history: vec![ended],
            ..Listing::default()
        };
        let mut known = Known::default();
        known.learn(&listing);
        known
    }

    #[test]
    fn commands_words_statuses_and_tasks_are_completed() {
        let replacements =
            |typed: &str| -> Vec<String> { complete(typed, &known()).1.into_iter().map(|p| p.replacement).collect() };
        for (typed, expected) in [
            ("/ta", &["/tasks ", "/task "][..]),
            ("/st", &["/status "]),
            ("plain", &[]),
            ("/ag", &["/agent ", "/agents "]),
            ("/bg k", &["kill "]),
            ("/bg --", &["--agent ", "--model "]),
            ("/bg kill ", &["12 ", "13 ", "14 "]),
            ("/bg make t", &[]),
            ("/tasks f", &["failed "]),
            ("/task 1", &["13 ", "14 ", "12 ", "11 "]),
            ("/task #12", &["12 "]),
            ("/task c4", &["c4b1e09a "]),
            ("/task 12 l", &["logs "]),
            ("/task 12 logs ", &[]),
            ("/task ", &["13 ", "14 ", "12 ", "11 "]),
            ("/task 12 re", &["resume ", "retry "]),
            ("/task 12 f", &["followup "]),
            ("/task 12 resume ", &[]),
            ("/task 13 resume ", &["yes", "not now, please"]),
            ("/task 13 resume not no", &["not now, please"]),
            ("/task 13 resume --question q1 Y", &["yes"]),
            ("/task 14 resume ", &["--question q1 ", "--question q2 "]),
            ("/task 14 resume --question ", &["--question q1 ", "--question q2 "]),
            ("/task 14 resume --question q2 ", &["allow", "deny"]),
            ("/nothing x", &[]),
        ] {
            assert_eq!(replacements(typed), expected, "{typed}");
        }
        assert_eq!(complete("/task 11", &known()).1[0].display, "11       ✗ failed     make test");
    }

    #[test]
    fn hints_explain_and_complete() {
        let shown = |typed: &str| hint(typed, &known()).map(|h| (h.shown, h.accepted));
        assert_eq!(shown("/rec"), Some(("ap".into(), Some("ap".into()))));
        assert_eq!(shown("/ta"), None, "two commands fit");
        assert_eq!(
            shown("/bg"),
            Some((" COMMAND | --agent[=NAME] PROMPT | --model M PROMPT | list | kill ID | clear".into(), None))
        );
        assert_eq!(shown("/task "), Some(("ID [cancel | followup | logs | raise | resume | retry | rm]".into(), None)));
        assert_eq!(shown("/tasks "), Some(("[STATUS]".into(), None)));
        assert_eq!(shown("/task 12"), Some(("  … dispatched sleep 60".into(), None)));
        assert_eq!(shown("/task 99"), None);
        assert_eq!(shown("/task 13 resume "), Some(("Go on?  [yes / not now, please]".into(), None)));
        assert_eq!(shown("/task 14 resume --question q2 "), Some(("Go on?  [allow / deny]".into(), None)));
        assert_eq!(shown(""), Some(("3 questions wait: /recap shows them".into(), None)));
        assert_eq!(shown("hello"), None);
        let mut answering = known();
        answering.answering = true;
        assert!(hint("", &answering).unwrap().shown.contains("Ctrl-C stops waiting"));
    }

    #[test]
    fn the_history_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("octo/history");
        prepare_history(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
