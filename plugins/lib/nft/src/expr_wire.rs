//! Expressions as attributes (linux/netfilter/nf_tables.h): writing and reading.

use netlink::attr::{Attr, Malformed, Writer};
use sys::IpFamily;

use super::expr::{Compare, Expr, LookupResult, Nat, Reg};
use super::field::{Ct, Field, Header, Meta};
use super::uapi::NFT_REG_VERDICT;
use super::value::Value;
use super::verdict::{Datum, write_value};

const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;

const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;

const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;

const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;

const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;

const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;

const NFTA_BYTEORDER_LEN: u16 = 4;
const NFTA_BYTEORDER_SIZE: u16 = 5;

const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFT_LOOKUP_F_INV: u32 = 1;

const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_ADDR_MAX: u16 = 4;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_NAT_REG_PROTO_MAX: u16 = 6;
const NFTA_NAT_FLAGS: u16 = 7;
const NFT_NAT_SNAT: u32 = 0;
const NFT_NAT_DNAT: u32 = 1;
/// NFPROTO_IPV4, NFPROTO_IPV6.
const IPV4: u32 = 2;
const IPV6: u32 = 10;
/// NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED, which the kernel adds by itself.
const RANGE_IMPLIED: u32 = 3;

const NFTA_TARGET_NAME: u16 = 1;

const NFTA_MATCH_NAME: u16 = 1;
const NFTA_MATCH_REV: u16 = 2;
const NFTA_MATCH_INFO: u16 = 3;

const NFTA_FLOW_TABLE_NAME: u16 = 1;

const NFTA_LIMIT_RATE: u16 = 1;
const NFTA_LIMIT_UNIT: u16 = 2;
const NFTA_LIMIT_BURST: u16 = 3;
const NFTA_LIMIT_TYPE: u16 = 4;
const NFTA_LIMIT_FLAGS: u16 = 5;
/// The unit of a rate, in seconds.
const SECOND: u64 = 1;
const NFT_LIMIT_PKTS: u32 = 0;

const NFTA_LOG_GROUP: u16 = 1;
const NFTA_LOG_PREFIX: u16 = 2;

const NFTA_MASQ_FLAGS: u16 = 1;
const NFTA_MASQ_REG_PROTO_MIN: u16 = 2;
/// linux/netfilter/nf_nat.h.
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 0x10;

/// Greater than every attribute above.
const KINDS: usize = 8;

/// Writes the content of NFTA_EXPR_DATA.
pub(super) fn write(expr: &Expr, w: &mut Writer) {
    match expr {
        Expr::Load { field, to } => load(*field, to.number(), w),
        Expr::Immediate { value, to } => {
            w.be32(NFTA_IMMEDIATE_DREG, to.number());
            write_value(w, NFTA_IMMEDIATE_DATA, value.bytes());
        }
        Expr::Verdict(verdict) => {
            w.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            verdict.write(w, NFTA_IMMEDIATE_DATA);
        }
        Expr::Compare { from, op, value } => {
            w.be32(NFTA_CMP_SREG, from.number());
            w.be32(NFTA_CMP_OP, op.number());
            write_value(w, NFTA_CMP_DATA, value.bytes());
        }
        Expr::Bitwise { at, mask, xor } => {
            w.be32(NFTA_BITWISE_SREG, at.number());
            w.be32(NFTA_BITWISE_DREG, at.number());
            w.be32(NFTA_BITWISE_LEN, u32::try_from(mask.bytes().len()).unwrap_or(u32::MAX));
            write_value(w, NFTA_BITWISE_MASK, mask.bytes());
            write_value(w, NFTA_BITWISE_XOR, xor.bytes());
        }
        Expr::Lookup { set, from, to } => {
            w.string(NFTA_LOOKUP_SET, set);
            w.be32(NFTA_LOOKUP_SREG, from.number());
            match to {
                LookupResult::Member => {}
                LookupResult::NotMember => w.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV),
                LookupResult::Value(to) => w.be32(NFTA_LOOKUP_DREG, to.number()),
                LookupResult::Verdict => w.be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT),
            }
        }
        Expr::Nat(nat) => {
            w.be32(NFTA_NAT_TYPE, if nat.destination { NFT_NAT_DNAT } else { NFT_NAT_SNAT });
            w.be32(NFTA_NAT_FAMILY, nat.family.choose(IPV4, IPV6));
            let registers = [
                (NFTA_NAT_REG_ADDR_MIN, Some(nat.addr)),
                (NFTA_NAT_REG_ADDR_MAX, nat.addr_last),
                (NFTA_NAT_REG_PROTO_MIN, nat.port),
                (NFTA_NAT_REG_PROTO_MAX, nat.port_last),
            ];
            for (kind, reg) in registers {
                if let Some(reg) = reg {
                    w.be32(kind, reg.number());
                }
            }
            if nat.flags != 0 {
                w.be32(NFTA_NAT_FLAGS, nat.flags);
            }
        }
        Expr::Offload(flowtable) => w.string(NFTA_FLOW_TABLE_NAME, flowtable),
        Expr::Match { name, revision, data } => {
            w.string(NFTA_MATCH_NAME, name);
            w.be32(NFTA_MATCH_REV, *revision);
            w.bytes(NFTA_MATCH_INFO, data);
        }
        Expr::Limit { rate, burst } => {
            w.bytes(NFTA_LIMIT_RATE, &rate.to_be_bytes());
            w.bytes(NFTA_LIMIT_UNIT, &SECOND.to_be_bytes());
            w.be32(NFTA_LIMIT_BURST, *burst);
            w.be32(NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS);
            w.be32(NFTA_LIMIT_FLAGS, 0);
        }
        Expr::Log(prefix) => w.string(NFTA_LOG_PREFIX, prefix),
        Expr::Masquerade { fully_random: true } => w.be32(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY),
        Expr::Masquerade { fully_random: false } | Expr::Counter | Expr::Notrack => {}
        Expr::Other(_) | Expr::Byteorder { .. } => {
            w.fail("an unknown expression cannot be written");
        }
    }
}

fn load(field: Field, to: u32, w: &mut Writer) {
    match field {
        Field::Meta(key) => {
            w.be32(NFTA_META_KEY, key.number());
            w.be32(NFTA_META_DREG, to);
        }
        Field::Ct(key) => {
            let (key, direction) = key.number();
            w.be32(NFTA_CT_KEY, key);
            if let Some(direction) = direction {
                w.u8(NFTA_CT_DIRECTION, direction);
            }
            w.be32(NFTA_CT_DREG, to);
        }
        Field::Payload { header, offset, length } => {
            w.be32(NFTA_PAYLOAD_DREG, to);
            w.be32(NFTA_PAYLOAD_BASE, header.number());
            w.be32(NFTA_PAYLOAD_OFFSET, offset.into());
            w.be32(NFTA_PAYLOAD_LEN, length.into());
        }
        Field::FibDaddrType => {
            w.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
            w.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            w.be32(NFTA_FIB_DREG, to);
        }
    }
}

/// The attributes of an expression, indexed by type.
#[derive(Debug, Default)]
pub(super) struct Known<'a>([Option<Attr<'a>>; KINDS]);

impl<'a> Known<'a> {
    pub(super) fn read(attr: Attr<'a>) -> Result<Self, Malformed> {
        let mut known = Self::default();
        for attr in attr.nested() {
            let attr = attr?;
            if let Some(place) = known.0.get_mut(usize::from(attr.kind)) {
                *place = Some(attr);
            }
        }
        Ok(known)
    }

    fn attr(&self, kind: u16) -> Option<Attr<'a>> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    fn number(&self, kind: u16) -> Option<u32> {
        self.attr(kind)?.be32().ok()
    }

    fn long(&self, kind: u16) -> Option<u64> {
        self.attr(kind)?.be64().ok()
    }

    fn reg(&self, kind: u16) -> Option<Reg> {
        Reg::from_number(self.number(kind)?).ok()
    }

    fn value(&self, kind: u16) -> Option<Value> {
        Some(Value::new().raw(Datum::value(self.attr(kind)?).ok()?))
    }
}

/// Returns the expression; `None` if this library would not write it like that.
pub(super) fn read(name: &str, a: &Known<'_>) -> Option<Expr> {
    Some(match name {
        "meta" => {
            let field = Field::Meta(Meta::from_number(a.number(NFTA_META_KEY)?)?);
            Expr::Load { field, to: a.reg(NFTA_META_DREG)? }
        }
        "ct" => {
            let direction = a.attr(NFTA_CT_DIRECTION).map(|attr| attr.u8()).transpose().ok()?;
            let field = Field::Ct(Ct::from_number(a.number(NFTA_CT_KEY)?, direction)?);
            Expr::Load { field, to: a.reg(NFTA_CT_DREG)? }
        }
        "payload" => {
            let header = Header::from_number(a.number(NFTA_PAYLOAD_BASE)?)?;
            let offset = u8::try_from(a.number(NFTA_PAYLOAD_OFFSET)?).ok()?;
            let length = u8::try_from(a.number(NFTA_PAYLOAD_LEN)?).ok()?;
            Expr::Load { field: Field::Payload { header, offset, length }, to: a.reg(NFTA_PAYLOAD_DREG)? }
        }
        "fib"
            if a.number(NFTA_FIB_RESULT) == Some(NFT_FIB_RESULT_ADDRTYPE)
                && a.number(NFTA_FIB_FLAGS) == Some(NFTA_FIB_F_DADDR) =>
        {
            Expr::Load { field: Field::FibDaddrType, to: a.reg(NFTA_FIB_DREG)? }
        }
        "immediate" => match Datum::read(a.attr(NFTA_IMMEDIATE_DATA)?).ok()? {
            Datum::Verdict(verdict) => Expr::Verdict(verdict),
            Datum::Value(bytes) => {
                Expr::Immediate { value: Value::new().raw(bytes), to: a.reg(NFTA_IMMEDIATE_DREG)? }
            }
        },
        "cmp" => Expr::Compare {
            from: a.reg(NFTA_CMP_SREG)?,
            op: Compare::from_number(a.number(NFTA_CMP_OP)?)?,
            value: a.value(NFTA_CMP_DATA)?,
        },
        // Operation 0 is mask and xor; Linux 5.6 and later report it.
        "bitwise"
            if a.number(NFTA_BITWISE_OP).unwrap_or(0) == 0
                && a.reg(NFTA_BITWISE_SREG) == a.reg(NFTA_BITWISE_DREG) =>
        {
            Expr::Bitwise {
                at: a.reg(NFTA_BITWISE_SREG)?,
                mask: a.value(NFTA_BITWISE_MASK)?,
                xor: a.value(NFTA_BITWISE_XOR)?,
            }
        }
        "byteorder" => {
            Expr::Byteorder { size: a.number(NFTA_BYTEORDER_SIZE)?, length: a.number(NFTA_BYTEORDER_LEN)? }
        }
        "lookup" => Expr::Lookup {
            set: a.attr(NFTA_LOOKUP_SET)?.string(),
            from: a.reg(NFTA_LOOKUP_SREG)?,
            to: match (a.number(NFTA_LOOKUP_DREG), a.number(NFTA_LOOKUP_FLAGS).unwrap_or(0)) {
                (None, 0) => LookupResult::Member,
                (None, NFT_LOOKUP_F_INV) => LookupResult::NotMember,
                (Some(NFT_REG_VERDICT), 0) => LookupResult::Verdict,
                (Some(number), 0) => LookupResult::Value(Reg::from_number(number).ok()?),
                _ => return None,
            },
        },
        "nat" => Expr::Nat(nat(a)?),
        "masq" if a.attr(NFTA_MASQ_REG_PROTO_MIN).is_none() => match a.number(NFTA_MASQ_FLAGS).unwrap_or(0) {
            0 => Expr::Masquerade { fully_random: false },
            NF_NAT_RANGE_PROTO_RANDOM_FULLY => Expr::Masquerade { fully_random: true },
            _ => return None,
        },
        "counter" => Expr::Counter,
        "notrack" => Expr::Notrack,
        "limit"
            if a.long(NFTA_LIMIT_UNIT) == Some(SECOND)
                && a.number(NFTA_LIMIT_TYPE).unwrap_or(NFT_LIMIT_PKTS) == NFT_LIMIT_PKTS
                && a.number(NFTA_LIMIT_FLAGS).unwrap_or(0) == 0 =>
        {
            Expr::Limit { rate: a.long(NFTA_LIMIT_RATE)?, burst: a.number(NFTA_LIMIT_BURST)? }
        }
        "log" if a.attr(NFTA_LOG_GROUP).is_none() => Expr::Log(a.attr(NFTA_LOG_PREFIX)?.string()),
        "flow_offload" => Expr::Offload(a.attr(NFTA_FLOW_TABLE_NAME)?.string()),
        "match" => Expr::Match {
            name: a.attr(NFTA_MATCH_NAME)?.string(),
            revision: a.number(NFTA_MATCH_REV)?,
            data: a.attr(NFTA_MATCH_INFO)?.payload.to_vec(),
        },
        // An xtables target: its own name describes it.
        "target" => Expr::Other(format!("target {}", a.attr(NFTA_TARGET_NAME)?.string())),
        _ => return None,
    })
}

fn nat(a: &Known<'_>) -> Option<Nat> {
    let first = |kind| a.reg(kind);
    // Without a last value, the kernel repeats the first.
    let last = |kind, first: Option<Reg>| a.reg(kind).filter(|reg| Some(*reg) != first);
    let addr = first(NFTA_NAT_REG_ADDR_MIN);
    let port = first(NFTA_NAT_REG_PROTO_MIN);
    Some(Nat {
        destination: match a.number(NFTA_NAT_TYPE)? {
            NFT_NAT_DNAT => true,
            NFT_NAT_SNAT => false,
            _ => return None,
        },
        family: match a.number(NFTA_NAT_FAMILY)? {
            IPV6 => IpFamily::V6,
            IPV4 => IpFamily::V4,
            _ => return None,
        },
        addr: addr?,
        addr_last: last(NFTA_NAT_REG_ADDR_MAX, addr),
        port,
        port_last: last(NFTA_NAT_REG_PROTO_MAX, port),
        flags: a.number(NFTA_NAT_FLAGS).unwrap_or(0) & !RANGE_IMPLIED,
    })
}
