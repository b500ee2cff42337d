//! The runtime library against plugins that are shell scripts. Clause numbers are those of the contract: C-nnn of
//! spec.md, section numbers of libcni_runtime.md.
#![allow(clippy::unwrap_used)]

mod cache;
mod conflists;
mod execution;
mod gc;
mod operations;
mod requests;
mod support;
mod validation;
