//! The key of an answer: everything that an answer may depend on.

use std::net::SocketAddr;

use super::Scope;
use crate::wire::{Query, flag};

/// Writes the key in place of the former one. Each part has a fixed length or follows its
/// length, so two different queries have different keys.
pub(super) fn write(key: &mut Vec<u8>, scope: &Scope<'_>, query: &Query<'_>) {
    key.clear();
    let flags = query.flags() & (flag::RD | flag::CD | flag::AD);
    key.extend_from_slice(&flags.to_be_bytes());
    key.push(query.edns.map_or(0, |edns| 1 + u8::from(edns.dnssec)));
    match scope.owner {
        None => key.push(0),
        Some(owner) => {
            key.push(1);
            key.extend_from_slice(&owner.len().to_be_bytes());
            key.extend_from_slice(owner.as_bytes());
        }
    }
    key.push(u8::try_from(scope.servers.len()).unwrap_or(u8::MAX));
    for server in scope.servers {
        match server {
            SocketAddr::V4(server) => {
                key.push(4);
                key.extend_from_slice(&server.ip().octets());
            }
            SocketAddr::V6(server) => {
                key.push(6);
                key.extend_from_slice(&server.ip().octets());
                key.extend_from_slice(&server.scope_id().to_be_bytes());
            }
        }
        key.extend_from_slice(&server.port().to_be_bytes());
    }
    // The name in lower case; type and class are no letters.
    let question = query.question();
    let (name, rest) = question.split_at(question.len().saturating_sub(4));
    key.extend(name.iter().map(u8::to_ascii_lowercase));
    key.extend_from_slice(rest);
}
