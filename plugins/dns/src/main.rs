//! The `dns` executable.

fn main() -> std::process::ExitCode {
    cni::main(dns::Dns)
}
