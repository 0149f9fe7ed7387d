//! A knockd.conf, from text to doors.

pub mod syntax;
