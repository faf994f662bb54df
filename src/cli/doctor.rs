//! `octo doctor`: what Octo's promises stand on here, and what to do about it; never starts a daemon.

use super::{Failure, World};
use crate::command::Refused;
use crate::config::{self, Config};
use crate::doctor::{self, Context, Finding, Level};
use crate::render::{Paint, View, count, sanitize};
use crate::trust::Trust;

pub(super) fn run(world: &World, json: bool) -> Result<(), Failure> {
    let findings = examine(world)?;
    let worst = findings.iter().map(|f| f.level).max().unwrap_or(Level::Ok);
    if json {
        world.print_json(&serde_json::json!({ "worst": worst, "findings": findings }))?;
    } else {
        world.print(text(&findings, &world.view()))?;
    }
    if worst == Level::Error { Err(Failure::Quiet(super::FAILED)) } else { Ok(()) }
}

fn examine(world: &World) -> Result<Vec<Finding>, Refused> {
    let workspace = world.workspace()?;
    // Without a mark nothing is trusted; the doctor says so rather than fail.
    let mark = world.data.as_deref().and_then(|dir| crate::trust::installation(dir).ok());
    let mark = mark.and_then(|id| crate::trust::bound(&id, workspace).ok()).unwrap_or_default();
    let trust = Trust::load(workspace, &mark);
    let config = Config::load(&config::settings_of(world.vars.iter().cloned()), workspace, &trust);
    Ok(doctor::examine(&Context { workspace, config: &config, trust: &trust, exe: &world.exe }))
}

fn text(findings: &[Finding], view: &View) -> String {
    let mut out = String::new();
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => view.paint(Paint::Green, "ok   "),
            Level::Warn => view.paint(Paint::Yellow, "warn "),
            Level::Error => view.paint(Paint::Red, "ERROR"),
        };
        out.push_str(&format!("{mark}  {}\n", sanitize::line(&finding.what)));
        if !finding.hint.is_empty() {
            out.push_str(&format!("       {}\n", sanitize::line(&finding.hint)));
        }
    }
    let at = |level: Level| findings.iter().filter(|f| f.level == level).count();
    let (warns, errors) = (at(Level::Warn), at(Level::Error));
    out.push_str(&match (warns, errors) {
        (0, 0) => "all is well\n".to_owned(),
        _ => format!("{}, {}\n", count(errors, "error"), count(warns, "warning")),
    });
    out
}
