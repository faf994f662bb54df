//! The command's process, from the fork to the exec.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::ForkResult;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, setpgid, waitid};

use super::sys;

/// How often an interrupted release is tried again.
const INTERRUPTS: usize = 32;

/// What the command gets from its shim.
pub(super) struct Plan<'a> {
    pub(super) argv: &'a [CString],
    pub(super) cwd: &'a Path,
    /// Where its output goes. `None`: it has the shim's own standard streams, and dies with the shim.
    pub(super) log: Option<&'a File>,
    /// The mask for new files that the shim was started with; its own is stricter.
    pub(super) umask: Mode,
    pub(super) open_files: Option<u64>,
}

/// The command's process: first waiting, then released. It leads its own group.
pub(super) struct Child {
    pub(super) pid: Pid,
    /// Writing a byte releases it; closing it (also by the shim's death) makes it exit.
    release: Option<OwnedFd>,
    /// Says why the command could not be run; empty and at its end when it was.
    trouble: File,
}

impl Child {
    /// Forks the process that will run the command. It waits. `drop_in_child` holds what must not stay
    /// open there: the lock above all, which would look held after the shim's death.
    pub(super) fn fork(plan: &Plan<'_>, drop_in_child: &[&OwnedFd]) -> io::Result<Child> {
        let (wait, release) = pipe_with(PipeFlags::CLOEXEC)?;
        let (trouble, report) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        match sys::fork()? {
            ForkResult::Child => {
                for fd in drop_in_child {
                    sys::close_copy(fd);
                }
                drop((release, trouble));
                run(plan, &wait, report)
            }
            ForkResult::Parent { child } => {
                let pid = Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::Other)?;
                // Both sides do this, so that it is true when either goes on. It fails only if the child is gone.
                let _ = setpgid(Some(pid), Some(pid));
                Ok(Child { pid, release: Some(release), trouble: trouble.into() })
            }
        }
    }

    /// Lets it run the command.
    ///
    /// # Errors
    /// When the byte cannot be written: then the child ends without having run the command.
    pub(super) fn release(&mut self) -> io::Result<()> {
        let Some(pipe) = self.release.take() else { return Ok(()) };
        for _ in 0..INTERRUPTS {
            match rustix::io::write(&pipe, b"g") {
                Err(Errno::INTR) => {}
                // A waiting child that somebody killed cannot read this; its end is seen like any other.
                Ok(_) | Err(Errno::PIPE) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        Err(Errno::INTR.into())
    }

    /// Ends a child that was not released, and reaps it.
    pub(super) fn discard(mut self) -> Option<WaitIdStatus> {
        self.release = None;
        let _ = kill_process(self.pid, Signal::KILL);
        self.reap()
    }

    /// Tells whether it has ended. It stays a zombie, so that its number and its group's stay its own.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None) | Err(Errno::INTR))
    }

    /// Waits for its end and takes it off the process table.
    pub(super) fn reap(&self) -> Option<WaitIdStatus> {
        loop {
            match waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                other => return other.ok().flatten(),
            }
        }
    }

    /// Why the command could not be run, once the process has ended; `None` if it was run.
    pub(super) fn launch_error(&mut self) -> Option<String> {
        // Nearly always there is nothing, which one read tells.
        let (mut text, mut part) = (Vec::new(), [0; 256]);
        while let Ok(n @ 1..) = self.trouble.read(&mut part) {
            text.extend_from_slice(&part[..n]);
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}

/// The forked side: waits for the release, then becomes the command.
fn run(plan: &Plan<'_>, wait: &OwnedFd, report: OwnedFd) -> ! {
    let ready = prepare(plan);
    let mut byte = [0];
    let released = loop {
        match rustix::io::read(wait, &mut byte) {
            Err(Errno::INTR) => {}
            other => break other == Ok(1),
        }
    };
    if !released {
        sys::exit_now(126);
    }
    let why = match ready.and_then(|()| enter(plan.cwd)) {
        Ok(()) => match sys::plain_signals().map(|()| nix::unistd::execvp(&plan.argv[0], plan.argv)) {
            Ok(Err(e)) => format!("cannot run `{}`: {}", plan.argv[0].to_string_lossy(), io::Error::from(e)),
            Ok(Ok(never)) => match never {},
            Err(e) => format!("cannot set up its signals: {e}"),
        },
        Err(e) => e.to_string(),
    };
    let _ = File::from(report).write_all(why.as_bytes());
    sys::exit_now(127)
}

/// Everything that needs no release: group, files, mask.
fn prepare(plan: &Plan<'_>) -> io::Result<()> {
    setpgid(None, None)?;
    rustix::process::umask(plan.umask);
    if let Some(limit) = plan.open_files {
        sys::limit_open_files(limit)?;
    }
    let Some(log) = plan.log else {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        return Ok(());
    };
    // Its standard input is the shim's: `/dev/null`.
    rustix::stdio::dup2_stdout(log)?;
    rustix::stdio::dup2_stderr(log)?;
    Ok(())
}

fn enter(cwd: &Path) -> io::Result<()> {
    std::env::set_current_dir(cwd)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot enter the folder {}: {e}", cwd.display())))
}
