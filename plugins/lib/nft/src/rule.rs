//! Rules, built step by step. The builder allocates registers: each step loads a field and tests
//! it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::attr::{Malformed, Writer};
use sys::IpFamily;

use super::expr::{Compare, Expr, LookupResult, Nat, Reg};
use super::field::Field;
use super::object::{Data, Flowtable, Set};
use super::uapi::{NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA, UDATA_COMMENT};
use super::udata;
use super::value::{REGISTER, Type, Value};
use super::verdict::Verdict;

/// NFPROTO_IPV4, of [`super::Meta::Nfproto`].
pub const IPV4: u8 = 2;
/// NFPROTO_IPV6.
pub const IPV6: u8 = 10;

/// A rule. `Rule::new().is(Field::FibDaddrType,
/// Value::new().mark(LOCAL)).verdict(Verdict::Jump(chain))`.
///
/// An impossible step (a value with another length than its field, a key that does not fit the map)
/// makes a rule that the batch refuses.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    exprs: Vec<Expr>,
    comment: Option<String>,
    fault: Option<Malformed>,
}

impl Rule {
    /// Creates a rule that matches every packet and does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its steps.
    pub fn exprs(&self) -> &[Expr] {
        &self.exprs
    }

    /// Matches packets of this address family: required before an IP header is examined in an
    /// `inet` table.
    #[must_use]
    pub fn nfproto(self, family: u8) -> Self {
        self.is(Field::NFPROTO, Value::new().raw(&[family]))
    }

    /// Matches packets with this value in the field.
    #[must_use]
    pub fn is(self, field: Field, value: Value) -> Self {
        self.compare(field, Compare::Equal, value)
    }

    /// Matches packets for which the comparison holds.
    #[must_use]
    pub fn compare(self, field: Field, op: Compare, value: Value) -> Self {
        let fits = value.bytes().len() == field.length();
        self.check(fits, "a value does not have the length of its field").load(field).compared(op, value)
    }

    /// Matches packets with the address `field` inside (or outside) the network. As nft does, it
    /// compares only the bytes of a prefix of whole bytes, and masks the whole address for any
    /// other.
    #[must_use]
    pub fn network(self, field: Field, network: IpNetwork, inside: bool) -> Self {
        let op = if inside { Compare::Equal } else { Compare::NotEqual };
        let first = Value::new().addr(network.network());
        let fits = first.bytes().len() == field.length();
        let rule = self.check(fits, "a network does not have the family of its field");
        let length = network.prefix() / 8;
        if length > 0 && network.prefix().is_multiple_of(8) {
            let bytes = Value::new().raw(first.bytes().get(..usize::from(length)).unwrap_or_default());
            match field {
                Field::Payload { header, offset, .. } => {
                    return rule.load(Field::Payload { header, offset, length }).compared(op, bytes);
                }
                // Loaded whole: it is no part of the packet.
                Field::Ct(_) => return rule.load(field).compared(op, bytes),
                _ => {}
            }
        }
        let mask = Value::new().addr(network.mask());
        let zero = Value::new().raw([0; 16].get(..mask.bytes().len()).unwrap_or_default());
        rule.load(field).masked(mask, zero).compared(op, first)
    }

    /// Matches packets with at least one of these bits set in a field in host byte order (a mark, a
    /// state, a status).
    #[must_use]
    pub fn any_bit(self, field: Field, bits: u32) -> Self {
        self.bits(field, bits, Compare::NotEqual, 0)
    }

    /// Matches packets for which the comparison holds for the bits `mask` of a field in host byte
    /// order.
    #[must_use]
    pub fn bits(self, field: Field, mask: u32, op: Compare, value: u32) -> Self {
        self.check(field.length() == REGISTER, "bits need a field of four bytes")
            .load(field)
            .masked(Value::new().mark(mask), Value::new().mark(0))
            .compared(op, Value::new().mark(value))
    }

    /// Matches packets with a field that begins with these bytes.
    #[must_use]
    pub fn begins(self, field: Field, value: Value) -> Self {
        let fits = (1..=field.length()).contains(&value.bytes().len());
        self.check(fits, "a field is shorter than its prefix").load(field).compared(Compare::Equal, value)
    }

    /// Matches packets with a key in the set (or, for an interval map, with any data).
    #[must_use]
    pub fn member(self, key: &[Field], set: &Set<'_>) -> Self {
        self.lookup(key, set, LookupResult::Member)
    }

    /// Matches packets with a key that is not in the set.
    #[must_use]
    pub fn not_member(self, key: &[Field], set: &Set<'_>) -> Self {
        self.lookup(key, set, LookupResult::NotMember)
    }

    /// Applies the verdict that the map has for the packet's key.
    #[must_use]
    pub fn verdict_map(self, key: &[Field], map: &Set<'_>) -> Self {
        self.check(map.data == Data::Verdict, "the map has no verdicts").lookup(
            key,
            map,
            LookupResult::Verdict,
        )
    }

    /// Translates the connection's destination to the map's value for the key: an address, or an
    /// address and a port. Packets without an entry continue at the next rule.
    #[must_use]
    pub fn dnat_map(self, key: &[Field], map: &Set<'_>) -> Self {
        match translation(map.data) {
            Ok(nat) => self.lookup(key, map, LookupResult::Value(nat.addr)).then(Expr::Nat(nat)),
            Err(fault) => self.fault(fault),
        }
    }

    /// Translates the connection's destination.
    #[must_use]
    pub fn dnat(self, addr: IpAddr, port: Option<u16>) -> Self {
        let types: &[Type] =
            if addr.is_ipv6() { &[Type::Ipv6, Type::Port] } else { &[Type::Ipv4, Type::Port] };
        let types = if port.is_some() { types } else { types.get(..1).unwrap_or_default() };
        match destination(types) {
            Ok(nat) => {
                let rule = self.then(Expr::Immediate { value: Value::new().addr(addr), to: nat.addr });
                let rule = match (port, nat.port) {
                    (Some(port), Some(to)) => {
                        rule.then(Expr::Immediate { value: Value::new().port(port), to })
                    }
                    _ => rule,
                };
                rule.then(Expr::Nat(nat))
            }
            Err(fault) => self.fault(fault),
        }
    }

    /// Translates the connection's source to the outgoing interface's address.
    #[must_use]
    pub fn masquerade(self, fully_random: bool) -> Self {
        self.then(Expr::Masquerade { fully_random })
    }

    /// Counts packets and bytes.
    #[must_use]
    pub fn counter(self) -> Self {
        self.then(Expr::Counter)
    }

    /// Keeps packets out of connection tracking: in a chain before it, with a priority below -200.
    #[must_use]
    pub fn notrack(self) -> Self {
        self.then(Expr::Notrack)
    }

    /// Matches packets at a rate: so many a second, and so many at once.
    #[must_use]
    pub fn limit(self, rate: u64, burst: u32) -> Self {
        self.then(Expr::Limit { rate, burst })
    }

    /// Writes packets to the kernel's log, behind a prefix of at most 127 bytes.
    #[must_use]
    pub fn log(self, prefix: impl Into<String>) -> Self {
        self.then(Expr::Log(prefix.into()))
    }

    /// Lets the further packets of established connections bypass the rules.
    #[must_use]
    pub fn offload(self, flowtable: &Flowtable<'_>) -> Self {
        self.then(Expr::Offload(flowtable.name.to_owned()))
    }

    /// Ends the rule with a verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.then(Expr::Verdict(verdict))
    }

    /// Its comment, for example its purpose or owner: up to [`super::COMMENT_MAX`] bytes.
    #[must_use]
    pub fn comment(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }

    /// Appends a step with registers of the caller's choice.
    #[must_use]
    pub fn then(mut self, expr: Expr) -> Self {
        self.exprs.push(expr);
        self
    }

    /// Writes the rule's own attributes.
    pub(super) fn write(&self, writer: &mut Writer) {
        if let Some(Malformed(fault)) = self.fault {
            writer.fail(fault);
        }
        writer.nest(NFTA_RULE_EXPRESSIONS, |w| self.exprs.iter().for_each(|expr| expr.write(w)));
        if let Some(comment) = &self.comment {
            let mut bytes = Vec::new();
            match udata::text(&mut bytes, UDATA_COMMENT, comment) {
                Ok(()) => writer.bytes(NFTA_RULE_USERDATA, &bytes),
                Err(Malformed(fault)) => writer.fail(fault),
            }
        }
    }

    fn lookup(self, key: &[Field], set: &Set<'_>, to: LookupResult) -> Self {
        let fits = key.len() == set.key.len() && key.iter().zip(set.key).all(|(field, part)| field.is(*part));
        let mut rule = self.check(fits, "a key does not have the type of its set");
        // The parts of a key are in consecutive registers, from the first.
        let mut index = 0;
        for field in key {
            rule = rule.load_at(*field, index);
            index += field.length().div_ceil(REGISTER);
        }
        rule.then(Expr::Lookup { set: set.name.to_owned(), from: Reg::FIRST, to })
    }

    fn load(self, field: Field) -> Self {
        self.load_at(field, 0)
    }

    fn load_at(self, field: Field, index: usize) -> Self {
        let last = index + field.length().div_ceil(REGISTER) - 1;
        match (Reg::new(index), Reg::new(last)) {
            (Ok(to), Ok(_)) => self.then(Expr::Load { field, to }),
            (Err(fault), _) | (_, Err(fault)) => self.fault(fault),
        }
    }

    fn compared(self, op: Compare, value: Value) -> Self {
        self.then(Expr::Compare { from: Reg::FIRST, op, value })
    }

    fn masked(self, mask: Value, xor: Value) -> Self {
        self.then(Expr::Bitwise { at: Reg::FIRST, mask, xor })
    }

    fn check(self, fits: bool, otherwise: &'static str) -> Self {
        if fits { self } else { self.fault(Malformed(otherwise)) }
    }

    fn fault(mut self, fault: Malformed) -> Self {
        self.fault.get_or_insert(fault);
        self
    }
}

/// The translation of the destination to a map's value, which is loaded into registers from the
/// first on.
fn translation(data: Data) -> Result<Nat, Malformed> {
    match data {
        Data::Value(types) => destination(types),
        _ => Err(NO_DESTINATION),
    }
}

const NO_DESTINATION: Malformed = Malformed("the map has no destinations");

fn destination(types: &[Type]) -> Result<Nat, Malformed> {
    let (family, port) = match types {
        [Type::Ipv4] => (IpFamily::V4, None),
        [Type::Ipv6] => (IpFamily::V6, None),
        [Type::Ipv4, Type::Port] => (IpFamily::V4, Some(Reg::new(1)?)),
        [Type::Ipv6, Type::Port] => (IpFamily::V6, Some(Reg::new(4)?)),
        _ => return Err(NO_DESTINATION),
    };
    Ok(Nat { destination: true, family, addr: Reg::FIRST, addr_last: None, port, port_last: None, flags: 0 })
}
