//! The single-packet directives of a door, and the lock built from them.

use crate::door::digest::Digest;
use crate::door::spa::request::{RequestablePorts, SpaLock, Terms};
use crate::door::spa::sealed::Keys;
use crate::door::spa::{DEFAULT_MAX_AGE, DEFAULT_PORT};

use zeroize::Zeroizing;

type Key = Zeroizing<Vec<u8>>;

/// The single-packet directives of a door while its section is parsed.
#[derive(Default)]
pub(super) struct SpaDraft {
    pub(super) file: Option<Vec<Terms>>,
    pub(super) port: Option<u16>,
    pub(super) max_age: Option<u32>,
    pub(super) own: OwnTerms,
}

/// The terms given in the configuration itself rather than in an access.conf.
#[derive(Default)]
pub(super) struct OwnTerms {
    pub(super) is_begun: bool,
    pub(super) key: Option<Key>,
    pub(super) hmac_key: Option<Key>,
    pub(super) digest: Option<Digest>,
    pub(super) open: Option<RequestablePorts>,
    pub(super) users: Option<Vec<String>>,
    pub(super) requires_source: bool,
    pub(super) max_timeout: Option<u32>,
}

impl SpaDraft {
    /// Builds the lock.
    ///
    /// # Errors
    /// A directive is missing, or does not go together with a file.
    pub(super) fn finish(self) -> Result<SpaLock, String> {
        let SpaDraft { file, port, max_age, own } = self;
        let terms = match file {
            Some(_) if own.is_begun => {
                return Err("SPA names a file: beside it stand only SPA_Port and SPA_Max_Age".to_owned());
            }
            Some(terms) => terms,
            None => vec![own.finish()?],
        };
        Ok(SpaLock { port: port.unwrap_or(DEFAULT_PORT), max_age: max_age.unwrap_or(DEFAULT_MAX_AGE), terms })
    }
}

impl OwnTerms {
    fn finish(self) -> Result<Terms, String> {
        let key = self.key.ok_or("there is neither SPA_Key_Base64 nor SPA_Key")?;
        let hmac_key = self.hmac_key.ok_or(
            "there is neither SPA_HMAC_Key_Base64 nor SPA_HMAC_Key, and packets without an HMAC are not taken",
        )?;
        let digest = self.digest.unwrap_or(Digest::Sha256);
        Ok(Terms {
            keys: Keys::new(&key, &hmac_key, digest).map_err(|error| error.to_string())?,
            open: self.open.ok_or("SPA_Open must say what may be asked for, such as tcp/22 or any")?,
            restricted: RequestablePorts::default(),
            users: self.users,
            requires_source: self.requires_source,
            sources: None,
            destinations: None,
            timeout: None,
            max_timeout: self.max_timeout,
            expires: None,
        })
    }
}
