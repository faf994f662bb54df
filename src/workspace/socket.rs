//! `.octo/octo.sock`: how the daemon listens and how clients reach it.
//!
//! A socket's address holds at most 107 bytes of path, and workspaces lie deeper than that. A longer
//! path is gone around: `.octo/` is opened, and the socket is named through the descriptor.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{DaemonLock, Workspace};

/// The socket's file name in `.octo/`.
pub(super) const NAME: &str = "octo.sock";

/// The longest path a Unix socket address holds: `sun_path` has 108 bytes, the last one is NUL.
const PATH_MAX: usize = 107;

/// Clients that may wait to be accepted: a script that starts hundreds of `octo bg` at once must not see
/// a refused connection.
const BACKLOG: i32 = 1024;

/// Connects to the workspace's daemon. Blocks only while the daemon's queue of connections is full.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when no daemon listens; `PermissionDenied` when whoever listens is
/// another user.
pub fn connect(ws: &Workspace) -> io::Result<UnixStream> {
    let address = Address::of(ws)?;
    let stream = UnixStream::connect(&address.path)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    if peer.uid != rustix::process::geteuid() {
        let who = format!("user {} listens on {}", peer.uid.as_raw(), ws.socket().display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, who));
    }
    Ok(stream)
}

/// Listens on the workspace's socket (mode 0600). What an earlier daemon left there is removed, which is
/// why it takes the lock: without it, this would cut off a daemon that lives.
///
/// # Errors
/// When something other than a socket is in the way, or what the system says.
pub fn bind(ws: &Workspace, _lock: &DaemonLock) -> io::Result<UnixListener> {
    let address = Address::of(ws)?;
    match fs::symlink_metadata(&address.path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(&address.path)?,
        Ok(_) => {
            let what = format!("{} is no socket; move it away", ws.socket().display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        Err(_) => {}
    }
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Linux gives the file the mode that the socket has when it is bound: no moment with wider rights.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&address.path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// A path short enough for a socket address; valid while the value lives.
struct Address {
    path: PathBuf,
    _dir: Option<File>,
}

impl Address {
    fn of(ws: &Workspace) -> io::Result<Address> {
        let path = ws.socket();
        if path.as_os_str().as_bytes().len() <= PATH_MAX {
            return Ok(Address { path, _dir: None });
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let dir = File::options().read(true).custom_flags(flags.bits()).open(&ws.octo)?;
        Ok(Address { path: PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd())), _dir: Some(dir) })
    }
}
