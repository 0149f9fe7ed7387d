//! What differs between the systems that the client runs on: where profiles are, who may use a file, what
//! becomes of a command.
//!
//! The client is the same everywhere else. Raw packets and interfaces are those of Linux.

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

/// Whether raw packets can be sent: the kernels of macOS and the BSDs change them or drop those of TCP,
/// Windows drops them.
pub const HAS_RAW_PACKETS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Lets a socket use this interface only.
///
/// # Errors
/// There is no such interface, or it may not be chosen; always, but on Linux.
pub fn bind_interface(socket: &Socket, name: &str) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return socket.bind_device(Some(name.as_bytes()));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (socket, name);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The largest packet that goes whole to the destination that a socket is connected to, in bytes.
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
