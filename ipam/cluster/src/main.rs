//! The `cluster` executable.

#[global_allocator]
static ALLOCATOR: sys::memory::OneShot = sys::memory::OneShot;

fn main() -> std::process::ExitCode {
    cni::main(cluster_ipam::Cluster::default())
}
