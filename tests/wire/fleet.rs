//! The doorkeeper's end of a fleet: a test peer on `Fleet_Socket`, real knocks, real commands.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use knocking::daemon::messages::{Received, receive, transmit};
use knocking::door::knock::{Knock, Protocol};
use knocking::door::sequence::Stage;
use knocking::door::spa::sealed::PacketId;
use knocking::fleet::marks::use_of;
use knocking::fleet::message::{FromKnockd, LONGEST, Shared, ToKnockd, VERSION};
use knocking::opening::admit::port_of;
use knocking::opening::record::Record;
use knocking::opening::standing::{Access, Key, Stop};
use knocking::protocol::knock::EncodedKnock;
use knocking::protocol::messages::Crossing;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use nix::time::{ClockId, clock_gettime};

use crate::client::otp::{HOUR, not_soon, unix};
use crate::door::otp::otp;
use crate::firewall::tools::{connects, serve};
use crate::support::daemon::RunningDaemon;
use crate::support::packet::{CLIENT, CLIENT6, SERVER, tcp, udp};
use crate::support::world::World;
use crate::support::{holds_within, seconds};
use crate::wire::otp::list;
use crate::wire::single_packets::{SPA, asked, sealed, sent};
use crate::wire::state::kill_all;
use crate::wire::status::ask;

trials![
    without_a_fleet_there_is_nothing_of_it,
    an_opening_is_told_and_one_that_is_told_opens,
    a_command_without_an_end_is_worth_a_while,
    a_door_that_is_open_gets_a_later_end_and_no_second_command,
    a_door_that_the_kernel_opens,
    a_list_waits_for_its_answer_and_nothing_else_does,
    an_opening_that_open_rate_refuses_uses_up_its_list_in_the_fleet,
    without_an_answer_the_policy_decides,
    without_a_peer_nobody_waits,
    a_list_that_was_used_elsewhere_is_used_here,
    a_line_that_was_used_elsewhere_is_struck_here,
    a_cooldown_begins_with_the_fleet,
    a_list_in_a_cooldown_of_the_fleet_is_used_up,
    a_single_packet_is_asked_about_and_told,
    what_the_keys_here_do_not_grant_stays_shut,
    nothing_is_open_for_longer_than_here,
    what_happens_without_a_peer_is_told_to_the_next,
    what_is_doubtful_opens_nothing,
    nonsense_ends_the_connection_and_nothing_else,
    a_second_peer_waits_for_the_first,
    another_user_is_put_off,
    a_reload_moves_the_socket,
    the_next_daemon_runs_nothing_again,
    a_socket_that_cannot_be_made_is_tried_again,
    knocks_that_are_later_ones_elsewhere_are_shared,
    without_fleet_share_no_knock_is_told,
    the_status_tells_of_the_fleet,
];

/// What the fleet has to say and hear.
pub struct Peer {
    socket: OwnedFd,
}

impl Peer {
    /// Connects to a daemon's `@/fleet`, and takes its greeting.
    #[track_caller]
    fn of(daemon: &RunningDaemon) -> Peer {
        let peer = Peer::at(&daemon.folder.join("fleet"));
        assert!(matches!(peer.next(), Some(FromKnockd::Hello(VERSION, ..))), "{}", daemon.said());
        daemon.wait_for("the fleet is connected");
        peer
    }

    #[track_caller]
    fn at(path: &Path) -> Peer {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let address = UnixAddr::new(path).unwrap();
        let is_there = || connect(socket.as_raw_fd(), &address).is_ok();
        assert!(holds_within(seconds(30.0), is_there), "nobody listens at {}", path.display());
        Peer { socket }
    }

    /// What the daemon says next; none if it says nothing for a long time, or is gone.
    fn next(&self) -> Option<FromKnockd> {
        let mut said = None;
        holds_within(seconds(30.0), || match receive(&self.socket) {
            Received::Message(message, _) => {
                said = Some(message);
                true
            }
            Received::Closed => true,
            Received::Nonsense => panic!("the daemon says nonsense"),
            Received::Nothing => false,
        });
        said
    }

    /// Whether the daemon has closed this connection.
    fn is_closed(&self) -> bool {
        holds_within(seconds(30.0), || matches!(receive::<FromKnockd>(&self.socket), Received::Closed))
    }

    #[track_caller]
    fn say(&self, message: &ToKnockd) {
        transmit(&self.socket, message, None).expect("room in the socket");
    }

    #[track_caller]
    fn opened(&self) -> Shared {
        match self.next() {
            Some(FromKnockd::Opened(shared)) => *shared,
            other => panic!("{other:?} instead of an opening"),
        }
    }

    #[track_caller]
    fn asked(&self) -> Shared {
        match self.next() {
            Some(FromKnockd::Ask(shared)) => *shared,
            other => panic!("{other:?} instead of a question"),
        }
    }
}

const FLEET: &str = "fleet_socket = @/fleet";
/// A door of one datagram, with commands that leave traces.
const DOOR: &str = "[d]\nsequence = 7000:udp\nstart_command = echo start %IP% >>@/out\nstop_command = echo stop %IP% >>@/out\n";

/// What another member tells of an opening of this door.
fn told(shared: &Shared, number: u64, knocker: &str, time: f64) -> ToKnockd {
    let mut shared = Box::new(shared.clone());
    shared.stop = Stop {
        key: Key { number, ..shared.stop.key },
        knocker: knocker.parse().unwrap(),
        due: uptime() + seconds(time),
        ..shared.stop
    };
    ToKnockd::Open(shared)
}

/// The clock of the messages.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// What is left of the time of an opening.
fn left(shared: &Shared) -> f64 {
    shared.stop.due.saturating_sub(uptime()).as_secs_f64()
}

/// The lock and the turn, or the single packet, that it used up.
fn turn(shared: &Shared) -> u64 {
    match shared.used {
        Record::Spent(_, turn, _) | Record::Packet(turn, _) => turn,
        ref other => panic!("{other:?}"),
    }
}

/// The same with another turn.
fn at_turn(shared: &Shared, turn: u64) -> Shared {
    Shared { used: Record::Spent(0, turn, None), ..shared.clone() }
}

#[track_caller]
fn wait_for_line(daemon: &RunningDaemon, name: &str, line: &str) {
    let is_there = || daemon.read(name).lines().any(|it| it == line);
    assert!(holds_within(seconds(30.0), is_there), "no {line:?} in {name}; {}", daemon.said());
}

fn without_a_fleet_there_is_nothing_of_it() {
    let world = World::new();
    let open = |daemon: &RunningDaemon| {
        daemon.sync();
        let count = |kind: &str| fs::read_dir(format!("/proc/{}/{kind}", daemon.pid)).unwrap().count();
        // The thread that flushes the state file begins with the first opening.
        (count("fd"), count("task"))
    };
    let plain = world.knockd(DOOR).start();
    let before = open(&plain);
    assert!(!plain.folder.join("fleet").exists());
    drop(plain);
    let fleet = world.knockd(DOOR).options(FLEET).start();
    let socket = fleet.folder.join("fleet");
    let kind = fs::symlink_metadata(&socket).unwrap();
    assert!(kind.file_type().is_socket() && kind.permissions().mode() & 0o777 == 0o600);
    assert_eq!(open(&fleet), (before.0 + 1, before.1));
    let mut fleet = fleet;
    assert_eq!(fleet.stop(), Some(0));
    assert!(!socket.exists());
}

fn an_opening_is_told_and_one_that_is_told_opens() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}cmd_timeout = 30\n")).options(FLEET).start();
    let peer = Peer::of(&daemon);
    world.send([udp(7000)]);
    let shared = peer.opened();
    assert_eq!((&*shared.stop.door, shared.stop.knocker.to_string()), ("d", CLIENT.to_owned()));
    assert!(shared.has_end && shared.stop.access.is_none(), "{shared:?}");
    assert_eq!(shared.used, Record::Spent(0, 0, None));
    assert!((29.0..=30.0).contains(&left(&shared)), "{shared:?}");
    daemon.wait_for_file("out", &format!("start {CLIENT}\n"));
    // It is told of others, and has what is left of their time.
    peer.say(&told(&shared, 1, "192.0.2.9", 1.5));
    daemon.wait_for("192.0.2.9: d: opened by the fleet for 2 s");
    let opened = Instant::now();
    wait_for_line(&daemon, "out", "start 192.0.2.9");
    wait_for_line(&daemon, "out", "stop 192.0.2.9");
    assert!(opened.elapsed() >= Duration::from_millis(1_300), "closed after {:?}", opened.elapsed());
    peer.say(&told(&shared, 2, "2001:db8::9", 20.0));
    daemon.wait_for("2001:db8::9: d: opened by the fleet for 20 s");
    // What is told is not told on.
    world.send([udp(7000).from("10.77.0.9")]);
    assert_eq!(peer.opened().stop.knocker.to_string(), "10.77.0.9");
    // The fleet is told before the line is written.
    daemon.wait_for("10.77.0.9: d: OPEN SESAME");
    assert_eq!(daemon.lines().iter().filter(|line| line.contains("OPEN SESAME")).count(), 2);
}

fn a_command_without_an_end_is_worth_a_while() {
    let world = World::new();
    let daemon = world
        .knockd("[d]\nsequence = 7000:udp\nstart_command = echo start %IP% >>@/out\ncmd_timeout = 0\n")
        .options(FLEET)
        .start();
    let peer = Peer::of(&daemon);
    world.send([udp(7000)]);
    let shared = peer.opened();
    assert!(!shared.has_end && left(&shared) <= 10.0, "{shared:?}");
    peer.say(&told(&shared, 7, "192.0.2.10", 9.0));
    daemon.wait_for("192.0.2.10: d: opened by the fleet");
    wait_for_line(&daemon, "out", "start 192.0.2.10");
}

fn a_door_that_is_open_gets_a_later_end_and_no_second_command() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}cmd_timeout = 60\n")).options(FLEET).start();
    let peer = Peer::of(&daemon);
    world.send([udp(7000).from("10.77.0.9")]);
    let shared = peer.opened();
    peer.say(&told(&shared, 1, CLIENT, 4.0));
    wait_for_line(&daemon, "out", &format!("start {CLIENT}"));
    // Somebody knocked again, at another gateway.
    peer.say(&told(&shared, 2, CLIENT, 8.0));
    daemon.wait_for(&format!("{CLIENT}: d: opened by the fleet for 8 s"));
    let told_at = Instant::now();
    // An earlier end changes nothing.
    peer.say(&told(&shared, 3, CLIENT, 1.0));
    wait_for_line(&daemon, "out", &format!("stop {CLIENT}"));
    assert!(told_at.elapsed() > seconds(6.0), "closed after {:?}", told_at.elapsed());
    assert_eq!(daemon.read("out").matches(&format!("start {CLIENT}\n")).count(), 1, "{}", daemon.read("out"));
}

fn a_door_that_the_kernel_opens() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let door = "[ssh]\nsequence = 7000:udp\nopen = tcp/22\ncmd_timeout = 60\n";
    let daemon = world.knockd(door).options(&format!("guard = yes\n{FLEET}")).start();
    let peer = Peer::of(&daemon);
    world.send([udp(7000).from("10.77.0.9")]);
    let shared = peer.opened();
    assert!(shared.has_end);
    assert!(!connects(&world, 22));
    peer.say(&told(&shared, 1, CLIENT, 3.0));
    daemon.wait_for(&format!("{CLIENT}: ssh: opened by the fleet for 3 s"));
    daemon.wait_for(&format!("{CLIENT}: ssh: opened tcp/22 for 3 s"));
    assert!(connects(&world, 22));
    daemon.wait_for(&format!("{CLIENT}: ssh: closed"));
    assert!(!connects(&world, 22));
}

fn a_list_waits_for_its_answer_and_nothing_else_does() {
    not_soon();
    let world = World::new();
    let text = format!("wait for it,{HOUR},20000,on,tcp,udp");
    let doors = format!("[o]\notp = {text}\nfleet_spent = closed\n{DOOR}");
    let daemon = world.knockd(&doors).options(FLEET).start();
    let peer = Peer::of(&daemon);
    let otp = otp(&text);
    let period = otp.period(unix());
    world.send(list(&otp, period, CLIENT));
    let question = peer.asked();
    assert_eq!((&*question.stop.door, turn(&question)), ("o", period));
    assert!(use_of(&question).is_some());
    // Five times the period: three are accepted.
    assert_eq!(question.stop.after.as_secs(), 5 * HOUR);
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    daemon.wait_for(&format!("{CLIENT}: o: OPEN SESAME"));
    let opened = peer.opened();
    assert_eq!(opened.used, question.used);
    // Each has a list of its own, and so a mark.
    world.send(list(&otp, period, CLIENT6));
    let other = peer.asked();
    assert_eq!(other.stop.knocker.to_string(), CLIENT6);
    assert_ne!(use_of(&other), use_of(&question));
    // Meanwhile another door opens.
    world.send([udp(7000)]);
    assert_eq!(&*peer.opened().stop.door, "d");
    peer.say(&ToKnockd::Answer(other.stop.key.number, Some(false)));
    daemon.wait_for(&format!("{CLIENT6}: o: refused, it was used at another member of the fleet"));
    // An answer counts once, and to a question only.
    peer.say(&ToKnockd::Answer(other.stop.key.number, Some(true)));
    peer.say(&ToKnockd::Answer(1, Some(true)));
    daemon.sync();
    assert_eq!(daemon.lines().iter().filter(|line| line.contains("o: OPEN SESAME")).count(), 1);
    // It is used up here too, although it opened nothing.
    world.send(list(&otp, period, CLIENT6));
    daemon.sync();
    assert!(matches!(
        receive::<FromKnockd>(&peer.socket),
        Received::Message(FromKnockd::Opened(_), _) | Received::Nothing
    ));
}

/// The door opens too often, but others may have overheard the list.
fn an_opening_that_open_rate_refuses_uses_up_its_list_in_the_fleet() {
    not_soon();
    let world = World::new();
    let text = format!("in vain,{HOUR},20000,on,tcp,udp");
    let door = format!("[o]\notp = {text}\nopen_rate = 1/3600\n");
    let daemon = world.knockd(&door).options(FLEET).start();
    let peer = Peer::of(&daemon);
    let otp = otp(&text);
    let period = otp.period(unix());
    world.send(list(&otp, period, CLIENT));
    let first = peer.asked();
    peer.say(&ToKnockd::Answer(first.stop.key.number, Some(true)));
    assert_eq!(&*peer.opened().stop.door, "o");
    world.send(list(&otp, period, CLIENT6));
    let second = peer.asked();
    assert_eq!((turn(&second), second.stop.knocker.to_string().as_str()), (turn(&first), CLIENT6));
    assert_ne!(use_of(&second), use_of(&first));
    // It does not wait for the answer.
    peer.say(&ToKnockd::Answer(second.stop.key.number, Some(true)));
    daemon.wait_for("o: 1 opening was dropped: more than its open_rate allows");
    assert_eq!(daemon.lines().iter().filter(|line| line.contains("o: OPEN SESAME")).count(), 1);
}

fn without_an_answer_the_policy_decides() {
    not_soon();
    let world = World::new();
    let text = |seed: &str, port: u16| format!("{seed},{HOUR},{port},off,tcp,udp");
    let (open, closed) = (text("it opens", 20000), text("it stays shut", 30000));
    // The rule of all doors, and one of a door.
    let doors = format!("[closed]\notp = {closed}\n[open]\notp = {open}\nfleet_spent = open\n");
    let daemon = world.knockd(&doors).options(&format!("fleet_spent = closed\n{FLEET}")).start();
    let peer = Peer::of(&daemon);
    let knock = |text: &str, source: &str| {
        let otp = otp(text);
        world.send(list(&otp, otp.period(unix()), source));
    };
    // Nobody answers.
    let began = Instant::now();
    knock(&open, CLIENT);
    peer.asked();
    daemon.wait_for(&format!("{CLIENT}: open: OPEN SESAME"));
    assert!(began.elapsed() >= Duration::from_millis(290), "after {:?}", began.elapsed());
    assert_eq!(&*peer.opened().stop.door, "open");
    knock(&closed, CLIENT);
    let question = peer.asked();
    daemon.wait_for("closed: refused, the fleet does not answer");
    // An answer that comes too late.
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    daemon.sync();
    assert!(!daemon.raw_log().contains("closed: OPEN SESAME"));
}

fn without_a_peer_nobody_waits() {
    not_soon();
    let world = World::new();
    let text = |seed: &str, port: u16| format!("{seed},{HOUR},{port},on,tcp,udp");
    let (open, closed) = (text("it opens", 20000), text("it stays shut", 30000));
    let doors = format!("[closed]\notp = {closed}\nfleet_spent = closed\n[open]\notp = {open}\n");
    let daemon = world.knockd(&doors).options(FLEET).start();
    let knock = |text: &str, source: &str| {
        let otp = otp(text);
        world.send(list(&otp, otp.period(unix()), source));
        daemon.sync();
    };
    knock(&open, CLIENT);
    knock(&closed, CLIENT);
    let line = format!("{CLIENT}: closed: refused, the fleet does not answer");
    daemon.expect_log(&format!(
        "{CLIENT}: open: Stage 1\n{CLIENT}: open: Stage 2\n{CLIENT}: open: Stage 3\n{CLIENT}: open: Stage 4\n\
         {CLIENT}: open: OPEN SESAME\n{CLIENT}: closed: Stage 1\n{CLIENT}: closed: Stage 2\n\
         {CLIENT}: closed: Stage 3\n{CLIENT}: closed: Stage 4\n{line}"
    ));
    // The fleet learns of both when it comes: the questions, and what was opened.
    let peer = Peer::of(&daemon);
    assert_eq!(&*peer.asked().stop.door, "open");
    assert_eq!(["open", "sync"].map(|_| peer.opened().stop.door), ["open", "sync"].map(Arc::from));
    assert_eq!(&*peer.asked().stop.door, "closed");
    // The fleet says that the engine is out of reach: no need to wait either.
    knock(&open, CLIENT6);
    let unknown = |peer: &Peer| loop {
        if let Some(FromKnockd::Ask(question)) = peer.next() {
            peer.say(&ToKnockd::Answer(question.stop.key.number, None));
            return;
        }
    };
    unknown(&peer);
    daemon.wait_for(&format!("{CLIENT6}: open: OPEN SESAME"));
    knock(&closed, CLIENT6);
    unknown(&peer);
    daemon.wait_for_times(2, "closed: refused, the fleet does not answer");
}

fn a_list_that_was_used_elsewhere_is_used_here() {
    not_soon();
    let world = World::new();
    let text = format!("used elsewhere,{HOUR},20000,off,tcp,udp");
    let daemon = world.knockd(&format!("[o]\notp = {text}\ncmd_timeout = 20\n")).options(FLEET).start();
    let peer = Peer::of(&daemon);
    let otp = otp(&text);
    let period = otp.period(unix());
    world.send(list(&otp, period - 1, CLIENT));
    let question = peer.asked();
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    let shared = peer.opened();
    // The list of now was used by somebody else, somewhere else.
    peer.say(&told(&at_turn(&shared, period), 1, "192.0.2.9", 9.0));
    daemon.wait_for("192.0.2.9: o: opened by the fleet");
    daemon.sync();
    world.send(list(&otp, period, CLIENT));
    daemon.wait_for(&format!("{CLIENT}: o: refused, the sequence was used"));
    assert_eq!(openings(&daemon), 1);
    // Another watcher, and another daemon, know it too.
    daemon.replace_watcher();
    world.send(list(&otp, period, CLIENT));
    daemon.sync();
    assert_eq!(openings(&daemon), 1);
}

fn openings(daemon: &RunningDaemon) -> usize {
    daemon.lines().iter().filter(|line| line.ends_with("o: OPEN SESAME")).count()
}

fn a_line_that_was_used_elsewhere_is_struck_here() {
    let world = World::new();
    let knockd = world.knockd("[o]\none_time_sequences = @/seqs\n").options(FLEET);
    knockd.folder().write("seqs", " 1000,2000\n 3000,4000\n 5000,6000\n 7000,8000\n");
    let daemon = knockd.start();
    let peer = Peer::of(&daemon);
    world.send([1000, 2000].map(tcp));
    let question = peer.asked();
    daemon.wait_for_file("seqs", "#1000,2000\n 3000,4000\n 5000,6000\n 7000,8000\n");
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    let shared = peer.opened();
    let turn_of = |text: &str| knocking::door::sequence::Sequence::parse(text).unwrap().turn().0;
    assert_eq!(turn(&shared), turn_of("1000,2000"));
    let second = at_turn(&shared, turn_of("3000,4000"));
    peer.say(&told(&second, 1, "192.0.2.9", 9.0));
    daemon.wait_for_file("seqs", "#1000,2000\n#3000,4000\n 5000,6000\n 7000,8000\n");
    daemon.wait_for("192.0.2.9: o: opened by the fleet");
    // A line that is not there any more opens all the same: it was used, elsewhere.
    peer.say(&told(&second, 2, "192.0.2.10", 9.0));
    daemon.wait_for("192.0.2.10: o: opened by the fleet");
    daemon.sync();
    // The watcher goes on with the third.
    world.send([3000, 4000, 5000, 6000].map(tcp));
    let question = loop {
        match peer.next() {
            Some(FromKnockd::Ask(question)) => break *question,
            Some(_) => {}
            None => panic!("no question; {}", daemon.said()),
        }
    };
    assert_eq!(turn(&question), turn_of("5000,6000"));
}

fn a_cooldown_begins_with_the_fleet() {
    let world = World::new();
    let daemon =
        world.knockd("[d]\nsequence = 7000:udp\ncommand = true\ncooldown = 100\n").options(FLEET).start();
    let peer = Peer::of(&daemon);
    world.send([udp(7000).from("10.77.0.9")]);
    let shared = peer.opened();
    peer.say(&told(&shared, 1, CLIENT, 9.0));
    daemon.wait_for(&format!("{CLIENT}: d: opened by the fleet"));
    daemon.sync();
    world.send([udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: d: Stage 1"));
    daemon.sync();
    assert!(!daemon.raw_log().contains(&format!("{CLIENT}: d: OPEN")), "{}", daemon.said());
}

/// What was knocked during a cooldown that began elsewhere opens nothing, and is used up everywhere.
fn a_list_in_a_cooldown_of_the_fleet_is_used_up() {
    not_soon();
    let world = World::new();
    let text = format!("in a cooldown,{HOUR},20000,off,tcp,udp");
    let daemon = world
        .knockd(&format!("[o]\notp = {text}\ncmd_timeout = 20\ncooldown = 100\n"))
        .options(FLEET)
        .start();
    let peer = Peer::of(&daemon);
    let otp = otp(&text);
    let period = otp.period(unix());
    world.send(list(&otp, period - 1, "10.77.0.9"));
    let question = peer.asked();
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    let shared = peer.opened();
    peer.say(&told(&shared, 1, CLIENT, 9.0));
    daemon.wait_for(&format!("{CLIENT}: o: opened by the fleet"));
    world.send(list(&otp, period, CLIENT));
    let question = peer.asked();
    assert_eq!((turn(&question), question.stop.knocker.to_string().as_str()), (period, CLIENT));
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    // Somebody else has overheard it.
    world.send(list(&otp, period, "10.77.0.10"));
    daemon.sync();
    assert_eq!(openings(&daemon), 1, "{}", daemon.said());
}

fn a_single_packet_is_asked_about_and_told() {
    let world = World::new();
    let door = format!(
        "[d]\n{SPA}SPA_Open = tcp/22, udp/5000-5010\nFleet_Spent = closed\nDeny = 192.0.2.128/25\n\
         Start_Command = echo $KNOCKD_EVENT %IP% $KNOCKD_USER $KNOCKD_PROTO/$KNOCKD_PORT $KNOCKD_TIMEOUT >>@/out\n\
         Stop_Command = echo $KNOCKD_EVENT %IP% $KNOCKD_USER $KNOCKD_PROTO/$KNOCKD_PORT >>@/out\nCmd_Timeout = 20\n"
    );
    let daemon = world.knockd(&door).options(FLEET).start();
    let peer = Peer::of(&daemon);
    let packet = sealed(&asked("0.0.0.0", "tcp/22,udp/5001"));
    world.send([sent(&packet)]);
    let question = peer.asked();
    assert!(matches!(question.used, Record::Packet(..)), "{question:?}");
    daemon.sync();
    assert_eq!((&*peer.opened().stop.door, &*daemon.read("out")), ("sync", ""));
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    let ports: Vec<Shared> = (0..2).map(|_| peer.opened()).collect();
    let stage = |protocol, port| Some(Stage { protocol, port });
    let asked_for: Vec<Option<Stage>> = ports.iter().map(|it| port_of(&it.stop.access)).collect();
    assert_eq!(asked_for, [stage(Protocol::Tcp, 22), stage(Protocol::Udp, 5001)]);
    assert!(ports.iter().all(|it| it.used == question.used), "{ports:?}");
    // The same door, opened elsewhere by another packet: one port of it.
    let other = Shared { used: Record::Packet(turn(&question), PacketId([9; 16])), ..ports[1].clone() };
    peer.say(&told(&other, 1, "192.0.2.9", 1.2));
    let user = ports[1].stop.access.clone().unwrap().user;
    wait_for_line(&daemon, "out", &format!("start 192.0.2.9 {user} udp/5001 1"));
    wait_for_line(&daemon, "out", &format!("stop 192.0.2.9 {user} udp/5001"));
    // And the packet that came here, when it was used elsewhere first.
    let second = sealed(&asked("0.0.0.0", "tcp/22"));
    world.send([sent(&second)]);
    let question = peer.asked();
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(false)));
    daemon.wait_for(&format!("{CLIENT}: d: refused, it was used at another member of the fleet"));
    // One that is refused must not open the door at another member.
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22"))).from("192.0.2.200")]);
    let third = peer.asked();
    assert_eq!(third.stop.knocker.to_string(), "192.0.2.200");
    assert!(use_of(&third).is_some() && third.used != question.used, "{third:?}");
    daemon.wait_for("192.0.2.200: d: refused, its address may not open the door");
}

fn what_the_keys_here_do_not_grant_stays_shut() {
    let world = World::new();
    let door = format!(
        "[d]\n{SPA}SPA_Open = tcp/22, tcp/80\nSPA_User = alice\nSPA_Max_Timeout = 40\nCmd_Timeout = 20\n\
         Start_Command = echo start %IP% $KNOCKD_PORT >>@/out\nStop_Command = true\n"
    );
    let daemon = world.knockd(&door).options(FLEET).start();
    let peer = Peer::of(&daemon);
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22")))]);
    let question = peer.asked();
    peer.say(&ToKnockd::Answer(question.stop.key.number, Some(true)));
    let shared = peer.opened();
    let say = |number: u8, knocker: &str, user: &str, (protocol, port), time| {
        let access = Access { user: user.to_owned(), port: Stage { protocol, port }, seconds: 9 };
        let mut other = shared.clone();
        other.stop.access = Some(Box::new(access));
        other.used = Record::Packet(turn(&shared), PacketId([number; 16]));
        peer.say(&told(&other, number.into(), knocker, time));
    };
    say(1, "192.0.2.1", "alice", (Protocol::Tcp, 23), 9.0);
    say(2, "192.0.2.2", "alice", (Protocol::Udp, 22), 9.0);
    say(3, "192.0.2.3", "bob", (Protocol::Tcp, 22), 9.0);
    say(4, "192.0.2.4", "alice", (Protocol::Tcp, 80), 3_000_000.0);
    daemon.wait_for("192.0.2.4: d: opened by the fleet for 40 s");
    for knocker in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        daemon.wait_for(&format!(
            "d: an opening of the fleet for {knocker} is refused: no key here grants that"
        ));
    }
    wait_for_line(&daemon, "out", "start 192.0.2.4 80");
    wait_for_line(&daemon, "out", &format!("start {CLIENT} 22"));
    assert_eq!(daemon.read("out").lines().count(), 2, "{}", daemon.read("out"));
}

fn nothing_is_open_for_longer_than_here() {
    let world = World::new();
    let kernel = "[k]\nsequence = 7001:udp\nopen = tcp/22\ncmd_timeout = 30\n";
    let for_ever = "[e]\nsequence = 7002:udp\nopen = tcp/23\nopen_forever = yes\ncmd_timeout = 0\n";
    let daemon = world
        .knockd(&format!("{DOOR}cmd_timeout = 20\n{kernel}{for_ever}"))
        .options(&format!("guard = yes\n{FLEET}"))
        .start();
    let peer = Peer::of(&daemon);
    for (number, port, line) in [
        (1, 7000, "192.0.2.9: d: opened by the fleet for 20 s"),
        (2, 7001, "192.0.2.9: k: opened tcp/22 for 30 s"),
        (3, 7002, "192.0.2.9: e: opened tcp/23"),
    ] {
        world.send([udp(port).from("10.77.0.9")]);
        peer.say(&told(&peer.opened(), number, "192.0.2.9", 3_000_000.0));
        daemon.wait_for(line);
    }
}

fn what_happens_without_a_peer_is_told_to_the_next() {
    let world = World::new();
    let doors = format!(
        "{DOOR}cmd_timeout = 60\n[short]\nsequence = 7001:udp\ncommand = true\nstop_command = true\ncmd_timeout = 1\n"
    );
    let daemon = world.knockd(&doors).options(FLEET).start();
    drop(Peer::of(&daemon));
    daemon.wait_for("the fleet is gone");
    world.send([udp(7001), udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: short: command timeout"));
    let peer = Peer::of(&daemon);
    // What is over is not told.
    let shared = peer.opened();
    assert_eq!(&*shared.stop.door, "d");
    assert!((40.0..59.5).contains(&left(&shared)), "{shared:?}");
}

fn what_is_doubtful_opens_nothing() {
    let world = World::new();
    let daemon = world
        .knockd(&format!("{DOOR}allow = 192.0.2.0/24, 10.77.0.0/24\ncmd_timeout = 20\n"))
        .options(FLEET)
        .start();
    let peer = Peer::of(&daemon);
    world.send([udp(7000).from("10.77.0.9")]);
    let shared = peer.opened();
    let changed = |change: &dyn Fn(&mut Stop)| {
        let mut shared = shared.clone();
        change(&mut shared.stop);
        shared
    };
    let other_shape = changed(&|stop| stop.key.origin ^= 1);
    let port = Stage { protocol: Protocol::Tcp, port: 22 };
    let access = || Some(Box::new(Access { user: "anna".to_owned(), port, seconds: 9 }));
    let with_port = changed(&|stop| stop.access = access());
    let unknown = changed(&|stop| stop.door = "nowhere".into());
    peer.say(&told(&unknown, 1, "192.0.2.9", 9.0));
    peer.say(&told(&other_shape, 2, "192.0.2.9", 9.0));
    peer.say(&told(&with_port, 3, "192.0.2.9", 9.0));
    peer.say(&told(&shared, 4, "198.51.100.1", 9.0));
    peer.say(&told(&shared, 5, "224.0.0.1", 9.0));
    // Its time is over as good as at once.
    peer.say(&told(&shared, 7, "192.0.2.11", 0.9));
    peer.say(&told(&shared, 8, "192.0.2.10", 9.0));
    daemon.wait_for("192.0.2.10: d: opened by the fleet");
    let refused = "d: an opening of the fleet for";
    daemon.wait_for_times(2, &format!("{refused} 192.0.2.9 is refused: the door is another one here"));
    daemon.wait_for(&format!("{refused} 198.51.100.1 is refused: it may not knock at this door"));
    daemon.wait_for(&format!("{refused} 224.0.0.1 is refused: nothing can come from this address"));
    wait_for_line(&daemon, "out", "start 10.77.0.9");
    wait_for_line(&daemon, "out", "start 192.0.2.10");
    assert_eq!(daemon.read("out").lines().count(), 2);
}

fn nonsense_ends_the_connection_and_nothing_else() {
    let world = World::new();
    let daemon = world.knockd(DOOR).options(FLEET).start();
    for bytes in [
        vec![0; LONGEST],
        vec![4; LONGEST],
        vec![8, 2],
        vec![7; 10],
        FromKnockd::Hello(VERSION, 1, 1).encode(),
        vec![7; 100_000],
    ] {
        let peer = Peer::at(&daemon.folder.join("fleet"));
        assert!(matches!(peer.next(), Some(FromKnockd::Hello(..))));
        send(peer.socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).unwrap();
        assert!(peer.is_closed(), "{} bytes; {}", bytes.len(), daemon.said());
    }
    daemon.wait_for_times(6, "the fleet is gone");
    let peer = Peer::of(&daemon);
    world.send([udp(7000)]);
    assert_eq!(&*peer.opened().stop.door, "d");
}

fn a_second_peer_waits_for_the_first() {
    let world = World::new();
    let daemon = world.knockd(DOOR).options(FLEET).start();
    let first = Peer::of(&daemon);
    let second = Peer::at(&daemon.folder.join("fleet"));
    world.send([udp(7000)]);
    assert_eq!(&*first.opened().stop.door, "d");
    daemon.sync();
    assert!(matches!(receive::<FromKnockd>(&second.socket), Received::Nothing));
    drop(first);
    assert!(matches!(second.next(), Some(FromKnockd::Hello(..))));
}

/// The socket is for root and the daemon's own user, whatever somebody does to its mode.
fn another_user_is_put_off() {
    let world = World::new();
    let daemon = world.knockd(DOOR).options(FLEET).start();
    let path = daemon.folder.join("fleet");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let script = "use Socket; $) = '65534 65534'; $> = 65534; exit 77 if $> != 65534;\
                  socket(S, AF_UNIX, SOCK_SEQPACKET, 0) or exit 1; connect(S, sockaddr_un($ARGV[0])) or exit 2;\
                  exit(defined(recv(S, $_, 999, 0)) && length ? 3 : 0)";
    let output = Command::new("perl").args(["-e", script]).arg(&path).output().expect("perl");
    // In the user namespace of an ordinary user there is no other user.
    if output.status.code() != Some(77) {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    Peer::of(&daemon);
    assert_eq!(daemon.raw_log().matches("the fleet is connected").count(), 1, "{}", daemon.said());
}

fn a_reload_moves_the_socket() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}cmd_timeout = 60\n")).options(FLEET).start();
    let peer = Peer::of(&daemon);
    let file = fs::read_to_string(&daemon.config).unwrap();
    // The same place: the peer is told which doors there are now.
    fs::write(&daemon.config, format!("{file}[new]\nsequence = 7002:udp\ncommand = true\n")).unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(matches!(peer.next(), Some(FromKnockd::Hello(VERSION, ..))));
    world.send([udp(7002)]);
    assert_eq!(&*peer.opened().stop.door, "new");
    fs::write(&daemon.config, file.replace("/fleet\n", "/elsewhere\n")).unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(peer.is_closed());
    assert!(!daemon.folder.join("fleet").exists());
    let peer = Peer::at(&daemon.folder.join("elsewhere"));
    assert!(matches!(peer.next(), Some(FromKnockd::Hello(..))));
    let without: Vec<&str> = file.lines().filter(|line| !line.starts_with("fleet_socket")).collect();
    let without = without.join("\n");
    fs::write(&daemon.config, without).unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(peer.is_closed());
    assert!(!daemon.folder.join("elsewhere").exists());
    daemon.sync();
}

/// After a restart the fleet tells of everything that is still open.
fn the_next_daemon_runs_nothing_again() {
    let world = World::new();
    let doors = format!("{DOOR}cmd_timeout = 6\n");
    let mut daemon = world.knockd(&doors).options(&format!("statefile = @/state\n{FLEET}")).start();
    let peer = Peer::of(&daemon);
    world.send([udp(7000)]);
    let shared = peer.opened();
    peer.say(&told(&shared, 1, "192.0.2.9", 6.0));
    wait_for_line(&daemon, "out", "start 192.0.2.9");
    wait_for_line(&daemon, "out", &format!("start {CLIENT}"));
    daemon.sync();
    kill_all(&mut daemon);
    let next = world.knockd("").file(&fs::read_to_string(&daemon.config).unwrap()).launch();
    let path = daemon.folder.join("fleet");
    let peer = Peer::at(&path);
    assert!(matches!(peer.next(), Some(FromKnockd::Hello(..))));
    peer.say(&told(&shared, shared.stop.key.number, CLIENT, 5.0));
    peer.say(&told(&shared, 1, "192.0.2.9", 5.0));
    peer.say(&told(&shared, 2, "192.0.2.10", 5.0));
    wait_for_line(&daemon, "out", "stop 192.0.2.10");
    wait_for_line(&daemon, "out", "stop 192.0.2.9");
    wait_for_line(&daemon, "out", &format!("stop {CLIENT}"));
    let out = daemon.read("out");
    for (line, count) in [("start 192.0.2.9\n", 1), ("stop 192.0.2.9\n", 1), ("start 192.0.2.10\n", 1)] {
        assert_eq!(out.matches(line).count(), count, "{out}");
    }
    drop(next);
}

fn a_socket_that_cannot_be_made_is_tried_again() {
    let world = World::new();
    let daemon = world.knockd(DOOR).options("fleet_socket = @/later/fleet").start();
    daemon.wait_for("could not make the fleet socket");
    fs::create_dir(daemon.folder.join("later")).unwrap();
    let peer = Peer::at(&daemon.folder.join("later/fleet"));
    assert!(matches!(peer.next(), Some(FromKnockd::Hello(..))));
    assert_eq!(daemon.raw_log().matches("could not make the fleet socket").count(), 1);
}

const THREE: &str = "[d]\nsequence = 7001:udp,7002:udp,7003:udp\nstart_command = echo start %IP% >>@/out\n";

fn knock(source: &str, port: u16) -> EncodedKnock {
    EncodedKnock::of(&Knock {
        source: source.parse().unwrap(),
        source_port: 0,
        destination: SERVER.parse().unwrap(),
        protocol: Protocol::Udp,
        port,
        flags: None,
        udp_length: Some(1),
        length: 0,
    })
}

fn knocks_that_are_later_ones_elsewhere_are_shared() {
    let world = World::new();
    let daemon = world.knockd(THREE).options(&format!("{FLEET}\nfleet_share = knocks")).start();
    // Without a peer this gateway is alone.
    world.send([udp(7002), udp(7001), udp(7002), udp(7003)]);
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    let peer = Peer::of(&daemon);
    assert_eq!(peer.opened().stop.knocker.to_string(), CLIENT);
    // A first knock is not told. A second one, whose first knock arrived elsewhere, is.
    world.send([udp(7001).from("10.77.0.9"), udp(7002)]);
    let told = |expected: EncodedKnock| match peer.next() {
        Some(FromKnockd::Knock(it)) => assert_eq!(it, expected),
        other => panic!("{other:?}"),
    };
    told(knock(CLIENT, 7002));
    // Here it counts for nothing, whatever else this source does elsewhere.
    peer.say(&ToKnockd::Knock(knock(CLIENT, 7003)));
    // The sequence that began here is continued elsewhere, and goes on here. It is logged and opened here.
    peer.say(&ToKnockd::Knock(knock("10.77.0.9", 7002)));
    daemon.wait_for("10.77.0.9: d: Stage 2");
    world.send([udp(7003).from("10.77.0.9")]);
    daemon.wait_for("10.77.0.9: d: OPEN SESAME");
    assert_eq!(peer.opened().stop.knocker.to_string(), "10.77.0.9");
    world.send([udp(7001).from("10.77.0.10"), udp(7002).from("10.77.0.10")]);
    daemon.wait_for("10.77.0.10: d: Stage 2");
    peer.say(&ToKnockd::Knock(knock("10.77.0.10", 7003)));
    assert_eq!(peer.opened().stop.knocker.to_string(), "10.77.0.10");
    // One that began elsewhere is opened there.
    for port in 7001..=7003 {
        peer.say(&ToKnockd::Knock(knock("192.0.2.9", port)));
    }
    // A knock that begins a sequence is shared when its source is known.
    peer.say(&ToKnockd::Knock(knock("10.77.0.11", 7002)));
    peer.say(&ToKnockd::Knock(knock("10.77.0.10", 7002)));
    world.send([udp(7003)]);
    told(knock(CLIENT, 7003));
    world.send([udp(7001).from("10.77.0.11")]);
    told(knock("10.77.0.11", 7001));
    assert!(!daemon.said().contains("192.0.2.9"), "{}", daemon.said());
    // Without the peer this gateway is alone again.
    drop(peer);
    daemon.wait_for("the fleet is gone");
    world.send([udp(7001).from("10.77.0.12"), udp(7002).from("10.77.0.12"), udp(7003).from("10.77.0.12")]);
    daemon.wait_for("10.77.0.12: d: OPEN SESAME");
}

fn without_fleet_share_no_knock_is_told() {
    let world = World::new();
    let daemon = world.knockd(THREE).options(FLEET).start();
    let peer = Peer::of(&daemon);
    world.send([udp(7001).from("10.77.0.9")]);
    daemon.wait_for("10.77.0.9: d: Stage 1");
    peer.say(&ToKnockd::Knock(knock("10.77.0.9", 7002)));
    world.send([udp(7002), udp(7001), udp(7002), udp(7003)]);
    // The first thing that is said.
    assert_eq!(peer.opened().stop.knocker.to_string(), CLIENT);
    assert!(!daemon.said().contains("10.77.0.9: d: Stage 2"), "{}", daemon.said());
}

fn the_status_tells_of_the_fleet() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}cmd_timeout = 60\n")).options(FLEET).start();
    let asked = |words: &[&str]| ask(&world, &daemon, words).stdout;
    let text = asked(&[]);
    assert!(text.contains("\n  fleet      connected: no\n"), "{text}");
    let _peer = Peer::of(&daemon);
    let json = asked(&["--json"]);
    assert!(json.contains("\"fleet_connected\":true"), "{json}");
    let metrics = asked(&["--metrics"]);
    assert!(metrics.contains("\nknockd_fleet_connected 1\n"), "{metrics}");
}
