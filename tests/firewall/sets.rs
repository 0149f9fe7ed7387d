//! `Nft_Set` and `Open`: doors in the user's own firewall.

use nix::sys::signal::Signal;

use crate::firewall::tools::{connect6, connects, kill, load, nft, serve};
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, CLIENT6, udp};
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};
use crate::wire::state::with_state;

trials![
    doors_open_in_the_shipped_ruleset,
    a_missing_set_is_an_error_with_the_lines_that_make_it,
    a_set_that_does_not_fit_is_an_error,
    a_range_is_an_element_for_each_port,
    a_set_of_addresses_opens_what_its_rule_says,
    a_set_with_intervals_takes_ranges_and_prefixes,
    a_set_of_prefixes_takes_them,
    without_a_set_for_ipv6_the_log_says_so,
    a_full_set_is_a_complaint,
    what_was_open_is_put_back_after_a_reload,
    what_was_closed_by_hand_stays_closed,
    the_longest_time_of_a_shared_element_counts,
    an_element_of_somebody_else_is_not_shortened,
    a_missing_set_is_told_once_while_the_daemon_runs,
    the_next_daemon_knows_what_is_open,
    what_was_closed_by_hand_while_no_daemon_ran_stays_closed,
    guard_and_set_together,
    other_changes_wake_nobody,
];

const RULESET: &str = include_str!("../../contrib/nftables.conf");
const SETS: &str = "nft_set = inet filter knockd4 knockd6";
const SSH: &str = "[ssh]\nsequence = 7000:udp\nopen = tcp/22\n";

fn table(sets: &str, rules: &str) -> String {
    format!(
        "flush ruleset\ntable inet t {{\n{sets}\nchain input {{\ntype filter hook input priority 0; policy drop;\niif lo accept\nct state established,related accept\nmeta l4proto ipv6-icmp accept\n{rules}\n}}\n}}\n"
    )
}

fn doors_open_in_the_shipped_ruleset() {
    let world = World::new();
    load(&world.server, RULESET);
    let _ssh = serve(&world.server, 22);
    let daemon = world.knockd(&format!("{SSH}cmd_timeout = 1\n")).options(SETS).start();
    assert!(!connects(&world, 22) && connect6(&world, 22).is_none());
    world.send([udp(7000), udp(7000).v6()]);
    daemon.wait_for(&format!("{CLIENT}: ssh: opened tcp/22 for 1 s"));
    daemon.wait_for(&format!("{CLIENT6}: ssh: opened tcp/22 for 1 s"));
    assert!(connects(&world, 22) && connect6(&world, 22).is_some());
    daemon.wait_for_times(2, "ssh: closed");
    assert!(!connects(&world, 22) && connect6(&world, 22).is_none());
}

fn a_missing_set_is_an_error_with_the_lines_that_make_it() {
    let world = World::new();
    let start = || world.knockd(SSH).options("nft_set = inet mine four six").finish();
    let ended = start();
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    for set in ["four", "six"] {
        assert!(
            ended.stderr.contains(&format!("there is no set inet mine {set}; this makes it:\n")),
            "{ended:?}"
        );
    }
    // What it prints is what nft takes.
    let blocks: Vec<&str> = ended.stderr.split("this makes it:\n").skip(1).collect();
    for block in blocks {
        let lines: Vec<&str> =
            block.lines().take_while(|line| !line.starts_with("and, in the chain")).collect();
        load(&world.server, &(lines.join("\n") + "\n"));
    }
    let _daemon = world.knockd(SSH).options("nft_set = inet mine four six").start();
}

fn a_set_that_does_not_fit_is_an_error() {
    let world = World::new();
    let sets = "set no_time { type ipv4_addr; }\nset ports { type inet_service; flags timeout; }\nset other { type ipv6_addr; flags timeout; }\nset good { type ipv4_addr . inet_proto . inet_service; flags timeout; }";
    load(&world.server, &table(sets, ""));
    for (set, door, why) in [
        ("no_time", "", "its elements cannot have a timeout"),
        ("ports", "", "its key is neither an address nor address . inet_proto . inet_service"),
        ("other", "", "its addresses are of the other IP version"),
        (
            "good",
            "open_prefix4 = 24\n",
            "open_prefix4 needs a set that holds ranges; add 'interval' to the flags of inet t good",
        ),
        (
            "good",
            "open = tcp/1000-4000\n",
            "open has 3001 ports, each an element of its own in inet t good, and 1024 is the most",
        ),
    ] {
        let ended =
            world.knockd(&format!("{SSH}{door}")).options(&format!("nft_set = inet t {set}")).finish();
        assert_eq!(ended.code(), Some(1), "{set}: {ended:?}");
        assert!(ended.stderr.contains(why), "{set}: {ended:?}");
    }
}

fn a_range_is_an_element_for_each_port() {
    let world = World::new();
    load(&world.server, RULESET);
    let daemon =
        world.knockd("[ssh]\nsequence = 7000:udp\nopen = tcp/22, udp/8000-8002\n").options(SETS).start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened tcp/22, udp/8000-8002 for 10 s");
    let listed = nft(&world.server, &["list", "set", "inet", "filter", "knockd4"]);
    for key in ["tcp . 22", "udp . 8000", "udp . 8001", "udp . 8002"] {
        assert!(listed.contains(&format!("{CLIENT} . {key} timeout")), "{listed}");
    }
    assert_eq!(listed.matches("expires").count(), 4, "{listed}");
}

fn a_set_of_addresses_opens_what_its_rule_says() {
    let world = World::new();
    load(
        &world.server,
        &table("set who { type ipv4_addr; flags timeout; }", "ip saddr @who tcp dport 23 accept"),
    );
    let _telnet = serve(&world.server, 23);
    let daemon = world.knockd(SSH).options("nft_set = inet t who").start();
    assert!(!connects(&world, 23));
    world.send([udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: ssh: opened for 10 s"));
    assert!(connects(&world, 23));
}

fn a_set_with_intervals_takes_ranges_and_prefixes() {
    let world = World::new();
    let sets = "set who { type ipv4_addr . inet_proto . inet_service; flags interval, timeout; }";
    load(&world.server, &table(sets, "ip saddr . meta l4proto . th dport @who accept"));
    let _services = [serve(&world.server, 22), serve(&world.server, 8005)];
    let doors = "[ssh]\nsequence = 7000:udp\nopen = tcp/22, tcp/8000-8010\nopen_prefix4 = 24\n";
    let daemon = world.knockd(doors).options("nft_set = inet t who").start();
    daemon.wait_for("the set inet t who has intervals");
    world.send([udp(7000).from("10.77.0.9")]);
    daemon.wait_for("10.77.0.9: ssh: opened tcp/22, tcp/8000-8010 for 10 s");
    assert!(connects(&world, 22) && connects(&world, 8005));
    let listed = nft(&world.server, &["list", "set", "inet", "t", "who"]);
    assert!(listed.contains("10.77.0.0/24 . tcp . 22 timeout"), "{listed}");
    assert!(listed.contains("10.77.0.0/24 . tcp . 8000-8010 timeout"), "{listed}");
    world.send([udp(7000).from("10.77.0.8")]);
    daemon.wait_for("10.77.0.8: ssh: opened");
    world.send([udp(7000).from("10.77.0.9")]);
    daemon.wait_for("10.77.0.9: ssh: still open, for 10 s");
}

fn a_set_of_prefixes_takes_them() {
    let world = World::new();
    load(
        &world.server,
        &table("set who { type ipv4_addr; flags interval, timeout; }", "ip saddr @who tcp dport 22 accept"),
    );
    let _ssh = serve(&world.server, 22);
    let daemon = world
        .knockd(&format!("{SSH}open_prefix4 = 24\ncmd_timeout = 6\n"))
        .options("nft_set = inet t who")
        .start();
    world.send([udp(7000).from("10.77.0.9")]);
    daemon.wait_for("10.77.0.9: ssh: opened for 6 s");
    assert!(connects(&world, 22));
    let listed = nft(&world.server, &["list", "set", "inet", "t", "who"]);
    assert!(listed.contains("10.77.0.0/24 timeout"), "{listed}");
    world.send([udp(7000).from("10.77.0.9")]);
    daemon.wait_for("10.77.0.9: ssh: still open, for 6 s");
    daemon.wait_for("10.77.0.9: ssh: closed");
    assert!(!connects(&world, 22));
}

fn without_a_set_for_ipv6_the_log_says_so() {
    let world = World::new();
    load(&world.server, RULESET);
    let daemon = world.knockd(SSH).options("nft_set = inet filter knockd4").start();
    world.send([udp(7000).v6()]);
    daemon.wait_for(&format!("{CLIENT6}: ssh: OPEN SESAME"));
    daemon.wait_for(&format!("{CLIENT6}: ssh: could not open: nft_set names no set for IPv6"));
}

fn a_full_set_is_a_complaint() {
    let world = World::new();
    let sets = "set who { type ipv4_addr; flags timeout; size 2; }";
    load(&world.server, &table(sets, "ip saddr @who tcp dport 22 accept"));
    let daemon = world.knockd(SSH).options("nft_set = inet t who").start();
    for last in 2..=4 {
        world.send([udp(7000).from(&format!("10.77.0.{last}"))]);
        daemon.wait_for(&format!("10.77.0.{last}: ssh: OPEN SESAME"));
    }
    daemon.wait_for("10.77.0.3: ssh: opened for 10 s");
    daemon.wait_for("10.77.0.4: ssh: could not open: the set inet t who is full; raise its size");
    // An address in the set can stay in.
    world.send([udp(7000).from("10.77.0.2")]);
    daemon.wait_for("10.77.0.2: ssh: still open, for 10 s");
    assert!(daemon.stderr().contains("could not open"));
}

fn what_was_open_is_put_back_after_a_reload() {
    let world = World::new();
    load(&world.server, RULESET);
    let _ssh = serve(&world.server, 22);
    let daemon = world.knockd(&format!("{SSH}cmd_timeout = 8\n")).options(SETS).start();
    world.send([udp(7000), udp(7000).v6()]);
    daemon.wait_for_times(2, "ssh: opened tcp/22 for 8 s");
    pause(1.0);
    load(&world.server, RULESET);
    daemon.wait_for("the set inet filter knockd4 was made anew: 1 element is in it again");
    let listed = nft(&world.server, &["list", "set", "inet", "filter", "knockd4"]);
    assert!(connects(&world, 22) && connect6(&world, 22).is_some());
    let has_less =
        listed.contains("expires") && !listed.contains("expires 7s") && !listed.contains("expires 8s");
    assert!(has_less, "with what is left of its time: {listed}");
    daemon.wait_for_times(2, "ssh: closed");
    assert!(!connects(&world, 22));
}

fn what_was_closed_by_hand_stays_closed() {
    let world = World::new();
    load(&world.server, RULESET);
    let doors = format!("{SSH}cmd_timeout = 0\nopen_forever = yes\n");
    let daemon = world.knockd(&doors).options(SETS).start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened tcp/22 until closed by hand");
    let key = format!("{{ {CLIENT} . tcp . 22 }}");
    nft(&world.server, &["delete", "element", "inet", "filter", "knockd4", &key]);
    daemon.wait_for(&format!("{CLIENT}: ssh: closed"));
    load(&world.server, RULESET);
    daemon.wait_for("knockd4 was made anew: 0 elements are in it again");
    assert!(!nft(&world.server, &["list", "set", "inet", "filter", "knockd4"]).contains(CLIENT));
}

fn the_longest_time_of_a_shared_element_counts() {
    let world = World::new();
    load(&world.server, RULESET);
    let _ssh = serve(&world.server, 22);
    let doors = "[short]\nsequence = 7000:udp\nopen = tcp/22\ncmd_timeout = 3\n[long]\nsequence = 7001:udp\nopen = tcp/22\ncmd_timeout = 10\nclose_on_stop = yes\n";
    for order in [[7001, 7000], [7000, 7001]] {
        let mut daemon = world.knockd(doors).options(SETS).start();
        world.send(order.map(udp));
        daemon.wait_for("short: opened tcp/22 for 3 s");
        daemon.wait_for("long: opened tcp/22 for 10 s");
        daemon.wait_for("short: closed");
        assert!(connects(&world, 22), "{order:?}");
        daemon.wait_for("long: closed");
        assert!(!connects(&world, 22), "{order:?}");
        // The end of the longer one leaves what the shorter one still needs.
        world.send(order.map(udp));
        daemon.wait_for_times(2, "short: opened tcp/22 for 3 s");
        daemon.wait_for_times(2, "long: opened tcp/22 for 10 s");
        assert_eq!(daemon.stop(), Some(0));
        daemon.wait_for_times(2, "long: closed");
        assert!(connects(&world, 22), "{order:?}");
        assert!(holds_within(seconds(30.0), || !connects(&world, 22)), "{order:?}");
    }
}

fn an_element_of_somebody_else_is_not_shortened() {
    let world = World::new();
    load(&world.server, RULESET);
    let daemon = world.knockd(&format!("{SSH}cmd_timeout = 60\nclose_on_stop = yes\n")).options(SETS).start();
    let listed = || nft(&world.server, &["list", "set", "inet", "filter", "knockd4"]);
    let element = format!("{{ {CLIENT} . tcp . 22 timeout 1h }}");
    nft(&world.server, &["add", "element", "inet", "filter", "knockd4", &element]);
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened tcp/22 for 60 s");
    assert!(listed().contains("timeout 1h expires 59m"), "{}", listed());
    // A shorter one is renewed.
    let element = "{ 10.77.0.9 . tcp . 22 timeout 100ms }";
    nft(&world.server, &["add", "element", "inet", "filter", "knockd4", element]);
    world.send([udp(7000).from("10.77.0.9")]);
    daemon.wait_for("10.77.0.9: ssh: opened tcp/22 for 60 s");
    pause(0.3);
    assert!(listed().contains("10.77.0.9"), "{}", listed());
}

fn a_missing_set_is_told_once_while_the_daemon_runs() {
    let world = World::new();
    load(&world.server, RULESET);
    let daemon = world.knockd(SSH).options(SETS).start();
    nft(&world.server, &["delete", "table", "inet", "filter"]);
    daemon.wait_for("there is no set inet filter knockd4; this makes it:");
    daemon.wait_for("there is no set inet filter knockd6; this makes it:");
    world.send([udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: ssh: could not open: the set inet filter knockd4 is missing"));
    nft(&world.server, &["add", "table", "inet", "unrelated"]);
    daemon.sync();
    assert_eq!(
        daemon.raw_log().matches("there is no set inet filter knockd4").count(),
        1,
        "{}",
        daemon.said()
    );
    load(&world.server, RULESET);
    daemon.wait_for("the set inet filter knockd4 was made anew: 0 elements are in it again");
    world.send([udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: ssh: opened tcp/22 for 10 s"));
}

fn the_next_daemon_knows_what_is_open() {
    let world = World::new();
    let place = Folder::new();
    load(&world.server, RULESET);
    let _ssh = serve(&world.server, 22);
    let doors = format!("{SSH}cmd_timeout = 12\n");
    let mut daemon = with_state(&world, &place, &doors).options(SETS).start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    // It is written behind the opening.
    let written = || place.read("state").contains("admitted") || place.read("state.new").contains("admitted");
    assert!(holds_within(seconds(30.0), written));
    kill(&mut daemon);
    let mut daemon = with_state(&world, &place, &doors).options(SETS).start();
    daemon.wait_for(&format!("{CLIENT}: ssh: still open, for "));
    load(&world.server, RULESET);
    daemon.wait_for("knockd4 was made anew: 1 element is in it again");
    assert!(connects(&world, 22));
    assert_eq!(daemon.stop(), Some(0));
    let daemon = with_state(&world, &place, &doors).options(SETS).start();
    daemon.wait_for(&format!("{CLIENT}: ssh: still open, for "));
    daemon.wait_for(&format!("{CLIENT}: ssh: closed"));
    assert!(holds_within(seconds(30.0), || !connects(&world, 22)));
}

fn what_was_closed_by_hand_while_no_daemon_ran_stays_closed() {
    let world = World::new();
    let place = Folder::new();
    load(&world.server, RULESET);
    let doors = format!("{SSH}cmd_timeout = 0\nopen_forever = yes\n");
    let start = || with_state(&world, &place, &doors).options(SETS).start();
    let mut daemon = start();
    world.send([udp(7000), udp(7000).from("10.77.0.9")]);
    daemon.wait_for_times(2, "ssh: opened tcp/22 until closed by hand");
    assert_eq!(daemon.stop(), Some(0));
    let key = format!("{{ {CLIENT} . tcp . 22 }}");
    nft(&world.server, &["delete", "element", "inet", "filter", "knockd4", &key]);
    let mut daemon = start();
    daemon.wait_for("10.77.0.9: ssh: still open, until closed by hand");
    assert_eq!(daemon.stop(), Some(0));
    // A firewall that was loaded again took it away, and nobody meant to.
    load(&world.server, RULESET);
    let daemon = start();
    daemon.wait_for("10.77.0.9: ssh: still open, until closed by hand");
    assert!(!daemon.raw_log().contains(CLIENT), "{}", daemon.said());
    let listed = nft(&world.server, &["list", "set", "inet", "filter", "knockd4"]);
    assert!(listed.contains("10.77.0.9") && !listed.contains(CLIENT), "{listed}");
}

fn guard_and_set_together() {
    let world = World::new();
    load(&world.server, RULESET);
    let _ssh = serve(&world.server, 22);
    let daemon = world.knockd(SSH).options(&format!("{SETS}\nguard = yes")).start();
    assert!(!connects(&world, 22));
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened tcp/22 for 10 s");
    assert!(connects(&world, 22));
    for set in [["filter", "knockd4"], ["knockd", "ssh4"]] {
        assert!(nft(&world.server, &["list", "set", "inet", set[0], set[1]]).contains(CLIENT));
    }
}

/// Elements of others and our own do not wake the daemon.
fn other_changes_wake_nobody() {
    let world = World::new();
    load(&world.server, RULESET);
    let daemon = world.knockd(&format!("{SSH}cmd_timeout = 600\n")).options(SETS).start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    daemon.sync();
    let switches = || -> u64 {
        let all = daemon.descendants().into_iter().map(|process| process.pid).chain([daemon.pid]);
        let of = |pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt")).map(str::to_owned);
            line.and_then(|line| line.split_whitespace().last()?.parse::<u64>().ok()).unwrap_or_default()
        };
        all.map(of).sum()
    };
    let mut before = switches();
    let is_quiet = || {
        pause(1.5);
        let earlier = std::mem::replace(&mut before, switches());
        earlier == before
    };
    assert!(holds_within(seconds(30.0), is_quiet), "{}", daemon.said());
    for last in 1..100 {
        let element = format!("{{ 192.0.2.{last} . tcp . 22 timeout 1h }}");
        nft(&world.server, &["add", "element", "inet", "filter", "knockd4", &element]);
    }
    // While a door is open it looks at the clock once a minute, and slow machines take minutes for these.
    let times = switches() - before;
    assert!(times < 50, "elements of others woke the daemon {times} times");
}
