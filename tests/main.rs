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

/// Random input that can be had again.
mod random;
/// The tools of `support` themselves: what a broken tool would hide.
mod tools;
/// The sources, the manuals and contrib, held against the programs.
mod repository {
    /// The dependency rules of the sources.
    pub mod architecture;
    /// contrib/knockd.sh.
    pub mod knockd_sh;
    /// The manual pages against the programs.
    pub mod manuals;
    /// contrib/openwrt, as far as it repeats what the program knows.
    pub mod openwrt;
}
/// What a door is.
mod door {
    /// One-time passwords: arithmetic, what is spent, and what must not be shown.
    pub mod otp;
}
/// Bytes to knocks, values to packets.
mod packet {
    /// Crafted packets as values.
    pub mod craft;
    /// The parser of packets, on whole, cut, odd and random ones.
    pub mod parse;
}
/// Which doors stand open, and what the log says of it.
mod opening {
    /// Lines of the log that come too thick.
    pub mod log_limit;
    /// What is remembered over the end of a process, as values and as text.
    pub mod state;
}
/// What is listened for and where.
mod filter {
    /// Classic BPF: an interpreter, held against the kernel.
    pub mod bpf;
    /// When packets gather, and when a ring pays.
    pub mod bursts;
    /// Which interfaces are listened on, as values.
    pub mod interfaces;
    /// The kernel's filter: what it passes, and that the kernel takes it.
    pub mod program;
}
/// Who is knocking.
mod engine {
    /// The table of attempts under way, and its bounds.
    pub mod attempts;
    /// The rules of knocking, as scenarios that can be read.
    pub mod scenarios;
}
/// knockd.conf.
mod config {
    /// The table of directives: what a key means, and what knockd 0.8 had.
    pub mod directives;
    /// The configuration file: what is understood, what is refused and how, what is warned of.
    pub mod file;
    /// A configuration of several files.
    pub mod include;
}
/// What the client sends, as values.
mod plan {
    /// One-time passwords in words, and what the client is asked for.
    pub mod password;
    /// What the client is asked for, as values.
    pub mod targets;
}
/// The daemon without a network.
mod daemon {
    /// The command line of knockd, and `--check`.
    pub mod cli;
    /// The messages between the daemon's two processes.
    pub mod messages;
}
/// The real client.
mod client {
    /// What the client does around a knock, and the manners of its command line.
    pub mod around;
    /// The client's packets on the wire.
    pub mod knocking;
    /// One-time passwords as the client knocks them.
    pub mod otp;
    /// Where the client finds its sequences.
    pub mod profiles;
    /// Crafted packets on the other end of the cable.
    pub mod raw;
}
/// The real daemon on real interfaces.
mod wire {
    /// Attempts on the wire: what opens a door, what ends an attempt, what it leaves alone.
    pub mod attempts;
    /// `-d`, the pid file, and the interface under the daemon's feet.
    pub mod background;
    /// Packets that come thick, and the ring.
    pub mod bursts;
    /// What runs when a door opens, and what closes it again.
    pub mod commands;
    /// What outlives a crash or a reboot beside doors.
    pub mod crash;
    /// Interfaces, addresses and routes that come, go and change while the daemon runs.
    pub mod links;
    /// Many doors, many knockers, many strangers.
    pub mod load;
    /// What the daemon says: log file, standard output, syslog, names.
    pub mod log;
    /// One-time sequences: each line of the file opens its door once.
    pub mod one_time;
    /// One-time passwords at the daemon.
    pub mod otp;
    /// Which packets count, and which do not exist for the daemon.
    pub mod packets;
    /// Rules that a door adds, on real packets.
    pub mod rules;
    /// What the service manager learns.
    pub mod service;
    /// SIGHUP, SIGTERM and SIGINT.
    pub mod signals;
    /// Doors close, whatever ends before its time.
    pub mod state;
    /// What is full, gone, forbidden or used up.
    pub mod trouble;
    /// A link without a link-level header, as tunnels have it.
    pub mod tun;
}

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
        random::tests,
        tools::tests,
        repository::architecture::tests,
        repository::manuals::tests,
        repository::knockd_sh::tests,
        repository::openwrt::tests,
        door::otp::tests,
        packet::parse::tests,
        packet::craft::tests,
        opening::log_limit::tests,
        opening::state::tests,
        filter::bpf::tests,
        filter::bursts::tests,
        filter::interfaces::tests,
        filter::program::tests,
        engine::attempts::tests,
        engine::scenarios::tests,
        config::directives::tests,
        config::file::corpus_tests,
        config::file::tests,
        config::include::tests,
        plan::targets::tests,
        plan::password::tests,
        daemon::cli::tests,
        daemon::messages::tests,
        client::around::tests,
        client::otp::tests,
        client::profiles::tests,
        client::raw::tests,
        client::knocking::tests,
        wire::attempts::tests,
        wire::background::tests,
        wire::bursts::tests,
        wire::commands::tests,
        wire::crash::tests,
        wire::links::tests,
        wire::links::kernel_tests,
        wire::load::tests,
        wire::log::tests,
        wire::one_time::tests,
        wire::otp::tests,
        wire::packets::tests,
        wire::rules::tests,
        wire::service::tests,
        wire::signals::tests,
        wire::state::tests,
        wire::trouble::tests,
        wire::tun::tests,
    ];
    modules.into_iter().flat_map(|tests| tests()).collect()
}
