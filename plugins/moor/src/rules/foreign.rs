//! Base chains of other programs, as they are printed.

use std::path::Path;

use host::rules::ForeignChain;
use serde::Serialize;

use crate::doctor;
use crate::files;
use crate::output::Note;

/// Larger than any list of names of tables, in bytes.
const NAMES_MAX: u64 = 4096;

/// A chain of another program.
#[derive(Debug, Serialize)]
pub struct ChainItem {
    /// `forward`
    pub hook: &'static str,
    /// Lower ones run first.
    pub priority: i32,
    /// Family and name: `ip filter`.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// `filter`, `nat`, `route`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What becomes of a packet at its end.
    pub end: &'static str,
    /// The program that made it, as far as its names show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
}

impl ChainItem {
    pub fn of(chain: &ForeignChain) -> Self {
        let end = match (chain.closed, chain.drops) {
            (true, true) => "drop (policy)",
            (true, false) => "drop (last rule)",
            (false, true) => "accept (last rule)",
            (false, false) => "accept",
        };
        Self {
            hook: hook(chain.hook),
            priority: chain.priority,
            table: format!("{} {}", chain.family, chain.table),
            chain: chain.name.clone(),
            kind: chain.kind.clone(),
            end,
            by: doctor::maker(chain),
        }
    }
}

/// NF_INET_* (linux/netfilter.h), which are those of bridges too.
fn hook(number: u32) -> &'static str {
    match number {
        0 => "prerouting",
        1 => "input",
        2 => "forward",
        3 => "output",
        4 => "postrouting",
        5 => "ingress",
        _ => "egress",
    }
}

/// Legacy iptables tables exist, and are not looked into.
pub fn legacy() -> Vec<Note> {
    let mut notes = Vec::new();
    for path in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
        let names = files::read(Path::new(path), NAMES_MAX).unwrap_or_default();
        let names = String::from_utf8_lossy(&names).split_whitespace().collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            let text = format!("legacy iptables tables exist, and are not looked into: {names}");
            notes.push(Note::about("legacy", Path::new(path), text));
        }
    }
    notes
}
