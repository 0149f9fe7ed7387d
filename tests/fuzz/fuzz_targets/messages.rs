//! The messages between the processes: bytes that decode to a message are its only encoding, and each
//! message decodes to itself.
#![no_main]

use std::net::IpAddr;

use arbitrary::Arbitrary;
use knocking::daemon::messages::{Crossing, Message, Report, Request};
use knocking::door::lock::Turn;
use knocking::opening::event::Opening;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Message),
    Prepare(u64),
    Open(u32, IpAddr, u64),
    Plain(u8),
    Prepared(bool),
    Struck(u32),
}

fn crosses<T: Crossing + PartialEq + std::fmt::Debug>(message: &T) {
    assert_eq!(T::decode(&message.encode()).as_ref(), Some(message));
}

fn door(number: u32) -> usize {
    usize::try_from(number).expect("a machine of 32 bits at least")
}

fuzz_target!(|input: Input| {
    match input {
        Input::Bytes(bytes) => {
            let (request, report) = (Request::decode(&bytes), Report::decode(&bytes));
            assert!(request.is_none_or(|request| request.encode() == bytes), "{request:?}");
            assert!(report.is_none_or(|report| report.encode() == bytes), "{report:?}");
        }
        Input::Prepare(fingerprint) => crosses(&Request::Prepare(fingerprint)),
        Input::Open(number, knocker, turn) => {
            crosses(&Request::Open(Opening { door: door(number), knocker, turn: Turn(turn) }));
        }
        Input::Plain(which) => {
            let plain = [Request::Adopt, Request::Finish, Request::FinishNow, Request::Begin];
            crosses(&plain[usize::from(which) % plain.len()]);
        }
        Input::Prepared(is_same) => crosses(&Report::Prepared(is_same)),
        Input::Struck(number) => crosses(&Report::Struck(door(number))),
    }
});
