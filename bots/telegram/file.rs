//! JSON files that hold what the bridge must not forget: saved whole and for good, or not at all.
//!
//! A save writes a new file beside the old one, syncs it, gives it the name, and syncs the folder. After a power cut
//! there is the old content or the new, and after a save that returned there is the new one. What cannot be
//! read is set aside byte for byte and never overwritten.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, OFlags, RenameFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No honest file is longer, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// How many files of one name may be set aside in one second.
const TRIES: u32 = 1000;

/// What files that are being written end with; their names begin with a dot.
const TEMP: &str = ".octo-tmp";

/// What was found under a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded<T> {
    /// Nothing.
    Missing,
    /// All of it.
    Whole(T),
    /// Something that could not be understood.
    Damaged {
        /// What was wrong with it.
        why: String,
        /// Where it is now.
        kept: PathBuf,
    },
}

/// Makes a folder that only its owner may enter, if it is not there, and makes its name durable.
///
/// # Errors
/// What the system says; the folder above must be there.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_folder(above(path)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes what saves left behind that were killed. Only for a folder that nobody else writes to at the moment.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn tidy(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(TEMP) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Saves a value, readable by its owner only. It is durable when this returns.
///
/// # Errors
/// What the system says. It is then not known whether the old or the new content will be found: save again.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    save_all(&[(path.to_owned(), value)])
}

/// As [`save`], for a text that is written already.
///
/// # Errors
/// As [`save`].
pub(crate) fn save_bytes(path: &Path, text: &[u8]) -> io::Result<()> {
    write(path, text)?;
    sync_folder(above(path))
}

/// Saves several values in one folder: as [`save`], with one sync of the folder for all.
///
/// # Errors
/// As [`save`]; some may have been saved.
pub(crate) fn save_all<T: Serialize>(files: &[(PathBuf, T)]) -> io::Result<()> {
    for (path, value) in files {
        let mut text = serde_json::to_vec(value).map_err(io::Error::other)?;
        text.push(b'\n');
        write(path, &text)?;
    }
    files.first().map_or(Ok(()), |(path, _)| sync_folder(above(path)))
}

/// Writes one file under its name; the name is not durable yet.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let temp = above(path).join(format!(".{name}.{}-{n}{TEMP}", std::process::id()));
    // One that is there is of a process that is gone and had our number.
    let _ = fs::remove_file(&temp);
    let made = File::options().write(true).create_new(true).mode(0o600).open(&temp).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    made.and_then(|()| fs::rename(&temp, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temp);
    })
}

/// Makes names in a folder durable.
///
/// # Errors
/// What the system says.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Loads a value. What cannot be understood is moved to `quarantine`, which is made if it is not there.
///
/// # Errors
/// When the file cannot be read at the moment, or is damaged and cannot be moved: then it must not be overwritten.
pub(crate) fn load<T: DeserializeOwned>(path: &Path, quarantine: &Path) -> io::Result<Loaded<T>> {
    load_with(path, quarantine, |text| serde_json::from_slice(text).map_err(|e| e.to_string()))
}

/// As [`load`], for a text that `understand` makes sense of.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_with<T>(
    path: &Path,
    quarantine: &Path,
    understand: impl FnOnce(&[u8]) -> Result<T, String>,
) -> io::Result<Loaded<T>> {
    let why = match read(path)? {
        None => return Ok(Loaded::Missing),
        Some(Err(why)) => why,
        Some(Ok(text)) => match understand(&text) {
            Ok(value) => return Ok(Loaded::Whole(value)),
            Err(why) => why,
        },
    };
    let kept = set_aside(path, quarantine)?;
    Ok(Loaded::Damaged { why, kept })
}

/// Reads a regular file; `Err` inside: it is none, or too long to be ours.
fn read(path: &Path) -> io::Result<Option<Result<Vec<u8>, String>>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if !meta.is_file() {
        return Ok(Some(Err("it is no regular file".to_owned())));
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(flags.cast_signed()).open(path)?;
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Ok(Some(Err(format!("it is longer than {LONGEST} bytes"))));
    }
    Ok(Some(Ok(text)))
}

/// Moves a file to the quarantine under a name that is free there, and says where it is.
fn set_aside(path: &Path, quarantine: &Path) -> io::Result<PathBuf> {
    folder(quarantine)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let second = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    for n in 0..TRIES {
        let kept = quarantine.join(format!("{name}.{second}.{n}"));
        match rustix::fs::renameat_with(CWD, path, CWD, &kept, RenameFlags::NOREPLACE) {
            Ok(()) => {
                sync_folder(quarantine)?;
                sync_folder(above(path))?;
                return Ok(kept);
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::other("the quarantine is full of files of this name"))
}
