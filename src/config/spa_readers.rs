//! Parsers of the single-packet directives.
//!
//! Each of them writes its own line of debug output, without keys.
#![expect(clippy::unnecessary_wraps, reason = "all parsers in the table share one signature")]

use zeroize::Zeroizing;

use crate::config::access;
use crate::config::draft::Draft;
use crate::config::fwknop::base64_key;
use crate::config::problem::Problem;
use crate::config::reading::Reading;
use crate::config::spa::{OwnTerms, SpaDraft};
use crate::config::value::Value;
use crate::door::digest::Digest;
use crate::door::spa::fields::is_user;
use crate::door::spa::request::RequestablePorts;

type Outcome = Result<(), Problem>;

/// Writes the debug output and returns the door's single-packet draft, which is created if absent.
fn begin<'d>(
    draft: &'d mut Draft<'_>,
    name: &str,
    shown: &str,
    reading: &mut Reading<'_>,
) -> &'d mut SpaDraft {
    reading.understood(format!("config: {}: {name}: {shown}", draft.name));
    draft.spa.get_or_insert_default()
}

fn begin_own<'d>(
    draft: &'d mut Draft<'_>,
    name: &str,
    shown: &str,
    reading: &mut Reading<'_>,
) -> &'d mut OwnTerms {
    let own = &mut begin(draft, name, shown, reading).own;
    own.is_begun = true;
    own
}

pub(super) fn file(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    begin(draft, "spa", &value.text(), reading);
    let terms = access::read(&value.path(), reading).map_err(Problem::Access)?;
    draft.spa.get_or_insert_default().file = Some(terms);
    Ok(())
}

pub(super) fn port(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let port =
        value.parse("a UDP port from 1 to 65535", |text| text.parse().ok().filter(|&port| port > 0))?;
    begin(draft, "spa_port", &value.text(), reading).port = Some(port);
    Ok(())
}

pub(super) fn max_age(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let most = |text: &str| text.parse().ok().filter(|age| (1..=86_400).contains(age));
    let max_age = value.parse("a number of seconds from 1 to 86400", most)?;
    begin(draft, "spa_max_age", &value.text(), reading).max_age = Some(max_age);
    Ok(())
}

pub(super) fn key(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    begin_own(draft, "spa_key", "(not shown)", reading).key = Some(Zeroizing::new(value.bytes().to_vec()));
    Ok(())
}

pub(super) fn key_base64(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let key = decoded(draft, "SPA_Key_Base64", value)?;
    begin_own(draft, "spa_key_base64", "(not shown)", reading).key = Some(key);
    Ok(())
}

pub(super) fn hmac_key(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let key = Zeroizing::new(value.bytes().to_vec());
    begin_own(draft, "spa_hmac_key", "(not shown)", reading).hmac_key = Some(key);
    Ok(())
}

pub(super) fn hmac_key_base64(
    draft: &mut Draft<'_>,
    value: &Value<'_>,
    reading: &mut Reading<'_>,
) -> Outcome {
    let key = decoded(draft, "SPA_HMAC_Key_Base64", value)?;
    begin_own(draft, "spa_hmac_key_base64", "(not shown)", reading).hmac_key = Some(key);
    Ok(())
}

fn decoded(draft: &Draft<'_>, name: &str, value: &Value<'_>) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let refuse = |problem| Problem::Spa(draft.name.clone(), format!("{name}: {problem}"));
    base64_key(value.bytes()).map_err(refuse)
}

pub(super) fn hmac_digest(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let digest = value.parse("md5, sha1, sha256, sha384 or sha512", Digest::from_word)?;
    begin_own(draft, "spa_hmac_digest", &value.text(), reading).digest = Some(digest);
    Ok(())
}

pub(super) fn open(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let open =
        value.parse("any, or a list of ports such as tcp/22, udp/8000-8010", RequestablePorts::parse)?;
    begin_own(draft, "spa_open", &value.text(), reading).open = Some(open);
    Ok(())
}

pub(super) fn users(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let users = value.parse("a list of users as fwknop names them", |text| {
        text.split(',').map(|user| Some(user.trim().to_owned()).filter(|user| is_user(user))).collect()
    })?;
    begin_own(draft, "spa_user", &value.text(), reading).users = Some(users);
    Ok(())
}

pub(super) fn require_source(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let requires_source = value.yes_or_no()?;
    begin_own(draft, "spa_require_source", &value.text(), reading).requires_source = requires_source;
    Ok(())
}

pub(super) fn max_timeout(draft: &mut Draft<'_>, value: &Value<'_>, reading: &mut Reading<'_>) -> Outcome {
    let most = value.seconds("a number of seconds")?;
    let most = u32::try_from(most.as_secs()).unwrap_or(u32::MAX);
    begin_own(draft, "spa_max_timeout", &value.text(), reading).max_timeout = Some(most);
    Ok(())
}
