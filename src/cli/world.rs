//! What a command can see and touch: `main` gathers it, so that nothing else reads the environment.

use std::cell::{OnceCell, RefCell};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use crate::client::{Client, Deputy, Door};
use crate::command::{Env, EnvValue, Refused, RefusedCode, TaskRef};
use crate::render::View;
use crate::workspace::Workspace;

/// The surface of the command line.
pub const CLI: &str = "cli";

/// What is known of the terminal behind standard output.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Standard output is one.
    pub is_one: bool,
    /// Its columns at this moment; `None` when nothing is to be cut.
    pub width: fn() -> Option<usize>,
    /// Colours are wanted on it.
    pub colour: bool,
}

impl Default for Terminal {
    /// No terminal.
    fn default() -> Self {
        Terminal { is_one: false, width: || None, colour: false }
    }
}

impl Terminal {
    /// How things are shown here and now.
    #[must_use]
    pub fn view(&self) -> View {
        let now = jiff::Timestamp::now().as_millisecond();
        View { width: (self.width)(), colour: self.colour, now }
    }
}

/// The process's surroundings.
pub struct World {
    /// `--workspace`.
    pub workspace: Option<PathBuf>,
    /// The current folder, if there is one.
    pub cwd: io::Result<PathBuf>,
    /// The home folder.
    pub home: Option<PathBuf>,
    /// The environment.
    pub vars: Vec<(OsString, OsString)>,
    /// The daemon's program.
    pub octod: PathBuf,
    /// `cli`, `repl`, ...
    pub surface: &'static str,
    /// Standard output's terminal.
    pub terminal: Terminal,
    /// Standard output.
    pub out: RefCell<Box<dyn Write>>,
    /// The folder where this user's data for Octo is kept; `None` without a home.
    pub data: Option<PathBuf>,
    /// This program.
    pub exe: PathBuf,
    /// Standard error.
    pub err: RefCell<Box<dyn Write>>,
    /// The workspace, once it was looked for.
    pub found: OnceCell<Workspace>,
}

impl World {
    /// The value of a variable; empty counts as unset.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.vars.iter().find(|(k, v)| k == name && !v.is_empty()).map(|(_, v)| v.as_os_str())
    }

    /// The current folder.
    ///
    /// # Errors
    /// When it was deleted, or may not be seen.
    pub fn cwd(&self) -> Result<&Path, Refused> {
        self.cwd.as_deref().map_err(|e| {
            Refused::new(RefusedCode::BadRequest, format!("the current folder cannot be used: {e}"))
                .hint("change to a folder that exists")
        })
    }

    /// The workspace that is meant.
    ///
    /// # Errors
    /// When the named folder cannot be used.
    pub fn workspace(&self) -> Result<&Workspace, Refused> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let env = self.var("OCTO_WORKSPACE");
        let found = Workspace::find(self.workspace.as_deref(), env, self.cwd()?, self.home.as_deref())?;
        Ok(self.found.get_or_init(|| found))
    }

    /// The client of the workspace's daemon. That of the command line blocks.
    ///
    /// # Errors
    /// When the workspace cannot be used.
    pub fn client(&self) -> Result<Client, Refused> {
        let workspace = self.workspace()?.clone();
        let inside_task = self.inside_task_of(&workspace);
        let client = Client::new(Door { workspace, octod: self.octod.clone(), inside_task }, self.surface);
        Ok(if self.surface == CLI { client.blocking() } else { client })
    }

    /// The task that this process is part of, by its environment, and a client that speaks to its owner: it never
    /// starts a daemon.
    ///
    /// # Errors
    /// When the environment names no task.
    pub fn own_task(&self) -> Result<(Client, TaskRef), Refused> {
        let outside = |name: &str| {
            Refused::new(RefusedCode::BadRequest, format!("this is not inside a task: {name} is not set"))
                .hint("Octo sets it for what it runs: octo bg 'octo ask \"Go on?\"'")
        };
        let task = self.var("OCTO_TASK_ID").and_then(OsStr::to_str).ok_or_else(|| outside("OCTO_TASK_ID"))?;
        if self.workspace.is_none() && self.var("OCTO_WORKSPACE").is_none() {
            return Err(outside("OCTO_WORKSPACE"));
        }
        let door = Door { workspace: self.workspace()?.clone(), octod: self.octod.clone(), inside_task: true };
        Ok((Client::new(door, self.surface).blocking(), TaskRef(task.to_owned())))
    }

    /// The environment says that this process is part of a task of the workspace. (A task of another
    /// workspace, such as one that runs Octo's own tests, may start this one's daemon.)
    fn inside_task_of(&self, workspace: &Workspace) -> bool {
        let same = |other: &OsStr| {
            let other = Path::new(other);
            other == workspace.root || other.canonicalize().ok() == workspace.root.canonicalize().ok()
        };
        self.var("OCTO_TASK_ID").is_some() && self.var("OCTO_WORKSPACE").is_none_or(same)
    }

    /// Who waits in this process's place; a REPL does it itself.
    pub(super) fn deputy(&self) -> Option<Deputy> {
        if self.surface == CLI { Deputy::of(self.exe.clone()) } else { None }
    }

    /// The caller's environment as requests carry it. A variable whose name is no UTF-8 is left out.
    #[must_use]
    pub fn env(&self) -> Env {
        let value = |v: &OsString| match v.to_str() {
            Some(text) => EnvValue::Text(text.to_owned()),
            None => EnvValue::Bytes(v.as_encoded_bytes().to_vec()),
        };
        self.vars.iter().filter_map(|(k, v)| Some((k.to_str()?.to_owned(), value(v)))).collect()
    }

    /// How things are shown here and now.
    #[must_use]
    pub fn view(&self) -> View {
        self.terminal.view()
    }

    /// Writes to standard output, at once.
    ///
    /// # Errors
    /// [`Failure::Quiet`] when the reader went away; a refusal when the output cannot be written.
    pub fn print(&self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        let mut out = self.out.borrow_mut();
        out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Quiet(0),
            _ => Refused::new(RefusedCode::Internal, format!("standard output cannot be written: {e}")).into(),
        })
    }

    /// Prints one JSON document.
    ///
    /// # Errors
    /// As [`World::print`].
    pub fn print_json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Refused::new(RefusedCode::Internal, format!("the answer cannot be written as JSON: {e}")))?;
        self.print(format!("{text}\n"))
    }

    /// Writes to standard error; nobody can be told when that fails.
    pub fn warn(&self, text: &str) {
        let mut err = self.err.borrow_mut();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}
