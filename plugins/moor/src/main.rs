//! The `moor` executable.

fn main() -> std::process::ExitCode {
    moor::main()
}
