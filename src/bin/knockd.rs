//! The daemon; called as `knock`, the client.
fn main() {}
