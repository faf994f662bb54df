//! Running a program to its end.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Out {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    pub(crate) fn line(&self) -> String {
        self.text().trim_end_matches('\n').to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|e| panic!("not one JSON document ({e}): {self:?}"))
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Out {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.text(), self.err);
        self
    }

    /// Checks that it was refused as people are told: exit code, `error:` and `hint:`, nothing on stdout.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, says: &str) -> Out {
        let out = self.exits(code);
        assert!(out.err.starts_with("error: ") && out.err.contains(says), "{says:?} is not in: {}", out.err);
        assert!(out.out.is_empty(), "{out:?}");
        out
    }
}

/// Runs a program to its end, with input.
#[track_caller]
pub(crate) fn run(mut command: Command, input: &[u8]) -> Out {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).unwrap();
    }
    let out = child.wait_with_output().unwrap();
    let code = out.status.code().unwrap_or_else(|| -out.status.signal().unwrap_or(1));
    Out { code, out: out.stdout, err: String::from_utf8_lossy(&out.stderr).into_owned() }
}
