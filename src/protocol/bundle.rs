//! All that a watcher has to know of a configuration: the text of its files, and what cannot be read there.
//!
//! The doorkeeper reads the files; the watcher gets this in the memory file that comes with
//! [`Order::Adopt`](super::messages::Order::Adopt), and opens nothing by itself. Both parse the same bytes with the
//! same parser, so that the number of a door means the same door in both.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::protocol::bytes::{self, Reader};

/// What the first bytes are: the format changes only together with the program, which is one.
const TITLE: &[u8] = b"knockd-bundle 1\n";
/// More bytes than any of the small parts takes.
const SPARE: usize = 64;

/// A file by the name that the configuration has for it, and its bytes, which may hold seeds.
pub type File = (PathBuf, Zeroizing<Vec<u8>>);
/// The same where it is only looked at.
pub type Borrowed<'a> = (&'a Path, &'a [u8]);

/// What is spent of the lock of a door: everything up to a period, and single lists (period and owner).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpentLists {
    /// The door's place in the configuration.
    pub door: u32,
    /// The youngest period that is spent with all before it.
    pub floor: Option<u64>,
    /// Period, and whose list it was; nobody's where a list is everybody's.
    pub lists: Vec<(u64, Option<IpAddr>)>,
    /// Period, source and number of the attempts that ended between the halves of a list.
    pub tries: Vec<(u64, IpAddr, u8)>,
}

/// A door that does not listen to somebody until this uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoolingDown {
    /// The door's place in the configuration.
    pub door: u32,
    /// Who.
    pub knocker: IpAddr,
    /// Its end, as uptime.
    pub until: Duration,
}

/// What a watcher has to know of a configuration. Its texts are those of somebody else: there may be thousands of doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// The interfaces to listen on, as in the value of `Interface`.
    pub interface: String,
    /// Interfaces that are missing are waited for.
    pub waits: bool,
    /// Somebody reads what is told of attempts.
    pub has_readers: bool,
    /// The configuration; the files that it includes stand behind it, in their order.
    pub files: Vec<Borrowed<'a>>,
    /// One-time sequence files.
    pub one_time: Vec<Borrowed<'a>>,
    /// Lists of one-time passwords that were used.
    pub spent: Vec<SpentLists>,
    /// Cooldowns that go on.
    pub cooldowns: Vec<CoolingDown>,
}

impl<'a> Bundle<'a> {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let texts =
            self.files.iter().chain(&self.one_time).map(|(path, text)| path.as_os_str().len() + text.len());
        // Enough for all of it, so that no copy of a seed is left where it did not fit.
        let mut out =
            Zeroizing::new(Vec::with_capacity(SPARE + texts.sum::<usize>() + self.room_for_lists()));
        out.extend(TITLE);
        counted(&mut out, self.interface.as_bytes());
        out.push(self.waits.into());
        out.push(self.has_readers.into());
        for files in [&self.files, &self.one_time] {
            count(&mut out, files.len());
            for (path, text) in files {
                counted(&mut out, path.as_os_str().as_bytes());
                counted(&mut out, text);
            }
        }
        count(&mut out, self.spent.len());
        for SpentLists { door, floor, lists, tries } in &self.spent {
            out.extend(door.to_le_bytes());
            out.push(floor.is_some().into());
            out.extend(floor.unwrap_or_default().to_le_bytes());
            count(&mut out, lists.len());
            for (period, whose) in lists {
                out.extend(period.to_le_bytes());
                owner(&mut out, *whose);
            }
            count(&mut out, tries.len());
            for (period, source, tries) in tries {
                out.extend(period.to_le_bytes());
                bytes::address(&mut out, *source);
                out.push(*tries);
            }
        }
        count(&mut out, self.cooldowns.len());
        for CoolingDown { door, knocker, until } in &self.cooldowns {
            out.extend(door.to_le_bytes());
            bytes::address(&mut out, *knocker);
            out.extend(until.as_secs().to_le_bytes());
            out.extend(until.subsec_nanos().to_le_bytes());
        }
        out
    }

    /// What the bytes say; nothing if they are not those of a whole bundle.
    #[must_use]
    pub fn decode(text: &'a [u8]) -> Option<Bundle<'a>> {
        let mut reader = Reader(text.strip_prefix(TITLE)?);
        let bundle = Bundle {
            interface: String::from_utf8(reader.long_bytes()?.to_vec()).ok()?,
            waits: reader.flag()?,
            has_readers: reader.flag()?,
            files: reader.list(Reader::file)?,
            one_time: reader.list(Reader::file)?,
            spent: reader.list(|reader| {
                let door = reader.word()?;
                let floor = (reader.flag()?, reader.long()?);
                let lists = reader.list(|reader| Some((reader.long()?, reader.owner().ok()?)))?;
                let tries =
                    reader.list(|reader| Some((reader.long()?, reader.address()?, reader.byte()?)))?;
                Some(SpentLists { door, floor: floor.0.then_some(floor.1), lists, tries })
            })?,
            cooldowns: reader.list(|reader| {
                let (door, knocker) = (reader.word()?, reader.address()?);
                let (seconds, nanos) = (reader.long()?, reader.word()?);
                let until = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()))?;
                Some(CoolingDown { door, knocker, until })
            })?,
        };
        reader.0.is_empty().then_some(bundle)
    }

    /// The text of a one-time file.
    #[must_use]
    pub fn one_time(&self, path: &Path) -> Option<&'a [u8]> {
        self.one_time.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
    }

    /// Bytes that what was used up takes at most.
    fn room_for_lists(&self) -> usize {
        let lists = self.spent.iter().map(|it| SPARE + (it.lists.len() + it.tries.len()) * SPARE);
        let files = self.files.len() + self.one_time.len() + self.cooldowns.len();
        lists.sum::<usize>() + files * SPARE
    }
}

fn count(out: &mut Vec<u8>, number: usize) {
    out.extend(u64::try_from(number).unwrap_or(u64::MAX).to_le_bytes());
}

fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    count(out, bytes.len());
    out.extend(bytes);
}

/// An address, or 0 for none.
fn owner(out: &mut Vec<u8>, owner: Option<IpAddr>) {
    match owner {
        None => out.push(0),
        Some(address) => bytes::address(out, address),
    }
}

/// The bytes are not those of a whole bundle.
struct Damaged;

impl<'a> Reader<'a> {
    /// Any number of bytes, their number in front.
    fn long_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        self.slice(length)
    }

    fn file(&mut self) -> Option<Borrowed<'a>> {
        let path = Path::new(OsStr::from_bytes(self.long_bytes()?));
        Some((path, self.long_bytes()?))
    }

    fn owner(&mut self) -> Result<Option<IpAddr>, Damaged> {
        match self.byte().ok_or(Damaged)? {
            0 => Ok(None),
            kind => self.address_of(kind).map(Some).ok_or(Damaged),
        }
    }

    /// As many as the count in front says; each takes at least a byte, so that a wrong count asks for no memory.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let number = self.long()?;
        let mut list = Vec::new();
        for _ in 0..number {
            list.push(item(self)?);
        }
        Some(list)
    }
}
