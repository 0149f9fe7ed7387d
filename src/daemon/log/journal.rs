//! Log lines with fields for systemd's journal. Lines that cannot reach it go to syslog, which the journal
//! also reads.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use crate::daemon::log::outlet::Outlet;

/// The journal's socket.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The connection to the journal.
#[derive(Debug, Default)]
pub struct Journal {
    is_open: bool,
    connection: Option<Outlet>,
}

impl Journal {
    /// Turns writing to the journal on or off.
    pub fn open(&mut self, is_wanted: bool) {
        self.is_open = is_wanted;
        self.connection = None;
    }

    /// Whether lines are to go to the journal.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Sends the fields of a line.
    ///
    /// # Errors
    /// `WouldBlock` if too much is waiting already, or any other error of the socket.
    pub fn write(&mut self, fields: &[u8]) -> io::Result<()> {
        let is_new = self.connection.is_none();
        match self.send(fields) {
            // A journal that was restarted has closed the old connection.
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

    /// Writes waiting records as far as the socket takes them.
    pub fn flush(&mut self) {
        if self.connection.as_mut().is_some_and(|outlet| outlet.flush().is_err()) {
            self.connection = None;
        }
    }

    /// The descriptor to wait on for `POLLOUT`, while records are waiting.
    #[must_use]
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref()?.waits_for()
    }
}
