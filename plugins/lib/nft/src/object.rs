//! Tables, chains, sets and maps, as they are named and declared.

use std::fmt;

use super::uapi::{NF_ACCEPT, NF_DROP};
use super::value::Type;

/// What packets a table sees (NFPROTO_* in linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// What passes through bridges.
    Bridge,
}

impl Family {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Inet),
            2 => Some(Self::Ip),
            7 => Some(Self::Bridge),
            10 => Some(Self::Ip6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
        })
    }
}

/// A table, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// Its family.
    pub family: Family,
    /// Its name, up to 255 bytes.
    pub name: &'a str,
}

/// A chain, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Where it is.
    pub table: Table<'a>,
    /// Its name, up to 255 bytes.
    pub name: &'a str,
}

/// A set or a map, as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// Where it is.
    pub table: Table<'a>,
    /// Its name, up to 255 bytes.
    pub name: &'a str,
    /// What a key consists of; more than one part is a concatenation.
    pub key: &'static [Type],
    /// What an element leads to.
    pub data: Data,
    /// Keys may be ranges. A look-up is then a search and no longer a hash, and of a concatenation a change copies
    /// the whole set: for the few, not for the many.
    pub interval: bool,
}

/// What an element of a set leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it is a set.
    None,
    /// A verdict: it is a verdict map.
    Verdict,
    /// A value of these types.
    Value(&'static [Type]),
    /// A range of values of these types: the first and the last, one behind the other in the registers.
    Range(&'static [Type]),
}

/// What makes a chain a base chain: where packets come into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its type.
    pub kind: Kind,
    /// Its hook.
    pub hook: Hook,
    /// Its place among the chains of the hook: lower ones come first.
    pub priority: i32,
    /// What becomes of a packet at its end.
    pub policy: Policy,
}

impl Base {
    /// Whether a listing ([`super::ChainInfo::base`]) tells the same.
    pub fn is(&self, (kind, hook, priority, policy): &(String, u32, i32, u32)) -> bool {
        (kind.as_str(), *hook, *priority, *policy)
            == (self.kind.name(), self.hook.number(), self.priority, self.policy.number())
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        write!(f, "type {} hook {hook} priority {}", self.kind.name(), self.priority)
    }
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any packet.
    Filter,
    /// The first packet of a connection.
    Nat,
    /// Any packet going out; it is routed again when its mark changes.
    Route,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

/// A hook (NF_INET_* in linux/netfilter.h, NF_BR_* in linux/netfilter_bridge.h: the same numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

impl Hook {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// What becomes of a packet at the end of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
}

impl Policy {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Accept => NF_ACCEPT,
            Self::Drop => NF_DROP,
        }
    }
}

impl Set<'_> {
    /// `map` or `set`.
    pub(super) const fn noun(&self) -> &'static str {
        if matches!(self.data, Data::None) { "set" } else { "map" }
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name.escape_debug())
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name.escape_debug())
    }
}

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.noun(), self.table, self.name.escape_debug())
    }
}
