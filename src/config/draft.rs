//! A door while its section is parsed.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::options::Options;
use crate::config::problem::{ConfigError, OpenProblem, Problem};
use crate::config::spa::SpaDraft;
use crate::config::value::Value;
use crate::door::digest::Digest;
use crate::door::knock::FlagRule;
use crate::door::lock::{Lock, OtpLock};
use crate::door::open::{Open, OpenRules, OpenedPorts};
use crate::door::rules::Rules;
use crate::door::{Door, Reopen, Template};

/// The default of `Seq_Timeout`, in seconds.
pub const DEFAULT_SEQ_TIMEOUT: i32 = 25;
/// The default of `Cmd_Timeout`, in seconds.
pub const DEFAULT_CMD_TIMEOUT: i32 = 10;

/// Parses a value into the rules of one door, or of all doors.
pub(super) type ReadRule = fn(&mut Rules, &Value<'_>) -> Result<(), Problem>;

/// A door while its section is parsed.
pub(super) struct Draft<'a> {
    pub(super) name: String,
    pub(super) file: Option<&'a Path>,
    pub(super) line: usize,
    pub(super) lock: Option<Lock>,
    pub(super) otp: OtpDraft,
    /// Boxed, as there may be thousands of doors and few are opened by single packets.
    pub(super) spa: Option<Box<SpaDraft>>,
    pub(super) seq_timeout: i32,
    pub(super) flags: FlagRule,
    /// The rules of this door. They override those of `[options]`, which may follow later in the file, so
    /// [`Draft::finish`] applies them.
    own_rules: Vec<(ReadRule, Value<'a>)>,
    pub(super) target: Option<IpAddr>,
    pub(super) open: Option<OpenedPorts>,
    pub(super) is_open_for_ever: bool,
    pub(super) start: Option<Template>,
    pub(super) start6: Option<Template>,
    pub(super) stop: Option<Template>,
    pub(super) stop6: Option<Template>,
    pub(super) cmd_timeout: i32,
    pub(super) reopen: Reopen,
    /// `None` inherits from `[options]`; zero means no limit.
    pub(super) command_timeout: Option<Duration>,
    pub(super) max_commands: Option<u16>,
}

/// The `OTP_…` directives of a door, which may come before `OTP`.
#[derive(Default, PartialEq, Eq)]
pub(super) struct OtpDraft {
    pub(super) window: Option<u16>,
    pub(super) reuse: Option<bool>,
    pub(super) tries: Option<u8>,
    pub(super) digest: Option<Digest>,
}

impl OtpDraft {
    fn apply(self, lock: &mut OtpLock) {
        lock.otp.window = self.window.unwrap_or(lock.otp.window);
        lock.otp.digest = self.digest.unwrap_or(lock.otp.digest);
        lock.is_reusable = self.reuse.unwrap_or(lock.is_reusable);
        lock.most_tries = self.tries.unwrap_or(lock.most_tries);
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(name: &str, file: Option<&'a Path>, line: usize) -> Draft<'a> {
        Draft {
            name: name.to_owned(),
            file,
            line,
            lock: None,
            otp: OtpDraft::default(),
            spa: None,
            seq_timeout: DEFAULT_SEQ_TIMEOUT,
            flags: FlagRule::default(),
            own_rules: Vec::new(),
            target: None,
            open: None,
            is_open_for_ever: false,
            start: None,
            start6: None,
            stop: None,
            stop6: None,
            cmd_timeout: DEFAULT_CMD_TIMEOUT,
            reopen: Reopen::default(),
            command_timeout: None,
            max_commands: None,
        }
    }

    /// Adds a rule of this door. Parses its value here as well, so that an error names the line.
    pub(super) fn add_rule(&mut self, read: ReadRule, value: Value<'a>) -> Result<(), Problem> {
        read(&mut Rules::default(), &value)?;
        self.own_rules.push((read, value));
        Ok(())
    }

    /// Builds the door. It shares the rules of `[options]` unless it has rules of its own.
    pub(super) fn finish(self, options: &Options, all_doors: &Arc<Rules>) -> Result<Door, ConfigError> {
        let (file, line) = (self.file, self.line);
        let fail = |problem| ConfigError { file: file.map(Path::to_owned), line, problem };
        let lock = match (self.lock, self.spa) {
            (Some(_), Some(_)) => return Err(fail(Problem::TwoLocks(self.name))),
            (None, None) => return Err(fail(Problem::NoSequence(self.name))),
            (Some(lock), None) => Ok(lock),
            (None, Some(spa)) => spa.finish().map(|lock| Lock::Spa(Box::new(lock))),
        };
        let mut lock = lock.map_err(|problem| fail(Problem::Spa(self.name.clone(), problem)))?;
        if let Lock::Otp(lock) = &mut lock {
            self.otp.apply(lock);
        } else if self.otp != OtpDraft::default() {
            return Err(fail(Problem::NoOtp(self.name)));
        }
        let mut rules = Arc::clone(all_doors);
        for (read, value) in &self.own_rules {
            read(Arc::make_mut(&mut rules), value).map_err(fail)?;
        }
        if self.max_commands.is_some() {
            Arc::make_mut(&mut rules).max_commands = self.max_commands;
        }
        let open = self.open.map(|opened| Open {
            opened,
            is_guarded: options.guard,
            is_for_ever: self.is_open_for_ever && self.cmd_timeout == 0,
            says_for_ever: self.is_open_for_ever,
        });
        let open_problem = match &open {
            Some(open) => problem_of_open(open, &rules.open, &lock, self.cmd_timeout),
            None if self.is_open_for_ever || rules.open != all_doors.open => Some(OpenProblem::NothingToOpen),
            None => None,
        };
        if let Some(problem) = open_problem {
            return Err(fail(Problem::Open(self.name, problem)));
        }
        Ok(Door {
            name: Arc::from(self.name),
            lock,
            seq_timeout: self.seq_timeout,
            flags: self.flags,
            rules,
            target: self.target,
            open: open.map(Box::new),
            start: self.start,
            start6: self.start6,
            stop: self.stop,
            stop6: self.stop6,
            cmd_timeout: self.cmd_timeout,
            reopen: self.reopen,
            command_timeout: self
                .command_timeout
                .or(options.command_timeout)
                .filter(|limit| !limit.is_zero()),
        })
    }
}

/// Why the section's directives for the firewall contradict each other, if they do.
fn problem_of_open(open: &Open, rules: &OpenRules, lock: &Lock, cmd_timeout: i32) -> Option<OpenProblem> {
    let may_request = match lock {
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Otp(_) => false,
        Lock::Spa(_) => true,
    };
    match &open.opened {
        _ if !open.is_guarded && rules.sets.is_empty() => Some(OpenProblem::Nowhere),
        OpenedPorts::Requested if !may_request => Some(OpenProblem::NothingRequested),
        OpenedPorts::Requested if rules.sets.is_empty() => Some(OpenProblem::RequestOfGuard),
        _ if cmd_timeout < 0 || cmd_timeout == 0 && !open.is_for_ever => Some(OpenProblem::ForEver),
        OpenedPorts::Listed(_) | OpenedPorts::Requested => None,
    }
}
