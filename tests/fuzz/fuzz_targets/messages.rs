//! The messages between the processes: bytes that decode to a message are its only encoding, and each
//! message decodes to itself.
#![no_main]

use std::net::IpAddr;
use std::time::Duration;

use arbitrary::Arbitrary;
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::Turn;
use knocking::door::misfit::Misfit;
use knocking::door::sequence::Stage;
use knocking::door::spa::sealed::PacketId;
use knocking::filter::interfaces::State;
use knocking::filter::trouble::{CaptureError, CaptureProblem, Code, Operation, Trouble};
use knocking::fleet::message::{FromKnockd, Shared, ToKnockd, VERSION};
use knocking::octets;
use knocking::opening::event::Opening;
use knocking::opening::log_limit::Cause;
use knocking::opening::record::Record;
use knocking::opening::standing::{Access, Key, Stop};
use knocking::protocol::confinement::{Confined, Outcome};
use knocking::protocol::knock::EncodedKnock;
use knocking::protocol::messages::{Crossing, Generation, LONGEST, Order, Report, SinglePacket, Step};
use knocking::protocol::values::plain;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    Opened(u64, u32, u32, IpAddr, u64),
    Stepped(u32, u32, IpAddr, u8, u32),
    Capture(String, String, u8, i32),
    Interface(String, u8, bool),
    Report(u8, u32, u64, String),
    Confined(u32, [u8; 6], i32),
    Order(u8, u32, u64, u32, i32),
    Fleet(u64, Vec<u8>, IpAddr, [u8; 16], u16, bool),
    Knock(IpAddr, IpAddr, u16, u8),
}

fn crosses<T: Crossing + PartialEq + std::fmt::Debug>(message: &T) {
    let bytes = message.encode();
    assert!(bytes.len() <= LONGEST, "{} bytes", bytes.len());
    assert_eq!(T::decode(&bytes).as_ref(), Some(message));
}

fn door(number: u32) -> usize {
    usize::try_from(number).expect("a machine of 32 bits at least")
}

fn one<T: Copy>(of: &[T], by: u8) -> T {
    of[usize::from(by) % of.len()]
}

fuzz_target!(|input: Input| {
    match input {
        Input::Bytes(bytes) => {
            let (order, report) = (Order::decode(&bytes), Report::decode(&bytes));
            assert!(order.is_none_or(|order| order.encode() == bytes), "{order:?}");
            assert!(report.as_ref().is_none_or(|report| report.encode() == bytes), "{report:?}");
            let (from, to) = (FromKnockd::decode(&bytes), ToKnockd::decode(&bytes));
            // Numbers in lines of the state file have more than one spelling, and of the greeting of another version
            // only the version is read.
            assert_eq!(from, from.as_ref().and_then(|it| FromKnockd::decode(&it.encode())));
            assert_eq!(to, to.as_ref().and_then(|it| ToKnockd::decode(&it.encode())));
        }
        Input::Opened(number, generation, place, knocker, turn) => {
            // An IPv4 address has one spelling only.
            let knocker = knocker.to_canonical();
            let opening = Opening { door: door(place), knocker, turn: Turn(turn) };
            crosses(&Report::Opened(number, Generation(generation), opening));
            crosses(&Report::OverRate(number, Generation(generation), opening));
            for cause in [Cause::Rate, Cause::Queue, Cause::End, Cause::Reload] {
                crosses(&Report::Dropped(Generation(generation), door(place), cause, number));
            }
            let count = u8::try_from(number % 256).unwrap_or_default();
            crosses(&Report::Tried(Generation(generation), door(place), knocker, Turn(turn), count));
            let packet = vec![b'+'; 140 + usize::from(u8::try_from(turn % 256).unwrap_or_default())];
            let single = SinglePacket { door: door(place), sender: knocker, destination: knocker, packet };
            crosses(&Report::Single(number, Generation(generation), single));
        }
        Input::Stepped(generation, place, knocker, stage, count) => {
            let knocker = knocker.to_canonical();
            let repeated = Step::Repeated(count, count.wrapping_add(1));
            let steps = [Step::Advanced(stage), Step::Failed(stage), Step::Expired(stage), repeated];
            for step in
                steps.into_iter().chain([Step::WrongPacket, Step::PacketAgain, Step::Misfit(Misfit::Used)])
            {
                crosses(&Report::Stepped(Generation(generation), door(place), knocker, step));
            }
        }
        Input::Capture(interface, names, operation, code) => {
            let (operation, code) = (one(&Operation::ALL, operation), Code(code));
            crosses(&Report::Trouble(Trouble::Switch(plain(&interface), operation, code)));
            let failed = CaptureProblem::Failed(operation, code);
            let (missing, no_route) =
                (CaptureProblem::Missing(plain(&names)), CaptureProblem::NoDefaultRoute(plain(&names)));
            for problem in [failed, missing, no_route, CaptureProblem::Down] {
                let error = CaptureError { interface: plain(&interface), problem };
                crosses(&Report::Refused(error.clone()));
                crosses(&Report::Trouble(Trouble::Capture(error)));
            }
        }
        Input::Interface(what, state, was_known) => {
            let states = [State::Ready, State::NoCarrier, State::Down, State::Missing];
            crosses(&Report::Interface(plain(&what), one(&states, state), was_known));
        }
        Input::Report(which, number, long, text) => {
            let code = Code(number.cast_signed());
            let reports = [
                Report::Adopted(Generation(number)),
                Report::LeftOut(long),
                Report::Trouble(Trouble::ListInterfaces(code)),
                Report::Trouble(Trouble::Filter(code)),
                Report::SocketWanted,
                Report::Described,
                Report::Told(plain(&text)),
                Report::Explained(plain(&text), long == 0),
                Report::Panicked(plain(&text)),
            ];
            crosses(&reports[usize::from(which) % reports.len()]);
        }
        Input::Confined(user, outcomes, code) => {
            let all = [Outcome::Unwanted, Outcome::Done, Outcome::Otherwise, Outcome::Failed(Code(code))];
            let confined = Confined { user, outcomes: outcomes.map(|outcome| one(&all, outcome)) };
            // Its words are for the log.
            assert!(!confined.to_string().chars().any(char::is_control), "{confined}");
            crosses(&Report::Confined(confined));
        }
        Input::Order(which, generation, number, place, code) => {
            let generation = Generation(generation);
            let orders = [
                Order::Adopt(generation),
                Order::Taken(number),
                Order::Lines(number, generation, door(place)),
                Order::Socket(Code(code)),
                Order::Finish,
                Order::Describe,
                Order::Tell,
            ];
            crosses(&one(&orders, which));
        }
        Input::Knock(source, destination, port, which) => {
            let protocol = one(&[Protocol::Tcp, Protocol::Udp, Protocol::Icmp], which);
            let knock = Knock {
                source: source.to_canonical(),
                source_port: 0,
                destination: destination.to_canonical(),
                protocol,
                port,
                flags: (protocol == Protocol::Tcp).then_some(Flags(which)),
                udp_length: (protocol == Protocol::Udp).then_some(port.rotate_left(5)),
                length: 0,
            };
            let encoded = EncodedKnock::of(&knock);
            assert_eq!(encoded.knock(), Some(knock));
            crosses(&FromKnockd::Knock(encoded));
            crosses(&ToKnockd::Knock(encoded));
            crosses(&Report::Shared(encoded));
            crosses(&Order::Heard(encoded));
        }
        Input::Fleet(number, name, knocker, mark, port, has_end) => {
            // A name has one to 127 bytes, whichever they are.
            let name = name.get(..name.len().min(127)).filter(|name| !name.is_empty()).unwrap_or(b"d");
            let stage = Stage { protocol: Protocol::Udp, port: port.max(1) };
            let stop = Stop {
                key: Key { origin: number.rotate_left(7), number: number.max(1) },
                door: octets::text(name).into(),
                knocker: knocker.to_canonical(),
                access: (port > 9)
                    .then(|| Box::new(Access { user: "anna".to_owned(), port: stage, seconds: port.into() })),
                command: Vec::new(),
                after: Duration::from_millis(number >> 8),
                limit: None,
                due: Duration::from_millis(number >> 4),
            };
            let owner = has_end.then_some(stop.knocker);
            let used = match port % 2 {
                0 => Record::Packet(number.rotate_left(13), PacketId(mark)),
                _ => Record::Spent(number.rotate_left(9), number.rotate_left(13), owner),
            };
            let shared = Box::new(Shared { stop, has_end, used });
            for message in [FromKnockd::Opened(shared.clone()), FromKnockd::Ask(shared.clone())] {
                assert!(message.encode().len() <= LONGEST);
                crosses(&message);
            }
            crosses(&ToKnockd::Open(shared));
            crosses(&FromKnockd::Hello(VERSION, number.rotate_left(3), number.rotate_left(5)));
            crosses(&FromKnockd::Hello(number | 1 << 63, 0, 0));
            for answer in [Some(true), Some(false), None] {
                crosses(&ToKnockd::Answer(number, answer));
            }
        }
    }
});
