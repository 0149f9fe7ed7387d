//! Parsers of directives that need more than one row of the table: locks, flags, targets, interfaces.
//!
//! Each of them writes its own line of debug output.
#![expect(clippy::unnecessary_wraps, reason = "all parsers in the table share one signature")]

use zeroize::Zeroizing;

use crate::config::draft::Draft;
use crate::config::options::Options;
use crate::config::problem::Problem;
use crate::config::reading::{Note, Reading};
use crate::config::value::Value;
use crate::door::knock::Flags;
use crate::door::lock::{Lock, OneTime, OtpLock};
use crate::door::otp::Otp;
use crate::door::sequence::Sequence;
use crate::door::spent::Spent;
use crate::door::tries::{DEFAULT_TRIES, Tries};
use crate::filter::interfaces::Wanted;
use crate::octets;

type Outcome = Result<(), Problem>;

pub(super) fn interface(options: &mut Options, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    if !reading.interface_is_given {
        options.interface = Wanted::parse(&value.text());
        reading.understood(format!("config: interface: {}", value.text()));
    }
    Ok(())
}

pub(super) fn use_syslog(options: &mut Options, _: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    options.use_syslog = true;
    reading.understood("config: usesyslog".to_owned());
    Ok(())
}

pub(super) fn use_journal(options: &mut Options, _: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    options.use_journal = true;
    reading.understood("config: usejournal".to_owned());
    Ok(())
}

pub(super) fn sequence(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let sequence =
        Sequence::parse(&value.text()).map_err(|error| Problem::Sequence(draft.name.clone(), error))?;
    reading.understood(format!("config: {}: sequence: {sequence}", draft.name));
    set_lock(draft, Lock::Fixed(sequence))
}

/// How many invalid lines of a one-time file are reported one by one.
const NAMED: usize = 5;

pub(super) fn one_time_sequences(
    draft: &mut Draft<'_>,
    value: &Value<'_>,
    reading: &mut Reading<'_>,
) -> Outcome {
    let name = draft.name.clone();
    let file = value.path();
    let content = (reading.file)(&file).map_err(|error| Problem::Unreadable(file.clone(), error))?;
    let content = Zeroizing::new(content);
    reading.understood(format!("config: {name}: one time sequences file: {}", value.text()));
    let mut left_out = 0_usize;
    let lines = OneTime::read(file.clone(), &content, |error| {
        left_out += 1;
        if left_out <= NAMED {
            (reading.note)(Note::LeftOut(Problem::Sequence(name.clone(), error).to_string()));
        }
    });
    if let Some(more) = left_out.checked_sub(NAMED).filter(|more| *more > 0) {
        let text =
            format!("config: section {name}: {more} more lines of {} are no sequences", octets::path(&file));
        (reading.note)(Note::LeftOut(text));
    }
    let Some(sequence) = lines.first() else { return Err(Problem::Exhausted(name, file)) };
    reading.understood(format!("new sequence for door {name}: {sequence}"));
    reading.understood(format!("config: {name}: sequence: {sequence}"));
    set_lock(draft, Lock::OneTime(Box::new(lines)))
}

pub(super) fn otp(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let Some(otp) = Otp::parse(value.bytes()).map_err(|error| Problem::Otp(draft.name.clone(), error))?
    else {
        return Err(Problem::NoSequence(draft.name.clone()));
    };
    // The text of an OTP does not include the seed.
    reading.understood(format!("config: {}: otp: {otp}", draft.name));
    let lock = OtpLock {
        otp,
        spent: Spent::default(),
        is_reusable: false,
        tries: Tries::default(),
        most_tries: DEFAULT_TRIES,
    };
    set_lock(draft, Lock::Otp(Box::new(lock)))
}

/// Sets the lock of a door. The last of several sequences or one-time files applies, as in knockd 0.8;
/// combined with a one-time password they are an error.
fn set_lock(draft: &mut Draft<'_>, lock: Lock) -> Outcome {
    let is_otp = |lock: &Lock| matches!(lock, Lock::Otp(_));
    if draft.lock.as_ref().is_some_and(|before| is_otp(before) != is_otp(&lock)) {
        return Err(Problem::TwoLocks(draft.name.clone()));
    }
    draft.lock = Some(lock);
    Ok(())
}

pub(super) fn seq_timeout(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    draft.seq_timeout = value.atoi();
    reading.understood(format!("config: {}: seq_timeout: {}", draft.name, draft.seq_timeout));
    Ok(())
}

pub(super) fn cmd_timeout(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    draft.cmd_timeout = value.atoi();
    reading.understood(format!("config: {}: cmd_timeout: {}", draft.name, draft.cmd_timeout));
    Ok(())
}

/// The flags of all lines of a door add up. Blanks are not trimmed, so a flag with blanks is unknown.
pub(super) fn tcp_flags(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    for word in value.text().split(',') {
        let shown = word.to_ascii_uppercase();
        let (name, is_negated) = word.strip_prefix('!').map_or((word, false), |name| (name, true));
        let known = [Flags::FIN, Flags::SYN, Flags::RST, Flags::PSH, Flags::ACK, Flags::URG];
        match Flags::from_word(name).filter(|flag| known.contains(flag)) {
            None => return Err(Problem::Flag(shown)),
            Some(flag) if is_negated => draft.flags.forbid(flag),
            Some(flag) => draft.flags.require(flag),
        }
        reading.understood(format!("config: tcp flag: {shown}"));
    }
    Ok(())
}

pub(super) fn target(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let text = value.text();
    reading.understood(format!("config: {}: target: {text}", draft.name));
    draft.target = Some(text.parse().map_err(|_| Problem::Target(text.into_owned()))?);
    Ok(())
}
