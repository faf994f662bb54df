//! A server that is a program: started under a tether, spoken to over its standard streams.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::expand::Secrets;
use crate::render::sanitize;
use crate::shim::TETHER;

/// The longest message of a server, in bytes.
const MESSAGE_MAX: usize = 16 << 20;
/// The longest line of standard error that is looked at.
const STDERR_LINE_MAX: u64 = 4096;
/// How many of the last lines of standard error are kept for a message about the server's end.
const STDERR_LINES: usize = 4;
/// How long the last words of a program that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How to start it.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) words: Vec<String>,
    /// All of it: nothing else is inherited.
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) cwd: PathBuf,
    pub(super) shim: PathBuf,
    pub(super) mark: PathBuf,
    pub(super) open_files: Option<u64>,
}

/// A program that runs. Dropping it ends it and everything that it started.
#[derive(Debug)]
pub(super) struct Child {
    tether: tokio::process::Child,
    words: LastWords,
    hearing: Option<JoinHandle<()>>,
    said_too_much: Arc<AtomicBool>,
}

type LastWords = Arc<Mutex<VecDeque<String>>>;

impl Program {
    /// Starts it. What cannot be started is seen as a program that ends at once.
    pub(super) fn start(
        &self,
        label: &str,
        secrets: &Secrets,
    ) -> io::Result<(Child, Bounded<ChildStdout>, ChildStdin)> {
        let mut command = Command::new(&self.shim);
        command.arg(&self.mark).arg(TETHER).arg(std::process::id().to_string());
        if let Some(limit) = self.open_files {
            command.arg("--open-files").arg(limit.to_string());
        }
        command.arg("--").args(&self.words);
        command.env_clear().envs(&self.env).current_dir(&self.cwd);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tether = command.spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (tether.stdin.take(), tether.stdout.take(), tether.stderr.take())
        else {
            return Err(io::Error::other("it has no standard streams"));
        };
        let words = LastWords::default();
        let hearing = Some(tokio::spawn(hear(stderr, label.to_owned(), secrets.clone(), words.clone())));
        let said_too_much = Arc::new(AtomicBool::new(false));
        let stdout = Bounded { inner: stdout, line: 0, said_too_much: said_too_much.clone() };
        Ok((Child { tether, words, hearing, said_too_much }, stdout, stdin))
    }
}

impl Child {
    /// How a program that has closed its standard output went: what it said last, or its exit code.
    pub(super) async fn how_it_went(&mut self) -> String {
        if self.said_too_much() {
            return format!("it sent a message of more than {MESSAGE_MAX} bytes");
        }
        let ended = tokio::time::timeout(LAST_WORDS, async {
            let status = self.tether.wait().await;
            if let Some(hearing) = self.hearing.take() {
                let _ = hearing.await;
            }
            status
        });
        let ended = ended.await;
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = words.iter().map(String::as_str).collect::<Vec<_>>().join(" | ");
        let how = match ended {
            Ok(Ok(status)) => status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}")),
            Ok(Err(_)) | Err(_) => "it closed its standard output".to_owned(),
        };
        if words.is_empty() { how } else { format!("{how}: {words}") }
    }

    pub(super) fn said_too_much(&self) -> bool {
        self.said_too_much.load(Ordering::Relaxed)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The tether does the rest. Its number is its own as long as nobody has reaped it.
        if let Some(pid) = self.tether.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Takes what a program says on standard error to the log, and keeps the last of it.
async fn hear(stderr: ChildStderr, label: String, secrets: Secrets, words: LastWords) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(STDERR_LINE_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let said = secrets.hide(&sanitize::line(&String::from_utf8_lossy(&line)));
        if said.is_empty() {
            continue;
        }
        tracing::debug!(server = label, "{said}");
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == STDERR_LINES {
            words.pop_front();
        }
        words.push_back(said);
    }
}

/// What a program says, up to a line that is too long: there it is at its end.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    inner: R,
    /// Bytes since the last end of a line.
    line: usize,
    said_too_much: Arc<AtomicBool>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.line > MESSAGE_MAX {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        self.line = match new.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => new.len() - at - 1,
            None => self.line + new.len(),
        };
        if self.line > MESSAGE_MAX {
            self.said_too_much.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}
