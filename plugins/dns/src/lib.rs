//! `dns`: containers find each other by name, on every kind of network.
//!
//! Two halves share one executable and the files of [`record`]. The plugin writes one file for each attachment and
//! has the responder know of it ([`control`]) before ADD answers. The responder holds nothing that is not in the files.

pub mod control;
pub mod record;
