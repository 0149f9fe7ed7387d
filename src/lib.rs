//! Port knocking: the parts that `knockd` and `knock` are made of.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod config;
pub mod craft;
pub mod daemon;
pub mod dissect;
pub mod knock;
pub mod packet;
pub mod plan;
pub mod profile;
pub mod sequence;
pub mod shape;
pub mod time;
