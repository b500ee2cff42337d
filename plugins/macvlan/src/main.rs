//! The `macvlan` executable.

fn main() -> std::process::ExitCode {
    cni::main(macvlan::Macvlan)
}
