//! strace: where a plugin can be hit, a plugin that is hit there, and how many system calls it makes.

pub mod attached;
pub mod point;
pub mod summary;
pub mod victim;
