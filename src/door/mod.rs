//! A door: what opens it, for whom, and what to run.

pub mod knock;
pub mod lock;
pub mod otp;
pub mod rules;
pub mod sequence;
pub mod spent;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::knock::{FlagRule, PacketRule};
use crate::door::lock::Lock;
use crate::door::rules::Rules;

/// The longest command that is run, in bytes, after `%IP%` was replaced (as in knockd 0.8).
pub const MAX_COMMAND: usize = 4095;

/// A named section of the configuration: a lock, the rules of knocking, and commands.
#[derive(Clone, Debug)]
pub struct Door {
    /// The section's name, as the log shows it.
    pub name: Arc<str>,
    /// Which sequences open it.
    pub lock: Lock,
    /// Seconds from the first knock of an attempt to its end; nothing but a single knock can
    /// succeed in 0 or less.
    pub seq_timeout: i32,
    /// Which TCP segments are knocks.
    pub flags: FlagRule,
    /// What it asks beyond that; shared by the doors that say nothing of their own.
    pub rules: Arc<Rules>,
    /// Knocks are for this address instead of one of our own.
    pub target: Option<IpAddr>,
    /// Run when the door opens.
    pub start: Option<Template>,
    /// Run instead of `start` for an IPv6 knocker.
    pub start6: Option<Template>,
    /// Run when the door closes.
    pub stop: Option<Template>,
    /// Run instead of `stop` for an IPv6 knocker.
    pub stop6: Option<Template>,
    /// Seconds from the end of the start command to the stop command.
    pub cmd_timeout: i32,
    /// What a knock does while the door is open for the knocker.
    pub reopen: Reopen,
    /// How long a command may take; it is killed then.
    pub command_timeout: Option<Duration>,
}

/// What a knock on a door does that is open for the knocker already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reopen {
    /// The start command is run again, and a stop command of its own follows.
    #[default]
    Run,
    /// The time until the stop command begins anew.
    Extend,
    /// Nothing.
    Ignore,
}

impl Reopen {
    /// What this word means, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Reopen> {
        [("run", Reopen::Run), ("extend", Reopen::Extend), ("ignore", Reopen::Ignore)]
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|(_, reopen)| reopen)
    }
}

impl Door {
    /// Which packets are knocks, beyond their port.
    #[must_use]
    pub fn packet_rule(&self) -> PacketRule {
        PacketRule { flags: self.flags, udp_length: self.rules.udp_length }
    }

    /// How long an attempt may take.
    #[must_use]
    pub fn seq_timeout(&self) -> Duration {
        seconds(self.seq_timeout)
    }

    /// How long the door stays open.
    #[must_use]
    pub fn cmd_timeout(&self) -> Duration {
        seconds(self.cmd_timeout)
    }

    /// Whether a knock at `destination` is meant for this door; `own` tells whether that address is
    /// one of ours.
    #[must_use]
    pub fn is_meant(&self, destination: IpAddr, own: bool) -> bool {
        self.target.map_or(own, |target| target == destination)
    }

    /// The start command for a knocker of this family; an empty one is none.
    #[must_use]
    pub fn start_for(&self, knocker: IpAddr) -> Option<&Template> {
        pick(knocker, self.start.as_ref(), self.start6.as_ref()).filter(|template| !template.is_empty())
    }

    /// The stop command for a knocker of this family. An empty one counts: it takes its time and
    /// its lines in the log.
    #[must_use]
    pub fn stop_for(&self, knocker: IpAddr) -> Option<&Template> {
        pick(knocker, self.stop.as_ref(), self.stop6.as_ref())
    }
}

fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

fn pick<'a>(
    knocker: IpAddr,
    plain: Option<&'a Template>,
    for_v6: Option<&'a Template>,
) -> Option<&'a Template> {
    match knocker {
        IpAddr::V4(_) => plain,
        IpAddr::V6(_) => for_v6.or(plain),
    }
}

/// A command with `%IP%` in it, as bytes: a configuration need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[u8]>);

/// A command that grew beyond [`MAX_COMMAND`] bytes when `%IP%` was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Template {
    /// A command as it stands in the configuration.
    #[must_use]
    pub fn new(text: &[u8]) -> Template {
        Template(text.into())
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The command for this knocker: every `%IP%`, in this case only, becomes its address.
    ///
    /// # Errors
    /// [`TooLong`] beyond [`MAX_COMMAND`] bytes.
    pub fn fill(&self, knocker: IpAddr) -> Result<Vec<u8>, TooLong> {
        const MARK: &[u8] = b"%IP%";
        let address = knocker.to_string();
        let mut filled = Vec::with_capacity(self.0.len() + address.len());
        let mut rest = &*self.0;
        while let Some(byte) = rest.first() {
            if let Some(after) = rest.strip_prefix(MARK) {
                filled.extend_from_slice(address.as_bytes());
                rest = after;
            } else {
                filled.push(*byte);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
        if filled.len() > MAX_COMMAND { Err(TooLong) } else { Ok(filled) }
    }
}
