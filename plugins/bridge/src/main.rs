//! The `bridge` executable.

fn main() -> std::process::ExitCode {
    cni::main(bridge::Bridge)
}
