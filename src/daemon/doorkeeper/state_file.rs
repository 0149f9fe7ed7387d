//! The state file on disk: claimed by one daemon at a time, trusted only if nobody else can write it,
//! replaced by rename.
//!
//! What is new goes to `PATH.new` first, and counts from the moment it is whole: so a process that is
//! killed loses nothing, without waiting for the disk. Then it is synced and renamed, and the folder is
//! synced: so nothing is lost with the power either.
//!
//! Whoever holds the lock on `PATH.lock` owns the file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::daemon::clock::now;
use crate::opening::state::{Moment, State};

/// The mode of what we make.
const MODE: u32 = 0o600;
/// The bits that let group or others write a file.
const OTHERS_WRITE: u32 = 0o022;
/// How often and how long we look whether a file that is owned by another becomes free.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 60;
/// How long we then leave it alone.
const PAUSE: Duration = Duration::from_secs(10);

/// The state file of one daemon.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    boot: String,
    claim: Claim,
    /// Written, and not yet synced.
    unsynced: Option<File>,
}

#[derive(Debug)]
enum Claim {
    /// It is ours while this is open.
    Held { _lock: File },
    /// Another daemon has it. To be looked at again at this uptime, so many times in a row.
    Waits { file: Option<File>, next: Duration, looks: u32 },
    /// It cannot be claimed at all.
    Failed,
}

/// What came of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours from now on.
    Ours,
    /// It was ours before, or belongs to another still.
    Unchanged,
    /// Another daemon has it.
    Another,
    /// It cannot be claimed.
    No(io::Error),
}

impl StateFile {
    /// The state file of this path, not claimed yet.
    #[must_use]
    pub fn new(path: PathBuf) -> StateFile {
        StateFile { path, boot: boot(), claim: Claim::Failed, unsynced: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells this boot from any other.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Whether it is ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.claim, Claim::Held { .. })
    }

    /// Claims it for the first time.
    pub fn claim(&mut self) -> Claimed {
        match self.open_lock().and_then(|file| Ok((try_lock(&file)?, file))) {
            Ok((true, file)) => self.hold(file),
            Ok((false, file)) => {
                let next = now().uptime.saturating_add(LOOK);
                self.claim = Claim::Waits { file: Some(file), next, looks: LOOKS };
                Claimed::Another
            }
            Err(error) => {
                self.claim = Claim::Failed;
                Claimed::No(error)
            }
        }
    }

    /// When to call [`StateFile::look`], as uptime.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        match &self.claim {
            Claim::Waits { next, .. } => Some(*next),
            Claim::Held { .. } | Claim::Failed => None,
        }
    }

    /// Looks whether it became free.
    pub fn look(&mut self) -> Claimed {
        let now = now().uptime;
        let Claim::Waits { file, next, looks } = &mut self.claim else { return Claimed::Unchanged };
        if *next > now {
            return Claimed::Unchanged;
        }
        // Opening it asks for it.
        let (left, file) = match file.take() {
            Some(file) => (looks.saturating_sub(1), Some(file)),
            None => (LOOKS, self.open_lock().ok()),
        };
        if let Some(file) = file {
            if try_lock(&file).unwrap_or(false) {
                return self.hold(file);
            }
            if left > 0 {
                let next = now.saturating_add(LOOK);
                self.claim = Claim::Waits { file: Some(file), next, looks: left };
                return Claimed::Unchanged;
            }
        }
        self.claim = Claim::Waits { file: None, next: now.saturating_add(PAUSE), looks: 0 };
        Claimed::Unchanged
    }

    fn open_lock(&self) -> io::Result<File> {
        let path = beside(&self.path, ".lock");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(O_NOFOLLOW)
            .open(path)
    }

    fn hold(&mut self, file: File) -> Claimed {
        self.claim = Claim::Held { _lock: file };
        Claimed::Ours
    }

    /// Puts a text in its place. From now on it survives this process, but not yet the power.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let path = beside(&self.path, ".new");
        self.unsynced = None;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .custom_flags(O_NOFOLLOW)
            .open(&path)?;
        let written = file.write_all(text);
        if written.is_err() {
            // It must not pass for what is new.
            let _ = fs::remove_file(&path);
        }
        written?;
        self.unsynced = Some(file);
        Ok(())
    }

    /// Waits until what was written is on the disk, and gives it its name.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(file) = self.unsynced.take() else { return Ok(()) };
        file.sync_all()?;
        fs::rename(beside(&self.path, ".new"), &self.path)?;
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// What the state file of this path says, and the numbers of lines that were left out.
///
/// # Errors
/// Why it cannot be read, or is not to be trusted.
pub fn read(path: &Path) -> io::Result<State> {
    let boot = boot();
    let moment = Moment { now: now(), boot: &boot };
    if let Some(text) = read_trusted(&beside(path, ".new"))? {
        let state = State::read(&text, moment);
        if state.is_whole {
            return Ok(state);
        }
    }
    Ok(read_trusted(path)?.map_or_else(State::default, |text| State::read(&text, moment)))
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
    let owners = [0, nix::unistd::geteuid().as_raw()];
    if !it.is_file() || !owners.contains(&it.uid()) || it.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("others can write it, so it is left out"));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(Some(text))
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}
