//! Runs the openings of a doorkeeper through random steps, including crashes after which another one
//! resumes from the saved state: each start of a door with a stop command is followed by exactly one stop, and by
//! one more if a signal to the whole group ended the first while the daemon ended.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use arbitrary::Arbitrary;
use fuzzing::town::{KNOCKERS, address, one};
use knocking::door::spa::replay::Used;
use knocking::door::{Door, Reopen};
use knocking::opening::admit::Where;
use knocking::opening::event::Event;
use knocking::opening::state::{self, Moment, State};
use knocking::opening::text::{Text, write};
use knocking::opening::{Action, Change, Ending, Job, Key, Openings, Phase, Process, Stop};
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

/// The most steps of a run, and of closing every door after it.
const MOST_STEPS: usize = 60;
const MOST_WAITS: usize = 10_000;
const SIGHUP: i32 = 1;
const SIGTERM: i32 = 15;
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
    /// The doorkeeper is killed, perhaps between an opening and its command, perhaps with all commands; another
    /// takes over, in this boot or the next.
    Crash { opening: Option<(u8, u8)>, spares_commands: bool, is_reboot: bool },
}

type Whose = (String, String);

struct Scene {
    doors: Vec<Door>,
    openings: Openings,
    now: Now,
    boot: u32,
    running: Vec<(Job, Process)>,
    /// The running stop commands.
    closing: HashMap<Process, Whose>,
    /// How many processes there have been.
    processes: i32,
    /// How many stops each door and knocker is still owed.
    owed: HashMap<Whose, usize>,
    last_call: Option<Duration>,
    /// Openings whose stop command such a signal ended.
    run_again: BTreeSet<Key>,
    /// The sum of all changes reported so far.
    known: BTreeMap<Key, (Phase, Stop)>,
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
            openings: Openings::new(0),
            now: Now { uptime: Duration::from_secs(1000), unix: Duration::from_secs(1_700_000_000) },
            boot: 0,
            running: Vec::new(),
            closing: HashMap::new(),
            owed: HashMap::new(),
            last_call: None,
            run_again: BTreeSet::new(),
            processes: 0,
            known: BTreeMap::new(),
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
                    let endings = [
                        Ending::Exited(0),
                        Ending::Exited(1),
                        Ending::Killed(9),
                        Ending::Killed(SIGHUP),
                        Ending::Killed(SIGTERM),
                    ];
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
                let time = Duration::from_secs(seconds.into());
                let last = self.now.uptime + time;
                self.openings.finish(time, time, self.now);
                self.last_call = Some(self.last_call.map_or(last, |earlier| earlier.min(last)));
            }
            Step::Crash { opening, spares_commands, is_reboot } => {
                // The opening is saved before the command is started.
                if let Some((door, knocker)) = opening {
                    for action in self.admit(door, knocker) {
                        if let Action::Run(job) = action {
                            self.owe_stop_of(&job);
                        }
                    }
                }
                self.crash(spares_commands && !is_reboot, is_reboot);
            }
        }
        for change in self.openings.take_changes() {
            match change {
                Change::Stands(phase, open) => drop(self.known.insert(open.key, (phase, open))),
                Change::Closed(key) => drop(self.known.remove(&key)),
            }
        }
        let standing =
            self.openings.standing().into_iter().map(|(phase, stop)| (stop.key, (phase, stop.clone())));
        assert_eq!(self.known, standing.collect(), "a change that is not reported");
        for (phase, stop) in self.known.values() {
            let is_late = *phase == Phase::Open && self.last_call.is_some_and(|last| stop.due > last);
            // A command that could not be started is retried, even while the daemon ends.
            assert!(!is_late || stop.due <= self.now.uptime + Duration::from_secs(5), "{stop:?}");
        }
    }

    fn admit(&mut self, door: u8, knocker: u8) -> Vec<Action> {
        let door = &self.doors[usize::from(door) % self.doors.len()];
        let knocker = address(&KNOCKERS, knocker);
        let is_it = |(phase, stop): &(Phase, &Stop)| {
            !matches!(phase, Phase::Closing(_)) && stop.door == door.name && stop.knocker == knocker
        };
        let is_open = self.openings.standing().iter().any(is_it);
        if !self.openings.have_room_for(door, knocker, &[None]) {
            return Vec::new();
        }
        let actions = self.openings.open(door, knocker, &[None], (None, Where::Here), self.now);
        if is_open && door.reopen != Reopen::Run {
            assert!(matches!(actions.as_slice(), [Action::Tell(Event::AlreadyOpen { .. })]), "{actions:?}");
        } else if let [Action::Tell(Event::Waits { .. })] = actions.as_slice() {
            let is_start = |(job, _): &&(Job, Process)| !is_stop(job) && whose(job).0 == *door.name;
            let running = self.running.iter().filter(is_start).count();
            assert_eq!(running, usize::from(door.max_commands()), "waits for no command");
        } else {
            let runs = actions.iter().any(|action| matches!(action, Action::Run(_)));
            assert_eq!(runs, door.start_for(knocker).is_some(), "{actions:?}");
        }
        actions
    }

    /// Counts the stop command that a start command entails.
    fn owe_stop_of(&mut self, start: &Job) {
        let whose = whose(start);
        let door = self.doors.iter().find(|door| *door.name == *whose.0);
        if door.is_some_and(|door| whose.1.parse().is_ok_and(|knocker| door.stop_for(knocker).is_some())) {
            *self.owed.entry(whose).or_default() += 1;
        }
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
                    if !is_stop(&job) {
                        self.owe_stop_of(&job);
                    }
                    self.start(job, starts);
                }
                Action::Kill(id) => {
                    let index = self.running.iter().position(|(job, _)| job.id == id);
                    self.end(index.expect("a command that runs"), Ending::Killed(9));
                }
            }
        }
        assert_eq!(announced, None, "announced and not run");
    }

    fn start(&mut self, job: Job, starts: bool) {
        if !starts {
            if !is_stop(&job)
                && let Some(owed) = self.owed.get_mut(&whose(&job))
            {
                // Nothing was opened.
                *owed -= usize::from(self.openings.standing().iter().any(|(phase, stop)| {
                    matches!(phase, Phase::Opening(None)) && stop.key.number == job.id.0
                }));
            }
            let actions = self.openings.ended(job.id, Ending::NotStarted, self.now);
            assert!(actions.is_empty(), "{actions:?}");
            return;
        }
        self.processes += 1;
        let process = Process { pid: self.processes, start: self.boot.into() };
        self.openings.started(job.id, Some(process));
        if is_stop(&job) {
            let whose = whose(&job);
            let command = format!("stop {} {}", whose.0, whose.1);
            assert_eq!(job.command, command.into_bytes());
            let owed = self.owed.get_mut(&whose).filter(|owed| **owed > 0);
            *owed.unwrap_or_else(|| panic!("a stop that is due to nobody: {whose:?}")) -= 1;
            self.closing.insert(process, whose);
        }
        self.running.push((job, process));
    }

    fn end(&mut self, index: usize, ending: Ending) {
        let (job, process) = self.running.remove(index);
        if let Some(whose) = self.closing.remove(&process)
            && self.is_run_again(process, ending)
        {
            *self.owed.entry(whose).or_default() += 1;
        }
        let actions = self.openings.ended(job.id, ending, self.now);
        self.take(actions, true);
        assert!(self.openings.ended(job.id, ending, self.now).is_empty(), "it ended twice");
    }

    /// Whether the stop command of this process must run once more: a signal that a service manager sends to all
    /// processes ended it while the daemon ends, for the first time.
    fn is_run_again(&mut self, process: Process, ending: Ending) -> bool {
        if self.last_call.is_none() || !matches!(ending, Ending::Killed(SIGHUP | SIGTERM)) {
            return false;
        }
        let closes = |phase: &Phase| matches!(phase, Phase::Closing(Some(it)) if *it == process);
        let standing = self.openings.standing().into_iter();
        let key = standing.filter(|(phase, _)| closes(phase)).map(|(_, stop)| stop.key).next();
        self.run_again.insert(key.expect("a door that closes"))
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
        write(
            &self.openings.standing(),
            &[],
            &State::default().admitted,
            &[],
            &Used::default(),
            Moment { now: self.now, boot: &boot },
        )
    }

    fn read(&self, text: &[u8]) -> State {
        let boot = self.boot.to_string();
        let read = Text::read(text, Moment { now: self.now, boot: &boot });
        assert!(read.is_whole && read.damage.is_none(), "{}", String::from_utf8_lossy(text));
        State::of(Some(read), None)
    }

    fn crash(&mut self, spares_commands: bool, is_reboot: bool) {
        let text = self.text();
        let mut survivors = std::mem::take(&mut self.running);
        if !spares_commands {
            survivors.clear();
            // Nobody saw how they ended: they are run again.
            for whose in std::mem::take(&mut self.closing).into_values() {
                *self.owed.entry(whose).or_default() += 1;
            }
        }
        if is_reboot {
            self.boot += 1;
            self.now.uptime = Duration::from_secs(7);
        }
        // The same origin again: a key must not be given twice even so.
        self.openings = Openings::new(0);
        self.last_call = None;
        self.run_again.clear();
        for (_, (phase, stop)) in self.read(&text).openings {
            let runs = |process| survivors.iter().any(|(_, it)| *it == process);
            let (phase, stop) = state::taken_over(phase, stop, self.now, runs, |_| None);
            let Some((id, process)) = self.openings.resume(phase, stop, self.now) else { continue };
            let index = survivors.iter().position(|(_, it)| *it == process).expect("a command that runs");
            let (job, process) = survivors.remove(index);
            self.running.push((Job { id, ..job }, process));
        }
        // The next daemon writes all that it took over as a whole.
        let standing = self.openings.standing().into_iter();
        self.known = standing.map(|(phase, stop)| (stop.key, (phase, stop.clone()))).collect();
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
        self.last_command();
    }

    /// The last command, too, runs once more if such a signal ends it, and only once more.
    fn last_command(&mut self) {
        let time = Duration::from_secs(1);
        self.openings.finish(time, time, self.now);
        let actions = self.openings.run_for_daemon(b"last".to_vec(), true, None, self.now);
        self.take(actions, true);
        self.end(0, Ending::Killed(SIGTERM));
        assert!(!self.openings.are_closed(), "the last command is not run again");
        self.wake_up(true);
        self.end(0, Ending::Killed(SIGTERM));
        assert!(self.openings.are_closed() && self.openings.next_deadline().is_none());
        assert!(self.running.is_empty(), "the last command runs a third time");
    }
}

fuzz_target!(|input: Input| {
    let mut scene = Scene::new();
    for step in input.steps.iter().take(MOST_STEPS) {
        scene.step(step);
    }
    scene.close();
});
