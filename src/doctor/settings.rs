//! The programs, the settings, and what waits for trust.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Context, Finding};
use crate::bounded;
use crate::trust::{Pending, pending};

const PATIENCE: Duration = Duration::from_secs(2);

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Looks for the daemon and the shim beside `octo`, and whether they are of one version.
pub(super) fn programs(exe: &Path) -> Vec<Finding> {
    ["octod", "octo-shim"].map(|name| program(&exe.with_file_name(name), name)).to_vec()
}

fn program(path: &Path, name: &str) -> Finding {
    let hint = "install all three programs together: cargo install --path . --locked";
    if !path.is_file() {
        return Finding::error(format!("{} is missing", path.display()), hint);
    }
    let mut command = Command::new(path);
    command.arg("--version");
    match bounded::run(command, PATIENCE) {
        Ok(done) if done.code == Some(0) && done.stdout.split_whitespace().any(|w| w == VERSION) => {
            Finding::ok(format!("{name} {VERSION} is beside octo"))
        }
        Ok(done) => {
            let said = done.stdout.lines().next().unwrap_or("nothing");
            Finding::warn(format!("{name} is not of version {VERSION}: it says `{said}`"), hint)
        }
        Err(e) => Finding::error(format!("{} does not run: {e}", path.display()), hint),
    }
}

/// Settings that were not taken, and what `octo trust` would accept.
pub(super) fn all(ctx: &Context<'_>) -> Vec<Finding> {
    let waiting = pending(ctx.workspace, ctx.trust, ctx.config.team.as_deref());
    let (records, files): (Vec<Pending>, Vec<Pending>) = waiting.into_iter().partition(|p| p.record);
    let told_below = |w: &&String| !files.iter().any(|f| w.starts_with(&format!("{} is not used: ", f.name)));
    let correct = "correct it; `octo status` shows what is in force";
    let mut findings: Vec<Finding> =
        ctx.config.warnings.iter().filter(told_below).map(|w| Finding::warn(w, correct)).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("the settings make sense"));
    }
    let look = "look at it; `octo trust` accepts it as it is now";
    findings.extend(files.iter().map(|f| Finding::warn(format!("{} is not used: {}", f.name, f.why), look)));
    findings.extend(foreign_records(&records));
    if ctx.trust.foreign.is_some() {
        let what = "another installation made this workspace: its tasks are shown, not used";
        findings.push(Finding::warn(what, "look at them; `octo trust` makes the workspace yours"));
    }
    if !ctx.trust.problem.is_empty() {
        let what = format!("{}; nothing counts as trusted", ctx.trust.problem);
        findings.push(Finding::warn(what, "`octo trust` writes it anew"));
    }
    findings
}

/// One finding, however many there are.
fn foreign_records(records: &[Pending]) -> Option<Finding> {
    let first: Vec<&str> = records.iter().take(3).map(|r| r.name.as_str()).collect();
    let more = records.len().saturating_sub(first.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!records.is_empty()).then(|| {
        Finding::warn(
            format!("tasks that this installation did not write: {}{more}", first.join(", ")),
            "they are shown, not used; look at them, then run `octo trust`",
        )
    })
}
