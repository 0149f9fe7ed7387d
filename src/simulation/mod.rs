//! `knockd --simulate`: shows what the daemon would log about captured or described packets, and which
//! commands it would run when.
//!
//! The packets pass through the same predicate, [`Engine`](crate::engine::Engine) and
//! [`Openings`](crate::opening::Openings) as in the daemon. Only the clock follows the packets, and each
//! command ends at once with exit code 0.

pub mod capture;
mod explanation;
pub mod simulator;
pub mod steps;
