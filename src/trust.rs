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
const UNMAPPED: u32 = 65534;
/// The bits of `st_mode` for the file type, and three file types (inode(7)).
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
/// In a folder with this bit, only the owner of an entry can rename or remove it.
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// How many symbolic links Linux follows on one path.
const MOST_LINKS: usize = 40;

/// The results of lstat(2) and readlink(2) for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The owner's user id.
    pub owner: u32,
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// The target, if this is a symbolic link.
    pub target: Option<PathBuf>,
}

/// The users whose files are trusted: root and ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owners {
    us: u32,
    unmapped: Option<u32>,
}

impl Owners {
    /// Root and the user `us`. `uid_map` is the text of `/proc/self/uid_map`, or empty if there is no such
    /// file. In a user namespace that does not map every user, the files of unmapped users, such as the real
    /// root, show one common owner. No process in the namespace can be that user, so that owner is trusted as
    /// well.
    #[must_use]
    pub fn new(us: u32, uid_map: &str) -> Owners {
        let maps_all = uid_map.lines().any(|line| {
            let numbers: Vec<u64> = line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
            let [inside, _, count] = numbers.as_slice() else { return true };
            (*inside..inside.saturating_add(*count)).contains(&UNMAPPED.into())
        });
        let is_known = !uid_map.trim().is_empty();
        Owners { us, unmapped: (is_known && !maps_all).then_some(UNMAPPED) }
    }

    /// Whether files of this owner are trusted.
    #[must_use]
    pub fn include(self, owner: u32) -> bool {
        owner == 0 || owner == self.us || self.unmapped == Some(owner)
    }

    /// Why this file, folder or link itself cannot be trusted; `None` if it can.
    #[must_use]
    pub fn fault(self, path: &Path, facts: &Facts) -> Option<Fault> {
        let Facts { owner, mode, .. } = *facts;
        let kind = mode & KIND;
        // A terminal's permissions do not matter: its input is not stored in it.
        if kind == CHARACTER_DEVICE {
            return None;
        }
        let is_sticky = kind == FOLDER && mode & STICKY != 0;
        let why = if !self.include(owner) {
            Why::Owner { owner, us: self.us }
        } else if is_sticky || kind == LINK {
            return None;
        } else if mode & OTHERS_WRITE != 0 {
            Why::OthersWrite
        } else if mode & GROUP_WRITES != 0 {
            Why::GroupWrites
        } else {
            return None;
        };
        Some(Fault { path: path.to_owned(), kind, why })
    }
}

/// Why a file cannot be trusted. Its text is a sentence that says what to do, to follow the path of the file
/// in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    path: PathBuf,
    kind: u32,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Owner { owner: u32, us: u32 },
    OthersWrite,
    GroupWrites,
}

impl Fault {
    /// Whether the fault is the owner.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        matches!(self.why, Why::Owner { .. })
    }

    /// Whether the faulty path is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.kind == LINK
    }

    /// Whether the faulty path is a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.kind == FOLDER
    }

    /// Whether the fault is only that the group can write.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.why == Why::GroupWrites
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let what = match self.kind {
            FOLDER => format!("the folder {path}"),
            LINK => format!("the link {path}"),
            _ => "this file".to_owned(),
        };
        let consequence = if self.kind == FOLDER { ", and so replace what is in it" } else { "" };
        match self.why {
            Why::Owner { owner, us: 0 } => {
                write!(f, "{what} belongs to user {owner}, and root uses only its own; chown -h root {path}")
            }
            Why::Owner { owner, us } => {
                write!(f, "{what} belongs to user {owner}, not to root or user {us}; chown -h {us} {path}")
            }
            Why::OthersWrite => write!(f, "everybody can write {what}{consequence}; chmod go-w {path}"),
            Why::GroupWrites => write!(f, "a group can write {what}{consequence}; chmod g-w {path}"),
        }
    }
}

/// Why the file at this absolute path cannot be trusted: the faults of the file and of all folders and links
/// that lead to it, those nearest to the root first. Where `look` returns `None`, the walk ends: opening the
/// file will report the error.
pub fn faults(path: &Path, owners: Owners, look: impl Fn(&Path) -> Option<Facts>) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut at = PathBuf::from("/");
    let mut rest = parts_from_the_end(path);
    let mut links = 0;
    faults.extend(look(&at).and_then(|facts| owners.fault(&at, &facts)));
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        // An absolute link target replaces the whole path.
        at.push(part);
        let Some(facts) = look(&at) else { break };
        if let Some(fault) = owners.fault(&at, &facts).filter(|fault| !faults.contains(fault)) {
            faults.push(fault);
        }
        if let Some(target) = facts.target {
            links += 1;
            if links > MOST_LINKS {
                break;
            }
            at.pop();
            rest.extend(parts_from_the_end(&target));
        }
    }
    faults
}

fn parts_from_the_end(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let mut parts: Vec<OsString> = parts.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}
