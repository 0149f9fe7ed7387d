//! The client.
fn main() -> std::process::ExitCode {
    knocking::client::main()
}
