//! `--proxy`: copies between a connection and standard input and output, for ssh's `ProxyCommand`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::client::{output, system};

/// The size of the copy buffer in bytes: the capacity of a pipe.
const BUFFER_SIZE: usize = 65_536;

/// Copies in both directions until the peer closes the connection.
///
/// At the end of standard input, shuts down the sending side and keeps copying the peer's data.
///
/// # Errors
/// Standard input or output is closed, or the connection broke.
pub fn relay(stream: &TcpStream) -> io::Result<()> {
    // Duplicates of the descriptors, because std's handles are buffered.
    let input = system::duplicate(&io::stdin())?;
    let to_user = output::unbuffered_stdout()?;
    let (to_host, from_host) = (stream.try_clone()?, stream.try_clone()?);
    // The only thread of this program. A poll loop would have to set O_NONBLOCK on standard input and output,
    // which would affect every other program that has the same terminal or pipe open.
    thread::Builder::new().spawn(move || {
        let _ = copy(input, &to_host);
        let _ = to_host.shutdown(Shutdown::Write);
    })?;
    match copy(from_host, to_user) {
        // The reader of standard output has ended.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied,
    }
}

/// Copies data as soon as it arrives.
///
/// Not `io::copy`, which uses splice(2): on Linux 6.18 a splice from a pipe may keep sleeping after data
/// arrived in the pipe, and ssh would wait for an answer to data that was never sent.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(buffer.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
