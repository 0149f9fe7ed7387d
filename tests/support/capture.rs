//! Sends and captures frames on an interface.

use std::os::fd::IntoRawFd;
use std::time::{Duration, Instant};

use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};
use socket2::{Domain, SockFilter, Socket, Type};

use super::namespace::Namespace;
use super::packet::{Seen, decode};

/// Sends frames on an interface.
pub struct Sender(Box<dyn DataLinkSender>);

impl Sender {
    pub fn new(namespace: &Namespace, interface: &str) -> Sender {
        Sender(open(namespace, interface, &[returning(0)]).0)
    }

    /// Sends one frame, as it is.
    pub fn send(&mut self, frame: &[u8]) {
        self.0.send_to(frame, None).expect("a channel that can send").expect("sending a frame");
    }
}

/// Collects the TCP and UDP packets that arrive (not those that leave) at an interface.
pub struct Capture {
    receiver: Box<dyn DataLinkReceiver>,
    pub seen: Vec<Seen>,
}

impl Capture {
    pub fn new(namespace: &Namespace, interface: &str) -> Capture {
        // Load the packet type, and reject type 4: outgoing packets.
        let (load, compare) = (SockFilter::new(0x20, 0, 0, 0xffff_f004), SockFilter::new(0x15, 0, 1, 4));
        let filter = [load, compare, returning(0), returning(0xffff)];
        Capture { receiver: open(namespace, interface, &filter).1, seen: Vec::new() }
    }

    /// Reads until `limit` is over.
    pub fn read_for(&mut self, limit: Duration) -> &[Seen] {
        self.until(usize::MAX, limit)
    }

    /// Reads until `count` packets have been seen or `limit` is over.
    pub fn until(&mut self, count: usize, limit: Duration) -> &[Seen] {
        let end = Instant::now() + limit;
        while self.seen.len() < count && Instant::now() < end {
            if let Ok(frame) = self.receiver.next() {
                self.seen.extend(decode(frame));
            }
        }
        &self.seen
    }
}

/// A packet socket on an interface. Not opened by pnet, so that programs started by other tests do not
/// inherit it, and so that the filter is attached before the first packet.
fn open(
    namespace: &Namespace,
    interface: &str,
    filter: &[SockFilter],
) -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    namespace.run(|| {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).expect("a packet socket");
        socket.attach_filter(filter).expect("a filter on a packet socket");
        let interfaces = datalink::interfaces();
        let interface = interfaces.iter().find(|i| i.name == interface).expect("an interface to listen on");
        let config = Config {
            read_timeout: Some(Duration::from_millis(10)),
            read_buffer_size: 65536,
            promiscuous: false,
            socket_fd: Some(socket.into_raw_fd()),
            ..Config::default()
        };
        match datalink::channel(interface, config) {
            Ok(Channel::Ethernet(sender, receiver)) => (sender, receiver),
            Ok(_) => panic!("not a packet channel"),
            Err(e) => panic!("binding a packet socket: {e}"),
        }
    })
}

fn returning(length: u32) -> SockFilter {
    SockFilter::new(0x06, 0, 0, length)
}
