//! The workspace: the folder that holds `.octo/`, its one daemon's lock, and its socket.
//!
//! `main` finds the workspace once, from what the person named, the environment and the current folder,
//! and hands it to everything else. Clients [`connect`]; the daemon takes the [`DaemonLock`], then
//! [`bind`]s. A `.octo/` decides which commands run with the owner's rights, so one that somebody else
//! made, or can write to, is refused before anything in it is read.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::command::{Refused, RefusedCode};

mod lock;
mod socket;
#[cfg(test)]
mod tests;

pub use lock::{AcquireError, DaemonLock, Holder, holder};
pub(crate) use lock::{is_locked, try_lock};
pub use socket::{bind, connect};

/// The name of the folder that makes a folder a workspace.
pub const OCTO_DIR: &str = ".octo";

/// A workspace: one folder, one daemon, one set of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The workspace folder, absolute and without symbolic links: shims are recognised by this path.
    pub root: PathBuf,
    /// Its `.octo/`. It may not exist yet.
    pub octo: PathBuf,
}

impl Workspace {
    /// Finds the workspace: `named` (`--workspace`), else `env` (`OCTO_WORKSPACE`, ignored when empty),
    /// else the nearest folder at or above `cwd` that holds `.octo/`, else `cwd` itself.
    ///
    /// Relative names are taken from `cwd`. The home folder is never found by looking upwards: a `.octo/`
    /// there would swallow every folder below it. Nothing is created, and whether `.octo/` is fit for
    /// use is only looked at by [`Workspace::check`] and [`Workspace::create`].
    ///
    /// # Errors
    /// When the folder that was named does not exist or is none, or `cwd` was deleted.
    pub fn find(
        named: Option<&Path>,
        env: Option<&OsStr>,
        cwd: &Path,
        home: Option<&Path>,
    ) -> Result<Workspace, Refused> {
        let from_env = env.filter(|e| !e.is_empty()).map(Path::new);
        if let Some(dir) = named {
            return Self::named(&cwd.join(dir), "give `--workspace` a folder that exists");
        }
        if let Some(dir) = from_env {
            return Self::named(&cwd.join(dir), "OCTO_WORKSPACE names it: unset it, or name a folder that exists");
        }
        let cwd = Self::named(cwd, "change to a folder that exists, or name one with `--workspace`")?.root;
        let home = home.and_then(|h| fs::metadata(h).ok());
        let holds_octo = |dir: &&Path| {
            let there = fs::symlink_metadata(dir.join(OCTO_DIR)).is_ok_and(|m| m.is_dir() || m.is_symlink());
            there && !home.as_ref().is_some_and(|h| is_same(dir, h))
        };
        let root = cwd.ancestors().find(holds_octo).unwrap_or(&cwd);
        Ok(Self::at(root.to_owned()))
    }

    fn named(dir: &Path, hint: &str) -> Result<Workspace, Refused> {
        let no_folder = |why: String| Refused::new(RefusedCode::BadRequest, why).hint(hint);
        let root = fs::canonicalize(dir)
            .map_err(|e| no_folder(format!("the workspace folder {} cannot be used: {e}", dir.display())))?;
        if !root.is_dir() {
            return Err(no_folder(format!("{} is no folder", root.display())));
        }
        Ok(Self::at(root))
    }

    fn at(root: PathBuf) -> Workspace {
        Workspace { octo: root.join(OCTO_DIR), root }
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.octo.join(socket::NAME)
    }

    /// Looks whether `.octo/` exists and is fit for use; creates nothing.
    ///
    /// # Errors
    /// When it is a symbolic link or no folder, belongs to another user, or others may write to it.
    pub fn check(&self) -> Result<bool, Refused> {
        match fs::symlink_metadata(&self.octo) {
            Ok(meta) => self.fitness(&meta).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.unusable(&e)),
        }
    }

    /// Creates `.octo/` (mode 0700, ignored by git) where it is missing, and takes away what rights others
    /// have to read one that is there.
    ///
    /// # Errors
    /// As [`Workspace::check`]; or when the folder cannot be made.
    pub fn create(&self) -> Result<(), Refused> {
        let made = match DirBuilder::new().mode(0o700).create(&self.octo) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(self.unusable(&e)),
        };
        let meta = fs::symlink_metadata(&self.octo).map_err(|e| self.unusable(&e))?;
        self.fitness(&meta)?;
        if meta.mode() & 0o777 != 0o700 {
            fs::set_permissions(&self.octo, Permissions::from_mode(0o700)).map_err(|e| self.unusable(&e))?;
        }
        self.keep_git_out();
        if made {
            // The folder must survive a power cut before anything in it is promised to anybody.
            File::open(&self.root).and_then(|d| d.sync_all()).map_err(|e| self.unusable(&e))?;
        }
        Ok(())
    }

    /// A missing `.gitignore` is an annoyance, not a danger: failing here (full disk) stops nobody.
    fn keep_git_out(&self) {
        let mut open = File::options();
        open.write(true).create_new(true).mode(0o600).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
        if let Ok(mut file) = open.open(self.octo.join(".gitignore")) {
            let _ = file.write_all(b"*\n");
        }
    }

    fn fitness(&self, meta: &Metadata) -> Result<(), Refused> {
        let octo = self.octo.display();
        let refuse = |what: String, hint: String| Err(Refused::new(RefusedCode::Forbidden, what).hint(hint));
        if meta.is_symlink() {
            return refuse(
                format!("{octo} is a symbolic link"),
                "Octo does not follow it: remove it, or name the real workspace with `--workspace`".to_owned(),
            );
        }
        if !meta.is_dir() {
            return refuse(format!("{octo} is no folder"), "move it away, or name another workspace".to_owned());
        }
        let me = rustix::process::geteuid().as_raw();
        if meta.uid() != me {
            return refuse(
                format!("{octo} belongs to user {}, and this is user {me}", meta.uid()),
                "run as its owner, or name a workspace of your own with `--workspace`".to_owned(),
            );
        }
        if meta.mode() & 0o022 != 0 {
            return refuse(
                format!("other users may write to {octo} (mode {:o})", meta.mode() & 0o7777),
                format!("look at what is in it, then run: chmod 700 '{octo}'"),
            );
        }
        Ok(())
    }

    fn unusable(&self, e: &io::Error) -> Refused {
        Refused::new(RefusedCode::Unavailable, format!("{} cannot be used: {e}", self.octo.display()))
            .hint("name a workspace folder that you can write to with `--workspace`")
    }
}

fn is_same(dir: &Path, other: &Metadata) -> bool {
    fs::metadata(dir).is_ok_and(|m| m.dev() == other.dev() && m.ino() == other.ino())
}
