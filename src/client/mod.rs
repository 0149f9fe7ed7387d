//! The client: one knocking, from the command line to the last packet, and what comes after it.
//!
//! The order in one knocking: read the command line, look everything up, open what may be refused;
//! only then send. What is sent is decided by [`plan`](crate::plan), [`shape`](crate::plan::shape) and
//! [`craft`](crate::packet::craft), which do no I/O.

mod after;
mod chance;
mod cli;
mod failure;
mod lookup;
mod output;
mod profiles;
mod send;
mod usage;
mod wanted;

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::client::cli::Line;
use crate::client::failure::{Failure, Status};
use crate::client::lookup::resolve::Family;
use crate::client::send::Knocking;
use crate::client::wanted::{Options, Purpose, Request, Stages, Wait};
use crate::door::knock::Protocol;
use crate::door::sequence::Stage;
use crate::plan::{Asked, Errand, Port, Resolved};
use crate::reason::reason;

/// Runs `knock`; the program's arguments are its input, its exit code is the result.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<OsString> = env::args_os().collect();
    run(&line).unwrap_or_else(|failure| failure.report())
}

fn run(line: &[OsString]) -> Result<ExitCode, Failure> {
    let typed = match cli::read(line)? {
        Line::Typed(typed) => typed,
        Line::Version => {
            output::print(usage::VERSION);
            return Ok(ExitCode::SUCCESS);
        }
        // As knock 0.8 has it, whoever asks for help failed to knock.
        Line::Help => return Err(Failure::usage(None)),
    };
    match wanted::read(line, &typed)? {
        Request::List { insecure } => profiles::list(insecure)?,
        Request::Knock(options) => knock(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything is looked up before the first knock: half a sequence would open nothing, and tell
/// whoever listens on the way half of it.
fn knock(options: &Options) -> Result<(), Failure> {
    let addresses = addresses(options)?;
    let alike = |stages: &Vec<Resolved>| -> Vec<Errand> {
        addresses.iter().map(|&address| Errand { address, stages: stages.clone() }).collect()
    };
    let (errands, one_time) = match &options.stages {
        Stages::Typed(asked) | Stages::Profile(asked) => (alike(&resolve(options, asked)?), None),
        Stages::OneTime(path) => {
            let line = lookup::one_time::Line::take(path)?;
            (alike(&written(options, line.sequence.stages())), Some(line))
        }
        Stages::Otp(password) => (password.errands(options, &addresses)?, None),
    };
    if options.purpose == Purpose::Print {
        for errand in errands {
            output::say(errand);
        }
        return Ok(());
    }
    let awaited = match &options.wait {
        Some(wait) => Some((wait, awaited(wait, &addresses)?)),
        None => None,
    };
    let mut knocking = Knocking::prepare(options, errands)?;
    knocking.send()?;
    if options.purpose == Purpose::DryRun {
        return Ok(());
    }
    if let Some(line) = one_time {
        line.strike()?;
    }
    if let Some((wait, awaited)) = awaited {
        await_port(wait, &awaited, || {
            if let Stages::Otp(password) = &options.stages {
                knocking.renew(password.errands(options, &addresses)?);
            }
            knocking.send()
        })?;
    }
    execute(&options.command)
}

/// Stages that were not typed; `-u` holds for them all the same.
fn written(options: &Options, stages: &[Stage]) -> Vec<Resolved> {
    let protocol = |stage: &Stage| if options.udp { Protocol::Udp } else { stage.protocol };
    stages.iter().map(|stage| Resolved::from(Stage { protocol: protocol(stage), ..*stage })).collect()
}

/// The addresses to knock at: one, or with `--both` one of each family there is.
fn addresses(options: &Options) -> Result<Vec<SocketAddr>, Failure> {
    let found = lookup::resolve::host(&options.host, options.family).map_err(|reason| {
        let first = match &options.stages {
            Stages::Typed(asked) => asked.first(),
            Stages::Profile(_) | Stages::OneTime(_) | Stages::Otp(_) => None,
        };
        unresolved(options, first, &reason)
    })?;
    if options.family != Family::Both {
        return Ok(found.into_iter().take(1).collect());
    }
    if options.verbose {
        let all: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        send::note(options, format_args!("addresses of {}: {}", options.host, all.join(" ")));
    }
    let v4 = found.iter().find(|address| address.is_ipv4());
    let v6 = found.iter().find(|address| address.is_ipv6());
    Ok(v4.into_iter().chain(v6).copied().collect())
}

fn resolve(options: &Options, asked: &[Asked]) -> Result<Vec<Resolved>, Failure> {
    let one = |asked: &Asked| {
        let port = match asked.port {
            Port::Number(number) => number,
            Port::Service => lookup::resolve::service(&asked.text, asked.protocol).map_err(|reason| {
                let shown = matches!(options.stages, Stages::Typed(_)).then_some(asked);
                unresolved(options, shown, &reason)
            })?,
        };
        let stage = Stage { protocol: asked.protocol, port };
        Ok(Resolved { stage, flags: asked.flags, text: asked.text.clone() })
    };
    asked.iter().map(one).collect()
}

/// In the words of knock 0.8; a port is named only where it was typed by the user.
fn unresolved(options: &Options, asked: Option<&Asked>, reason: &str) -> Failure {
    let port = asked.map(|asked| format!(" on port {}", asked.text)).unwrap_or_default();
    Failure::new(
        Status::Refused,
        format_args!("Failed to resolve hostname '{}'{port}\ngetaddrinfo: {reason}", options.host),
    )
}

/// The addresses, with the port that is awaited.
fn awaited(wait: &Wait, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, Failure> {
    let port = match wait.port.parse() {
        Ok(number) => number,
        Err(_) => lookup::resolve::service(&wait.port, wait.protocol)
            .map_err(|reason| Failure::refused(format_args!("port '{}': {reason}", wait.port)))?,
    };
    let with_port = |mut address: SocketAddr| {
        address.set_port(port);
        address
    };
    Ok(addresses.iter().copied().map(with_port).collect())
}

/// Waits for the port, and knocks again as often as was asked for.
fn await_port(
    wait: &Wait,
    addresses: &[SocketAddr],
    mut knock_again: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    for retries_left in (0..=wait.retries).rev() {
        if wait.proxy {
            if let Some(stream) = after::wait::for_connection(addresses, wait.timeout) {
                return after::proxy::join(&stream).map_err(|error| {
                    Failure::refused(format_args!("the connection broke: {}", reason(&error)))
                });
            }
        } else if after::wait::for_answer(addresses, wait.protocol, wait.timeout) {
            return Ok(());
        }
        if retries_left > 0 {
            knock_again()?;
        }
    }
    let (port, protocol) = (&wait.port, wait.protocol);
    let times = match wait.retries {
        0 => "once".to_owned(),
        retries => format!("{} times", retries.saturating_add(1)),
    };
    let told = format_args!("error: {protocol} port {port} did not open; knocked {times}");
    Err(Failure::new(Status::NotOpen, told))
}

/// Becomes the command, if there is one.
fn execute(command: &[OsString]) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let error = Command::new(program).args(arguments).exec();
    let status =
        if error.kind() == io::ErrorKind::NotFound { Status::NotFound } else { Status::NotExecutable };
    Err(Failure::new(status, format_args!("error: cannot run '{}': {}", program.display(), reason(&error))))
}
