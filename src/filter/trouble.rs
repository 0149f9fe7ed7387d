//! Why an interface cannot be listened on, and what to do about it.
//!
//! The watcher encounters these errors and the doorkeeper reports them, so they are values that can cross
//! from one process to the other: an error of the operating system is kept as its number.

use std::fmt;
use std::io;

use crate::reason::reason;

/// `EIO`: stands for an error without a number.
const INPUT_OUTPUT: i32 = 5;
/// `EACCES`.
const ACCESS: i32 = 13;
/// `EPERM`.
const PERMISSION: i32 = 1;

/// An error of the operating system, by its number (errno).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub i32);

impl Code {
    /// The number of an error; `EIO` for an error that comes from Rust's library and has no number.
    #[must_use]
    pub fn of(error: &io::Error) -> Code {
        Code(error.raw_os_error().unwrap_or(INPUT_OUTPUT))
    }

    fn is_denial(self) -> bool {
        self.0 == ACCESS || self.0 == PERMISSION
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&reason(&io::Error::from_raw_os_error(self.0)))
    }
}

/// A step on the way to listening on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Listing the interfaces.
    Interfaces,
    /// Obtaining a packet socket.
    Socket,
    /// Attaching the packet filter.
    Filter,
    /// Mapping a ring.
    Ring,
    /// Handing packets over from one socket to another.
    Fanout,
    /// Binding to the interface.
    Bind,
}

impl Operation {
    /// All of them, in the order of their numbers in messages.
    pub const ALL: [Operation; 6] = [
        Operation::Interfaces,
        Operation::Socket,
        Operation::Filter,
        Operation::Ring,
        Operation::Fanout,
        Operation::Bind,
    ];

    const fn words(self) -> &'static str {
        match self {
            Operation::Interfaces => "interfaces",
            Operation::Socket => "packet socket",
            Operation::Filter => "packet filter",
            Operation::Ring => "packet ring",
            Operation::Fanout => "packet fanout",
            Operation::Bind => "bind",
        }
    }
}

/// Why an interface cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CaptureError {
    /// The interface.
    pub interface: String,
    /// What is wrong with it.
    pub problem: CaptureProblem,
}

/// What can be wrong with an interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CaptureProblem {
    /// No interface has this name. The interfaces that exist, separated by commas.
    Missing(String),
    /// No default route determines the interface. The interfaces that exist, separated by commas.
    NoDefaultRoute(String),
    /// It is down.
    Down,
    /// An operation on its socket failed.
    Failed(Operation, Code),
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.interface;
        write!(f, "could not open {name}: ")?;
        match &self.problem {
            CaptureProblem::Missing(names) => write!(
                f,
                "No such device exists; there are: {names}; name one with -i or with 'Interface' in the configuration, or 'auto' for that of the default route"
            ),
            CaptureProblem::NoDefaultRoute(names) => write!(
                f,
                "There is no default route; there are: {names}; name one with -i or with 'Interface' in the configuration"
            ),
            CaptureProblem::Down => {
                write!(f, "That device is not up; bring it up first (ip link set {name} up)")
            }
            CaptureProblem::Failed(_, code) if code.is_denial() => {
                write!(f, "{code}; run as root or give knockd CAP_NET_RAW")
            }
            CaptureProblem::Failed(operation, code) => write!(f, "{}: {code}", operation.words()),
        }
    }
}

impl std::error::Error for CaptureError {}

/// An error that occurs while the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The kernel did not list the interfaces.
    ListInterfaces(Code),
    /// The packet filter of an interface could not be replaced.
    Filter(Code),
    /// An interface cannot be listened on.
    Capture(CaptureError),
    /// The packets of an interface are still read from its socket and not from a ring, or the other way
    /// round, because this operation failed.
    Switch(String, Operation, Code),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::ListInterfaces(code) => write!(f, "could not look at the interfaces: {code}"),
            Trouble::Filter(code) => write!(f, "could not renew the packet filter: {code}"),
            Trouble::Capture(error) => error.fmt(f),
            Trouble::Switch(interface, operation, code) => {
                write!(
                    f,
                    "could not switch {interface} between socket and ring: {}: {code}",
                    operation.words()
                )
            }
        }
    }
}
