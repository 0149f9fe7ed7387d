//! The status socket: it is written to, and never read.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::log::say;
use crate::shared::Shared;

/// How long a reader may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes the socket; one that nobody listens at any more is replaced.
///
/// # Errors
/// `AddrInUse` if another process listens there, or what the operating system says.
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

/// Answers each connection: JSON, and behind a line of its own the table.
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

/// What the running program tells: as a table, or as JSON.
///
/// # Errors
/// What the operating system says.
pub fn ask(path: &Path, as_json: bool) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (json, table) = text.split_once('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(if as_json { format!("{json}\n") } else { table.to_owned() })
}
