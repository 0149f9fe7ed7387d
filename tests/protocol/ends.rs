//! Explores every order of events between the watcher and the doorkeeper: knocks, messages, the file edited, SIGHUP,
//! and a kill of either process between any two steps.
//!
//! The two ends of the protocol are the daemon's own, [`Outbox`] and [`Desk`]; around them stand a socket, a
//! configuration file in two versions, a one-time file and the doorkeeper's steps, each of which is done or not. What
//! happens to the state on the disk is explored by `tests/opening/disk.rs`.
//!
//! A model that finds nothing proves nothing, so each safeguard is also taken out, and the explorer has to notice.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use knocking::door::lock::Turn;
use knocking::opening::event::Opening;
use knocking::protocol::desk::{Desk, Verdict};
use knocking::protocol::messages::{Generation, Order, Report};
use knocking::protocol::outbox::{LEAST_OF_DOOR, MOST_OF_DOOR, MOST_OPENINGS, Outbox};

trials![
    every_opening_is_taken_once_and_runs_its_own_command,
    the_explorer_finds_doors_that_are_known_by_their_number_alone,
    the_explorer_finds_a_new_watcher_that_has_what_the_file_says,
    the_explorer_finds_lines_that_are_struck_after_the_command,
    the_explorer_finds_lines_that_are_acknowledged_before_they_are_struck,
    the_explorer_finds_openings_that_are_logged_before_they_are_taken,
    the_explorer_finds_openings_that_are_lost_in_the_socket,
    the_explorer_finds_openings_that_are_taken_again,
    no_door_fills_the_outbox,
];

/// A safeguard that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The doorkeeper takes a new configuration when it hands it out, and looks at no generation.
    KnowsDoorsByNumber,
    /// A new watcher is handed what the file says by now.
    HandsOutTheFile,
    /// A line is struck when its command has been started.
    StrikesLate,
    /// An opening is acknowledged before its line is struck, and what is acknowledged is not struck by a doorkeeper
    /// that finds it so.
    AcknowledgesEarly,
    /// The watcher logs an opening when it is made.
    LogsEarly,
    /// What a dead watcher had sent is not read.
    ForgetsTheSocket,
    /// The doorkeeper looks at no number; and the watcher sends again what is not acknowledged when SIGHUP comes.
    IgnoresNumbers,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    knocks: &'static [Knock],
    edits: u8,
    reloads: u8,
    watcher_kills: u8,
    doorkeeper_kills: u8,
}

/// What is knocked, in this order, where doors matter: the door `a`, and a line of the one-time door `o`.
const AT_DOORS: &[Knock] = &[Knock::A, Knock::Line(0)];
/// What is knocked where lines matter: the first line of the one-time door `o`, the same line by somebody who overheard
/// it, and the second line.
const LINES: &[Knock] = &[Knock::Line(0), Knock::Line(0), Knock::Line(1)];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Knock {
    A,
    Line(u8),
}

/// The doors of the two versions of the file, in their order.
const DOORS: [&[&str]; 2] = [&["a", "o"], &["b", "a", "o"]];

fn place(version: usize, name: &str) -> usize {
    DOORS[version].iter().position(|door| *door == name).expect("a door")
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Watcher {
    version: usize,
    outbox: Outbox,
    /// The first line that it takes.
    line: u8,
}

/// What the doorkeeper does next; nothing can interrupt a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Strike(u8),
    SendLines(u64, usize),
    Log(u8),
    Run(u8, String),
    Acknowledge,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Doorkeeper {
    desk: Desk,
    version: usize,
    /// What was handed to the watcher and is not in force yet.
    handed_out: Option<usize>,
    steps: VecDeque<Step>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    left: Bounds,
    file: usize,
    struck: [bool; 2],
    knocks: u8,
    watcher: Option<Watcher>,
    doorkeeper: Option<Doorkeeper>,
    /// The socket; with an order goes a version of the file, or the first line that is left.
    reports: VecDeque<Report>,
    orders: VecDeque<(Order, u8)>,
    /// The knocks whose openings were made, sent, logged and run.
    made: Vec<u8>,
    sent: Vec<u8>,
    logged: Vec<u8>,
    ran: Vec<u8>,
    /// The doorkeeper was killed, ever.
    was_killed: bool,
}

/// The number of the knock that an opening answers.
fn knock_of(opening: &Opening) -> u8 {
    match opening.knocker {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

impl World {
    fn new(left: Bounds, fault: Fault) -> World {
        let mut world = World {
            left,
            file: 0,
            struck: [false; 2],
            knocks: 0,
            watcher: None,
            doorkeeper: None,
            reports: VecDeque::new(),
            orders: VecDeque::new(),
            made: Vec::new(),
            sent: Vec::new(),
            logged: Vec::new(),
            ran: Vec::new(),
            was_killed: false,
        };
        world.start_doorkeeper(fault);
        world
    }

    fn first_line(&self) -> u8 {
        u8::try_from(self.struck.iter().take_while(|struck| **struck).count()).unwrap()
    }

    fn start_doorkeeper(&mut self, fault: Fault) {
        self.doorkeeper = Some(Doorkeeper {
            desk: Desk::new(),
            version: self.file,
            handed_out: None,
            steps: VecDeque::new(),
        });
        self.start_watcher(self.file, fault);
    }

    fn start_watcher(&mut self, version: usize, fault: Fault) {
        self.reports.clear();
        self.orders.clear();
        self.watcher = Some(Watcher { version, outbox: Outbox::new(), line: 0 });
        if let Some(doorkeeper) = &mut self.doorkeeper {
            doorkeeper.desk.greet();
        }
        self.hand_out(version, fault);
    }

    fn hand_out(&mut self, version: usize, fault: Fault) {
        let Some(doorkeeper) = &mut self.doorkeeper else { return };
        let generation = doorkeeper.desk.hand_out();
        doorkeeper.handed_out = Some(version);
        if fault == Fault::KnowsDoorsByNumber {
            doorkeeper.version = version;
        }
        let line = self.first_line();
        // Both in one number: the version of the file, and what is left of the one-time file.
        self.orders.push_back((Order::Adopt(generation), u8::try_from(version).unwrap() * 4 + line));
    }

    /// What may happen next, without anybody else's doing.
    fn advance(&self, fault: Fault) -> Vec<World> {
        let mut next = Vec::new();
        // The watcher sends.
        if self.reports.len() < 2
            && let Some(report) = self.watcher.as_ref().and_then(|watcher| watcher.outbox.first())
        {
            let mut world = self.clone();
            if let Report::Opened(_, _, opening) = report {
                world.sent.push(knock_of(opening));
            }
            world.reports.push_back(report.clone());
            world.watcher.as_mut().unwrap().outbox.sent();
            next.push(world);
        }
        // The watcher hears.
        if self.watcher.is_some() && !self.orders.is_empty() {
            let mut world = self.clone();
            world.obey(fault);
            next.push(world);
        }
        if let Some(doorkeeper) = &self.doorkeeper {
            let mut world = self.clone();
            if doorkeeper.steps.is_empty() {
                if let Some(report) = world.reports.pop_front() {
                    world.hear(&report, fault);
                    next.push(world);
                } else if self.watcher.is_none() {
                    // It is gone, and all that it had sent was read.
                    let version = match doorkeeper.handed_out {
                        _ if fault == Fault::HandsOutTheFile => self.file,
                        Some(version) => version,
                        None => doorkeeper.version,
                    };
                    world.start_watcher(version, fault);
                    if fault == Fault::HandsOutTheFile {
                        // As both processes once read the file, and took what they had read for the same.
                        world.doorkeeper.as_mut().unwrap().handed_out = Some(doorkeeper.version);
                    }
                    next.push(world);
                }
            } else {
                world.step(fault);
                next.push(world);
            }
        }
        next
    }

    /// What somebody else may do.
    fn interfere(&self, fault: Fault) -> Vec<World> {
        let mut next = Vec::new();
        if usize::from(self.knocks) < self.left.knocks.len() {
            let mut world = self.clone();
            world.knock(fault);
            next.push(world);
        }
        if self.left.edits > 0 {
            let mut world = self.clone();
            world.left.edits -= 1;
            world.file = 1 - world.file;
            next.push(world);
        }
        // One configuration is handed out at a time; a signal in between is remembered, which is no other order.
        if self.left.reloads > 0 && self.doorkeeper.as_ref().is_some_and(|it| it.handed_out.is_none()) {
            let mut world = self.clone();
            world.left.reloads -= 1;
            world.hand_out(world.file, fault);
            next.push(world);
        }
        if self.left.watcher_kills > 0 && self.watcher.is_some() && self.doorkeeper.is_some() {
            let mut world = self.clone();
            world.left.watcher_kills -= 1;
            world.watcher = None;
            world.orders.clear();
            if fault == Fault::ForgetsTheSocket {
                world.reports.clear();
            }
            next.push(world);
        }
        if self.left.doorkeeper_kills > 0 && self.doorkeeper.is_some() {
            let mut world = self.clone();
            world.left.doorkeeper_kills -= 1;
            world.was_killed = true;
            // The watcher ends with it.
            world.watcher = None;
            world.start_doorkeeper(fault);
            next.push(world);
        }
        next
    }

    fn knock(&mut self, fault: Fault) {
        let number = self.knocks;
        self.knocks += 1;
        let Some(watcher) = &mut self.watcher else { return };
        // It does not listen before it has a configuration.
        if watcher.outbox.generation() == Generation::default() {
            return;
        }
        let (name, turn) = match self.left.knocks[usize::from(number)] {
            Knock::A => ("a", 0),
            Knock::Line(line) if line == watcher.line => ("o", line.into()),
            Knock::Line(_) => return,
        };
        if name == "o" {
            watcher.line += 1;
        }
        let knocker = IpAddr::V4(Ipv4Addr::new(192, 0, 2, number));
        if watcher.outbox.open(Opening { door: place(watcher.version, name), knocker, turn: Turn(turn) }) {
            self.made.push(number);
            if fault == Fault::LogsEarly {
                self.logged.push(number);
            }
        }
    }

    fn obey(&mut self, fault: Fault) {
        let Some((order, with)) = self.orders.pop_front() else { return };
        let Some(watcher) = &mut self.watcher else { return };
        match order {
            Order::Adopt(generation) => {
                (watcher.version, watcher.line) = (usize::from(with / 4), watcher.line.max(with % 4));
                if fault == Fault::IgnoresNumbers {
                    watcher.outbox = again(&watcher.outbox, &self.sent, generation, watcher.version);
                }
                watcher.outbox.adopt(generation);
            }
            Order::Taken(number) => watcher.outbox.taken(number),
            Order::Lines(number, generation, door) => {
                if watcher.outbox.is_latest(number, generation, door) {
                    watcher.line = with;
                }
            }
            Order::Socket(_) | Order::Describe | Order::Tell | Order::Heard(_) | Order::Finish => {}
        }
    }

    fn hear(&mut self, report: &Report, fault: Fault) {
        let Some(doorkeeper) = &mut self.doorkeeper else { return };
        match report {
            Report::Adopted(generation) => {
                if doorkeeper.desk.adopted(*generation)
                    && let Some(version) = doorkeeper.handed_out.take()
                {
                    doorkeeper.version = version;
                }
            }
            Report::Opened(number, generation, opening) => {
                let verdict = doorkeeper.desk.admit(*number, *generation);
                let is_taken = match fault {
                    Fault::KnowsDoorsByNumber | Fault::IgnoresNumbers => true,
                    _ => verdict == Verdict::Take,
                };
                let name = DOORS[doorkeeper.version].get(opening.door).filter(|_| is_taken);
                let Some(name) = name else { return };
                let knock = knock_of(opening);
                let line = u8::try_from(opening.turn.0).unwrap();
                let (strike, run) = (Step::Strike(line), Step::Run(knock, (*name).to_owned()));
                let lines = Step::SendLines(*number, opening.door);
                let steps = match (*name, fault) {
                    ("o", Fault::StrikesLate) => {
                        vec![Step::Log(knock), run, Step::Acknowledge, strike, lines]
                    }
                    ("o", Fault::AcknowledgesEarly) => {
                        vec![Step::Acknowledge, Step::Log(knock), run, strike, lines]
                    }
                    ("o", _) => vec![strike, lines, Step::Log(knock), run, Step::Acknowledge],
                    _ => vec![Step::Log(knock), run, Step::Acknowledge],
                };
                doorkeeper.steps.extend(steps);
            }
            _ => {}
        }
    }

    fn step(&mut self, fault: Fault) {
        let line = self.first_line();
        let Some(doorkeeper) = &mut self.doorkeeper else { return };
        match doorkeeper.steps.pop_front() {
            Some(Step::Strike(turn)) => {
                let struck = &mut self.struck[usize::from(turn)];
                if std::mem::replace(struck, true) {
                    // The line is not there any more: the door stays shut.
                    doorkeeper.steps.retain(|step| matches!(step, Step::SendLines(..) | Step::Acknowledge));
                }
            }
            Some(Step::SendLines(number, door)) => {
                if let Some(generation) = doorkeeper.desk.in_force() {
                    self.orders.push_back((Order::Lines(number, generation, door), line));
                }
            }
            Some(Step::Log(knock)) if fault != Fault::LogsEarly => self.logged.push(knock),
            Some(Step::Run(knock, name)) => {
                let knocked = if self.left.knocks[usize::from(knock)] == Knock::A { "a" } else { "o" };
                // What is wrong is kept as a knock that was never made.
                self.ran.push(if name == knocked { knock } else { u8::MAX });
            }
            Some(Step::Acknowledge) => {
                self.orders.push_back((Order::Taken(doorkeeper.desk.taken()), 0));
            }
            _ => {}
        }
    }

    /// What must hold at every instant.
    fn check(&self) -> Result<(), String> {
        if self.ran.contains(&u8::MAX) {
            return Err("a knock at one door ran the command of another".to_owned());
        }
        let runs = |knock: u8| self.ran.iter().map(|it| usize::from(*it == knock)).sum::<usize>();
        if let Some(knock) = (0..self.knocks).find(|knock| runs(*knock) > 1) {
            return Err(format!("knock {knock} opened its door twice"));
        }
        for line in 0..2 {
            let of_line =
                (0..self.knocks).filter(|knock| self.left.knocks[usize::from(*knock)] == Knock::Line(line));
            if of_line.map(runs).sum::<usize>() > 1 {
                return Err(format!("line {line} opened its door twice"));
            }
        }
        Ok(())
    }

    /// What must hold when nothing happens any more by itself.
    fn check_at_rest(&self) -> Result<(), String> {
        if self.was_killed {
            return Ok(());
        }
        let lost = self.sent.iter().find(|knock| !self.ran.contains(knock));
        if let Some(knock) = lost {
            // One that was overheard and came second: its line was struck by then.
            let is_late = matches!(self.left.knocks[usize::from(*knock)], Knock::Line(_));
            if !is_late {
                return Err(format!("knock {knock} was sent, and opened nothing"));
            }
        }
        if let Some(knock) = self.logged.iter().find(|knock| !self.ran.contains(knock)) {
            return Err(format!("knock {knock} is in the log as an opening, and nothing was run"));
        }
        if self.watcher.is_some() && self.reports.is_empty() && self.left.watcher_kills == KILLS {
            let lost = self.made.iter().find(|knock| **knock == 0 && !self.ran.contains(knock));
            if lost.is_some() {
                return Err("an opening was lost, and nobody was killed".to_owned());
            }
        }
        Ok(())
    }
}

/// An outbox that sends once more what it had sent, for a configuration that is new to it.
fn again(before: &Outbox, sent: &[u8], generation: Generation, version: usize) -> Outbox {
    let mut outbox = before.clone();
    outbox.adopt(generation);
    if sent.contains(&0) {
        let knocker = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0));
        outbox.open(Opening { door: place(version, "a"), knocker, turn: Turn(0) });
    }
    outbox
}

/// How often each process is killed.
const KILLS: u8 = 1;
const DOORS_MATTER: Bounds =
    Bounds { knocks: AT_DOORS, edits: 1, reloads: 1, watcher_kills: KILLS, doorkeeper_kills: KILLS };
const LINES_MATTER: Bounds =
    Bounds { knocks: LINES, edits: 0, reloads: 0, watcher_kills: KILLS, doorkeeper_kills: KILLS };

/// Every world that can come about, breadth first; how many there are, or what is wrong with one.
fn explore(bounds: Bounds, fault: Fault) -> Result<usize, String> {
    let first = World::new(bounds, fault);
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    while let Some(world) = queue.pop_front() {
        world.check()?;
        let by_itself = world.advance(fault);
        if by_itself.is_empty() {
            world.check_at_rest()?;
        }
        for next in by_itself.into_iter().chain(world.interfere(fault)) {
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

fn every_opening_is_taken_once_and_runs_its_own_command() {
    for bounds in [DOORS_MATTER, LINES_MATTER] {
        let worlds = explore(bounds, Fault::None).unwrap();
        assert!(worlds > 1_000, "only {worlds} worlds");
    }
}

#[track_caller]
fn expect_found(fault: Fault, words: &str) {
    let found = [DOORS_MATTER, LINES_MATTER].into_iter().find_map(|bounds| explore(bounds, fault).err());
    let found = found.expect("the explorer found nothing");
    assert!(found.contains(words), "{found}");
}

fn the_explorer_finds_doors_that_are_known_by_their_number_alone() {
    expect_found(Fault::KnowsDoorsByNumber, "ran the command of another");
}

fn the_explorer_finds_a_new_watcher_that_has_what_the_file_says() {
    expect_found(Fault::HandsOutTheFile, "ran the command of another");
}

fn the_explorer_finds_lines_that_are_struck_after_the_command() {
    expect_found(Fault::StrikesLate, "line 0 opened its door twice");
}

fn the_explorer_finds_lines_that_are_acknowledged_before_they_are_struck() {
    expect_found(Fault::AcknowledgesEarly, "line 0 opened its door twice");
}

fn the_explorer_finds_openings_that_are_logged_before_they_are_taken() {
    expect_found(Fault::LogsEarly, "is in the log as an opening, and nothing was run");
}

fn the_explorer_finds_openings_that_are_lost_in_the_socket() {
    expect_found(Fault::ForgetsTheSocket, "was sent, and opened nothing");
}

fn the_explorer_finds_openings_that_are_taken_again() {
    expect_found(Fault::IgnoresNumbers, "opened its door twice");
}

/// Openings of a door that come faster than they are taken leave room for other doors.
fn no_door_fills_the_outbox() {
    let mut outbox = Outbox::new();
    let knocker = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0));
    let open = |outbox: &mut Outbox, door: usize| outbox.open(Opening { door, knocker, turn: Turn(0) });
    let taken_at = |outbox: &mut Outbox, door: usize| (0..5_000).filter(|_| open(outbox, door)).count();
    assert_eq!(taken_at(&mut outbox, 0), MOST_OF_DOOR);
    let doors = usize::try_from(MOST_OPENINGS).unwrap() / MOST_OF_DOOR;
    for door in 1..doors {
        assert_eq!(taken_at(&mut outbox, door), MOST_OF_DOOR);
    }
    // It is full; a door that has none under way opens all the same.
    assert_eq!(taken_at(&mut outbox, doors), LEAST_OF_DOOR);
    assert_eq!(taken_at(&mut outbox, 0), 0);
    // Three of door 0 are taken.
    outbox.taken(3);
    assert_eq!(taken_at(&mut outbox, doors), 0);
    outbox.taken(MOST_OPENINGS);
    assert_eq!(taken_at(&mut outbox, 0), MOST_OF_DOOR);
    // The places of doors mean others after SIGHUP; what is under way counts on.
    outbox.adopt(Generation(2));
    assert_eq!(taken_at(&mut outbox, 0) + MOST_OF_DOOR + LEAST_OF_DOOR, 2 * MOST_OF_DOOR);
}
