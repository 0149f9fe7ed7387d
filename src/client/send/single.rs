//! Builds single packets at the moment of sending, so that no two are alike.

use std::net::IpAddr;

use crate::client::failure::Failure;
use crate::client::wanted::single::SinglePacket;
use crate::client::{chance, clock};
use crate::plan::password::ClockOffset;
use crate::plan::spa::{RequestSummary, UniqueValues};

/// A packet that is ready to send.
pub struct Made {
    /// The payload of the datagram.
    pub packet: String,
    /// A description of the request, without keys.
    pub summary: String,
}

/// Builds a packet that asks to let this address in, with the corrected time of this moment.
///
/// # Errors
/// The request does not fit into a packet, or the system has no random source.
pub fn make(single: &SinglePacket, allow_ip: IpAddr, offset: ClockOffset) -> Result<Made, Failure> {
    let chance = UniqueValues {
        unix: clock::unix(offset).as_secs(),
        digits: chance::bytes()?,
        salt: chance::bytes()?,
    };
    let fields = single.asking.fields(allow_ip, chance).map_err(Failure::refused)?;
    let packet = single.asking.packet(&fields, chance.salt).map_err(Failure::refused)?;
    Ok(Made { packet, summary: RequestSummary(&fields).to_string() })
}
