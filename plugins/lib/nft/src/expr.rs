//! Expressions: the parts of rules.

use netlink::attr::{Attr, Malformed, Writer};
use sys::IpFamily;

use super::expr_wire as wire;
use super::field::Field;
use super::uapi::{NFT_REG32_00, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM};
use super::value::Value;
use super::verdict::Verdict;

/// A 4-byte register; longer values take several consecutive ones. [`super::Rule`] allocates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg(u8);

impl Reg {
    /// The number of registers.
    const COUNT: usize = 16;

    /// The first register.
    pub(super) const FIRST: Self = Self(0);

    /// The register `index`, from 0.
    pub(super) fn new(index: usize) -> Result<Self, Malformed> {
        u8::try_from(index)
            .ok()
            .filter(|_| index < Self::COUNT)
            .map(Self)
            .ok_or(Malformed("a rule needs more than 64 bytes of registers"))
    }

    /// Its number as a NFT_REG32_*.
    pub(super) fn number(self) -> u32 {
        NFT_REG32_00 + u32::from(self.0)
    }

    /// Reads a NFT_REG32_*, or a NFT_REG_*, which the kernel uses for every fourth.
    pub(super) fn from_number(number: u32) -> Result<Self, Malformed> {
        let index = match number {
            1..=4 => Some((number - 1) * 4),
            _ => number.checked_sub(NFT_REG32_00),
        };
        index
            .and_then(|index| usize::try_from(index).ok())
            .ok_or(Malformed("unknown register number"))
            .and_then(Self::new)
    }
}

/// One step of a rule. A step that does not match ends the rule; the packet continues at the next
/// rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Loads a field of the packet into registers; does not match when the packet has no such
    /// field.
    Load {
        /// The field.
        field: Field,
        /// The first register.
        to: Reg,
    },
    /// Puts a constant into registers.
    Immediate {
        /// The constant.
        value: Value,
        /// The first register.
        to: Reg,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Matches when the comparison of the register with the constant holds.
    Compare {
        /// The register.
        from: Reg,
        /// The operator.
        op: Compare,
        /// The constant. Of a longer register, only this many bytes are compared.
        value: Value,
    },
    /// `register = (register & mask) ^ xor`.
    Bitwise {
        /// The register.
        at: Reg,
        /// Bits to keep.
        mask: Value,
        /// Bits to flip afterwards.
        xor: Value,
    },
    /// Converts each number in a register to network byte order, or back. This library does not
    /// write it.
    Byteorder {
        /// The length of each number, in bytes.
        size: u32,
        /// The length of all numbers; below `size`, nothing happens.
        length: u32,
    },
    /// Looks up a key; does not match when the key is missing.
    Lookup {
        /// The set or map.
        set: String,
        /// The first register of the key.
        from: Reg,
        /// What to do with the result.
        to: LookupResult,
    },
    /// Translates the connection's destination or source address.
    Nat(Nat),
    /// Translates the connection's source to the outgoing interface's address.
    Masquerade {
        /// With a random port.
        fully_random: bool,
    },
    /// Counts packets and bytes.
    Counter,
    /// Keeps the packet out of connection tracking, and so out of address translation.
    Notrack,
    /// Matches as many packets as a rate permits.
    Limit {
        /// Packets per second.
        rate: u64,
        /// Packets that may exceed the rate at once.
        burst: u32,
    },
    /// Writes the packet's headers to the kernel's log, behind this prefix of at most 127 bytes
    /// (NF_LOG_PREFIXLEN, linux/netfilter/nf_log.h, without its NUL).
    Log(String),
    /// Lets the further packets of the connection bypass the rules, by the flowtable of this name.
    Offload(String),
    /// Matches what an extension of xtables matches.
    Match {
        /// The extension's name.
        name: String,
        /// The version of its data.
        revision: u32,
        /// Its data, in the extension's own structure (linux/netfilter/xt_*.h), padded to eight
        /// bytes.
        data: Vec<u8>,
    },
    /// An expression that this library does not know, by its name (or a known one with unsupported
    /// attributes); an xtables target is `target` and its name.
    Other(String),
}

/// A comparison of a register with a constant, as big-endian numbers (enum nft_cmp_ops).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compare {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// Less.
    Less,
    /// Less or the same.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or the same.
    GreaterOrEqual,
}

/// What a lookup does with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupResult {
    /// In a set: the rule continues if the key is present.
    Member,
    /// In a set: the rule continues if the key is *not* present.
    NotMember,
    /// In a map: the value is loaded into registers.
    Value(Reg),
    /// In a verdict map: the rule ends with the verdict.
    Verdict,
}

/// An address translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Of the destination; otherwise of the source.
    pub destination: bool,
    /// The family of the addresses.
    pub family: IpFamily,
    /// The register of the address, or of the first address of a range.
    pub addr: Reg,
    /// The register of the last address of a range.
    pub addr_last: Option<Reg>,
    /// The register of the port, or of the first port of a range; `None` keeps the port.
    pub port: Option<Reg>,
    /// The register of the last port of a range. A port inside the range is kept.
    pub port_last: Option<Reg>,
    /// NF_NAT_RANGE_* (linux/netfilter/nf_nat.h).
    pub flags: u32,
}

impl Expr {
    /// Appends it to a rule's list.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.nest(NFTA_LIST_ELEM, |w| {
            w.string(NFTA_EXPR_NAME, self.name());
            w.nest(NFTA_EXPR_DATA, |w| wire::write(self, w));
        });
    }

    /// Reads one expression of a rule's list. An unknown one is not an error.
    pub(super) fn read(attr: Attr<'_>) -> Result<Self, Malformed> {
        let mut name = String::new();
        let mut data = None;
        for attr in attr.nested() {
            let attr = attr?;
            match attr.kind {
                NFTA_EXPR_NAME => name = attr.string(),
                NFTA_EXPR_DATA => data = Some(attr),
                _ => {}
            }
        }
        let data = data.map(wire::Known::read).transpose()?.unwrap_or_default();
        Ok(wire::read(&name, &data).unwrap_or(Self::Other(name)))
    }

    fn name(&self) -> &str {
        match self {
            Self::Load { field, .. } => match field {
                Field::Meta(_) => "meta",
                Field::Ct(_) => "ct",
                Field::Payload { .. } => "payload",
                Field::FibDaddrType => "fib",
            },
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Compare { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Byteorder { .. } => "byteorder",
            Self::Lookup { .. } => "lookup",
            Self::Nat(_) => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Counter => "counter",
            Self::Notrack => "notrack",
            Self::Limit { .. } => "limit",
            Self::Log(_) => "log",
            Self::Offload(_) => "flow_offload",
            Self::Match { .. } => "match",
            Self::Other(name) => name,
        }
    }
}

impl Compare {
    const ALL: [Self; 6] =
        [Self::Equal, Self::NotEqual, Self::Less, Self::LessOrEqual, Self::Greater, Self::GreaterOrEqual];

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Equal => 0,
            Self::NotEqual => 1,
            Self::Less => 2,
            Self::LessOrEqual => 3,
            Self::Greater => 4,
            Self::GreaterOrEqual => 5,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.number() == number)
    }
}
