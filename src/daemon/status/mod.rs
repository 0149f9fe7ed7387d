//! What the daemon tells of itself: the sockets where it is asked, and the program that asks.

pub mod answers;
pub mod ask;
pub mod place;
