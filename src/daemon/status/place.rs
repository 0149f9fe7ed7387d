//! Unix sockets in the file system, and the paths of the status sockets: the watcher's at the configured
//! path, the doorkeeper's beside it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Only root and the daemon's own user may connect.
const MODE: Mode = Mode::from_bits_truncate(0o600);
/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// The paths of the two sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The watcher's socket.
    pub watcher: PathBuf,
    /// The doorkeeper's socket.
    pub doorkeeper: PathBuf,
}

impl Paths {
    /// The paths for this configured path.
    #[must_use]
    pub fn of(path: &Path) -> Paths {
        let mut doorkeeper = path.as_os_str().to_owned();
        doorkeeper.push(".doors");
        Paths { watcher: path.to_owned(), doorkeeper: doorkeeper.into() }
    }
}

/// A socket in the file system, removed when this is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// Device and inode, so that another socket in its place is not removed.
    identity: (u64, u64),
}

/// Creates a socket of this kind and listens at this path. A socket that no process listens at is replaced.
///
/// # Errors
/// `AddrInUse` if another process listens there, or another error of `bind(2)`, `listen(2)` and the like.
pub fn listen(path: &Path, kind: Type) -> io::Result<(OwnedFd, Place)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    // The file gets the mode of the socket.
    fchmod(&socket, MODE)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_deserted(path, kind, &address) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    socket.listen(BACKLOG)?;
    let made = fs::symlink_metadata(path)?;
    Ok((socket.into(), Place { path: path.to_owned(), identity: (made.dev(), made.ino()) }))
}

/// Whether there is a socket at this path that no process listens at.
fn is_deserted(path: &Path, kind: Type, address: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    let connect = || {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(address)
    };
    is_socket && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for Place {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|it| (it.dev(), it.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
