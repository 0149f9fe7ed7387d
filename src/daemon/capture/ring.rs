//! Packets in memory that the kernel and we share (packet(7), `PACKET_RX_RING`, version 2): many
//! of them cost one system call. And how packets come to a socket with a ring instead of one without,
//! while they come.
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

/// Bytes of a frame: one packet, as far as the filter lets it through, and the kernel's head (80).
const FRAME: usize = 256;
/// Packets that may wait for us: a megabyte, 27 milliseconds of 150,000 packets a second.
const FRAMES: usize = 4096;
/// The same for packets as a whole: four megabytes.
const WHOLE_FRAME: usize = 2048;
const WHOLE_FRAMES: usize = 2048;
/// Bytes of a frame that are fetched ahead: the kernel's head and an everyday single packet.
#[cfg(target_arch = "x86_64")]
const PREFETCHED: usize = 320;
/// Bytes that the processor fetches at once.
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
    /// The frame that is filled next.
    next: usize,
    /// The frame before it is still ours.
    is_taken: bool,
}

impl Ring {
    /// Gives a packet socket a ring, for packets as a whole or for their heads. It must not be bound yet: what it heard before would be lost.
    ///
    /// # Errors
    /// What the operating system says: a kernel without `CONFIG_PACKET_MMAP`, or too little memory.
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

    /// Whether packets come as a whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.size == WHOLE_FRAME
    }

    /// The next packet that waits, beginning with its IP header. It stays where the kernel put it, and the frame goes
    /// back to the kernel with the next call.
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
        self.next = (self.next + 1) % self.count;
        self.is_taken = true;
        self.prefetch(self.next);
        // SAFETY: from `start` there are at least `length` bytes in the frame. Nobody writes them while the frame is
        // ours, and what we return borrows `self`, so it is gone when the frame is given back.
        Some(unsafe { NonNull::slice_from_raw_parts(frame.add(start), length).as_ref() })
    }

    /// Lets the processor fetch the beginning of a frame ahead of its use. Often another processor wrote it: to wait for its
    /// memory takes longer than to parse the packet.
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

/// Makes two sockets a group (`PACKET_FANOUT`) whose packets all go to `from`, until they are
/// [handed over](hand_over). Both are bound to the same interface. The first time, `from` is deaf for the
/// nanoseconds between leaving the kernel's list by itself and entering it as a group.
///
/// # Errors
/// What the operating system says, and then nothing is changed for `from`: a kernel before 4.12.
pub fn share(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    let mode = libc::PACKET_FANOUT_CBPF << 16;
    // Of an earlier change it may be in a group already.
    if get::<u32>(from, libc::PACKET_FANOUT)? == 0 {
        set(from, libc::PACKET_FANOUT, &(mode | libc::PACKET_FANOUT_FLAG_UNIQUEID << 16))?;
    }
    prefer(from, 0)?;
    let group = get::<u32>(from, libc::PACKET_FANOUT)? & 0xffff;
    set(to, libc::PACKET_FANOUT, &(mode | group))
}

/// Lets all packets of the group go to the other socket from now on: none is lost, and none comes to both.
///
/// # Errors
/// What the operating system says, and then nothing is changed.
pub fn hand_over(from: &impl AsFd) -> io::Result<()> {
    prefer(from, 1)
}

/// Gives all packets of a group to the member that was the first (0) or second (1) to join it. A single member
/// gets them whatever this says.
fn prefer(member: &impl AsFd, place: u32) -> io::Result<()> {
    const RETURN: u16 = 0x06;
    let mut program = [sock_filter { code: RETURN, jt: 0, jf: 0, k: place }];
    let program = sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set(member, libc::PACKET_FANOUT_DATA, &program)
}

/// Whole numbers: any bytes are such.
trait Numbers {}

impl Numbers for u32 {}
impl Numbers for [u32; 2] {}

fn number(size: usize) -> io::Result<u32> {
    u32::try_from(size).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Sets an option of packet(7) that nix has no name for.
fn set<T>(socket: &impl AsFd, option: c_int, value: &T) -> io::Result<()> {
    let length = socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let descriptor = socket.as_fd().as_raw_fd();
    let value = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: `value` points to `length` bytes, which the kernel reads, and does not keep.
    let result = unsafe { libc::setsockopt(descriptor, libc::SOL_PACKET, option, value, length) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// How many packets passed the filter since this was asked last, and how many of them were lost for want of room.
///
/// # Errors
/// What the operating system says.
pub fn statistics(socket: &impl AsFd) -> io::Result<(u32, u32)> {
    get(socket, libc::PACKET_STATISTICS).map(|[all, lost]: [u32; 2]| (all, lost))
}

/// Reads an option of packet(7) that nix has no name for: whole numbers without any other bytes among them.
fn get<T: Default + Numbers>(socket: &impl AsFd, option: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let descriptor = socket.as_fd().as_raw_fd();
    let into = std::ptr::from_mut(&mut value).cast::<c_void>();
    // SAFETY: `into` points to `length` bytes that are ours to be written, and whatever is written there is a number.
    let result = unsafe { libc::getsockopt(descriptor, libc::SOL_PACKET, option, into, &raw mut length) };
    Errno::result(result).map(|_| value).map_err(io::Error::from)
}
