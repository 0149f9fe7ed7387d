//! The options for raw packets.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::client::cli;
use crate::client::failure::Failure;
use crate::client::options::values::number;
use crate::client::profiles::CompletedArguments;
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
pub fn read(input: &CompletedArguments) -> Result<Option<Raw>, Failure> {
    let arguments = &input.arguments;
    if !arguments.has("raw") {
        let stray = cli::RAW_VALUE_OPTIONS.into_iter().find(|name| arguments.has(name));
        return match stray.or(arguments.has("bad-checksum").then_some("bad-checksum")) {
            Some(name) => Err(Failure::refused(format_args!("{} needs --raw", input.option_name(name)))),
            None => Ok(None),
        };
    }
    let mut template =
        PacketTemplate { bad_checksum: arguments.has("bad-checksum"), ..PacketTemplate::default() };
    if let Some(text) = arguments.text("flags") {
        template.flags = plan::parse_flags(&text)
            .map_err(|error| Failure::refused(format_args!("{}{error}", input.location(&["flags"]))))?;
    }
    if let Some(text) = arguments.text("source") {
        let address: IpAddr = text.parse().map_err(|_| {
            Failure::refused(format_args!("{}: '{text}' is no IP address", input.option_name("source")))
        })?;
        template.source = Some(address);
    }
    template.source_port = match arguments.text("source-port").as_deref() {
        Some("random") => SourcePort::Random,
        Some(_) => number(input, "source-port", 0, u16::MAX)?.map(SourcePort::Fixed).unwrap_or_default(),
        None => SourcePort::Ephemeral,
    };
    if arguments.has("tos") && arguments.has("dscp") {
        let location = input.location(&["dscp", "tos"]);
        return Err(Failure::refused(format_args!("{location}--tos and --dscp exclude each other")));
    }
    template.tos = match number(input, "dscp", 0, 63_u8)? {
        Some(dscp) => dscp << 2,
        None => number(input, "tos", 0, u8::MAX)?.unwrap_or(0),
    };
    template.ttl = number(input, "ttl", 0, u8::MAX)?.unwrap_or(template.ttl);
    template.id = number(input, "id", 0, u16::MAX)?;
    template.dont_fragment = match arguments.text("df").as_deref() {
        None | Some("yes" | "true" | "on" | "1") => true,
        Some("no" | "false" | "off" | "0") => false,
        Some(text) => {
            let name = input.option_name("df");
            return Err(Failure::refused(format_args!("{name}: '{text}' is neither yes nor no")));
        }
    };
    template.sequence = number(input, "seq", 0, u32::MAX)?;
    template.acknowledgment = number(input, "ack-seq", 0, u32::MAX)?.unwrap_or(0);
    template.window = number(input, "window", 0, u16::MAX)?;
    template.urgent = number(input, "urgent", 0, u16::MAX)?.unwrap_or(0);
    template.mss = number(input, "mss", 0, u16::MAX)?;
    let data = match arguments.value("data") {
        Some(data) => {
            Some(packet_template::parse_payload(data.as_encoded_bytes()).map_err(|problem| {
                Failure::refused(format_args!("{}: {problem}", input.option_name("data")))
            })?)
        }
        None => None,
    };
    Ok(Some(Raw { template, data, pcap: arguments.value("pcap").map(PathBuf::from) }))
}
