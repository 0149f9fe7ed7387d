//! Packets of one interface, from below the firewall.
//!
//! A cooked `AF_PACKET` socket (packet(7)): its packets begin at the IP header whatever the link. It
//! is made with protocol 0, so that it hears nothing until pnet binds it, and then the filter is on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use pnet::datalink::{self, Channel, DataLinkReceiver, NetworkInterface};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::daemon::error::{CaptureError, CaptureProblem};
use crate::filter::{self, MAX_INSTRUCTIONS, SNAPSHOT, Surroundings};
use crate::interest::Interest;
use crate::interfaces::{Interface, Layout};

/// Bytes of packets that may wait for us; the kernel counts its own overhead too.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Programs shorter than this are not tried when memory for a longer one is refused.
const MIN_INSTRUCTIONS: usize = 128;

/// An interface that is being listened on.
pub struct Capture {
    /// What is known of the interface.
    pub interface: Interface,
    /// A second descriptor of the socket that pnet reads from.
    control: Socket,
    receiver: Box<dyn DataLinkReceiver>,
    only_v4: bool,
}

impl Capture {
    /// Listens on an interface for what is of `interest`. One that is down is heard from when it
    /// comes up.
    ///
    /// # Errors
    /// [`CaptureError`] says which operation failed, and why.
    pub fn open(
        interface: Interface,
        layout: &Layout,
        interest: &Interest,
        only_v4: bool,
    ) -> Result<Capture, CaptureError> {
        let fail = |problem| CaptureError { interface: interface.name.clone(), problem };
        let because = |operation| move |error| fail(CaptureProblem::Failed(operation, error));
        let control = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))
            .map_err(because("packet socket"))?;
        // More than the usual buffer needs CAP_NET_ADMIN; without it the usual one has to do.
        if setsockopt(&control, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&control, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        attach(&control, &interface, layout, interest, only_v4).map_err(because("packet filter"))?;
        let socket = control.try_clone().map_err(because("packet socket"))?;
        let config = datalink::Config {
            read_timeout: Some(Duration::ZERO),
            read_buffer_size: SNAPSHOT as usize,
            write_buffer_size: 0,
            promiscuous: false,
            // pnet binds it, and closes it in the end.
            socket_fd: Some(socket.into_raw_fd()),
            ..datalink::Config::default()
        };
        let link = NetworkInterface {
            name: interface.name.clone(),
            description: String::new(),
            index: interface.index,
            mac: None,
            ips: Vec::new(),
            flags: 0,
        };
        match datalink::channel(&link, config).map_err(because("bind"))? {
            Channel::Ethernet(_, receiver) => Ok(Capture { interface, control, receiver, only_v4 }),
            _ => Err(because("bind")(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Listens for something else from now on.
    ///
    /// # Errors
    /// What the operating system says; then it listens for what it did.
    pub fn set_interest(&self, layout: &Layout, interest: &Interest) -> io::Result<()> {
        attach(&self.control, &self.interface, layout, interest, self.only_v4)
    }

    /// The next packet that waits, beginning with its IP header.
    ///
    /// An interface that goes down puts an error on the socket; taking it off lets the socket go on
    /// when the interface comes up again.
    pub fn take(&mut self) -> Option<&[u8]> {
        match self.receiver.next() {
            Ok(packet) => Some(packet),
            Err(error) => {
                if error.kind() != io::ErrorKind::TimedOut {
                    let _ = self.control.take_error();
                }
                None
            }
        }
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// Puts the program on the socket, a coarser one where the kernel has no memory for the exact one
/// (`net.core.optmem_max`).
fn attach(
    socket: &Socket,
    interface: &Interface,
    layout: &Layout,
    interest: &Interest,
    only_v4: bool,
) -> io::Result<()> {
    let around = Surroundings {
        here: &layout.here,
        loopback: interface.is_loopback.then_some(interface.index),
        only_v4,
        several: layout.several.as_ref(),
    };
    let mut budget = MAX_INSTRUCTIONS;
    loop {
        let program: Vec<SockFilter> = filter::program(interest, around, budget)
            .into_iter()
            .map(|instruction| {
                SockFilter::new(instruction.code, instruction.jt, instruction.jf, instruction.k)
            })
            .collect();
        match socket.attach_filter(&program) {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory && budget > MIN_INSTRUCTIONS => {
                budget = program.len().min(budget) / 2;
            }
            result => return result,
        }
    }
}
