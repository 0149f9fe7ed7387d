//! A receive ring: packets in memory shared with the kernel (packet(7), `PACKET_RX_RING`, version 2), many
//! for one system call. And the handover of an interface's packets from one socket to another without loss.
//!
//! One of the few places of the crate with `unsafe` code; a test reads the sources for that.
#![allow(unsafe_code)]

use std::io;
use std::mem::{offset_of, size_of};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, sock_filter, sock_fprog, socklen_t, tpacket_req, tpacket2_hdr};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of a frame: the kernel's header (80) and one packet, as far as the filter passes it.
const FRAME: usize = 256;
/// Frames of a ring: a megabyte, which holds 27 milliseconds of 150,000 packets a second.
const FRAMES: usize = 4096;
/// Bytes and number of frames for whole packets: four megabytes.
const WHOLE_FRAME: usize = 2048;
const WHOLE_FRAMES: usize = 2048;
/// Bytes of a frame that are prefetched: the kernel's header and a typical single packet.
#[cfg(target_arch = "x86_64")]
const PREFETCHED: usize = 320;
/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;
/// Bytes of a block, the unit that the kernel allocates: a multiple of all page sizes up to 64 kB.
const BLOCK: usize = 1 << 16;

/// The receive ring of a packet socket.
#[derive(Debug)]
pub struct Ring {
    /// `count` frames of `size` bytes, mapped for as long as this lives.
    frames: NonNull<u8>,
    size: usize,
    count: usize,
    bytes: NonZeroUsize,
    /// The frame that the kernel fills next.
    next: usize,
    /// The frame before it still belongs to us.
    is_taken: bool,
}

impl Ring {
    /// Sets up a ring on a packet socket, for whole packets or for their headers. The socket must not be
    /// bound yet: packets that it has received already would be lost.
    ///
    /// # Errors
    /// Errors of `setsockopt(2)` and `mmap(2)`: a kernel without `CONFIG_PACKET_MMAP`, or too little memory.
    pub fn of(socket: &impl AsFd, is_whole: bool) -> io::Result<Ring> {
        let (size, count) = if is_whole { (WHOLE_FRAME, WHOLE_FRAMES) } else { (FRAME, FRAMES) };
        let bytes = NonZeroUsize::new(size * count).ok_or(io::ErrorKind::InvalidInput)?;
        set(socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as c_int))?;
        let request = tpacket_req {
            tp_block_size: number(BLOCK)?,
            tp_block_nr: number(bytes.get() / BLOCK)?,
            tp_frame_size: number(size)?,
            tp_frame_nr: number(count)?,
        };
        set(socket, libc::PACKET_RX_RING, &request)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice, of a socket whose ring has this size:
        // no memory of this program is replaced.
        let frames = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, socket, 0) }?;
        Ok(Ring { frames: frames.cast(), size, count, bytes, next: 0, is_taken: false })
    }

    /// Whether frames hold whole packets.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.size == WHOLE_FRAME
    }

    /// The next waiting packet, beginning with its IP header, in the kernel's frame; the next call returns
    /// that frame to the kernel.
    pub fn take(&mut self) -> Option<&[u8]> {
        self.give_back();
        // SAFETY: `next` is below `count`, so the whole frame lies in the mapping.
        let frame = unsafe { self.frames.add(self.next * self.size) };
        // What the kernel wrote before it set this is seen after it.
        if self.status(self.next).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the frame is ours until we set its status, and its head lies in it.
        let (net, length) = unsafe {
            let net = frame.add(offset_of!(tpacket2_hdr, tp_net)).cast::<u16>().read();
            let length = frame.add(offset_of!(tpacket2_hdr, tp_snaplen)).cast::<u32>().read();
            (usize::from(net), usize::try_from(length).unwrap_or(self.size))
        };
        let length = length.min(self.size.saturating_sub(net));
        let start = net.min(self.size);
        self.next = if self.next + 1 == self.count { 0 } else { self.next + 1 };
        self.is_taken = true;
        self.prefetch(self.next);
        // SAFETY: from `start` there are at least `length` bytes in the frame. Nobody writes them while the frame is
        // ours, and what we return borrows `self`, so it is gone when the frame is given back.
        Some(unsafe { NonNull::slice_from_raw_parts(frame.add(start), length).as_ref() })
    }

    /// Prefetches the beginning of a frame. Another processor often wrote it, and waiting for that memory
    /// takes longer than parsing the packet.
    fn prefetch(&self, number: usize) {
        #[cfg(target_arch = "x86_64")]
        for at in (0..self.size.min(PREFETCHED)).step_by(CACHE_LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: `number` is below `count` and `at` below `size`, so this lies in the mapping; it is a hint and
            // reads nothing.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(self.frames.add(number * self.size + at).cast().as_ptr());
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = number;
    }

    /// Gives the frame of the packet that was taken last back to the kernel.
    fn give_back(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            let last = self.next.checked_sub(1).unwrap_or(self.count - 1);
            // What we read was read before the kernel sees this.
            self.status(last).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    /// The status of a frame, which has a number below `count`.
    fn status(&self, number: usize) -> &AtomicU32 {
        // SAFETY: the whole frame lies in the mapping. The first field of its head is its status, aligned as a frame
        // is (packet(7): to 16), which we and the kernel only use as a whole.
        unsafe { AtomicU32::from_ptr(self.frames.add(number * self.size).cast().as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: it is mapped with this size, and nothing that points into it outlives this.
        let _ = unsafe { munmap(self.frames.cast(), self.bytes.get()) };
    }
}

/// Joins two sockets in a fanout group (`PACKET_FANOUT`) whose packets all go to `from`, until [`hand_over`].
/// Both are bound to the same interface. The first time, `from` misses packets for the nanoseconds between
/// leaving the kernel's list as a socket and entering it as a group.
///
/// # Errors
/// Errors of `setsockopt(2)`, e.g. on kernels before 4.12; `from` then receives as before.
pub fn share(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    let mode = libc::PACKET_FANOUT_CBPF << 16;
    // It may be in a group already, since an earlier handover.
    if get::<u32>(from, libc::PACKET_FANOUT)? == 0 {
        set(from, libc::PACKET_FANOUT, &(mode | libc::PACKET_FANOUT_FLAG_UNIQUEID << 16))?;
    }
    prefer(from, 0)?;
    let group = get::<u32>(from, libc::PACKET_FANOUT)? & 0xffff;
    set(to, libc::PACKET_FANOUT, &(mode | group))
}

/// Directs all packets of the group to the other socket: none is lost, and none reaches both.
///
/// # Errors
/// Errors of `setsockopt(2)`; nothing is changed then.
pub fn hand_over(from: &impl AsFd) -> io::Result<()> {
    prefer(from, 1)
}

/// Directs all packets of a group to the first (0) or second (1) socket that joined it. A single member gets
/// them in any case.
fn prefer(member: &impl AsFd, place: u32) -> io::Result<()> {
    const RETURN: u16 = 0x06;
    let mut program = [sock_filter { code: RETURN, jt: 0, jf: 0, k: place }];
    let program = sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set(member, libc::PACKET_FANOUT_DATA, &program)
}

/// Types for which every bit pattern is a value.
trait Numbers {}

impl Numbers for u32 {}
impl Numbers for [u32; 2] {}

fn number(size: usize) -> io::Result<u32> {
    u32::try_from(size).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Sets an option of packet(7) that nix does not have.
fn set<T>(socket: &impl AsFd, option: c_int, value: &T) -> io::Result<()> {
    let length = socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let descriptor = socket.as_fd().as_raw_fd();
    let value = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: `value` points to `length` bytes, which the kernel reads, and does not keep.
    let result = unsafe { libc::setsockopt(descriptor, libc::SOL_PACKET, option, value, length) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// How many packets passed the filter since the last call, and how many of them were dropped because the
/// buffer was full.
///
/// # Errors
/// Errors of `getsockopt(2)`.
pub fn statistics(socket: &impl AsFd) -> io::Result<(u32, u32)> {
    get(socket, libc::PACKET_STATISTICS).map(|[all, lost]: [u32; 2]| (all, lost))
}

/// Reads an option of packet(7) that nix does not have.
fn get<T: Default + Numbers>(socket: &impl AsFd, option: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let descriptor = socket.as_fd().as_raw_fd();
    let into = std::ptr::from_mut(&mut value).cast::<c_void>();
    // SAFETY: `into` points to `length` bytes that are ours to be written, and whatever is written there is a number.
    let result = unsafe { libc::getsockopt(descriptor, libc::SOL_PACKET, option, into, &raw mut length) };
    Errno::result(result).map(|_| value).map_err(io::Error::from)
}
