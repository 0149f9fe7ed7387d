//! How the watcher adopts a configuration: at its start, and with each SIGHUP.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::config::Config;
use crate::daemon::capture::Captures;
use crate::daemon::cli::Arguments;
use crate::daemon::clock::now;
use crate::daemon::load;
use crate::daemon::messages;
use crate::daemon::poll::wait_for;
use crate::daemon::watcher::link::Link;
use crate::daemon::watcher::{AHEAD, Prepared, Watcher};
use crate::door::Door;
use crate::door::lock::Lock;
use crate::engine::Engine;
use crate::filter::interest::Interest;
use crate::filter::interfaces::Wanted;
use crate::opening::log_limit::{DropCounts, RateLimit};
use crate::protocol::bundle::{Bundle, CoolingDown};
use crate::protocol::messages::{Generation, Order, Report};
use crate::time::Now;

/// A parsed bundle.
struct Understood {
    waits: bool,
    has_readers: bool,
    cooldowns: Vec<CoolingDown>,
    doors: Vec<Door>,
    max_attempts: usize,
    shares_knocks: bool,
    wanted: Wanted,
}

impl Watcher {
    /// Waits for the first configuration and opens the captures; `None` if that fails.
    pub(super) fn begin(arguments: &Arguments, mut link: Link, prepared: Prepared) -> Option<Watcher> {
        let Prepared { zone, netlink, usr1 } = prepared;
        let (generation, bundle) = first_order(&mut link)?;
        let now = now();
        let Understood { waits, has_readers, cooldowns, doors, max_attempts, shares_knocks, wanted } =
            understand(&bundle)?;
        drop(bundle);
        let interest = Interest::of(&doors, AHEAD);
        let sockets = &mut || link.packet_socket();
        let captures = match Captures::open(netlink, wanted, waits, &interest, arguments.only_v4, sockets) {
            Ok(captures) => captures,
            Err(error) => {
                link.say(Report::Refused(error));
                return None;
            }
        };
        let mut engine = Engine::with_capacity(doors, captures.here().iter().copied(), max_attempts);
        engine.share_knocks(shares_knocks);
        if arguments.debug {
            engine.explain_flags();
        }
        let mut watcher = Watcher {
            engine,
            captures,
            link,
            line_limit: RateLimit::default(),
            dropped: DropCounts::new(),
            tries: RateLimit::default(),
            has_readers,
            only_v4: arguments.only_v4,
            explains: arguments.debug,
            zone,
            is_finished: false,
            change_at_last: None,
            usr1,
            started: now,
        };
        watcher.cool_down(&cooldowns, now);
        watcher.explain_captures();
        let standing: Vec<Report> = watcher.captures.status().collect();
        watcher.say_all(standing);
        watcher.link.adopt(generation);
        Some(watcher)
    }

    /// Puts a new configuration in force.
    pub(super) fn adopt(&mut self, generation: Generation, bundle: &OwnedFd, now: Now) {
        let Some(it) = understand(bundle) else {
            // The doorkeeper has parsed the same text, so this cannot happen. If it does, end: a new watcher
            // may do better.
            self.is_finished = true;
            return;
        };
        let Understood { has_readers, cooldowns, doors, max_attempts, shares_knocks, wanted, .. } = it;
        // Counts kept by place belong to the doors of the previous configuration.
        let dropped = self.dropped.take();
        self.report_dropped(dropped);
        let interest = Interest::of(&doors, AHEAD);
        // Reports only new interfaces; changes of interfaces come over netlink.
        let reports = self.captures.want(wanted, &interest, &mut || self.link.packet_socket());
        let here = self.captures.here().iter().copied();
        let mut engine = Engine::with_capacity(doors, here, max_attempts);
        engine.inherit(&self.engine, now);
        engine.share_knocks(shares_knocks);
        if self.explains {
            engine.explain_flags();
        }
        self.engine = engine;
        self.has_readers = has_readers;
        self.cool_down(&cooldowns, now);
        self.renew_filter();
        self.say_all(reports);
        self.link.adopt(generation);
        // After the doorkeeper has opened the log again, as in knockd 0.8.
        self.explain_doors();
    }

    /// Continues cooldowns that began before this process.
    fn cool_down(&mut self, cooldowns: &[CoolingDown], now: Now) {
        let doors = self.engine.doors();
        let named = cooldowns.iter().filter_map(|it| {
            let door = doors.get(usize::try_from(it.door).ok()?)?;
            Some((door.name.clone(), it.knocker, it.until))
        });
        let named: Vec<_> = named.collect();
        self.engine.continue_cooldowns(&named, now);
    }
}

/// Waits for the first order, which is a configuration.
fn first_order(link: &mut Link) -> Option<(Generation, OwnedFd)> {
    loop {
        match link.receive() {
            Some((Order::Adopt(generation), Some(bundle))) => return Some((generation, bundle)),
            Some(_) => return None,
            None if link.is_closed() => return None,
            None => {
                let descriptor = PollFd::new(link.descriptor(), PollFlags::POLLIN);
                wait_for(&mut [descriptor], PollTimeout::NONE);
            }
        }
    }
}

fn understand(bundle: &impl AsFd) -> Option<Understood> {
    let text = messages::read_all(bundle).ok()?;
    let bundle = Bundle::decode(&text)?;
    let Config { options, mut doors, .. } = load::unpack(&bundle)?;
    for spent in &bundle.spent {
        let door = usize::try_from(spent.door).ok().and_then(|door| doors.get_mut(door));
        let Some(Lock::Otp(lock)) = door.map(|door| &mut door.lock) else { continue };
        if let Some(floor) = spent.floor {
            lock.spent.raise_floor(floor);
        }
        for &(period, owner) in &spent.lists {
            lock.spent.insert(period, owner, 0);
        }
        for &(period, source, count) in &spent.tries {
            lock.tries.set(period, source, count, 0);
        }
    }
    let wanted = Wanted::parse(&bundle.interface).unwrap_or_default();
    Some(Understood {
        waits: bundle.waits,
        has_readers: bundle.has_readers,
        cooldowns: bundle.cooldowns,
        doors,
        max_attempts: options.max_attempts(),
        shares_knocks: options.shares_knocks && options.fleet_socket.is_some(),
        wanted,
    })
}
