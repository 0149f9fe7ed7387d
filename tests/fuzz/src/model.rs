//! A model of the engine: a second, simple implementation of HOW KNOCKS ARE MATCHED and the directives in
//! knockd(1). It searches plain lists instead of using the engine's data structures; only the arithmetic of
//! one-time passwords is shared.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use knocking::door::knock::{Flags, Knock, PacketRule, Protocol};
use knocking::door::otp::{MAX_PORT_OFFSET, Otp};
use knocking::door::sequence::Stage;
use knocking::door::tries::{DEFAULT_TRIES, source};
use knocking::opening::event::Event;
use knocking::time::Now;

use crate::town::{Plain, PlainLock};

/// The part of an event that is compared; a door is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reported {
    /// A stage was reached.
    Advanced(usize, IpAddr, usize),
    /// A wrong knock, and whether it is logged.
    Failed(usize, IpAddr, usize, bool),
    /// The attempt expired.
    Expired(usize, IpAddr, usize),
    /// The sequence was completed, but not often enough.
    Repeated(usize, IpAddr, usize),
    /// The door opened.
    Opened(usize, IpAddr, Option<u64>),
    /// The door opened too often of late.
    TooOften(usize),
}

impl Reported {
    /// The event, unless only the debug output shows it.
    pub fn of(event: &Event) -> Option<Reported> {
        let number = |door: &str| door.parse().expect("doors are called by their numbers");
        Some(match event {
            Event::Advanced { door, knocker, stage } => Reported::Advanced(number(door), *knocker, *stage),
            Event::Failed { door, knocker, stage, is_logged } => {
                Reported::Failed(number(door), *knocker, *stage, *is_logged)
            }
            Event::Expired { door, knocker, stage } => Reported::Expired(number(door), *knocker, *stage),
            Event::Repeated { door, knocker, count } => Reported::Repeated(number(door), *knocker, count.0),
            Event::Opened { door, opening } => {
                assert_eq!(number(door), opening.door, "the door of an opening");
                Reported::Opened(opening.door, opening.knocker, Some(opening.turn.0))
            }
            Event::TooOften { door, .. } => Reported::TooOften(number(door)),
            Event::Unfit { .. } | Event::Misfit { .. } | Event::Tried { .. } => return None,
            other => panic!("the engine does not tell {other:?}"),
        })
    }
}

/// A list of stages that opens a door, and its period.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List {
    stages: Vec<Stage>,
    period: Option<u64>,
}

/// An attempt at one door; the engine counts those that one knock began as one.
#[derive(Clone, Debug)]
struct Attempt {
    /// The number of the knock that began it.
    knock: u64,
    door: usize,
    knocker: IpAddr,
    reached: usize,
    deadline: Duration,
    list: List,
}

/// For doors with `Repeat`: when a knocker completed the sequence.
type Completions = HashMap<(usize, IpAddr), Vec<Duration>>;

/// The state of the model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The doors.
    pub doors: Vec<Plain>,
    /// This host's addresses.
    pub here: Vec<IpAddr>,
    attempts: Vec<Attempt>,
    /// How many knocks there were.
    knocks: u64,
    spent: HashSet<(usize, u64, Option<IpAddr>)>,
    /// How many attempts of a source ended between the halves of a list: door, period and source.
    tries: HashMap<(usize, u64, IpAddr), u8>,
    cooldowns: HashMap<(usize, IpAddr), Duration>,
    completions: Completions,
    /// For doors of one knock: when as many openings as ever are allowed at once again.
    rests: HashMap<usize, Duration>,
}

fn otp(text: &str) -> Otp {
    Otp::parse(text.as_bytes()).ok().flatten().expect("a password in order")
}

fn is_in(prefixes: &[&str], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.parse::<IpNet>().expect("a prefix").contains(&address))
}

impl Plain {
    fn rule(&self) -> PacketRule {
        let is_plain = self.flags.clear == Flags::NONE && matches!(self.flags.set, Flags::NONE | Flags::SYN);
        let mut flags = self.flags;
        if self.is_strict && is_plain {
            flags.require(Flags::SYN);
            flags.forbid(Flags::ACK);
        }
        PacketRule { flags, udp_length: self.udp_length, is_single_packet: false }
    }

    fn admits(&self, knocker: IpAddr) -> bool {
        !is_in(&self.deny, knocker) && (self.allow.is_empty() || is_in(&self.allow, knocker))
    }

    /// The sequence that opens the door now; `None` for a one-time password.
    fn line(&self) -> Option<&Vec<Stage>> {
        match &self.lock {
            PlainLock::Fixed(stages) => Some(stages),
            PlainLock::OneTime(lines) => lines.first(),
            PlainLock::Otp(..) => None,
        }
    }

    /// Whether the stage is, or can be, on a list of the door.
    fn lists(&self, stage: Stage) -> bool {
        match &self.lock {
            PlainLock::Otp(text, ..) => {
                let mut fields = text.split(',').skip(2);
                let base: u16 = fields.next().and_then(|field| field.parse().ok()).expect("a base");
                let has_protocol = fields.any(|field| Protocol::with_ports(field) == Some(stage.protocol));
                has_protocol && stage.port.wrapping_sub(base) <= MAX_PORT_OFFSET
            }
            _ => self.line().is_some_and(|line| line.contains(&stage)),
        }
    }

    /// Whether some sequence of the door has an echo request.
    fn has_echo(&self) -> bool {
        let has_echo = |stages: &Vec<Stage>| stages.iter().any(|stage| stage.protocol == Protocol::Icmp);
        match &self.lock {
            PlainLock::Fixed(stages) => has_echo(stages),
            PlainLock::OneTime(lines) => lines.iter().any(has_echo),
            PlainLock::Otp(..) => false,
        }
    }

    /// Whether a packet that does not advance an attempt fails it, by the strict rule.
    fn is_hit(&self, knock: &Knock) -> bool {
        let begins = match knock.flags {
            Some(flags) => {
                flags.contains(Flags::SYN) && !flags.contains(Flags::ACK) || self.rule().allows(knock)
            }
            None => match knock.protocol {
                Protocol::Tcp => false,
                Protocol::Udp => true,
                Protocol::Icmp => self.has_echo(),
            },
        };
        self.is_strict && begins && !self.except.contains(&Stage::of(knock))
    }
}

impl Model {
    /// A model without attempts.
    pub fn new(doors: Vec<Plain>, here: Vec<IpAddr>) -> Model {
        Model {
            doors,
            here,
            attempts: Vec::new(),
            knocks: 0,
            spent: HashSet::new(),
            tries: HashMap::new(),
            cooldowns: HashMap::new(),
            completions: HashMap::new(),
            rests: HashMap::new(),
        }
    }

    /// How many attempts are in progress.
    pub fn attempts(&self) -> usize {
        self.attempts.iter().map(|attempt| attempt.knock).collect::<HashSet<u64>>().len()
    }

    /// When the next attempt expires.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.attempts.iter().map(|attempt| attempt.deadline).min()
    }

    /// Reloads the configuration.
    pub fn reload(&mut self) {
        self.attempts.clear();
        self.completions.clear();
        self.rests.clear();
    }

    /// Sets the lines that a one-time file has left.
    pub fn refill(&mut self, door: usize, lines: Vec<Vec<Stage>>) {
        if let Some(PlainLock::OneTime(here)) = self.doors.get_mut(door).map(|door| &mut door.lock) {
            *here = lines;
        }
    }

    /// The list of a door for this knocker, with one-time passwords that of `offset` periods from now.
    pub fn list(&self, door: usize, knocker: IpAddr, offset: i8, now: Now) -> Vec<Stage> {
        match &self.doors[door].lock {
            PlainLock::Otp(text, ..) => {
                let otp = otp(text);
                otp.list(otp.period(now.unix).saturating_add_signed(offset.into()), knocker)
            }
            _ => self.doors[door].line().cloned().unwrap_or_default(),
        }
    }

    /// The lists that open a door for a knocker who begins now.
    fn lists(&self, door: usize, knocker: IpAddr, now: Now) -> Vec<List> {
        let PlainLock::Otp(text, window, _) = &self.doors[door].lock else {
            let line = self.doors[door].line().into_iter();
            return line.map(|line| List { stages: line.clone(), period: None }).collect();
        };
        let (otp, window) = (otp(text), u64::from(*window));
        let period = otp.period(now.unix);
        (period.saturating_sub(window)..=period.saturating_add(window))
            .map(|period| List { stages: otp.list(period, knocker), period: Some(period) })
            .filter(|list| self.is_good(door, knocker, list))
            .collect()
    }

    fn owner(&self, door: usize, knocker: IpAddr) -> Option<IpAddr> {
        let PlainLock::Otp(text, ..) = &self.doors[door].lock else { return None };
        otp(text).is_protected().then_some(knocker)
    }

    fn is_good(&self, door: usize, knocker: IpAddr, list: &List) -> bool {
        match (&self.doors[door].lock, list.period) {
            (PlainLock::Otp(_, _, is_reusable), Some(period)) => {
                let tries = self.tries.get(&(door, period, source(knocker))).copied().unwrap_or(0);
                tries < DEFAULT_TRIES
                    && (*is_reusable || !self.spent.contains(&(door, period, self.owner(door, knocker))))
            }
            _ => self.doors[door].line() == Some(&list.stages),
        }
    }

    /// An attempt ended without opening its door.
    fn note_end(&mut self, attempt: &Attempt) {
        let Attempt { door, knocker, reached, ref list, .. } = *attempt;
        let Some(period) = list.period.filter(|_| self.owner(door, knocker).is_some()) else { return };
        if reached >= list.stages.len() / 2 && self.is_good(door, knocker, list) {
            *self.tries.entry((door, period, source(knocker))).or_default() += 1;
        }
    }

    fn accepts_destination(&self, door: &Plain, knock: &Knock) -> bool {
        match door.target {
            Some(target) => target == knock.destination,
            None => self.here.contains(&knock.destination),
        }
    }

    /// Ends the attempts whose deadline has come.
    pub fn expire(&mut self, now: Now) -> Vec<Reported> {
        let (mut over, left) = std::mem::take(&mut self.attempts)
            .into_iter()
            .partition(|it: &Attempt| it.deadline <= now.uptime);
        self.attempts = left;
        // The sort is stable: of attempts with the same deadline, those that began first expire first.
        over.sort_by_key(|attempt| attempt.deadline);
        for attempt in &over {
            self.note_end(attempt);
        }
        let mut told: Vec<Reported> =
            over.iter().map(|it| Reported::Expired(it.door, it.knocker, it.reached)).collect();
        told.dedup();
        told
    }

    /// Processes a packet.
    pub fn observe(&mut self, knock: &Knock, now: Now) -> Vec<Reported> {
        let stage = Stage::of(knock);
        let accepted: Vec<bool> =
            self.doors.iter().map(|door| self.accepts_destination(door, knock)).collect();
        let accepts = |door: usize| accepted[door];
        let doors = || self.doors.iter().enumerate().filter(|(index, _)| accepts(*index));
        let may_be_stage = doors().any(|(_, door)| door.lists(stage) && door.rule().allows(knock));
        if !may_be_stage && !doors().any(|(_, door)| door.is_hit(knock)) {
            return Vec::new();
        }
        let mut told = self.expire(now);
        let mut has_attempt = false;
        let mut failed: HashMap<usize, Reported> = HashMap::new();
        let (mut advanced, mut opened) = (HashSet::new(), HashSet::new());
        let (mut left, mut ended) = (Vec::new(), Vec::new());
        for mut attempt in std::mem::take(&mut self.attempts) {
            let (index, knocker) = (attempt.door, attempt.knocker);
            if knocker != knock.source || !accepts(index) {
                left.push(attempt);
                continue;
            }
            has_attempt = true;
            if opened.contains(&index) {
                continue;
            }
            let door = &self.doors[index];
            let is_good = self.is_good(index, knocker, &attempt.list);
            let is_stage = |at: usize| is_good && attempt.list.stages.get(at) == Some(&stage);
            let counts = may_be_stage && door.rule().allows(knock);
            if counts && is_stage(attempt.reached) {
                attempt.reached += 1;
                if advanced.insert(index) {
                    told.push(Reported::Advanced(index, knocker, attempt.reached));
                }
                if attempt.reached == attempt.list.stages.len() {
                    opened.insert(index);
                    told.push(self.open(index, knocker, &attempt.list, now));
                } else {
                    left.push(attempt);
                }
            } else if door.allows_duplicates && is_stage(attempt.reached - 1) {
                left.push(attempt);
            } else if counts || door.is_hit(knock) {
                failed.insert(index, Reported::Failed(index, knocker, attempt.reached, door.logs_failures));
                ended.push(attempt);
            } else {
                left.push(attempt);
            }
        }
        self.attempts = left;
        for attempt in &ended {
            self.note_end(attempt);
        }
        told.extend(failed.into_iter().filter(|(door, _)| !advanced.contains(door)).map(|(_, told)| told));
        if may_be_stage && !has_attempt {
            self.knocks += 1;
            for index in (0..self.doors.len()).filter(|&index| accepts(index)) {
                self.begin(index, knock, now, &mut told);
            }
        }
        told
    }

    fn begin(&mut self, index: usize, knock: &Knock, now: Now, told: &mut Vec<Reported>) {
        let (door, knocker) = (&self.doors[index], knock.source);
        let cools = self.cooldowns.get(&(index, knocker)).is_some_and(|until| *until > now.uptime);
        if !door.rule().allows(knock) || !door.admits(knocker) || cools {
            return;
        }
        let timeout = Duration::from_secs(u64::try_from(door.seq_timeout).unwrap_or(0));
        let mut is_told = false;
        for list in self.lists(index, knocker, now) {
            if list.stages.first() != Some(&Stage::of(knock)) {
                continue;
            }
            if !std::mem::replace(&mut is_told, true) {
                told.push(Reported::Advanced(index, knocker, 1));
            }
            if list.stages.len() == 1 {
                told.push(self.open(index, knocker, &list, now));
                return;
            }
            let deadline = now.uptime + timeout;
            let knock = self.knocks;
            self.attempts.push(Attempt { knock, door: index, knocker, reached: 1, deadline, list });
        }
    }

    fn open(&mut self, index: usize, knocker: IpAddr, list: &List, now: Now) -> Reported {
        let key = (index, knocker);
        if let Some((times, seconds)) = self.doors[index].repeat {
            let within = Duration::from_secs(seconds.into());
            let completions = self.completions.entry(key).or_default();
            completions.retain(|time| *time + within > now.uptime);
            completions.push(now.uptime);
            let count = completions.len();
            if count < usize::from(times) {
                return Reported::Repeated(index, knocker, count);
            }
            self.completions.remove(&key);
        }
        // Used up whatever the rate allows.
        let owner = self.owner(index, knocker);
        match &mut self.doors[index].lock {
            PlainLock::Fixed(_) => {}
            PlainLock::OneTime(lines) => drop(lines.remove(0)),
            PlainLock::Otp(..) => drop(self.spent.insert((index, list.period.unwrap_or(0), owner))),
        }
        if list.stages.len() == 1 {
            // Ten at once, and one more after each tenth of a second.
            let rest = self.rests.entry(index).or_default();
            let after = now.uptime.max(*rest) + Duration::from_millis(100);
            if after > now.uptime + Duration::from_secs(1) {
                return Reported::TooOften(index);
            }
            *rest = after;
        }
        let cooldown = Duration::from_secs(self.doors[index].cooldown.into());
        self.cooldowns.insert(key, now.uptime + cooldown);
        Reported::Opened(index, knocker, list.period)
    }
}
