//! Strikes a used line in a one-time sequence file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::daemon::trusted::{self, Trusted};
use crate::door::lock::{Turn, one_time_lines};

/// How often to open the file again when it keeps being replaced.
const MAX_TRIES: u32 = 8;

/// Opens a one-time sequence file for reading and writing: a line that cannot be struck must not open a door.
///
/// # Errors
/// See [`trusted::open`].
pub fn open(path: &Path) -> io::Result<Trusted> {
    trusted::open(path, OpenOptions::new().read(true).write(true))
}

/// Reads a one-time sequence file.
///
/// # Errors
/// See [`trusted::open`].
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    open(path)?.read()
}

/// Writes `#` over the first byte of the first usable line that is this turn, and syncs the file to disk.
///
/// The file is read, written and synced through one descriptor. If an editor or a script replaces the file
/// meanwhile, the line would still be good in the new one: it is struck there as well.
///
/// # Errors
/// Errors of opening, reading, writing or syncing the file; `NotFound` when there is no such line, e.g. after
/// an edit by hand.
pub fn strike(path: &Path, turn: Turn) -> io::Result<()> {
    strike_and(path, turn, || ())
}

/// The same; calls `struck` after each line it struck, before it checks whether the file was replaced.
fn strike_and(path: &Path, turn: Turn, mut struck: impl FnMut()) -> io::Result<()> {
    for _ in 0..MAX_TRIES {
        let mut opened = open(path)?;
        let text = opened.read()?;
        let line = one_time_lines(&text)
            .find(|line| line.sequence.as_ref().is_ok_and(|sequence| sequence.turn() == turn))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the line is not there any more"))?;
        let offset = u64::try_from(line.offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        opened.file.write_all_at(b"#", offset)?;
        opened.file.sync_all()?;
        struck();
        if is_at(&opened.file, path)? {
            return Ok(());
        }
    }
    Err(io::Error::other("the file is replaced again and again"))
}

/// Whether the path still names this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::door::sequence::Sequence;

    /// A temporary folder, removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("knockd-one-time-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
            Folder(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_takes_its_place_meanwhile_is_struck_too() {
        let folder = Folder::new("replaced");
        let path = folder.write("list", " 1,2\n 3,4\n");
        let turn = Sequence::parse("1,2").unwrap().turn();
        let mut rounds = 0;
        let struck = || {
            rounds += 1;
            if rounds == 1 {
                fs::rename(folder.write("new", " 9\n 1,2\n 3,4\n"), &path).unwrap();
            }
        };
        strike_and(&path, turn, struck).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), rounds), (" 9\n#1,2\n 3,4\n".to_owned(), 2));
    }

    #[test]
    fn a_file_in_its_place_without_the_line_and_one_that_never_stays_are_errors() {
        let folder = Folder::new("gone");
        let path = folder.write("list", " 1,2\n");
        let turn = Sequence::parse("1,2").unwrap().turn();
        let replaced = |text: &'static str| {
            let (folder, path) = (&folder, &path);
            move || fs::rename(folder.write("new", text), path).unwrap()
        };
        let error = strike_and(&path, turn, replaced(" 3,4\n")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::rename(folder.write("new", " 1,2\n"), &path).unwrap();
        let error = strike_and(&path, turn, replaced(" 1,2\n")).unwrap_err();
        assert_eq!(error.to_string(), "the file is replaced again and again");
    }
}
