//! The tools of the tests; nothing here knows what a daemon should do.

pub mod capture;
pub mod daemon;
pub mod folder;
pub mod golden;
pub mod interpreter;
pub mod isolation;
pub mod link;
pub mod namespace;
pub mod packet;
pub mod process;
pub mod tun;
pub mod world;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Lists the tests of a module: `trials![opens, closes];` makes its `pub fn tests()`.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        /// The tests of this module.
        pub fn tests() -> Vec<libtest_mimic::Trial> {
            let module = module_path!().split_once("::").map_or("", |(_, rest)| rest);
            vec![$(
                libtest_mimic::Trial::test(format!("{module}::{}", stringify!($test)), || {
                    $test();
                    Ok(())
                })
            ),*]
        }
    };
}

/// How many times as long everything may take: `KNOCKD_TEST_SLOWNESS`, which `contrib/test-kernels.sh` sets on emulated
/// machines.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let variable = std::env::var("KNOCKD_TEST_SLOWNESS");
    variable.ok().and_then(|number| number.parse().ok()).unwrap_or(1)
});

/// Waits until `condition` holds; returns whether it did within `limit`.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit * *SLOWNESS;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `seconds(1.5)`, for readable tests.
pub fn seconds(count: f64) -> Duration {
    Duration::from_secs_f64(count)
}

/// Sleeps for so many seconds.
pub fn pause(count: f64) {
    std::thread::sleep(seconds(count));
}
