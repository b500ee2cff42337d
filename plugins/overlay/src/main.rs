//! The `overlay` executable.

#[global_allocator]
static ALLOCATOR: sys::memory::OneShot = sys::memory::OneShot;

fn main() -> std::process::ExitCode {
    cni::main(overlay::Overlay)
}
