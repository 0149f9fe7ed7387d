//! The socket between the watcher and the doorkeeper: messages, some of which carry a descriptor.
//!
//! [`crate::protocol`] defines the messages and their order; this module sends and receives them without
//! blocking.

use std::io::{self, IoSlice, IoSliceMut, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use zeroize::Zeroizing;

use crate::protocol::messages::{Crossing, LONGEST};

/// Send buffer in bytes, for the messages of a thousand openings at once: the kernel accounts 768 for a
/// message of any of our lengths, and doubles the requested size.
const SEND_BUFFER: usize = 1 << 20;

/// A connected pair of `SOCK_SEQPACKET` sockets, closed on exec.
///
/// # Errors
/// Any error of the system calls.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    for socket in [&pair.0, &pair.1] {
        // Not permitted in a container; more messages wait in the watcher then.
        let _ = setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER);
    }
    Ok(pair)
}

/// Sends one message without blocking, with a duplicate of a descriptor if one belongs to it.
///
/// # Errors
/// `WouldBlock` when the buffer is full, or any other error of `sendmsg(2)`.
pub fn transmit(
    socket: &OwnedFd,
    message: &impl Crossing,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    transmit_bytes(socket, &message.encode(), descriptor)
}

/// Sends an encoded message like [`transmit`].
///
/// # Errors
/// The same.
pub fn transmit_bytes(socket: &OwnedFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)?;
    Ok(())
}

/// The result of [`receive`].
#[derive(Debug)]
pub enum Received<T> {
    /// A message, and the descriptor that came with it.
    Message(T, Option<OwnedFd>),
    /// Bytes that are no valid message.
    Nonsense,
    /// No message is waiting.
    Nothing,
    /// The other end is closed.
    Closed,
}

/// Receives one message without blocking.
pub fn receive<T: Crossing>(socket: &OwnedFd) -> Received<T> {
    let mut bytes = [0; LONGEST + 1];
    match receive_bytes(socket, &mut bytes) {
        Received::Message(length, descriptor) => bytes
            .get(..length)
            .and_then(T::decode)
            .map_or(Received::Nonsense, |message| Received::Message(message, descriptor)),
        Received::Nonsense => Received::Nonsense,
        Received::Nothing => Received::Nothing,
        Received::Closed => Received::Closed,
    }
}

/// Receives one message into the buffer, without blocking; returns its length. A message that is too long
/// fills the buffer.
pub fn receive_bytes(socket: &OwnedFd, bytes: &mut [u8]) -> Received<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let length = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags) {
            Ok(received) => break received.bytes,
            Err(Errno::AGAIN) => return Received::Nothing,
            // ECONNRESET: the other end closed without reading everything we sent. It is reported once,
            // before the messages that it had sent.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(_) => return Received::Closed,
        }
    };
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last().or(descriptor);
        }
    }
    match length {
        0 => Received::Closed,
        length => Received::Message(length, descriptor),
    }
}

/// A memfd with this text, sealed against changes.
///
/// # Errors
/// Any error of the system calls.
pub fn hand_out(text: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("knockd", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    file.write_all(text)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// An empty memfd, writable.
///
/// # Errors
/// Any error of the system calls.
pub fn blank() -> io::Result<OwnedFd> {
    Ok(memfd_create("knockd", MFdFlags::MFD_CLOEXEC)?)
}

/// Writes a text to the beginning of a memfd, with `pwrite(2)` and no system call that can send on a socket.
///
/// # Errors
/// Any error of the system calls.
pub fn write_all(descriptor: OwnedFd, text: &[u8]) -> io::Result<()> {
    std::fs::File::from(descriptor).write_all_at(text, 0)
}

/// Reads the whole text of a memfd, independent of its file offset, which other readers share.
///
/// # Errors
/// Any error of the system calls.
pub fn read_all(descriptor: &impl AsFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = std::fs::File::from(descriptor.as_fd().try_clone_to_owned()?);
    // By seeking, not by `statx(2)`: the watcher may make no system call that takes a path.
    let length = file.seek(io::SeekFrom::End(0))?;
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut text = Zeroizing::new(vec![0; length]);
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}
