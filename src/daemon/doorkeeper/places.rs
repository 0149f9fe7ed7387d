//! The places for state files at a path: locks them, and reads the trusted ones.
//!
//! [`crate::opening::state`] describes the files of a place and their invariants.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::disk::{carry_out, remove, with_suffix};
use crate::daemon::doorkeeper::lock_file::{self, STAYING, announced, is_taken, is_trusted, lock_of};
use crate::daemon::trusted;
use crate::octets;
use crate::opening::journal::{self, Choice, Journal};
use crate::opening::state::{Moment, State};
use crate::opening::text::{Damage, Text};
use crate::reason::reason;
use crate::trust::{self, Fault};

/// The bits that let group or others write a file.
const OTHERS_WRITE: u32 = 0o022;
/// How often to check whether a leaving daemon has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Time limit for the owner of a lock to write its word to the lock file.
const WORD_TIMEOUT: Duration = Duration::from_millis(50);
/// The mode of the folder that we create for state files.
const FOLDER_MODE: u32 = 0o700;
/// Maximum number of daemons that share a path.
const MOST_PLACES: usize = 16;

/// A place that this process holds until the value is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// The locked file; `None` if the lock file is not a file that we can lock.
    lock: Option<File>,
}

/// The result of a claim.
#[derive(Debug, Default)]
pub struct Claim {
    /// The place for this daemon's state; `None` if there is none.
    pub own: Option<Place>,
    /// Places of daemons that have ended: to be removed once their state is in `own`.
    pub leftover: Vec<Place>,
    /// Places of running daemons.
    pub others: Vec<PathBuf>,
    /// The merged state of all claimed places.
    pub state: State,
    /// Messages for the log.
    pub messages: Vec<String>,
    /// Why there is no place for this daemon's own state, with the path.
    pub refusal: Option<String>,
}

impl Claim {
    /// Adds the result of claiming another path.
    pub fn add(&mut self, other: Claim) {
        self.leftover.extend(other.leftover);
        self.others.extend(other.others);
        self.state.add(other.state);
        self.messages.extend(other.messages);
    }
}

/// Claims a place for a state file, and the places at this path of daemons that have ended.
#[must_use]
pub fn claim(path: &Path, word: &str) -> Claim {
    let mut claim = Claim::default();
    let (mut places, mut found) = (Vec::new(), Vec::new());
    let mut why = None;
    for path in places_at(path) {
        // An empty place is needed only if there is no other.
        if found.contains(&journal::Place::Free) && !exists(&path) {
            continue;
        }
        let locked = lock_place(&path, word);
        found.push(match &locked {
            Ok(Some(_)) => journal::Place::Free,
            Ok(None) => {
                let pid = announced(&path).1.map(|pid| format!(", process {pid}")).unwrap_or_default();
                why.get_or_insert_with(|| format!("{}: another daemon has it{pid}", octets::path(&path)));
                journal::Place::Taken
            }
            Err(error) => {
                why.get_or_insert_with(|| format!("{}: {}", octets::path(&path), reason(error)));
                journal::Place::Unfit
            }
        });
        places.push((path, locked.ok().flatten()));
    }
    let Choice { own, left: leftover } = journal::choose(&found);
    for (index, (path, place)) in places.into_iter().enumerate() {
        if found.get(index) == Some(&journal::Place::Taken) {
            claim.others.push(path);
            continue;
        }
        let (state, messages) = read_place(&path);
        claim.messages.extend(messages);
        match place {
            Some(place) if own == Some(index) => claim.own = Some(place),
            Some(place) if leftover.contains(&index) => claim.leftover.push(place),
            // No process can lock this one; its doors must be closed all the same.
            _ if !state.is_empty() => claim.leftover.push(Place { path, lock: None }),
            _ => {}
        }
        claim.state.add(state);
    }
    match (&claim.own, why) {
        (Some(own), Some(why)) if !is_first(own.path(), path) => {
            claim
                .messages
                .push(format!("state file {why}; this daemon keeps its own in {}", octets::path(own.path())));
        }
        (None, why) => claim.refusal = why,
        _ => {}
    }
    claim
}

/// Claims the places at this path, other than `own`, of daemons that have ended by now.
#[must_use]
pub fn claim_leftover(path: &Path, own: &Path) -> Claim {
    let mut claim = Claim::default();
    for path in places_at(path).into_iter().filter(|path| path != own) {
        if !exists(&path) {
            // A daemon without state so far may leave some later.
            if is_taken(&path) {
                claim.others.push(path);
            }
            continue;
        }
        match lock_place(&path, STAYING) {
            Ok(Some(place)) => {
                let (state, messages) = read_place(&path);
                claim.messages.extend(messages);
                claim.state.add(state);
                claim.leftover.push(place);
            }
            Ok(None) => claim.others.push(path),
            // See `read_unlockable`.
            Err(_) => {}
        }
    }
    claim
}

/// Reads the state of places at this path that no process can lock, as on a read-only file system: their
/// doors must be closed all the same. Call it once, since these places cannot be removed.
#[must_use]
pub fn read_unlockable(path: &Path) -> Claim {
    let mut claim = Claim::default();
    for path in places_at(path).into_iter().filter(|path| exists(path)) {
        let Err(error) = lock_file::lock(&path, STAYING) else { continue };
        let (state, messages) = read_place(&path);
        claim.messages.extend(messages);
        if !state.is_empty() {
            claim.messages.push(format!("state file {}: {}", octets::path(&path), reason(&error)));
            claim.state.add(state);
            claim.leftover.push(Place { path, lock: None });
        }
    }
    claim
}

/// All possible places at a path; for a device such as `/dev/null`, only the path itself.
fn places_at(path: &Path) -> Vec<PathBuf> {
    let path = resolve_link(path);
    let kind = fs::symlink_metadata(&path).map(|it| it.file_type());
    if kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()) {
        return vec![path];
    }
    let more = (2..=MOST_PLACES).map(|number| with_suffix(&path, &format!(".{number}")));
    std::iter::once(path.clone()).chain(more).collect()
}

/// Whether this is the first place at `path`, the one that a daemon alone there gets.
#[must_use]
pub fn is_first(place: &Path, path: &Path) -> bool {
    resolve_link(path) == place
}

/// Whether there is a state file at this path, no matter whose.
#[must_use]
pub fn has_any(path: &Path) -> bool {
    places_at(path).iter().any(|place| exists(place))
}

/// Why files in the folder of this path cannot be trusted: users other than root and us can rename or replace
/// them.
#[must_use]
pub fn fault_of_folder(path: &Path) -> Option<Fault> {
    let path = absolute(resolve_link(path)).ok()?;
    let faults = trust::faults(path.parent()?, trusted::owners(), trusted::look);
    faults.into_iter().find(|fault| !fault.is_group())
}

/// Creates the folder for a state file, if its parent exists.
pub fn make_folder(path: &Path) {
    if let Some(folder) = path.parent() {
        // Claiming the place reports the error.
        let _ = DirBuilder::new().mode(FOLDER_MODE).create(folder);
    }
}

/// The first place at this path that another daemon holds, and its PID if the lock file has it.
#[must_use]
pub fn holder(path: &Path) -> Option<(PathBuf, Option<u32>)> {
    let place = places_at(path).into_iter().find(|place| is_taken(place))?;
    let pid = announced(&place).1;
    Some((place, pid))
}

/// The target of a symbolic link that belongs to root or to us; otherwise the path itself.
fn resolve_link(path: &Path) -> PathBuf {
    let is_link = fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink() && is_trusted(&it));
    let target = is_link.then(|| fs::canonicalize(path).or_else(|_| fs::read_link(path)));
    let folder = path.parent().unwrap_or(Path::new("/"));
    target.and_then(Result::ok).map_or_else(|| path.to_owned(), |target| folder.join(target))
}

/// Locks a place; `None` if another process holds it.
fn lock_place(path: &Path, word: &str) -> io::Result<Option<Place>> {
    let lock = lock_file::lock(path, word)?;
    Ok(lock.map(|lock| Place { path: path.to_owned(), lock: Some(lock) }))
}

fn exists(path: &Path) -> bool {
    ["", ".new"].iter().any(|suffix| fs::symlink_metadata(with_suffix(path, suffix)).is_ok())
}

/// Reads the files of a place; also returns messages for the log.
fn read_place(path: &Path) -> (State, Vec<String>) {
    let boot = boot();
    let moment = Moment { now: now(), boot: &boot };
    let mut messages = Vec::new();
    let mut texts = [None, None];
    for (read, suffix) in texts.iter_mut().zip(["", ".new"]) {
        let path = with_suffix(path, suffix);
        *read = match read_trusted(&path) {
            Ok(text) => text.map(|text| Text::read(&text, moment)),
            Err(error) => {
                messages.push(format!("state file {}: {}", octets::path(&path), reason(&error)));
                None
            }
        };
    }
    let [settled, new] = texts;
    let mut tell = |text: &Option<Text>, suffix| {
        let damage = text.as_ref().map_or_else(Damage::default, |text| text.damage.clone());
        let path = with_suffix(path, suffix);
        messages.extend(
            damage.sentences().map(|sentence| format!("state file {}: {sentence}", octets::path(&path))),
        );
    };
    tell(&new, ".new");
    // `PATH` is used only without a complete `PATH.new`.
    if new.as_ref().is_none_or(|new| !new.is_whole) {
        tell(&settled, "");
    }
    (State::of(settled, new), messages)
}

/// The text of a file, if it exists. Its commands will be run: it must belong to us or to root, and nobody
/// else may have write permission.
fn read_trusted(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let mut file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let it = file.metadata()?;
    if !it.is_file() {
        // The attempt to lock the place reports it.
        return Ok(None);
    }
    if !is_trusted(&it) || it.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("others can write it, so it is left out"));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Summons the heirs that have a state file at this path, and waits for them and for leaving daemons, until
/// `timeout` has passed or `is_over` returns true.
pub fn wait_for_leaving(path: &Path, timeout: Duration, mut is_over: impl FnMut() -> bool) {
    let deadline = now().uptime.saturating_add(timeout);
    let word_deadline = now().uptime.saturating_add(WORD_TIMEOUT);
    let is_leaving = |place: &PathBuf| lock_file::is_leaving(place, word_deadline);
    while places_at(path).iter().any(is_leaving) && now().uptime < deadline && !is_over() {
        std::thread::sleep(POLL_INTERVAL);
    }
}

impl Place {
    /// Removes the files of a place whose state is in another place.
    ///
    /// # Errors
    /// An error of `unlink(2)`, or of `fsync(2)` on the folder.
    pub fn remove(self) -> io::Result<()> {
        for operation in Journal::abandon() {
            carry_out(&operation, &self.path, &mut None)?;
        }
        if self.lock.is_some() { remove(&lock_of(&self.path)) } else { Ok(()) }
    }

    /// The path of the place.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file `PATH.new` exists.
    #[must_use]
    pub fn has_new(&self) -> bool {
        fs::symlink_metadata(with_suffix(&self.path, ".new")).is_ok()
    }

    /// Writes a word to the lock file, for processes that find it locked.
    pub fn announce(&self, word: &str) {
        if let Some(lock) = &self.lock {
            lock_file::announce(lock, word);
        }
    }
}

/// The kernel's ID of this boot (`boot_id`).
pub fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}
