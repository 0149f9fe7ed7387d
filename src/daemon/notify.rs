//! Tells the service manager how we are (`sd_notify(3)`); without one, nothing happens.

use std::ffi::OsStr;

use sd_notify::NotifyState;

/// The variable that says where the service manager listens; it is not for what we run.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// Knocks are listened for, with the configuration in force.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read again; [`ready`] follows, whatever comes of it.
pub fn reloading() {
    if let Ok(time) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, time]);
    }
}

/// Nothing is listened for any more; doors are closed.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Whether a variable of our environment is for commands as well: what is ours to tell them
/// (`KNOCKD_...`) is not inherited.
#[must_use]
pub fn is_for_commands(name: &OsStr) -> bool {
    name != VARIABLE && !name.as_encoded_bytes().starts_with(b"KNOCKD_")
}

fn tell(state: &[NotifyState<'_>]) {
    // A service manager that does not listen is no reason to do anything else.
    let _ = sd_notify::notify(state);
}
