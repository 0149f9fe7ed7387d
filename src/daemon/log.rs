//! Where lines go: standard output for `-v` and `-D`, the log file, syslog.
//!
//! Both processes write, each through a log of its own; lines are appended whole, in one write.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::log::{LevelFilter, debug, info};
use env_logger::{Builder, Target};
use nix::syslog::{Facility, LogFlags, Severity, openlog, syslog};

use crate::config::Note;
use crate::daemon::clock::{Zone, now};
use crate::daemon::names::{Answer, Names, PATIENCE};
use crate::event::Event;
use crate::reason::reason;
use crate::time::Now;

/// How many lines wait for names at most; further ones go without.
const MOST_WAITING: usize = 4096;

const VERBOSE: &str = "knockd::verbose";
const DEBUG: &str = "knockd::debug";

/// Lets `-v` and `-D` through to standard output.
pub fn start_output(verbose: bool, debug: bool) {
    let level = |is_on, level| if is_on { level } else { LevelFilter::Off };
    Builder::new()
        .filter_level(LevelFilter::Off)
        .filter_module(VERBOSE, level(verbose, LevelFilter::Info))
        .filter_module(DEBUG, level(debug, LevelFilter::Debug))
        .target(Target::Stdout)
        .format(|to, record| writeln!(to, "{}", record.args()))
        .init();
}

/// Says something to whoever asked for `-v`.
pub fn say(text: &str) {
    info!(target: VERBOSE, "{text}");
}

/// Says something to whoever asked for `-D`.
pub fn explain(text: &str) {
    debug!(target: DEBUG, "{text}");
}

/// Whether anybody asked for `-v`.
fn says() -> bool {
    ::log::log_enabled!(target: VERBOSE, ::log::Level::Info)
}

/// Whether anybody asked for `-D`.
#[must_use]
pub fn explains() -> bool {
    ::log::log_enabled!(target: DEBUG, ::log::Level::Debug)
}

/// Says what the debug output has of an event beside the log.
pub fn explain_detail(event: &Event) {
    if explains()
        && let Some(text) = event.debug_line()
    {
        explain(&text);
    }
}

/// Says something on standard error; nobody listening is no error.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints to standard output, whatever was asked for.
pub fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Passes on what the parser has to say.
pub fn pass_on(note: Note) {
    match note {
        Note::Understood(text) => explain(&text),
        Note::LeftOut(text) => complain(&text),
    }
}

/// The log of one process.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    syslog: bool,
    zone: Zone,
    names: Option<Names>,
    waiting: VecDeque<(Event, Now)>,
}

impl Log {
    /// A log that goes nowhere yet.
    #[must_use]
    pub fn new() -> Log {
        Log {
            path: None,
            file: None,
            syslog: false,
            zone: Zone::local(),
            names: None,
            waiting: VecDeque::new(),
        }
    }

    /// Opens the log file, or opens it anew; without a path there is none.
    ///
    /// # Errors
    /// Why the file cannot be opened; then there is none.
    pub fn open(&mut self, path: Option<&Path>, use_syslog: bool) -> io::Result<()> {
        self.zone = Zone::local();
        if use_syslog && !self.syslog {
            let _ = openlog(Some(c"knockd"), LogFlags::empty(), Facility::LOG_DAEMON);
        }
        self.syslog = use_syslog;
        self.path = path.map(Path::to_owned);
        self.file = None;
        if let Some(path) = path {
            self.file = Some(OpenOptions::new().append(true).create(true).open(path)?);
        }
        Ok(())
    }

    /// The log file's path, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Shows knockers with their names from now on.
    ///
    /// # Errors
    /// Why the process that looks them up cannot be started.
    pub fn look_up_names(&mut self) -> io::Result<()> {
        self.names = Some(Names::start()?);
        Ok(())
    }

    /// Writes what happened, now or, if its knocker's name is being looked up, soon.
    pub fn event(&mut self, event: Event, now: Now) {
        explain_detail(&event);
        match event.knocker().map(|knocker| self.name_of(knocker, now)) {
            Some(Answer::Asked) if self.waiting.len() < MOST_WAITING => self.waiting.push_back((event, now)),
            Some(Answer::Known(name)) => self.write_event(&event, name.as_deref(), now),
            _ => self.write_event(&event, None, now),
        }
    }

    /// Writes a line to the log file and to syslog.
    pub fn line(&mut self, text: &str) {
        self.write(text, false, now());
    }

    /// The same, with an empty line after it in the file.
    pub fn line_and_blank(&mut self, text: &str) {
        self.write(text, true, now());
    }

    /// Writes a line to syslog alone.
    pub fn to_syslog(&self, text: &str) {
        if self.syslog {
            let _ = syslog(Severity::LOG_NOTICE, text);
        }
    }

    /// Readable when a name was found.
    #[must_use]
    pub fn names(&self) -> Option<BorrowedFd<'_>> {
        self.names.as_ref().map(AsFd::as_fd)
    }

    /// When to call [`Log::settle`] at the latest, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.front().map(|(_, since)| since.uptime + PATIENCE)
    }

    /// Writes the lines that wait no longer: their names came, or they waited enough.
    pub fn settle(&mut self, now: Now) {
        let Some(names) = &mut self.names else { return };
        names.take(now);
        for (event, since) in std::mem::take(&mut self.waiting) {
            let is_late = since.uptime + PATIENCE <= now.uptime;
            match event.knocker().map(|knocker| self.name_of(knocker, now)) {
                Some(Answer::Asked) if !is_late => self.waiting.push_back((event, since)),
                Some(Answer::Known(name)) => self.write_event(&event, name.as_deref(), since),
                _ => self.write_event(&event, None, since),
            }
        }
    }

    /// Writes all lines that wait, with or without a name.
    pub fn flush(&mut self) {
        for (event, since) in std::mem::take(&mut self.waiting) {
            self.write_event(&event, None, since);
        }
    }

    fn name_of(&mut self, knocker: IpAddr, now: Now) -> Answer {
        self.names.as_mut().map_or(Answer::Known(None), |names| names.ask(knocker, now))
    }

    fn write_event(&mut self, event: &Event, host: Option<&str>, since: Now) {
        if self.file.is_none() && !self.syslog && !event.is_a_complaint() && !says() {
            return;
        }
        let Some(text) = event.line(host) else { return };
        if event.is_a_complaint() {
            complain(&text);
        } else {
            say(&text);
        }
        self.write(&text, event.is_followed_by_a_blank(), since);
    }

    fn write(&mut self, text: &str, blank: bool, at: Now) {
        if let Some(file) = &mut self.file {
            let end = if blank { "\n\n" } else { "\n" };
            let line = format!("[{}] {text}{end}", self.zone.to_the_minute(at.unix));
            // There is nobody left to tell that the log cannot be written.
            let _ = file.write_all(line.as_bytes());
        }
        self.to_syslog(text);
    }

    /// The local time to the second, for the debug output.
    #[must_use]
    pub fn clock(&self, now: Now) -> String {
        self.zone.to_the_second(now.unix)
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
