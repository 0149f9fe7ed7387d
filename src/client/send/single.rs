//! Single packets, each made at the moment when it is sent: no two are alike.

use std::net::IpAddr;

use crate::client::failure::Failure;
use crate::client::wanted::single::SinglePacket;
use crate::client::{chance, clock};
use crate::plan::password::ClockOffset;
use crate::plan::spa::{Chance, Summary};

/// A packet that is ready to be sent.
pub struct Made {
    /// What the datagram carries.
    pub packet: String,
    /// What it asks for, without a key.
    pub summary: String,
}

/// The packet of this moment, by the corrected clock, that asks to let this address in.
///
/// # Errors
/// More is asked for than it can hold, or the system has no random numbers.
pub fn make(single: &SinglePacket, allow_ip: IpAddr, offset: ClockOffset) -> Result<Made, Failure> {
    let chance =
        Chance { unix: clock::unix(offset).as_secs(), digits: chance::bytes()?, salt: chance::bytes()? };
    let fields = single.asking.fields(allow_ip, chance).map_err(Failure::refused)?;
    let packet = single.asking.packet(&fields, chance.salt).map_err(Failure::refused)?;
    Ok(Made { packet, summary: Summary(&fields).to_string() })
}
