//! YAML as people write compose files: a tree whose nodes know their place, within limits that
//! aliases cannot exceed.
//!
//! The schema is YAML 1.2's core with `yes`, `no`, `on` and `off`, as compose has it. Tags are
//! refused: nothing here has a use for them.

mod fault;
mod load;
mod node;
mod scalar;

pub use fault::{Fault, Place};
pub use load::load;
pub use node::{Key, Map, Node, Value};
pub use scalar::{Meaning, Scalar};

/// The longest document, in bytes; also the sum of all text after aliases are expanded.
pub const SIZE_MAX: usize = 1024 * 1024;
/// The nodes of a document after aliases are expanded.
pub const NODES_MAX: usize = 10_000;
/// How deep lists and maps may be nested.
pub const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests;
