//! A door: what opens it, for whom, and what to run.

pub mod digest;
pub mod knock;
pub mod lock;
pub mod misfit;
pub mod open;
pub mod otp;
pub mod ports;
pub mod rules;
pub mod seed;
pub mod sequence;
pub mod spa;
pub mod spent;
pub mod tries;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::knock::{FlagRule, Flags, Knock, PacketRule, Protocol};
use crate::door::lock::{Lock, Turn};
use crate::door::open::Open;
use crate::door::rules::{MAX_COMMANDS_OF_DOOR, OpenRate, Rate, Rules};
use crate::door::sequence::Stage;
use crate::time::Now;

/// The longest command that is run, in bytes, after `%IP%` was replaced (as in knockd 0.8).
pub const MAX_COMMAND: usize = 4095;

/// Spends the list that opened the door at `place` at all other sections with its name and the same one-time
/// passwords. The door itself spends it by [`Lock::spend`].
pub fn spend_at_namesakes(doors: &mut [Door], place: usize, turn: Turn, knocker: IpAddr, now: Now) {
    let Some(door) = doors.get(place) else { return };
    let Lock::Otp(lock) = &door.lock else { return };
    let (name, identity) = (door.name.clone(), lock.otp.identity());
    let is_other = |(other, door): &(usize, &mut Door)| *other != place && door.name == name;
    for (_, door) in doors.iter_mut().enumerate().filter(is_other) {
        if matches!(&door.lock, Lock::Otp(it) if it.otp.identity() == identity) {
            door.lock.spend(turn, knocker, now);
        }
    }
}

/// A named section of the configuration: a lock, the rules of knocking, and commands.
#[derive(Clone, Debug)]
pub struct Door {
    /// The section's name, as the log shows it.
    pub name: Arc<str>,
    /// Which sequences open it.
    pub lock: Lock,
    /// Seconds that an attempt may take from its first knock; at 0 or less, only a sequence of one
    /// stage can succeed.
    pub seq_timeout: i32,
    /// The TCP flags as `TCPFlags` names them; [`Door::packet_rule`] has those in effect.
    pub flags: FlagRule,
    /// Further rules; doors without any share one value.
    pub rules: Arc<Rules>,
    /// The address that knocks must be sent to, instead of one of this host's.
    pub target: Option<IpAddr>,
    /// The ports that it opens in the kernel's firewall, without a command. Boxed, because few doors have it.
    pub open: Option<Box<Open>>,
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
    /// What happens when the knocker repeats the sequence while the door is open.
    pub reopen: Reopen,
    /// How long a command may run before it is killed.
    pub command_timeout: Option<Duration>,
}

/// What happens when a knocker completes the sequence of a door that is already open for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reopen {
    /// Run the start command again, and later one more stop command.
    #[default]
    Run,
    /// Restart the time until the stop command.
    Extend,
    /// Do nothing.
    Ignore,
}

impl Reopen {
    /// Reads `run`, `extend` or `ignore`, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Reopen> {
        [("run", Reopen::Run), ("extend", Reopen::Extend), ("ignore", Reopen::Ignore)]
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|(_, reopen)| reopen)
    }
}

impl Door {
    /// The door's requirements for a packet besides its port.
    #[must_use]
    pub fn packet_rule(&self) -> PacketRule {
        PacketRule { flags: self.flag_rule(), udp_length: self.rules.udp_length, is_single_packet: false }
    }

    /// The TCP flags that a knock must have. On a strict door that names none, or only SYN, that is SYN
    /// without ACK: segments that could advance an attempt without ever failing one would let a scan
    /// with SYN+ACK or FIN segments open the door.
    fn flag_rule(&self) -> FlagRule {
        let names_nothing_but_syn =
            self.flags.clear == Flags::NONE && self.flags.set.without(Flags::SYN) == Flags::NONE;
        if self.rules.is_strict && names_nothing_but_syn { FlagRule::OPENS_CONNECTION } else { self.flags }
    }

    /// The TCP flags of the segments that fail an attempt at a strict door, on whatever port: those that
    /// open a connection, and those that could be a knock.
    #[must_use]
    pub fn hit_flags(&self) -> [FlagRule; 2] {
        [FlagRule::OPENS_CONNECTION, self.flag_rule()]
    }

    /// Whether this packet, which is not the next stage, fails an attempt under the strict rule. Doors
    /// without an ICMP stage ignore pings.
    #[must_use]
    pub fn fails_strict(&self, knock: &Knock) -> bool {
        let is_hit = || match knock.protocol {
            Protocol::Udp => true,
            Protocol::Icmp => self.lock.has_echo(),
            Protocol::Tcp => self.hit_flags().iter().any(|rule| rule.allows(knock.flags)),
        };
        self.rules.is_strict && is_hit() && !self.rules.strict_except.contains(&Stage::of(knock))
    }

    /// Whether a single knock opens it. Strangers can then open it, with packets from forged sources.
    #[must_use]
    pub fn opens_with_one_knock(&self) -> bool {
        self.lock.is_one_knock()
    }

    /// How many of its start commands may run at once; 0 is no limit.
    #[must_use]
    pub fn max_commands(&self) -> u16 {
        self.rules.max_commands.unwrap_or(MAX_COMMANDS_OF_DOOR)
    }

    /// How often it may open; `None` is no limit.
    #[must_use]
    pub fn open_rate(&self) -> Option<Rate> {
        match self.rules.open_rate {
            OpenRate::ByLength => self.opens_with_one_knock().then_some(Rate::OF_ONE_KNOCK),
            OpenRate::Unlimited => None,
            OpenRate::AtMost(rate) => Some(rate),
        }
    }

    /// How long an attempt may take.
    #[must_use]
    pub fn seq_timeout(&self) -> Duration {
        seconds(self.seq_timeout)
    }

    /// `cmd_timeout` in seconds, 0 if negative: the default for single packets that name no duration.
    #[must_use]
    pub fn cmd_timeout_seconds(&self) -> u32 {
        u32::try_from(self.cmd_timeout).unwrap_or(0)
    }

    /// How long the door stays open.
    #[must_use]
    pub fn cmd_timeout(&self) -> Duration {
        seconds(self.cmd_timeout)
    }

    /// Whether the door accepts knocks sent to `destination`; `own` says whether that address is one
    /// of this host's.
    #[must_use]
    pub fn accepts_destination(&self, destination: IpAddr, own: bool) -> bool {
        self.target.map_or(own, |target| target == destination)
    }

    /// The start command for a knocker of this address family; `None` also if it is empty.
    #[must_use]
    pub fn start_for(&self, knocker: IpAddr) -> Option<&Template> {
        for_family(knocker, self.start.as_ref(), self.start6.as_ref()).filter(|template| !template.is_empty())
    }

    /// Whether some knocker can make it run a start command: it has one, and has sequences left.
    #[must_use]
    pub fn can_start_command(&self) -> bool {
        let is_exhausted = matches!(&self.lock, Lock::OneTime(lines) if lines.first().is_none());
        let commands = self.start.iter().chain(&self.start6);
        !is_exhausted && commands.into_iter().any(|template| !template.is_empty())
    }

    /// The stop command for a knocker of this address family. An empty one counts: it still has its time and
    /// its log lines.
    #[must_use]
    pub fn stop_for(&self, knocker: IpAddr) -> Option<&Template> {
        for_family(knocker, self.stop.as_ref(), self.stop6.as_ref())
    }
}

fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

fn for_family<'a>(
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

    /// The command as it stands in the configuration.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the command is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The command with each `%IP%` (upper case only) replaced by the knocker's address.
    ///
    /// # Errors
    /// [`TooLong`] beyond [`MAX_COMMAND`] bytes.
    pub fn fill(&self, knocker: IpAddr) -> Result<Vec<u8>, TooLong> {
        const PLACEHOLDER: &[u8] = b"%IP%";
        let address = knocker.to_string();
        let mut filled = Vec::with_capacity(self.0.len() + address.len());
        let mut rest = &*self.0;
        while let Some(byte) = rest.first() {
            if let Some(after) = rest.strip_prefix(PLACEHOLDER) {
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
