//! The differences between the client's operating systems: the paths of profiles, file permissions, running a
//! command.
//!
//! Everything else is portable, except that raw packets and the choice of an interface need Linux.

#[cfg(windows)]
mod echo;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(windows)]
pub use echo::{check_pings, ping};
#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

use std::io;

use socket2::Socket;

/// Whether raw packets can be sent: the kernels of macOS and the BSDs modify them or drop those of TCP, and
/// Windows drops them.
pub const HAS_RAW_PACKETS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Binds a socket to a network interface.
///
/// # Errors
/// The interface does not exist or may not be chosen; on systems other than Linux, always.
pub fn bind_interface(socket: &Socket, name: &str) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return socket.bind_device(Some(name.as_bytes()));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (socket, name);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The path MTU of a connected socket in bytes; `None` if the system does not report it.
pub fn path_mtu(socket: &Socket) -> Option<u32> {
    // On Linux this option works on IPv6 sockets too.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use nix::sys::socket::{getsockopt, sockopt};
        getsockopt(socket, sockopt::IpMtu).ok().and_then(|mtu| u32::try_from(mtu).ok())
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = socket;
        None
    }
}
