//! Where lines go: standard output for `-v` and `-D`, the log file, syslog.
//!
//! Only the doorkeeper writes, so that there is one order: that in which things are told to it. Lines are appended
//! whole, in one write. A line that waits for a name (`-l`) keeps all later ones behind it.

pub mod journal;
pub mod log_file;
pub mod names;
pub mod outlet;
pub mod output;
pub mod syslog;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::config::{LogFormat, Options};
use crate::daemon::clock::{Zone, in_utc, now};
use crate::daemon::log::journal::Journal;
use crate::daemon::log::log_file::LogFile;
use crate::daemon::log::names::{Answer, Names, PATIENCE};
use crate::daemon::log::output::{complain, explain_piece, say, says};
use crate::daemon::log::syslog::Syslog;
use crate::daemon::poll::{poll_timeout, wait_for};
use crate::opening::entry::{LogEntry, Notice};
use crate::opening::event::Event;
use crate::protocol::confinement::{Confined, Confinement};
use crate::reason::reason;
use crate::time::Now;

/// How many lines wait at most; if there are more, the first waits no longer.
const MOST_WAITING: usize = 4096;

/// How soon a resolver that ended is replaced.
const RESOLVER_PAUSE: Duration = Duration::from_secs(1);

/// What is to be written, or done, in its turn.
#[derive(Debug)]
enum Entry {
    /// An event, with its knocker's name.
    Event(Event),
    /// For standard output alone.
    Said(Notice, String),
    /// For the log file and syslog; whether an empty line follows in the file.
    Line(Notice, String, bool),
    /// For syslog alone.
    ForSyslog(String),
    /// For the debug output alone; whether a line ends with it.
    Explained(String, bool),
}

/// The log.
#[derive(Debug)]
pub struct Log {
    file: Option<LogFile>,
    syslog: Syslog,
    journal: Journal,
    format: LogFormat,
    zone: Zone,
    names: Option<Names>,
    /// What the process that looks names up gives up; nothing if no names are wanted.
    confinement: Option<Confinement>,
    /// When to start a resolver in place of one that ended, as uptime.
    next_names: Option<Duration>,
    /// What waits for a name, and all that came after it.
    waiting: VecDeque<(Entry, Now)>,
    /// All lines wait for [`Log::release`].
    is_held: bool,
}

impl Log {
    /// A log that goes nowhere yet.
    #[must_use]
    pub fn new() -> Log {
        Log {
            file: None,
            syslog: Syslog::default(),
            journal: Journal::default(),
            format: LogFormat::Text,
            zone: Zone::local(),
            names: None,
            confinement: None,
            next_names: None,
            waiting: VecDeque::new(),
            is_held: false,
        }
    }

    /// Opens the log file, or opens it anew; without a path there is none. The other places are those of the options.
    ///
    /// # Errors
    /// Why the file cannot be opened; that is tried again with later lines.
    pub fn open(&mut self, path: Option<&Path>, options: &Options) -> io::Result<()> {
        // What is held belongs into the file of before; what waits for a name always went to the next one.
        if std::mem::take(&mut self.is_held) {
            self.advance(now());
        }
        self.zone = Zone::local();
        // Where the journal cannot be told something, syslog is.
        self.syslog.open(options.use_syslog || options.use_journal);
        self.journal.open(options.use_journal);
        self.format = options.log_format;
        self.file = None;
        let Some(path) = path else { return Ok(()) };
        let (file, result) = LogFile::open(path);
        self.file = Some(file);
        result
    }

    /// The log file's path, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(LogFile::path)
    }

    /// Shows knockers with their names from now on. The process that looks them up gives this up first.
    ///
    /// # Errors
    /// Why that cannot be started.
    pub fn look_up_names_as(&mut self, confinement: Confinement) -> io::Result<()> {
        self.confinement = Some(confinement);
        self.look_up_names()
    }

    fn look_up_names(&mut self) -> io::Result<()> {
        let confinement = self.confinement.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        self.names = Some(Names::start(confinement)?);
        self.next_names = None;
        Ok(())
    }

    /// Writes nothing until [`Log::release`], so that a door need not wait for the lines that tell of it. Complaints
    /// reach standard error meanwhile.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Writes what was held, in its order.
    pub fn release(&mut self, now: Now) {
        if std::mem::take(&mut self.is_held) {
            self.advance(now);
        }
    }

    /// What the process that looks names up gave up, waiting for it until this uptime; nothing if there is none.
    pub fn resolver(&mut self, deadline: Duration) -> Option<Confined> {
        self.names.as_mut()?.confined(deadline).cloned()
    }

    /// Writes what happened, now or, if a name is being looked up, soon.
    pub fn event(&mut self, event: Event, now: Now) {
        let is_read = event.is_a_complaint() || self.has_readers();
        if !is_read || event.is_silent() {
            return;
        }
        // Asked for at once, though its turn may come later: then the answer may be there.
        let _ = self.name_for(&event, now);
        self.add(Entry::Event(event), now);
    }

    /// Writes a line to the log file and to syslog.
    pub fn line(&mut self, text: &str) {
        self.note(Notice::Note, text);
    }

    /// The same, and what it is about.
    pub fn note(&mut self, notice: Notice, text: &str) {
        self.add(Entry::Line(notice, text.to_owned(), false), now());
    }

    /// The same, with an empty line after it in the file.
    pub fn note_and_blank(&mut self, notice: Notice, text: &str) {
        self.add(Entry::Line(notice, text.to_owned(), true), now());
    }

    /// Says something on standard error, and in its turn in the log.
    pub fn complain(&mut self, text: &str) {
        self.complain_of(Notice::Trouble, text);
    }

    /// The same, and what it is about.
    pub fn complain_of(&mut self, notice: Notice, text: &str) {
        complain(text);
        self.note(notice, text);
    }

    /// Writes lines to the log, and prints them if `-v` was given.
    pub fn tell(&mut self, notice: Notice, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            self.say_of(notice, &line);
            self.note(notice, &line);
        }
    }

    /// Prints something if `-v` was given, behind the lines that wait.
    pub fn say(&mut self, text: &str) {
        self.say_of(Notice::Note, text);
    }

    /// The same, and what it is about.
    pub fn say_of(&mut self, notice: Notice, text: &str) {
        self.add(Entry::Said(notice, text.to_owned()), now());
    }

    /// Writes a line to syslog alone.
    pub fn line_for_syslog(&mut self, text: &str) {
        self.add(Entry::ForSyslog(text.to_owned()), now());
    }

    /// Writes a piece of the debug output, behind the lines that wait; whether a line ends with it.
    pub fn explain(&mut self, text: String, is_end: bool, now: Now) {
        self.add(Entry::Explained(text, is_end), now);
    }

    /// Writes a line to the journal or to syslog, if one of them is wanted.
    fn write_to_system(&mut self, entry: &LogEntry, at: Now) {
        if self.journal.is_open() && self.journal.write(&entry.journal()).is_ok() || !self.syslog.is_open() {
            return;
        }
        if let Some(words) = self.syslog.write(&self.zone.for_syslog(at.unix), &entry.text) {
            complain(&words);
            self.write_to_file(&LogEntry::of_notice(Notice::Trouble, &words), false, now());
        }
    }

    /// Writes what waits for readers, as far as there is room.
    pub fn write_on(&mut self) {
        self.syslog.flush();
        self.journal.flush();
        if let Some(file) = &mut self.file {
            file.flush();
        }
    }

    /// Waits for readers until this uptime at most.
    pub fn drain(&mut self, deadline: Duration) {
        loop {
            self.write_on();
            let mut descriptors: Vec<PollFd<'_>> =
                self.waits_for().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)).collect();
            if descriptors.is_empty() || now().uptime >= deadline {
                return;
            }
            wait_for(&mut descriptors, poll_timeout(Some(deadline), now()));
        }
    }

    /// Ready for writing when there is room for what waits for readers; none, nearly always.
    pub fn waits_for(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.file
            .as_ref()
            .and_then(LogFile::waits_for)
            .into_iter()
            .chain(self.syslog.waits_for())
            .chain(self.journal.waits_for())
    }

    /// Readable when a name was found.
    #[must_use]
    pub fn names(&self) -> Option<BorrowedFd<'_>> {
        self.names.as_ref()?.descriptor()
    }

    /// When to call [`Log::settle`] at the latest, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.front().map(|(_, since)| since.uptime + PATIENCE)
    }

    /// Writes the lines that wait no longer: their names came, or they waited enough.
    pub fn settle(&mut self, now: Now) {
        if let Some(names) = &mut self.names {
            names.take(now);
            if names.are_gone() {
                self.names = None;
                self.next_names = Some(now.uptime.saturating_add(RESOLVER_PAUSE));
                self.complain("the resolver ended unexpectedly: another is started when it is needed");
            }
        }
        self.advance(now);
    }

    /// Writes all lines that wait, with or without a name.
    pub fn flush(&mut self) {
        let now = now();
        while let Some((entry, since)) = self.waiting.pop_front() {
            let _ = self.write_entry(entry, since, now, false);
        }
        self.write_out(now);
    }

    fn add(&mut self, entry: Entry, now: Now) {
        self.waiting.push_back((entry, now));
        if self.waiting.len() > MOST_WAITING
            && let Some((entry, since)) = self.waiting.pop_front()
        {
            let _ = self.write_entry(entry, since, now, false);
            self.advance(now);
        } else if self.waiting.len() == 1 {
            self.advance(now);
        }
    }

    /// Writes what waits, up to the first that still has to.
    fn advance(&mut self, now: Now) {
        while !self.is_held
            && let Some((entry, since)) = self.waiting.pop_front()
        {
            let may_wait = since.uptime + PATIENCE > now.uptime;
            if let Some(entry) = self.write_entry(entry, since, now, may_wait) {
                self.waiting.push_front((entry, since));
                break;
            }
        }
        self.write_out(now);
    }

    /// Appends the lines that were made for the log file.
    fn write_out(&mut self, now: Now) {
        if let Some(file) = &mut self.file {
            file.write_out(now);
        }
    }

    /// Does what the entry says, or gives it back if it is to wait.
    fn write_entry(&mut self, entry: Entry, since: Now, now: Now, may_wait: bool) -> Option<Entry> {
        match entry {
            Entry::Event(event) => match self.name_for(&event, now) {
                Answer::Asked if may_wait => return Some(Entry::Event(event)),
                Answer::Asked => self.write_event(&event, None, since),
                Answer::Known(name) => self.write_event(&event, name.as_deref(), since),
            },
            Entry::Said(notice, text) => say(&self.shown(&LogEntry::of_notice(notice, &text), since)),
            Entry::Line(notice, text, blank) => self.write(&LogEntry::of_notice(notice, &text), blank, since),
            Entry::ForSyslog(text) => {
                self.write_to_system(&LogEntry::of_notice(Notice::Reload, &text), since);
            }
            Entry::Explained(text, is_end) => explain_piece(&text, is_end),
        }
        None
    }

    /// Whether anybody reads what is told of attempts.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.file.is_some() || self.syslog.is_open() || says()
    }

    /// The name that the line of an event would like to show.
    fn name_for(&mut self, event: &Event, now: Now) -> Answer {
        let Some(knocker) = event.knocker() else { return Answer::Known(None) };
        if self.next_names.is_some_and(|at| at <= now.uptime) && self.look_up_names().is_err() {
            self.next_names = Some(now.uptime.saturating_add(RESOLVER_PAUSE));
        }
        self.names.as_mut().map_or(Answer::Known(None), |names| names.ask(knocker, now))
    }

    fn write_event(&mut self, event: &Event, host: Option<&str>, since: Now) {
        let Some(entry) = LogEntry::of(event, host) else { return };
        if event.is_a_complaint() {
            complain(&entry.text);
        } else if says() {
            say(&self.shown(&entry, since));
        }
        self.write(&entry, event.is_followed_by_a_blank(), since);
    }

    /// The entry as `-v` shows it.
    fn shown(&self, entry: &LogEntry, at: Now) -> String {
        match self.format {
            LogFormat::Text => entry.text.clone(),
            LogFormat::Json => entry.json(&in_utc(at.unix)),
        }
    }

    fn write(&mut self, entry: &LogEntry, blank: bool, at: Now) {
        self.write_to_file(entry, blank, at);
        self.write_to_system(entry, at);
    }

    fn write_to_file(&mut self, entry: &LogEntry, blank: bool, at: Now) {
        let Some(file) = &mut self.file else { return };
        match self.format {
            LogFormat::Text => {
                let (stamp, end) = (self.zone.to_the_minute(at.unix), if blank { "\n\n" } else { "\n" });
                let line = format!("[{stamp}] {}{end}", entry.text);
                file.add(&line, |text| format!("[{stamp}] {text}"), at);
            }
            LogFormat::Json => {
                let time = in_utc(at.unix);
                let line = format!("{}\n", entry.json(&time));
                file.add(&line, |text| LogEntry::of_notice(Notice::LeftOut, text).json(&time), at);
            }
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

/// The words for a log file that cannot be opened.
#[must_use]
pub fn cannot_open(error: &io::Error) -> String {
    format!("warning: cannot open logfile: {}", reason(error))
}
