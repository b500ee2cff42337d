//! The names of a container: where a request has them, and which texts are names (RFC 1035, RFC
//! 1123, and the underscore that compose uses). Plugins that make a container known by name share
//! these rules.

mod sources;
mod syntax;

pub use sources::{Rules, Sources, pod_name};
pub use syntax::{Invalid, NAMES_MAX, deduplicate, domain, is_external, parse, short_id};
