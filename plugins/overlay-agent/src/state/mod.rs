//! What the agent knows: etcd's records, this host's files, and what plugins asked for.

pub mod cache;
pub mod local;
pub mod want;
