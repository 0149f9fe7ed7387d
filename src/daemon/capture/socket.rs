//! Captures the packets of one interface, below the firewall.
//!
//! A cooked `AF_PACKET` socket (packet(7)): packets begin at the IP header on every kind of link. It is
//! created with protocol 0, so it receives nothing until pnet binds it, when the filter is attached already.
//!
//! Packets are read through pnet, with one or two system calls each. At high rates a second socket with a
//! ring takes over, which is read without system calls, and is given up when the rate falls: its memory would
//! be a large part of the daemon's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use pnet::datalink::{self, Channel, DataLinkReceiver, NetworkInterface};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::daemon::capture::ring::{self, Ring};
use crate::door::knock::Knock;
use crate::door::spa::sealed::UncheckedPacket;
use crate::filter::bpf::Instruction;
use crate::filter::bursts::{BurstDetector, RING_HOLD_TIME};
use crate::filter::interest::Interest;
use crate::filter::interfaces::{Interface, Layout};
use crate::filter::trouble::{CaptureError, CaptureProblem, Code, Operation, Trouble};
use crate::filter::{self, HostProperties, MAX_INSTRUCTIONS, WHOLE_SNAPSHOT};
use crate::packet;

/// Receive buffer in bytes; the kernel counts its own overhead too.
const RECEIVE_BUFFER: usize = 1 << 20;

/// When the kernel refuses memory for a filter, coarser ones down to about this many instructions are tried.
const MIN_INSTRUCTIONS: usize = 128;

/// Provides unbound packet sockets: the watcher cannot open one itself.
pub type Sockets<'a> = dyn FnMut() -> Result<OwnedFd, Code> + 'a;

/// Opens a packet socket that receives nothing until it is bound, for a process that may not open one:
/// everything after `socket(2)` needs no privilege.
///
/// # Errors
/// Errors of `socket(2)`, e.g. `EPERM` without `CAP_NET_RAW`.
pub fn open_unbound() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    // A larger buffer than `rmem_max` needs CAP_NET_ADMIN; without it the default limit has to do.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    Ok(socket.into())
}

/// A capture on one interface.
pub struct Capture {
    /// The interface, as the last survey found it.
    pub interface: Interface,
    /// Measures the packet rate.
    pub bursts: BurstDetector,
    socket: PacketSocket,
    /// After a switch: the previous socket, and whether it may still hold packets.
    previous: Option<(PacketSocket, bool)>,
    /// When a switch may be tried next, as uptime; later after a failure.
    next_try: Duration,
    /// The last switch failed.
    has_failed: bool,
    only_v4: bool,
    /// Whole packets are needed, not only their headers.
    wants_whole: bool,
    /// Packets that were received, and those that were dropped because the buffer was full, up to the last
    /// [`count`](Self::count).
    counted: (u64, u64),
    /// The last datagram, if it may be a single packet.
    datagram: UncheckedPacket,
}

/// Names the operation that failed.
fn failed_at(operation: Operation) -> impl Fn(io::Error) -> (Operation, Code) {
    move |error| (operation, Code::of(&error))
}

/// A packet socket, and what its packets are read with.
struct PacketSocket {
    /// A duplicate of the descriptor that pnet has.
    control: Socket,
    receiver: Box<dyn DataLinkReceiver>,
    ring: Option<Ring>,
}

/// The result of [`Capture::take`].
pub enum Taken {
    /// A packet that may be a knock.
    Knock(Knock),
    /// A packet that passed the filter but is no knock.
    Other,
    /// No packet waits.
    Nothing,
}

impl Capture {
    /// Opens a capture on an interface, with a filter for `interest`. On an interface that is down, packets
    /// arrive once it comes up.
    ///
    /// # Errors
    /// [`CaptureError`] with the operation that failed, and its error code.
    pub fn open(
        interface: Interface,
        layout: &Layout,
        interest: &Interest,
        only_v4: bool,
        sockets: &mut Sockets<'_>,
    ) -> Result<Capture, CaptureError> {
        let socket = PacketSocket::open(&interface, None, sockets, &|control| {
            attach(control, &programs(&interface, layout, interest, only_v4))
        });
        match socket {
            Ok(socket) => Ok(Capture {
                interface,
                bursts: BurstDetector::default(),
                socket,
                previous: None,
                next_try: Duration::ZERO,
                has_failed: false,
                only_v4,
                wants_whole: interest.has_single_packets(),
                counted: (0, 0),
                datagram: UncheckedPacket::default(),
            }),
            Err((operation, code)) => Err(CaptureError {
                interface: interface.name,
                problem: CaptureProblem::Failed(operation, code),
            }),
        }
    }

    /// Attaches a filter for another interest.
    ///
    /// # Errors
    /// Errors of `setsockopt(2)`; the previous filter stays in force.
    pub fn set_interest(&mut self, layout: &Layout, interest: &Interest) -> io::Result<()> {
        self.wants_whole = interest.has_single_packets();
        attach(&self.socket.control, &programs(&self.interface, layout, interest, self.only_v4))
    }

    /// Whether the packet rate asks for a switch between socket and ring.
    #[must_use]
    pub fn is_to_change(&self, uptime: Duration) -> bool {
        let is_ring_short =
            self.wants_whole && self.socket.ring.as_ref().is_some_and(|ring| !ring.is_whole());
        let is_wanted = self.bursts.wants_ring(uptime) != self.has_ring() || is_ring_short;
        is_wanted && self.next_try <= uptime && !self.previous_may_have_packets()
    }

    /// Whether the previous socket may still hold packets.
    fn previous_may_have_packets(&self) -> bool {
        matches!(self.previous, Some((_, true)))
    }

    /// Whether packets are read from a ring.
    #[must_use]
    pub fn has_ring(&self) -> bool {
        self.socket.ring.is_some()
    }

    /// When [`is_to_change`](Self::is_to_change) may become true without a packet, as uptime.
    #[must_use]
    pub fn next_change(&self) -> Option<Duration> {
        let ring_end = self.has_ring().then(|| self.bursts.ring_end().unwrap_or_default())?;
        Some(ring_end.max(self.next_try))
    }

    /// Switches between socket and ring. No packet is lost if the buffer holds those of the switch (some ten
    /// milliseconds), and none comes twice. If the switch fails (no memory, no descriptor, a kernel without
    /// rings), the capture goes on as before and tries again later; the first failure since a success is
    /// returned. Does nothing while the previous socket still holds packets.
    pub fn change(
        &mut self,
        layout: &Layout,
        interest: &Interest,
        uptime: Duration,
        sockets: &mut Sockets<'_>,
    ) -> Option<Trouble> {
        if self.previous_may_have_packets() {
            return None;
        }
        // Closed first: as the first member of the group it would receive packets again.
        self.previous = None;
        let with_ring = (!self.has_ring()).then_some(interest.has_single_packets());
        // The new socket rejects every packet until it is in the group.
        let new = PacketSocket::open(&self.interface, with_ring, sockets, &deafen).and_then(|new| {
            let programs = programs(&self.interface, layout, interest, self.only_v4);
            ring::share(&self.socket.control, &new.control)
                .and_then(|()| attach(&new.control, &programs))
                .and_then(|()| ring::hand_over(&self.socket.control))
                .map_err(failed_at(Operation::Fanout))?;
            Ok(new)
        });
        let had_failed = std::mem::replace(&mut self.has_failed, new.is_err());
        match new {
            Ok(new) => {
                self.count();
                self.previous = Some((std::mem::replace(&mut self.socket, new), true));
                None
            }
            Err((operation, code)) => {
                self.next_try = uptime.saturating_add(RING_HOLD_TIME);
                (!had_failed).then(|| Trouble::Switch(self.interface.name.clone(), operation, code))
            }
        }
    }

    /// How many packets were received so far, and how many were dropped because the buffer was full.
    pub fn count(&mut self) -> (u64, u64) {
        // The kernel resets its counters with each read.
        if let Ok((all, lost)) = ring::statistics(&self.socket.control) {
            self.counted.0 += u64::from(all.saturating_sub(lost));
            self.counted.1 += u64::from(lost);
        }
        self.counted
    }

    /// The uptime until which packets are left to accumulate, if they are.
    #[must_use]
    pub fn rest(&self) -> Option<Duration> {
        // The previous socket may hold packets that no event announces.
        if self.previous.is_some() { Some(Duration::ZERO) } else { self.bursts.batch_end() }
    }

    /// The last packet that was [taken](Self::take), if it is a datagram that may be a single packet.
    #[must_use]
    pub fn datagram(&self) -> Option<&UncheckedPacket> {
        Some(&self.datagram).filter(|it| !it.is_empty())
    }

    /// Takes the next waiting packet.
    pub fn take(&mut self) -> Taken {
        if let Some((previous, may_have_packets)) = &mut self.previous
            && *may_have_packets
        {
            let result = previous.take(&mut self.datagram);
            *may_have_packets = !matches!(result, Taken::Nothing);
            if *may_have_packets {
                return result;
            }
        }
        let result = self.socket.take(&mut self.datagram);
        if matches!(result, Taken::Nothing) {
            // Closed only now: closing a packet socket takes the kernel some ten milliseconds.
            self.previous = None;
        }
        result
    }
}

impl PacketSocket {
    /// Prepares a socket, gives it a ring on demand (`Some(true)` for whole packets), and binds it. An error
    /// names the operation that failed.
    fn open(
        interface: &Interface,
        with_ring: Option<bool>,
        sockets: &mut Sockets<'_>,
        prepare: &dyn Fn(&Socket) -> io::Result<()>,
    ) -> Result<PacketSocket, (Operation, Code)> {
        let control = Socket::from(sockets().map_err(|code| (Operation::Socket, code))?);
        prepare(&control).map_err(failed_at(Operation::Filter))?;
        let ring = with_ring
            .map(|is_whole| Ring::of(&control, is_whole))
            .transpose()
            .map_err(failed_at(Operation::Ring))?;
        let socket = control.try_clone().map_err(failed_at(Operation::Socket))?;
        let config = datalink::Config {
            read_timeout: Some(Duration::ZERO),
            read_buffer_size: WHOLE_SNAPSHOT as usize,
            write_buffer_size: 0,
            promiscuous: false,
            // pnet binds this descriptor, and closes it when the receiver is dropped.
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
        match datalink::channel(&link, config).map_err(failed_at(Operation::Bind))? {
            Channel::Ethernet(_, receiver) => Ok(PacketSocket { control, receiver, ring }),
            _ => Err(failed_at(Operation::Bind)(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Takes the next waiting packet.
    ///
    /// An interface that goes down leaves an error on the socket; clearing it lets the socket receive again
    /// when the interface comes up.
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    fn take(&mut self, datagram: &mut UncheckedPacket) -> Taken {
        datagram.set(None);
        let packet = match &mut self.ring {
            Some(ring) => ring.take().ok_or_else(|| io::ErrorKind::WouldBlock.into()),
            None => self.receiver.next(),
        };
        match packet {
            Ok(packet) => {
                let Some(knock) = packet::parse(packet) else { return Taken::Other };
                datagram.set(packet::payload(packet));
                Taken::Knock(knock)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::TimedOut {
                    let _ = self.control.take_error();
                }
                Taken::Nothing
            }
        }
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.control.as_fd()
    }
}

/// Filter programs for the interest: the exact one, or a coarser one for a smaller budget of instructions.
fn programs<'a>(
    interface: &'a Interface,
    layout: &'a Layout,
    interest: &'a Interest,
    only_v4: bool,
) -> impl Fn(usize) -> Vec<Instruction> + 'a {
    let host = HostProperties {
        here: &layout.here,
        loopback: interface.is_loopback.then_some(interface.index),
        only_v4,
        count_once: layout.count_once.as_ref(),
    };
    move |budget| filter::program(interest, host, budget)
}

/// Attaches the program, or a coarser one where the kernel has no memory for the exact one
/// (`net.core.optmem_max`).
fn attach(socket: &Socket, programs: &dyn Fn(usize) -> Vec<Instruction>) -> io::Result<()> {
    let mut budget = MAX_INSTRUCTIONS;
    loop {
        let program: Vec<SockFilter> = programs(budget)
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

/// Attaches a filter that rejects every packet.
fn deafen(socket: &Socket) -> io::Result<()> {
    attach(socket, &|_| filter::reject_all())
}
