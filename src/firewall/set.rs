//! Sets: their names, the kernel's descriptions of them, and the lines that create one.

use std::fmt;
use std::time::Duration;

use crate::door::open::{Family, SetName};
use crate::firewall::answer;
use crate::firewall::message::{Attributes, Kind, message};

// Attributes of a table and of a set (NFTA_TABLE_*, NFTA_SET_*).
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_HANDLE: u16 = 4;
const TABLE_OWNER: u16 = 7;
const TABLE: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LENGTH: u16 = 5;
const TIMEOUT: u16 = 11;
const HANDLE: u16 = 16;

// Flags of a set (NFT_SET_*).
const IS_CONSTANT: u32 = 0x2;
const HAS_INTERVALS: u32 = 0x4;
const IS_MAP: u32 = 0x8;
const HAS_TIMEOUTS: u32 = 0x10;

// nft's numbers for the types of a key; each part of a concatenated key takes six bits.
const IPV4_ADDRESS: u32 = 7;
const IPV6_ADDRESS: u32 = 8;
const INET_PROTOCOL: u32 = 12;
const INET_SERVICE: u32 = 13;
const PROTOCOL_AND_SERVICE: u32 = INET_PROTOCOL << 6 | INET_SERVICE;

/// What the key of a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `ipv4_addr` or `ipv6_addr`: the user's rule decides what an address in the set may do.
    Address,
    /// The address, then `inet_proto . inet_service`.
    Service,
}

/// The kernel's description of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// What its key holds.
    pub form: Form,
    /// The key's address is IPv6.
    pub is_v6: bool,
    /// It may hold ranges.
    pub has_intervals: bool,
    /// The timeout of an element without one of its own; `None` is for ever.
    pub default_timeout: Option<Duration>,
    /// The kernel's handle: unique in its table, even among sets of the same name made one after the other.
    pub handle: u64,
}

/// Why an existing set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its key has another type.
    Key,
    /// Its addresses are of the other family.
    OtherFamily,
    /// It has no `flags timeout`.
    NoTimeouts,
    /// It is a map, or cannot be changed.
    NoSet,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::Key => "its key is neither an address nor address . inet_proto . inet_service",
            Unfit::OtherFamily => "its addresses are of the other IP version",
            Unfit::NoTimeouts => "its elements cannot have a timeout",
            Unfit::NoSet => "it is a map or a constant set",
        })
    }
}

impl Description {
    /// Parses the attributes of the answer to [`question`]; `is_v6` says whether the set is meant for IPv6
    /// knockers.
    ///
    /// # Errors
    /// The reason why doors cannot be opened with it.
    pub fn read(attributes: &[u8], is_v6: bool) -> Result<Description, Unfit> {
        let number = |kind| answer::number(attributes, kind).unwrap_or_default();
        let flags = number(FLAGS);
        if flags & (IS_MAP | IS_CONSTANT) != 0 {
            return Err(Unfit::NoSet);
        }
        // Sets without ranges that nft 1.0.6 made do not say that their keys have parts.
        let (form, found_v6) = match (number(KEY_TYPE), number(KEY_LENGTH)) {
            (IPV4_ADDRESS, 4) => (Form::Address, false),
            (IPV6_ADDRESS, 16) => (Form::Address, true),
            (kind, 12) if kind == IPV4_ADDRESS << 12 | PROTOCOL_AND_SERVICE => (Form::Service, false),
            (kind, 24) if kind == IPV6_ADDRESS << 12 | PROTOCOL_AND_SERVICE => (Form::Service, true),
            _ => return Err(Unfit::Key),
        };
        if found_v6 != is_v6 {
            return Err(Unfit::OtherFamily);
        }
        if flags & HAS_TIMEOUTS == 0 {
            return Err(Unfit::NoTimeouts);
        }
        let timeout = answer::long(attributes, TIMEOUT).map(Duration::from_millis);
        Ok(Description {
            form,
            is_v6,
            has_intervals: flags & HAS_INTERVALS != 0,
            default_timeout: timeout.filter(|timeout| !timeout.is_zero()),
            handle: answer::long(attributes, HANDLE).unwrap_or_default(),
        })
    }
}

/// Asks for a set.
#[must_use]
pub fn question(name: &SetName, sequence: u32) -> Vec<u8> {
    let attributes = Attributes::new().text(TABLE, &name.table).text(NAME, &name.set);
    message(Kind::GetSet, 0, name.family, sequence, &attributes)
}

/// Asks for a table.
#[must_use]
pub fn table_question(family: Family, table: &str, sequence: u32) -> Vec<u8> {
    message(Kind::GetTable, 0, family, sequence, &Attributes::new().text(TABLE_NAME, table))
}

/// The kernel's description of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDescription {
    /// `NFT_TABLE_F_*`.
    pub flags: u32,
    /// The kernel's handle: unique, even among tables of the same name made one after the other.
    pub handle: u64,
    /// The netlink port of the running process that owns it, if one does.
    pub owner: Option<u32>,
}

impl TableDescription {
    /// Reads the attributes of the answer to [`table_question`].
    #[must_use]
    pub fn read(attributes: &[u8]) -> TableDescription {
        TableDescription {
            flags: answer::number(attributes, TABLE_FLAGS).unwrap_or_default(),
            handle: answer::long(attributes, TABLE_HANDLE).unwrap_or_default(),
            owner: answer::number(attributes, TABLE_OWNER),
        }
    }
}

/// The lines that create the set and accept what is in it, to be shown to users who lack it.
#[must_use]
pub fn lines_to_add(name: &SetName, is_v6: bool) -> String {
    let SetName { family, table, set } = name;
    let (kind, saddr) = if is_v6 { ("ipv6_addr", "ip6 saddr") } else { ("ipv4_addr", "ip saddr") };
    format!(
        "table {} {table} {{\n\
         \tset {set} {{\n\
         \t\ttype {kind} . inet_proto . inet_service\n\
         \t\tflags timeout\n\
         \t}}\n\
         }}\n\
         and, in the chain that lets connections in, before what refuses them:\n\
         \t\t{saddr} . meta l4proto . th dport @{set} accept",
        family.word()
    )
}
