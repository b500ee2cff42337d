//! Expressions: what rules consist of.

use netlink::attr::{Attr, Malformed, Writer};
use sys::IpFamily;

use super::expr_wire as wire;
use super::field::Field;
use super::uapi::{NFT_REG32_00, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM};
use super::value::Value;
use super::verdict::Verdict;

/// A register of four bytes; longer values take as many of them in a row. [`super::Rule`] hands them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg(u8);

impl Reg {
    /// How many there are.
    const COUNT: usize = 16;

    /// The first.
    pub(super) const FIRST: Self = Self(0);

    /// The register `index`, from 0.
    pub(super) fn new(index: usize) -> Result<Self, Malformed> {
        u8::try_from(index)
            .ok()
            .filter(|_| index < Self::COUNT)
            .map(Self)
            .ok_or(Malformed("a rule needs more than 64 bytes of registers"))
    }

    /// Its NFT_REG32_*.
    pub(super) fn number(self) -> u32 {
        NFT_REG32_00 + u32::from(self.0)
    }

    /// From a NFT_REG32_*, or a NFT_REG_*, as the kernel calls every fourth.
    pub(super) fn from_number(number: u32) -> Result<Self, Malformed> {
        let index = match number {
            1..=4 => Some((number - 1) * 4),
            _ => number.checked_sub(NFT_REG32_00),
        };
        index
            .and_then(|index| usize::try_from(index).ok())
            .ok_or(Malformed("a register is none that is known"))
            .and_then(Self::new)
    }
}

/// What a rule does at one step. A step that does not match ends the rule; the packet goes on to the next one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Puts something of the packet into registers; does not match when the packet has no such thing.
    Load {
        /// What.
        field: Field,
        /// Where to.
        to: Reg,
    },
    /// Puts a constant into registers.
    Immediate {
        /// The constant.
        value: Value,
        /// Where to.
        to: Reg,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Matches when the register compares so to the constant.
    Compare {
        /// What is compared.
        from: Reg,
        /// How.
        op: Compare,
        /// To what. Of a longer register, only so many bytes are looked at.
        value: Value,
    },
    /// `register = (register & mask) ^ xor`.
    Bitwise {
        /// The register.
        at: Reg,
        /// Bits to keep.
        mask: Value,
        /// Bits to turn over then.
        xor: Value,
    },
    /// Puts the bytes of each number of a register into network order, or back. This library does not write it.
    Byteorder {
        /// How long each number is, in bytes.
        size: u32,
        /// How long all are: with less than one, nothing happens.
        length: u32,
    },
    /// Looks a key up; does not match when it is not there.
    Lookup {
        /// The set or map.
        set: String,
        /// Where the key begins.
        from: Reg,
        /// What becomes of what the key leads to.
        to: Found,
    },
    /// Gives the connection another destination or source.
    Nat(Nat),
    /// Gives the connection the outgoing interface's address as its source.
    Masquerade {
        /// With a port drawn at random.
        fully_random: bool,
    },
    /// Counts packets and bytes.
    Counter,
    /// One that the kernel has and this library does not know, by its name (and one that it knows, used in a way it
    /// does not); a target of xtables is `target` and its name.
    Other(String),
}

/// How a register is compared to a constant, as big-endian numbers (enum nft_cmp_ops).
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

/// What becomes of what a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// It is a set: the rule goes on.
    Member,
    /// It is a set, and the rule goes on only when the key is *not* in it.
    NoMember,
    /// It is a map: the value is put into registers.
    Value(Reg),
    /// It is a verdict map: the rule ends with the verdict.
    Verdict,
}

/// A translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Of the destination; else of the source.
    pub destination: bool,
    /// The family of the addresses.
    pub family: IpFamily,
    /// The register of the address, or of the first of a range.
    pub addr: Reg,
    /// The register of the last address.
    pub addr_last: Option<Reg>,
    /// The register of the port, or of the first of a range; without, the port stays.
    pub port: Option<Reg>,
    /// The register of the last port. A port that is in the range already stays as it is.
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

    /// Reads one of a rule's list. What it does not know is not a fault.
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
