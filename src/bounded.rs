//! Runs a helper program (git, systemctl) for a bounded time, and ends it when it does not.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// The most that is read of what a helper printed.
const OUTPUT_MAX: u64 = 64 << 10;

/// How a helper ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit code; `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    /// The beginning of what it printed to stdout.
    pub(crate) stdout: String,
}

/// Runs the command in a process group of its own, with no input and its stderr thrown away.
///
/// # Errors
/// When it cannot be started, or does not end within `patience`: its group is killed then.
pub(crate) fn run(mut command: Command, patience: Duration) -> io::Result<Done> {
    // A file, not a pipe: a helper's own child that lives on could hold a pipe open for ever.
    let mut output = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(output.try_clone()?).process_group(0);
    let mut child = command.spawn()?;
    let ended = ends_within(&child, patience);
    if !matches!(ended, Ok(true)) {
        end(&mut child);
        ended?;
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it took longer than {patience:?}")));
    }
    let status = child.wait()?;
    Ok(Done { code: status.code(), stdout: beginning(&mut output)? })
}

fn ends_within(child: &Child, patience: Duration) -> io::Result<bool> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(n) => return Ok(n > 0),
        }
    }
}

/// The child was not reaped yet, so its number, and with it the group's, is still its own.
fn end(child: &mut Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

fn beginning(output: &mut File) -> io::Result<String> {
    output.rewind()?;
    let mut bytes = Vec::new();
    output.take(OUTPUT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Writes a shell script that can be executed. Another process writes it: a descriptor open for
    /// writing here could be copied into a child of another test, and the script be "busy" for it.
    pub(crate) fn program(dir: &Path, name: &str, script: &str) -> PathBuf {
        let path = dir.join(name);
        let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let done = Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(script).status().unwrap();
        assert!(done.success());
        path
    }

    #[test]
    fn output_and_code_come_back_and_a_slow_helper_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let long = Duration::from_secs(60);
        let done = run(Command::new(program(dir.path(), "quick", "echo hello; exit 3")), long).unwrap();
        assert_eq!((done.code, done.stdout.as_str()), (Some(3), "hello\n"));

        let note = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > '{}'; wait", note.display());
        let slow = program(dir.path(), "slow", &script);
        let error = run(Command::new(slow), Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let sleeper = std::fs::read_to_string(note).unwrap_or_default();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", sleeper.trim())).unwrap_or_default();
            stat.contains("(sleep)") && !stat.contains(") Z ")
        };
        let give_up = std::time::Instant::now() + long;
        while lives() {
            assert!(std::time::Instant::now() < give_up, "the helper's child lives on");
            std::thread::yield_now();
        }
    }
}
