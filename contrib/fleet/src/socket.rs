//! A connection to knockd's `Fleet_Socket`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use knocking::fleet::message::{FromKnockd, LONGEST, ToKnockd};
use knocking::protocol::messages::Crossing;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::time::{ClockId, clock_gettime};

/// The send timeout in seconds.
const PATIENCE: i64 = 2;

/// A connection to knockd, shared by several threads that write to it.
#[derive(Clone, Debug)]
pub struct Socket(Arc<OwnedFd>);

impl Socket {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// Errors of socket(2), setsockopt(2) and connect(2).
    pub fn open(path: &Path) -> io::Result<Socket> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Socket(Arc::new(socket)))
    }

    /// Sends a message that is of no use later, if that is possible.
    pub fn say(&self, message: ToKnockd) {
        let _ = self.send(message);
    }

    /// Sends a message; an opening ends at `stop.due` from now.
    ///
    /// # Errors
    /// Errors of send(2).
    pub fn send(&self, message: ToKnockd) -> io::Result<()> {
        let message = match message {
            ToKnockd::Open(mut opening) => {
                opening.stop.due = boottime().saturating_add(opening.stop.due);
                ToKnockd::Open(opening)
            }
            other => other,
        };
        send(self.0.as_raw_fd(), &message.encode(), MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message; an opening in it ends at `stop.due` from now. `None` if knockd has disconnected or sent
    /// anything else.
    #[must_use]
    pub fn hear(&self) -> Option<FromKnockd> {
        let mut bytes = [0; LONGEST + 1];
        loop {
            match recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) => {
                    let message = bytes.get(..length).and_then(FromKnockd::decode)?;
                    let due = message.shared().map(|it| it.stop.due).unwrap_or_default();
                    return Some(message.ending(due.saturating_sub(boottime())));
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// The time since boot, including suspend: the clock of knockd's messages.
fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
