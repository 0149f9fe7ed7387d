//! Builds single packets on the client's side: the request, and the packet at a given moment.

use std::fmt;
use std::net::IpAddr;

use crate::door::digest::Digest;
use crate::door::sequence::Stage;
use crate::door::spa::fields::{
    Fields, Kind, Message, NatPlace, RANDOM_DIGITS, RequestedAccess, VERSION, is_user,
};
use crate::door::spa::sealed::{Keys, Salt};
use crate::plan::fwknoprc::Nat;

/// The longest packet in bytes that fwknopd recognises as a single packet.
pub const MAX_PACKET: usize = 396;
/// The name sent for users without a name, or with one that servers would reject.
pub const NO_USER: &str = "NO_USER";

/// The request, from which each packet is built.
#[derive(Clone, Debug)]
pub struct SpaRequest {
    /// The encryption key and the HMAC key.
    pub keys: Keys,
    /// The digest inside the packet.
    pub digest: Digest,
    /// The user name.
    pub user: String,
    /// The requested ports; not empty.
    pub ports: Vec<Stage>,
    /// The requested time in seconds; `None` leaves it to the server.
    pub timeout: Option<u32>,
    /// The port translation requested from the server.
    pub nat: Option<Nat>,
    /// Seconds to add to the time in the packet.
    pub time_offset: i64,
}

/// Why a packet cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaRequestError {
    /// Port translation for more than one port.
    NatForSeveralPorts,
    /// The packet would be longer than [`MAX_PACKET`]; its length in bytes.
    TooLong(usize),
}

impl fmt::Display for SpaRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpaRequestError::NatForSeveralPorts => f.write_str("address translation is for one port alone"),
            SpaRequestError::TooLong(bytes) => {
                write!(
                    f,
                    "the packet would have {bytes} bytes, and servers take {MAX_PACKET}: ask for fewer ports"
                )
            }
        }
    }
}

impl std::error::Error for SpaRequestError {}

/// The values that make each packet unique: time and random bytes.
#[derive(Clone, Copy, Debug)]
pub struct UniqueValues {
    /// The Unix time in seconds.
    pub unix: u64,
    /// Random bytes for the digits in the packet.
    pub digits: [u8; 16],
    /// Random bytes from which the packet's keys are derived.
    pub salt: Salt,
}

/// The user name to send: the given one, or [`NO_USER`] if servers would reject it.
#[must_use]
pub fn user_name(name: &str) -> &str {
    if is_user(name) { name } else { NO_USER }
}

impl SpaRequest {
    /// The fields of a packet that asks to let `address` in; the unspecified address stands for the packet's
    /// source.
    ///
    /// # Errors
    /// The request is too large for one packet.
    pub fn fields(&self, address: IpAddr, unique: UniqueValues) -> Result<Fields, SpaRequestError> {
        let timeout = self.timeout.filter(|&seconds| seconds > 0);
        let (ports, nat, nat_place) = match (&self.nat, self.ports.as_slice()) {
            (None, ports) => (ports.to_vec(), None, None),
            (Some(nat), &[requested]) => {
                let nat_place = if nat.host.is_some() { NatPlace::Elsewhere } else { NatPlace::Here };
                let host = nat.host.as_deref().unwrap_or("127.0.0.1");
                let inside = format!("{host},{}", nat.inside.unwrap_or(requested.port));
                let outside = Stage { port: nat.outside.unwrap_or(requested.port), ..requested };
                (vec![outside], Some(inside), Some(nat_place))
            }
            (Some(_), _) => return Err(SpaRequestError::NatForSeveralPorts),
        };
        Ok(Fields {
            random: format!("{:0RANDOM_DIGITS$}", u128::from_be_bytes(unique.digits) % 10_u128.pow(16)),
            user: self.user.clone(),
            time: unique.unix.saturating_add_signed(self.time_offset),
            version: VERSION.to_owned(),
            kind: Kind::of_access(nat_place, timeout.is_some()),
            message: Message { address, access: RequestedAccess::Ports(ports) },
            nat,
            auth: None,
            timeout,
            digest: self.digest,
        })
    }

    /// Checks that a packet for this address can be built.
    ///
    /// # Errors
    /// The request is too large for one packet.
    pub fn check(&self, address: IpAddr) -> Result<(), SpaRequestError> {
        // Any realistic time has this many digits.
        let unique = UniqueValues { unix: 1_795_898_455, digits: [0; 16], salt: [0; 8] };
        self.packet(&self.fields(address, unique)?, unique.salt).map(drop)
    }

    /// Builds the encrypted and authenticated packet with these fields.
    ///
    /// # Errors
    /// The request is too large for one packet.
    pub fn packet(&self, fields: &Fields, salt: Salt) -> Result<String, SpaRequestError> {
        let packet = self.keys.seal(fields, salt);
        if packet.len() > MAX_PACKET { Err(SpaRequestError::TooLong(packet.len())) } else { Ok(packet) }
    }
}

/// A description of a request, without keys.
pub struct RequestSummary<'a>(pub &'a Fields);

impl fmt::Display for RequestSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { user, time, message, nat, timeout, .. } = self.0;
        let allow_ip = if message.address.is_unspecified() {
            "the sender's address".to_owned()
        } else {
            message.address.to_string()
        };
        write!(f, "{user} asks to let {allow_ip} in to ")?;
        if let RequestedAccess::Ports(ports) = &message.access {
            for (index, Stage { protocol, port }) in ports.iter().enumerate() {
                write!(f, "{}{protocol}/{port}", if index > 0 { ", " } else { "" })?;
            }
        }
        if let Some(nat) = nat {
            write!(f, " (leading to {})", nat.replace(',', ":"))?;
        }
        match timeout {
            Some(seconds) => write!(f, " for {seconds} s")?,
            None => f.write_str(" for as long as the server says")?,
        }
        write!(f, ", at {time}")
    }
}

/// A random destination port in fwknop's range, 10000 to 65535.
#[must_use]
pub fn random_server_port(random: u64) -> u16 {
    10_000 + u16::try_from(random % 55_536).unwrap_or_default()
}
