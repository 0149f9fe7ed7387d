//! Links without a link-level header, whose packets we are the other end of.

use std::io;

/// A tun device; it is gone when this is dropped.
#[cfg(not(target_env = "musl"))]
pub struct Tun(tappers::Tun);

#[cfg(not(target_env = "musl"))]
impl Tun {
    /// A new one of this name, in the namespace of the calling thread.
    pub fn new(name: &str) -> io::Result<Tun> {
        tappers::Tun::new_named(tappers::Interface::new(name)?).map(Tun)
    }

    /// A packet comes in through it.
    pub fn send(&self, packet: &[u8]) -> io::Result<usize> {
        self.0.send(packet)
    }
}

/// What makes such devices does not know the ioctl of every machine that has musl.
#[cfg(target_env = "musl")]
pub struct Tun;

#[cfg(target_env = "musl")]
impl Tun {
    pub fn new(_: &str) -> io::Result<Tun> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "these tests make none where the C library is musl"))
    }

    pub fn send(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
