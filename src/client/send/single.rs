//! Builds single packets at the moment of sending, so that no two are alike.

use std::net::IpAddr;

use crate::client::failure::Failure;
use crate::client::options::single::SinglePacket;
use crate::client::{clock, random};
use crate::plan::password::ClockOffset;
use crate::plan::spa::{RequestSummary, UniqueValues};

/// A packet that is ready to send.
pub struct BuiltPacket {
    /// The payload of the datagram.
    pub packet: String,
    /// A description of the request, without keys.
    pub summary: String,
}

/// Builds a packet that asks to let this address in, with the corrected time of this moment.
///
/// # Errors
/// The request does not fit into a packet, or the system has no random source.
pub fn build(single: &SinglePacket, allow_ip: IpAddr, offset: ClockOffset) -> Result<BuiltPacket, Failure> {
    let unique = UniqueValues {
        unix: clock::unix(offset).as_secs(),
        digits: random::bytes()?,
        salt: random::bytes()?,
    };
    let fields = single.request.fields(allow_ip, unique).map_err(Failure::refused)?;
    let packet = single.request.packet(&fields, unique.salt).map_err(Failure::refused)?;
    Ok(BuiltPacket { packet, summary: RequestSummary(&fields).to_string() })
}
