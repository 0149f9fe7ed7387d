//! The daemon, or the client if called as `knock`, so that a router needs one file and a link.
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let is_client = std::path::Path::new(&name).file_name().is_some_and(|name| name == "knock");
    if is_client { knocking::client::main() } else { knocking::daemon::main() }
}
