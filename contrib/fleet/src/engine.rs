//! Connections to the engine, and the commands: the ten that the ACL of knockd-fleet(8) allows.

use std::net::ToSocketAddrs;
use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, Value, cmd,
};

use crate::shared::Shared;

/// How long a connection may take, to each address.
const CONNECT: Duration = Duration::from_secs(1);
/// How many openings the log keeps, about.
const LOG: u32 = 10_000;
/// How many signs of life are kept, about.
const BEATS: u32 = 256;
/// How many knocks are kept, about: they are of use for moments.
const KNOCKS: u32 = 4_096;
/// How many records are read at once.
const BATCH: u32 = 500;

/// The place of a record in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64, pub u64);

impl Place {
    /// Reads `MILLISECONDS-NUMBER`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Place> {
        let (time, number) = text.trim().split_once('-')?;
        Some(Place(time.parse().ok()?, number.parse().ok()?))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// The streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Openings.
    Log,
    /// Signs of life.
    Beats,
    /// Knocks.
    Knocks,
}

/// All of them, in the order of what [`Engine::wait`] takes and returns.
pub const STREAMS: [Stream; 3] = [Stream::Log, Stream::Beats, Stream::Knocks];

impl Stream {
    /// Its name, and how many records it keeps, about.
    fn kept(self) -> (&'static str, u32) {
        match self {
            Stream::Log => ("log", LOG),
            Stream::Beats => ("beats", BEATS),
            Stream::Knocks => ("knocks", KNOCKS),
        }
    }
}

/// What stands in a stream: its place, and the bytes of the record.
pub type Entry = (Place, Vec<u8>);

/// A connection of one thread.
pub struct Engine {
    connection: Connection,
    prefix: String,
}

impl Engine {
    /// Connects, with a try at every address of the name. Each command may take as long as `patience`.
    ///
    /// # Errors
    /// What the last address said.
    pub fn connect(shared: &Shared, patience: Duration) -> RedisResult<Engine> {
        let info = shared.config.engine.as_str().into_connection_info()?;
        let mut settings =
            info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        if let Some(password) = &shared.password {
            settings = settings.set_password(password);
        }
        let addresses: Vec<ConnectionAddr> = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.as_str(), *port)
                .to_socket_addrs()?
                .map(|address| ConnectionAddr::Tcp(address.ip().to_string(), address.port()))
                .collect(),
            other => vec![other.clone()],
        };
        let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "the name has no address"));
        for address in addresses {
            let info = info.clone().set_addr(address).set_redis_settings(settings.clone());
            let connection =
                Client::open(info)?.get_connection_with_timeout(CONNECT).and_then(|connection| {
                    connection.set_read_timeout(Some(patience))?;
                    connection.set_write_timeout(Some(patience))?;
                    Ok(connection)
                });
            match connection {
                Ok(connection) => {
                    let prefix = format!("knockd:{}:", shared.config.fleet);
                    return Ok(Engine { connection, prefix });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        command.query(&mut self.connection)
    }

    /// The engine's time, in microseconds since 1970.
    ///
    /// # Errors
    /// As for all commands: what the engine says, or that it says nothing.
    pub fn time(&mut self) -> RedisResult<u64> {
        let (seconds, micros): (u64, u64) = cmd("TIME").query(&mut self.connection)?;
        Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
    }

    /// Notes that something is used up. Returns whether it was not before, but by the same user.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn spend(&mut self, name: [u8; 16], user: &str, seconds: u64) -> RedisResult<bool> {
        let key = self.key(&format!("spent:{:032x}", u128::from_be_bytes(name)));
        let mut set = cmd("SET");
        set.arg(&key).arg(user).arg("NX").arg("EX").arg(seconds.max(1));
        if self.ask(&set)? != Value::Nil {
            return Ok(true);
        }
        // An answer may have been lost: then it was this same question that used it up.
        let before: Option<String> = cmd("GET").arg(&key).query(&mut self.connection)?;
        Ok(before.as_deref() == Some(user))
    }

    /// Whether the engine has its data.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn has_epoch(&mut self) -> RedisResult<bool> {
        let key = self.key("epoch");
        Ok(self.ask(cmd("GET").arg(&key))? != Value::Nil)
    }

    /// Notes that the engine has its data.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn begin_epoch(&mut self, session: u64) -> RedisResult<()> {
        let key = self.key("epoch");
        self.ask(cmd("SET").arg(&key).arg(session).arg("NX")).map(drop)
    }

    /// Writes a record to a stream.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn write(&mut self, stream: Stream, record: &[u8]) -> RedisResult<()> {
        let (name, most) = stream.kept();
        let mut add = cmd("XADD");
        add.arg(self.key(name)).arg("MAXLEN").arg("~").arg(most).arg("*").arg("r").arg(record);
        self.ask(&add).map(drop)
    }

    /// What stands in a stream behind a place, some of it.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn range(&mut self, stream: Stream, after: Option<Place>) -> RedisResult<Vec<Entry>> {
        let key = self.key(stream.kept().0);
        let from = after.map_or("-".to_owned(), |place| format!("({place}"));
        let mut range = cmd("XRANGE");
        range.arg(&key).arg(from).arg("+").arg("COUNT").arg(BATCH);
        let value = self.ask(&range)?;
        Ok(entries(&value))
    }

    /// Waits for what comes behind these places of all [`STREAMS`].
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn wait(&mut self, after: [Place; 3], time: Duration) -> RedisResult<[Vec<Entry>; 3]> {
        let keys = STREAMS.map(|stream| self.key(stream.kept().0));
        let mut read = cmd("XREAD");
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        read.arg("COUNT").arg(BATCH).arg("BLOCK").arg(time).arg("STREAMS");
        read.arg(keys.as_slice()).arg(after.map(|place| place.to_string()).as_slice());
        let mut all = [const { Vec::new() }; 3];
        if let Value::Array(streams) = self.ask(&read)? {
            for stream in streams {
                let Value::Array(parts) = stream else { continue };
                let [name, records] = parts.as_slice() else { continue };
                let its = keys.iter().zip(&mut all).find(|(key, _)| bytes(name) == Some(key.as_bytes()));
                if let Some((_, part)) = its {
                    part.extend(entries(records));
                }
            }
        }
        Ok(all)
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// The entries of a stream. One without the field `r` counts as an empty record.
fn entries(value: &Value) -> Vec<Entry> {
    let Value::Array(all) = value else { return Vec::new() };
    let entry = |value: &Value| {
        let Value::Array(parts) = value else { return None };
        let [place, fields] = parts.as_slice() else { return None };
        let place = Place::parse(std::str::from_utf8(bytes(place)?).ok()?)?;
        let record = match fields {
            Value::Array(fields) => match fields.as_slice() {
                [name, record, ..] if bytes(name) == Some(b"r") => bytes(record).unwrap_or_default().to_vec(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Some((place, record))
    };
    all.iter().filter_map(entry).collect()
}
