//! The shim's command line: `octo-shim RUNDIR --cwd DIR --quota BYTES [--leave-children]
//! [--open-files N] -- ARGV...`.
//!
//! Only `octo::run` writes it, so it is read without help texts and without a parser's weight.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What one shim is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) dir: PathBuf,
    pub(super) cwd: PathBuf,
    pub(super) quota: u64,
    pub(super) leave_children: bool,
    /// The command's soft limit of open files, when it is not to be the daemon's own.
    pub(super) open_files: Option<u64>,
    pub(super) argv: Vec<CString>,
}

impl Args {
    /// Reads the words after the program's name.
    pub(super) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Args, &'static str> {
        let dir = words.next().ok_or("the run folder is missing")?.into();
        let (mut cwd, mut quota, mut leave_children, mut open_files) = (None, None, false, None);
        loop {
            let word = words.next().ok_or("`--` and the command are missing")?;
            match word.to_str() {
                Some("--") => break,
                Some("--cwd") => cwd = words.next().map(PathBuf::from),
                Some("--quota") => quota = words.next().and_then(|w| w.to_str()?.parse().ok()),
                Some("--leave-children") => leave_children = true,
                Some("--open-files") => {
                    let limit = words.next().and_then(|w| w.to_str()?.parse().ok());
                    open_files = Some(limit.ok_or("--open-files has no number")?);
                }
                _ => return Err("there is an option that this version does not know"),
            }
        }
        let argv: Result<Vec<_>, _> = words.map(|w| CString::new(w.into_vec())).collect();
        let argv = argv.map_err(|_| "the command holds a NUL byte")?;
        if argv.is_empty() {
            return Err("the command is missing");
        }
        let cwd = cwd.ok_or("--cwd is missing")?;
        let quota = quota.ok_or("--quota is missing, or no number")?;
        Ok(Args { dir, cwd, quota, leave_children, open_files, argv })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, &'static str> {
        Args::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn what_the_launcher_writes_is_read_back() {
        let args = parse("/r --cwd /w --quota 7 --leave-children --open-files 9 -- sh -c --cwd").unwrap();
        let argv = ["sh", "-c", "--cwd"].map(|w| CString::new(w).unwrap()).to_vec();
        assert_eq!(
            args,
            Args { dir: "/r".into(), cwd: "/w".into(), quota: 7, leave_children: true, open_files: Some(9), argv }
        );
    }

    #[test]
    fn a_command_line_that_lacks_something_is_refused() {
        for line in [
            "/r",
            "/r --cwd /w --quota 7",
            "/r --cwd /w --quota 7 --",
            "/r --cwd /w -- true",
            "/r --quota 7 -- true",
            "/r --cwd /w --quota x -- true",
            "/r --cwd /w --quota 7 --open-files -- true",
            "/r --cwd /w --quota 7 --new -- true",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
