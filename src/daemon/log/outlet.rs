//! Writes to a file, pipe, terminal or socket without ever blocking: what it does not take now is kept up to
//! a limit, and lost beyond it.
//!
//! A daemon that blocks on a slow reader of its log neither hears knocks nor closes doors.

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

/// The mode of a new file: the log shows who knocks, which is not for everybody.
const MODE: u32 = 0o640;
/// The most bytes that are kept.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Bytes that a pipe ready for writing takes without blocking (`PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// How writing is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteMethod {
    /// A regular file never blocks.
    Plain,
    /// Our own open file description, with `O_NONBLOCK`.
    NonBlocking,
    /// A socket: each record is one message, sent with `MSG_DONTWAIT`.
    Socket,
    /// An open file description shared with other processes, which may rely on blocking: `poll` is asked
    /// first.
    PollFirst,
}

/// A destination, and the records that wait for it.
#[derive(Debug)]
pub struct Outlet {
    file: File,
    method: WriteMethod,
    /// Waiting records; the written part of the first is removed.
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The last record may have been written in part only.
    is_torn: bool,
}

impl Outlet {
    /// Opens the file at this path for appending, and creates it if it is missing. It may be a pipe with a
    /// reader.
    ///
    /// # Errors
    /// See [`output_file::open`]; `ENXIO` for a pipe that nobody reads.
    pub fn append(path: &Path) -> io::Result<Outlet> {
        let file = output_file::open(path, OpenOptions::new().append(true), O_NONBLOCK | O_NOCTTY, MODE)?;
        let method = if file.metadata()?.is_file() { WriteMethod::Plain } else { WriteMethod::NonBlocking };
        Ok(Outlet::new(file, method))
    }

    /// One of our standard streams, which other processes share.
    ///
    /// # Errors
    /// Any error of the system call.
    pub fn shared(descriptor: BorrowedFd<'_>) -> io::Result<Outlet> {
        let file = File::from(descriptor.try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            return Ok(Outlet::new(file, WriteMethod::Plain));
        }
        if kind.is_socket() {
            return Ok(Outlet::new(file, WriteMethod::Socket));
        }
        // Opened again through /proc: `O_NONBLOCK` would apply to everybody who shares the description.
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        let own = OpenOptions::new().write(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path);
        Ok(own.map_or_else(
            |_| Outlet::new(file, WriteMethod::PollFirst),
            |own| Outlet::new(own, WriteMethod::NonBlocking),
        ))
    }

    /// A connected socket.
    #[must_use]
    pub fn socket(socket: OwnedFd) -> Outlet {
        Outlet::new(File::from(socket), WriteMethod::Socket)
    }

    fn new(file: File, method: WriteMethod) -> Outlet {
        Outlet { file, method, waiting: VecDeque::new(), bytes: 0, is_torn: false }
    }

    /// The destination's descriptor.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes a record now, or in its turn when there is room.
    ///
    /// # Errors
    /// The record is lost: `WouldBlock` if too much is waiting already, or any error of the write.
    pub fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.flush()?;
        if self.waiting.is_empty() && self.method == WriteMethod::Plain {
            return self.write_plain(record);
        }
        if self.bytes + record.len() > MAX_WAITING_BYTES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes += record.len();
        self.waiting.push_back(record.to_vec());
        self.flush()
    }

    /// After a record that was written in part (a full disk), ends its line before the next record begins.
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

    /// Writes waiting records as far as there is room.
    ///
    /// # Errors
    /// Any error of the write; the waiting records are lost then.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(record) = self.waiting.front_mut() {
            match write_some(&self.file, self.method, record) {
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

    /// The descriptor to wait on for `POLLOUT`, while records are waiting.
    #[must_use]
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.file.as_fd())
    }
}

fn write_some(mut file: &File, method: WriteMethod, record: &[u8]) -> io::Result<usize> {
    match method {
        WriteMethod::Plain | WriteMethod::NonBlocking => file.write(record),
        WriteMethod::Socket => {
            Ok(send(file.as_raw_fd(), record, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
        }
        WriteMethod::PollFirst => {
            let mut room = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut room, PollTimeout::ZERO) {
                Ok(0) | Err(Errno::EINTR) => Err(io::ErrorKind::WouldBlock.into()),
                Ok(_) => file.write(record.get(..PIPE_BUF).unwrap_or(record)),
                Err(errno) => Err(errno.into()),
            }
        }
    }
}
