//! The daemon: whether it runs, whether it answers, and what would end it together with its tasks.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Finding;
use crate::bounded;
use crate::workspace::{Holder, Workspace, connect, holder};

/// How long a helper or the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn daemon(ws: &Workspace) -> Finding {
    let Some(holder) = holder(ws) else { return Finding::ok("no daemon runs; the next command starts one") };
    match answers(ws) {
        Ok(()) if holder.pid.is_some() && holder.version != VERSION => Finding::warn(
            format!("{holder} runs, and this is octo {VERSION}"),
            "`octo stop` ends the daemon and lets tasks go on; the next command starts the new one",
        ),
        Ok(()) => Finding::ok(format!("{holder} runs and answers")),
        Err(e) => Finding::error(format!("{holder} holds the workspace but does not answer: {e}"), revive(&holder)),
    }
}

fn revive(holder: &Holder) -> String {
    let how = match holder.pid {
        Some(pid) => format!("kill -9 {pid}"),
        None => "end the octod process of this workspace".to_owned(),
    };
    format!("wait a little if it is starting or stopping; else: {how} (its tasks go on, the next command starts anew)")
}

fn answers(ws: &Workspace) -> io::Result<()> {
    let mut stream = connect(ws)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: octo\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    if start.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    Err(io::Error::other(format!("it said {:?}", String::from_utf8_lossy(&start))))
}

/// What systemd would do to the daemon and its tasks. Nothing is said on a machine without systemd.
pub(super) fn service(ws: &Workspace) -> Vec<Finding> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Vec::new();
    }
    let pid = holder(ws).and_then(|h| h.pid).map_or("self".to_owned(), |p| p.to_string());
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let unit = unit_of(&cgroup);
    let mut findings = Vec::new();
    if let Some(unit) = &unit {
        let scope: &[&str] = if unit.of_user { &["--user"] } else { &[] };
        let words = ["show", "--property=KillMode", "--value", "--", &unit.name];
        findings.extend(ask("systemctl", &[scope, &words].concat()).map(|mode| kill_mode(unit, &mode)));
    }
    if unit.is_none_or(|u| u.of_user) {
        let uid = rustix::process::getuid().as_raw().to_string();
        findings.extend(ask("loginctl", &["show-user", &uid, "--property=Linger", "--value"]).map(|l| linger(&l)));
    }
    findings
}

fn ask(program: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(words);
    let done = bounded::run(command, PATIENCE).ok()?;
    let answer = done.stdout.trim();
    (done.code == Some(0) && !answer.is_empty()).then(|| answer.to_owned())
}

/// A systemd service that a process belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) name: String,
    /// Whether the user's own systemd runs it, not the system's.
    pub(super) of_user: bool,
}

/// Reads `/proc/PID/cgroup`. A session or a scope is no service: systemd does not stop it as one.
pub(super) fn unit_of(cgroup: &str) -> Option<Unit> {
    let line = cgroup.lines().find_map(|l| {
        l.strip_prefix("0::").or_else(|| l.split_once(':').and_then(|(_, r)| r.strip_prefix("name=systemd:")))
    })?;
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let is_manager = |part: &str| part.starts_with("user@") && part.ends_with(".service");
    let name = line.split('/').rev().find(is_unit)?;
    let fits = name.ends_with(".service") && !is_manager(name);
    fits.then(|| Unit { name: name.to_owned(), of_user: line.split('/').any(is_manager) })
}

pub(super) fn kill_mode(unit: &Unit, mode: &str) -> Finding {
    match mode {
        "process" | "none" => Finding::ok(format!("{} stops the daemon alone (KillMode={mode})", unit.name)),
        _ => Finding::warn(
            format!("stopping {} kills every task with the daemon (KillMode={mode})", unit.name),
            "run the daemon from a unit with KillMode=process: contrib/octod.service is one",
        ),
    }
}

pub(super) fn linger(answer: &str) -> Finding {
    if answer == "yes" {
        Finding::ok("your processes stay when you log out (lingering)")
    } else {
        Finding::warn(
            "when you log out, systemd may end your processes, the daemon and its tasks included",
            "run once: loginctl enable-linger",
        )
    }
}
