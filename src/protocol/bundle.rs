//! The text of a configuration as the watcher needs it, together with state that is not in the files.
//!
//! The doorkeeper reads the files. The watcher, which opens no files, gets this in the memfd that comes with
//! [`Order::Adopt`](super::messages::Order::Adopt). Both parse the same bytes with the same parser, so a door
//! has the same number in both.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::protocol::bytes::{self, Reader};

/// The first bytes. Both ends are the same program, so the format has only one version.
const TITLE: &[u8] = b"knockd-bundle 1\n";
/// An upper bound in bytes on the size of each small part.
const SPARE: usize = 64;

/// A file's path as in the configuration, and its content, which may include seeds.
pub type File = (PathBuf, Zeroizing<Vec<u8>>);
/// The same, borrowed.
pub type Borrowed<'a> = (&'a Path, &'a [u8]);

/// The used lists of a one-time-password door: all periods up to a floor, and single lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpentLists {
    /// The door's index in the configuration.
    pub door: u32,
    /// The latest period of which all lists are used, as are those of all periods before it.
    pub floor: Option<u64>,
    /// Period and owner of each used list; the owner is `None` if the list is the same for all addresses.
    pub lists: Vec<(u64, Option<IpAddr>)>,
    /// Period, source and number of the attempts that ended between the halves of a list.
    pub tries: Vec<(u64, IpAddr, u8)>,
}

/// A cooldown of a door for one knocker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoolingDown {
    /// The door's index in the configuration.
    pub door: u32,
    /// The knocker.
    pub knocker: IpAddr,
    /// The end of the cooldown, as uptime.
    pub until: Duration,
}

/// Everything that the watcher needs to know of a configuration. Borrows its texts, as there may be thousands
/// of doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// The interfaces to capture on, as in the value of `Interface`.
    pub interface: String,
    /// Whether to wait for missing interfaces.
    pub waits: bool,
    /// Whether anyone reads the reports about attempts.
    pub has_readers: bool,
    /// The main configuration file, followed by the files it includes in their order.
    pub files: Vec<Borrowed<'a>>,
    /// One-time sequence files.
    pub one_time: Vec<Borrowed<'a>>,
    /// The used lists of one-time passwords.
    pub spent: Vec<SpentLists>,
    /// The cooldowns still in progress.
    pub cooldowns: Vec<CoolingDown>,
}

impl<'a> Bundle<'a> {
    /// Encodes the bundle.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let texts =
            self.files.iter().chain(&self.one_time).map(|(path, text)| path.as_os_str().len() + text.len());
        // Reserve enough space in advance: a reallocation would leave a copy of the seeds behind.
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

    /// Decodes a bundle; `None` unless the bytes are exactly one bundle.
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

    /// The text of a one-time file, by path.
    #[must_use]
    pub fn one_time(&self, path: &Path) -> Option<&'a [u8]> {
        self.one_time.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
    }

    /// An upper bound on the bytes for used lists, cooldowns and lengths.
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

/// Appends an address, or 0 for `None`.
fn owner(out: &mut Vec<u8>, owner: Option<IpAddr>) {
    match owner {
        None => out.push(0),
        Some(address) => bytes::address(out, address),
    }
}

/// The bytes are not a whole bundle.
struct Damaged;

impl<'a> Reader<'a> {
    /// Bytes preceded by their length in 8 bytes.
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

    /// A list preceded by its count. Grows item by item and each item takes at least a byte, so a wrong count
    /// cannot allocate much memory.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let number = self.long()?;
        let mut list = Vec::new();
        for _ in 0..number {
            list.push(item(self)?);
        }
        Some(list)
    }
}
