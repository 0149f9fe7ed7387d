//! The connection to syslog. If no syslog daemon is there, that is reported once, and again when it is back.
//! If it does not read, lines wait up to a limit, beyond which they are lost and counted.
//!
//! The C library's syslog(3) blocks on a slow reader, and does not report a missing one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::daemon::log::outlet::Outlet;
use crate::octets;
use crate::reason::reason;

/// The socket of syslog.
const SOCKET: &str = "/dev/log";
/// Facility daemon (3), severity notice (5): RFC 3164, 4.1.1.
const PRIORITY: u8 = 3 * 8 + 5;

/// The connection to syslog.
#[derive(Debug, Default)]
pub struct Syslog {
    is_open: bool,
    connection: Option<Connection>,
    /// The last line could not be delivered.
    is_gone: bool,
    /// Lines lost since the last one that was delivered.
    lost: u64,
}

#[derive(Debug)]
struct Connection {
    outlet: Outlet,
    /// The terminator of a message: needed on a stream, which keeps no message boundaries.
    end: &'static str,
}

impl Connection {
    fn open() -> io::Result<Connection> {
        let socket = UnixDatagram::unbound()?;
        match socket.connect(SOCKET) {
            Ok(()) => Ok(Connection { outlet: Outlet::socket(OwnedFd::from(socket)), end: "" }),
            // Some daemons listen on a stream socket.
            Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => {
                let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // Connecting does not block on a full backlog either.
                stream.set_nonblocking(true)?;
                stream.connect(&SockAddr::unix(SOCKET)?)?;
                Ok(Connection { outlet: Outlet::socket(OwnedFd::from(stream)), end: "\0" })
            }
            Err(error) => Err(error),
        }
    }
}

impl Syslog {
    /// Turns writing to syslog on or off.
    pub fn open(&mut self, is_wanted: bool) {
        self.is_open = is_wanted;
        if !is_wanted {
            self.connection = None;
        }
    }

    /// Whether lines go to syslog.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Writes a line with this time (`Nov 22 13:05:59`), if lines go to syslog. Returns a sentence for the
    /// other destinations of the log when syslog went away or came back.
    pub fn write(&mut self, stamp: &str, text: &str) -> Option<String> {
        if !self.is_open {
            return None;
        }
        let mut result = Ok(());
        if self.lost > 0 {
            let words = format!("{} lines are missing here: syslog did not read them", self.lost);
            result = self.send(stamp, &words);
        }
        if result.is_ok() {
            self.lost = 0;
            result = self.send(stamp, text);
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.lost = self.lost.saturating_add(1);
                None
            }
            Err(error) => {
                let was_gone = std::mem::replace(&mut self.is_gone, true);
                (!was_gone).then(|| format!("could not write to syslog: {}", reason(&error)))
            }
            Ok(()) => std::mem::take(&mut self.is_gone).then(|| "syslog is back".to_owned()),
        }
    }

    fn send(&mut self, stamp: &str, text: &str) -> io::Result<()> {
        let is_new = self.connection.is_none();
        match self.try_send(stamp, text) {
            // A daemon that was restarted has closed the old connection.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && !is_new => {
                self.connection = None;
                self.try_send(stamp, text)
            }
            result => result,
        }
        .inspect_err(|error| {
            if error.kind() != io::ErrorKind::WouldBlock {
                self.connection = None;
            }
        })
    }

    fn try_send(&mut self, stamp: &str, text: &str) -> io::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open()?,
        };
        let Connection { outlet, end } = self.connection.insert(connection);
        outlet.write(
            &[format!("<{PRIORITY}>{stamp} knockd: ").as_bytes(), &octets::shown(text), end.as_bytes()]
                .concat(),
        )
    }

    /// Writes waiting lines as far as there is room.
    pub fn flush(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.outlet.flush().is_err()
        {
            self.connection = None;
        }
    }

    /// The descriptor to wait on for `POLLOUT`, while lines are waiting.
    #[must_use]
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref()?.outlet.waits_for()
    }
}
