//! Tun devices: links without a link-level header, of which the tests are the other end.

use std::io;

/// A tun device, removed when dropped.
#[cfg(not(target_env = "musl"))]
pub struct Tun(tappers::Tun);

#[cfg(not(target_env = "musl"))]
impl Tun {
    /// Creates one of this name in the namespace of the calling thread.
    pub fn new(name: &str) -> io::Result<Tun> {
        tappers::Tun::new_named(tappers::Interface::new(name)?).map(Tun)
    }

    /// Lets a packet come in through the device.
    pub fn send(&self, packet: &[u8]) -> io::Result<usize> {
        self.0.send(packet)
    }
}

/// The crate for tun devices does not build for every musl target.
#[cfg(target_env = "musl")]
pub struct Tun;

#[cfg(target_env = "musl")]
impl Tun {
    pub fn new(_: &str) -> io::Result<Tun> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the tests make no tun devices with musl"))
    }

    pub fn send(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
