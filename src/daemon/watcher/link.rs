//! The watcher's end of the line to the doorkeeper.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::config::Options;
use crate::daemon::cli::{self, Arguments};
use crate::daemon::messages::{self, Received, Report, Request};
use crate::daemon::poll::wait_for;
use crate::daemon::processes::{self, Role, Sibling};
use crate::time::Now;

/// How many messages wait for a doorkeeper that is busy (two an opening with `-l`, one otherwise);
/// openings beyond that are not made.
const MOST_WAITING: usize = 4096;
/// A doorkeeper that keeps ending is started anew no more often than this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How often the configuration is read for a doorkeeper that has none.
const READING_PAUSE: Duration = Duration::from_secs(5);

/// The doorkeeper, as the watcher sees it.
#[derive(Debug)]
pub struct Link {
    arguments: Vec<OsString>,
    doorkeeper: Option<Sibling>,
    waiting: VecDeque<Request>,
    started: Duration,
    /// It has adopted a configuration: it can be told of openings.
    is_serving: bool,
    /// When to read the configuration again, as uptime: it was not in order when the doorkeeper began.
    next_reading: Option<Duration>,
    is_detached: bool,
    /// How the last one ended.
    ended_well: bool,
}

impl Link {
    /// Starts a doorkeeper for a daemon with this command line and these options.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn start(arguments: &Arguments, options: &Options, now: Now) -> io::Result<Link> {
        let mut link = Link {
            arguments: words(arguments, options),
            doorkeeper: None,
            waiting: VecDeque::new(),
            started: Duration::ZERO,
            is_serving: false,
            next_reading: None,
            is_detached: arguments.is_launched,
            ended_well: false,
        };
        link.restart(now)?;
        Ok(link)
    }

    /// Doorkeepers to come are for a daemon with these options: what the file does not name any more
    /// (SIGHUP) they cannot know of otherwise.
    pub fn follow(&mut self, arguments: &Arguments, options: &Options) {
        self.arguments = words(arguments, options);
    }

    /// Starts a doorkeeper in place of one that is gone; what waits for it goes to the new one.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn restart(&mut self, now: Now) -> io::Result<()> {
        self.reap();
        self.started = now.uptime;
        let doorkeeper = processes::start_as(Role::Doorkeeper, self.arguments.clone(), self.is_detached)?;
        self.doorkeeper = Some(doorkeeper);
        Ok(())
    }

    /// When a doorkeeper that is gone may be started anew, or one that could not begin be given a
    /// configuration, as uptime; `None` while there is one that serves.
    #[must_use]
    pub fn next_start(&self) -> Option<Duration> {
        if self.is_up() { self.next_reading } else { Some(self.started + RESTART_PAUSE) }
    }

    /// There is no configuration that the doorkeeper could use: to be looked at again.
    pub fn put_off(&mut self, now: Now) {
        self.next_reading = Some(now.uptime.saturating_add(READING_PAUSE));
    }

    /// Whether the doorkeeper knows the doors.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// Tells the doorkeeper to use the configuration that it read last, then all that waits.
    pub fn adopt(&mut self) {
        if self.is_serving {
            self.waiting.push_back(Request::Adopt);
        } else {
            self.waiting.push_front(Request::Adopt);
            self.is_serving = true;
            self.next_reading = None;
        }
        self.flush();
    }

    /// Asks the doorkeeper to read the configuration: after the openings that it was told of, and
    /// before those that it can't be told of yet.
    pub fn prepare(&mut self, fingerprint: u64) {
        if self.is_serving {
            self.waiting.push_back(Request::Prepare(fingerprint));
        } else {
            self.waiting.push_front(Request::Prepare(fingerprint));
        }
        self.flush();
    }

    /// Whether the doorkeeper that is gone ended as it should.
    #[must_use]
    pub fn ended_well(&self) -> bool {
        self.ended_well
    }

    /// Whether there is a doorkeeper.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.doorkeeper.is_some()
    }

    /// Sends a message, as soon as there is room. Says whether it can be sent at all.
    pub fn send(&mut self, request: Request) -> bool {
        if self.waiting.len() >= MOST_WAITING && matches!(request, Request::Open(_)) {
            return false;
        }
        self.waiting.push_back(request);
        self.flush();
        true
    }

    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) {
        let Some(doorkeeper) = &self.doorkeeper else { return };
        while let Some(request) = self.waiting.front() {
            // All that names a door has to wait until it knows the doors.
            let names_a_door =
                matches!(request, Request::Open(_) | Request::Logged(_) | Request::Exhausted(_));
            let is_early = names_a_door && !self.is_serving;
            if is_early || messages::transmit(&doorkeeper.socket, request).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Whether something waits for room.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.is_serving && !self.waiting.is_empty()
    }

    /// Forgets what waits, and says how many openings that were.
    pub fn forget_waiting(&mut self) -> usize {
        let openings = self.waiting.iter().filter(|request| matches!(request, Request::Open(_))).count();
        self.waiting.clear();
        openings
    }

    /// What the doorkeeper says, if it says something.
    pub fn receive(&mut self) -> Received<Report> {
        let Some(doorkeeper) = &self.doorkeeper else { return Received::Nothing };
        let received = messages::receive(&doorkeeper.socket);
        if received == Received::Closed {
            self.reap();
        }
        received
    }

    /// Sleeps until the doorkeeper says something.
    pub fn wait(&self, timeout: PollTimeout) {
        let descriptor = self.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut descriptors: Vec<PollFd<'_>> = descriptor.into_iter().collect();
        wait_for(&mut descriptors, timeout);
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.doorkeeper.as_ref().map(|doorkeeper| doorkeeper.socket.as_fd())
    }

    /// Takes a doorkeeper that closed its socket out of the process table.
    fn reap(&mut self) {
        if let Some(mut gone) = self.doorkeeper.take() {
            self.is_serving = false;
            self.next_reading = None;
            drop(gone.socket);
            self.ended_well = gone.child.wait().is_ok_and(|status| status.success());
        }
    }
}

/// The doorkeeper's command line.
fn words(arguments: &Arguments, options: &Options) -> Vec<OsString> {
    let pid_file = options.pid_file.as_ref().unwrap_or(&arguments.pid_file);
    let mut words: Vec<OsString> = vec!["-c".into(), arguments.config.clone().into()];
    words.extend(["-p".into(), pid_file.clone().into()]);
    if let Some(log_file) = options.log_file.as_ref().or(arguments.log_file.as_ref()) {
        words.extend(["-g".into(), log_file.clone().into()]);
    }
    for (is_set, option) in [(arguments.verbose, "-v"), (arguments.debug, "-D"), (arguments.lookup, "-l")] {
        if is_set {
            words.push(option.into());
        }
    }
    if arguments.is_launched {
        words.push(cli::LAUNCHED.into());
    }
    words
}
