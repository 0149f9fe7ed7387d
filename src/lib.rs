//! Port knocking: the parts that `knockd` and `knock` are made of.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod config;
pub mod daemon;
pub mod knock;
pub mod packet;
pub mod plan;
pub mod sequence;
pub mod time;
