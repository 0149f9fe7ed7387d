//! The daemon, or the client if called as `knock`, so that a router needs only one file and a link. The
//! daemon runs on Linux only.
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let is_client = std::path::Path::new(&name).file_name().is_some_and(|name| name == "knock");
    #[cfg(target_os = "linux")]
    if !is_client {
        return knocking::daemon::main();
    }
    #[cfg(not(target_os = "linux"))]
    if !is_client {
        return knocking::client::daemon_is_missing();
    }
    knocking::client::main()
}
