//! Connections to the engine, and the ten commands that the ACL in knockd-fleet(8) allows.

use std::net::ToSocketAddrs;
use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, Value, cmd,
};

use crate::shared::Shared;

/// The timeout for connecting to one address.
const CONNECT: Duration = Duration::from_secs(1);
/// The approximate length of the log of openings.
const LOG: u32 = 10_000;
/// The approximate length of the stream of heartbeats.
const BEATS: u32 = 256;
/// The approximate length of the stream of knocks, which are useful only for a moment.
const KNOCKS: u32 = 16_384;
/// How many records are read at once.
const BATCH: u32 = 500;

/// The ID of an entry in a stream: milliseconds and sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64, pub u64);

impl Place {
    /// Parses `MILLISECONDS-NUMBER`.
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
    /// Heartbeats.
    Beats,
    /// Knocks.
    Knocks,
}

/// All streams, in the order of the arguments and results of [`Engine::wait`].
pub const STREAMS: [Stream; 3] = [Stream::Log, Stream::Beats, Stream::Knocks];

impl Stream {
    /// The name of the stream, and its approximate length.
    fn kept(self) -> (&'static str, u32) {
        match self {
            Stream::Log => ("log", LOG),
            Stream::Beats => ("beats", BEATS),
            Stream::Knocks => ("knocks", KNOCKS),
        }
    }
}

/// An entry of a stream: its ID, and the bytes of the record.
pub type Entry = (Place, Vec<u8>);

/// A connection to the engine, used by a single thread.
pub struct Engine {
    connection: Connection,
    prefix: String,
}

impl Engine {
    /// Connects, trying every address of the host name. `patience` is the timeout of each command.
    ///
    /// # Errors
    /// The error of the last address.
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
    /// As for all commands: an error from the engine, or a timeout.
    pub fn time(&mut self) -> RedisResult<u64> {
        let (seconds, micros): (u64, u64) = cmd("TIME").query(&mut self.connection)?;
        Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
    }

    /// Marks a name as used up by `user`. Returns true if it was not used up before, or by the same `user`.
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
        // The reply to an earlier identical question may have been lost, so check whether that one used it
        // up.
        let before: Option<String> = cmd("GET").arg(&key).query(&mut self.connection)?;
        Ok(before.as_deref() == Some(user))
    }

    /// Whether the engine still has its data.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn has_epoch(&mut self) -> RedisResult<bool> {
        let key = self.key("epoch");
        Ok(self.ask(cmd("GET").arg(&key))? != Value::Nil)
    }

    /// Marks the engine as having its data.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn begin_epoch(&mut self, session: u64) -> RedisResult<()> {
        let key = self.key("epoch");
        self.ask(cmd("SET").arg(&key).arg(session).arg("NX")).map(drop)
    }

    /// Appends a record to a stream.
    ///
    /// # Errors
    /// See [`Engine::time`].
    pub fn write(&mut self, stream: Stream, record: &[u8]) -> RedisResult<()> {
        let (name, most) = stream.kept();
        let mut add = cmd("XADD");
        add.arg(self.key(name)).arg("MAXLEN").arg("~").arg(most).arg("*").arg("r").arg(record);
        self.ask(&add).map(drop)
    }

    /// The next entries of a stream after a place, up to the limit of a batch.
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

    /// Waits for entries after these places in any of the [`STREAMS`].
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

/// Parses the entries of a stream. An entry without the field `r` yields an empty record.
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
