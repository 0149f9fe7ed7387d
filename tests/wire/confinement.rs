//! What the processes of the daemon have, and where the system does not let them give it up.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use knocking::door::lock::Turn;
use knocking::filter::interfaces::State;
use knocking::opening::event::Opening;
use knocking::opening::log_limit::Cause;
use knocking::protocol::messages::{Crossing, Generation, Report, SinglePacket, Step};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::User;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::daemon::intruder;
use crate::random::Random;
use crate::support::daemon::{RunningDaemon, program};
use crate::support::holds_within;
use crate::support::packet::{CLIENT, tcp};
use crate::support::process;
use crate::support::world::{World, run};

trials![
    watcher_and_resolver_have_nothing_to_steal,
    an_unknown_user_is_refused,
    user_root_keeps_user_and_capabilities,
    without_a_sandbox_only_the_user_changes,
    it_starts_where_something_cannot_be_given_up,
    it_starts_in_a_user_namespace,
    it_starts_on_a_kernel_without_seccomp_and_landlock,
    what_is_required_and_missing_is_named,
    the_watcher_ends_with_the_main_process,
    commands_inherit_no_descriptor_of_ours,
    a_lying_watcher_opens_only_what_it_could_open_by_knocking,
    a_lying_watcher_opens_no_door_more_often_than_its_rate,
    a_flood_of_lies_opens_nothing_and_fills_nothing,
];

const DOOR: &str = "[d]\nsequence = 1\ncommand = echo %IP% >> @/out";
const PATIENCE: Duration = Duration::from_secs(30);

/// The fields of /proc/PID/status.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// What its descriptors are, without the numbers of sockets.
fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let mut links: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    for it in links.iter_mut().filter(|it| it.starts_with("socket:")) {
        "socket".clone_into(it);
    }
    links
}

/// Whether this process may become anybody: not in a user namespace of one user.
fn is_real_root() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().nth(2) != Some("1"))
}

fn user_named(names: &[&str]) -> String {
    let user = names.iter().find_map(|name| User::from_name(name).ok().flatten());
    user.map_or(65_534, |user| user.uid.as_raw()).to_string()
}

fn resolver(daemon: &RunningDaemon) -> i32 {
    let is_it = |pid: i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.starts_with(b"knockd: resolver"))
    };
    daemon.descendants().into_iter().map(|it| it.pid).find(|pid| is_it(*pid)).expect("a resolver")
}

#[track_caller]
fn opens(world: &World, daemon: &RunningDaemon) {
    world.send([tcp(1)]);
    assert!(holds_within(PATIENCE, || !daemon.read("out").is_empty()), "{}", daemon.said());
}

fn watcher_and_resolver_have_nothing_to_steal() {
    let world = World::new();
    // A descriptor that the parent of the daemon left open.
    let through = ["sh", "-c", "exec 7</etc/passwd; exec \"$@\"", "sh"];
    let daemon = world.knockd(DOOR).arguments(&["-l", "-v"]).through(&through).start();
    opens(&world, &daemon);
    let watcher = daemon.watcher().unwrap();
    for (pid, user) in
        [(watcher, user_named(&["knockd", "nobody"])), (resolver(&daemon), user_named(&["nobody"]))]
    {
        let status = status(pid);
        if is_real_root() {
            assert_eq!(status["Uid"], [user.as_str(); 4].join("\t"));
            assert_eq!(status["Groups"], "");
        }
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set].trim_start_matches('0'), "", "{set}");
        }
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
        // A process that can be dumped, or traced by others of its user, has files of its user here.
        assert_eq!(fs::metadata(format!("/proc/{pid}/stat")).unwrap().uid(), 0, "{pid} can be dumped");
        let mut descriptors = descriptors(pid);
        descriptors.retain(|it| it != "socket");
        // By it the watcher hears of SIGUSR1.
        descriptors.retain(|it| it != "anon_inode:[signalfd]");
        assert_eq!(descriptors, ["/dev/null"; 3]);
    }
    let doorkeeper = status(daemon.pid);
    assert_eq!((doorkeeper["NoNewPrivs"].as_str(), doorkeeper["Seccomp"].as_str()), ("0", "0"));
    let status = [
        "--status",
        "-c",
        daemon.config.to_str().unwrap(),
        "-p",
        &daemon.folder.join("pid").to_string_lossy(),
    ]
    .map(str::to_owned);
    let words: Vec<&str> = status.iter().map(String::as_str).collect();
    let said = run(&world.server, &program().into_string().unwrap(), &words).stdout;
    for process in ["  confined   watcher: user ", "  confined   resolver: user "] {
        let line = said.lines().find(|line| line.starts_with(process));
        let line = line.unwrap_or_else(|| panic!("nothing about {process:?} in {said}"));
        assert!(line.contains(", empty bounding set, no capabilities, no_new_privs, "), "{line}");
        assert!(line.contains(", seccomp"), "{line}");
    }
    // Where nothing is missing, -v is what it was with knockd 0.8.
    assert_eq!(daemon.stdout().contains("watcher: "), !is_real_root(), "{}", daemon.said());
}

fn an_unknown_user_is_refused() {
    let world = World::new();
    let sentence =
        "User: there is no user knockd-none; create it (useradd --system knockd-none), or leave the line out";
    for arguments in [&[][..], &["--check"]] {
        let finished = world.knockd(DOOR).options("user = knockd-none").arguments(arguments).finish();
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.contains(sentence), "{finished:?}");
    }
    let daemon = world.knockd(DOOR).start();
    let text = daemon.read("knockd.conf");
    fs::write(&daemon.config, text.replacen("[options]", "[options]\nuser = knockd-none", 1)).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for(sentence);
    daemon.wait_for("keeping the configuration that was in force");
    fs::write(&daemon.config, text.replacen("[options]", "[options]\nuser = root", 1)).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("User and Sandbox take effect when the daemon is started again");
    opens(&world, &daemon);
}

fn user_root_keeps_user_and_capabilities() {
    let world = World::new();
    let daemon = world.knockd(DOOR).options("user = root").start();
    opens(&world, &daemon);
    let status = status(daemon.watcher().unwrap());
    assert_eq!(status["Uid"], "0\t0\t0\t0");
    assert_eq!(status["CapEff"], self::status(daemon.pid)["CapEff"]);
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
}

fn without_a_sandbox_only_the_user_changes() {
    let world = World::new();
    let daemon = world.knockd(DOOR).options("sandbox = no").arguments(&["-v"]).start();
    opens(&world, &daemon);
    let status = status(daemon.watcher().unwrap());
    if is_real_root() {
        assert_eq!(status["Uid"].split('\t').next(), Some(user_named(&["knockd", "nobody"]).as_str()));
    }
    assert_eq!(status["CapEff"].trim_start_matches('0'), "");
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("0", "0"));
    assert!(!daemon.stdout().contains("seccomp"), "{}", daemon.said());
}

/// As in a container with `CAP_NET_RAW` alone, as an ordinary user with that capability, and under a service manager with
/// `NoNewPrivileges`.
const PLACES: [(&[&str], &str); 3] = [
    (&["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all"], "user (Operation not permitted)"),
    (
        &["setpriv", "--bounding-set=-all,+net_raw,+setpcap", "--no-new-privs", "--inh-caps=-all"],
        "user (Operation not permitted)",
    ),
    (&["setpriv", "--no-new-privs"], ""),
];

fn it_starts_where_something_cannot_be_given_up() {
    let world = World::new();
    for (through, missing) in PLACES {
        let daemon = world.knockd(DOOR).arguments(&["-v"]).through(through).start();
        opens(&world, &daemon);
        let status = status(daemon.watcher().unwrap());
        assert_eq!(status["CapEff"].trim_start_matches('0'), "");
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
        let said = daemon.stdout();
        let line = said.lines().find(|line| line.starts_with("watcher: ")).unwrap_or_default();
        if !missing.is_empty() {
            assert!(line.contains("; not possible here: ") && line.contains(missing), "{said}");
        } else if is_real_root() {
            assert!(!line.contains("not possible"), "{said}");
        }
        // It is no news for the log.
        assert!(!daemon.raw_log().contains("not possible"), "{}", daemon.said());
    }
}

/// With one user in it, there is nobody else to become.
fn it_starts_in_a_user_namespace() {
    let world = World::new();
    let through =
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"];
    let knockd = world.knockd(DOOR).interface(Some("lo")).arguments(&["-v", "-l"]).through(&through);
    let daemon = knockd.start();
    let said = || daemon.stdout();
    assert!(holds_within(PATIENCE, || said().contains("resolver: ")), "{}", daemon.said());
    let said = said();
    let line = said.lines().find(|line| line.starts_with("watcher: ")).unwrap_or_default();
    assert!(line.contains("no capabilities, no_new_privs") && line.contains("seccomp"), "{said}");
    assert!(line.contains("; not possible here: user ("), "{said}");
}

fn it_starts_on_a_kernel_without_seccomp_and_landlock() {
    let world = World::new();
    let itself = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let old = |options: &str| {
        let knockd = world.knockd(DOOR).options(options).arguments(&["-v", "-l"]);
        knockd.variable(intruder::ROLE, intruder::OLD_KERNEL).through(&[&itself])
    };
    let daemon = old("").start();
    opens(&world, &daemon);
    let said = daemon.stdout();
    let of = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let watcher = of("watcher: ");
    assert!(
        watcher.contains("; not possible here: ") && watcher.ends_with("seccomp (Invalid argument)"),
        "{said}"
    );
    assert!(of("watcher: ").contains(", empty root directory;"), "{said}");
    assert!(of("resolver: ").contains("Landlock (Function not implemented), seccomp ("), "{said}");
    let root = format!("/proc/{}/root", daemon.watcher().unwrap());
    let shown = fs::read_link(&root).unwrap();
    assert!(shown.to_string_lossy().ends_with("(deleted)"), "{}", shown.display());
    assert_eq!(fs::read_dir(&root).map_or(0, Iterator::count), 0);
    let finished = old("sandbox = require").finish();
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let sentence = "Sandbox = require wants it to: ";
    assert!(
        finished.stderr.contains(sentence) && finished.stderr.contains("seccomp (Invalid argument)"),
        "{finished:?}"
    );
}

fn what_is_required_and_missing_is_named() {
    let world = World::new();
    let (through, missing) = PLACES[0];
    let finished = world.knockd(DOOR).options("sandbox = require").through(through).finish();
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let sentence = "the watcher cannot give up what Sandbox = require wants it to: ";
    assert!(finished.stderr.contains(sentence) && finished.stderr.contains(missing), "{finished:?}");
    if is_real_root() {
        // Nothing is missing here, on a kernel with Landlock or where there can be an empty root directory.
        let daemon = world.knockd(DOOR).options("sandbox = require").start();
        opens(&world, &daemon);
    }
}

fn the_watcher_ends_with_the_main_process() {
    let world = World::new();
    let daemon = world.knockd(DOOR).arguments(&["-l"]).start();
    let (watcher, resolver) = (daemon.watcher().unwrap(), resolver(&daemon));
    // One that does not even read its messages.
    assert!(process::signal(watcher, Signal::SIGSTOP));
    process::end(daemon.pid);
    for pid in [watcher, resolver] {
        assert!(holds_within(PATIENCE, || !process::alive(pid)), "{pid} is still there");
    }
}

fn commands_inherit_no_descriptor_of_ours() {
    let world = World::new();
    let list = "[d]\nsequence = 1\ncommand = ls -l /proc/self/fd > @/new; mv @/new @/out\ncmd_timeout = 60\nstop_command = true";
    let daemon = world.knockd(list).options("usesyslog").arguments(&["-l"]).start();
    opens(&world, &daemon);
    let links: Vec<String> =
        daemon.read("out").lines().filter_map(|line| Some(line.split_once(" -> ")?.1.to_owned())).collect();
    // The parent of the tests may have left others open.
    let folder = daemon.folder.path().to_string_lossy().into_owned();
    let is_ours = |it: &&String| {
        let kinds = ["socket:", "anon_inode:", "/memfd:"];
        kinds.iter().any(|kind| it.starts_with(kind))
            || it.starts_with(&*folder)
                && ["lock", "state", "log", "conf"].iter().any(|name| it.ends_with(name))
    };
    assert!(links.len() >= 4, "{links:?}");
    let ours: Vec<&String> = links.iter().filter(is_ours).collect();
    assert!(ours.is_empty(), "{ours:?} of {links:?}");
}

/// A watcher that somebody took over.
struct Liar<'a> {
    daemon: &'a RunningDaemon<'a>,
    /// The watcher's own end of the line, taken out of it; it is silent from here on.
    line: OwnedFd,
}

/// The configuration's first generation.
const GENERATION: Generation = Generation(1);
const STRANGER: &str = "203.0.113.9";
const SPA_BYTE: u8 = b'+';

impl<'a> Liar<'a> {
    fn of(daemon: &'a RunningDaemon<'a>) -> Liar<'a> {
        let watcher = daemon.watcher().unwrap();
        assert!(process::signal(watcher, Signal::SIGSTOP));
        let process = pidfd_open(Pid::from_raw(watcher).unwrap(), PidfdFlags::empty()).expect("a process");
        let line = pidfd_getfd(process, 3, PidfdGetfdFlags::empty()).expect("its line to the doorkeeper");
        Liar { daemon, line }
    }

    fn send(&self, bytes: &[u8]) {
        loop {
            match send(self.line.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => break,
                Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
                Err(errno) => panic!("{errno}; {}", self.daemon.said()),
            }
        }
    }

    fn say(&self, report: &Report) {
        self.send(&report.encode());
    }

    fn open(&self, number: u64, door: usize, knocker: &str, turn: u64) {
        let opening = Opening { door, knocker: knocker.parse().unwrap(), turn: Turn(turn) };
        self.say(&Report::Opened(number, GENERATION, opening));
    }
}

const DOORS: &str = "[d]\nsequence = 1\ncommand = echo d %IP% >> @/out\n\
    [denied]\nsequence = 2,3\ndeny = 10.0.0.0/8\nallow = 10.0.0.0/8,192.0.2.0/24\ncommand = echo denied %IP% >> @/out\n\
    [cool]\nsequence = 4,5\ncooldown = 3600\ncommand = echo cool %IP% >> @/cool\n\
    [otp]\notp = 3RxdpLmMvN6dJ8qA2sYk,60,20000,off,tcp,tcp,udp\ncommand = echo otp %IP% >> @/out\n\
    [once]\none_time_sequences = @/once\ncommand = echo once %IP% >> @/out\n\
    [single]\nspa_key = the watcher has it not\nspa_hmac_key = it has this\nspa_open = any\ncommand = echo single %IP% >> @/out\n";

fn a_lying_watcher_opens_only_what_it_could_open_by_knocking() {
    let world = World::new();
    let knockd = world.knockd(DOORS);
    knockd.folder().write("once", "6,7\n8,9\n");
    let daemon = knockd.start();
    opens(&world, &daemon);
    let liar = Liar::of(&daemon);
    // It can claim a knock that it could have sent.
    liar.open(2, 0, STRANGER, 0);
    let opened = format!("d {CLIENT}\nd {STRANGER}\n");
    daemon.wait_for_file("out", &opened);
    liar.open(3, 2, STRANGER, 0);
    daemon.wait_for("203.0.113.9: cool: OPEN SESAME");
    let lies = [
        (1, "10.1.2.3", 0, "denied: an opening for 10.1.2.3 is refused: it may not knock at this door"),
        (1, STRANGER, 0, "denied: an opening for 203.0.113.9 is refused: it may not knock at this door"),
        (2, STRANGER, 0, "cool: an opening for 203.0.113.9 is refused: the door is cooling down for it"),
        (0, "0.0.0.0", 0, "d: an opening for 0.0.0.0 is refused: nothing can come from this address"),
        (0, "224.0.0.1", 0, "d: an opening for 224.0.0.1 is refused: nothing can come from this address"),
        (0, STRANGER, 7, "d: an opening for 203.0.113.9 is refused: the door has no such sequence now"),
        (3, STRANGER, 7, "otp: an opening for 203.0.113.9 is refused: the door has no such sequence now"),
        (4, STRANGER, 7, "once: an opening for 203.0.113.9 is refused: the door has no such sequence now"),
        (5, STRANGER, 0, "single: an opening for 203.0.113.9 is refused: the door has no such sequence now"),
    ];
    for (number, (door, knocker, turn, refusal)) in (4..).zip(lies) {
        liar.open(number, door, knocker, turn);
        daemon.wait_for(refusal);
    }
    // What has no line: a number that was taken or is out of turn, another configuration, no such door, a packet that
    // nobody with the keys made.
    for number in [1, 5, 99, u64::MAX] {
        liar.open(number, 0, STRANGER, 0);
    }
    let (door, knocker) = (0, STRANGER.parse().unwrap());
    for generation in [Generation(0), Generation(2)] {
        liar.say(&Report::Opened(13, generation, Opening { door, knocker, turn: Turn(0) }));
    }
    liar.say(&Report::Adopted(Generation(2)));
    liar.open(13, 99, STRANGER, 0);
    let forged = SinglePacket { door: 5, sender: knocker, destination: knocker, packet: vec![SPA_BYTE; 200] };
    liar.say(&Report::Single(14, GENERATION, forged));
    // All that is read before this.
    liar.open(15, 0, "192.0.2.200", 0);
    daemon.wait_for_file("out", &format!("{opened}d 192.0.2.200\n"));
}

/// How many messages a watcher says that lies; `KNOCKD_LIES` wants another number.
const LIES: u64 = 50_000;

/// A door that opens too often is no reason to doubt a watcher that is honest, but it does not open.
fn a_lying_watcher_opens_no_door_more_often_than_its_rate() {
    let world = World::new();
    let rare = "[rare]\nsequence = 2,3\nopen_rate = 2/3600\ncommand = echo rare >> @/rare\n";
    let daemon = world.knockd(&format!("{DOOR}\n{rare}")).start();
    opens(&world, &daemon);
    let liar = Liar::of(&daemon);
    for number in 2..8 {
        liar.open(number, 1, STRANGER, 0);
    }
    // It is read behind all of them.
    liar.open(8, 0, STRANGER, 0);
    daemon.wait_for_file("out", &format!("{CLIENT}\n{STRANGER}\n"));
    daemon.wait_for("rare: 4 openings were dropped: more than its open_rate allows");
    daemon.wait_for_file("rare", "rare\nrare\n");
    assert_eq!(daemon.lines().iter().filter(|line| line.ends_with("rare: OPEN SESAME")).count(), 2);
}

fn a_flood_of_lies_opens_nothing_and_fills_nothing() {
    let world = World::new();
    let knockd = world.knockd(DOORS);
    knockd.folder().write("once", "6,7\n8,9\n");
    let daemon = knockd.start();
    opens(&world, &daemon);
    let before = daemon.read("out");
    let liar = Liar::of(&daemon);
    let random = Random::new();
    let count = std::env::var("KNOCKD_LIES").ok().and_then(|it| it.parse().ok()).unwrap_or(LIES);
    for _ in 0..count {
        liar.send(&lie(&random));
    }
    // It is read behind all of them.
    liar.open(2, 0, "192.0.2.200", 0);
    assert!(holds_within(PATIENCE * 4, || daemon.read("out").contains("192.0.2.200")), "{}", daemon.said());
    assert_eq!(daemon.read("out"), format!("{before}d 192.0.2.200\n"));
    // A thousand lines at once and 200 a second, for ten minutes.
    let written = daemon.raw_log().lines().count();
    assert!(written < 1_200 + 200 * 600, "{written} lines");
    assert!(!daemon.raw_log().contains('\u{1b}'), "control characters in the log");
    let memory = status(daemon.pid)["VmRSS"].clone();
    let kilobytes: u64 = memory.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kilobytes < 60_000, "{memory}");
    // It is replaced like any other that ends, and knocks are heard again.
    process::end(daemon.watcher().unwrap());
    drop(liar);
    let hears = || {
        world.send([tcp(1)]);
        daemon.read("out").ends_with(&format!("d {CLIENT}\n"))
    };
    assert!(holds_within(PATIENCE, hears), "{}", daemon.said());
}

/// A message that is no honest one, or no message.
fn lie(random: &Random) -> Vec<u8> {
    let (door, knocker) = (usize::from(random.byte() % 8), STRANGER.parse().unwrap());
    let opening = Opening { door, knocker, turn: Turn(random.number() % 2) };
    let text = format!("\u{1b}[31m{}", random.number());
    // None of these numbers is the next.
    let number = random.number() | 1 << 40;
    let packet = vec![SPA_BYTE; 200];
    let report = match random.number() % 11 {
        0 => Report::Opened(number, GENERATION, opening),
        1 => Report::Opened(2, Generation(0), opening),
        2 => Report::Single(
            number,
            GENERATION,
            SinglePacket { door, sender: knocker, destination: knocker, packet },
        ),
        3 => Report::Stepped(GENERATION, door, knocker, Step::Advanced(random.byte())),
        4 => Report::Stepped(GENERATION, door, knocker, Step::Repeated(u32::MAX, 0)),
        5 => Report::LeftOut(random.number()),
        6 => Report::Dropped(GENERATION, door, Cause::Queue, random.number()),
        7 => Report::Interface(text, State::Down, true),
        8 => Report::Explained(text, random.once_in(2)),
        9 => Report::Panicked(text),
        _ => Report::Adopted(Generation(2)),
    };
    let mut bytes = report.encode();
    if random.once_in(3) {
        let place = usize::try_from(random.number()).unwrap_or(0) % bytes.len();
        bytes[place] ^= 1 << (random.byte() % 8);
        // It could be the next by this.
        bytes.truncate(bytes.len() - 1);
    }
    bytes
}
