//! What a suite costs: attachments, and names.

pub mod attachments;
pub mod dns;
mod stats;
