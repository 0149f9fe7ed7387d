//! `--proxy`: a connection joined to standard input and output, for `ProxyCommand` of ssh.

use std::fs::File;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use super::output;

/// Copies both ways until the other side has said its last word.
///
/// The end of our input is passed on, and the rest of the answer awaited.
///
/// # Errors
/// Standard input or output cannot be used, or the connection broke.
pub(super) fn join(stream: &TcpStream) -> io::Result<()> {
    // Descriptors of our own: std's handles would put a buffer between the two programs.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut to_user = output::unbuffered()?;
    let mut to_host = stream.try_clone()?;
    let mut from_host = stream.try_clone()?;
    // A thread, the only one in this program: in a poll loop standard input and output had to be
    // non-blocking, and so had they for whoever else has the same terminal or pipe open.
    thread::Builder::new().spawn(move || {
        let _ = io::copy(&mut input, &mut to_host);
        let _ = to_host.shutdown(Shutdown::Write);
    })?;
    match io::copy(&mut from_host, &mut to_user) {
        // Nobody reads any more, which is how the other program ends.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied.map(drop),
    }
}
