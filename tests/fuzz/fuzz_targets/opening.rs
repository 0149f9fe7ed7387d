//! Runs the openings of a doorkeeper through random steps, including crashes after which another one
//! resumes from the saved state: each start of a door with a stop command is followed by exactly one stop.
#![no_main]

use std::collections::HashMap;
use std::time::Duration;

use arbitrary::Arbitrary;
use fuzzing::town::{KNOCKERS, address, one};
use knocking::door::{Door, Reopen};
use knocking::opening::event::Event;
use knocking::opening::state::{Moment, State, write};
use knocking::opening::{Action, Ending, Job, JobId, Openings, Phase, Stop};
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

/// The most steps of a run, and of closing every door after it.
const MOST_STEPS: usize = 60;
const MOST_WAITS: usize = 10_000;
const DOORS: &str = "[0]\nsequence = 1\nstart_command = start %IP%\nstop_command = stop 0 %IP%\ncmd_timeout = 3\n\
    [1]\nsequence = 1\nstart_command = start\nstop_command = stop 1 %IP%\nreopen = extend\ncommand_timeout = 2\n\
    [2]\nsequence = 1\nstart_command = start\nstop_command = stop 2 %IP%\nreopen = ignore\ncmd_timeout = 0\n\
    [3]\nsequence = 1\nstart_command = start\nstart_command_6 = start6\nstop_command_6 = stop 3 %IP%\n\
    [4]\nsequence = 1\nstart_command = start\n\
    [5]\nsequence = 1\nstop_command = stop 5 %IP%\n\
    [6]\nsequence = 1\nstart_command_6 = start\nstop_command = stop 6 %IP%\ncmd_timeout = 2147483647\n";

#[derive(Arbitrary, Debug)]
struct Input {
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// A door opens; its command may not start.
    Admit { door: u8, knocker: u8, starts: bool },
    /// A running command ends.
    End { which: u8, code: u8 },
    /// Time passes, in quarters of a second, and what is due is done.
    Pass { quarters: u8, start: bool },
    /// Time passes until something is due.
    WakeUp { start: bool },
    /// The daemon runs a command of its own.
    Daemon { limit: Option<u8> },
    /// The daemon must end within so many seconds.
    Finish(u8),
    /// The doorkeeper is killed, perhaps between an opening and its command; another takes over, in this
    /// boot or the next.
    Crash { opening: Option<(u8, u8)>, is_reboot: bool },
    /// The open doors are handed over to another doorkeeper, which hands them back.
    HandOver,
}

type Whose = (String, String);

struct Scene {
    doors: Vec<Door>,
    openings: Openings,
    now: Now,
    boot: u32,
    running: Vec<Job>,
    /// The running stop commands.
    closing: HashMap<JobId, Whose>,
    /// How many stops each door and knocker is still owed.
    owed: HashMap<Whose, usize>,
    last_call: Option<Duration>,
    known: (u64, Vec<(Phase, Stop)>),
}

fn owned(standing: &[(Phase, &Stop)]) -> Vec<(Phase, Stop)> {
    standing.iter().map(|(phase, stop)| (*phase, (*stop).clone())).collect()
}

fn whose(job: &Job) -> Whose {
    let variable = |name| job.variables.iter().find(|(it, _)| *it == name).map(|(_, value)| value.clone());
    (variable("KNOCKD_DOOR").unwrap_or_default(), variable("KNOCKD_IP").unwrap_or_default())
}

fn is_stop(job: &Job) -> bool {
    job.variables.contains(&("KNOCKD_EVENT", "stop".to_owned()))
}

impl Scene {
    fn new() -> Scene {
        Scene {
            doors: fuzzing::doors(DOORS, &[]),
            openings: Openings::new(),
            now: Now { uptime: Duration::from_secs(1000), unix: Duration::from_secs(1_700_000_000) },
            boot: 0,
            running: Vec::new(),
            closing: HashMap::new(),
            owed: HashMap::new(),
            last_call: None,
            known: (0, Vec::new()),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Admit { door, knocker, starts } => {
                let actions = self.admit(door, knocker);
                self.take(actions, starts);
            }
            Step::End { which, code } => {
                if let Some(index) = usize::from(which).checked_rem(self.running.len()) {
                    let endings = [Ending::Exited(0), Ending::Exited(1), Ending::Killed(9)];
                    self.end(index, one(&endings, code));
                }
            }
            Step::Pass { quarters, start } => {
                self.pass(Duration::from_millis(250) * u32::from(quarters));
                self.due(start);
            }
            Step::WakeUp { start } => self.wake_up(start),
            Step::Daemon { limit } => {
                let limit = limit.map(|limit| Duration::from_secs(u64::from(limit) + 1));
                let actions = self.openings.run_for_daemon(b"options".to_vec(), false, limit, self.now);
                self.take(actions, true);
            }
            Step::Finish(seconds) => {
                let last = self.now.uptime + Duration::from_secs(seconds.into());
                self.openings.finish(last);
                self.last_call = Some(self.last_call.map_or(last, |earlier| earlier.min(last)));
            }
            Step::Crash { opening, is_reboot } => {
                // The opening is saved before the command is started.
                if let Some((door, knocker)) = opening {
                    let _never_taken = self.admit(door, knocker);
                }
                self.crash(is_reboot);
            }
            Step::HandOver => self.hand_over(),
        }
        let standing = owned(&self.openings.standing());
        if standing != self.known.1 {
            assert_ne!(self.openings.changes(), self.known.0, "a change that is not counted");
        }
        self.known = (self.openings.changes(), standing);
        for (phase, stop) in &self.known.1 {
            let is_late = *phase == Phase::Open && self.last_call.is_some_and(|last| stop.due > last);
            // A command that could not be started is retried, even while the daemon ends.
            assert!(!is_late || stop.due <= self.now.uptime + Duration::from_secs(5), "{stop:?}");
        }
    }

    fn admit(&mut self, door: u8, knocker: u8) -> Vec<Action> {
        let door = &self.doors[usize::from(door) % self.doors.len()];
        let knocker = address(&KNOCKERS, knocker);
        let is_it = |(phase, stop): &(Phase, &Stop)| {
            *phase != Phase::Closing && stop.door == door.name && stop.knocker == knocker
        };
        let is_open = self.openings.standing().iter().any(is_it);
        let actions = self.openings.admit(door, knocker, self.now);
        let runs = actions.iter().any(|action| matches!(action, Action::Run(_)));
        if is_open && door.reopen != Reopen::Run {
            assert!(matches!(actions.as_slice(), [Action::Tell(Event::AlreadyOpen { .. })]), "{actions:?}");
        } else {
            assert_eq!(runs, door.start_for(knocker).is_some(), "{actions:?}");
        }
        if runs && door.stop_for(knocker).is_some() {
            *self.owed.entry((door.name.to_string(), knocker.to_string())).or_default() += 1;
        }
        actions
    }

    /// Does what the doorkeeper does with actions; `starts` says whether commands can be started.
    fn take(&mut self, actions: Vec<Action>, starts: bool) {
        let mut announced = None;
        for action in actions {
            match action {
                Action::Tell(Event::Running { command, .. }) => announced = Some(command),
                Action::Tell(event) => assert!(event.line(None).is_some()),
                Action::Run(job) => {
                    assert_eq!(announced.take().as_ref(), Some(&job.command), "not announced");
                    self.start(job, starts);
                }
                Action::Kill(id) => {
                    let index = self.running.iter().position(|job| job.id == id);
                    self.end(index.expect("a command that runs"), Ending::Killed(9));
                }
            }
        }
        assert_eq!(announced, None, "announced and not run");
    }

    fn start(&mut self, job: Job, starts: bool) {
        if !starts {
            let actions = self.openings.ended(job.id, Ending::NotStarted, self.now);
            assert!(actions.is_empty(), "{actions:?}");
            return;
        }
        self.openings.started(job.id);
        if is_stop(&job) {
            let whose = whose(&job);
            let command = format!("stop {} {}", whose.0, whose.1);
            assert_eq!(job.command, command.into_bytes());
            let owed = self.owed.get_mut(&whose).filter(|owed| **owed > 0);
            *owed.unwrap_or_else(|| panic!("a stop that is due to nobody: {whose:?}")) -= 1;
            self.closing.insert(job.id, whose);
        }
        self.running.push(job);
    }

    fn end(&mut self, index: usize, ending: Ending) {
        let job = self.running.remove(index);
        self.closing.remove(&job.id);
        let actions = self.openings.ended(job.id, ending, self.now);
        self.take(actions, true);
        assert!(self.openings.ended(job.id, ending, self.now).is_empty(), "it ended twice");
    }

    /// Does what is due; returns whether there was anything.
    fn due(&mut self, starts: bool) -> bool {
        let actions = self.openings.due(self.now);
        let is_over = |due: Duration| due <= self.now.uptime;
        assert!(!self.openings.next_deadline().is_some_and(is_over), "the openings are not done");
        for (phase, stop) in self.openings.standing() {
            assert!(phase != Phase::Open || !is_over(stop.due) || !actions.is_empty(), "{stop:?}");
        }
        let is_any = !actions.is_empty();
        self.take(actions, starts);
        is_any
    }

    fn wake_up(&mut self, starts: bool) {
        if let Some(due) = self.openings.next_deadline() {
            self.pass(due.saturating_sub(self.now.uptime));
            assert!(self.due(starts), "woken up in vain");
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { uptime: self.now.uptime + time, unix: self.now.unix + time };
    }

    fn text(&self) -> Vec<u8> {
        let boot = self.boot.to_string();
        write(&self.openings.standing(), &[], &[], Moment { now: self.now, boot: &boot })
    }

    fn read(&self, text: &[u8]) -> Vec<Stop> {
        let boot = self.boot.to_string();
        let state = State::read(text, Moment { now: self.now, boot: &boot });
        assert!(state.is_whole, "{}", String::from_utf8_lossy(text));
        state.stops
    }

    fn crash(&mut self, is_reboot: bool) {
        let text = self.text();
        self.running.clear();
        let closing = std::mem::take(&mut self.closing);
        if is_reboot {
            self.boot += 1;
            self.now.uptime = Duration::from_secs(7);
            // The commands did not survive the reboot: they are run again.
            for whose in closing.into_values() {
                *self.owed.entry(whose).or_default() += 1;
            }
        }
        self.openings = Openings::new();
        self.last_call = None;
        for stop in self.read(&text) {
            self.openings.resume(stop);
        }
        self.known = (u64::MAX, Vec::new());
    }

    fn hand_over(&mut self) {
        if self.openings.are_opening() {
            return;
        }
        let text = self.text();
        self.openings.hand_over();
        let left = self.openings.standing();
        assert!(left.iter().all(|(phase, _)| *phase == Phase::Closing), "{left:?}");
        for stop in self.read(&text) {
            self.openings.resume(stop);
        }
    }

    /// Ends the daemon: every door must be closed, and nothing be left to wait for.
    fn close(mut self) {
        for _ in 0..MOST_WAITS {
            while !self.running.is_empty() {
                self.end(0, Ending::Exited(0));
            }
            if self.openings.next_deadline().is_none() {
                break;
            }
            self.wake_up(true);
        }
        assert!(self.openings.are_closed() && self.openings.standing().is_empty());
        let owed: Vec<_> = self.owed.iter().filter(|(_, count)| **count > 0).collect();
        assert!(owed.is_empty(), "doors that stay open: {owed:?}");
    }
}

fuzz_target!(|input: Input| {
    let mut scene = Scene::new();
    for step in input.steps.iter().take(MOST_STEPS) {
        scene.step(step);
    }
    scene.close();
});
