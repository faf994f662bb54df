//! Where the real `claude` is: the first one in PATH that is no wrapper of Octo's.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// A file's identity, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) dev: u64,
    pub(super) ino: u64,
}

/// A program called `claude` that may be the real one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Where PATH found it.
    pub(super) path: PathBuf,
    /// Which file it is.
    pub(super) id: FileId,
}

/// Lists the programs called `claude` in `path`, in order, without Octo's own.
///
/// Octo's own are this very program by file or by resolved name, everything in a `.octo/bin` of any
/// workspace (a task of one workspace may run the Octo of another), and links to a program named `octo`
/// (another version of Octo).
pub(super) fn candidates(path: &OsStr) -> Vec<Candidate> {
    let own = fs::metadata("/proc/self/exe").ok().map(|m| file_id(&m));
    let own_path = fs::canonicalize("/proc/self/exe").ok();
    std::env::split_paths(path)
        .filter_map(|folder| {
            // An empty element means the current folder, as for the shell.
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            let candidate = folder.join("claude");
            let meta = fs::metadata(&candidate).ok()?;
            let id = file_id(&meta);
            let real = fs::canonicalize(&candidate).ok()?;
            let runs = meta.is_file() && access(&candidate, Access::EXEC_OK).is_ok();
            let ours = own == Some(id) || own_path.as_ref() == Some(&real) || is_wrapper(&folder, &real);
            (runs && !ours).then_some(Candidate { path: candidate, id })
        })
        .collect()
}

fn is_wrapper(folder: &Path, real: &Path) -> bool {
    let resolved = fs::canonicalize(folder);
    is_wrapper_folder(folder)
        || resolved.is_ok_and(|f| is_wrapper_folder(&f))
        || real.file_name() == Some(OsStr::new("octo"))
}

/// Tells whether a folder is some workspace's `.octo/bin`.
fn is_wrapper_folder(folder: &Path) -> bool {
    folder.ends_with(".octo/bin")
}

fn file_id(meta: &fs::Metadata) -> FileId {
    FileId { dev: meta.dev(), ino: meta.ino() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn program(folder: &Path, mode: u32) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("claude");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn found(folders: &[&Path]) -> Vec<PathBuf> {
        candidates(&std::env::join_paths(folders).unwrap()).into_iter().map(|c| c.path).collect()
    }

    #[test]
    fn passes_over_whatever_is_no_real_claude() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        program(&at("ws/.octo/bin"), 0o755);
        symlink(at("ws/.octo/bin"), at("link-to-wrapper")).unwrap();
        program(&at("not-executable"), 0o644);
        fs::create_dir_all(at("folder/claude")).unwrap();
        for (name, target) in [("dangling", "/nonexistent"), ("loop", "claude")] {
            fs::create_dir_all(at(name)).unwrap();
            symlink(target, at(name).join("claude")).unwrap();
        }
        for (name, target) in [("self", std::env::current_exe().unwrap()), ("other", at("elsewhere/octo"))] {
            fs::create_dir_all(at(name)).unwrap();
            symlink(target, at(name).join("claude")).unwrap();
        }
        fs::create_dir_all(at("elsewhere")).unwrap();
        fs::rename(program(&at("elsewhere"), 0o755), at("elsewhere/octo")).unwrap();
        fs::create_dir_all(at("hardlink")).unwrap();
        let hard = at("hardlink").join("claude");
        let linked = fs::hard_link(std::env::current_exe().unwrap(), &hard).is_ok();
        let real = program(&at("real"), 0o755);
        let second = program(&at("second"), 0o755);

        let names = ["ws/.octo/bin", "link-to-wrapper", "missing", "not-executable", "folder", "dangling", "loop"];
        let more = ["self", "other", "hardlink", "real", "second"];
        let folders: Vec<PathBuf> = names.iter().chain(&more).map(|n| at(n)).collect();
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        assert_eq!(found(&folders), vec![real, second], "hard link made: {linked}");
    }

    #[test]
    fn finds_nothing_in_an_empty_path() {
        assert_eq!(found(&[Path::new("/nonexistent")]), Vec::<PathBuf>::new());
    }
}
