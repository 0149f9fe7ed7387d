//! Look-ups: the host's addresses, port numbers of services, the next line of a one-time file, the list of a
//! one-time password.
//!
//! All of them happen before the first knock: half a sequence would open nothing, yet reveal that half to an
//! eavesdropper.

mod one_time;
mod password;
mod resolve;
pub mod route;
mod source;
mod stun;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::client::failure::{Failure, Status};
use crate::client::wanted::single::{Allow, SinglePacket};
use crate::client::wanted::{Family, Options, Stages, Wait};
use crate::client::{chance, output};
use crate::door::knock::Protocol;
use crate::door::sequence::Stage;
use crate::plan::password::SourceLookup;
use crate::plan::{self, AddressedSequence, Port, RequestedStage, ResolvedStage};

pub use one_time::Line;
pub use password::advice;

/// The addresses to knock at, with port 0: the first one, or with `--both` the first one of each family.
///
/// # Errors
/// The host is not found, or has no address of this family.
pub fn addresses(options: &Options) -> Result<Vec<SocketAddr>, Failure> {
    let found = resolve::host(&options.host, options.family).map_err(|reason| {
        let first = match &options.stages {
            Stages::Typed(asked) => asked.first(),
            Stages::Profile(..) | Stages::OneTime(_) | Stages::Otp(_) | Stages::Single(_) => None,
        };
        unresolved(options, first, &reason)
    })?;
    if options.family != Family::Both {
        return Ok(found.into_iter().take(1).collect());
    }
    if options.verbose {
        let all: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        let line = format_args!("addresses of {}: {}", options.host, all.join(" "));
        output::note(options.takes_stdout(), line);
    }
    let v4 = found.iter().find(|address| address.is_ipv4());
    let v6 = found.iter().find(|address| address.is_ipv6());
    Ok(v4.into_iter().chain(v6).copied().collect())
}

/// The stages for each address, and the line of a one-time file to strike after sending. With a one-time
/// password, this may wait for the next period.
///
/// # Errors
/// A service is unknown, a one-time file has no usable line, or the source address cannot be determined.
pub fn errands(
    options: &Options,
    addresses: &[SocketAddr],
) -> Result<(Vec<AddressedSequence>, Option<Line>), Failure> {
    let alike = |stages: Vec<ResolvedStage>| -> Vec<AddressedSequence> {
        addresses
            .iter()
            .map(|&address| AddressedSequence { address, stages: stages.clone(), allow_ip: None })
            .collect()
    };
    Ok(match &options.stages {
        Stages::Typed(asked) | Stages::Profile(asked, _) => (alike(services(options, asked)?), None),
        Stages::OneTime(path) => {
            let line = Line::take(path, options.insecure)?;
            (alike(made(options, line.sequence.stages())), Some(line))
        }
        Stages::Otp(password) => {
            let lists = password::lists(password, options, addresses)?;
            let errand = |(&address, list): (&SocketAddr, Vec<Stage>)| AddressedSequence {
                address,
                stages: made(options, &list),
                allow_ip: None,
            };
            (addresses.iter().zip(lists).map(errand).collect(), None)
        }
        Stages::Single(single) => {
            let port = match single.port {
                Some(port) => port,
                None => plan::spa::random_server_port(u64::from_be_bytes(chance::bytes()?)),
            };
            let stages = vec![ResolvedStage::from(Stage { protocol: Protocol::Udp, port })];
            let errand = |&address: &SocketAddr| {
                let allow_ip = allow_ip(single, options, address)?;
                // Check here that the request fits into a packet, before anything is sent.
                single.asking.check(allow_ip).map_err(Failure::refused)?;
                Ok(AddressedSequence { address, stages: stages.clone(), allow_ip: Some(allow_ip) })
            };
            (addresses.iter().map(errand).collect::<Result<_, Failure>>()?, None)
        }
    })
}

/// The addresses combined with the port to wait for.
///
/// # Errors
/// The service is unknown.
pub fn awaited(wait: &Wait, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, Failure> {
    let port = match wait.port.parse() {
        Ok(number) => number,
        Err(_) => resolve::service(&wait.port, wait.protocol)
            .map_err(|reason| Failure::refused(format_args!("port '{}': {reason}", wait.port)))?,
    };
    Ok(addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
}

/// The address that a single packet to `destination` asks to let in; the unspecified address stands for the
/// packet's source.
fn allow_ip(single: &SinglePacket, options: &Options, destination: SocketAddr) -> Result<IpAddr, Failure> {
    match &single.allow {
        Allow::Sender if destination.is_ipv4() => Ok(Ipv4Addr::UNSPECIFIED.into()),
        Allow::Sender => Ok(Ipv6Addr::UNSPECIFIED.into()),
        // A fixed address may be of another family than the packet.
        Allow::Seen(SourceLookup::Address(address)) => Ok(*address),
        Allow::Seen(source_lookup) => source::towards(destination, source_lookup, options, "--allow-ip"),
    }
}

/// Resolves the stages of a one-time file or password. `-u` applies to them too.
fn made(options: &Options, stages: &[Stage]) -> Vec<ResolvedStage> {
    let protocol = |stage: &Stage| match stage.protocol {
        Protocol::Tcp if options.udp => Protocol::Udp,
        protocol => protocol,
    };
    stages.iter().map(|stage| ResolvedStage::from(Stage { protocol: protocol(stage), ..*stage })).collect()
}

/// Resolves the stages of a command line or profile by looking up their services.
fn services(options: &Options, asked: &[RequestedStage]) -> Result<Vec<ResolvedStage>, Failure> {
    let one = |(index, asked): (usize, &RequestedStage)| {
        let port = match asked.port {
            Port::Number(number) => number,
            Port::Service => {
                resolve::service(&asked.text, asked.protocol).map_err(|reason| match &options.stages {
                    Stages::Profile(_, place) => Failure::refused(format_args!(
                        "{place}port {} of it is neither a number nor a service that this system knows: {reason}",
                        index + 1
                    )),
                    _ => unresolved(options, Some(asked), &reason),
                })?
            }
        };
        let stage = Stage { protocol: asked.protocol, port };
        Ok(ResolvedStage { stage, flags: asked.flags, text: asked.text.clone() })
    };
    asked.iter().enumerate().map(one).collect()
}

/// The message of knock 0.8; it names a port only if one was typed.
fn unresolved(options: &Options, asked: Option<&RequestedStage>, reason: &str) -> Failure {
    let port = asked.map(|asked| format!(" on port {}", asked.text)).unwrap_or_default();
    Failure::new(
        Status::Refused,
        format_args!("Failed to resolve hostname '{}'{port}\ngetaddrinfo: {reason}", options.host),
    )
}
