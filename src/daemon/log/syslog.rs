//! syslog, which may be away: then it is said once, and once more when it is back.

use std::io;
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::syslog::{Facility, LogFlags, Severity, openlog, syslog};

use crate::reason::reason;

/// Where it listens.
const SOCKET: &str = "/dev/log";

/// Our way to syslog.
#[derive(Debug, Default)]
pub struct Syslog {
    is_open: bool,
    /// The last line did not reach it.
    is_gone: bool,
}

impl Syslog {
    /// Begins or ceases to write there.
    pub fn open(&mut self, is_wanted: bool) {
        if is_wanted && !self.is_open {
            let _ = openlog(Some(c"knockd"), LogFlags::empty(), Facility::LOG_DAEMON);
        }
        self.is_open = is_wanted;
    }

    /// Whether lines go there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Writes a line, if lines go there. Says what changed, in words for the other readers of the log.
    pub fn write(&mut self, text: &str) -> Option<String> {
        if !self.is_open {
            return None;
        }
        let listens = listens();
        let _ = syslog(Severity::LOG_NOTICE, text);
        let was_gone = std::mem::replace(&mut self.is_gone, listens.is_err());
        match listens {
            Err(error) if !was_gone => Some(format!("could not write to syslog: {}", reason(&error))),
            Ok(()) if was_gone => Some("syslog is back".to_owned()),
            _ => None,
        }
    }
}

/// Whether anybody does: syslog(3) itself does not say.
fn listens() -> io::Result<()> {
    match UnixDatagram::unbound().and_then(|socket| socket.connect(SOCKET)) {
        // It listens in another way.
        Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => Ok(()),
        other => other,
    }
}
