//! The `host-local` executable.

fn main() -> std::process::ExitCode {
    cni::main(host_local::HostLocal::default())
}
