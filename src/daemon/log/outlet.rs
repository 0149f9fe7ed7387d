//! A file, pipe, terminal or socket that is written to without ever waiting: what it does not take now is kept, up
//! to a limit, and what is beyond that is lost.
//!
//! A daemon that waits for somebody to read its log is deaf, and leaves doors open.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::daemon::output_file;

/// The mode of a new file: a log tells who knocks, which not everybody is to read.
const MODE: u32 = 0o640;
/// How many bytes are kept at most.
const MOST: usize = 4 << 20;
/// A pipe that says it has room takes so many bytes without waiting (`PIPE_BUF`).
const PIECE: usize = 4096;

/// How it is written to without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A regular file never waits.
    Plain,
    /// It was opened for that, by us alone.
    NonBlocking,
    /// A socket: each record is sent by itself.
    Socket,
    /// It is shared with others, who may want to wait: it is asked first.
    AskFirst,
}

/// Something that is written to.
#[derive(Debug)]
pub struct Outlet {
    file: File,
    way: Way,
    /// Whole records, but for what was written of the first.
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The last record may be there in part only.
    is_torn: bool,
}

impl Outlet {
    /// A file of this path, appended to and made if it is not there. It may be a pipe that somebody reads.
    ///
    /// # Errors
    /// See [`output_file::open`]; `ENXIO` for a pipe that nobody reads.
    pub fn append(path: &Path) -> io::Result<Outlet> {
        let file = output_file::open(path, OpenOptions::new().append(true), O_NONBLOCK | O_NOCTTY, MODE)?;
        let way = if file.metadata()?.is_file() { Way::Plain } else { Way::NonBlocking };
        Ok(Outlet::new(file, way))
    }

    /// One of our standard files, which others share.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn shared(descriptor: BorrowedFd<'_>) -> io::Result<Outlet> {
        let file = File::from(descriptor.try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            return Ok(Outlet::new(file, Way::Plain));
        }
        if kind.is_socket() {
            return Ok(Outlet::new(file, Way::Socket));
        }
        // Opened once more: whether it waits is a matter of those who opened it together.
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        let own = OpenOptions::new().write(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path);
        Ok(own.map_or_else(|_| Outlet::new(file, Way::AskFirst), |own| Outlet::new(own, Way::NonBlocking)))
    }

    /// A connected socket.
    #[must_use]
    pub fn socket(socket: OwnedFd) -> Outlet {
        Outlet::new(File::from(socket), Way::Socket)
    }

    fn new(file: File, way: Way) -> Outlet {
        Outlet { file, way, waiting: VecDeque::new(), bytes: 0, is_torn: false }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes a record, now or, in its turn, when there is room.
    ///
    /// # Errors
    /// It is lost: `WouldBlock` if too much waits already, or what the operating system says.
    pub fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.flush()?;
        if self.waiting.is_empty() && self.way == Way::Plain {
            return self.write_plain(record);
        }
        if self.bytes + record.len() > MOST {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes += record.len();
        self.waiting.push_back(record.to_vec());
        self.flush()
    }

    /// A record that could be written in part only, on a full disk, ends its line before the next begins.
    fn write_plain(&mut self, record: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        let written = self.file.write(record)?;
        if let Some(rest) = record.get(written..).filter(|rest| !rest.is_empty()) {
            self.is_torn = true;
            self.file.write_all(rest)?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Writes what waits, as far as there is room.
    ///
    /// # Errors
    /// What the operating system says; then what waited is lost.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(record) = self.waiting.front_mut() {
            match write_some(&self.file, self.way, record) {
                Ok(written) => {
                    self.bytes -= written;
                    record.drain(..written);
                    if record.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.waiting.clear();
                    self.bytes = 0;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Ready for writing when there is room for what waits, if something does.
    #[must_use]
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.file.as_fd())
    }
}

fn write_some(mut file: &File, way: Way, record: &[u8]) -> io::Result<usize> {
    match way {
        Way::Plain | Way::NonBlocking => file.write(record),
        Way::Socket => Ok(send(file.as_raw_fd(), record, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?),
        Way::AskFirst => {
            let mut room = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut room, PollTimeout::ZERO) {
                Ok(0) | Err(Errno::EINTR) => Err(io::ErrorKind::WouldBlock.into()),
                Ok(_) => file.write(record.get(..PIECE).unwrap_or(record)),
                Err(errno) => Err(errno.into()),
            }
        }
    }
}
