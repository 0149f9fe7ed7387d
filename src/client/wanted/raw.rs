//! The options for raw packets.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::client::cli;
use crate::client::failure::Failure;
use crate::client::profiles::Completed;
use crate::client::wanted::values::number;
use crate::plan;
use crate::plan::packet_template::{self, PacketTemplate, PayloadSource, SourcePort};

/// How to build and record raw packets.
#[derive(Debug)]
pub struct Raw {
    pub template: PacketTemplate,
    pub data: Option<PayloadSource>,
    pub pcap: Option<PathBuf>,
}

/// Parses the options for raw packets; `None` without `--raw`.
///
/// # Errors
/// A value is invalid, options exclude each other, or lack `--raw`.
pub fn read(input: &Completed) -> Result<Option<Raw>, Failure> {
    let typed = &input.typed;
    if !typed.has("raw") {
        let stray = cli::RAW_VALUES.into_iter().find(|name| typed.has(name));
        return match stray.or(typed.has("bad-checksum").then_some("bad-checksum")) {
            Some(name) => Err(Failure::refused(format_args!("{} needs --raw", input.name(name)))),
            None => Ok(None),
        };
    }
    let mut template =
        PacketTemplate { bad_checksum: typed.has("bad-checksum"), ..PacketTemplate::default() };
    if let Some(text) = typed.text("flags") {
        template.flags = plan::parse_flags(&text)
            .map_err(|error| Failure::refused(format_args!("{}{error}", input.place(&["flags"]))))?;
    }
    if let Some(text) = typed.text("source") {
        let address: IpAddr = text.parse().map_err(|_| {
            Failure::refused(format_args!("{}: '{text}' is no IP address", input.name("source")))
        })?;
        template.source = Some(address);
    }
    template.source_port = match typed.text("source-port").as_deref() {
        Some("random") => SourcePort::Random,
        Some(_) => number(input, "source-port", 0, u16::MAX)?.map(SourcePort::Fixed).unwrap_or_default(),
        None => SourcePort::Ephemeral,
    };
    if typed.has("tos") && typed.has("dscp") {
        let place = input.place(&["dscp", "tos"]);
        return Err(Failure::refused(format_args!("{place}--tos and --dscp exclude each other")));
    }
    template.tos = match number(input, "dscp", 0, 63_u8)? {
        Some(dscp) => dscp << 2,
        None => number(input, "tos", 0, u8::MAX)?.unwrap_or(0),
    };
    template.ttl = number(input, "ttl", 0, u8::MAX)?.unwrap_or(template.ttl);
    template.id = number(input, "id", 0, u16::MAX)?;
    template.dont_fragment = match typed.text("df").as_deref() {
        None | Some("yes" | "true" | "on" | "1") => true,
        Some("no" | "false" | "off" | "0") => false,
        Some(text) => {
            let name = input.name("df");
            return Err(Failure::refused(format_args!("{name}: '{text}' is neither yes nor no")));
        }
    };
    template.sequence = number(input, "seq", 0, u32::MAX)?;
    template.acknowledgment = number(input, "ack-seq", 0, u32::MAX)?.unwrap_or(0);
    template.window = number(input, "window", 0, u16::MAX)?;
    template.urgent = number(input, "urgent", 0, u16::MAX)?.unwrap_or(0);
    template.mss = number(input, "mss", 0, u16::MAX)?;
    let data = match typed.value("data") {
        Some(data) => Some(
            packet_template::parse_payload(data.as_encoded_bytes())
                .map_err(|problem| Failure::refused(format_args!("{}: {problem}", input.name("data"))))?,
        ),
        None => None,
    };
    Ok(Some(Raw { template, data, pcap: typed.value("pcap").map(PathBuf::from) }))
}
