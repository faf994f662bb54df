//! The `claude` that a task finds first in its PATH.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::bridge::Bridge;
use super::extra;
use super::find::{Candidate, FileId, candidates};
use super::flags;

/// The variable that a wrapper leaves for wrappers below it: `depth:pid:dev.ino,dev.ino`.
const TRAIL: &str = "OCTO_CLAUDE_TRAIL";

/// The variable by which the daemon says what each print-mode run in a task may cost, in US dollars.
pub const BUDGET: &str = "OCTO_CLAUDE_BUDGET_USD";

/// claude's option for it.
const CAP: &str = "--max-budget-usd";

/// How many wrappers may stand above each other. Agents that start agents nest a few levels deep; past
/// this, some other `claude` script and the wrapper call each other in a circle.
const MAX_DEPTH: u32 = 40;

/// What the wrapper knows of the world.
#[derive(Debug, Clone, Default)]
pub struct WrapperEnv {
    /// `ADDITIONAL_CLAUDE_ARGS`.
    pub additional: OsString,
    /// The session id to give a run that has none; a fresh UUID.
    pub session: String,
    /// The real claude; `None` when PATH has none.
    pub program: Option<PathBuf>,
    /// What a run may cost, in US dollars, as [`BUDGET`] says it; empty: as it likes.
    pub budget: OsString,
    /// How a run asks the task's owner; `None`: it does not.
    pub bridge: Option<Bridge>,
}

/// What the wrapper turns into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program to run.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Variables to add to its environment.
    pub env: Vec<(OsString, OsString)>,
    /// What to tell on stderr first; a sentence, or nothing.
    pub warning: Option<String>,
}

/// There is no `claude` to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoClaude {
    /// PATH has none, apart from Octo's wrapper.
    #[error("no claude program in PATH")]
    Missing,
    /// Another wrapper script and this one call each other.
    #[error("claude programs in PATH call each other in a circle")]
    Circle,
}

impl NoClaude {
    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            NoClaude::Missing => "install Claude Code, or add the folder of `claude` to PATH where the task is started",
            NoClaude::Circle => "let your own `claude` script call the real program by its full path",
        }
    }
}

/// Tells whether this process was started as `claude`, and is therefore the wrapper.
#[must_use]
pub fn called_as_claude(argv0: Option<&OsStr>) -> bool {
    argv0.and_then(|name| Path::new(name).file_name()) == Some(OsStr::new("claude"))
}

/// Decides what to run instead of the wrapper that was called with `args` (without its own name).
///
/// A print-mode run gets the additional options and, where it neither chooses nor resumes a session, a
/// session id. They go right before the print flag, which is no value of the option before it, and which
/// ends the values of the option behind it: there they can neither swallow nor be swallowed. Every other
/// invocation keeps its arguments byte for byte.
///
/// With a budget it gets `--max-budget-usd`, unless the command says one itself; one of the additional options gives
/// way to it.
///
/// With a [`Bridge`] a print-mode run also gets its way to ask, at the same place.
///
/// # Errors
/// [`NoClaude::Missing`] when there is no program to run.
pub fn wrapper(mut args: Vec<OsString>, env: &WrapperEnv) -> Result<Exec, NoClaude> {
    let program = env.program.clone().ok_or(NoClaude::Missing)?;
    let Some(mut at) = flags::read(&args).print_run() else {
        return Ok(Exec { program, args, env: Vec::new(), warning: None });
    };
    if let Some(cap) = cap(&flags::read(&args), &env.budget) {
        args.insert(at, cap);
        at += 1;
    }
    let (added, mut warning) = additions(&args, &env.additional, &env.session);
    at += added.len();
    args.splice(at - added.len()..at - added.len(), added);
    let asking = env.bridge.as_ref().map(|bridge| bridge.additions(&flags::read(&args))).unwrap_or_default();
    args.splice(at..at, asking.words);
    warning = warning.or(asking.warning);
    Ok(Exec { program, args, env: asking.env, warning })
}

/// The option that keeps a run within its budget; `None` without a budget, and where the command has that option.
fn cap(reading: &flags::Reading, budget: &OsStr) -> Option<OsString> {
    let budget = budget.to_str().filter(|text| text.parse().is_ok_and(|usd: f64| usd.is_finite() && usd > 0.0))?;
    (!reading.has(CAP)).then(|| format!("{CAP}={budget}").into())
}

/// The words to add to a print-mode run, and what is wrong with the setting, if anything.
pub(super) fn additions(args: &[OsString], additional: &OsStr, session: &str) -> (Vec<OsString>, Option<String>) {
    let reading = flags::read(args);
    let parsed = additional.to_str().ok_or_else(|| "it is not UTF-8".to_owned()).and_then(extra::parse);
    let (extras, problem) = match parsed {
        Ok(extras) => (extras, None),
        Err(why) => (Vec::new(), Some(format!("ADDITIONAL_CLAUDE_ARGS is ignored: {why}"))),
    };
    let mut words: Vec<OsString> =
        extras.iter().filter(|e| e.is_wanted_beside(&reading)).map(|e| OsString::from(&e.word)).collect();
    if !reading.chooses_session() && !flags::read(&words).chooses_session() {
        words.push(format!("--session-id={session}").into());
    }
    (words, problem)
}

/// Runs the wrapper: becomes the real claude. Returns only when that failed.
///
/// Prints `error:` and `hint:` on stderr then, and exits like a shell: 127 when there is no such program,
/// 126 when it cannot be run.
#[must_use]
pub fn run_wrapper() -> ExitCode {
    let trail = Trail::parse(std::env::var(TRAIL).ok().as_deref());
    let found = std::env::var_os("PATH").map(|path| candidates(&path)).unwrap_or_default();
    let chosen = match trail.choose(&found) {
        Ok(candidate) => candidate,
        Err(why) => return complain(why, why.hint(), 127),
    };
    let env = WrapperEnv {
        additional: std::env::var_os("ADDITIONAL_CLAUDE_ARGS").unwrap_or_default(),
        session: uuid::Uuid::new_v4().to_string(),
        program: Some(chosen.path.clone()),
        budget: std::env::var_os(BUDGET).unwrap_or_default(),
        bridge: Bridge::here(),
    };
    let exec = match wrapper(std::env::args_os().skip(1).collect(), &env) {
        Ok(exec) => exec,
        Err(why) => return complain(why, why.hint(), 127),
    };
    if let Some(warning) = &exec.warning {
        eprintln!("warning: {warning}");
    }
    let mut command = Command::new(&exec.program);
    let error =
        command.arg0("claude").args(&exec.args).envs(exec.env).env(TRAIL, trail.with(chosen.id).to_string()).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    let what = format!("{} could not be run: {error}", exec.program.display());
    complain(what, "check that this program works when started by hand", code)
}

fn complain(what: impl std::fmt::Display, hint: &str, code: u8) -> ExitCode {
    eprintln!("error: {what}\nhint: {hint}");
    ExitCode::from(code)
}

/// The second wall against calling oneself: which programs this process already turned into, and how many
/// wrappers ran above it.
///
/// A script named `claude` may look for "the next claude in PATH" and find the wrapper, which finds the
/// script. Where the two `exec` each other the process number stays, so the wrapper takes the next program
/// instead; where they start each other as children, the depth ends it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Trail {
    depth: u32,
    tried: Vec<FileId>,
}

impl Trail {
    fn parse(text: Option<&str>) -> Self {
        text.and_then(|t| Self::read(t, std::process::id())).unwrap_or_default()
    }

    fn read(text: &str, pid: u32) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let depth = parts.next()?.parse().ok()?;
        let same_process = parts.next()?.parse() == Ok(pid);
        let ids = parts.next()?.split(',').filter(|_| same_process);
        let tried = ids
            .filter_map(|id| {
                let (dev, ino) = id.split_once('.')?;
                Some(FileId { dev: dev.parse().ok()?, ino: ino.parse().ok()? })
            })
            .collect();
        Some(Trail { depth, tried })
    }

    /// The first program that this process has not been yet, else the first one.
    fn choose<'a>(&self, found: &'a [Candidate]) -> Result<&'a Candidate, NoClaude> {
        if self.depth >= MAX_DEPTH {
            return Err(NoClaude::Circle);
        }
        found.iter().find(|c| !self.tried.contains(&c.id)).or(found.first()).ok_or(NoClaude::Missing)
    }

    fn with(mut self, id: FileId) -> Self {
        self.depth += 1;
        self.tried.push(id);
        self
    }
}

impl std::fmt::Display for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<String> = self.tried.iter().map(|id| format!("{}.{}", id.dev, id.ino)).collect();
        write!(f, "{}:{}:{}", self.depth, std::process::id(), ids.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, additional: &str) -> (Vec<String>, Option<String>) {
        run_within("", line, additional)
    }

    fn run_within(budget: &str, line: &str, additional: &str) -> (Vec<String>, Option<String>) {
        let args = shell_words::split(line).unwrap().into_iter().map(OsString::from).collect();
        let env = WrapperEnv {
            additional: additional.into(),
            session: "ID".into(),
            program: Some("/c".into()),
            budget: budget.into(),
            bridge: None,
        };
        let exec = wrapper(args, &env).unwrap();
        (exec.args.into_iter().map(|a| a.into_string().unwrap()).collect(), exec.warning)
    }

    #[test]
    fn print_mode_gets_its_additions_before_the_print_flag() {
        for (line, additional, words) in [
            ("-p hi", "", "--session-id=ID -p hi"),
            ("hi -p", "--model opus", "hi --model=opus --session-id=ID -p"),
            ("--allowedTools a b -p hi", "--bare", "--allowedTools a b --bare --session-id=ID -p hi"),
            ("--model x -p hi", "--model opus --debug", "--model x --debug --session-id=ID -p hi"),
            ("-p --resume X hi", "--bare", "--bare -p --resume X hi"),
            ("-p -- --resume", "--bare", "--bare --session-id=ID -p -- --resume"),
            ("-p hi", "--no-session-persistence", "--no-session-persistence -p hi"),
            ("-p --session-id X hi", "--resume Y", "-p --session-id X hi"),
            ("-cp hi", "--bare", "--bare -cp hi"),
        ] {
            let expected = shell_words::split(words).unwrap();
            assert_eq!(run(line, additional), (expected, None), "{line} + {additional}");
        }
    }

    #[test]
    fn a_budget_is_passed_on_unless_the_command_has_one() {
        for (budget, line, additional, words) in [
            ("0.5", "-p hi", "", "--max-budget-usd=0.5 --session-id=ID -p hi"),
            ("0.5", "--allowedTools a b -p hi", "", "--allowedTools a b --max-budget-usd=0.5 --session-id=ID -p hi"),
            ("0.5", "-p --max-budget-usd 9 hi", "", "--session-id=ID -p --max-budget-usd 9 hi"),
            ("0.5", "-p hi --max-budget-usd=0.1", "", "--session-id=ID -p hi --max-budget-usd=0.1"),
            (
                "0.5",
                "-p -- --max-budget-usd=0.1",
                "",
                "--max-budget-usd=0.5 --session-id=ID -p -- --max-budget-usd=0.1",
            ),
            ("0.5", "-p hi", "--max-budget-usd 7", "--max-budget-usd=0.5 --session-id=ID -p hi"),
            ("", "-p hi", "--max-budget-usd 7", "--max-budget-usd=7 --session-id=ID -p hi"),
            ("0", "-p hi", "", "--session-id=ID -p hi"),
            ("inf", "-p hi", "", "--session-id=ID -p hi"),
            ("1 --bare", "-p hi", "", "--session-id=ID -p hi"),
            ("0.5", "mcp list", "", "mcp list"),
            ("0.5", "hi", "", "hi"),
        ] {
            let expected = shell_words::split(words).unwrap();
            assert_eq!(run_within(budget, line, additional), (expected, None), "{budget}: {line} + {additional}");
        }
    }

    #[test]
    fn twice_wrapped_is_once_wrapped() {
        let additional = "--allowedTools Read --model opus --bare";
        let (once, _) = run("-p hi", additional);
        let (twice, _) = run(&shell_words::join(&once), additional);
        assert_eq!(once, twice);
    }

    #[test]
    fn every_other_invocation_is_untouched() {
        for line in
            ["", "hi", "mcp add x -- y -p", "mcp list", "update", "--version", "-p --help", "-- -p", "--bg 'a b'"]
        {
            assert_eq!(run(line, "--bare"), (shell_words::split(line).unwrap(), None), "{line}");
        }
    }

    #[test]
    fn a_malformed_setting_is_told_and_left_out() {
        let (args, warning) = run("-p hi", "--model 'x");
        assert_eq!(args, ["--session-id=ID", "-p", "hi"]);
        assert_eq!(warning.unwrap(), "ADDITIONAL_CLAUDE_ARGS is ignored: a quote is not closed");
    }

    #[test]
    fn without_a_claude_there_is_an_error() {
        assert_eq!(wrapper(vec!["-p".into()], &WrapperEnv::default()), Err(NoClaude::Missing));
    }

    #[test]
    fn knows_its_own_name() {
        for (name, is) in [("claude", true), ("/w/.octo/bin/claude", true), ("octo", false), ("/claude/octo", false)] {
            assert_eq!(called_as_claude(Some(name.as_ref())), is, "{name}");
        }
        assert!(!called_as_claude(None));
    }

    #[test]
    fn the_trail_leads_out_of_circles() {
        let id = |ino| FileId { dev: 1, ino };
        let found: Vec<Candidate> =
            [("/a", 1), ("/b", 2)].map(|(p, ino)| Candidate { path: p.into(), id: id(ino) }).into();
        let first = Trail::default();
        assert_eq!(first.choose(&found), Ok(&found[0]));
        let text = first.with(id(1)).to_string();
        let again = Trail::parse(Some(&text));
        assert_eq!(again.choose(&found), Ok(&found[1]));
        let all = again.with(id(2));
        assert_eq!(all.choose(&found), Ok(&found[0]), "better the first than none");
        let child = Trail::read(&text, std::process::id() + 1).unwrap();
        assert_eq!(child, Trail { depth: 1, tried: vec![] });
        assert_eq!(child.choose(&found), Ok(&found[0]));
        assert_eq!(Trail { depth: MAX_DEPTH, tried: vec![] }.choose(&found), Err(NoClaude::Circle));
        for text in ["", "x", "1", "1:2", "-1:2:3", "1:2:x.y,,"] {
            assert!(Trail::parse(Some(text)).tried.is_empty(), "{text}");
        }
    }
}
