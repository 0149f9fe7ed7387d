//! Puts a configuration in force: the doorkeeper reads it, hands it to the watcher, and adopts it when the
//! watcher reports that it has done so.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::{Config, Options, Warning, redact};
use crate::daemon::capture::netlink;
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::{Doorkeeper, PendingConfig};
use crate::daemon::error::StartError;
use crate::daemon::load::{Loaded, load};
use crate::daemon::log::output;
use crate::daemon::log::{self, Log};
use crate::daemon::messages;
use crate::daemon::notify;
use crate::daemon::one_time;
use crate::door::Door;
use crate::door::lock::Lock;
use crate::filter::interfaces::Wanted;
use crate::octets;
use crate::opening::entry::Notice;
use crate::opening::log_limit::{Cause, dropped};
use crate::opening::state::inherit_spent;
use crate::protocol::bundle::{Borrowed, Bundle, CoolingDown, File, SpentLists};
use crate::protocol::messages::{Generation, Order};
use crate::reason::reason;
use crate::time::Now;

impl Doorkeeper {
    /// SIGHUP: reads the configuration and hands it to the watcher. A broken file changes nothing.
    pub(super) fn reload(&mut self) {
        if self.end_deadline.is_some() {
            return;
        }
        if self.pending_config.is_some() {
            self.is_reload_pending = true;
            return;
        }
        notify::reloading();
        let text = format!("re-reading config file: {}", octets::path(&self.arguments.config));
        self.log.say_of(Notice::Reload, &text);
        self.log.note_and_blank(Notice::Reload, &text);
        let sent = load(&self.arguments, &mut output::pass_on).and_then(|loaded| {
            self.complain(&loaded.warnings);
            if !self.watcher.has_confinement(&loaded.confinements.watcher) {
                self.log.complain("User and Sandbox take effect when the daemon is started again");
            }
            self.send_config(loaded).map_err(|error| StartError::System("hand out the configuration", error))
        });
        if let Err(error) = sent {
            notify::ready();
            self.note_reload(Some(&error));
            self.log.complain_of(Notice::ReloadFailed, &error.to_string());
            self.log.complain_of(Notice::ReloadFailed, "keeping the configuration that was in force");
            self.reopen_log();
        }
    }

    /// Hands a configuration to the watcher.
    pub(super) fn send_config(&mut self, loaded: Loaded) -> io::Result<()> {
        let Loaded { mut config, files, one_time, warnings: _, confinements: _ } = loaded;
        config.options = config.options.following(&self.config.options);
        inherit_spent(&self.config.doors, &mut config.doors);
        let wanted = self.wanted(&config.options);
        // The HMAC keys are enough for the watcher to reject forged packets; it gets no encryption keys.
        let files = redacted(files, redact::without_keys);
        let one_time = redacted(one_time, redact::access_without_keys);
        let bundle = Bundle {
            interface: wanted.to_string(),
            waits: config.options.wait_interface.unwrap_or(wanted.waits_by_default()),
            has_readers: self.will_have_readers(&config.options),
            files: borrow(&files),
            one_time: borrow(&one_time),
            spent: spent_lists(&config.doors),
            cooldowns: self.cooling_down(&config.doors),
        };
        self.send_bundle(Some(config), &bundle)
    }

    /// Hands the configuration that is in force, or was about to be, to a new watcher; not the present
    /// content of the file.
    pub(super) fn resend_config(&mut self) -> io::Result<()> {
        // The former watcher knew which lists were used up at other sections of the same name.
        let doors = self.config.doors.clone();
        inherit_spent(&doors, &mut self.config.doors);
        let pending = self.pending_config.take();
        let (config, text) = match pending {
            Some(PendingConfig { config: Some(config), bundle }) => (Some(config), bundle),
            Some(PendingConfig { config: None, bundle }) => (None, bundle),
            None => {
                (None, self.bundle.as_ref().ok_or(io::ErrorKind::NotFound)?.as_fd().try_clone_to_owned()?)
            }
        };
        let text = messages::read_all(&text)?;
        let bundle = Bundle::decode(&text).ok_or(io::ErrorKind::InvalidData)?;
        let doors = config.as_ref().map_or(&self.config.doors, |config| &config.doors);
        let one_time: Vec<File> = bundle.one_time.iter().map(|file| self.read_again(doors, *file)).collect();
        let bundle = Bundle {
            // Only the start of the daemon fails if an interface is missing: the former watcher would have
            // waited.
            waits: bundle.waits || self.interfaces_at_start.is_none(),
            one_time: borrow(&one_time),
            spent: spent_lists(doors),
            cooldowns: self.cooling_down(doors),
            ..bundle
        };
        self.send_bundle(config, &bundle)
    }

    fn send_bundle(&mut self, config: Option<Config>, bundle: &Bundle<'_>) -> io::Result<()> {
        let bundle = messages::hand_out(&bundle.encode())?;
        let copy = bundle.try_clone()?;
        let generation = self.desk.hand_out();
        self.watcher.send(Order::Adopt(generation), Some(copy));
        self.pending_config = Some(PendingConfig { config, bundle });
        Ok(())
    }

    /// The remaining content of a one-time file; if it cannot be read, the old content: then no line can be
    /// struck either, and the door stays closed.
    fn read_again(&self, doors: &[Door], (path, text): Borrowed<'_>) -> File {
        let whole = self.arguments.folder.join(path);
        let is_its = |door: &Door| matches!(&door.lock, Lock::OneTime(lines) if lines.path == whole);
        // fwknop's files do not change by themselves.
        let fresh = doors.iter().any(is_its).then(|| one_time::read(&whole).ok()).flatten();
        (path.to_owned(), fresh.unwrap_or_else(|| Zeroizing::new(text.to_vec())))
    }

    /// The interfaces that the command line names or, without one, the configuration.
    pub(super) fn wanted(&self, options: &Options) -> Wanted {
        let given = self.arguments.interface.as_deref().and_then(Wanted::parse);
        given.or_else(|| options.interface.clone()).unwrap_or_default()
    }

    fn will_have_readers(&self, options: &Options) -> bool {
        let path = options.log_file.as_ref().or(self.arguments.log_file.as_ref());
        let has_file = path.is_some_and(|path| !path.as_os_str().is_empty());
        has_file || options.use_syslog || options.use_journal || output::says()
    }

    /// Whether the configuration that the watcher adopts is the one in force.
    pub(super) fn is_same_configuration(&self) -> bool {
        self.pending_config.as_ref().is_some_and(|pending| pending.config.is_none())
    }

    /// The watcher has adopted a configuration: puts it in force here too.
    pub(super) fn adopted(&mut self, generation: Generation) {
        if !self.desk.adopted(generation) {
            return;
        }
        let Some(PendingConfig { config, bundle }) = self.pending_config.take() else { return };
        self.bundle = Some(bundle);
        if let Some(mut config) = config {
            // Openings that wait for the fleet are those of the configuration in force.
            self.settle_until(Duration::MAX, now());
            // Lists that were used up since it was sent.
            inherit_spent(&self.config.doors, &mut config.doors);
            let before = std::mem::replace(&mut self.config, config);
            self.status.counters.config_read = now().unix;
            self.opening_log.adopt(&self.config.doors);
            self.buckets.clear();
            self.heir.replace();
            let most = self.config.options.max_commands();
            let (given_up, actions) = self.openings.adopt(&self.config.doors, most, now());
            self.actions.extend(actions);
            if self.interfaces_at_start.is_none() {
                self.reopen_log();
                self.warn(&before);
                if self.wanted(&before.options) != self.wanted(&self.config.options) {
                    self.remark_on_interfaces();
                }
                self.open_memory();
                self.reload_firewall();
                self.note_reload(None);
                self.open_status();
                self.open_fleet(now());
                notify::ready();
            }
            let given_up = given_up.iter().map(|(door, count)| dropped(door, Cause::Reload, *count));
            self.log.tell(Notice::LeftOut, given_up);
        }
        if std::mem::take(&mut self.is_reload_pending) {
            self.reload();
        }
    }

    /// Restarts a watcher that has ended: at once, unless it ended soon after its start.
    pub(super) fn attend_to_watcher(&mut self, now: Now) {
        self.watcher.flush();
        if self.watcher_deadline.is_some_and(|end| end <= now.uptime) {
            self.watcher.end();
        }
        if self.end_deadline.is_some() || self.watcher.is_up() {
            return;
        }
        if !std::mem::replace(&mut self.has_lost_watcher, true) {
            self.log
                .complain("the watcher ended unexpectedly: starting another; attempts under way are lost");
        }
        if self.watcher.next_start().is_some_and(|at| at > now.uptime) {
            return;
        }
        self.desk.greet();
        self.acknowledged = 0;
        let started = self.watcher.start(now).and_then(|()| self.resend_config());
        match started {
            Ok(()) => {
                self.has_lost_watcher = false;
                self.status.counters.watcher_restarts += 1;
                self.status.watcher_answer = None;
            }
            Err(error) => self.log.complain(&format!("could not start the watcher: {}", reason(&error))),
        }
    }

    /// Logs interfaces at which no knock will arrive, as far as that can be known.
    pub(super) fn remark_on_interfaces(&mut self) {
        if self.config.doors.iter().all(|door| door.target.is_some()) {
            return;
        }
        let wanted = self.wanted(&self.config.options);
        // Only a hint: the watcher reports errors.
        if let Ok(scene) = netlink::scene(false) {
            self.log.tell(Notice::Note, wanted.remarks(&scene));
        }
    }

    /// Logs a warning for doors that are weaker than they look or never open, unless the previous
    /// configuration had the same warning.
    pub(super) fn warn(&mut self, before: &Config) {
        let grave = |config: &Config| -> Vec<Warning> {
            config.warnings().into_iter().filter(|warning| warning.is_grave).collect()
        };
        let known = grave(before);
        for warning in grave(&self.config).into_iter().filter(|warning| !known.contains(warning)) {
            self.log.line(&warning.line());
        }
    }

    pub(super) fn reopen_log(&mut self) {
        let path = |log: &Log| log.path().map(|path| octets::path(path).into_owned());
        if let Some(path) = path(&self.log) {
            self.log.say(&format!("closing log file: {path}"));
        }
        let result = self.open_log();
        if let Some(path) = path(&self.log) {
            let text = format!("re-opening log file: {path}");
            self.log.say_of(Notice::Reload, &text);
            self.log.line_for_syslog(&text);
        }
        if let Err(error) = result {
            output::complain(&log::cannot_open(&error));
        }
    }

    pub(super) fn open_log(&mut self) -> io::Result<()> {
        let options = &self.config.options;
        let path = options.log_file.as_ref().or(self.arguments.log_file.as_ref());
        self.log.open(path.map(PathBuf::as_path), options)
    }

    fn cooling_down(&self, doors: &[Door]) -> Vec<CoolingDown> {
        let uptime = now().uptime;
        let place = |name: &str| doors.iter().position(|door| *door.name == *name);
        let cooldowns = self.memory.cooldowns().iter().filter(|it| it.until > uptime);
        cooldowns
            .filter_map(|it| {
                // The cooldown applies to every section of this name.
                let door = u32::try_from(place(&it.door)?).ok()?;
                Some(CoolingDown { door, knocker: it.knocker, until: it.until })
            })
            .collect()
    }
}

fn redacted(files: Vec<File>, redact: impl Fn(&[u8]) -> Option<Zeroizing<Vec<u8>>>) -> Vec<File> {
    let redacted = |(path, text): File| {
        let other = redact(&text);
        (path, other.unwrap_or(text))
    };
    files.into_iter().map(redacted).collect()
}

fn borrow(files: &[File]) -> Vec<Borrowed<'_>> {
    files.iter().map(|(path, text)| (path.as_path(), text.as_slice())).collect()
}

/// The used-up lists of these doors, and the attempts to guess them.
pub(super) fn spent_lists(doors: &[Door]) -> Vec<SpentLists> {
    let spent = (0..).zip(doors).filter_map(|(place, door)| match &door.lock {
        Lock::Otp(lock) => Some(SpentLists {
            door: place,
            floor: lock.spent.floor(),
            lists: lock.spent.lists().collect(),
            tries: lock.tries.iter().collect(),
        }),
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Spa(_) => None,
    });
    spent.filter(|it| it.floor.is_some() || !it.lists.is_empty() || !it.tries.is_empty()).collect()
}
