//! The cost of a suite: of attachments, and of names.

pub mod attachments;
pub mod dns;
mod stats;
