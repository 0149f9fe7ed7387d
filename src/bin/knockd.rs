//! The daemon; called as `knock`, the client.
fn main() -> std::process::ExitCode {
    knocking::daemon::main()
}
