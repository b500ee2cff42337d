//! Container engines from Debian's packages in a room, each with a suite of plugins: what
//! `conformance clients` tests, and what `conformance bench` measures.

pub mod containerd;
pub mod cri;
pub mod machine;
pub mod podman;
