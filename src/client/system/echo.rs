//! Sends echo requests through Windows' ICMP API, which needs no administrator; ping and raw sockets do.
//!
//! One of the few places of the crate with `unsafe` code; a test reads the sources for that.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ptr;

use socket2::SockAddr;
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_IO_PENDING, HANDLE, INVALID_HANDLE_VALUE, WAIT_OBJECT_0,
};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    IP_DEST_HOST_UNREACHABLE, IP_DEST_NET_UNREACHABLE, IP_DEST_PORT_UNREACHABLE, IP_DEST_PROT_UNREACHABLE,
    IP_DEST_UNREACHABLE, IP_REQ_TIMED_OUT, IP_TIME_EXCEEDED, IP_TTL_EXPIRED_REASSEM, IP_TTL_EXPIRED_TRANSIT,
    Icmp6CreateFile, Icmp6SendEcho2, IcmpCloseHandle, IcmpCreateFile, IcmpSendEcho2Ex,
};
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};

/// The space for one reply besides its data, in bytes: the reply's header (at most 40), an ICMP error (8) and
/// an I/O status block (16), rounded up.
const REPLY_OVERHEAD: usize = 128;
/// How long Windows waits for the reply, in ms.
const REPLY_TIMEOUT_MS: u32 = 1000;
/// How long we wait for the reply, in ms, so that the request has left before the next knock.
const MAX_WAIT_MS: u32 = 100;

/// Errors that mean a router's or the destination's ICMP error, or no reply at all. Any other error is local:
/// no request was sent.
const UNREACHABLE_ERRORS: [u32; 9] = [
    IP_DEST_NET_UNREACHABLE,
    IP_DEST_HOST_UNREACHABLE,
    IP_DEST_PROT_UNREACHABLE,
    IP_DEST_PORT_UNREACHABLE,
    IP_REQ_TIMED_OUT,
    IP_TTL_EXPIRED_TRANSIT,
    IP_TTL_EXPIRED_REASSEM,
    IP_DEST_UNREACHABLE,
    IP_TIME_EXCEEDED,
];

/// Checks whether echo requests can be sent to this address.
///
/// # Errors
/// Windows lacks the ICMP API or the address family.
pub fn check_pings(destination: IpAddr) -> io::Result<()> {
    IcmpHandle::open(destination).map(drop)
}

/// Sends one echo request with this data, and waits briefly for the reply. The port is ignored.
///
/// # Errors
/// Windows rejects the request. An unreachable destination is not an error.
pub fn ping(mut destination: SocketAddr, data: Vec<u8>) -> io::Result<()> {
    destination.set_port(0);
    let mut pending = PendingRequest {
        icmp: IcmpHandle::open(destination.ip())?,
        event: Event::new()?,
        reply: vec![0; (REPLY_OVERHEAD + data.len()).div_ceil(size_of::<u64>())],
        data,
        from: Box::new(SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))),
        to: Box::new(SockAddr::from(destination)),
    };
    if pending.send(destination)? && !pending.event.is_signaled_within(MAX_WAIT_MS) {
        // Windows may still write the reply and signal the event, so leak the buffers: at most 3 kB for each
        // unanswered ping of a program that sends a few.
        mem::forget(pending);
    }
    Ok(())
}

/// Whether a request failed because its destination is unreachable, or was answered by an ICMP error.
fn is_unreachable(error: &io::Error) -> bool {
    let code = error.raw_os_error().and_then(|code| u32::try_from(code).ok());
    code.is_some_and(|code| UNREACHABLE_ERRORS.contains(&code))
        || matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
}

/// A request, with everything that Windows uses until the reply.
struct PendingRequest {
    icmp: IcmpHandle,
    event: Event,
    data: Vec<u8>,
    /// Made of u64, as Windows writes aligned structures into it.
    reply: Vec<u64>,
    /// The addresses of an IPv6 request. Boxed, because the documentation does not say that Windows copies
    /// them.
    from: Box<SockAddr>,
    to: Box<SockAddr>,
}

impl PendingRequest {
    /// Hands the request to Windows. If this returns true, Windows uses this value until the event is
    /// signaled.
    ///
    /// # Errors
    /// The data is too long, or Windows rejects the request.
    fn send(&mut self, destination: SocketAddr) -> io::Result<bool> {
        let length = u16::try_from(self.data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let reply_size =
            u32::try_from(size_of_val(self.reply.as_slice())).map_err(|_| io::ErrorKind::InvalidInput)?;
        let PendingRequest { icmp: IcmpHandle(icmp), event: Event(event), data, reply, from, to } = self;
        let (data, reply) = (data.as_ptr().cast::<c_void>(), reply.as_mut_ptr().cast::<c_void>());
        let (routine, context, options) = (None, ptr::null(), ptr::null());
        let replies = match destination {
            SocketAddr::V4(v4) => {
                let (from, to) = (0, u32::from_ne_bytes(v4.ip().octets()));
                // SAFETY: both handles are open. `data` and `reply` have the lengths passed with them, and
                // the caller keeps them and the handles until the event is signaled. With an event there is
                // no callback, and the options may be null.
                unsafe {
                    IcmpSendEcho2Ex(
                        *icmp,
                        *event,
                        routine,
                        context,
                        from,
                        to,
                        data,
                        length,
                        options,
                        reply,
                        reply_size,
                        REPLY_TIMEOUT_MS,
                    )
                }
            }
            SocketAddr::V6(_) => {
                let (from, to) = (from.as_ptr().cast(), to.as_ptr().cast());
                // SAFETY: as above; both addresses are IPv6 and live as long as the data.
                unsafe {
                    Icmp6SendEcho2(
                        *icmp,
                        *event,
                        routine,
                        context,
                        from,
                        to,
                        data,
                        length,
                        options,
                        reply,
                        reply_size,
                        REPLY_TIMEOUT_MS,
                    )
                }
            }
        };
        let error = io::Error::last_os_error();
        let code = error.raw_os_error().and_then(|code| u32::try_from(code).ok());
        if replies == 0 && code == Some(ERROR_IO_PENDING) {
            return Ok(true);
        }
        if replies > 0 || is_unreachable(&error) { Ok(false) } else { Err(error) }
    }
}

/// An ICMP handle for one address family.
struct IcmpHandle(HANDLE);

impl IcmpHandle {
    fn open(destination: IpAddr) -> io::Result<IcmpHandle> {
        // SAFETY: these functions take no arguments, and the returned handle is checked.
        let handle = unsafe {
            match destination {
                IpAddr::V4(_) => IcmpCreateFile(),
                IpAddr::V6(_) => Icmp6CreateFile(),
            }
        };
        if handle == INVALID_HANDLE_VALUE { Err(io::Error::last_os_error()) } else { Ok(IcmpHandle(handle)) }
    }
}

impl Drop for IcmpHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing else uses it.
        unsafe { IcmpCloseHandle(self.0) };
    }
}

/// An event that Windows signals when a request is answered or has failed.
struct Event(HANDLE);

impl Event {
    fn new() -> io::Result<Event> {
        let (manual_reset, signaled) = (1, 0);
        // SAFETY: attributes and name may be null, and the returned handle is checked.
        let handle = unsafe { CreateEventW(ptr::null(), manual_reset, signaled, ptr::null()) };
        if handle.is_null() { Err(io::Error::last_os_error()) } else { Ok(Event(handle)) }
    }

    fn is_signaled_within(&self, milliseconds: u32) -> bool {
        // SAFETY: the handle is open.
        unsafe { WaitForSingleObject(self.0, milliseconds) == WAIT_OBJECT_0 }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing else uses it.
        unsafe { CloseHandle(self.0) };
    }
}
