//! Parses knockd-fleet.conf: lines `name = value`, and comment lines that start with `#`.

use std::fmt;
use std::path::PathBuf;

use crate::record::is_name;

/// The minimum length of a key, in bytes.
pub const SHORTEST_KEY: usize = 32;

/// The parsed configuration. [`Default`] is an empty file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `Engine`: its URL, `redis://[user@]host[:port][/db]` or `redis+unix:///path`.
    pub engine: String,
    /// `Password_File`: a file whose first line is the engine's password.
    pub password_file: Option<PathBuf>,
    /// `Fleet`: the name of the fleet.
    pub fleet: String,
    /// `Member`: the name of this member; `None` for the host name.
    pub member: Option<String>,
    /// `Key_File`: a file with the key that all members share.
    pub key_file: PathBuf,
    /// `Socket`: the same path as knockd's `Fleet_Socket`.
    pub socket: PathBuf,
    /// `Status_Socket`: the path of this program's status socket.
    pub status_socket: PathBuf,
    /// `Place_File`: a file that stores how far the log was read.
    pub place_file: PathBuf,
    /// `Doors`: the shared doors; `None` for all.
    pub doors: Option<Vec<String>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            engine: "redis://127.0.0.1:6379".to_owned(),
            password_file: None,
            fleet: "fleet".to_owned(),
            member: None,
            key_file: "/etc/knockd-fleet.key".into(),
            socket: "/run/knockd.fleet".into(),
            status_socket: "/run/knockd-fleet/status".into(),
            place_file: "/run/knockd-fleet/place".into(),
            doors: None,
        }
    }
}

/// An error in the file, and its line number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    line: usize,
    what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// All directives.
const NAMES: [&str; 9] = [
    "Engine",
    "Password_File",
    "Fleet",
    "Member",
    "Key_File",
    "Socket",
    "Status_Socket",
    "Place_File",
    "Doors",
];

impl Config {
    /// Parses a configuration.
    ///
    /// # Errors
    /// The first error in the text.
    pub fn parse(text: &str) -> Result<Config, Problem> {
        let mut config = Config::default();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            config.take(text).map_err(|what| Problem { line, what })?;
        }
        Ok(config)
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("not 'name = value': {text}"))?;
        let (name, value) = (name.trim(), value.trim());
        let known = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name));
        let Some(known) = known else {
            return Err(format!("there is no {name}; there are {}", NAMES.join(", ")));
        };
        if value.is_empty() {
            return Err(format!("{known} needs a value"));
        }
        let named = || {
            let fit = is_name(value).then(|| value.to_owned());
            fit.ok_or_else(|| {
                format!("{known} has at most 32 letters, digits, '.', '-' and '_', not {value:?}")
            })
        };
        match *known {
            "Engine" => {
                if value.split_once("://").is_none_or(|(_, rest)| rest.contains(':') && rest.contains(":@")) {
                    return Err(format!(
                        "{known} is a URL such as redis://user@engine.example:6379, not {value:?}"
                    ));
                }
                if value.split_once('@').is_some_and(|(user, _)| user.matches(':').count() > 1) {
                    return Err("a password belongs in the Password_File, not in the URL".to_owned());
                }
                value.clone_into(&mut self.engine);
            }
            "Password_File" => self.password_file = Some(value.into()),
            "Fleet" => self.fleet = named()?,
            "Member" => self.member = Some(named()?),
            "Key_File" => self.key_file = value.into(),
            "Socket" => self.socket = value.into(),
            "Status_Socket" => self.status_socket = value.into(),
            "Place_File" => self.place_file = value.into(),
            _ if value.eq_ignore_ascii_case("all") => self.doors = None,
            _ => self.doors = Some(value.split(',').map(|door| door.trim().to_owned()).collect()),
        }
        Ok(())
    }

    /// Whether this door is shared.
    #[must_use]
    pub fn shares(&self, door: &str) -> bool {
        self.doors.as_ref().is_none_or(|doors| doors.iter().any(|it| it == door))
    }
}

/// The key in the text of a key file: its first line, trimmed of blanks.
///
/// # Errors
/// A sentence if the key is too short.
pub fn key_of(text: &[u8]) -> Result<&[u8], String> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    if line.len() < SHORTEST_KEY {
        return Err(format!("its first line has {} bytes; make one with: openssl rand -hex 32", line.len()));
    }
    Ok(line)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_directive_is_read() {
        let text = "# a comment\n\n Engine = redis://knockd@engine.example:6380/2\npassword_file=/etc/p\nFLEET = home\n\
                    Member = g1\nKey_File = /k\nSocket = /s\nStatus_Socket = /t\nPlace_File = /p\nDoors = ssh, a door\n";
        let config = Config::parse(text).unwrap();
        let wanted = Config {
            engine: "redis://knockd@engine.example:6380/2".to_owned(),
            password_file: Some("/etc/p".into()),
            fleet: "home".to_owned(),
            member: Some("g1".to_owned()),
            key_file: "/k".into(),
            socket: "/s".into(),
            status_socket: "/t".into(),
            place_file: "/p".into(),
            doors: Some(vec!["ssh".to_owned(), "a door".to_owned()]),
        };
        assert_eq!(config, wanted);
        assert!(config.shares("ssh") && config.shares("a door") && !config.shares("other"));
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert!(Config::default().shares("any"));
        assert!(Config::parse("Doors = all").unwrap().shares("any"));
        assert!(Config::parse("Engine = redis://[2001:db8::1]:6379").is_ok());
        assert!(Config::parse("Engine = redis+unix:///run/redis.sock").is_ok());
    }

    #[test]
    fn errors_name_the_line_and_what_to_write() {
        let error = |text: &str| Config::parse(text).unwrap_err().to_string();
        assert!(error("Fleet = a\nOther = 1").starts_with("line 2: there is no Other; there are Engine, "));
        assert_eq!(error("Fleet"), "line 1: not 'name = value': Fleet");
        assert_eq!(error("Fleet = "), "line 1: Fleet needs a value");
        assert!(error("member = a b").contains("not \"a b\""));
        assert!(error("Engine = engine.example").contains("is a URL"));
        assert_eq!(
            error("Engine = redis://user:secret@host"),
            "line 1: a password belongs in the Password_File, not in the URL"
        );
    }

    #[test]
    fn a_key_is_long_enough() {
        let long = "0123456789abcdef0123456789abcdef";
        assert_eq!(key_of(format!("  {long} \nmore").as_bytes()), Ok(long.as_bytes()));
        assert!(key_of(b"short\n").unwrap_err().contains("5 bytes"));
        assert!(key_of(b"").is_err());
    }
}
