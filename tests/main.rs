//! All tests that need more than one file of the library, in one binary.
//!
//! The program first moves into its own namespaces (as an ordinary user also a user namespace), so that it can
//! start the real programs as root on real interfaces without touching anything outside. `cargo test -- --list`
//! shows the tests, `cargo test -- NAME` runs those whose name contains NAME, `KNOCKD_UNDER_TEST=/path/knockd`
//! tests another daemon, and `KNOCKD_BLESS=1` rewrites the expected files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub)] // the modules offer their tests with `pub fn tests()`

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The tools of the tests: namespaces, links, packets, running programs.
#[macro_use]
#[allow(dead_code)] // not every tool is in use
mod support;

/// Repeatable random input.
mod random;
/// Tests of the tools in `support`: a broken one would hide faults.
mod tools;
/// Checks of the sources, the manuals and contrib against the programs.
mod repository {
    /// The dependency rules of the sources.
    pub mod architecture;
    /// The completions of the shells.
    pub mod completions;
    /// contrib/knockd.sh.
    pub mod knockd_sh;
    /// The manual pages against the programs.
    pub mod manuals;
}
/// Which files are trusted, as values.
mod trust;
/// What a door is.
mod door {
    /// One-time passwords: arithmetic, accepted periods, spent lists.
    pub mod otp;
    /// Single packets: those of fwknop, and what is refused.
    pub mod spa;
}
/// Parsing and building packets.
mod packet {
    /// Crafted packets as values.
    pub mod craft;
    /// The packet parser, on whole, truncated, odd and random packets.
    pub mod parse;
}
/// Which doors stand open, and the log lines about them.
mod opening {
    /// Who is let in by the kernel.
    pub mod admissions;
    /// Every order of events around the state files, with kills in between.
    pub mod disk;
    /// When doors close that were opened again.
    pub mod ends;
    /// The limit on log lines.
    pub mod log_limit;
    /// The saved state, as values and as text.
    pub mod state;
}
/// What to listen for, and where.
mod filter {
    /// The BPF interpreter of the tests, compared with the kernel.
    pub mod bpf;
    /// When packets are batched, and when a ring pays.
    pub mod bursts;
    /// The choice of interfaces, as values.
    pub mod interfaces;
    /// The kernel's filter: what it passes, and that the kernel accepts it.
    pub mod program;
}
/// Who is knocking.
mod engine {
    /// The table of attempts in progress, and its bounds.
    pub mod attempts;
    /// The rules of knocking, as readable scenarios.
    pub mod scenarios;
    /// Sequences whose knocks arrive at different gateways.
    pub mod sharing;
}
/// knockd.conf.
mod config {
    /// The file of fwknop's daemon.
    pub mod access;
    /// The table of directives: what a key means, and what knockd 0.8 had.
    pub mod directives;
    /// The configuration file: what it accepts, its errors, its warnings.
    pub mod file;
    /// A configuration of several files.
    pub mod include;
}
/// What the client sends, as values.
mod plan {
    /// The file of fwknop's client, and the packets it asks for.
    pub mod fwknoprc;
    /// The client's one-time passwords, as values and as text.
    pub mod password;
    /// The messages of STUN, against those of its RFC.
    pub mod stun_message;
    /// The client's targets and their stages, as values.
    pub mod targets;
}
/// What the daemon's two processes say to each other.
mod protocol {
    /// Every order of events between the two, with kills: each opening is taken once.
    pub mod ends;
    /// The messages of a fleet, and what waits.
    pub mod fleet;
}
/// The daemon without a network.
mod daemon {
    /// The command line of knockd, and `--check`.
    pub mod cli;
    /// What a process can do that somebody took over.
    pub mod intruder;
    /// The messages between the daemon's two processes.
    pub mod messages;
    /// `--new-door` and `--new-seed`.
    pub mod new_door;
    /// `--simulate`: captures and lines against a configuration.
    pub mod simulate;
}
/// Doors in the kernel's firewall.
mod firewall {
    /// Messages as bytes, and answers.
    pub mod bytes;
    /// `Guard` and `Open` against the kernel.
    pub mod guard;
    /// The user's own sets against the kernel.
    pub mod sets;
    /// `nft`, services and connections.
    pub mod tools;
}
/// The real client.
mod client {
    /// What the client does before and after a knock, and its command line.
    pub mod around;
    /// The client's packets on the wire.
    pub mod knocking;
    /// One-time passwords as the client knocks them.
    pub mod otp;
    /// Where the client finds its sequences.
    pub mod profiles;
    /// Raw packets, as they arrive at the server.
    pub mod raw;
    /// Single packets as the client sends them.
    pub mod single;
}
/// The real daemon on real interfaces.
mod wire {
    /// Attempts on the wire: what opens a door, what ends an attempt, what changes nothing.
    pub mod attempts;
    /// `-d`, the pid file, and interfaces that are missing or go down.
    pub mod background;
    /// Bursts of packets, and the ring.
    pub mod bursts;
    /// What runs when a door opens, and what closes it again.
    pub mod commands;
    /// What the processes of the daemon have, and a watcher that lies.
    pub mod confinement;
    /// What survives a crash or a reboot, besides open doors.
    pub mod crash;
    /// Files that the daemon writes: their modes, and what strangers put in their place.
    pub mod files;
    /// The doorkeeper's end of a fleet.
    pub mod fleet;
    pub mod heirs;
    /// Interfaces, addresses and routes that come, go and change while the daemon runs.
    pub mod links;
    /// Many doors, many knockers, many strangers.
    pub mod load;
    /// The daemon's output: log file, standard output, syslog, names.
    pub mod log;
    /// One-time sequences: each line of the file opens its door once.
    pub mod one_time;
    /// One-time passwords at the daemon.
    pub mod otp;
    /// Which packets count, and which the daemon ignores.
    pub mod packets;
    /// The optional rules of a door, on real packets.
    pub mod rules;
    /// Notifications to the service manager.
    pub mod service;
    /// SIGHUP, SIGTERM and SIGINT.
    pub mod signals;
    /// Doors that one authenticated packet opens.
    pub mod single_packets;
    /// Open doors are closed even after a crash.
    pub mod state;
    /// What a running daemon tells of itself when it is asked.
    pub mod status;
    /// The log for programs: JSON lines, and fields for the journal.
    pub mod structured;
    /// Full disks, missing files, refused permissions, exhausted limits.
    pub mod trouble;
    /// Links without a link-level header, such as tunnels.
    pub mod tun;
    /// Logs that nobody reads.
    pub mod unread;
}

/// Most tests mostly wait, so more of them run at once than there are processors.
const TESTS_AT_ONCE: usize = 8;

fn main() -> ExitCode {
    if let Some(code) = daemon::intruder::main() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    if !arguments.list
        && let Err(sentence) = support::isolation::enter()
    {
        eprintln!("error: {sentence}");
        return ExitCode::FAILURE;
    }
    arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
    libtest_mimic::run(&arguments, tests()).exit_code()
}

#[rustfmt::skip] // one module a line, so that branches that add one do not conflict
fn tests() -> Vec<Trial> {
    let modules = [
        random::tests,
        tools::tests,
        repository::architecture::tests,
        repository::completions::tests,
        repository::manuals::tests,
        repository::knockd_sh::tests,
        trust::tests,
        door::otp::tests,
        door::spa::tests,
        packet::parse::tests,
        packet::craft::tests,
        opening::admissions::tests,
        opening::disk::tests,
        opening::ends::tests,
        opening::log_limit::tests,
        opening::state::tests,
        filter::bpf::tests,
        filter::bursts::tests,
        filter::interfaces::tests,
        filter::program::tests,
        engine::attempts::tests,
        engine::scenarios::tests,
        engine::sharing::tests,
        config::directives::tests,
        config::access::tests,
        config::file::corpus_tests,
        config::file::tests,
        config::include::tests,
        plan::fwknoprc::tests,
        plan::targets::tests,
        plan::password::tests,
        plan::stun_message::tests,
        protocol::ends::tests,
        protocol::fleet::tests,
        daemon::cli::tests,
        daemon::intruder::tests,
        daemon::messages::tests,
        daemon::new_door::tests,
        daemon::simulate::tests,
        firewall::bytes::tests,
        firewall::guard::tests,
        firewall::sets::tests,
        client::around::tests,
        client::otp::tests,
        client::profiles::tests,
        client::raw::tests,
        client::single::tests,
        client::knocking::tests,
        wire::attempts::tests,
        wire::background::tests,
        wire::bursts::tests,
        wire::commands::tests,
        wire::heirs::tests,
        wire::confinement::tests,
        wire::crash::tests,
        wire::files::tests,
        wire::fleet::tests,
        wire::links::tests,
        wire::links::kernel_tests,
        wire::load::tests,
        wire::log::tests,
        wire::one_time::tests,
        wire::otp::tests,
        wire::packets::tests,
        wire::rules::tests,
        wire::service::tests,
        wire::single_packets::tests,
        wire::signals::tests,
        wire::state::tests,
        wire::status::tests,
        wire::structured::tests,
        wire::trouble::tests,
        wire::tun::tests,
        wire::unread::tests,
    ];
    modules.into_iter().flat_map(|tests| tests()).collect()
}
