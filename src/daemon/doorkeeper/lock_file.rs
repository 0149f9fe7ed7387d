//! The lock file of a place for state files: which process holds the place, and whether it is about to leave
//! it.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::disk::{MODE, with_suffix};

/// The word in the lock file of a process that is ending, and of an heir, which ends when a daemon starts.
pub const LEAVING: &str = "leaving";
/// The word in the lock file of any other process.
pub const STAYING: &str = "staying";
/// Maximum number of bytes read from a lock file.
const LONGEST_WORD: u64 = 64;

/// The path of the lock file of a place.
#[must_use]
pub fn lock_of(place: &Path) -> PathBuf {
    with_suffix(place, ".lock")
}

/// Opens the lock file of a place for reading.
fn open_lock_file(place: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(lock_of(place))
}

/// Locks a place and writes a word to its lock file; `None` if another process holds it.
///
/// # Errors
/// A file of the place is not a regular file or not ours, or an error of `open(2)` or `flock(2)`.
pub fn lock(path: &Path, word: &str) -> io::Result<Option<File>> {
    for suffix in ["", ".new", ".tmp", ".lock"] {
        check(path, suffix)?;
    }
    let lock = lock_of(path);
    // The first attempt opens the file read-only: closing it after opening it for writing would look to the
    // daemons that watch it (IN_CLOSE_WRITE) like the end of its owner.
    if open_lock_file(path).is_ok_and(|probe| matches!(probe.try_lock(), Err(fs::TryLockError::WouldBlock))) {
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
        // Its former owner may have removed the file between open and lock.
        let (ours, there) = (file.metadata()?, fs::symlink_metadata(&lock));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            // Replaces the word of the former owner.
            announce(&file, word);
            return Ok(Some(file));
        }
    }
}

/// Writes a word and our PID to a lock file, for processes that find it locked.
pub fn announce(lock: &File, word: &str) {
    let text = format!("{word}\n{}\n", std::process::id());
    let _ = lock.set_len(0).and_then(|()| lock.write_all_at(text.as_bytes(), 0));
}

/// Whether a process holds this place now.
pub fn is_taken(place: &Path) -> bool {
    open_lock_file(place)
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// The content of the lock file of a place: the word and the PID of the process that holds the place.
pub fn announced(place: &Path) -> (String, Option<u32>) {
    let mut text = String::new();
    let _ = open_lock_file(place).and_then(|file| file.take(LONGEST_WORD).read_to_string(&mut text));
    let mut lines = text.lines();
    let word = lines.next().unwrap_or_default();
    (word.to_owned(), lines.next().and_then(|pid| pid.parse().ok()))
}

/// Whether the process that holds this place is about to leave it; summons it if it is an heir. A process
/// that has just got the lock has not written its word yet: until `word_deadline`, as uptime, an empty file
/// counts as leaving.
pub fn is_leaving(place: &Path, word_deadline: Duration) -> bool {
    let Ok(file) = open_lock_file(place) else { return false };
    let (word, _) = announced(place);
    let is_word_leaving = word == LEAVING;
    if is_word_leaving {
        // Summons an heir (IN_ATTRIB). An heir does not summon others, or both would leave. Sets both times:
        // inotify reports a changed modification time alone as a write (IN_MODIFY), not as IN_ATTRIB.
        let time = SystemTime::now();
        let _ = file.set_times(FileTimes::new().set_accessed(time).set_modified(time));
    }
    let may_be_unwritten = word.is_empty() && now().uptime < word_deadline;
    (is_word_leaving || may_be_unwritten)
        && matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

/// Fails if a file of a place exists and is not a regular file that we may use.
fn check(path: &Path, suffix: &str) -> io::Result<()> {
    let path = with_suffix(path, suffix);
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
    } else if !is_trusted(&it) && (suffix == ".lock" || !nix::unistd::geteuid().is_root()) {
        "belongs to somebody else"
    } else {
        return Ok(());
    };
    let name = path.file_name().unwrap_or_default().display().to_string();
    Err(io::Error::other(if suffix.is_empty() { format!("it {what}") } else { format!("{name} {what}") }))
}

/// Whether a file belongs to root or to us.
pub fn is_trusted(it: &Metadata) -> bool {
    [0, nix::unistd::geteuid().as_raw()].contains(&it.uid())
}
