//! The network side: packets in, events to the log, openings to the doorkeeper.
//!
//! One loop around `poll`: the only place of this process that blocks, and that reads the clock.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use crate::config::{Config, Options};
use crate::daemon::background::Launcher;
use crate::daemon::capture::Capture;
use crate::daemon::cli::Arguments;
use crate::daemon::clock::now;
use crate::daemon::error::StartError;
use crate::daemon::link::Link;
use crate::daemon::load::{Loaded, load};
use crate::daemon::log::{self, Log};
use crate::daemon::signals::{Came, Signals};
use crate::daemon::wire::{Received, Report, Request};
use crate::daemon::{anchored, expression, one_time, poll_timeout};
use crate::door::Door;
use crate::engine::Engine;
use crate::event::Event;
use crate::interest::Interest;
use crate::knock::Knock;
use crate::lock::{Lock, OneTime};
use crate::packet;
use crate::reason::reason;
use crate::time::Now;

/// The interface where neither the command line nor the configuration names one.
const DEFAULT_INTERFACE: &str = "eth0";
/// Packets that are taken before signals and the doorkeeper are looked at again.
const BATCH: usize = 64;
/// Lines of a one-time file that the kernel's filter knows ahead of their turn, so that a quick
/// knocker need not wait for a new filter.
const AHEAD: usize = 4;
/// How often a configuration is read anew that differs between the two processes.
const READINGS: u32 = 5;
/// How long the doorkeeper may take to begin.
const DOORKEEPER_START: Duration = Duration::from_secs(30);

struct Watcher {
    arguments: Arguments,
    options: Options,
    engine: Engine,
    capture: Capture,
    link: Link,
    log: Log,
    /// Of the configuration in force.
    fingerprint: u64,
    /// A configuration that waits for the doorkeeper's word, and how often it was read.
    pending: Option<(Loaded, u32)>,
    /// Whether the doorkeeper has adopted the configuration in force.
    is_served: bool,
}

/// Starts the daemon and runs it to its end.
///
/// # Errors
/// Why it cannot start.
pub fn main(arguments: Arguments) -> Result<(), StartError> {
    log::start_output(arguments.verbose, arguments.debug);
    let launcher =
        arguments.is_launched.then(Launcher::accept).transpose().map_err(system("run in the background"))?;
    let signals = Signals::new().map_err(system("listen for signals"))?;
    let loaded = load(&arguments.config, arguments.interface.is_some(), &mut log::pass_on)?;
    // It starts while we open the interface.
    let link = Link::start(&arguments, now()).map_err(system("start the doorkeeper"))?;
    let Loaded { config: Config { mut options, doors }, fingerprint } = loaded;
    anchor(&mut options);
    let interface = arguments.interface.as_deref().or(options.interface.as_deref());
    let interface = interface.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_INTERFACE);
    let capture = Capture::open(interface, &Interest::of(&doors, AHEAD), arguments.only_v4)?;
    let here = capture.interface.addresses.clone();
    let mut watcher = Watcher {
        engine: Engine::new(doors, here),
        arguments,
        options,
        capture,
        link,
        log: Log::new(),
        fingerprint,
        pending: None,
        is_served: false,
    };
    watcher.explain_capture();
    if let Err(error) = watcher.open_log() {
        log::complain(&log::cannot_open(&error));
    }
    if watcher.arguments.lookup {
        watcher.log.look_up_names().map_err(system("start the resolver"))?;
    }
    watcher.greet_doorkeeper()?;
    let has_pid_file = launcher.is_some();
    if let Some(launcher) = launcher {
        watcher.write_pid_file();
        launcher.detach().map_err(system("run in the background"))?;
    }
    let name = watcher.capture.interface.link.name.clone();
    watcher.log.line(&format!("starting up, listening on {name}"));
    log::say(&format!("listening on {name}..."));
    watcher.run(signals);
    if has_pid_file {
        let _ = std::fs::remove_file(watcher.pid_file());
    }
    Ok(())
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::System(what, error)
}

/// Paths in the configuration are relative to where we were started.
fn anchor(options: &mut Options) {
    for path in [&mut options.log_file, &mut options.pid_file].into_iter().flatten() {
        *path = anchored(path);
    }
}

impl Watcher {
    /// The loop; ends after SIGTERM or SIGINT, when every door is closed.
    fn run(&mut self, mut signals: Signals) {
        loop {
            self.wait(&signals);
            let came = signals.take();
            if came.end {
                return self.finish(signals);
            }
            if came.reload {
                self.reload();
            }
            let now = now();
            self.listen(now);
            let expired = self.engine.expire(now);
            self.handle(expired, now);
            self.attend_to_doorkeeper(now);
            self.log.settle(now);
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, signals: &Signals) {
        let deadlines = [self.engine.next_deadline(), self.link.next_start(), self.log.next_deadline()];
        let timeout = poll_timeout(deadlines.into_iter().flatten().min(), now());
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, self.link.is_waiting());
        let descriptors = [
            Some(PollFd::new(self.capture.as_fd(), PollFlags::POLLIN)),
            Some(PollFd::new(signals.doorbell(), PollFlags::POLLIN)),
            self.link.descriptor().map(|fd| PollFd::new(fd, events)),
            self.log.names().map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        ];
        let mut descriptors: Vec<PollFd<'_>> = descriptors.into_iter().flatten().collect();
        let _ = poll(&mut descriptors, timeout);
    }

    /// Takes packets that wait.
    fn listen(&mut self, now: Now) {
        for _ in 0..BATCH {
            let Some(packet) = self.capture.take() else { return };
            let Some(knock) = packet::parse(packet) else { continue };
            if log::explains() {
                self.explain(&knock, now);
            }
            let events = self.engine.observe(&knock, now);
            if !events.is_empty() {
                self.handle(events, now);
            }
        }
    }

    fn handle(&mut self, events: Vec<Event>, now: Now) {
        for event in events {
            if let Event::Opened { door, opening } = &event {
                let (door, opening) = (door.clone(), *opening);
                self.log.event(event, now);
                if !self.link.send(Request::Open(opening)) {
                    self.complain(&format!("{door}: too many openings wait: this one is not made"));
                }
                if matches!(
                    self.engine.doors().get(opening.door).map(|door| &door.lock),
                    Some(Lock::OneTime(_))
                ) {
                    self.renew_filter();
                }
            } else {
                self.log.event(event, now);
            }
        }
    }

    /// Says something to the log and to standard error.
    fn complain(&mut self, text: &str) {
        log::complain(text);
        self.log.line(text);
    }

    // ---- the doorkeeper

    /// Waits until the doorkeeper of a daemon that starts has read the same configuration.
    fn greet_doorkeeper(&mut self) -> Result<(), StartError> {
        self.link.send(Request::Prepare(self.fingerprint));
        let deadline = now().uptime + DOORKEEPER_START;
        let mut readings = 1;
        while now().uptime < deadline {
            match self.link.receive() {
                Received::Message(Report::Prepared(true)) => {
                    self.link.send(Request::Adopt);
                    self.is_served = true;
                    return Ok(());
                }
                Received::Message(Report::Prepared(false)) if readings < READINGS => {
                    readings += 1;
                    let loaded =
                        load(&self.arguments.config, self.arguments.interface.is_some(), &mut |_| {})?;
                    self.adopt(loaded);
                    self.link.send(Request::Prepare(self.fingerprint));
                }
                Received::Nothing => {
                    let descriptor = self.link.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                    let mut descriptors: Vec<PollFd<'_>> = descriptor.into_iter().collect();
                    let _ = poll(&mut descriptors, poll_timeout(Some(deadline), now()));
                }
                Received::Closed => {
                    return Err(StartError::System("start the doorkeeper", io::ErrorKind::BrokenPipe.into()));
                }
                _ => break,
            }
        }
        Err(StartError::Restless(self.arguments.config.clone()))
    }

    fn attend_to_doorkeeper(&mut self, now: Now) {
        self.link.flush();
        loop {
            match self.link.receive() {
                Received::Message(Report::Prepared(is_same)) => self.prepared(is_same),
                Received::Message(Report::Struck(door)) => self.refill(door, now),
                Received::Nonsense => {}
                Received::Nothing => break,
                Received::Closed => {
                    self.is_served = false;
                    self.complain("the doorkeeper ended unexpectedly: doors that were open may stay open; starting another");
                }
            }
        }
        if self.link.next_start().is_some_and(|start| start <= now.uptime) {
            match self.link.restart(now) {
                Ok(()) => {
                    let fingerprint =
                        self.pending.as_ref().map_or(self.fingerprint, |(loaded, _)| loaded.fingerprint);
                    self.link.send_first(Request::Prepare(fingerprint));
                }
                Err(error) => self.complain(&format!("could not start the doorkeeper: {}", reason(&error))),
            }
        }
    }

    /// The doorkeeper read the configuration; is it the one that was meant?
    fn prepared(&mut self, is_same: bool) {
        match (is_same, self.pending.take()) {
            (true, Some((loaded, _))) => {
                self.adopt(loaded);
                self.link.send(Request::Adopt);
                self.is_served = true;
                self.reopen_log();
            }
            (true, None) => {
                self.link.send_first(Request::Adopt);
                self.is_served = true;
            }
            (false, pending) => self.read_again(pending.map_or(1, |(_, readings)| readings)),
        }
    }

    /// The file changed between two readings: it is read once more.
    fn read_again(&mut self, readings: u32) {
        let loaded = if readings < READINGS {
            load(&self.arguments.config, self.arguments.interface.is_some(), &mut |_| {})
        } else {
            Err(StartError::Restless(self.arguments.config.clone()))
        };
        match loaded {
            Ok(loaded) => {
                self.link.send(Request::Prepare(loaded.fingerprint));
                self.pending = Some((loaded, readings + 1));
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// A used line was struck: what is left is what the file says now.
    fn refill(&mut self, door: usize, now: Now) {
        let Some(Lock::OneTime(lines)) = self.engine.doors().get(door).map(|door| &door.lock) else { return };
        let path = lines.path.clone();
        let fresh = one_time::read(&path).ok().map(|text| OneTime::read(path, &text, |_| {}));
        let exhausted = self.engine.refill(door, fresh);
        let next = self.engine.doors().get(door).and_then(|door| {
            let (_, sequence) = door.lock.current().next()?;
            Some(format!("new sequence for door {}: {sequence}", door.name))
        });
        if let Some(text) = next {
            log::explain(&text);
        }
        self.renew_filter();
        self.handle(exhausted.into_iter().collect(), now);
    }

    // ---- the configuration

    /// SIGHUP: reads, checks, then swaps; a broken file changes nothing.
    fn reload(&mut self) {
        let text = format!("re-reading config file: {}", self.arguments.config.display());
        log::say(&text);
        self.log.line_and_blank(&text);
        match load(&self.arguments.config, self.arguments.interface.is_some(), &mut log::pass_on) {
            Ok(loaded) => {
                self.link.send(Request::Prepare(loaded.fingerprint));
                self.pending = Some((loaded, 1));
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&mut self, error: &StartError) {
        self.pending = None;
        self.complain(&error.to_string());
        if self.is_served {
            self.complain("keeping the configuration that was in force");
            self.reopen_log();
        } else {
            let lost = self.link.forget_waiting();
            self.complain(&format!("the doorkeeper has no configuration: doors stay shut ({lost} just now)"));
        }
    }

    fn adopt(&mut self, loaded: Loaded) {
        let Config { mut options, doors } = loaded.config;
        anchor(&mut options);
        // What the file does not name stays as it was.
        self.options = Options {
            log_file: options.log_file.or(self.options.log_file.take()),
            pid_file: options.pid_file.or(self.options.pid_file.take()),
            interface: options.interface.or(self.options.interface.take()),
            use_syslog: options.use_syslog || self.options.use_syslog,
        };
        self.fingerprint = loaded.fingerprint;
        self.capture.refresh_addresses();
        self.engine = Engine::new(doors, self.here());
        self.renew_filter();
        self.explain_doors();
    }

    fn here(&self) -> Vec<IpAddr> {
        self.capture.interface.addresses.clone()
    }

    fn renew_filter(&mut self) {
        let interest = Interest::of(self.engine.doors(), AHEAD);
        if let Err(error) = self.capture.set_interest(&interest) {
            self.complain(&format!("could not renew the packet filter: {}", reason(&error)));
        }
    }

    fn reopen_log(&mut self) {
        let path = |log: &Log| log.path().map(|path| path.display().to_string());
        if let Some(path) = path(&self.log) {
            log::say(&format!("closing log file: {path}"));
        }
        let result = self.open_log();
        if let Some(path) = path(&self.log) {
            let text = format!("re-opening log file: {path}");
            log::say(&text);
            self.log.to_syslog(&text);
        }
        if let Err(error) = result {
            log::complain(&log::cannot_open(&error));
        }
    }

    fn open_log(&mut self) -> io::Result<()> {
        let path = self.options.log_file.as_ref().or(self.arguments.log_file.as_ref());
        self.log.open(path.map(PathBuf::as_path), self.options.use_syslog)
    }

    // ---- beginning and end

    fn pid_file(&self) -> PathBuf {
        self.options.pid_file.clone().unwrap_or_else(|| self.arguments.pid_file.clone())
    }

    fn write_pid_file(&mut self) {
        let path = self.pid_file();
        if let Err(error) = std::fs::write(&path, format!("{}\n", std::process::id())) {
            self.complain(&format!("could not create pid file {}: {}", path.display(), reason(&error)));
        }
    }

    /// Stops listening, and waits until the doorkeeper has closed every door.
    fn finish(&mut self, mut signals: Signals) {
        log::say("waiting for child processes...");
        self.log.flush();
        self.link.send(Request::Finish);
        while self.link.is_up() {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, self.link.is_waiting());
            let descriptors = [
                Some(PollFd::new(signals.doorbell(), PollFlags::POLLIN)),
                self.link.descriptor().map(|fd| PollFd::new(fd, events)),
            ];
            let mut descriptors: Vec<PollFd<'_>> = descriptors.into_iter().flatten().collect();
            let _ = poll(&mut descriptors, None::<u16>);
            let Came { end, .. } = signals.take();
            if end {
                self.link.send(Request::FinishNow);
            }
            self.link.flush();
            while matches!(self.link.receive(), Received::Message(_) | Received::Nonsense) {}
        }
        log::say("closing...");
        self.log.line("shutting down");
    }

    // ---- the debug output

    fn explain(&self, knock: &Knock, now: Now) {
        if self.engine.is_of_interest(knock) {
            log::explain(&format!(
                "{}: {}: {}:{} -> {}:{} {} bytes",
                self.log.clock(now),
                knock.protocol,
                knock.source,
                knock.source_port,
                knock.destination,
                knock.port,
                u64::from(knock.length) + self.capture.interface.link_header()
            ));
        }
    }

    fn explain_capture(&self) {
        if !log::explains() {
            return;
        }
        log::explain(self.capture.interface.link_words());
        for address in &self.capture.interface.addresses {
            if address.is_ipv4() || !self.arguments.only_v4 {
                log::explain(&format!("local IP: {address}"));
            }
        }
        self.explain_doors();
    }

    fn explain_doors(&self) {
        if log::explains() {
            let doors: &[Door] = self.engine.doors();
            for line in expression::lines(doors, &self.capture.interface.addresses, self.arguments.only_v4) {
                log::explain(&line);
            }
        }
    }
}
