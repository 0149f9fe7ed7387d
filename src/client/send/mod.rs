//! Sends the sequences: every stage to every address, round by round.

mod connect;
mod pcap;
mod ping;
mod raw;
mod single;

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::client::failure::{Failure, Status};
use crate::client::options::single::SinglePacket;
use crate::client::options::{Mode, Options, Raw, StageSource};
use crate::client::send::connect::SocketBinding;
use crate::client::send::pcap::CaptureFile;
use crate::client::send::raw::RawSender;
use crate::client::send::single::BuiltPacket;
use crate::client::{output, random};
use crate::door::knock::Protocol;
use crate::packet::describe::{Dissection, flag_names};
use crate::plan::packet_template::{DEFAULT_UDP_PAYLOAD, PacketTemplate, PayloadSource, SourcePort};
use crate::plan::{self, AddressedSequence, PlannedKnock, format_milliseconds};
use crate::reason::reason;

/// More bytes than fit into a packet.
const MAX_PAYLOAD_FILE: u64 = 0x1_0000;

/// Sequences that can be sent repeatedly.
pub struct SequenceSender<'a> {
    options: &'a Options,
    sequences: Vec<AddressedSequence>,
    random: Box<dyn FnMut() -> u64>,
    raw_state: Option<RawPacketState>,
}

/// Additional state for raw packets.
struct RawPacketState {
    template: PacketTemplate,
    raw_sender: RawSender,
    capture_file: Option<CaptureFile>,
    /// The number of packets built so far.
    packets_built: u64,
    /// In a dry run, the sum of all pauses so far.
    skipped_pauses: Duration,
}

impl<'a> SequenceSender<'a> {
    /// Opens all sockets and files that may fail. Sends nothing.
    ///
    /// # Errors
    /// Raw packets or pings are not permitted, a file cannot be read or written, or a spoofed source is of
    /// the wrong family.
    pub fn prepare(
        options: &'a Options,
        sequences: Vec<AddressedSequence>,
    ) -> Result<SequenceSender<'a>, Failure> {
        let addresses: Vec<SocketAddr> = sequences.iter().map(|sequence| sequence.address).collect();
        let raw_state = if let Some(raw) = &options.raw {
            Some(RawPacketState::prepare(raw, options, &addresses)?)
        } else {
            if options.mode == Mode::Send {
                connect::check_interface(options.interface.as_deref(), &addresses)?;
            }
            check_pings(options, &sequences)?;
            None
        };
        Ok(SequenceSender { options, sequences, random: Box::new(random::numbers()), raw_state })
    }

    /// Replaces the sequences; the addresses must be the same.
    pub fn replace_sequences(&mut self, sequences: Vec<AddressedSequence>) {
        self.sequences = sequences;
    }

    /// Sends all rounds or, in a dry run, prints them.
    ///
    /// # Errors
    /// A raw packet could not be sent, or no socket could be opened.
    pub fn send(&mut self) -> Result<(), Failure> {
        for _ in 0..self.options.rounds {
            for planned in plan::plan_round(&self.sequences, self.options.pace, &mut self.random) {
                match &mut self.raw_state {
                    Some(raw_state) => raw_state.send_raw(&planned, self.options, &mut self.random)?,
                    None => send_plain(&planned, self.options)?,
                }
                if self.options.mode == Mode::Send && !planned.pause.is_zero() {
                    thread::sleep(planned.pause);
                }
            }
        }
        Ok(())
    }
}

/// Builds the single packet for this knock; `None` for knocks of a sequence.
fn single_packet<'a>(
    planned: &PlannedKnock,
    options: &'a Options,
) -> Result<Option<(&'a SinglePacket, BuiltPacket)>, Failure> {
    match (&options.stages, planned.allow_ip) {
        (StageSource::SinglePacket(single), Some(allow_ip)) => {
            Ok(Some((single, single::build(single, allow_ip, options.clock_offset)?)))
        }
        _ => Ok(None),
    }
}

/// Checks whether the pings among the stages are permitted.
fn check_pings(options: &Options, sequences: &[AddressedSequence]) -> Result<(), Failure> {
    let has_ping = |sequence: &&AddressedSequence| {
        sequence.stages.iter().any(|resolved| resolved.stage.protocol == Protocol::Icmp)
    };
    if options.mode != Mode::Send {
        return Ok(());
    }
    sequences.iter().filter(has_ping).try_for_each(|sequence| ping::check(sequence.address))
}

fn send_plain(planned: &PlannedKnock, options: &Options) -> Result<(), Failure> {
    let (protocol, address) = (planned.resolved.stage.protocol, planned.destination.ip());
    let interface = options.interface.as_deref();
    if let Some((single, BuiltPacket { packet, summary })) = single_packet(planned, options)? {
        let description =
            format!("a packet of {} bytes to udp {}: {summary}", packet.len(), planned.destination);
        if options.mode == Mode::DryRun {
            output::print_line(format_args!("would send {description}"));
            return Ok(());
        }
        if options.verbose {
            output::print_info(options.takes_stdout(), format_args!("sending {description}"));
        }
        let binding = SocketBinding { source_port: single.source_port, interface };
        return connect::knock(planned.destination, protocol, packet.as_bytes(), binding)
            .map_err(|error| Failure::refused(format_args!("cannot send the packet: {}", reason(&error))));
    }
    if options.mode == Mode::DryRun {
        output::print_line(format_args!("would hit {protocol} {address}:{}", planned.resolved.text));
        return Ok(());
    }
    if options.verbose {
        output::print_info(
            options.takes_stdout(),
            format_args!("hitting {protocol} {address}:{}", planned.resolved.text),
        );
    }
    let binding = SocketBinding { source_port: None, interface };
    connect::knock(planned.destination, protocol, DEFAULT_UDP_PAYLOAD, binding).map_err(|error| {
        Failure::refused(format_args!("cannot open a {protocol} socket: {}", reason(&error)))
    })
}

impl RawPacketState {
    fn prepare(raw: &Raw, options: &Options, addresses: &[SocketAddr]) -> Result<RawPacketState, Failure> {
        let mut template = raw.template.clone();
        template.data = match &raw.data {
            None => None,
            Some(PayloadSource::Bytes(bytes)) => Some(bytes.clone()),
            Some(PayloadSource::Path(path)) => Some(read_payload(path)?),
        };
        for address in addresses {
            if template.source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
                let to = address.ip();
                return Err(Failure::refused(format_args!("--source is of another family than {to}")));
            }
        }
        let mut raw_sender = RawSender::new(options.interface.clone());
        if options.mode == Mode::Send {
            raw_sender.open(addresses)?;
        }
        for &address in addresses {
            raw_sender.route(address, template.source)?;
        }
        let capture_file = match &raw.pcap {
            Some(path) => Some(CaptureFile::create(path)?),
            None => None,
        };
        Ok(RawPacketState {
            template,
            raw_sender,
            capture_file,
            packets_built: 0,
            skipped_pauses: Duration::ZERO,
        })
    }

    fn send_raw(
        &mut self,
        planned: &PlannedKnock,
        options: &Options,
        mut random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Failure> {
        let resolved = &planned.resolved;
        let route = self.raw_sender.route(planned.destination, self.template.source)?;
        let single = single_packet(planned, options)?;
        if let Some((single, BuiltPacket { packet, .. })) = &single {
            // In a dry run, print dummy data: the real packet could open the door.
            let is_sent = options.mode == Mode::Send;
            let dummy = || vec![b'x'; packet.len()];
            self.template.data = Some(if is_sent { packet.clone().into_bytes() } else { dummy() });
            if let (Some(port), SourcePort::Ephemeral) = (single.source_port, self.template.source_port) {
                self.template.source_port = SourcePort::Fixed(port);
            }
        }
        let packet = self.template.packet(resolved.stage, resolved.flags, &route, &mut random);
        let bytes =
            packet.build().map_err(|error| Failure::new(Status::NotSent, format_args!("error: {error}")))?;
        self.packets_built = self.packets_built.saturating_add(1);
        let flags = match resolved.stage.protocol {
            Protocol::Tcp => format!(" ({})", flag_names(resolved.flags.unwrap_or(self.template.flags))),
            Protocol::Udp | Protocol::Icmp => String::new(),
        };
        let request = single.map(|(_, built)| format!(": {}", built.summary)).unwrap_or_default();
        let description = format_args!(
            "{} {}:{}{flags} from {}:{}{request}",
            resolved.stage.protocol,
            planned.destination.ip(),
            resolved.text,
            packet.source,
            packet.source_port
        )
        .to_string();
        if options.mode == Mode::DryRun {
            let after = format_milliseconds(self.skipped_pauses);
            output::print_line(format_args!(
                "packet {}: {description}, after {after} ms",
                self.packets_built
            ));
            output::print(Dissection(&bytes));
        } else {
            if options.verbose {
                output::print_info(options.takes_stdout(), format_args!("hitting {description}"));
            }
            self.raw_sender.send(&bytes, planned.destination)?;
        }
        if let Some(capture_file) = &mut self.capture_file {
            capture_file.write(&bytes, SystemTime::now() + self.skipped_pauses)?;
        }
        if options.mode == Mode::DryRun {
            self.skipped_pauses = self.skipped_pauses.saturating_add(planned.pause);
        }
        Ok(())
    }
}

/// Reads a file up to the size of a packet.
fn read_payload(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PAYLOAD_FILE).read_to_end(&mut bytes))
        .map_err(|error| Failure::refused(format_args!("--data: {path}: {}", reason(&error))))?;
    Ok(bytes)
}
