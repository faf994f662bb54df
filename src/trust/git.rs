//! Asks git whether it tracks a file, without believing the repository more than that.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bounded;

/// A start must not wait for a git that hangs (a network disk, a lock).
const PATIENCE: Duration = Duration::from_secs(2);

/// Variables that would make git look at another repository (a git hook sets some of them).
const MISLEADING: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
];

/// Whether git tracks a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tracked {
    /// It does.
    Yes,
    /// It does not, or there is no repository.
    No,
    /// It cannot be told, for this reason: the file counts as tracked.
    Unknown(String),
}

/// Asks `git` about the file.
pub(super) fn tracks(path: &Path) -> Tracked {
    ask(OsStr::new("git"), path, PATIENCE)
}

fn ask(program: &OsStr, path: &Path, patience: Duration) -> Tracked {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Tracked::No };
    if !dir.ancestors().any(|d| d.join(".git").symlink_metadata().is_ok()) {
        return Tracked::No;
    }
    let mut command = Command::new(program);
    // A monitor named in the repository's configuration would be started by a mere question.
    command.args(["-c", "core.fsmonitor=false", "--literal-pathspecs"]).arg("-C").arg(dir);
    command.args(["ls-files", "--error-unmatch", "--"]).arg(name);
    for variable in MISLEADING {
        command.env_remove(variable);
    }
    match bounded::run(command, patience) {
        Ok(done) if done.code == Some(0) => Tracked::Yes,
        Ok(done) if done.code == Some(1) => Tracked::No,
        Ok(_) => Tracked::Unknown("`git ls-files` failed".to_owned()),
        Err(e) => Tracked::Unknown(format!("`git ls-files`: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;
    use crate::bounded::tests::program;

    fn git(dir: &Path, words: &[&str]) {
        let done = Command::new("git").arg("-C").arg(dir).args(words).output().unwrap();
        assert!(done.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn only_what_is_in_the_index_is_tracked() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        fs::create_dir(&sub).unwrap();
        assert_eq!(tracks(&sub.join("octo.toml")), Tracked::No, "no repository");
        git(dir.path(), &["init", "-q"]);
        for name in ["octo.toml", ".env", ":(glob)*"] {
            fs::write(sub.join(name), "x").unwrap();
        }
        assert_eq!(tracks(&sub.join("octo.toml")), Tracked::No, "not added");
        git(dir.path(), &["add", "sub/octo.toml"]);
        assert_eq!(tracks(&sub.join("octo.toml")), Tracked::Yes);
        assert_eq!(tracks(&sub.join(".env")), Tracked::No);
        assert_eq!(tracks(&sub.join(":(glob)*")), Tracked::No, "a name is no pattern");
    }

    #[test]
    fn a_git_that_fails_hangs_or_is_missing_counts_as_tracked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        let file = dir.path().join("octo.toml");
        let unknown = |t: Tracked| matches!(t, Tracked::Unknown(_));
        assert!(unknown(ask(OsStr::new("git"), &file, PATIENCE)), "an empty .git is no repository");
        let missing = dir.path().join("no-such-git");
        assert!(unknown(ask(missing.as_os_str(), &file, PATIENCE)));
        let hanging = program(dir.path(), "hanging", "sleep 600 & wait");
        let began = Instant::now();
        assert!(unknown(ask(hanging.as_os_str(), &file, Duration::from_millis(200))));
        assert!(began.elapsed() < Duration::from_secs(60), "it was not waited for");
    }
}
