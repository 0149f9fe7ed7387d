//! The wait of the event loops: one call of `poll`, and how long it may take.

use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollTimeout, poll};

use crate::time::Now;

/// How long to sleep when `poll` itself fails.
const PAUSE: Duration = Duration::from_millis(20);

/// Sleeps until a descriptor is ready or the timeout is over; false if `poll` failed and no `revents` are set.
///
/// `poll` keeps failing while the limit of open files is below the number of descriptors, or memory is short.
/// The caller must then try every descriptor; the pause keeps its loop from spinning.
pub(super) fn wait_for(descriptors: &mut [PollFd<'_>], timeout: PollTimeout) -> bool {
    match poll(descriptors, timeout) {
        Ok(_) | Err(Errno::EINTR) => true,
        Err(_) => {
            std::thread::sleep(PAUSE);
            false
        }
    }
}

/// The timeout of a `poll` that must return by the deadline (uptime); without a deadline, none.
pub(super) fn poll_timeout(deadline: Option<Duration>, now: Now) -> PollTimeout {
    // `poll` does not count the time that the machine is suspended; uptime does.
    const AT_MOST: Duration = Duration::from_mins(1);
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_sub(now.uptime).min(AT_MOST);
    // Rounded up: waking too early means waking twice.
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}
