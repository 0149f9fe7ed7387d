//! How the event loops wait: one call of `poll(2)`, and its timeout.

use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollTimeout, poll};

use crate::daemon::pages;
use crate::time::Now;

/// How long to sleep when `poll` itself fails.
const FAILURE_DELAY: Duration = Duration::from_millis(20);
/// After this many idle milliseconds, a process gives back the memory of its code.
const IDLE_MILLISECONDS: u16 = 100;

/// Sleeps until a descriptor is ready or the timeout is over; false if `poll` failed and no `revents` are set.
///
/// `poll` keeps failing while the limit of open files is below the number of descriptors, or memory is short.
/// The caller must then try every descriptor; the pause keeps its loop from spinning.
pub(super) fn wait_for(descriptors: &mut [PollFd<'_>], timeout: PollTimeout) -> bool {
    has_result(poll(descriptors, timeout))
}

fn has_result(result: nix::Result<i32>) -> bool {
    let has_result = matches!(result, Ok(_) | Err(Errno::EINTR));
    if !has_result {
        std::thread::sleep(FAILURE_DELAY);
    }
    has_result
}

/// The same for waits that may be long: after [`IDLE_MILLISECONDS`] without an event, the memory of the code
/// is given back ([`pages::release_code`]), once for each wait.
pub(super) fn rest_for(descriptors: &mut [PollFd<'_>], timeout: PollTimeout) -> bool {
    // Negative without a timeout.
    let milliseconds = i32::from(timeout);
    if (0..=i32::from(IDLE_MILLISECONDS)).contains(&milliseconds) {
        return wait_for(descriptors, timeout);
    }
    let left = if milliseconds < 0 {
        PollTimeout::NONE
    } else {
        PollTimeout::try_from(milliseconds - i32::from(IDLE_MILLISECONDS)).unwrap_or(PollTimeout::ZERO)
    };
    match poll(descriptors, IDLE_MILLISECONDS) {
        Ok(0) => {
            pages::release_code();
            wait_for(descriptors, left)
        }
        result => has_result(result),
    }
}

/// The timeout of a `poll` that must return by the deadline (uptime); without a deadline, none.
pub(super) fn poll_timeout(deadline: Option<Duration>, now: Now) -> PollTimeout {
    // `poll` does not count the time that the machine is suspended; uptime does.
    const MAX_TIMEOUT: Duration = Duration::from_mins(1);
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_sub(now.uptime).min(MAX_TIMEOUT);
    // Rounded up: waking too early means waking twice.
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}
