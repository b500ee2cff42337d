//! The `overlay-agent` executable.

fn main() -> std::process::ExitCode {
    overlay_agent::main()
}
