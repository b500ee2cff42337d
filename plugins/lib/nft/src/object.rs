//! Tables, chains, sets and maps: their names and declarations.

use std::fmt;

use super::uapi::{NF_ACCEPT, NF_DROP};
use super::value::Type;

/// The packets that a table sees (NFPROTO_* in linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Packets that pass through bridges.
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

/// A table's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// Its family.
    pub family: Family,
    /// Its name, up to 255 bytes.
    pub name: &'a str,
}

/// A chain's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Its name, up to 255 bytes.
    pub name: &'a str,
}

/// A flowtable's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flowtable<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Its name, up to 255 bytes.
    pub name: &'a str,
}

/// The declaration of a set or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Its name, up to 255 bytes.
    pub name: &'a str,
    /// The types of its key; more than one is a concatenation.
    pub key: &'static [Type],
    /// The data of its elements.
    pub data: Data,
    /// Keys may be ranges. A lookup is then a search instead of a hash, and changing a
    /// concatenation copies the whole set: suitable for few elements only.
    pub interval: bool,
}

/// The data of a set's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// None: a set.
    None,
    /// A verdict: a verdict map.
    Verdict,
    /// A value of these types.
    Value(&'static [Type]),
    /// A range of values of these types: the first and the last, in consecutive registers.
    Range(&'static [Type]),
}

/// The attributes that make a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its type.
    pub kind: Kind,
    /// Its hook.
    pub hook: Hook,
    /// Its order among the hook's chains: lower ones run first.
    pub priority: i32,
    /// The fate of a packet that reaches its end.
    pub policy: Policy,
}

impl Base {
    /// Whether a listing ([`super::ChainInfo::base`]) shows the same.
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
    /// Outgoing packets; a packet is routed again when its mark changes.
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

/// The fate of a packet that reaches the end of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It continues.
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

impl fmt::Display for Flowtable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flowtable {} {}", self.table, self.name.escape_debug())
    }
}

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.noun(), self.table, self.name.escape_debug())
    }
}
