//! Places for state files: which there are at a path, whose they are, and what is in them if it can be trusted.
//!
//! [`crate::opening::state`] tells which files a place has, and what holds for them at every instant.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::disk::{MODE, beside, carry_out, remove};
use crate::opening::journal::{self, Choice, Journal};
use crate::opening::state::{Damage, Moment, State, Text};
use crate::reason::reason;

/// The bits that let group or others write a file.
const OTHERS_WRITE: u32 = 0o022;
/// How often to look whether one that leaves is gone.
const LOOK: Duration = Duration::from_millis(5);
/// How long one that has the lock may take to say how it is with it.
const SILENCE: Duration = Duration::from_millis(50);
/// How many daemons can share a path.
const MOST_PLACES: usize = 16;

/// A place that nobody else has while this value lives.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// Holds the lock; `None` where nobody can have it, since it is no file of ours.
    lock: Option<File>,
}

/// What came of a claim.
#[derive(Debug, Default)]
pub struct Claim {
    /// Where this daemon keeps its state; `None` if it cannot keep any.
    pub own: Option<Place>,
    /// Where daemons kept theirs that are gone: to be removed when all is in `own`.
    pub left: Vec<Place>,
    /// The places of daemons that live.
    pub others: Vec<PathBuf>,
    /// What is in all the places that are ours now.
    pub state: State,
    /// What somebody should know.
    pub says: Vec<String>,
    /// Why there is no place for this daemon's own state, with the path.
    pub refusal: Option<String>,
}

/// Claims a place for a state file, and all that daemons left at this path that are gone.
#[must_use]
pub fn claim(path: &Path, word: &str) -> Claim {
    let mut claim = Claim::default();
    let (mut places, mut found) = (Vec::new(), Vec::new());
    let mut why = None;
    for path in places_at(path) {
        // Where there is nothing, there is nothing to take over.
        if found.contains(&journal::Place::Free) && !exists(&path) {
            continue;
        }
        let locked = lock(&path, word);
        found.push(match &locked {
            Ok(Some(_)) => journal::Place::Free,
            Ok(None) => {
                why.get_or_insert_with(|| format!("{}: another daemon has it", path.display()));
                journal::Place::Taken
            }
            Err(error) => {
                why.get_or_insert_with(|| format!("{}: {}", path.display(), reason(error)));
                journal::Place::Unfit
            }
        });
        places.push((path, locked.ok().flatten()));
    }
    let Choice { own, left } = journal::choose(&found);
    for (index, (path, place)) in places.into_iter().enumerate() {
        if found.get(index) == Some(&journal::Place::Taken) {
            claim.others.push(path);
            continue;
        }
        let (state, says) = read_place(&path);
        claim.says.extend(says);
        match place {
            Some(place) if own == Some(index) => claim.own = Some(place),
            Some(place) if left.contains(&index) => claim.left.push(place),
            // What is open does not get lost for want of a lock: nobody can hold this one.
            _ if !state.is_empty() => claim.left.push(Place { path, lock: None }),
            _ => {}
        }
        claim.state.add(state);
    }
    match (&claim.own, why) {
        (Some(own), Some(why)) if index_of(own.path(), path) != 0 => {
            claim
                .says
                .push(format!("state file {why}; this daemon keeps its own in {}", own.path().display()));
        }
        (None, why) => claim.refusal = why,
        _ => {}
    }
    claim
}

/// Claims what daemons left at this path that are gone by now, beside the place that is `own`.
#[must_use]
pub fn claim_left(path: &Path, own: &Path) -> Claim {
    let mut claim = Claim::default();
    for path in places_at(path).into_iter().filter(|path| path != own && exists(path)) {
        match lock(&path, STAYING) {
            Ok(Some(place)) => {
                let (state, says) = read_place(&path);
                claim.says.extend(says);
                claim.state.add(state);
                claim.left.push(place);
            }
            Ok(None) => claim.others.push(path),
            Err(_) => {}
        }
    }
    claim
}

/// All the places that there may be at a path. Beside a device there is none: `/dev/null` names no place, and
/// nobody looks for files in `/dev`.
fn places_at(path: &Path) -> Vec<PathBuf> {
    let path = followed(path);
    let kind = fs::symlink_metadata(&path).map(|it| it.file_type());
    if kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()) {
        return vec![path];
    }
    let more = (2..=MOST_PLACES).map(|number| beside(&path, &format!(".{number}")));
    std::iter::once(path.clone()).chain(more).collect()
}

/// Which of the places at `path` this is, from 0.
fn index_of(place: &Path, path: &Path) -> usize {
    places_at(path).iter().position(|it| it == place).unwrap_or_default()
}

/// Where a symbolic link leads that is root's or ours; any other path is what it is.
fn followed(path: &Path) -> PathBuf {
    let is_link = fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink() && is_trusted(&it));
    let target = is_link.then(|| fs::canonicalize(path).or_else(|_| fs::read_link(path)));
    let folder = path.parent().unwrap_or(Path::new("/"));
    target.and_then(Result::ok).map_or_else(|| path.to_owned(), |target| folder.join(target))
}

/// The lock of a place.
#[must_use]
pub fn lock_of(place: &Path) -> PathBuf {
    beside(place, ".lock")
}

fn exists(path: &Path) -> bool {
    ["", ".new"].iter().any(|ending| fs::symlink_metadata(beside(path, ending)).is_ok())
}

/// What the files of a place say, and what somebody should know of it.
fn read_place(path: &Path) -> (State, Vec<String>) {
    let boot = boot();
    let moment = Moment { now: now(), boot: &boot };
    let mut says = Vec::new();
    let mut texts = [None, None];
    for (read, ending) in texts.iter_mut().zip(["", ".new"]) {
        let path = beside(path, ending);
        *read = match read_trusted(&path) {
            Ok(text) => text.map(|text| Text::read(&text, moment)),
            Err(error) => {
                says.push(format!("state file {}: {}", path.display(), reason(&error)));
                None
            }
        };
    }
    let [settled, new] = texts;
    let mut tell = |text: &Option<Text>, ending| {
        let damage = text.as_ref().map_or_else(Damage::default, |text| text.damage.clone());
        let path = beside(path, ending);
        says.extend(damage.sentences().map(|sentence| format!("state file {}: {sentence}", path.display())));
    };
    tell(&new, ".new");
    // It counts only without a whole new one.
    if new.as_ref().is_none_or(|new| !new.is_whole) {
        tell(&settled, "");
    }
    (State::of(settled, new), says)
}

/// A file's text, if there is such a file. Its commands will be run: it must be ours or root's, and
/// nobody else may have been able to write it.
fn read_trusted(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let mut file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let it = file.metadata()?;
    if !it.is_file() {
        // Whoever wants a place there says what it is.
        return Ok(None);
    }
    if !is_trusted(&it) || it.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("others can write it, so it is left out"));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(Some(text))
}

fn is_trusted(it: &Metadata) -> bool {
    [0, nix::unistd::geteuid().as_raw()].contains(&it.uid())
}

/// Locks a place; `None` if another daemon has it.
fn lock(path: &Path, word: &str) -> io::Result<Option<Place>> {
    for ending in ["", ".new", ".tmp", ".lock"] {
        check(path, ending)?;
    }
    let lock = lock_of(path);
    // The first look is read-only: when a file that was open for writing is closed, the daemons that watch it take
    // that for the end of its owner.
    let probe = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&lock);
    if probe.is_ok_and(|probe| matches!(probe.try_lock(), Err(fs::TryLockError::WouldBlock))) {
        return Ok(None);
    }
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(&lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had it may have removed it between the two.
        let (ours, there) = (file.metadata()?, fs::symlink_metadata(&lock));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            // In place of what the one before announced.
            let _ = file.set_len(0).and_then(|()| (&file).write_all(word.as_bytes()));
            return Ok(Some(Place { path: path.to_owned(), lock: Some(file) }));
        }
    }
}

/// What stands in the lock file of a process that ends, or that leaves its doors to whoever comes.
pub const LEAVING: &str = "leaving\n";
/// What stands in that of any other.
pub const STAYING: &str = "staying\n";

/// Waits for those that have a state file at this path and are about to leave it: so long at most, and no longer than
/// `is_over` says. They are called by this.
pub fn wait_for_leaving(path: &Path, patience: Duration, mut is_over: impl FnMut() -> bool) {
    let deadline = now().uptime.saturating_add(patience);
    let deadline_of_silent = now().uptime.saturating_add(SILENCE);
    let is_leaving = |place: &PathBuf| {
        let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(lock_of(place));
        let Ok(mut file) = file else { return false };
        let mut word = String::new();
        // Nothing: it has just got the lock, and has not said yet.
        let is_said = file.read_to_string(&mut word).is_ok() && word == LEAVING;
        if is_said {
            // That rings at an heir. Another heir must not ring, or both would leave.
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
        let may_say = word.is_empty() && now().uptime < deadline_of_silent;
        (is_said || may_say) && matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
    };
    while places_at(path).iter().any(is_leaving) && now().uptime < deadline && !is_over() {
        std::thread::sleep(LOOK);
    }
}

/// Whether one of the names of a place can be ours.
fn check(path: &Path, ending: &str) -> io::Result<()> {
    let path = beside(path, ending);
    let Ok(it) = fs::symlink_metadata(&path) else { return Ok(()) };
    let kind = it.file_type();
    let what = if kind.is_dir() {
        "is a folder"
    } else if kind.is_symlink() {
        "is a symbolic link"
    } else if kind.is_char_device() || kind.is_block_device() {
        "is a device"
    } else if !kind.is_file() {
        "is no regular file"
    } else if !is_trusted(&it) && (ending == ".lock" || !nix::unistd::geteuid().is_root()) {
        "belongs to somebody else"
    } else {
        return Ok(());
    };
    let name = path.file_name().unwrap_or_default().display().to_string();
    Err(io::Error::other(if ending.is_empty() { format!("it {what}") } else { format!("{name} {what}") }))
}

impl Place {
    /// Removes the files; another place has what was in them.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn remove(self) -> io::Result<()> {
        for operation in Journal::abandon() {
            carry_out(&operation, &self.path, &mut None)?;
        }
        if self.lock.is_some() { remove(&lock_of(&self.path)) } else { Ok(()) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has a file `PATH.new`.
    #[must_use]
    pub fn has_new(&self) -> bool {
        fs::symlink_metadata(beside(&self.path, ".new")).is_ok()
    }

    /// Tells whoever finds it locked how it is with this process.
    pub fn announce(&self, word: &str) {
        if let Some(lock) = &self.lock {
            let _ = lock.set_len(0).and_then(|()| lock.write_all_at(word.as_bytes(), 0));
        }
    }
}

/// What tells this boot of the machine from others.
pub fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}
