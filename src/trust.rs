//! Decides whether a file can be trusted: that nobody but root and the user who reads it could have written
//! or replaced it. This depends on the owner and mode of the file and of every folder and symbolic link on
//! its path.
//!
//! The rule is that of sshd's `StrictModes`. The caller supplies the results of lstat(2).

use std::ffi::OsString;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// The owner shown for users that have no number in the user namespace (`user_namespaces(7)`,
/// `/proc/sys/fs/overflowuid`).
const OVERFLOW_UID: u32 = 65534;
/// The bits of `st_mode` for the file type, and three file types (inode(7)).
const FILE_TYPE_MASK: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const SYMBOLIC_LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
/// In a folder with this bit, only the owner of an entry can rename or remove it.
const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// How many symbolic links Linux follows on one path.
const MAX_LINKS: usize = 40;

/// The results of lstat(2) and readlink(2) for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    /// The owner's user id.
    pub owner: u32,
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// The target, if this is a symbolic link.
    pub target: Option<PathBuf>,
}

/// The users whose files are trusted: root and ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedOwners {
    us: u32,
    unmapped: Option<u32>,
}

impl TrustedOwners {
    /// Root and the user `us`. `uid_map` is the text of `/proc/self/uid_map`, or empty if there is no such
    /// file. In a user namespace that does not map every user, the files of unmapped users, such as the real
    /// root, show one common owner. No process in the namespace can be that user, so that owner is trusted as
    /// well.
    #[must_use]
    pub fn new(us: u32, uid_map: &str) -> TrustedOwners {
        let maps_all = uid_map.lines().any(|line| {
            let numbers: Vec<u64> = line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
            let [inside, _, count] = numbers.as_slice() else { return true };
            (*inside..inside.saturating_add(*count)).contains(&OVERFLOW_UID.into())
        });
        let is_known = !uid_map.trim().is_empty();
        TrustedOwners { us, unmapped: (is_known && !maps_all).then_some(OVERFLOW_UID) }
    }

    /// Whether files of this owner are trusted.
    #[must_use]
    pub fn include(self, owner: u32) -> bool {
        owner == 0 || owner == self.us || self.unmapped == Some(owner)
    }

    /// Why this file, folder or link itself cannot be trusted; `None` if it can.
    #[must_use]
    pub fn fault(self, path: &Path, metadata: &FileMetadata) -> Option<Fault> {
        let FileMetadata { owner, mode, .. } = *metadata;
        let kind = mode & FILE_TYPE_MASK;
        // A terminal's permissions do not matter: its input is not stored in it.
        if kind == CHARACTER_DEVICE {
            return None;
        }
        let is_sticky = kind == DIRECTORY && mode & STICKY != 0;
        let reason = if !self.include(owner) {
            FaultReason::Owner { owner, us: self.us }
        } else if is_sticky || kind == SYMBOLIC_LINK {
            return None;
        } else if mode & OTHERS_WRITE != 0 {
            FaultReason::OthersWrite
        } else if mode & GROUP_WRITE != 0 {
            FaultReason::GroupWrites
        } else {
            return None;
        };
        Some(Fault { path: path.to_owned(), kind, reason })
    }
}

/// Why a file cannot be trusted. Its text is a sentence that says what to do, to follow the path of the file
/// in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    path: PathBuf,
    kind: u32,
    reason: FaultReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultReason {
    Owner { owner: u32, us: u32 },
    OthersWrite,
    GroupWrites,
}

impl Fault {
    /// Whether the fault is the owner.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        matches!(self.reason, FaultReason::Owner { .. })
    }

    /// Whether the faulty path is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.kind == SYMBOLIC_LINK
    }

    /// Whether the faulty path is a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.kind == DIRECTORY
    }

    /// Whether the fault is only that the group can write.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.reason == FaultReason::GroupWrites
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let what = match self.kind {
            DIRECTORY => format!("the folder {path}"),
            SYMBOLIC_LINK => format!("the link {path}"),
            _ => "this file".to_owned(),
        };
        let consequence = if self.kind == DIRECTORY { ", and so replace what is in it" } else { "" };
        match self.reason {
            FaultReason::Owner { owner, us: 0 } => {
                write!(f, "{what} belongs to user {owner}, and root uses only its own; chown -h root {path}")
            }
            FaultReason::Owner { owner, us } => {
                write!(f, "{what} belongs to user {owner}, not to root or user {us}; chown -h {us} {path}")
            }
            FaultReason::OthersWrite => {
                write!(f, "everybody can write {what}{consequence}; chmod go-w {path}")
            }
            FaultReason::GroupWrites => write!(f, "a group can write {what}{consequence}; chmod g-w {path}"),
        }
    }
}

/// Why the file at this absolute path cannot be trusted: the faults of the file and of all folders and links
/// that lead to it, those nearest to the root first. Where `lstat` returns `None`, the walk ends: opening the
/// file will report the error.
pub fn faults(
    path: &Path,
    owners: TrustedOwners,
    lstat: impl Fn(&Path) -> Option<FileMetadata>,
) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut at = PathBuf::from("/");
    let mut rest = reversed_components(path);
    let mut links = 0;
    faults.extend(lstat(&at).and_then(|metadata| owners.fault(&at, &metadata)));
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        // An absolute link target replaces the whole path.
        at.push(part);
        let Some(metadata) = lstat(&at) else { break };
        if let Some(fault) = owners.fault(&at, &metadata).filter(|fault| !faults.contains(fault)) {
            faults.push(fault);
        }
        if let Some(target) = metadata.target {
            links += 1;
            if links > MAX_LINKS {
                break;
            }
            at.pop();
            rest.extend(reversed_components(&target));
        }
    }
    faults
}

fn reversed_components(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let mut parts: Vec<OsString> = parts.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}
