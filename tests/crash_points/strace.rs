//! strace: what a thread calls, and a SIGKILL before one of its calls.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::processes;

/// What is worth a kill: everything that changes or reads a file, makes a process, or tells somebody.
pub(crate) const CALLS: &str = "openat,read,write,pwrite64,writev,fsync,fdatasync,ftruncate,fallocate,rename,renameat,\
     renameat2,link,linkat,mkdir,mkdirat,unlink,unlinkat,rmdir,clone,clone3,vfork,fcntl,close,sendto,accept4,\
     bind,listen,pidfd_open,pidfd_send_signal,wait4,waitid,setpgid,kill,execve";

/// A system call of one thread: the n-th of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) nth: u32,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.call, self.nth)
    }
}

pub(crate) fn command() -> Command {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    assert!(found.is_ok_and(|s| s.success()), "these tests need strace: `apt-get install strace`");
    let mut command = Command::new("strace");
    command.stdin(Stdio::null());
    command
}

/// The words that kill before a point.
pub(crate) fn inject(point: &Point) -> [String; 4] {
    let Point { call, nth } = point;
    ["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={call}:signal=KILL:when={nth}")]
}

/// strace, attached to one thread; it lets go when dropped.
pub(crate) struct Tracer {
    child: Child,
    pub(crate) file: PathBuf,
}

impl Tracer {
    /// Attaches to one thread, with `words` saying what to do, and returns when it has.
    pub(crate) fn attach(thread: i32, file: &Path, words: &[String]) -> Tracer {
        let mut command = command();
        command.arg("-p").arg(thread.to_string()).arg("-o").arg(file).args(words).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "strace cannot attach: {line}");
        Tracer { child, file: file.to_owned() }
    }

    /// Lets go and reads what was traced.
    pub(crate) fn trace(self) -> String {
        let file = self.file.clone();
        drop(self);
        fs::read_to_string(file).unwrap_or_default()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        processes::signal(self.child.id() as i32, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The points of a trace of one thread, in order, from the first line that `begins` knows.
pub(crate) fn points(trace: &str, begins: impl Fn(&str) -> bool) -> Vec<Point> {
    let (mut counts, mut points, mut begun) = (HashMap::<&str, u32>::new(), Vec::new(), false);
    for line in trace.lines() {
        let Some((call, _)) = line.split_once('(') else { continue };
        if !call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let count = counts.entry(call).or_default();
        *count += 1;
        begun = begun || begins(line);
        if begun {
            points.push(Point { call: call.to_owned(), nth: *count });
        }
    }
    points
}

#[test]
fn points_count_each_call_of_its_own() {
    let trace = "openat(1) = 3\nread(3) = 0\nopenat(\".octo\") = 3\n--- SIGCHLD {x(y)} ---\nread(3) = 0\n<... read resumed>) = 1\n";
    let point = |call: &str, nth| Point { call: call.into(), nth };
    assert_eq!(points(trace, |l| l.contains(".octo")), [point("openat", 2), point("read", 2)]);
}
