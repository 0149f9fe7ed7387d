//! `--guard` and `--unguard`: the table of `Guard` without a daemon. At boot it must exist before the network
//! is up, and it outlives the daemon.

use std::process::ExitCode;

use crate::daemon::cli::Arguments;
use crate::daemon::doorkeeper::nftables;
use crate::daemon::load::load;
use crate::daemon::log::output;
use crate::door::ports::listed;

/// Sets up or removes the table. The exit code is 0 on success, otherwise 1.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    let result = if arguments.unguard { remove(arguments) } else { raise(arguments) };
    match result {
        Ok(sentence) => {
            output::print(&format!("{sentence}\n"));
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            output::complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn raise(arguments: &Arguments) -> Result<String, String> {
    let config = load(arguments, &mut |_| {}).map_err(|error| error.to_string())?.config;
    let ports = nftables::guard(&config)?;
    Ok(if ports.is_empty() {
        "the configuration has no guard: nothing is guarded".to_owned()
    } else {
        format!("guarding {}", listed(&ports))
    })
}

fn remove(arguments: &Arguments) -> Result<String, String> {
    if let Some(pid) = running(arguments) {
        return Err(format!("knockd runs as process {pid}; stop it first"));
    }
    Ok(if nftables::unguard()? {
        "the guard is gone: its ports are as open as the rest of the firewall has them".to_owned()
    } else {
        "there is no guard".to_owned()
    })
}

/// The PID of the daemon in the pid file, if it runs. On kernels with persistent table owners, the table's
/// owner reveals a running daemon as well.
fn running(arguments: &Arguments) -> Option<i32> {
    let configured = load(arguments, &mut |_| {}).ok().and_then(|loaded| loaded.config.options.pid_file);
    let path = configured.unwrap_or_else(|| arguments.pid_file.clone());
    let pid: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    name.starts_with("knockd").then_some(pid)
}
