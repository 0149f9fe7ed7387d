//! The rules of knocking as scenarios, one in each file of `corpus/scenarios/*.txt`.
//!
//! A scenario begins with doors as in a knockd.conf, and the sequence files that they name, each after a line
//! `--- PATH`. After a line `---` come steps, each with a time in seconds and exactly the log lines that it
//! must cause:
//!
//! ```text
//! 0.4  10.0.0.2 > 10.0.0.1 tcp 8000 syn    => 10.0.0.2: ssh: Stage 2 | 10.0.0.2: ssh: OPEN SESAME
//!                                          => ssh: running command: open
//! 25.4                                     => 10.0.0.2: ssh: sequence timeout (stage 1)
//! ```
//!
//! The steps are those of [`knocking::simulation::steps`], which `knockd --simulate` reads too.
//!
//! Each step that only lets time pass checks the deadlines: something is due exactly if the engine or the
//! openings asked to be woken by then.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::lock::OneTime;
use knocking::engine::Engine;
use knocking::opening::admit::Where;
use knocking::opening::event::Event;
use knocking::opening::log_limit::{Cause, dropped};
use knocking::opening::{Action, Ending, Job, Openings};
use knocking::simulation::steps::{ClockChange, Step, TimedStep};
use knocking::time::Now;
use libtest_mimic::Trial;

/// One test for each file.
pub fn tests() -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/scenarios");
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20, "the scenarios are not in {}", folder.display());
    let trial = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        Trial::test(format!("engine::scenarios::{name}"), move || {
            play(&std::fs::read_to_string(&file).unwrap());
            Ok(())
        })
    };
    files.into_iter().map(trial).collect()
}

/// Uptime at second 0 of a scenario.
const BOOTED: Duration = Duration::from_secs(1000);
/// Wall clock at second 0 of a scenario, unless it says otherwise.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

fn play(text: &str) {
    let mut doors = String::new();
    let mut files: HashMap<PathBuf, String> = HashMap::new();
    let mut lines = text.lines().enumerate();
    let mut file = None;
    for (_, line) in lines.by_ref() {
        match line.strip_prefix("---") {
            Some("") => break,
            Some(path) => file = Some(PathBuf::from(path.trim())),
            None => {
                let text =
                    file.as_ref().map_or(&mut doors, |path| files.entry(PathBuf::clone(path)).or_default());
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    let mut steps: Vec<Scripted> = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        let (what, expected) = line.split_once("=>").unwrap_or((line, ""));
        let expected = expected.split(" | ").map(str::trim).filter(|line| !line.is_empty());
        if !what.trim().is_empty() {
            steps.push(Scripted { line: index + 1, what: what.trim(), expected: Vec::new() });
        }
        steps.last_mut().expect("a step before the first =>").expected.extend(expected);
    }
    assert!(!steps.is_empty(), "no steps");
    let mut scene = Scene::of(&doors, &files);
    for Scripted { line, what, expected } in steps {
        scene.told.clear();
        scene.step(Step::parse(what).unwrap_or_else(|| panic!("line {line}: '{what}' is no step")));
        // A line with an empty command ends in a blank, which cannot be seen in a file.
        let told: Vec<&str> = scene.told.iter().map(|line| line.trim_end()).collect();
        assert!(told == expected, "line {line}: {what}\n  expected {expected:#?}\n  and got {told:#?}");
    }
}

struct Scripted<'a> {
    line: usize,
    what: &'a str,
    expected: Vec<&'a str>,
}

struct Scene {
    engine: Engine,
    openings: Openings,
    running: Vec<Job>,
    now: Now,
    debug: bool,
    /// The log lines since the step began.
    told: Vec<String>,
}

impl Scene {
    fn of(doors: &str, files: &HashMap<PathBuf, String>) -> Scene {
        let mut file = |path: &Path| {
            files.get(path).map(|text| text.clone().into_bytes()).ok_or(io::ErrorKind::NotFound.into())
        };
        let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
        let config = Config::parse(doors.as_bytes(), reading).unwrap_or_else(|error| panic!("{error}"));
        let now = Now { uptime: BOOTED, unix: EPOCH };
        let mut openings = Openings::new(1);
        let _ = openings.adopt(&config.doors, config.options.max_commands(), now);
        Scene {
            engine: Engine::with_capacity(
                config.doors,
                ["10.0.0.1", "fd00::1"].map(|it| it.parse().unwrap()),
                config.options.max_attempts(),
            ),
            openings,
            running: Vec::new(),
            now,
            debug: false,
            told: Vec::new(),
        }
    }

    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Addresses(here) => self.engine.relocate(here),
            Step::Clock(ClockChange::Set(unix)) => self.now.unix = unix,
            Step::Clock(ClockChange::Forward(time)) => self.now.unix += time,
            Step::Clock(ClockChange::Back(time)) => {
                self.now.unix = self.now.unix.checked_sub(time).expect("a time after 1970");
            }
            Step::Debug => {
                self.debug = true;
                self.engine.explain_flags();
            }
            Step::At(time, step) => {
                let uptime = BOOTED + time;
                let passed = uptime.checked_sub(self.now.uptime).expect("time does not go back");
                self.now = Now { uptime, unix: self.now.unix + passed };
                self.at_this_time(step);
            }
        }
    }

    fn at_this_time(&mut self, step: TimedStep<'_>) {
        match step {
            TimedStep::Wait => self.wake_up(),
            TimedStep::Packet(knock) => {
                let mut events = Vec::new();
                self.engine.observe(&knock, self.now, &mut events);
                self.engine_says(events);
            }
            TimedStep::Finish { grace, start_timeout } => {
                let given_up = self.openings.finish(grace, start_timeout, self.now);
                self.told.extend(given_up.iter().map(|(door, count)| dropped(door, Cause::End, *count)));
            }
            TimedStep::Struck(door, left) => self.strike(door, left),
            TimedStep::Ended(ending, command) => self.end(ending, command),
            TimedStep::Closed(is_closed) => assert_eq!(self.openings.are_closed(), is_closed),
        }
    }

    fn wake_up(&mut self) {
        let was_due = |deadline: Option<Duration>, now: Now| deadline.is_some_and(|due| due <= now.uptime);
        let (attempts, stops) = (self.engine.next_deadline(), self.openings.next_deadline());
        let looks = was_due(self.engine.next_look(), self.now);
        let mut events = Vec::new();
        self.engine.expire(self.now, &mut events);
        // A look at knocks that opened nothing may explain nothing.
        let expired = events.iter().any(|event| !matches!(event, Event::Misfit { .. }));
        assert_eq!(was_due(attempts, self.now), expired, "the engine asked for {attempts:?}");
        assert!(looks || events.iter().all(|event| !matches!(event, Event::Misfit { .. })), "an early look");
        assert!(!was_due(self.engine.next_deadline(), self.now), "the engine is not done");
        assert!(!was_due(self.engine.next_look(), self.now), "the engine has not looked");
        self.engine_says(events);
        let actions = self.openings.due(self.now);
        assert_eq!(was_due(stops, self.now), !actions.is_empty(), "the openings asked for {stops:?}");
        assert!(!was_due(self.openings.next_deadline(), self.now), "the openings are not done");
        self.take(actions);
    }

    fn end(&mut self, ending: Ending, command: &str) {
        let at = self.running.iter().position(|job| job.command == command.as_bytes());
        let job = self.running.remove(at.unwrap_or_else(|| panic!("'{command}' does not run")));
        let actions = self.openings.ended(job.id, ending, self.now);
        self.take(actions);
    }

    fn strike(&mut self, door: &str, left: Option<String>) {
        let index = self.engine.doors().iter().position(|it| &*it.name == door).expect("a door of that name");
        let fresh = left
            .map(|left| OneTime::read(PathBuf::from("/file"), left.as_bytes(), |error| panic!("{error}")));
        if self.engine.refill(index, fresh) {
            let door = self.engine.doors()[index].name.clone();
            self.engine_says(vec![Event::Exhausted { door }]);
        }
    }

    /// Does what the watcher does: logs, and passes openings to the doorkeeper.
    fn engine_says(&mut self, events: Vec<Event>) {
        let mut events = events;
        events.retain(|event| {
            let Event::Opened { opening, door } = event else { return true };
            let has_room =
                self.openings.have_room_for(&self.engine.doors()[opening.door], opening.knocker, &[None]);
            if !has_room {
                self.told.push(dropped(door, Cause::Queue, 1));
            }
            has_room
        });
        for event in &events {
            assert_eq!(event.is_silent(), event.line(None).is_none(), "{event:?}");
            self.told.extend(event.line(None));
            if let Event::TooOften { door, .. } = event {
                self.told.push(dropped(door, Cause::Rate, 1));
            }
            self.told.extend(event.debug_line().filter(|_| self.debug));
        }
        for event in events {
            if let Event::Opened { opening, .. } = event {
                let actions = self.openings.open(
                    &self.engine.doors()[opening.door],
                    opening.knocker,
                    &[None],
                    (None, Where::Here),
                    self.now,
                );
                self.take(actions);
            }
        }
    }

    /// Does what the doorkeeper does; each command must be logged before it is run.
    fn take(&mut self, actions: Vec<Action>) {
        let mut announced = None;
        for action in actions {
            match action {
                Action::Tell(event) => {
                    self.told.extend(event.line(None));
                    if let Event::Running { door, command } = event {
                        assert_eq!(announced.replace((door, command)), None, "announced and not run");
                    }
                }
                Action::Run(job) => {
                    assert_eq!(
                        announced.take(),
                        Some((job.door.clone(), job.command.clone())),
                        "not announced"
                    );
                    self.running.push(job);
                }
                Action::Kill(id) => {
                    let job = self.running.iter().find(|job| job.id == id).expect("a command that runs");
                    self.told.push(format!("kill {}", String::from_utf8_lossy(&job.command)));
                }
            }
        }
        assert_eq!(announced, None, "announced and not run");
    }
}
