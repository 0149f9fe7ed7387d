//! Determines the source address that a server sees.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use crate::client::core_dump;
use crate::client::failure::Failure;
use crate::client::lookup::{route, stun};
use crate::client::options::Options;
use crate::client::system;
use crate::plan::password::{SourceLookup, parse_printed_address};
use crate::plan::stun::{Stun, StunError};
use crate::reason::reason;

/// The source address that a server at `destination` sees; errors name the `option` that asked for it.
///
/// # Errors
/// The address cannot be determined, or is of the other family.
pub fn seen_from(
    destination: SocketAddr,
    source_lookup: &SourceLookup,
    options: &Options,
    option: &str,
) -> Result<IpAddr, Failure> {
    let source = match source_lookup {
        SourceLookup::Auto => route_source(destination, options)?,
        SourceLookup::Address(address) => *address,
        SourceLookup::Stun(stun) => query_stun(stun, destination.is_ipv4(), option)?,
        SourceLookup::Command(command) => run_command(command, option)?,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        return Ok(source);
    }
    let to = destination.ip();
    Err(Failure::refused(format_args!("{option}: {source} is of another family than {to}")))
}

/// The source address of packets to the destination: the spoofed one, or the one of the route.
fn route_source(destination: SocketAddr, options: &Options) -> Result<IpAddr, Failure> {
    let raw = options.raw.as_ref();
    let spoofed = raw.and_then(|raw| raw.template.source).filter(|it| it.is_ipv4() == destination.is_ipv4());
    if let Some(source) = spoofed {
        return Ok(source);
    }
    route::find(destination, options.interface.as_deref(), None).map(|route| route.source)
}

/// The address reported by STUN servers.
fn query_stun(stun: &Stun, over_v4: bool, option: &str) -> Result<IpAddr, Failure> {
    let refuse = |problem: StunError| Failure::refused(format_args!("{option}: {problem}"));
    stun.check().map_err(refuse)?;
    let query = |(server, port): &(String, u16)| {
        stun::query(server, *port, over_v4)
            .map_err(|problem| Failure::refused(format_args!("{option}: stun:{server}:{port}: {problem}")))
    };
    let answers = stun.servers.iter().map(query).collect::<Result<Vec<_>, _>>()?;
    stun.confirm(&answers).map_err(refuse)
}

/// The address on the first line of a command's output.
fn run_command(command: &str, option: &str) -> Result<IpAddr, Failure> {
    let refuse = |problem: &str| Failure::refused(format_args!("{option}: command: {problem}"));
    let (shell, option_of_shell) = system::SHELL;
    let mut shell = Command::new(shell);
    shell.args([option_of_shell, command]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output =
        core_dump::with_original_limit(|| shell.output()).map_err(|error| refuse(&reason(&error)))?;
    if !output.status.success() {
        return Err(refuse(&format!("it failed ({})", output.status)));
    }
    parse_printed_address(&output.stdout).ok_or_else(|| refuse("its first line is no IP address"))
}
