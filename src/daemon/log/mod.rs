//! The log: standard output for `-v` and `-D`, the log file, syslog and the journal.
//!
//! Only the doorkeeper writes, so lines have one order: that in which they are added. Each is appended whole,
//! in one write. A line that waits for a name (`-l`) holds up all later ones.

pub mod journal;
pub mod log_file;
pub mod names;
pub mod outlet;
pub mod output;
pub mod syslog;
mod writing;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::config::{LogFormat, Options};
use crate::daemon::clock::{Zone, now};
use crate::daemon::log::journal::Journal;
use crate::daemon::log::log_file::LogFile;
use crate::daemon::log::names::{Answer, LOOKUP_TIMEOUT, Names};
use crate::daemon::log::output::{complain, explain_piece, say, says};
use crate::daemon::log::syslog::Syslog;
use crate::daemon::poll::{poll_timeout, wait_for};
use crate::opening::entry::{LogEntry, Notice};
use crate::opening::event::Event;
use crate::protocol::confinement::{Confined, Confinement};
use crate::reason::reason;
use crate::time::Now;

/// The most lines that wait for names; beyond it the first is written without its name.
const MOST_WAITING: usize = 4096;

/// Delay before a resolver that ended is replaced.
const RESOLVER_PAUSE: Duration = Duration::from_secs(1);

/// An entry of the queue of lines.
#[derive(Debug)]
enum Entry {
    /// An event, to be shown with its knocker's name.
    Event(Event),
    /// For standard output alone.
    Said(Notice, String),
    /// For the log file and syslog; `true` if an empty line follows in the file.
    Line(Notice, String, bool),
    /// For syslog alone.
    ForSyslog(String),
    /// For the debug output alone; `true` if the line ends with it.
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
    /// The confinement of the resolver process; `None` if no names are wanted.
    confinement: Option<Confinement>,
    /// When to start a resolver in place of one that ended, as uptime.
    next_names: Option<Duration>,
    /// Entries that wait for a name, and all later ones.
    waiting: VecDeque<(Entry, Now)>,
    /// All lines wait for [`Log::release`].
    is_held: bool,
}

impl Log {
    /// A log without any destination.
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

    /// Opens or reopens the log file; without a path there is none. Syslog, journal and format are set from
    /// the options.
    ///
    /// # Errors
    /// The file cannot be opened; later lines try again.
    pub fn open(&mut self, path: Option<&Path>, options: &Options) -> io::Result<()> {
        // Held lines belong in the old file. Lines that wait for a name go to the new one.
        if std::mem::take(&mut self.is_held) {
            self.advance(now());
        }
        self.zone = Zone::local();
        // Syslog gets the lines that the journal does not take.
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

    /// Shows knockers by name from now on, looked up by a process with this confinement.
    ///
    /// # Errors
    /// The resolver process cannot be started.
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

    /// Holds all lines until [`Log::release`], so that opening a door does not wait for writing the lines
    /// about it. Complaints still reach standard error at once.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Writes the held lines, in order.
    pub fn release(&mut self, now: Now) {
        if std::mem::take(&mut self.is_held) {
            self.advance(now);
        }
    }

    /// The confinement that the resolver reports, waiting for the report until this uptime; `None` without a
    /// resolver.
    pub fn resolver(&mut self, deadline: Duration) -> Option<Confined> {
        self.names.as_mut()?.confined(deadline).cloned()
    }

    /// Writes an event: at once, or when its knocker's name has been looked up.
    pub fn event(&mut self, event: Event, now: Now) {
        let is_read = event.is_a_complaint() || self.has_readers();
        if !is_read || event.is_silent() {
            return;
        }
        // Request the name now: the answer may be there when the entry's turn comes.
        let _ = self.name_for(&event, now);
        self.add(Entry::Event(event), now);
    }

    /// Writes a line to the log file and to syslog.
    pub fn line(&mut self, text: &str) {
        self.note(Notice::Note, text);
    }

    /// The same, with a notice that classifies the line.
    pub fn note(&mut self, notice: Notice, text: &str) {
        self.add(Entry::Line(notice, text.to_owned(), false), now());
    }

    /// The same, with an empty line after it in the file.
    pub fn note_and_blank(&mut self, notice: Notice, text: &str) {
        self.add(Entry::Line(notice, text.to_owned(), true), now());
    }

    /// Writes a line to standard error at once, and to the log in its turn.
    pub fn complain(&mut self, text: &str) {
        self.complain_of(Notice::Trouble, text);
    }

    /// The same, with a notice that classifies the line.
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

    /// Prints a line if `-v` was given, after the lines that wait.
    pub fn say(&mut self, text: &str) {
        self.say_of(Notice::Note, text);
    }

    /// The same, with a notice that classifies the line.
    pub fn say_of(&mut self, notice: Notice, text: &str) {
        self.add(Entry::Said(notice, text.to_owned()), now());
    }

    /// Writes a line to syslog alone.
    pub fn line_for_syslog(&mut self, text: &str) {
        self.add(Entry::ForSyslog(text.to_owned()), now());
    }

    /// Writes a piece of debug output (`-D`), after the lines that wait; `is_end` if the line ends with it.
    pub fn explain(&mut self, text: String, is_end: bool, now: Now) {
        self.add(Entry::Explained(text, is_end), now);
    }

    /// Writes what slow readers have not taken yet, as far as there is room.
    pub fn write_on(&mut self) {
        self.syslog.flush();
        self.journal.flush();
        if let Some(file) = &mut self.file {
            file.flush();
        }
    }

    /// Waits for slow readers, until this uptime at most.
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

    /// Descriptors to wait on for `POLLOUT`, while output waits for slow readers; usually none.
    pub fn waits_for(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.file
            .as_ref()
            .and_then(LogFile::waits_for)
            .into_iter()
            .chain(self.syslog.waits_for())
            .chain(self.journal.waits_for())
    }

    /// Readable when the resolver has answered.
    #[must_use]
    pub fn names(&self) -> Option<BorrowedFd<'_>> {
        self.names.as_ref()?.descriptor()
    }

    /// When to call [`Log::settle`] at the latest, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.front().map(|(_, since)| since.uptime + LOOKUP_TIMEOUT)
    }

    /// Writes the lines whose name has arrived, or has taken too long.
    pub fn settle(&mut self, now: Now) {
        if let Some(names) = &mut self.names {
            names.read_answers(now);
            if names.has_ended() {
                self.names = None;
                self.next_names = Some(now.uptime.saturating_add(RESOLVER_PAUSE));
                self.complain("the resolver ended unexpectedly: another is started when it is needed");
            }
        }
        self.advance(now);
    }

    /// Writes all waiting lines, with or without a name.
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

    /// Writes waiting entries, up to the first that still needs a name.
    fn advance(&mut self, now: Now) {
        while !self.is_held
            && let Some((entry, since)) = self.waiting.pop_front()
        {
            let may_wait = since.uptime + LOOKUP_TIMEOUT > now.uptime;
            if let Some(entry) = self.write_entry(entry, since, now, may_wait) {
                self.waiting.push_front((entry, since));
                break;
            }
        }
        self.write_out(now);
    }

    /// Appends the lines collected for the log file.
    fn write_out(&mut self, now: Now) {
        if let Some(file) = &mut self.file {
            file.write_out(now);
        }
    }

    /// Writes an entry, or returns it if it has to wait for a name.
    fn write_entry(&mut self, entry: Entry, since: Now, now: Now, may_wait: bool) -> Option<Entry> {
        match entry {
            Entry::Event(event) => match self.name_for(&event, now) {
                Answer::Pending if may_wait => return Some(Entry::Event(event)),
                Answer::Pending => self.write_event(&event, None, since),
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

    /// Whether lines about attempts have any destination.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.file.is_some() || self.syslog.is_open() || says()
    }

    /// The knocker's name for the line of an event.
    fn name_for(&mut self, event: &Event, now: Now) -> Answer {
        let Some(knocker) = event.knocker() else { return Answer::Known(None) };
        if self.next_names.is_some_and(|at| at <= now.uptime) && self.look_up_names().is_err() {
            self.next_names = Some(now.uptime.saturating_add(RESOLVER_PAUSE));
        }
        self.names.as_mut().map_or(Answer::Known(None), |names| names.ask(knocker, now))
    }
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

/// The warning about a log file that cannot be opened.
#[must_use]
pub fn cannot_open(error: &io::Error) -> String {
    format!("warning: cannot open logfile: {}", reason(error))
}
