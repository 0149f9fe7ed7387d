//! The lock file of a place for state files: who has the place, and whether that process is about to leave it.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::disk::{MODE, beside};

/// The word in the lock file of a process that ends, or of an heir, which ends when a daemon starts.
pub const LEAVING: &str = "leaving";
/// The word in the lock file of any other.
pub const STAYING: &str = "staying";
/// No lock file says more than this many bytes.
const LONGEST_WORD: u64 = 64;

/// The lock of a place.
#[must_use]
pub fn lock_of(place: &Path) -> PathBuf {
    beside(place, ".lock")
}

/// Opens the lock file of a place for reading.
fn look(place: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(lock_of(place))
}

/// Locks a place and writes a word to its lock file; `None` if another daemon has it.
///
/// # Errors
/// A file of the place is none that we can use, or what the operating system says.
pub fn lock(path: &Path, word: &str) -> io::Result<Option<File>> {
    for ending in ["", ".new", ".tmp", ".lock"] {
        check(path, ending)?;
    }
    let lock = lock_of(path);
    // The first look is read-only: when a file that was open for writing is closed, the daemons that watch it take
    // that for the end of its owner.
    if look(path).is_ok_and(|probe| matches!(probe.try_lock(), Err(fs::TryLockError::WouldBlock))) {
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
        // The daemon that had it may have removed it between the two.
        let (ours, there) = (file.metadata()?, fs::symlink_metadata(&lock));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            // In place of what the one before announced.
            announce(&file, word);
            return Ok(Some(file));
        }
    }
}

/// Writes a word to a lock file, for others that find it locked.
pub fn announce(lock: &File, word: &str) {
    let text = format!("{word}\n{}\n", std::process::id());
    let _ = lock.set_len(0).and_then(|()| lock.write_all_at(text.as_bytes(), 0));
}

/// Whether a daemon has this place now.
pub fn is_taken(place: &Path) -> bool {
    look(place).is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// What the lock file of a place says: how it is with the daemon that has the place, and which process that is.
pub fn announced(place: &Path) -> (String, Option<u32>) {
    let mut text = String::new();
    let _ = look(place).and_then(|file| file.take(LONGEST_WORD).read_to_string(&mut text));
    let mut lines = text.lines();
    let word = lines.next().unwrap_or_default();
    (word.to_owned(), lines.next().and_then(|pid| pid.parse().ok()))
}

/// Whether the process that has this place is about to leave it; calls it if it is an heir. One that has just got the
/// lock has not written its word yet: until `silent`, as uptime, it may be leaving.
pub fn is_leaving(place: &Path, silent: Duration) -> bool {
    let Ok(file) = look(place) else { return false };
    let (word, _) = announced(place);
    let is_said = word == LEAVING;
    if is_said {
        // This calls an heir. An heir calls no other heir, or both would leave.
        // Both times: inotify reports a new modification time alone as a write (IN_MODIFY), not as IN_ATTRIB.
        let time = SystemTime::now();
        let _ = file.set_times(FileTimes::new().set_accessed(time).set_modified(time));
    }
    let may_say = word.is_empty() && now().uptime < silent;
    (is_said || may_say) && matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

/// Whether a file of a place is ours or can be made.
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

/// Whether a file belongs to root or to us.
pub fn is_trusted(it: &Metadata) -> bool {
    [0, nix::unistd::geteuid().as_raw()].contains(&it.uid())
}
