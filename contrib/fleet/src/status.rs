//! The status socket. It is only written to, never read.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::log::say;
use crate::shared::Shared;

/// The timeout for a client of the socket.
const PATIENCE: Duration = Duration::from_secs(2);

/// Creates the socket; replaces one that nobody listens on any more.
///
/// # Errors
/// `AddrInUse` if another process listens on it, or an error of bind(2), unlink(2) or chmod(2).
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let is_deserted = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_deserted {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers each connection: JSON on the first line, then the table.
pub fn run(shared: &Shared, listener: &UnixListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(PATIENCE);
            continue;
        };
        let report = shared.report();
        let _ = stream.shutdown(Shutdown::Read);
        let _ = stream.set_write_timeout(Some(PATIENCE));
        if let Err(error) = stream.write_all((report.json() + &report.text()).as_bytes())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            say(&format!("could not answer: {error}"));
        }
    }
}

/// Asks the running program for its status, as a table or as JSON.
///
/// # Errors
/// An error of connect(2) or read(2), or an incomplete answer.
pub fn ask(path: &Path, as_json: bool) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (json, table) = text.split_once('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(if as_json { format!("{json}\n") } else { table.to_owned() })
}
