//! Files that hold a secret.

use std::fs::File;
use std::io::{self, Read};

use zeroize::Zeroizing;

/// The longest such file, in bytes: more than any configuration needs.
const MAX_FILE: u64 = 0x10_0000;

/// The content of a file, in one piece of memory that is zeroed when it is dropped.
///
/// # Errors
/// The file cannot be read, or is longer than a megabyte.
pub(super) fn read(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    // With enough room from the start: a buffer that grows leaves copies behind.
    let expected = usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or(0);
    let mut text = Zeroizing::new(Vec::with_capacity(expected + 4096));
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}
