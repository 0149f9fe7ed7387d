//! A connection to knockd's `Fleet_Socket`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use knocking::fleet::message::{LENGTH, Message};
use knocking::protocol::messages::Crossing;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long knockd may take no message, in seconds.
const PATIENCE: i64 = 2;

/// A connection to knockd, which several threads may write to.
#[derive(Clone, Debug)]
pub struct Socket(Arc<OwnedFd>);

impl Socket {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Socket> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Socket(Arc::new(socket)))
    }

    /// Says something. What knockd does not take within some seconds it is told again when it comes back.
    pub fn say(&self, message: &Message) {
        let _ = send(self.0.as_raw_fd(), &message.encode(), MsgFlags::MSG_NOSIGNAL);
    }

    /// Waits for what knockd says; nothing if it is gone, or says what is no message.
    #[must_use]
    pub fn hear(&self) -> Option<Message> {
        let mut bytes = [0; LENGTH + 1];
        loop {
            match recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) => return bytes.get(..length).and_then(Message::decode),
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}
