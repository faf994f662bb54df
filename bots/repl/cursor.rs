//! Up to where the REPL has told notices: `.octo/bots/repl.json`, for the whole workspace.
//!
//! It is moved on after the telling, so that a notice may be told twice but never missed. Losing the
//! file costs no more than hearing old news again.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The file that keeps the cursor.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    file: PathBuf,
}

impl Cursor {
    pub(crate) fn of(octo: &Path) -> Self {
        Cursor { file: octo.join("bots/repl.json") }
    }

    /// The last notice that was told; 0 when none was.
    pub(crate) fn read(&self) -> u64 {
        let value: Option<Value> = fs::read(&self.file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        value.and_then(|v| v.get("cursor")?.as_u64()).unwrap_or(0)
    }

    /// Moves it on; another REPL may be ahead already.
    pub(crate) fn advance(&self, to: u64) {
        if to > self.read() {
            self.set(to);
        }
    }

    /// Sets it, also back: the store behind it was made anew.
    pub(crate) fn set(&self, to: u64) {
        // An error here means old news next time, and nothing to tell a person about.
        let _ = self.write(to);
    }

    fn write(&self, to: u64) -> std::io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        if !folder.exists() {
            fs::DirBuilder::new().mode(0o700).create(folder)?;
        }
        let temp = self.file.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(json!({ "cursor": to }).to_string().as_bytes())?;
        fs::rename(&temp, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_moves_forward_unless_it_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor::of(dir.path());
        assert_eq!(cursor.read(), 0);
        cursor.advance(7);
        cursor.advance(5);
        assert_eq!(cursor.read(), 7);
        cursor.set(2);
        assert_eq!(cursor.read(), 2);
        fs::write(dir.path().join("bots/repl.json"), "{").unwrap();
        assert_eq!(cursor.read(), 0);
        assert_eq!(fs::read_dir(dir.path().join("bots")).unwrap().count(), 1, "no temporary file is left");
    }
}
