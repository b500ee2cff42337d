//! The `ipvlan` executable.

fn main() -> std::process::ExitCode {
    cni::main(ipvlan::Ipvlan)
}
