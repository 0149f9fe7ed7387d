//! The directives that add rules: each may stand in a door, or in `[options]` for all doors.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::Problem;
use crate::config::directives::yes_or_no;
use crate::door::knock::Protocol;
use crate::door::rules::{Prefixes, Repeat, Rules};
use crate::door::sequence::Stage;

/// What a section says of rules; nothing where it is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesDraft {
    strict: Option<bool>,
    strict_except: Option<Vec<Stage>>,
    allow_duplicates: Option<bool>,
    allow: Option<Prefixes>,
    deny: Option<Prefixes>,
    cooldown: Option<Duration>,
    udp_length: Option<(u16, u16)>,
    repeat: Option<Repeat>,
    log_failures: Option<bool>,
}

impl RulesDraft {
    /// The same and, where it is silent, what is said for all doors.
    #[must_use]
    pub fn or(self, all: &RulesDraft) -> RulesDraft {
        RulesDraft {
            strict: self.strict.or(all.strict),
            strict_except: self.strict_except.or_else(|| all.strict_except.clone()),
            allow_duplicates: self.allow_duplicates.or(all.allow_duplicates),
            allow: self.allow.or_else(|| all.allow.clone()),
            deny: self.deny.or_else(|| all.deny.clone()),
            cooldown: self.cooldown.or(all.cooldown),
            udp_length: self.udp_length.or(all.udp_length),
            repeat: self.repeat.or(all.repeat),
            log_failures: self.log_failures.or(all.log_failures),
        }
    }
}

impl From<RulesDraft> for Rules {
    /// What is not said is not asked for.
    fn from(draft: RulesDraft) -> Rules {
        Rules {
            is_strict: draft.strict.unwrap_or(false),
            strict_except: draft.strict_except.unwrap_or_default(),
            allows_duplicates: draft.allow_duplicates.unwrap_or(false),
            allow: draft.allow,
            deny: draft.deny.unwrap_or_default(),
            cooldown: draft.cooldown.unwrap_or_default(),
            udp_length: draft.udp_length,
            repeat: draft.repeat,
            logs_failures: draft.log_failures.unwrap_or(false),
        }
    }
}

/// Reads the value of a rule.
pub type ReadRule = fn(&mut RulesDraft, &str) -> Result<(), Problem>;

pub(super) fn strict(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    draft.strict = Some(yes_or_no("strict", value)?);
    Ok(())
}

pub(super) fn strict_except(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    let service = |item: &str| {
        let (protocol, port) = item.trim().split_once('/')?;
        Some(Stage { protocol: Protocol::from_word(protocol)?, port: port.parse().ok()? })
    };
    let services: Option<Vec<Stage>> = value.split(',').map(service).collect();
    draft.strict_except = Some(
        services
            .ok_or_else(|| wrong("strict_except", value, "a list of services such as tcp/443, udp/443"))?,
    );
    Ok(())
}

pub(super) fn allow_duplicates(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    draft.allow_duplicates = Some(yes_or_no("allow_duplicates", value)?);
    Ok(())
}

pub(super) fn allow(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    draft.allow = Some(prefixes("allow", value)?);
    Ok(())
}

pub(super) fn deny(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    draft.deny = Some(prefixes("deny", value)?);
    Ok(())
}

pub(super) fn cooldown(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    let seconds: Option<u32> = value.parse().ok();
    let seconds = seconds.ok_or_else(|| wrong("cooldown", value, "a number of seconds"))?;
    draft.cooldown = Some(Duration::from_secs(seconds.into()));
    Ok(())
}

pub(super) fn udp_length(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    let (least, most) = value.split_once('-').unwrap_or((value, value));
    let range = least.trim().parse().ok().zip(most.trim().parse().ok());
    let range = range.filter(|(least, most): &(u16, u16)| least <= most);
    draft.udp_length = Some(range.ok_or_else(|| {
        wrong("udp_length", value, "a number of payload bytes, or two of them joined by '-'")
    })?);
    Ok(())
}

pub(super) fn repeat(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    let parts: Vec<&str> = value.split_ascii_whitespace().collect();
    let repeat = match parts.as_slice() {
        [times, word, seconds] if word.eq_ignore_ascii_case("in") => {
            times.parse().ok().zip(seconds.parse().ok())
        }
        _ => None,
    };
    let repeat = repeat.filter(|(times, seconds): &(u8, u32)| *times > 0 && *seconds > 0);
    let (times, seconds) =
        repeat.ok_or_else(|| wrong("repeat", value, "how often within how many seconds, such as 3 in 20"))?;
    draft.repeat = Some(Repeat { times, within: Duration::from_secs(seconds.into()) });
    Ok(())
}

pub(super) fn log_failures(draft: &mut RulesDraft, value: &str) -> Result<(), Problem> {
    draft.log_failures = Some(yes_or_no("log_failures", value)?);
    Ok(())
}

fn prefixes(name: &'static str, value: &str) -> Result<Prefixes, Problem> {
    let prefix = |item: &str| -> Option<IpNet> {
        let item = item.trim();
        item.parse().ok().or_else(|| item.parse::<IpAddr>().map(IpNet::from).ok())
    };
    let prefixes: Option<Vec<IpNet>> = value.split(',').map(prefix).collect();
    let prefixes = prefixes
        .ok_or_else(|| wrong(name, value, "a list of prefixes such as 192.0.2.0/24, 2001:db8::/32"))?;
    Ok(Prefixes::new(&prefixes))
}

fn wrong(name: &'static str, value: &str, wanted: &'static str) -> Problem {
    Problem::Value(name, value.to_owned(), wanted)
}
