//! `--proxy`: a connection joined to standard input and output, for `ProxyCommand` of ssh.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use crate::client::output;

/// How much is carried at once, in bytes: a pipe holds no more.
const LOAD: usize = 65_536;

/// Copies both ways until the other side has said its last word.
///
/// The end of our input is passed on, and the rest of the answer awaited.
///
/// # Errors
/// Standard input or output cannot be used, or the connection broke.
pub fn join(stream: &TcpStream) -> io::Result<()> {
    // Descriptors of our own: std's handles would put a buffer between the two programs.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let to_user = output::unbuffered()?;
    let (to_host, from_host) = (stream.try_clone()?, stream.try_clone()?);
    // A thread, the only one in this program: in a poll loop standard input and output had to be
    // non-blocking, and so had they for whoever else has the same terminal or pipe open.
    thread::Builder::new().spawn(move || {
        let _ = carry(input, &to_host);
        let _ = to_host.shutdown(Shutdown::Write);
    })?;
    match carry(from_host, to_user) {
        // Nobody reads any more, which is how the other program ends.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        carried => carried,
    }
}

/// Hands on what arrives, as soon as it arrives.
///
/// Not `io::copy`: it has the kernel splice pipes and sockets, and on Linux 6.18 a splice from a pipe
/// sleeps on after the pipe was written to, so that ssh waits for an answer to what was never sent.
fn carry(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut load = vec![0; LOAD];
    loop {
        match from.read(&mut load) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(load.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
