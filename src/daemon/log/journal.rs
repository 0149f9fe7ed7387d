//! systemd's journal, with fields: what it cannot be told goes to syslog, which it reads as well where it runs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use crate::daemon::log::outlet::Outlet;

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Our way to the journal.
#[derive(Debug, Default)]
pub struct Journal {
    is_open: bool,
    connection: Option<Outlet>,
}

impl Journal {
    /// Begins or ceases to write there.
    pub fn open(&mut self, is_wanted: bool) {
        self.is_open = is_wanted;
        self.connection = None;
    }

    /// Whether lines are to go there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Sends the fields of a line.
    ///
    /// # Errors
    /// Why it did not get there: what the operating system says, or `WouldBlock` if too much waits already.
    pub fn write(&mut self, fields: &[u8]) -> io::Result<()> {
        let is_new = self.connection.is_none();
        match self.send(fields) {
            // One that was started anew knows nothing of an old connection.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && !is_new => {
                self.connection = None;
                self.send(fields)
            }
            result => result,
        }
        .inspect_err(|error| {
            if error.kind() != io::ErrorKind::WouldBlock {
                self.connection = None;
            }
        })
    }

    fn send(&mut self, fields: &[u8]) -> io::Result<()> {
        let outlet = if let Some(outlet) = self.connection.take() {
            outlet
        } else {
            let socket = UnixDatagram::unbound()?;
            socket.connect(SOCKET)?;
            Outlet::socket(OwnedFd::from(socket))
        };
        self.connection.insert(outlet).write(fields)
    }

    /// Writes what waits, as far as there is room.
    pub fn flush(&mut self) {
        if self.connection.as_mut().is_some_and(|outlet| outlet.flush().is_err()) {
            self.connection = None;
        }
    }

    /// Ready for writing when there is room for what waits.
    #[must_use]
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref()?.waits_for()
    }
}
