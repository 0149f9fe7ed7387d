//! All tests that need more than one file of the library, in one binary.
//!
//! Before anything else this program leaves the machine: it moves into namespaces of its own (as an ordinary
//! user into a user namespace too), so that the real programs can be started as root on real interfaces
//! without touching anything outside. `cargo test -- --list` shows the tests, `cargo test -- NAME` runs those
//! whose name contains NAME, `KNOCKD_UNDER_TEST=/path/knockd` puts another daemon in the place of ours, and
//! `KNOCKD_BLESS=1` rewrites the expected files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub)] // the modules offer their tests with `pub fn tests()`

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Namespaces, links, packets, running programs: what the tests are made with.
#[macro_use]
#[allow(dead_code)] // a tool box is not emptied every day
mod support;

/// The dependency rules of the sources.
mod architecture;
/// The table of attempts under way, and its bounds.
mod attempts;
/// Classic BPF: an interpreter, held against the kernel.
mod bpf;
/// The command line of knockd, and `--check`.
mod cli;
/// What the client is asked for, as values.
mod client;
/// What the client does around a knock, and the manners of its command line.
mod client_around;
/// One-time passwords as the client knocks them.
mod client_otp;
/// Where the client finds its sequences.
mod client_profiles;
/// Crafted packets on the other end of the cable.
mod client_raw;
/// The client's packets on the wire.
mod client_wire;
/// The configuration file: what is understood, what is refused and how, what is warned of.
mod config;
/// contrib/knockd.sh.
mod contrib_knockd_sh;
/// contrib/openwrt, as far as it repeats what the program knows.
mod contrib_openwrt;
/// Crafted packets as values.
mod craft;
/// The kernel's filter: what it passes, and that the kernel takes it.
mod filter;
/// Lines of the log that come too thick.
mod flood;
/// A configuration of several files.
mod include;
/// Which interfaces are listened on, as values.
mod interfaces;
/// The manual pages against the programs.
mod man;
/// The messages between the daemon's two processes.
mod messages;
/// One-time passwords: arithmetic, what is spent, and what must not be shown.
mod otp;
/// When packets gather, and when a ring pays.
mod pace;
/// The parser of packets, on whole, cut, odd and random ones.
mod packet;
/// One-time passwords in words, and what the client is asked for.
mod password;
/// Random input that can be had again.
mod random;
/// The rules of knocking, as scenarios that can be read.
mod scenarios;
/// What is remembered over the end of a process, as values and as text.
mod state;
/// The tools of `support` themselves: what a broken tool would hide.
mod tools;
/// Attempts on the wire: what opens a door, what ends an attempt, what it leaves alone.
mod wire;
/// `-d`, the pid file, and the interface under the daemon's feet.
mod wire_background;
/// What runs when a door opens, and what closes it again.
mod wire_commands;
/// What outlives a crash or a reboot beside doors.
mod wire_crash;
/// Interfaces, addresses and routes that come, go and change while the daemon runs.
mod wire_links;
/// Many doors, many knockers, many strangers.
mod wire_load;
/// What the daemon says: log file, standard output, syslog, names.
mod wire_log;
/// One-time sequences: each line of the file opens its door once.
mod wire_one_time;
/// One-time passwords at the daemon.
mod wire_otp;
/// Which packets count, and which do not exist for the daemon.
mod wire_packets;
/// Rules that a door adds, on real packets.
mod wire_rules;
/// What the service manager learns.
mod wire_service;
/// SIGHUP, SIGTERM and SIGINT.
mod wire_signals;
/// Doors close, whatever ends before its time.
mod wire_state;
/// Packets that come thick, and the ring.
mod wire_thick;
/// What is full, gone, forbidden or used up.
mod wire_trouble;
/// A link without a link-level header, as tunnels have it.
mod wire_tun;

/// Most tests wait for a clock most of the time, so more of them run at once than there are processors.
const TESTS_AT_ONCE: usize = 8;

fn main() -> ExitCode {
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

#[rustfmt::skip] // one module a line: branches that add one do not meet
fn tests() -> Vec<Trial> {
    let modules = [
        architecture::tests,
        attempts::tests,
        bpf::tests,
        cli::tests,
        client::tests,
        client_around::tests,
        client_otp::tests,
        client_profiles::tests,
        client_raw::tests,
        client_wire::tests,
        config::corpus_tests,
        config::tests,
        contrib_knockd_sh::tests,
        contrib_openwrt::tests,
        craft::tests,
        filter::tests,
        flood::tests,
        include::tests,
        man::tests,
        messages::tests,
        otp::tests,
        interfaces::tests,
        pace::tests,
        packet::tests,
        password::tests,
        random::tests,
        scenarios::tests,
        state::tests,
        tools::tests,
        wire::tests,
        wire_background::tests,
        wire_commands::tests,
        wire_crash::tests,
        wire_links::tests,
        wire_links::kernel_tests,
        wire_load::tests,
        wire_log::tests,
        wire_one_time::tests,
        wire_otp::tests,
        wire_packets::tests,
        wire_rules::tests,
        wire_service::tests,
        wire_signals::tests,
        wire_state::tests,
        wire_thick::tests,
        wire_trouble::tests,
        wire_tun::tests,
    ];
    modules.into_iter().flat_map(|tests| tests()).collect()
}
