//! A packet as readable text: each header field on a line, then a hex dump.
//!
//! Decodes the bytes instead of showing the values they were built from: what is shown is what is sent.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::door::knock::{Flags, Protocol};

/// Shows an IP packet as `--dry-run` prints it; truncated or malformed bytes as far as they can be decoded.
#[derive(Clone, Copy, Debug)]
pub struct Dissection<'a>(pub &'a [u8]);

impl fmt::Display for Dissection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = String::new();
        let mut reader = Reader { bytes: self.0, out: &mut fields };
        // `None` means that the bytes ended too early; the fields before that are in `fields`.
        let _cut = reader.packet();
        f.write_str(&fields)?;
        hex_dump(self.0, f)
    }
}

/// The names of the flags that are set, joined by `+`, or `none`.
#[must_use]
pub fn flag_names(flags: Flags) -> String {
    let names: Vec<&str> =
        Flags::NAMES.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(name, _)| *name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join("+") }
}

/// Decodes bytes from the front and writes a line for each field.
struct Reader<'a> {
    bytes: &'a [u8],
    out: &'a mut String,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn read_u8(&mut self) -> Option<u8> {
        self.take::<1>().map(u8::from_be_bytes)
    }

    fn read_u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn read_u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn field(&mut self, layer: &str, name: &str, value: impl fmt::Display) {
        self.write_field(layer, name, &value);
    }

    fn write_field(&mut self, layer: &str, name: &str, value: &dyn fmt::Display) {
        let _ = writeln!(self.out, "  {layer:<4} {name:<16} {value}");
    }

    fn packet(&mut self) -> Option<()> {
        let version = self.bytes.first()? >> 4;
        let protocol = match version {
            4 => self.ipv4()?,
            6 => self.ipv6()?,
            _ => return None,
        };
        let is = |it: Protocol| it.number(version == 4) == protocol;
        if is(Protocol::Tcp) {
            self.tcp()?;
        } else if is(Protocol::Udp) {
            self.udp()?;
        } else if is(Protocol::Icmp) {
            self.icmp()?;
        }
        let bytes = self.bytes.len();
        self.field("data", "bytes", bytes);
        Some(())
    }

    fn ipv4(&mut self) -> Option<u8> {
        let first = self.read_u8()?;
        let header = usize::from(first & 0x0f) * 4;
        self.field("ip", "version", first >> 4);
        self.field("ip", "header length", header);
        let tos = self.read_u8()?;
        self.field("ip", "tos", format_args!("0x{tos:02x} (dscp {})", tos >> 2));
        let length = self.read_u16()?;
        self.field("ip", "total length", length);
        let id = self.read_u16()?;
        self.field("ip", "identification", format_args!("0x{id:04x}"));
        let fragment = self.read_u16()?;
        let bits = match fragment >> 13 {
            0 => "none",
            2 => "df",
            _ => "unusual",
        };
        self.field("ip", "flags", bits);
        self.field("ip", "fragment offset", (fragment & 0x1fff) * 8);
        let ttl = self.read_u8()?;
        self.field("ip", "ttl", ttl);
        let protocol = self.read_u8()?;
        self.field("ip", "protocol", protocol);
        let checksum = self.read_u16()?;
        self.field("ip", "checksum", format_args!("0x{checksum:04x}"));
        let source = Ipv4Addr::from(self.take::<4>()?);
        self.field("ip", "source", source);
        let destination = Ipv4Addr::from(self.take::<4>()?);
        self.field("ip", "destination", destination);
        self.bytes = self.bytes.get(header.checked_sub(20)?..)?;
        Some(protocol)
    }

    fn ipv6(&mut self) -> Option<u8> {
        let first = self.read_u32()?;
        self.field("ip", "version", first >> 28);
        self.field(
            "ip",
            "traffic class",
            format_args!("0x{:02x} (dscp {})", first >> 20 & 0xff, first >> 22 & 0x3f),
        );
        self.field("ip", "flow label", format_args!("0x{:05x}", first & 0xf_ffff));
        let length = self.read_u16()?;
        self.field("ip", "payload length", length);
        let protocol = self.read_u8()?;
        self.field("ip", "next header", protocol);
        let limit = self.read_u8()?;
        self.field("ip", "hop limit", limit);
        let source = Ipv6Addr::from(self.take::<16>()?);
        self.field("ip", "source", source);
        let destination = Ipv6Addr::from(self.take::<16>()?);
        self.field("ip", "destination", destination);
        Some(protocol)
    }

    fn ports(&mut self, layer: &str) -> Option<()> {
        let source = self.read_u16()?;
        self.field(layer, "source port", source);
        let destination = self.read_u16()?;
        self.field(layer, "destination port", destination);
        Some(())
    }

    fn udp(&mut self) -> Option<()> {
        self.ports("udp")?;
        let length = self.read_u16()?;
        self.field("udp", "length", length);
        let checksum = self.read_u16()?;
        self.field("udp", "checksum", format_args!("0x{checksum:04x}"));
        Some(())
    }

    fn icmp(&mut self) -> Option<()> {
        let kind = self.read_u8()?;
        let is_request = [true, false].map(Protocol::echo_request).contains(&kind);
        self.field("icmp", "type", format_args!("{kind}{}", if is_request { " (echo request)" } else { "" }));
        let code = self.read_u8()?;
        self.field("icmp", "code", code);
        let checksum = self.read_u16()?;
        self.field("icmp", "checksum", format_args!("0x{checksum:04x}"));
        let identifier = self.read_u16()?;
        self.field("icmp", "identifier", identifier);
        let sequence = self.read_u16()?;
        self.field("icmp", "sequence", sequence);
        Some(())
    }

    fn tcp(&mut self) -> Option<()> {
        self.ports("tcp")?;
        let sequence = self.read_u32()?;
        self.field("tcp", "sequence", sequence);
        let acknowledgment = self.read_u32()?;
        self.field("tcp", "acknowledgment", acknowledgment);
        let header = usize::from(self.read_u8()? >> 4) * 4;
        self.field("tcp", "header length", header);
        let flags = Flags(self.read_u8()?);
        self.field("tcp", "flags", flag_names(flags));
        let window = self.read_u16()?;
        self.field("tcp", "window", window);
        let checksum = self.read_u16()?;
        self.field("tcp", "checksum", format_args!("0x{checksum:04x}"));
        let urgent = self.read_u16()?;
        self.field("tcp", "urgent pointer", urgent);
        let (options, rest) = self.bytes.split_at_checked(header.checked_sub(20)?)?;
        self.bytes = rest;
        Reader { bytes: options, out: &mut *self.out }.options()
    }

    fn options(&mut self) -> Option<()> {
        while let Some(kind) = self.read_u8() {
            match kind {
                0 => return Some(()),
                1 => self.field("tcp", "option", "nop"),
                _ => {
                    let length = usize::from(self.read_u8()?).checked_sub(2)?;
                    let (value, rest) = self.bytes.split_at_checked(length)?;
                    self.bytes = rest;
                    self.option(kind, value);
                }
            }
        }
        Some(())
    }

    fn option(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (2, &[high, low]) => {
                self.field("tcp", "option", format_args!("mss {}", u16::from_be_bytes([high, low])));
            }
            (3, &[shift]) => self.field("tcp", "option", format_args!("window scale {shift}")),
            (4, []) => self.field("tcp", "option", "sack permitted"),
            (8, value) if value.len() == 8 => {
                let mut reader = Reader { bytes: value, out: &mut String::new() };
                let (value, echo) = (reader.read_u32().unwrap_or(0), reader.read_u32().unwrap_or(0));
                self.field("tcp", "option", format_args!("timestamp {value} echo {echo}"));
            }
            _ => self.field("tcp", "option", format_args!("kind {kind}")),
        }
    }
}

/// A hex dump, sixteen bytes a line: offset, bytes, printable ASCII.
fn hex_dump(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, row) in bytes.chunks(16).enumerate() {
        write!(f, "  {:04x}  ", index * 16)?;
        for at in 0..16 {
            match row.get(at) {
                Some(byte) => write!(f, "{byte:02x} ")?,
                None => f.write_str("   ")?,
            }
        }
        f.write_char(' ')?;
        for &byte in row {
            f.write_char(if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' })?;
        }
        f.write_char('\n')?;
    }
    Ok(())
}
