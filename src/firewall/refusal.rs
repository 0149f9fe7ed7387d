//! What the kernel's refusals mean, in sentences that say what to do.

use std::io;

use crate::door::open::SetName;
use crate::firewall::answer::Refused;
use crate::reason::reason;

// Errors that have one number on all machines (asm-generic/errno-base.h).
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;

/// Why nftables refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel has no nftables.
    NoNftables,
    /// We may not change the firewall of this network namespace.
    NotPermitted,
    /// The table belongs to another process.
    Owned,
    /// A table, set, element or expression is missing.
    Missing,
    /// It exists already; in a set with intervals, another element overlaps it.
    Exists,
    /// The set is full.
    Full,
    /// The key has another length, or elements of this set cannot have a timeout.
    Unfit,
    /// Any other error, as its number (errno).
    Other(i32),
}

impl Refusal {
    /// What the refusal of a message means; `first` is the sequence number of its batch, or of a question.
    #[must_use]
    pub fn of(refused: Refused, first: u32) -> Refusal {
        let is_whole = refused.sequence == first;
        match refused.errno {
            EPERM if is_whole => Refusal::NotPermitted,
            EPERM => Refusal::Owned,
            ENOENT => Refusal::Missing,
            EEXIST => Refusal::Exists,
            ENFILE => Refusal::Full,
            EINVAL if is_whole => Refusal::NoNftables,
            EINVAL => Refusal::Unfit,
            errno if is_whole && is_unsupported(errno) => Refusal::NoNftables,
            errno => Refusal::Other(errno),
        }
    }

    /// Whether this may be an old kernel's answer to a flag that it does not know.
    #[must_use]
    pub fn is_of_an_old_kernel(self) -> bool {
        match self {
            Refusal::Unfit => true,
            Refusal::Other(errno) => is_unsupported(errno),
            _ => false,
        }
    }

    /// The sentence about a set.
    #[must_use]
    pub fn sentence(self, set: &SetName) -> String {
        match self {
            Refusal::Missing => format!("the set {set} is missing"),
            Refusal::Owned => {
                format!("the table {} {} belongs to another process", set.family.word(), set.table)
            }
            Refusal::Exists => format!("the set {set} has an element that overlaps"),
            Refusal::Full => format!("the set {set} is full; raise its size"),
            Refusal::Unfit => format!("the set {set} does not take this key or a timeout"),
            other => other.to_string(),
        }
    }
}

/// `EOPNOTSUPP`, which has another number on MIPS.
fn is_unsupported(errno: i32) -> bool {
    matches!(errno, 95 | 122)
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::NoNftables => {
                f.write_str("this kernel has no nf_tables; load or install it (OpenWrt: kmod-nft-core)")
            }
            Refusal::NotPermitted => f.write_str("not permitted; run as root or give knockd CAP_NET_ADMIN"),
            Refusal::Owned => f.write_str("the table belongs to another process"),
            Refusal::Missing => f.write_str("a table, set or expression is missing"),
            Refusal::Exists => f.write_str("it is there already"),
            Refusal::Full => f.write_str("the set is full"),
            Refusal::Unfit => f.write_str("the kernel does not take it"),
            Refusal::Other(errno) => f.write_str(&reason(&io::Error::from_raw_os_error(*errno))),
        }
    }
}
