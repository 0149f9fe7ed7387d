//! What comes after the knock: waiting for the port, and a connection to it.

pub mod proxy;
pub mod wait;
