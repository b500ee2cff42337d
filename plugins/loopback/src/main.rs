//! The `loopback` executable.

fn main() -> std::process::ExitCode {
    cni::main(loopback::Loopback)
}
