//! `knockd --simulate`: what the log would say of packets that were captured, or of lines that describe some, and which
//! commands would run when.
//!
//! The packets go through the same predicate, [`Engine`](crate::engine::Engine) and
//! [`Openings`](crate::opening::Openings) as in the daemon; only the clock is that of the packets, and each command
//! ends at once with 0.

pub mod capture;
pub mod play;
pub mod steps;
mod why;
