//! Faults by `strace`.

use std::process::{Child, Command, Stdio};

use crate::harness::{process, wait_for};

/// How soon all is well again after a fault.
pub(crate) const RECOVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Calls by what they do. A name with `?` need not exist on this machine.
pub(crate) const SYNC: &str = "fsync,fdatasync";
pub(crate) const RENAME: &str = "?rename,renameat,renameat2";
pub(crate) const LINK: &str = "?link,linkat";
pub(crate) const FORK: &str = "clone,clone3,?fork,?vfork";
pub(crate) const MKDIR: &str = "?mkdir,mkdirat";
pub(crate) const OPEN: &str = "?open,openat";
pub(crate) const TRUNCATE: &str = "ftruncate";
pub(crate) const ALLOCATE: &str = "fallocate";

/// An injection as `strace -e` takes it.
pub(crate) fn rule(calls: &str, error: &str, when: &str) -> String {
    format!("inject={calls}:error={error}:when={when}")
}

/// A fault that goes on in some threads until it is dropped.
pub(crate) struct Fault {
    strace: Child,
    threads: Vec<u32>,
}

impl Fault {
    /// Lets calls of every thread that a process has now fail. What it starts later is not concerned.
    pub(crate) fn begin(pid: u32, rule: &str) -> Fault {
        let threads: Vec<u32> = std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        Fault::of_threads(threads, &["-e", rule])
    }

    pub(crate) fn of_threads(threads: Vec<u32>, options: &[&str]) -> Fault {
        let mut strace = Command::new("strace");
        strace.args(["-q", "-o", "/dev/null"]).args(options);
        for thread in &threads {
            strace.args(["-p", &thread.to_string()]);
        }
        let strace = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace is needed for this test");
        wait_for("strace to attach", || threads.iter().all(|t| traced(*t)));
        Fault { strace, threads }
    }
}

/// Whether somebody traces a thread (one that is gone counts, too).
fn traced(thread: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    !status.lines().any(|l| l == "TracerPid:\t0")
}

impl Drop for Fault {
    fn drop(&mut self) {
        // It detaches on SIGTERM; killing it would leave a stopped thread stopped.
        process::kill(self.strace.id(), rustix::process::Signal::TERM);
        let _ = self.strace.wait();
        let gone =
            |t: &u32| !std::fs::read_to_string(format!("/proc/{t}/status")).unwrap_or_default().contains("State:\tt");
        assert!(self.threads.iter().all(gone), "strace left a thread stopped");
    }
}
