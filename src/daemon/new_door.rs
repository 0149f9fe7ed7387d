//! `--new-door`: prints the configuration of a door with random ports or fresh keys, for the daemon and for
//! the client. Writes no file and runs nothing.

use std::fs;
use std::process::ExitCode;

use crate::config::Config;
use crate::daemon::cli::{Arguments, NewDoor as Wanted};
use crate::daemon::core_dump;
use crate::daemon::doorkeeper::nftables;
use crate::daemon::load::load;
use crate::daemon::log::output;
use crate::firewall::refusal::Refusal;
use crate::new_door::{Firewall, NewDoor, OtherFirewall, code, ports};
use crate::octets;

/// Prints the requested door: returns 0, or 1 if it cannot be made.
#[must_use]
pub fn main(arguments: &Arguments, wanted: &Wanted) -> ExitCode {
    core_dump::forbid();
    output::start(false, false);
    match make(arguments, wanted) {
        Ok(door) => {
            if output::is_for_others_to_read() {
                output::complain(
                    "warning: this goes to a file that others can read; umask 077 prevents that",
                );
            }
            show(arguments, wanted, &door);
            ExitCode::SUCCESS
        }
        Err(why) => {
            output::complain(&format!("knockd: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn make(arguments: &Arguments, wanted: &Wanted) -> Result<NewDoor, String> {
    // The first door may be made before there is a configuration.
    let config = if fs::exists(&arguments.config).unwrap_or(true) {
        load(arguments, &mut |_| {}).map_err(|error| error.to_string())?.config
    } else {
        Config::default()
    };
    wanted.request.check(&config)?;
    let mut taken = ports::in_config(&config);
    taken.push(wanted.request.port);
    taken.extend(ports::in_services(&fs::read_to_string("/etc/services").unwrap_or_default()));
    wanted.request.generate(&firewall(&config), &taken, &mut |bytes| {
        getrandom::fill(bytes).map_err(|error| format!("the system gives no random numbers: {error}"))
    })
}

/// The firewall that closes the door's port on this host.
fn firewall(config: &Config) -> Firewall {
    if config.options.guard || !config.options.rules.open.sets.is_empty() {
        return Firewall::Configured;
    }
    match nftables::known_sets() {
        Ok(Some(sets)) => Firewall::Sets(sets),
        Err(Refusal::NoNftables) => Firewall::Script,
        // Also without the permission to ask.
        Ok(None) | Err(_) => Firewall::Guard(other_firewall()),
    }
}

/// The other firewall of this host, next to our guard.
fn other_firewall() -> OtherFirewall {
    let ufw = fs::read_to_string("/etc/ufw/ufw.conf").unwrap_or_default();
    if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")) {
        OtherFirewall::Ufw
    } else if is_running("firewalld") {
        OtherFirewall::Firewalld
    } else {
        OtherFirewall::Unknown
    }
}

fn is_running(name: &str) -> bool {
    let mut processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.any(|it| fs::read_to_string(it.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
}

fn show(arguments: &Arguments, wanted: &Wanted, door: &NewDoor) {
    let config = octets::path(&arguments.config);
    let check = if arguments.is_config_given { format!(" -c {config}") } else { String::new() };
    output::print(&format!("# Server: add this to {config}, then run: knockd --check{check}\n"));
    output::print(&door.section);
    output::print(&format!("\n# Client: add this to ~/{}, then run: {}\n", door.client_file, door.command));
    output::print(&door.profile);
    let mut codes = vec![("the profile", &door.code)];
    if let Some(link) = &door.link {
        output::print(
            "\n# Browser: the page that knocks, contrib/web/knock.html, opened with this address\n",
        );
        output::print(link);
        output::print("\n");
        codes.push(("the page's address", link));
    }
    for (what, text) in codes.into_iter().filter(|_| wanted.shows_codes) {
        match code::terminal(text) {
            Some(code) => output::print(&format!("\n# QR code of {what}\n{code}")),
            None => output::complain(&format!("{what} is too long for a QR code")),
        }
    }
}
