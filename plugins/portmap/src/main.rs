//! The `portmap` executable.

fn main() -> std::process::ExitCode {
    cni::main(portmap::PortMap)
}
