//! Generates a door: random ports or fresh keys, as text for both ends. Writes nothing to disk.
//!
//! The caller supplies the random numbers, the ports in use, and the firewall that protects the port behind
//! the door.

pub mod code;
pub mod ports;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::door::seed::{SEED_BYTES, new_seed};
use crate::new_door::ports::RandomSource;

/// The period of one-time lists, in seconds.
const OTP_PERIOD: u16 = 60;
/// The delay between knocks in ms, so that the network does not reorder them.
const KNOCK_DELAY_MS: u16 = 20;
/// The longest name of a door, in bytes.
const MAX_NAME: usize = 100;
/// Give up after this many guessable seeds.
const MAX_SEED_ATTEMPTS: usize = 100;
/// The placeholder for an unknown host.
const HOST_PLACEHOLDER: &str = "SERVER";

/// The kind of lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockKind {
    /// A sequence of ports.
    #[default]
    Sequence,
    /// One-time passwords.
    Otp,
    /// Single packets.
    Spa,
}

/// The firewall that closes the port behind the door to everyone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// The guard or the sets that the configuration has already.
    Configured,
    /// The guard, to be switched on.
    Guard(OtherFirewall),
    /// Sets in the user's own rules; this is the value of `Nft_Set`.
    Sets(&'static str),
    /// The helper script, for kernels without nftables.
    Script,
}

/// Another firewall next to the guard, which must also let the port through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherFirewall {
    /// None that we recognise.
    Unknown,
    /// ufw is active.
    Ufw,
    /// firewalld is running.
    Firewalld,
}

/// The user's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDoorRequest {
    /// The door's name.
    pub name: String,
    /// The kind of lock.
    pub kind: LockKind,
    /// The server's name or address as clients know it.
    pub host: Option<String>,
    /// The TCP port behind the door.
    pub port: u16,
    /// The URL of `knock.html`, for a door that is opened from a browser.
    pub page: Option<String>,
}

/// A door for both ends. It has no `Debug`: it contains secrets.
pub struct NewDoor {
    /// The section for `knockd.conf`.
    pub section: Zeroizing<String>,
    /// The client's file, relative to the home folder.
    pub client_file: &'static str,
    /// The text for the client's file.
    pub profile: Zeroizing<String>,
    /// The client's command line.
    pub command: String,
    /// The text of the QR code.
    pub code: Zeroizing<String>,
    /// The URL that makes the page knock at this door.
    pub link: Option<Zeroizing<String>>,
}

impl NewDoorRequest {
    /// Checks the request against the existing doors.
    ///
    /// # Errors
    /// The first thing wrong with the request, as a sentence for the user.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        let name = &self.name;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || name.starts_with('-') || !name.chars().all(is_allowed)
        {
            return Err(format!(
                "'{name}' cannot be the name of a door here: use up to {MAX_NAME} letters, digits, dots, \
                 hyphens and underscores"
            ));
        }
        // Names of sections in knockd.conf and ~/.fwknoprc that are neither doors nor servers.
        if ["options", "default"].contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("'{name}' cannot be the name of a door: [{name}] has the settings for all"));
        }
        if config.doors.iter().any(|door| door.name.eq_ignore_ascii_case(name)) {
            return Err(format!("the configuration has a door '{name}' already"));
        }
        let is_host_character = |c: char| c.is_alphanumeric() || ".-_:%".contains(c);
        if let Some(host) =
            self.host.as_ref().filter(|it| it.is_empty() || !it.chars().all(is_host_character))
        {
            return Err(format!("--host: '{host}' is not a host name or an IP address"));
        }
        if self.kind == LockKind::Spa && self.page.is_some() {
            return Err("--web: a browser cannot send single packets; use a sequence or --otp".to_owned());
        }
        Ok(())
    }

    /// Generates the door. Its knocks use none of the ports in `taken`.
    ///
    /// # Errors
    /// The random source fails, or too few ports are free.
    pub fn generate(
        &self,
        firewall: &Firewall,
        taken: &[u16],
        random: RandomSource<'_>,
    ) -> Result<NewDoor, String> {
        let (lock, knock, link) = match self.kind {
            LockKind::Sequence => self.sequence(taken, random)?,
            LockKind::Otp => self.otp(taken, random)?,
            LockKind::Spa => return self.single_packet(firewall, random),
        };
        let host = self.host();
        let profile =
            Zeroizing::new(format!("[{}]\nhost = {host}\n{}delay = {KNOCK_DELAY_MS}\n", self.name, *knock));
        let link = self.page.as_ref().map(|page| {
            let host = host.replace('%', "%25");
            Zeroizing::new(format!("{page}#name={}&host={host}{}", self.name, *link))
        });
        Ok(NewDoor {
            section: self.section(firewall, &format!("{}    TCPFlags = syn\n    Strict = yes\n", *lock)),
            client_file: ".config/knock.conf",
            code: profile.clone(),
            profile: self.with_comment(&profile),
            command: format!("knock {} --wait {}", self.name, self.port),
            link,
        })
    }

    fn sequence(&self, taken: &[u16], random: RandomSource<'_>) -> Result<LockLines, String> {
        let sequence = ports::sequence(self.page.is_some(), taken, random)?;
        Ok((
            Zeroizing::new(format!("    Sequence = {}\n", *sequence)),
            Zeroizing::new(format!("sequence = {}\n", *sequence)),
            Zeroizing::new(format!("&sequence={}", *sequence)),
        ))
    }

    fn otp(&self, taken: &[u16], random: RandomSource<'_>) -> Result<LockLines, String> {
        let base = ports::otp_base(taken, random)?;
        let seed = seed(random)?;
        let protocols = if self.page.is_some() { "tcp,tcp,tcp,tcp,tcp" } else { "tcp,udp,tcp,udp,tcp" };
        let otp = Zeroizing::new(format!("{},{OTP_PERIOD},{base},off,{protocols}", *seed));
        Ok((
            Zeroizing::new(format!("    OTP = {}\n    OTP_Digest = sha256\n", *otp)),
            Zeroizing::new(format!("otp = {}\notp_digest = sha256\n", *otp)),
            Zeroizing::new(format!("&otp={}&otp_digest=sha256", *otp)),
        ))
    }

    fn single_packet(&self, firewall: &Firewall, random: RandomSource<'_>) -> Result<NewDoor, String> {
        let (key, hmac_key) = (key(32, random)?, key(64, random)?);
        let lock = Zeroizing::new(format!(
            "    SPA_Key_Base64 = {}\n    SPA_HMAC_Key_Base64 = {}\n    SPA_Open = tcp/{}\n",
            *key, *hmac_key, self.port
        ));
        let profile = Zeroizing::new(format!(
            "[{}]\nSPA_SERVER {}\nACCESS tcp/{}\nALLOW_IP source\nKEY_BASE64 {}\nUSE_HMAC Y\nHMAC_KEY_BASE64 {}\n",
            self.name,
            self.host(),
            self.port,
            *key,
            *hmac_key
        ));
        Ok(NewDoor {
            section: self.section(firewall, &lock),
            client_file: ".fwknoprc",
            profile: self.with_comment(&profile),
            command: format!("knock -n {} --wait {}", self.name, self.port),
            code: Zeroizing::new(format!("KEY_BASE64:{} HMAC_KEY_BASE64:{}", *key, *hmac_key)),
            link: None,
        })
    }

    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or(HOST_PLACEHOLDER)
    }

    /// The profile; if the host is unknown, preceded by a comment that asks for it.
    fn with_comment(&self, profile: &str) -> Zeroizing<String> {
        let comment = "# Replace SERVER by the name or address of the server.\n";
        Zeroizing::new(if self.host.is_some() { profile.to_owned() } else { format!("{comment}{profile}") })
    }

    fn section(&self, firewall: &Firewall, lock: &str) -> Zeroizing<String> {
        let (name, port) = (&self.name, self.port);
        let options = match firewall {
            Firewall::Configured => String::new(),
            Firewall::Guard(other_firewall) => {
                let comment = match other_firewall {
                    OtherFirewall::Unknown => {
                        "If there is another firewall, it has to let them through.".to_owned()
                    }
                    OtherFirewall::Ufw => format!("ufw has to let them through: ufw allow {port}/tcp"),
                    OtherFirewall::Firewalld => format!(
                        "firewalld has to let\n    # them through: firewall-cmd --permanent --add-port={port}/tcp; \
                         firewall-cmd --reload"
                    ),
                };
                format!(
                    "[options]\n    # Closes the ports of all doors that have Open. {comment}\n    Guard = yes\n\n"
                )
            }
            Firewall::Sets(sets) => format!("[options]\n    Nft_Set = {sets}\n\n"),
            Firewall::Script => {
                format!(
                    "# The firewall has to drop new connections to port {port}, and to accept established ones.\n"
                )
            }
        };
        let open = match firewall {
            Firewall::Script => format!(
                "    Start_Command = /usr/sbin/knock_helper.sh -i -f %IP% -d {port}\n    \
                 Stop_Command = /usr/sbin/knock_helper.sh -x -f %IP% -d {port}\n"
            ),
            _ => format!("    Open = tcp/{port}\n"),
        };
        Zeroizing::new(format!("{options}[{name}]\n{lock}{open}    Cmd_Timeout = 60\n    Reopen = extend\n"))
    }
}

/// The lines for the server, the lines for the client, and the end of the URL's fragment.
type LockLines = (Zeroizing<String>, Zeroizing<String>, Zeroizing<String>);

/// Generates a seed that is hard to guess.
fn seed(random: RandomSource<'_>) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new([0; SEED_BYTES]);
    for _ in 0..MAX_SEED_ATTEMPTS {
        random(&mut *bytes)?;
        if let Some(seed) = new_seed(&bytes) {
            return Ok(seed);
        }
    }
    Err("the random numbers are not random".to_owned())
}

/// Generates a key of `length` random bytes, in base64.
fn key(length: usize, random: RandomSource<'_>) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    random(&mut bytes)?;
    Ok(Zeroizing::new(BASE64_STANDARD.encode(&*bytes)))
}
