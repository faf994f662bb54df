//! Callers' environments: one file per distinct one, named by its digest and checked against it when read.

use std::ffi::CStr;

use rustix::fs::{AtFlags, FileType};
use sha2::{Digest, Sha256};

use super::disk::{self, Unread};
use super::error::{ReadError, words};
use super::{Store, locked};
use crate::command::Env;

/// The largest environment, in bytes of JSON; the system itself limits them to less.
pub(super) const ENV_MAX: u64 = 16 << 20;

/// The digest of an environment: 64 hex characters, the same for equal environments.
#[must_use]
pub fn env_digest(env: &Env) -> String {
    digest_of(&bytes_of(env))
}

/// An environment's file, byte for byte the same for equal ones (its names are sorted).
pub(super) fn bytes_of(env: &Env) -> Vec<u8> {
    // Maps with text keys and values that are text or bytes always serialise.
    serde_json::to_vec(env).unwrap_or_default()
}

fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Tells whether a text can be the name of an environment's file.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// The digest of an environment; see [`env_digest`].
    #[must_use]
    pub fn env_digest(env: &Env) -> String {
        env_digest(env)
    }

    /// Reads the environment with this digest.
    ///
    /// # Errors
    /// [`ReadError::NotFound`]; [`ReadError::Bad`] when the file is not what its name says; [`ReadError::Io`].
    pub fn env(&self, digest: &str) -> Result<Env, ReadError> {
        if !is_digest(digest) {
            return Err(ReadError::NotFound);
        }
        let bytes = disk::read_file(&self.envs, digest, ENV_MAX).map_err(|e| match e {
            Unread::Missing => ReadError::NotFound,
            Unread::Bad(why) => ReadError::bad(why),
            Unread::Io(errno) => ReadError::Io { why: format!("{} while reading env/{digest}", words(errno)) },
        })?;
        if digest_of(&bytes) != digest {
            return Err(ReadError::bad(format!("env/{digest} was changed or damaged: its digest is another one")));
        }
        serde_json::from_slice(&bytes).map_err(|e| ReadError::bad(format!("env/{digest} is no environment: {e}")))
    }

    /// Deletes an environment that no record names any more; best effort.
    pub fn drop_env(&self, digest: &str) {
        if is_digest(digest) {
            locked(&self.durable_envs).remove(digest);
            let _ = disk::retry(|| rustix::fs::unlinkat(&self.envs, digest, AtFlags::empty()));
        }
    }

    /// The digests of all environments that are kept.
    #[must_use]
    pub fn env_digests(&self) -> Vec<String> {
        let mut digests = Vec::new();
        // What cannot be listed is not dropped either: a shorter list does no harm.
        let _ = disk::list(&self.envs, |name: &CStr, kind| {
            if let Some(name) = name.to_str().ok().filter(|n| kind == FileType::RegularFile && is_digest(n)) {
                digests.push(name.to_owned());
            }
        });
        digests.sort_unstable();
        digests
    }
}
