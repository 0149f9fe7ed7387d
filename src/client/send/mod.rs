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
use crate::client::send::connect::Way;
use crate::client::send::pcap::Recording;
use crate::client::send::raw::Sender;
use crate::client::send::single::Made;
use crate::client::wanted::single::SinglePacket;
use crate::client::wanted::{Options, Purpose, Raw, Stages};
use crate::client::{chance, output};
use crate::door::knock::Protocol;
use crate::packet::describe::{Dissection, flag_names};
use crate::plan::packet_template::{PacketTemplate, PayloadSource, SourcePort};
use crate::plan::{self, AddressedSequence, PlannedKnock, format_milliseconds};
use crate::reason::reason;

/// More bytes than fit into a packet.
const MAX_DATA: u64 = 0x1_0000;

/// Sequences that can be sent repeatedly.
pub struct Knocking<'a> {
    options: &'a Options,
    errands: Vec<AddressedSequence>,
    random: Box<dyn FnMut() -> u64>,
    crafting: Option<Crafting>,
}

/// Additional state for raw packets.
struct Crafting {
    template: PacketTemplate,
    sender: Sender,
    recording: Option<Recording>,
    /// The number of packets built so far.
    made: u64,
    /// In a dry run, the sum of all pauses so far.
    skipped: Duration,
}

impl<'a> Knocking<'a> {
    /// Opens all sockets and files that may fail. Sends nothing.
    ///
    /// # Errors
    /// Raw packets or pings are not permitted, a file cannot be read or written, or a spoofed source is of
    /// the wrong family.
    pub fn prepare(options: &'a Options, errands: Vec<AddressedSequence>) -> Result<Knocking<'a>, Failure> {
        let addresses: Vec<SocketAddr> = errands.iter().map(|errand| errand.address).collect();
        let crafting = if let Some(raw) = &options.raw {
            Some(Crafting::prepare(raw, options, &addresses)?)
        } else {
            if options.purpose == Purpose::Send {
                connect::check_interface(options.interface.as_deref(), &addresses)?;
            }
            check_pings(options, &errands)?;
            None
        };
        Ok(Knocking { options, errands, random: Box::new(chance::numbers()), crafting })
    }

    /// Replaces the sequences; the addresses must be the same.
    pub fn renew(&mut self, errands: Vec<AddressedSequence>) {
        self.errands = errands;
    }

    /// Sends all rounds or, in a dry run, prints them.
    ///
    /// # Errors
    /// A raw packet could not be sent, or no socket could be opened.
    pub fn send(&mut self) -> Result<(), Failure> {
        for _ in 0..self.options.rounds {
            for planned in plan::plan_round(&self.errands, self.options.pace, &mut self.random) {
                match &mut self.crafting {
                    Some(crafting) => crafting.knock(&planned, self.options, &mut self.random)?,
                    None => plain(&planned, self.options)?,
                }
                if self.options.purpose == Purpose::Send && !planned.pause.is_zero() {
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
) -> Result<Option<(&'a SinglePacket, Made)>, Failure> {
    match (&options.stages, planned.allow_ip) {
        (Stages::Single(single), Some(allow_ip)) => {
            Ok(Some((single, single::make(single, allow_ip, options.clock_offset)?)))
        }
        _ => Ok(None),
    }
}

/// Checks whether the pings among the stages are permitted.
fn check_pings(options: &Options, errands: &[AddressedSequence]) -> Result<(), Failure> {
    let has_ping = |errand: &&AddressedSequence| {
        errand.stages.iter().any(|resolved| resolved.stage.protocol == Protocol::Icmp)
    };
    if options.purpose != Purpose::Send {
        return Ok(());
    }
    errands.iter().filter(has_ping).try_for_each(|errand| ping::check(errand.address))
}

fn plain(planned: &PlannedKnock, options: &Options) -> Result<(), Failure> {
    let (protocol, address) = (planned.resolved.stage.protocol, planned.destination.ip());
    let interface = options.interface.as_deref();
    if let Some((single, Made { packet, summary })) = single_packet(planned, options)? {
        let said = format!("a packet of {} bytes to udp {}: {summary}", packet.len(), planned.destination);
        if options.purpose == Purpose::DryRun {
            output::say(format_args!("would send {said}"));
            return Ok(());
        }
        if options.verbose {
            output::note(options.takes_stdout(), format_args!("sending {said}"));
        }
        let way = Way { source_port: single.source_port, interface };
        return connect::knock(planned.destination, protocol, packet.as_bytes(), way)
            .map_err(|error| Failure::refused(format_args!("cannot send the packet: {}", reason(&error))));
    }
    if options.purpose == Purpose::DryRun {
        output::say(format_args!("would hit {protocol} {address}:{}", planned.resolved.text));
        return Ok(());
    }
    if options.verbose {
        output::note(
            options.takes_stdout(),
            format_args!("hitting {protocol} {address}:{}", planned.resolved.text),
        );
    }
    let way = Way { source_port: None, interface };
    connect::knock(planned.destination, protocol, connect::DATAGRAM, way).map_err(|error| {
        Failure::refused(format_args!("cannot open a {protocol} socket: {}", reason(&error)))
    })
}

impl Crafting {
    fn prepare(raw: &Raw, options: &Options, addresses: &[SocketAddr]) -> Result<Crafting, Failure> {
        let mut template = raw.template.clone();
        template.data = match &raw.data {
            None => None,
            Some(PayloadSource::Bytes(bytes)) => Some(bytes.clone()),
            Some(PayloadSource::Path(path)) => Some(read(path)?),
        };
        for address in addresses {
            if template.source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
                let to = address.ip();
                return Err(Failure::refused(format_args!("--source is of another family than {to}")));
            }
        }
        let mut sender = Sender::new(options.interface.clone());
        if options.purpose == Purpose::Send {
            sender.open(addresses)?;
        }
        for &address in addresses {
            sender.route(address, template.source)?;
        }
        let recording = match &raw.pcap {
            Some(path) => Some(Recording::create(path)?),
            None => None,
        };
        Ok(Crafting { template, sender, recording, made: 0, skipped: Duration::ZERO })
    }

    fn knock(
        &mut self,
        planned: &PlannedKnock,
        options: &Options,
        mut random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Failure> {
        let resolved = &planned.resolved;
        let route = self.sender.route(planned.destination, self.template.source)?;
        let single = single_packet(planned, options)?;
        if let Some((single, Made { packet, .. })) = &single {
            // In a dry run, print dummy data: the real packet could open the door.
            let is_sent = options.purpose == Purpose::Send;
            let shown = || vec![b'x'; packet.len()];
            self.template.data = Some(if is_sent { packet.clone().into_bytes() } else { shown() });
            if let (Some(port), SourcePort::Ephemeral) = (single.source_port, self.template.source_port) {
                self.template.source_port = SourcePort::Fixed(port);
            }
        }
        let packet = self.template.packet(resolved.stage, resolved.flags, &route, &mut random);
        let bytes =
            packet.build().map_err(|error| Failure::new(Status::NotSent, format_args!("error: {error}")))?;
        self.made = self.made.saturating_add(1);
        let flags = match resolved.stage.protocol {
            Protocol::Tcp => format!(" ({})", flag_names(resolved.flags.unwrap_or(self.template.flags))),
            Protocol::Udp | Protocol::Icmp => String::new(),
        };
        let asks = single.map(|(_, made)| format!(": {}", made.summary)).unwrap_or_default();
        let said = format_args!(
            "{} {}:{}{flags} from {}:{}{asks}",
            resolved.stage.protocol,
            planned.destination.ip(),
            resolved.text,
            packet.source,
            packet.source_port
        )
        .to_string();
        if options.purpose == Purpose::DryRun {
            let after = format_milliseconds(self.skipped);
            output::say(format_args!("packet {}: {said}, after {after} ms", self.made));
            output::print(Dissection(&bytes));
        } else {
            if options.verbose {
                output::note(options.takes_stdout(), format_args!("hitting {said}"));
            }
            self.sender.send(&bytes, planned.destination)?;
        }
        if let Some(recording) = &mut self.recording {
            recording.write(&bytes, SystemTime::now() + self.skipped)?;
        }
        if options.purpose == Purpose::DryRun {
            self.skipped = self.skipped.saturating_add(planned.pause);
        }
        Ok(())
    }
}

/// Reads a file up to the size of a packet.
fn read(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_DATA).read_to_end(&mut bytes))
        .map_err(|error| Failure::refused(format_args!("--data: {path}: {}", reason(&error))))?;
    Ok(bytes)
}
