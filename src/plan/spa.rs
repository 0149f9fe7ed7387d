//! A single packet as the client makes it: what it asks for, and the packet of one moment.

use std::fmt;
use std::net::IpAddr;

use crate::door::digest::Digest;
use crate::door::sequence::Stage;
use crate::door::spa::fields::{Fields, Kind, Message, NatPlace, RANDOM_DIGITS, VERSION, What, is_user};
use crate::door::spa::sealed::{Keys, Salt};
use crate::plan::fwknoprc::Nat;

/// The longest packet that fwknopd takes, in bytes: longer ones it takes for something else.
pub const MAX_PACKET: usize = 396;
/// How a packet names a user that has no name, or one that servers would refuse.
pub const NO_USER: &str = "NO_USER";

/// What a packet asks for, every time it is made.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Both keys.
    pub keys: Keys,
    /// The digest inside.
    pub digest: Digest,
    /// Who asks.
    pub user: String,
    /// For which ports; not empty.
    pub ports: Vec<Stage>,
    /// For how many seconds; none leaves it to the server.
    pub timeout: Option<u32>,
    /// Where the server is to lead the port to.
    pub nat: Option<Nat>,
    /// How far the clock of the packet is from ours, in seconds.
    pub time_offset: i64,
}

/// Why no packet can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskingError {
    /// More than one port is to be translated.
    SeveralNat,
    /// The packet would have so many bytes.
    TooLong(usize),
}

impl fmt::Display for AskingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskingError::SeveralNat => f.write_str("address translation is for one port alone"),
            AskingError::TooLong(bytes) => {
                write!(
                    f,
                    "the packet would have {bytes} bytes, and servers take {MAX_PACKET}: ask for fewer ports"
                )
            }
        }
    }
}

impl std::error::Error for AskingError {}

/// What makes a packet one of its own: the time in seconds since 1970, and random bytes.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// The time.
    pub unix: u64,
    /// For the digits in the packet.
    pub digits: [u8; 16],
    /// For the keys of the packet.
    pub salt: Salt,
}

/// The user's name as it can stand in a packet.
#[must_use]
pub fn user_name(name: &str) -> &str {
    if is_user(name) { name } else { NO_USER }
}

impl Asking {
    /// The fields of the packet that asks for `address` (an unspecified one stands for its sender).
    ///
    /// # Errors
    /// More is asked for than one packet can hold.
    pub fn fields(&self, address: IpAddr, chance: Chance) -> Result<Fields, AskingError> {
        let timeout = self.timeout.filter(|&seconds| seconds > 0);
        let (ports, nat, place) = match (&self.nat, self.ports.as_slice()) {
            (None, ports) => (ports.to_vec(), None, None),
            (Some(nat), &[asked]) => {
                let place = if nat.host.is_some() { NatPlace::Elsewhere } else { NatPlace::Here };
                let host = nat.host.as_deref().unwrap_or("127.0.0.1");
                let inside = format!("{host},{}", nat.inside.unwrap_or(asked.port));
                let outside = Stage { port: nat.outside.unwrap_or(asked.port), ..asked };
                (vec![outside], Some(inside), Some(place))
            }
            (Some(_), _) => return Err(AskingError::SeveralNat),
        };
        Ok(Fields {
            random: format!("{:0RANDOM_DIGITS$}", u128::from_be_bytes(chance.digits) % 10_u128.pow(16)),
            user: self.user.clone(),
            time: chance.unix.saturating_add_signed(self.time_offset),
            version: VERSION.to_owned(),
            kind: Kind::of_access(place, timeout.is_some()),
            message: Message { address, what: What::Ports(ports) },
            nat,
            auth: None,
            timeout,
            digest: self.digest,
        })
    }

    /// Whether a packet can be made that asks for this address.
    ///
    /// # Errors
    /// More is asked for than one packet can hold.
    pub fn check(&self, address: IpAddr) -> Result<(), AskingError> {
        // Any time has as many digits as now.
        let chance = Chance { unix: 1_795_898_455, digits: [0; 16], salt: [0; 8] };
        self.packet(&self.fields(address, chance)?, chance.salt).map(drop)
    }

    /// The packet with these fields.
    ///
    /// # Errors
    /// More is asked for than one packet can hold.
    pub fn packet(&self, fields: &Fields, salt: Salt) -> Result<String, AskingError> {
        let packet = self.keys.seal(fields, salt);
        if packet.len() > MAX_PACKET { Err(AskingError::TooLong(packet.len())) } else { Ok(packet) }
    }
}

/// What a packet asks for, in words; no key is in them.
pub struct Summary<'a>(pub &'a Fields);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { user, time, message, nat, timeout, .. } = self.0;
        let allow_ip = if message.address.is_unspecified() {
            "the sender's address".to_owned()
        } else {
            message.address.to_string()
        };
        write!(f, "{user} asks to let {allow_ip} in to ")?;
        if let What::Ports(ports) = &message.what {
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

/// The port of a packet that is sent to any, as fwknop chooses it: 10000 to 65535.
#[must_use]
pub fn random_port(random: u64) -> u16 {
    10_000 + u16::try_from(random % 55_536).unwrap_or_default()
}
