//! strace: the points at which a plugin can be hit, a plugin hit there, and counts of system calls.

pub mod attached;
pub mod point;
pub mod summary;
pub mod victim;
