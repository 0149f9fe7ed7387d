//! Packets of one interface, from below the firewall.
//!
//! A cooked `AF_PACKET` socket (packet(7)): its packets begin at the IP header whatever the link. It
//! is made with protocol 0, so that it hears nothing until pnet binds it, and then the filter is on.
//!
//! Packets come through pnet, one system call or two for each. When very many come at once, another
//! socket takes over, with a ring that is read without system calls, and that is given back when it
//! is calm again: its memory is a good part of what the whole daemon has.

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
use crate::filter::bursts::{BurstDetector, RING_KEPT};
use crate::filter::interest::Interest;
use crate::filter::interfaces::{Interface, Layout};
use crate::filter::trouble::{CaptureError, CaptureProblem, Code, Operation};
use crate::filter::{self, MAX_INSTRUCTIONS, Surroundings, WHOLE_SNAPSHOT};
use crate::packet;

/// Bytes of packets that may wait for us; the kernel counts its own overhead too.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Programs shorter than this are not tried when memory for a longer one is refused.
const MIN_INSTRUCTIONS: usize = 128;

/// Provides unbound packet sockets: the watcher may not open one itself.
pub type Sockets<'a> = dyn FnMut() -> Result<OwnedFd, Code> + 'a;

/// A packet socket that hears nothing until it is bound, for a process that may not open one: all else can be done with it
/// without any rights.
///
/// # Errors
/// What the operating system says.
pub fn bare() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    // More than the usual buffer needs CAP_NET_ADMIN; without it the usual one has to do.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    Ok(socket.into())
}

/// An interface that is being listened on.
pub struct Capture {
    /// What is known of the interface.
    pub interface: Interface,
    /// Measures how many packets come at once.
    pub bursts: BurstDetector,
    way: Way,
    /// The way that packets came until just now, and whether there may be some left.
    earlier: Option<(Way, bool)>,
    /// When to try again to change the way, as uptime; the last time that did not work.
    next_try: Duration,
    only_v4: bool,
    /// Packets are wanted as a whole.
    wants_whole: bool,
    /// Packets that passed the filter and arrived, and those that were lost, as far as they were asked for.
    counted: (u64, u64),
    /// The datagram that was taken last, if it may be a single packet.
    datagram: UncheckedPacket,
}

/// Which operation failed, and why.
fn because(operation: Operation) -> impl Fn(io::Error) -> (Operation, Code) {
    move |error| (operation, Code::of(&error))
}

/// A packet socket, and how packets are taken from it.
struct Way {
    /// A second descriptor of the socket that pnet has.
    control: Socket,
    receiver: Box<dyn DataLinkReceiver>,
    ring: Option<Ring>,
}

/// What was there to take.
pub enum Taken {
    /// A packet that may be a knock.
    Knock(Knock),
    /// A packet that is none, whatever the filter thought of it.
    Other,
    /// Nothing.
    Nothing,
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
        sockets: &mut Sockets<'_>,
    ) -> Result<Capture, CaptureError> {
        let way = Way::open(&interface, None, sockets, &|socket| {
            attach(socket, &programs(&interface, layout, interest, only_v4))
        });
        match way {
            Ok(way) => Ok(Capture {
                interface,
                bursts: BurstDetector::default(),
                way,
                earlier: None,
                next_try: Duration::ZERO,
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

    /// Listens for something else from now on.
    ///
    /// # Errors
    /// What the operating system says; then it listens for what it did.
    pub fn set_interest(&mut self, layout: &Layout, interest: &Interest) -> io::Result<()> {
        self.wants_whole = interest.has_single_packets();
        attach(&self.way.control, &programs(&self.interface, layout, interest, self.only_v4))
    }

    /// Whether packets come by the socket and should come by the ring, or the other way round, for their number.
    #[must_use]
    pub fn is_to_change(&self, uptime: Duration) -> bool {
        let is_ring_short = self.wants_whole && self.way.ring.as_ref().is_some_and(|ring| !ring.is_whole());
        let is_wanted = self.bursts.wants_ring(uptime) != self.has_ring() || is_ring_short;
        is_wanted && self.next_try <= uptime && !self.has_left()
    }

    /// Whether packets are left from the change before.
    fn has_left(&self) -> bool {
        matches!(self.earlier, Some((_, true)))
    }

    /// Whether packets come through a ring.
    #[must_use]
    pub fn has_ring(&self) -> bool {
        self.way.ring.is_some()
    }

    /// When to ask again whether it [is to change](Self::is_to_change), as uptime.
    #[must_use]
    pub fn next_change(&self) -> Option<Duration> {
        let ring_end = self.has_ring().then(|| self.bursts.ring_end().unwrap_or_default())?;
        Some(ring_end.max(self.next_try))
    }

    /// Lets packets come in the other way. None is lost where there is room for those of the meantime
    /// (some ten milliseconds), and none comes twice. Where that does not work (no memory, no
    /// descriptor, a kernel without rings) they come as they did, and it is tried again later. Nothing is done while
    /// packets are left from the change before.
    pub fn change(
        &mut self,
        layout: &Layout,
        interest: &Interest,
        uptime: Duration,
        sockets: &mut Sockets<'_>,
    ) {
        if self.has_left() {
            return;
        }
        // It is the first member of the group, to which packets would go again.
        self.earlier = None;
        let with_ring = (!self.has_ring()).then_some(interest.has_single_packets());
        // Until it shares the packets of the earlier one it must not hear any.
        let new = Way::open(&self.interface, with_ring, sockets, &deafen).and_then(|new| {
            let programs = programs(&self.interface, layout, interest, self.only_v4);
            ring::share(&self.way.control, &new.control)
                .and_then(|()| attach(&new.control, &programs))
                .and_then(|()| ring::hand_over(&self.way.control))
                .map_err(because(Operation::Fanout))?;
            Ok(new)
        });
        match new {
            Ok(new) => {
                self.count();
                self.earlier = Some((std::mem::replace(&mut self.way, new), true));
            }
            Err(_) => self.next_try = uptime.saturating_add(RING_KEPT),
        }
    }

    /// How many packets passed the filter and arrived so far, and how many were lost for want of room.
    pub fn count(&mut self) -> (u64, u64) {
        // The kernel sets its counters to 0 each time it is asked.
        if let Ok((all, lost)) = ring::statistics(&self.way.control) {
            self.counted.0 += u64::from(all.saturating_sub(lost));
            self.counted.1 += u64::from(lost);
        }
        self.counted
    }

    /// Until when packets are to gather, as uptime, if they are.
    #[must_use]
    pub fn rest(&self) -> Option<Duration> {
        // Nothing comes any more where some may be left.
        if self.earlier.is_some() { Some(Duration::ZERO) } else { self.bursts.batch_end() }
    }

    /// The packet that was [taken](Self::take) last, if it is a datagram that may be a single packet.
    #[must_use]
    pub fn datagram(&self) -> Option<&UncheckedPacket> {
        Some(&self.datagram).filter(|it| !it.is_empty())
    }

    /// The next packet that waits.
    pub fn take(&mut self) -> Taken {
        if let Some((earlier, may_have_some)) = &mut self.earlier
            && *may_have_some
        {
            let taken = earlier.take(&mut self.datagram);
            *may_have_some = !matches!(taken, Taken::Nothing);
            if *may_have_some {
                return taken;
            }
        }
        let taken = self.way.take(&mut self.datagram);
        if matches!(taken, Taken::Nothing) {
            // To close a socket takes the kernel some ten milliseconds, in which nothing is taken.
            self.earlier = None;
        }
        taken
    }
}

impl Way {
    /// A bound socket, once it is prepared; if that fails, which operation did, and why. Its ring, if it gets one, is
    /// one for packets as a whole or not.
    fn open(
        interface: &Interface,
        with_ring: Option<bool>,
        sockets: &mut Sockets<'_>,
        prepare: &dyn Fn(&Socket) -> io::Result<()>,
    ) -> Result<Way, (Operation, Code)> {
        let control = Socket::from(sockets().map_err(|code| (Operation::Socket, code))?);
        prepare(&control).map_err(because(Operation::Filter))?;
        let ring = with_ring
            .map(|is_whole| Ring::of(&control, is_whole))
            .transpose()
            .map_err(because(Operation::Ring))?;
        let socket = control.try_clone().map_err(because(Operation::Socket))?;
        let config = datalink::Config {
            read_timeout: Some(Duration::ZERO),
            read_buffer_size: WHOLE_SNAPSHOT as usize,
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
        match datalink::channel(&link, config).map_err(because(Operation::Bind))? {
            Channel::Ethernet(_, receiver) => Ok(Way { control, receiver, ring }),
            _ => Err(because(Operation::Bind)(io::ErrorKind::Unsupported.into())),
        }
    }

    /// The next packet that waits.
    ///
    /// An interface that goes down puts an error on the socket; taking it off lets the socket go on
    /// when the interface comes up again.
    fn take(&mut self, datagram: &mut UncheckedPacket) -> Taken {
        datagram.set(None);
        let packet = match &mut self.ring {
            Some(ring) => ring.take().ok_or(io::ErrorKind::WouldBlock.into()),
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
        self.way.control.as_fd()
    }
}

/// The programs for what is of interest: the exact one, and on demand coarser ones.
fn programs<'a>(
    interface: &'a Interface,
    layout: &'a Layout,
    interest: &'a Interest,
    only_v4: bool,
) -> impl Fn(usize) -> Vec<Instruction> + 'a {
    let around = Surroundings {
        here: &layout.here,
        loopback: interface.is_loopback.then_some(interface.index),
        only_v4,
        several: layout.several.as_ref(),
    };
    move |budget| filter::program(interest, around, budget)
}

/// Puts the program on the socket, a coarser one where the kernel has no memory for the exact one
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

/// Lets nothing through.
fn deafen(socket: &Socket) -> io::Result<()> {
    attach(socket, &|_| filter::reject_all())
}
