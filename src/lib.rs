//! Port knocking: the parts that `knockd` and `knock` are made of.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attempts;
pub mod client;
pub mod config;
pub mod daemon;
pub mod door;
pub mod engine;
pub mod event;
pub mod filter;
pub mod interest;
pub mod knock;
pub mod lock;
pub mod opening;
pub mod packet;
pub mod reason;
pub mod sequence;
pub mod time;
