//! Echo requests by Windows' own API, which needs no administrator; sockets for them do.
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

/// The room for one answer besides its data, in bytes: the headers of the answer (at most 40), an ICMP error (8)
/// and an I/O status block (16), rounded up.
const ANSWER: usize = 128;
/// How long Windows waits for the answer, in ms.
const TIMEOUT: u32 = 1000;
/// How long to wait for the answer, in ms: by then the request has left, before the next knock.
const PATIENCE: u32 = 100;

/// What a router or the destination may answer instead, or that nobody does. Other failures are this machine's: no
/// request was sent.
const UNREACHABLE: [u32; 9] = [
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

/// Finds out whether echo requests can be sent to this address.
///
/// # Errors
/// They cannot: Windows has no such API, or no such address family.
pub fn check_pings(destination: IpAddr) -> io::Result<()> {
    Requests::open(destination).map(drop)
}

/// Sends one echo request with these data, at most [`MAX_ECHO`] bytes, and waits a moment for the answer. The port is
/// ignored.
///
/// # Errors
/// Windows refuses the request. A destination that cannot be reached is no error.
pub fn ping(mut destination: SocketAddr, data: Vec<u8>) -> io::Result<()> {
    destination.set_port(0);
    let mut pending = Pending {
        requests: Requests::open(destination.ip())?,
        event: Event::new()?,
        answer: vec![0; (ANSWER + data.len()).div_ceil(size_of::<u64>())],
        data,
        from: Box::new(SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))),
        to: Box::new(SockAddr::from(destination)),
    };
    if pending.send(destination)? && !pending.event.is_signaled_within(PATIENCE) {
        // Windows may still write the answer and signal the event: they stay until the process ends. That is at
        // most 3 kB for each unanswered ping of a program that sends a few.
        mem::forget(pending);
    }
    Ok(())
}

/// Whether a request failed because its destination cannot be reached, or was answered with an ICMP error.
fn is_unreachable(error: &io::Error) -> bool {
    let code = error.raw_os_error().and_then(|code| u32::try_from(code).ok());
    code.is_some_and(|code| UNREACHABLE.contains(&code))
        || matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
}

/// A request and all that Windows uses until it is answered.
struct Pending {
    requests: Requests,
    event: Event,
    data: Vec<u8>,
    /// Words, because the structures in it are aligned.
    answer: Vec<u64>,
    /// The addresses of a request by IPv6. Boxed, because the documentation does not say that they are copied.
    from: Box<SockAddr>,
    to: Box<SockAddr>,
}

impl Pending {
    /// Hands the request to Windows, which uses this value until the event is signaled if the result is true.
    ///
    /// # Errors
    /// There are too many data, or Windows refuses the request.
    fn send(&mut self, destination: SocketAddr) -> io::Result<bool> {
        let length = u16::try_from(self.data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let room =
            u32::try_from(size_of_val(self.answer.as_slice())).map_err(|_| io::ErrorKind::InvalidInput)?;
        let Pending { requests: Requests(requests), event: Event(event), data, answer, from, to } = self;
        let (data, answer) = (data.as_ptr().cast::<c_void>(), answer.as_mut_ptr().cast::<c_void>());
        let (routine, context, options) = (None, ptr::null(), ptr::null());
        let answers = match destination {
            SocketAddr::V4(v4) => {
                let (from, to) = (0, u32::from_ne_bytes(v4.ip().octets()));
                // SAFETY: both handles are open. `data` and `answer` have the lengths given with them, and the caller
                // keeps them, and the handles, until the event is signaled. With an event there is no routine to
                // call, and the options may be null.
                unsafe {
                    IcmpSendEcho2Ex(
                        *requests, *event, routine, context, from, to, data, length, options, answer, room,
                        TIMEOUT,
                    )
                }
            }
            SocketAddr::V6(_) => {
                let (from, to) = (from.as_ptr().cast(), to.as_ptr().cast());
                // SAFETY: as above; and both addresses are those of IPv6, and are kept as long as the data.
                unsafe {
                    Icmp6SendEcho2(
                        *requests, *event, routine, context, from, to, data, length, options, answer, room,
                        TIMEOUT,
                    )
                }
            }
        };
        let error = io::Error::last_os_error();
        let code = error.raw_os_error().and_then(|code| u32::try_from(code).ok());
        if answers == 0 && code == Some(ERROR_IO_PENDING) {
            return Ok(true);
        }
        if answers > 0 || is_unreachable(&error) { Ok(false) } else { Err(error) }
    }
}

/// A handle for the requests to one address family.
struct Requests(HANDLE);

impl Requests {
    fn open(destination: IpAddr) -> io::Result<Requests> {
        // SAFETY: these functions take nothing, and the handle that they return is checked.
        let handle = unsafe {
            match destination {
                IpAddr::V4(_) => IcmpCreateFile(),
                IpAddr::V6(_) => Icmp6CreateFile(),
            }
        };
        if handle == INVALID_HANDLE_VALUE { Err(io::Error::last_os_error()) } else { Ok(Requests(handle)) }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and used by nothing else.
        unsafe { IcmpCloseHandle(self.0) };
    }
}

/// What Windows signals when a request is answered, or has failed.
struct Event(HANDLE);

impl Event {
    fn new() -> io::Result<Event> {
        let (manual_reset, signaled) = (1, 0);
        // SAFETY: neither attributes nor a name are needed, and the handle that it returns is checked.
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
        // SAFETY: the handle is open, and used by nothing else.
        unsafe { CloseHandle(self.0) };
    }
}
