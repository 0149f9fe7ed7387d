//! Plays packets one after another, and shows their effects.

mod single_packets;
mod summary;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::door::Door;
use crate::door::knock::Knock;
use crate::door::lock::{Lock, OneTime};
use crate::door::ports::{Ports, listed};
use crate::door::spa::may_be_single_packet;
use crate::door::spa::replay::Used;
use crate::door::spa::sealed::UncheckedPacket;
use crate::engine::Engine;
use crate::opening::admit::Where;
use crate::opening::event::Event;
use crate::opening::log_limit::{Cause, dropped};
use crate::opening::rate::Buckets;
use crate::opening::{Action, Ending, Job, Openings};
use crate::simulation::explanation::{StateBefore, explain};
use crate::simulation::steps::{ClockChange, Step, TimedStep};
use crate::sorted;
use crate::time::Now;

/// The Unix time at second 0, if the lines do not set the clock.
const UNIX_AT_START: Duration = Duration::from_secs(1_700_000_000);
/// How many destination addresses may be taken for this host's own.
const MAX_ADDRESSES: usize = 1024;

/// The settings of a simulation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulatorOptions {
    /// Explain for each packet why it opens nothing.
    pub explains: bool,
    /// This host's addresses; if empty, every destination counts as this host.
    pub here: Vec<IpAddr>,
    /// Ignore IPv6.
    pub only_v4: bool,
}

/// A simulation.
pub struct Simulator {
    engine: Engine,
    openings: Openings,
    options: SimulatorOptions,
    /// Every destination counts as this host.
    adopts_destinations: bool,
    /// The destinations that count as this host so far.
    adopted: Vec<IpAddr>,
    now: Now,
    start: Duration,
    /// The running commands; empty unless lines tell how each of them ends.
    running: Vec<Job>,
    commands_end_at_once: bool,
    used: Used,
    cooldowns: Vec<(Arc<str>, IpAddr, Duration)>,
    /// How much of their rate doors with single packets have used.
    buckets: Buckets,
    /// The furthest stage reached at each door.
    furthest: Vec<usize>,
    packets: u64,
    packets_of_interest: u64,
    doors_opened: u64,
    lines: Vec<String>,
}

/// Why a line cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// Its time is before that of the previous line.
    TimeGoesBack,
    /// No such command is running.
    NoSuchCommand,
    /// No door has this name.
    NoSuchDoor,
    /// It asserts something that is false.
    AssertionFailed,
}

impl Simulator {
    /// A simulation before its first packet.
    #[must_use]
    pub fn new(config: Config, options: SimulatorOptions) -> Simulator {
        let capacity = config.options.max_attempts();
        let now = Now { uptime: Duration::ZERO, unix: UNIX_AT_START };
        let mut openings = Openings::new(1);
        let _ = openings.adopt(&config.doors, config.options.max_commands(), now);
        let doors = config.doors;
        Simulator {
            furthest: vec![0; doors.len()],
            engine: Engine::with_capacity(doors, options.here.iter().copied(), capacity),
            openings,
            adopts_destinations: options.here.is_empty(),
            options,
            adopted: Vec::new(),
            now,
            start: Duration::ZERO,
            running: Vec::new(),
            commands_end_at_once: true,
            used: Used::default(),
            cooldowns: Vec::new(),
            buckets: Buckets::default(),
            packets: 0,
            packets_of_interest: 0,
            doors_opened: 0,
            lines: Vec::new(),
        }
    }

    /// Returns the output since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Whether any door opened.
    #[must_use]
    pub fn has_opened(&self) -> bool {
        self.doors_opened > 0
    }

    /// Lets commands run until a line tells how they end, instead of ending at once with exit code 0.
    pub fn expect_command_ends(&mut self) {
        self.commands_end_at_once = false;
    }

    /// Plays a packet of a capture that arrived at this Unix time; `ip` is `None` if it is not an IP packet.
    pub fn play_packet(&mut self, unix: Duration, ip: Option<&[u8]>) {
        if self.packets == 0 {
            (self.now, self.start) = (Now { uptime: unix, unix }, unix);
        }
        // Captures from several CPUs are not always in order.
        self.advance_to(unix.max(self.now.uptime));
        self.packets += 1;
        match ip.and_then(crate::packet::parse) {
            Some(knock) => {
                self.observe(&knock, ip.and_then(crate::packet::payload));
            }
            None => self
                .explain(|| "no knock: no whole TCP segment, datagram or echo request for this host".into()),
        }
    }

    /// Plays a line.
    ///
    /// # Errors
    /// See [`StepError`].
    pub fn play_step(&mut self, step: Step<'_>) -> Result<(), StepError> {
        match step {
            Step::Addresses(here) => {
                self.engine.relocate(here);
                self.adopts_destinations = false;
            }
            Step::Clock(ClockChange::Forward(time)) => self.now.unix = self.now.unix.saturating_add(time),
            Step::Clock(ClockChange::Back(time)) => self.now.unix = self.now.unix.saturating_sub(time),
            Step::Clock(ClockChange::Set(time)) => self.now.unix = time,
            Step::Debug => self.options.explains = true,
            Step::At(time, step) => {
                if time < self.now.uptime {
                    return Err(StepError::TimeGoesBack);
                }
                self.advance_to(time);
                self.play_timed_step(step)?;
            }
        }
        Ok(())
    }

    fn play_timed_step(&mut self, step: TimedStep<'_>) -> Result<(), StepError> {
        match step {
            TimedStep::Packet(knock) => {
                self.packets += 1;
                self.observe(&knock, None);
            }
            TimedStep::Ended(ending, command) => {
                let at = self.running.iter().position(|job| job.command == command.as_bytes());
                let job = self.running.remove(at.ok_or(StepError::NoSuchCommand)?);
                let actions = self.openings.ended(job.id, ending, self.now);
                self.perform(actions);
            }
            TimedStep::Finish { grace, start_timeout } => {
                for (door, count) in self.openings.finish(grace, start_timeout, self.now) {
                    self.add_line(&dropped(&door, Cause::End, count));
                }
                self.handle_deadlines();
            }
            TimedStep::Struck(name, left) => {
                let door = self.engine.doors().iter().position(|door| &*door.name == name);
                let door = door.ok_or(StepError::NoSuchDoor)?;
                let lines = left.map(|text| OneTime::read(PathBuf::from("/"), text.as_bytes(), |_| {}));
                if self.engine.refill(door, lines) {
                    self.report_exhausted(door);
                }
            }
            TimedStep::Closed(is_closed) if self.openings.are_closed() != is_closed => {
                return Err(StepError::AssertionFailed);
            }
            TimedStep::Wait | TimedStep::Closed(_) => {}
        }
        Ok(())
    }

    /// Lets all deadlines pass, and adds a summary.
    pub fn finish(&mut self) {
        while let Some(due) = self.next_deadline() {
            self.advance_to(due.max(self.now.uptime));
        }
        self.lines.extend(self.summary());
    }

    fn next_deadline(&self) -> Option<Duration> {
        let deadlines = self.engine.next_deadline().into_iter().chain(self.engine.next_look());
        deadlines.chain(self.openings.next_deadline()).min()
    }

    /// Advances the time, and acts on each deadline on the way.
    fn advance_to(&mut self, uptime: Duration) {
        while let Some(due) = self.next_deadline().filter(|due| *due <= uptime) {
            self.set_time(due);
            self.handle_deadlines();
        }
        self.set_time(uptime);
    }

    fn set_time(&mut self, uptime: Duration) {
        let passed = uptime.saturating_sub(self.now.uptime);
        self.now = Now {
            uptime: self.now.uptime.saturating_add(passed),
            unix: self.now.unix.saturating_add(passed),
        };
    }

    fn handle_deadlines(&mut self) {
        let mut events = Vec::new();
        self.engine.expire(self.now, &mut events);
        self.handle_events(events);
        let actions = self.openings.due(self.now);
        self.perform(actions);
    }

    fn observe(&mut self, knock: &Knock, payload: Option<&[u8]>) {
        if self.options.only_v4 && knock.source.is_ipv6() {
            return self.explain(|| "not of interest: IPv6, and -4 is given".into());
        }
        let is_elsewhere = !self.engine.is_here(knock.destination);
        if self.adopts_destinations
            && is_elsewhere
            && self.adopted.len() < MAX_ADDRESSES
            && (self.engine.may_affect_attempts_if_here(knock) || payload.is_some_and(may_be_single_packet))
            && sorted::insert(&mut self.adopted, knock.destination)
        {
            self.engine.relocate(self.adopted.iter().copied());
        }
        let before = self.options.explains.then(|| StateBefore::of(&self.engine, knock));
        self.packets_of_interest += u64::from(self.engine.may_be_stage(knock));
        let mut events = Vec::new();
        self.engine.observe(knock, self.now, &mut events);
        if let Some(before) = before {
            for text in explain(&before, &self.engine, knock, &events) {
                self.explain(|| text);
            }
        }
        self.handle_events(events);
        if let Some(packet) = payload.and_then(UncheckedPacket::of) {
            self.single_packet(knock, &packet);
        }
    }

    /// Reports the events, and opens doors accordingly.
    fn handle_events(&mut self, events: Vec<Event>) {
        let mut events = events;
        events.retain(|event| {
            let Event::Opened { door: name, opening } = event else { return true };
            let door = self.engine.doors().get(opening.door);
            let has_room =
                door.is_none_or(|door| self.openings.have_room_for(door, opening.knocker, &[None]));
            if !has_room {
                self.add_line(&dropped(name, Cause::Queue, 1));
            }
            has_room
        });
        for event in &events {
            if let Event::TooOften { door, .. } = event {
                self.add_line(&dropped(door, Cause::Rate, 1));
            }
            if let Event::Advanced { door, stage, .. } = event {
                let position = self.engine.doors().iter().position(|it| Arc::ptr_eq(&it.name, door));
                if let Some(furthest) = position.and_then(|position| self.furthest.get_mut(position)) {
                    *furthest = (*furthest).max(*stage);
                }
            }
            self.add_event(event);
        }
        for event in events {
            if let Event::TooOften { opening, .. } = event {
                self.report_if_exhausted(opening.door);
            }
            let Event::Opened { opening, .. } = event else { continue };
            self.doors_opened += 1;
            let Some(door) = self.engine.doors().get(opening.door).cloned() else { continue };
            self.open_in_kernel(&door, opening.knocker, &[], None);
            let actions = self.openings.open(&door, opening.knocker, &[None], (None, Where::Here), self.now);
            self.perform(actions);
            self.report_if_exhausted(opening.door);
        }
    }

    /// Reports an exhausted one-time file after the door's last line was used.
    fn report_if_exhausted(&mut self, door: usize) {
        let lock = self.engine.doors().get(door).map(|door| &door.lock);
        let is_used_up =
            lock.is_some_and(|lock| matches!(lock, Lock::OneTime(_)) && lock.current_sequence().is_none());
        if self.commands_end_at_once && is_used_up {
            self.report_exhausted(door);
        }
    }

    fn report_exhausted(&mut self, door: usize) {
        if let Some(door) = self.engine.doors().get(door) {
            let event = Event::Exhausted { door: door.name.clone() };
            self.add_event(&event);
        }
    }

    fn open_in_kernel(&mut self, door: &Door, knocker: IpAddr, requested: &[Ports], seconds: Option<u32>) {
        let Some(open) = &door.open else { return };
        let ports = if open.ports().is_empty() { requested } else { open.ports() };
        let time = if open.is_for_ever {
            "until closed by hand".to_owned()
        } else {
            format!("for {} s", seconds.unwrap_or_else(|| door.cmd_timeout_seconds()))
        };
        let (network, name) = (door.rules.open.network(knocker), &door.name);
        self.add_line(&format!("{name}: would open {} for {network} {time}", listed(ports)));
    }

    /// Carries out the actions as the doorkeeper does, but without running commands.
    fn perform(&mut self, actions: Vec<Action>) {
        let mut actions = std::collections::VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Tell(Event::Running { door, command }) => {
                    self.add_line(&format!("{door}: would run command: {}", crate::octets::text(&command)));
                }
                Action::Tell(event) => self.add_event(&event),
                Action::Run(job) if self.commands_end_at_once => {
                    self.openings.started(job.id, None);
                    actions.extend(self.openings.ended(job.id, Ending::Exited(0), self.now));
                }
                Action::Run(job) => self.running.push(job),
                Action::Kill(id) => {
                    let job = self.running.iter().find(|job| job.id == id);
                    let command = job.map(|job| crate::octets::text(&job.command).into_owned());
                    self.add_line(&format!("kill {}", command.unwrap_or_default()));
                }
            }
        }
    }

    fn add_event(&mut self, event: &Event) {
        if let Some(line) = event.line(None) {
            self.add_line(&line);
        }
    }

    fn explain(&mut self, text: impl FnOnce() -> String) {
        if self.options.explains {
            self.add_line(&format!("- {}", text()));
        }
    }

    fn add_line(&mut self, text: &str) {
        let time = self.now.uptime.saturating_sub(self.start);
        self.lines.push(format!("{:>6}.{:03}  {text}", time.as_secs(), time.subsec_millis()));
    }
}
