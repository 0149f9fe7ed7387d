//! What has to be found out before the first knock: addresses, ports, the next line of a file.

pub mod one_time;
pub mod resolve;
pub mod source;
pub mod stun;
