//! Rules, built step by step. The builder hands out the registers: each step loads what it looks at, and looks at it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::attr::{Malformed, Writer};
use sys::IpFamily;

use super::expr::{Compare, Expr, Found, Nat, Reg};
use super::field::Field;
use super::object::{Data, Set};
use super::uapi::{NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA, UDATA_COMMENT};
use super::udata;
use super::value::{REGISTER, Type, Value};
use super::verdict::Verdict;

/// NFPROTO_IPV4, of [`super::Meta::Nfproto`].
pub const IPV4: u8 = 2;
/// NFPROTO_IPV6.
pub const IPV6: u8 = 10;

/// A rule. `Rule::new().is(Field::FibDaddrType, Value::new().mark(LOCAL)).verdict(Verdict::Jump(chain))`.
///
/// What cannot be said (a value of another length than what it is compared to, a key that is not the map's) makes a
/// rule that the batch it is added to refuses.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    exprs: Vec<Expr>,
    comment: Option<String>,
    fault: Option<Malformed>,
}

impl Rule {
    /// A rule that matches every packet and does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its steps.
    pub fn exprs(&self) -> &[Expr] {
        &self.exprs
    }

    /// Only packets of this address family: what looks at an IP header in an `inet` table needs it.
    #[must_use]
    pub fn nfproto(self, family: u8) -> Self {
        self.is(Field::NFPROTO, Value::new().raw(&[family]))
    }

    /// Only packets where it is this.
    #[must_use]
    pub fn is(self, field: Field, value: Value) -> Self {
        self.compare(field, Compare::Equal, value)
    }

    /// Only packets where it compares so to this.
    #[must_use]
    pub fn compare(self, field: Field, op: Compare, value: Value) -> Self {
        let fits = value.bytes().len() == field.length();
        self.check(fits, "a value is not as long as what it is compared to").load(field).compared(op, value)
    }

    /// Only packets whose address `field` is (or is not) in `network/length`. As nft writes it: of a prefix of whole bytes
    /// only these are loaded, and any other is a mask of the whole address.
    #[must_use]
    pub fn network(self, field: Field, network: IpNetwork, inside: bool) -> Self {
        let op = if inside { Compare::Equal } else { Compare::NotEqual };
        let first = Value::new().addr(network.network());
        let fits = first.bytes().len() == field.length();
        let rule = self.check(fits, "a network is of another family than what is compared to it");
        let length = network.prefix() / 8;
        if let Field::Payload { header, offset, .. } = field
            && length > 0
            && network.prefix().is_multiple_of(8)
        {
            let bytes = first.bytes().get(..usize::from(length)).unwrap_or_default();
            return rule
                .load(Field::Payload { header, offset, length })
                .compared(op, Value::new().raw(bytes));
        }
        let mask = Value::new().addr(network.mask());
        let zero = Value::new().raw([0; 16].get(..mask.bytes().len()).unwrap_or_default());
        rule.load(field).masked(mask, zero).compared(op, first)
    }

    /// Only packets where one of these bits of a field in host byte order (a mark, a state, a status) is set.
    #[must_use]
    pub fn any_bit(self, field: Field, bits: u32) -> Self {
        self.bits(field, bits, Compare::NotEqual, 0)
    }

    /// Only packets where the bits `mask` of a field in host byte order compare so to this.
    #[must_use]
    pub fn bits(self, field: Field, mask: u32, op: Compare, value: u32) -> Self {
        self.check(field.length() == REGISTER, "bits are of a field of four bytes")
            .load(field)
            .masked(Value::new().mark(mask), Value::new().mark(0))
            .compared(op, Value::new().mark(value))
    }

    /// Only packets where a field's first bytes are these.
    #[must_use]
    pub fn begins(self, field: Field, value: Value) -> Self {
        let fits = (1..=field.length()).contains(&value.bytes().len());
        self.check(fits, "a field is shorter than what it is to begin with")
            .load(field)
            .compared(Compare::Equal, value)
    }

    /// Only packets whose key is in the set (or, of an interval map, leads anywhere).
    #[must_use]
    pub fn member(self, key: &[Field], set: &Set<'_>) -> Self {
        self.lookup(key, set, Found::Member)
    }

    /// Only packets whose key is not in the set.
    #[must_use]
    pub fn no_member(self, key: &[Field], set: &Set<'_>) -> Self {
        self.lookup(key, set, Found::NoMember)
    }

    /// Does with a packet what the verdict map says of its key.
    #[must_use]
    pub fn verdict_map(self, key: &[Field], map: &Set<'_>) -> Self {
        self.check(map.data == Data::Verdict, "the map holds no verdicts").lookup(key, map, Found::Verdict)
    }

    /// Gives the connection the destination that the map has for the key: an address, or an address and a port. Packets
    /// without one go on to the next rule.
    #[must_use]
    pub fn dnat_map(self, key: &[Field], map: &Set<'_>) -> Self {
        match translation(map.data) {
            Ok(nat) => self.lookup(key, map, Found::Value(nat.addr)).then(Expr::Nat(nat)),
            Err(fault) => self.fault(fault),
        }
    }

    /// Gives the connection this destination.
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

    /// Gives the connection the outgoing interface's address as its source.
    #[must_use]
    pub fn masquerade(self, fully_random: bool) -> Self {
        self.then(Expr::Masquerade { fully_random })
    }

    /// Counts.
    #[must_use]
    pub fn counter(self) -> Self {
        self.then(Expr::Counter)
    }

    /// Ends with a verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.then(Expr::Verdict(verdict))
    }

    /// What it is for, or whose it is: up to [`super::COMMENT_MAX`] bytes.
    #[must_use]
    pub fn comment(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }

    /// One more step, with registers of the caller's choice.
    #[must_use]
    pub fn then(mut self, expr: Expr) -> Self {
        self.exprs.push(expr);
        self
    }

    /// The attributes that are its own.
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

    fn lookup(self, key: &[Field], set: &Set<'_>, to: Found) -> Self {
        let fits = key.len() == set.key.len() && key.iter().zip(set.key).all(|(field, part)| field.is(*part));
        let mut rule = self.check(fits, "what is looked up is not of the type of the set's keys");
        // The parts of a key are in registers in a row, from the first.
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

/// The translation of the destination to what a map holds, which is put into registers from the first on.
fn translation(data: Data) -> Result<Nat, Malformed> {
    match data {
        Data::Value(types) => destination(types),
        _ => Err(NO_DESTINATION),
    }
}

const NO_DESTINATION: Malformed = Malformed("the map holds no destinations");

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
