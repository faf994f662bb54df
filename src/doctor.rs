//! `octo doctor`: looks at everything that the promises stand on, and says what to do.
//!
//! It asks nobody but the system: it works with no daemon, with a daemon that hangs, and with a `.octo/`
//! that the daemon refuses. Each check is a function of what it was handed, so that tests can hand it a
//! broken world; none of them changes anything but a scratch file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::trust::Trust;
use crate::workspace::Workspace;

mod leftovers;
mod place;
mod running;
mod settings;
mod system;
#[cfg(test)]
mod tests;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but a promise is weaker than it could be.
    Warn,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do; empty when nothing is to be done.
    pub hint: String,
}

/// What the doctor looks at.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The workspace; its `.octo/` may be missing or unfit.
    pub workspace: &'a Workspace,
    /// The settings in force.
    pub config: &'a Config,
    /// What the workspace may use.
    pub trust: &'a Trust,
    /// The running `octo` program: its siblings are looked for beside it.
    pub exe: &'a Path,
}

/// Looks at everything; never fails, and takes a few seconds at most. The findings come in a fixed order,
/// what everything else stands on first.
#[must_use]
pub fn examine(ctx: &Context<'_>) -> Vec<Finding> {
    let ws = ctx.workspace;
    let mut findings = Vec::new();
    match place::workspace(ws) {
        Ok(finding) => {
            findings.push(finding);
            findings.extend(place::disk(ws));
            findings.extend(place::locks(ws));
            findings.push(running::daemon(ws));
            findings.extend(leftovers::all(ws));
        }
        // Nothing in a `.octo/` that is refused is looked at.
        Err(refused) => findings.push(refused),
    }
    findings.extend(system::all());
    findings.extend(running::service(ws));
    findings.extend(settings::programs(ctx.exe));
    findings.extend(settings::all(ctx));
    findings
}

impl Finding {
    fn ok(what: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, what: what.into(), hint: String::new() }
    }

    fn warn(what: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { level: Level::Warn, what: what.into(), hint: hint.into() }
    }

    fn error(what: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { level: Level::Error, what: what.into(), hint: hint.into() }
    }
}
