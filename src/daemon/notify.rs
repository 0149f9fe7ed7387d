//! Notifies the service manager (`sd_notify(3)`); does nothing without one.

use std::ffi::OsStr;

use sd_notify::NotifyState;

/// The variable with the service manager's socket; commands do not inherit it.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// `READY=1`: the daemon listens, with the configuration in force.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// `RELOADING=1`: the configuration is being read again; [`ready`] follows, also after a failure.
pub fn reloading() {
    if let Ok(time) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, time]);
    }
}

/// `STOPPING=1`: the daemon no longer listens and closes its doors.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Whether commands inherit this variable of our environment: not the service manager's, and not
/// `KNOCKD_...`, which we set for each command.
#[must_use]
pub fn is_for_commands(name: &OsStr) -> bool {
    name != VARIABLE && !name.as_encoded_bytes().starts_with(b"KNOCKD_")
}

fn tell(state: &[NotifyState<'_>]) {
    // An unreachable service manager is ignored.
    let _ = sd_notify::notify(state);
}
