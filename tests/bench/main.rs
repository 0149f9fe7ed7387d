//! The benches: `cargo bench` measures, `cargo bench -- --test` only runs each once.
//!
//! `cargo bench -- NAME` measures those whose name contains NAME; `odds.rs` is a program of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod config;
mod engine;
mod support;
mod wire;

fn main() {
    divan::main();
}
