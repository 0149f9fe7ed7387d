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
use crate::client::options::single::{AllowedAddress, SinglePacket};
use crate::client::options::{Family, Options, StageSource, WaitOptions};
use crate::client::{output, random};
use crate::door::knock::Protocol;
use crate::door::sequence::Stage;
use crate::plan::password::SourceLookup;
use crate::plan::{self, AddressedSequence, Port, RequestedStage, ResolvedStage};

pub use one_time::OneTimeLine;
pub use password::advice;

/// The addresses to knock at, with port 0: the first one, or with `--both` the first one of each family.
///
/// # Errors
/// The host is not found, or has no address of this family.
pub fn addresses(options: &Options) -> Result<Vec<SocketAddr>, Failure> {
    let found = resolve::host(&options.host, options.family).map_err(|reason| {
        let first = match &options.stages {
            StageSource::CommandLine(requested) => requested.first(),
            StageSource::Profile(..)
            | StageSource::OneTime(_)
            | StageSource::Otp(_)
            | StageSource::SinglePacket(_) => None,
        };
        resolve_failure(options, first, &reason)
    })?;
    if options.family != Family::Both {
        return Ok(found.into_iter().take(1).collect());
    }
    if options.verbose {
        let all: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        let line = format_args!("addresses of {}: {}", options.host, all.join(" "));
        output::print_info(options.takes_stdout(), line);
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
pub fn sequences(
    options: &Options,
    addresses: &[SocketAddr],
) -> Result<(Vec<AddressedSequence>, Option<OneTimeLine>), Failure> {
    let same_for_all = |stages: Vec<ResolvedStage>| -> Vec<AddressedSequence> {
        addresses
            .iter()
            .map(|&address| AddressedSequence { address, stages: stages.clone(), allow_ip: None })
            .collect()
    };
    Ok(match &options.stages {
        StageSource::CommandLine(requested) | StageSource::Profile(requested, _) => {
            (same_for_all(resolve_services(options, requested)?), None)
        }
        StageSource::OneTime(path) => {
            let line = OneTimeLine::take(path, options.insecure)?;
            (same_for_all(resolve_numbers(options, line.sequence.stages())), Some(line))
        }
        StageSource::Otp(password) => {
            let lists = password::lists(password, options, addresses)?;
            let sequence = |(&address, list): (&SocketAddr, Vec<Stage>)| AddressedSequence {
                address,
                stages: resolve_numbers(options, &list),
                allow_ip: None,
            };
            (addresses.iter().zip(lists).map(sequence).collect(), None)
        }
        StageSource::SinglePacket(single) => {
            let port = match single.port {
                Some(port) => port,
                None => plan::spa::random_server_port(u64::from_be_bytes(random::bytes()?)),
            };
            let stages = vec![ResolvedStage::from(Stage { protocol: Protocol::Udp, port })];
            let sequence = |&address: &SocketAddr| {
                let allow_ip = resolve_allow_ip(single, options, address)?;
                // Check here that the request fits into a packet, before anything is sent.
                single.request.check(allow_ip).map_err(Failure::refused)?;
                Ok(AddressedSequence { address, stages: stages.clone(), allow_ip: Some(allow_ip) })
            };
            (addresses.iter().map(sequence).collect::<Result<_, Failure>>()?, None)
        }
    })
}

/// The addresses combined with the port to wait for.
///
/// # Errors
/// The service is unknown.
pub fn wait_addresses(wait: &WaitOptions, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, Failure> {
    let port = match wait.port.parse() {
        Ok(number) => number,
        Err(_) => resolve::service(&wait.port, wait.protocol)
            .map_err(|reason| Failure::refused(format_args!("port '{}': {reason}", wait.port)))?,
    };
    Ok(addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
}

/// The address that a single packet to `destination` asks to let in; the unspecified address stands for the
/// packet's source.
fn resolve_allow_ip(
    single: &SinglePacket,
    options: &Options,
    destination: SocketAddr,
) -> Result<IpAddr, Failure> {
    match &single.allowed_address {
        AllowedAddress::Sender if destination.is_ipv4() => Ok(Ipv4Addr::UNSPECIFIED.into()),
        AllowedAddress::Sender => Ok(Ipv6Addr::UNSPECIFIED.into()),
        // A fixed address may be of another family than the packet.
        AllowedAddress::Lookup(SourceLookup::Address(address)) => Ok(*address),
        AllowedAddress::Lookup(source_lookup) => {
            source::seen_from(destination, source_lookup, options, "--allow-ip")
        }
    }
}

/// Resolves the stages of a one-time file or password. `-u` applies to them too.
fn resolve_numbers(options: &Options, stages: &[Stage]) -> Vec<ResolvedStage> {
    let protocol = |stage: &Stage| match stage.protocol {
        Protocol::Tcp if options.udp => Protocol::Udp,
        protocol => protocol,
    };
    stages.iter().map(|stage| ResolvedStage::from(Stage { protocol: protocol(stage), ..*stage })).collect()
}

/// Resolves the stages of a command line or profile by looking up their services.
fn resolve_services(options: &Options, requested: &[RequestedStage]) -> Result<Vec<ResolvedStage>, Failure> {
    let one = |(index, requested): (usize, &RequestedStage)| {
        let port = match requested.port {
            Port::Number(number) => number,
            Port::Service => {
                resolve::service(&requested.text, requested.protocol).map_err(|reason| match &options.stages {
                    StageSource::Profile(_, location) => Failure::refused(format_args!(
                        "{location}port {} of it is neither a number nor a service that this system knows: {reason}",
                        index + 1
                    )),
                    _ => resolve_failure(options, Some(requested), &reason),
                })?
            }
        };
        let stage = Stage { protocol: requested.protocol, port };
        Ok(ResolvedStage { stage, flags: requested.flags, text: requested.text.clone() })
    };
    requested.iter().enumerate().map(one).collect()
}

/// The message of knock 0.8; it names a port only if one was typed.
fn resolve_failure(options: &Options, requested: Option<&RequestedStage>, reason: &str) -> Failure {
    let port = requested.map(|requested| format!(" on port {}", requested.text)).unwrap_or_default();
    Failure::new(
        Status::Refused,
        format_args!("Failed to resolve hostname '{}'{port}\ngetaddrinfo: {reason}", options.host),
    )
}
