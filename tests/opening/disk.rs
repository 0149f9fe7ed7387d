//! Explores every order of events around the state files: daemons that start, run commands and write, with a kill
//! between any two steps, of the daemon alone or together with its commands, or with a power failure.
//!
//! The parts are those of the daemon: [`Openings`], [`Journal`], [`choose`], [`State`] and [`taken_over`]. Only the
//! shell around them is modelled: a disk whose operations are atomic and that flushes beside the daemon, locks that end
//! with the process that holds them, and processes. In the end every door that was opened must be closed, once; a stop
//! command may only run again if it was running when its daemon was killed.
//!
//! A power failure leaves of each file what was flushed, under the names that were flushed or under those of the last
//! moment: a disk may write a name before the bytes. Every door must be closed whose opening was flushed.
//!
//! A model that finds nothing proves nothing, so each safeguard is also taken out, and the explorer has to notice.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::Door;
use knocking::door::spa::replay::Used;
use knocking::opening::admit::Where;
use knocking::opening::journal::{Choice, Journal, Operation, Place, choose};
use knocking::opening::record::Record;
use knocking::opening::state::{Moment, State, taken_over};
use knocking::opening::text::{Text, write};
use knocking::opening::{Action, Ending, JobId, Openings, Phase, Process};
use knocking::time::Now;

trials![
    every_door_closes_once_whatever_is_killed,
    every_door_closes_once_with_two_daemons,
    the_explorer_finds_a_new_state_that_is_removed_too_early,
    the_explorer_finds_a_daemon_without_a_place,
    the_explorer_finds_stops_that_are_noted_too_late,
    the_explorer_finds_a_stop_that_counts_as_done_when_it_was_started,
    the_explorer_finds_places_that_nobody_takes_over,
    the_explorer_finds_files_that_are_removed_in_the_wrong_order,
    the_explorer_finds_a_door_that_is_closed_before_it_opens,
    every_door_that_was_flushed_closes_after_a_power_failure,
    the_explorer_finds_a_name_that_is_not_flushed,
    the_explorer_finds_a_rename_before_the_flush,
    the_explorer_finds_places_that_go_before_the_flush,
];

const DOOR: &str =
    "[d]\nsequence = 1\nstart_command = start %IP%\ncmd_timeout = 10\nstop_command = stop %IP%";

/// A safeguard that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// `PATH.new` is removed before its successor is whole.
    RemovesNew,
    /// A daemon that finds the first place taken goes without until that is free.
    OnePlace,
    /// Commands are noted when all that are due have been started.
    NotesLate,
    /// A stop command that was started counts as done.
    StartedIsDone,
    /// What others left in further places stays there.
    LeavesOthers,
    /// `PATH.new` is removed before `PATH`.
    AbandonsInTheWrongOrder,
    /// A start command that still runs is not waited for.
    IgnoresStarts,
    /// Only the bytes of `PATH.new` are flushed, not its name.
    ForgetsName,
    /// `PATH.new` becomes `PATH` before it is flushed.
    RenamesEarly,
    /// What others left is removed before it is flushed elsewhere.
    LetsGoEarly,
}

/// How much happens.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// So many doors open at once.
    knocks: u8,
    /// So many daemons are killed,
    kills: u8,
    /// the power fails so often,
    failures: u8,
    /// and so many live at a time.
    daemons: usize,
    /// Start commands end as soon as they are started, and the file is settled when a door opens and only then.
    is_quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Settled,
    New,
    Temporary,
}

/// A step of a daemon that nothing can interrupt.
#[derive(Clone, Debug, Hash)]
enum Step {
    /// Work out what to write.
    Remember,
    Disk(usize, Operation),
    /// All is written: what other places have can go once it is flushed.
    LetGo,
    /// It is flushed.
    Abandon,
    Run(JobId, bool, IpAddr),
    /// Begin to flush, and to settle if that is said.
    Flush(bool),
    /// What was to be flushed is.
    Landed,
    /// Hand operations to the disk.
    TakeOff(Vec<Operation>),
}

/// What the disk does beside a daemon.
#[derive(Clone, Debug, Hash)]
struct Flight {
    operations: Vec<Operation>,
    file: u32,
    is_done: bool,
}

/// The bytes of a file, and how many of them are on the disk.
#[derive(Clone, Debug, Default, Hash)]
struct File {
    text: Vec<u8>,
    flushed: usize,
}

#[derive(Clone, Debug)]
struct Daemon {
    /// The place that it holds for itself.
    own: Option<usize>,
    /// Those that it holds to take them over.
    left: Vec<usize>,
    openings: Openings,
    journal: Journal,
    pending: Vec<Record>,
    is_behind: bool,
    /// A door opens: flush as soon as nothing is being flushed.
    is_urgent: bool,
    /// The file that was created last.
    written: u32,
    flight: Option<Flight>,
    steps: VecDeque<Step>,
}

/// A command whose end is not on record.
#[derive(Clone, Debug, Hash)]
struct Command {
    process: Process,
    /// Who waits for it, as which job.
    parent: Option<(u32, JobId)>,
    is_stop: bool,
    knocker: IpAddr,
    /// It has ended; so many commands were started since.
    ended: Option<u8>,
    /// Its daemon knows of its end.
    is_reaped: bool,
}

#[derive(Clone, Debug, Default, Hash)]
struct Tally {
    starts: u8,
    stops: u8,
    /// How many stops ran to their end.
    done: u8,
    /// How many stops ran when their daemon was killed.
    excused: u8,
    /// Its opening is on the disk.
    is_flushed: bool,
    /// It was not when the power failed.
    is_lost: bool,
}

#[derive(Clone, Debug)]
struct World {
    fault: Fault,
    is_quick: bool,
    knocks: u8,
    kills: u8,
    failures: u8,
    now: Now,
    boot: &'static str,
    names: BTreeMap<(usize, Name), u32>,
    /// The names that are on the disk.
    flushed_names: BTreeMap<(usize, Name), u32>,
    files: BTreeMap<u32, File>,
    daemons: BTreeMap<u32, Daemon>,
    commands: Vec<Command>,
    tallies: BTreeMap<IpAddr, Tally>,
    /// Daemons that were started.
    starts: u32,
}

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Event {
    Start,
    Step(u32),
    Knock(u32),
    Due(u32),
    Reap(u32),
    Sync(u32),
    /// Another place became free.
    Look(u32),
    End(Process),
    Kill(u32, bool),
    /// The disk has done what it was asked to do.
    Flushed(u32),
    /// The daemon sees that.
    Landed(u32),
    /// The power fails; whether the disk has all names.
    Fail(bool),
}

fn door() -> Door {
    let reading = Reading { file: &mut |_| Ok(Vec::new()), note: &mut |_| {}, interface_is_given: false };
    Config::parse(DOOR.as_bytes(), reading).unwrap().doors.remove(0)
}

const PLACES: usize = 3;

impl World {
    fn new(fault: Fault, bounds: Bounds) -> World {
        World {
            fault,
            is_quick: bounds.is_quick,
            knocks: bounds.knocks,
            kills: bounds.kills,
            failures: bounds.failures,
            now: Now { uptime: Duration::from_secs(100), unix: Duration::from_secs(1_700_000_000) },
            boot: "a",
            names: BTreeMap::new(),
            flushed_names: BTreeMap::new(),
            files: BTreeMap::new(),
            daemons: BTreeMap::new(),
            commands: Vec::new(),
            tallies: BTreeMap::new(),
            starts: 0,
        }
    }

    fn events(&self, bounds: Bounds) -> Vec<Event> {
        let mut events = Vec::new();
        if self.daemons.len() < bounds.daemons {
            events.push(Event::Start);
        }
        for (&id, daemon) in &self.daemons {
            if daemon.steps.is_empty() {
                let has_zombie = |it: &Command| it.parent.is_some_and(|it| it.0 == id) && it.ended.is_some();
                if self.knocks > 0 {
                    events.push(Event::Knock(id));
                }
                if daemon.openings.next_deadline().is_some() {
                    events.push(Event::Due(id));
                }
                if self.commands.iter().any(|it| has_zombie(it) && !it.is_reaped) {
                    events.push(Event::Reap(id));
                }
                if !bounds.is_quick
                    && !daemon.journal.is_flushing()
                    && daemon.own.is_some_and(|own| self.names.contains_key(&(own, Name::New)))
                {
                    events.push(Event::Sync(id));
                }
                if self.fault != Fault::LeavesOthers && self.free_places(id).next().is_some() {
                    events.push(Event::Look(id));
                }
                if daemon.flight.as_ref().is_some_and(|it| it.is_done) {
                    events.push(Event::Landed(id));
                }
            } else {
                events.push(Event::Step(id));
            }
            // What a kill does after a power failure, it does without one.
            if self.kills > 0 && self.boot == "a" {
                events.extend([Event::Kill(id, false), Event::Kill(id, true)]);
            }
            if daemon.flight.as_ref().is_some_and(|it| !it.is_done) {
                events.push(Event::Flushed(id));
            }
        }
        if self.failures > 0 {
            events.extend([Event::Fail(false), Event::Fail(true)]);
        }
        let running = self.commands.iter().filter(|it| it.ended.is_none());
        events.extend(running.map(|it| Event::End(it.process)));
        events
    }

    fn holder(&self, place: usize) -> Option<u32> {
        let holds = |daemon: &Daemon| daemon.own == Some(place) || daemon.left.contains(&place);
        self.daemons.iter().find(|(_, daemon)| holds(daemon)).map(|(id, _)| *id)
    }

    fn exists(&self, place: usize) -> bool {
        [Name::Settled, Name::New].iter().any(|name| self.names.contains_key(&(place, *name)))
    }

    /// What a daemon could take over while it runs.
    fn free_places(&self, id: u32) -> impl Iterator<Item = usize> {
        let is_placeless = self.daemons[&id].own.is_none();
        (0..PLACES).filter(move |&place| {
            self.holder(place).is_none() && (self.exists(place) || is_placeless && place == 0)
        })
    }

    fn read(&self, place: usize) -> State {
        let moment = Moment { now: self.now, boot: self.boot };
        let text = |name| Some(Text::read(&self.files[self.names.get(&(place, name))?].text, moment));
        State::of(text(Name::Settled), text(Name::New))
    }

    fn start(&mut self) {
        let mut found = Vec::new();
        for place in 0..PLACES {
            let is_taken = self.holder(place).is_some();
            let is_needed = self.exists(place) || !found.contains(&Place::Free);
            found.push(match (is_taken, is_needed) {
                (true, _) => Place::Taken,
                (false, true) => Place::Free,
                (false, false) => Place::Unfit,
            });
        }
        if self.fault == Fault::OnePlace {
            found.truncate(1);
        }
        let Choice { own, left } = choose(&found);
        self.starts += 1;
        let daemon = Daemon {
            own,
            left: if self.fault == Fault::LeavesOthers { Vec::new() } else { left },
            openings: Openings::new(self.starts.into()),
            journal: Journal::new(own.is_some_and(|own| self.names.contains_key(&(own, Name::New)))),
            pending: Vec::new(),
            is_behind: false,
            is_urgent: false,
            written: 0,
            flight: None,
            steps: VecDeque::new(),
        };
        let places: Vec<usize> = daemon.own.into_iter().chain(daemon.left.iter().copied()).collect();
        self.daemons.insert(self.starts, daemon);
        self.take_over(self.starts, &places);
    }

    fn take_over(&mut self, id: u32, places: &[usize]) {
        let mut state = State::default();
        for place in places {
            state.add(self.read(*place));
        }
        let daemon = self.daemons.get_mut(&id).unwrap();
        daemon.is_behind = !state.is_empty() || !daemon.left.is_empty();
        daemon.journal.begin_anew();
        for (_, (phase, stop)) in state.openings {
            if self.fault == Fault::StartedIsDone && matches!(phase, Phase::Closing(_)) {
                continue;
            }
            let ignores = self.fault == Fault::IgnoresStarts && matches!(phase, Phase::Opening(_));
            let runs = |process| {
                self.commands.iter().any(|it| it.process == process && it.ended.is_none()) && !ignores
            };
            let is_start = |it: &&Command| !it.is_stop && it.knocker == stop.knocker && it.ended.is_none();
            let start = self.commands.iter().find(is_start).map(|it| it.process).filter(|_| !ignores);
            let (phase, stop) = taken_over(phase, stop, self.now, runs, |_| start);
            if let Some((job, process)) = daemon.openings.resume(phase, stop, self.now) {
                let command = self.commands.iter_mut().find(|it| it.process == process).unwrap();
                command.parent = Some((id, job));
            }
        }
        daemon.steps.push_back(Step::Remember);
    }

    fn happen(&mut self, event: Event, door: &Door) -> Result<(), String> {
        match event {
            Event::Start => self.start(),
            Event::Step(id) => {
                let step = self.daemons.get_mut(&id).and_then(|daemon| daemon.steps.pop_front()).unwrap();
                self.step(id, step)?;
            }
            Event::Knock(id) => {
                let openings = &mut self.daemons.get_mut(&id).unwrap().openings;
                let knockers =
                    (0..std::mem::take(&mut self.knocks)).map(|number| IpAddr::from([10, 0, 0, number]));
                let actions = knockers
                    .flat_map(|knocker| openings.open(door, knocker, &[None], (None, Where::Here), self.now))
                    .collect();
                self.plan(id, actions, true);
            }
            Event::Due(id) => {
                let daemon = self.daemons.get_mut(&id).unwrap();
                let passed =
                    daemon.openings.next_deadline().unwrap_or_default().saturating_sub(self.now.uptime);
                self.now = Now { uptime: self.now.uptime + passed, unix: self.now.unix + passed };
                let actions = daemon.openings.due(self.now);
                self.plan(id, actions, false);
            }
            Event::Reap(id) => {
                self.reap(id);
                self.plan(id, Vec::new(), false);
            }
            Event::Sync(id) => self.daemons.get_mut(&id).unwrap().steps.push_back(Step::Flush(true)),
            Event::Flushed(id) => self.flush(id),
            Event::Landed(id) => {
                let daemon = self.daemons.get_mut(&id).unwrap();
                daemon.flight = None;
                daemon.steps.push_back(Step::Landed);
            }
            Event::Fail(has_names) => self.fail(has_names),
            Event::Look(id) => {
                let places: Vec<usize> = self.free_places(id).collect();
                let daemon = self.daemons.get_mut(&id).unwrap();
                let mut rest = places.iter().copied();
                if daemon.own.is_none() {
                    daemon.own = rest.next();
                    let has_new = |own| self.names.contains_key(&(own, Name::New));
                    daemon.journal = Journal::new(daemon.own.is_some_and(has_new));
                }
                daemon.left.extend(rest);
                self.take_over(id, &places);
            }
            Event::End(process) => {
                let index = self.commands.iter().position(|it| it.process == process).unwrap();
                let Command { is_stop, knocker, .. } = self.commands[index];
                self.tallies.entry(knocker).or_default().done += u8::from(is_stop);
                if self.commands[index].parent.is_some() {
                    self.commands[index].ended = Some(0);
                } else {
                    self.commands.remove(index);
                }
            }
            Event::Kill(id, with_commands) => self.kill(id, with_commands),
        }
        Ok(())
    }

    /// What `Doorkeeper::take_actions` does.
    fn plan(&mut self, id: u32, actions: Vec<Action>, is_urgent: bool) {
        let steps = &mut self.daemons.get_mut(&id).unwrap().steps;
        steps.push_back(Step::Remember);
        for action in actions {
            let Action::Run(job) = action else { continue };
            let variable = |name| &job.variables.iter().find(|(it, _)| *it == name).unwrap().1;
            let is_stop = variable("KNOCKD_EVENT") == "stop";
            steps.push_back(Step::Run(job.id, is_stop, variable("KNOCKD_IP").parse().unwrap()));
        }
        steps.push_back(Step::Remember);
        if is_urgent {
            self.daemons.get_mut(&id).unwrap().is_urgent = true;
            self.daemons.get_mut(&id).unwrap().steps.push_back(Step::Flush(self.is_quick));
        }
    }

    fn step(&mut self, id: u32, step: Step) -> Result<(), String> {
        let moment = Moment { now: self.now, boot: self.boot };
        let daemon = self.daemons.get_mut(&id).unwrap();
        let mut next = Vec::new();
        match step {
            Step::Remember => {
                daemon.pending.extend(daemon.openings.take_changes().into_iter().map(Record::from));
                if daemon.pending.is_empty() && !daemon.is_behind {
                    return Ok(());
                }
                let pending = std::mem::take(&mut daemon.pending);
                let Some(own) = daemon.own else { return Ok(()) };
                daemon.is_behind = false;
                let whole = || {
                    write(&daemon.openings.standing(), &[], &HashMap::new(), &[], &Used::default(), moment)
                };
                if self.fault == Fault::RemovesNew {
                    next.push(Step::Disk(own, Operation::RemoveNew));
                    daemon.journal.begin_anew();
                }
                let lines = || pending.iter().map(|it| it.line(moment.now)).collect::<String>().into_bytes();
                let operations = daemon.journal.change(lines, whole);
                next.extend(operations.into_iter().map(|it| Step::Disk(own, it)));
                next.push(Step::LetGo);
            }
            Step::LetGo if daemon.left.is_empty() => {}
            Step::LetGo if daemon.flight.is_some() && self.fault != Fault::LetsGoEarly => {
                // It waits for that.
                self.flush(id);
                self.daemons.get_mut(&id).unwrap().flight = None;
                next.extend([Step::Landed, Step::LetGo]);
            }
            Step::LetGo => {
                if self.fault != Fault::LetsGoEarly {
                    let operations = daemon.journal.flush(false);
                    next.extend(operations.into_iter().filter_map(|it| Some(Step::Disk(daemon.own?, it))));
                    next.push(Step::Landed);
                }
                next.push(Step::Abandon);
            }
            Step::Abandon => {
                for place in daemon.left.clone() {
                    let mut operations = Journal::abandon();
                    if self.fault == Fault::AbandonsInTheWrongOrder {
                        operations.swap(0, 1);
                    }
                    next.extend(operations.map(|it| Step::Disk(place, it)));
                }
            }
            Step::Flush(settles) => {
                if !daemon.is_behind && !daemon.journal.is_flushing() {
                    daemon.is_urgent = false;
                    let mut operations = daemon.journal.flush(settles);
                    if self.fault == Fault::ForgetsName {
                        operations.retain(|it| *it != Operation::SyncFolder);
                    }
                    if self.fault == Fault::RenamesEarly && settles && !operations.is_empty() {
                        next.push(Step::Landed);
                    } else {
                        next.push(Step::TakeOff(operations));
                    }
                }
            }
            Step::TakeOff(operations) => {
                if !operations.is_empty() {
                    daemon.flight = Some(Flight { operations, file: daemon.written, is_done: false });
                    if self.failures == 0 {
                        self.flush(id);
                    }
                }
            }
            Step::Landed => {
                let operations = daemon.journal.landed();
                let (flight, at_once): (Vec<_>, Vec<_>) =
                    operations.into_iter().partition(Operation::waits_for_disk);
                if let Some(file) = self.files.get(&daemon.written).filter(|_| flight.is_empty()) {
                    let text = String::from_utf8_lossy(&file.text);
                    for (knocker, tally) in &mut self.tallies {
                        tally.is_flushed |= text.contains(&format!(" {knocker} "));
                    }
                }
                let own = daemon.own;
                next.extend(at_once.into_iter().filter_map(|it| Some(Step::Disk(own?, it))));
                next.push(Step::TakeOff(flight));
                if daemon.is_urgent {
                    next.push(Step::Flush(false));
                }
            }
            Step::Disk(place, operation) => self.carry_out(id, place, operation),
            Step::Run(job, is_stop, knocker) => {
                self.run(id, job, is_stop, knocker)?;
                if self.fault != Fault::NotesLate {
                    self.reap(id);
                    next.push(Step::Remember);
                }
            }
        }
        let steps = &mut self.daemons.get_mut(&id).unwrap().steps;
        next.into_iter().rev().for_each(|step| steps.push_front(step));
        Ok(())
    }

    fn carry_out(&mut self, id: u32, place: usize, operation: Operation) {
        let mut rename = |from, to| {
            if let Some(file) = self.names.remove(&(place, from)) {
                self.names.insert((place, to), file);
            }
        };
        let written = self.daemons[&id].written;
        let mut is_noted = false;
        match operation {
            Operation::Write(text) => {
                let file = self.files.keys().next_back().map_or(1, |last| last + 1);
                self.files.insert(file, File { text, flushed: 0 });
                self.names.insert((place, Name::Temporary), file);
                self.daemons.get_mut(&id).unwrap().written = file;
            }
            Operation::Publish => {
                rename(Name::Temporary, Name::New);
                is_noted = true;
            }
            Operation::Append(lines) => {
                self.files.get_mut(&self.names[&(place, Name::New)]).unwrap().text.extend(lines);
                is_noted = true;
            }
            Operation::Settle => rename(Name::New, Name::Settled),
            Operation::RemoveSettled => drop(self.names.remove(&(place, Name::Settled))),
            Operation::RemoveNew => drop(self.names.remove(&(place, Name::New))),
            Operation::Sync | Operation::SyncFolder => self.sync(&operation, written),
        }
        self.forget_files();
        let daemon = self.daemons.get_mut(&id).unwrap();
        if daemon.own != Some(place) && !self.names.keys().any(|(it, _)| *it == place) {
            daemon.left.retain(|it| *it != place);
        }
        if is_noted {
            self.commands.retain(|it| !it.is_reaped || it.parent.is_none_or(|(parent, _)| parent != id));
        }
    }

    /// The disk does what it was asked to do.
    fn flush(&mut self, id: u32) {
        let Some(flight) = &mut self.daemons.get_mut(&id).unwrap().flight else { return };
        flight.is_done = true;
        let Flight { operations, file, .. } = flight.clone();
        for operation in &operations {
            self.sync(operation, file);
        }
        self.forget_files();
    }

    fn sync(&mut self, operation: &Operation, file: u32) {
        if *operation == Operation::SyncFolder {
            self.flushed_names = self.names.clone();
        } else if let Some(file) = self.files.get_mut(&file) {
            file.flushed = file.text.len();
        }
    }

    /// Files without a name are gone, unless somebody writes or flushes them.
    fn forget_files(&mut self) {
        let in_use = |daemon: &Daemon| [daemon.written, daemon.flight.as_ref().map_or(0, |it| it.file)];
        let mut kept: HashSet<u32> = self.daemons.values().flat_map(in_use).collect();
        kept.extend(self.names.values().chain(self.flushed_names.values()));
        self.files.retain(|file, _| kept.contains(file));
    }

    /// The power fails.
    fn fail(&mut self, has_names: bool) {
        self.failures -= 1;
        for tally in self.tallies.values_mut() {
            tally.is_lost |= !tally.is_flushed;
            // How it ended may not be on the disk.
            tally.excused += tally.stops;
        }
        self.daemons.clear();
        self.commands.clear();
        if has_names {
            self.flushed_names = self.names.clone();
        } else {
            self.names = self.flushed_names.clone();
        }
        self.files.values_mut().for_each(|file| file.text.truncate(file.flushed));
        self.forget_files();
        self.boot = "b";
    }

    fn run(&mut self, id: u32, job: JobId, is_stop: bool, knocker: IpAddr) -> Result<(), String> {
        let is_opening = |it: &Command| !it.is_stop && it.knocker == knocker && it.ended.is_none();
        if is_stop && self.commands.iter().any(is_opening) {
            return Err(format!("the door of {knocker} is closed while its start command runs"));
        }
        for command in &mut self.commands {
            if command.parent.is_some_and(|(parent, _)| parent == id) {
                command.ended = command.ended.map(|starts| starts + 1);
            }
        }
        let tally = self.tallies.entry(knocker).or_default();
        *(if is_stop { &mut tally.stops } else { &mut tally.starts }) += 1;
        // The same whatever happened elsewhere, so that many orders of events lead to the same world.
        let IpAddr::V4(address) = knocker else { return Err("a knocker with IPv6".to_owned()) };
        let pid = i32::from(address.octets()[3]) * 100 + i32::from(tally.starts * 10 + tally.stops);
        let process = Process { pid: pid + 1, start: 7 };
        self.daemons.get_mut(&id).unwrap().openings.started(job, Some(process));
        let parent = Some((id, job));
        let ended = (self.is_quick && !is_stop).then_some(0);
        self.commands.push(Command { process, parent, is_stop, knocker, ended, is_reaped: false });
        Ok(())
    }

    fn reap(&mut self, id: u32) {
        let daemon = self.daemons.get_mut(&id).unwrap();
        for command in self.commands.iter_mut().filter(|it| it.ended.is_some() && !it.is_reaped) {
            if let Some((parent, job)) = command.parent.filter(|(parent, _)| *parent == id) {
                command.is_reaped = parent == id;
                daemon.openings.ended(job, Ending::Exited(0), self.now);
            }
        }
    }

    fn kill(&mut self, id: u32, with_commands: bool) {
        self.kills -= 1;
        self.daemons.remove(&id);
        for command in &mut self.commands {
            if command.parent.is_none_or(|(parent, _)| parent != id) {
                continue;
            }
            command.parent = None;
            // It runs, or it ended in that very instant: no more than one command was started since.
            if command.is_stop && command.ended.is_none_or(|starts| starts <= 1) {
                self.tallies.entry(command.knocker).or_default().excused += 1;
            }
            if with_commands {
                command.ended = Some(0);
            }
        }
        self.commands.retain(|it| it.parent.is_some() || it.ended.is_none());
    }

    /// Nothing more will happen.
    fn judge(&self) -> Result<(), String> {
        for (knocker, Tally { starts, stops, done, excused, is_lost, .. }) in &self.tallies {
            if *starts > 0 && *done == 0 && !is_lost {
                return Err(format!("the door of {knocker} stays open"));
            }
            if *stops > 1 + excused {
                return Err(format!(
                    "the door of {knocker} is closed {stops} times, {excused} of them excused"
                ));
            }
        }
        Ok(())
    }

    /// Tells this world from others.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.knocks, self.kills, self.failures, self.boot, self.now.uptime, &self.commands)
            .hash(&mut hasher);
        self.tallies.hash(&mut hasher);
        // Which names mean the same file matters, not what it is called here.
        let all = || self.names.iter().chain(&self.flushed_names);
        let rank = |file: u32| all().position(|(_, it)| *it == file);
        if self.failures > 0 {
            for (name, file) in all() {
                (name, rank(*file), &self.files[file]).hash(&mut hasher);
            }
        } else {
            self.names.iter().for_each(|(name, file)| (name, &self.files[file].text).hash(&mut hasher));
        }
        for (id, it) in &self.daemons {
            (id, it.own, &it.left, it.journal, it.is_behind, it.is_urgent, &it.steps).hash(&mut hasher);
            it.flight.as_ref().map(|flight| (&flight.operations, flight.is_done)).hash(&mut hasher);
            if self.failures > 0 {
                (rank(it.written), it.flight.as_ref().map(|flight| rank(flight.file))).hash(&mut hasher);
            }
            format!("{:?}{:?}", it.openings, it.pending).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// The events that led to a world, the last one first.
struct Path(Event, Option<Rc<Path>>);

fn words(mut path: Option<&Rc<Path>>) -> String {
    let mut events = Vec::new();
    while let Some(it) = path {
        events.push(format!("{:?}", it.0));
        path = it.1.as_ref();
    }
    events.reverse();
    events.join(", ")
}

/// Goes through all orders of events, and returns how many different worlds there are.
fn explore(fault: Fault, bounds: Bounds) -> Result<usize, String> {
    let door = door();
    let mut seen = HashSet::new();
    let mut open = vec![(World::new(fault, bounds), None)];
    while let Some((world, path)) = open.pop() {
        let events = world.events(bounds);
        // What may happen, but need not.
        let is_optional = |event: &Event| {
            matches!(event, Event::Kill(..) | Event::Fail(_) | Event::Sync(_) | Event::Knock(_))
                || matches!(event, Event::Start) && !world.daemons.is_empty()
        };
        if events.iter().all(is_optional) {
            world.judge().map_err(|error| format!("{error}: {}", words(path.as_ref())))?;
        }
        for event in events {
            let mut next = world.clone();
            let path = Some(Rc::new(Path(event, path.clone())));
            next.happen(event, &door).map_err(|error| format!("{error}: {}", words(path.as_ref())))?;
            if seen.insert(next.digest()) {
                open.push((next, path));
            }
        }
    }
    Ok(seen.len())
}

const ONE: Bounds = Bounds { knocks: 1, kills: 2, failures: 0, daemons: 1, is_quick: false };
const TWO: Bounds = Bounds { knocks: 1, kills: 2, failures: 0, daemons: 2, is_quick: true };
const MANY: Bounds = Bounds { knocks: 3, kills: 1, failures: 0, daemons: 1, is_quick: true };
const POWER: Bounds = Bounds { knocks: 1, kills: 1, failures: 1, daemons: 1, is_quick: false };
const POWER_TWO: Bounds = Bounds { knocks: 1, kills: 1, failures: 1, daemons: 2, is_quick: true };

#[track_caller]
fn finds(fault: Fault, bounds: Bounds, what: &str) {
    let found = explore(fault, bounds).expect_err("the explorer misses it");
    assert!(found.contains(what), "{found}");
}

fn every_door_closes_once_whatever_is_killed() {
    for bounds in [ONE, MANY] {
        let worlds = explore(Fault::None, bounds).unwrap();
        assert!(worlds > 5_000, "{worlds}");
    }
}

fn every_door_closes_once_with_two_daemons() {
    let worlds = explore(Fault::None, TWO).unwrap();
    assert!(worlds > 50_000, "{worlds}");
}

fn the_explorer_finds_a_new_state_that_is_removed_too_early() {
    finds(Fault::RemovesNew, ONE, "stays open");
}

fn the_explorer_finds_a_daemon_without_a_place() {
    finds(Fault::OnePlace, TWO, "stays open");
}

fn the_explorer_finds_stops_that_are_noted_too_late() {
    finds(Fault::NotesLate, MANY, "times");
}

fn the_explorer_finds_a_stop_that_counts_as_done_when_it_was_started() {
    finds(Fault::StartedIsDone, ONE, "stays open");
}

fn the_explorer_finds_places_that_nobody_takes_over() {
    finds(Fault::LeavesOthers, TWO, "stays open");
}

fn the_explorer_finds_files_that_are_removed_in_the_wrong_order() {
    finds(Fault::AbandonsInTheWrongOrder, TWO, "times");
}

fn the_explorer_finds_a_door_that_is_closed_before_it_opens() {
    finds(Fault::IgnoresStarts, ONE, "while its start command runs");
}

fn every_door_that_was_flushed_closes_after_a_power_failure() {
    for bounds in [POWER, POWER_TWO] {
        let worlds = explore(Fault::None, bounds).unwrap();
        assert!(worlds > 5_000, "{worlds}");
    }
}

fn the_explorer_finds_a_name_that_is_not_flushed() {
    finds(Fault::ForgetsName, POWER, "stays open");
}

fn the_explorer_finds_a_rename_before_the_flush() {
    finds(Fault::RenamesEarly, POWER, "stays open");
}

fn the_explorer_finds_places_that_go_before_the_flush() {
    finds(Fault::LetsGoEarly, POWER_TWO, "stays open");
}
