//! Compares the meaning of rules. nft and this library can write a rule in several ways: `ip daddr
//! 10.0.0.0/8` is a load of four bytes, a mask and a comparison, or a load of one byte and a
//! comparison; consecutive tests may have any order; two tests of adjacent fields may be one of
//! both.

use super::expr::{Compare, Expr, Nat, Reg};
use super::field::{Field, Header};
use super::value::Value;

/// Whether both rules mean the same, whoever wrote them.
pub fn same(one: &[Expr], other: &[Expr]) -> bool {
    one == other || meaning(one) == meaning(other)
}

/// A step of a rule's meaning, in order.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Consecutive tests, in canonical order.
    Tests(Vec<Test>),
    /// A translation and the constants in its registers; register numbers do not matter.
    Translation(Nat, Vec<&'a Value>),
    /// Any other expression, unchanged.
    Other(&'a Expr),
}

/// A condition on a packet.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    /// The packet's bits under a mask have this value; one test for each byte, so that it does not
    /// matter how many bytes are loaded together.
    Byte { header: Header, offset: usize, mask: u8, value: u8 },
    /// Any other comparison of a field: the mask (all ones if there is none), the operator, and the
    /// value.
    Field { field: Field, mask: Vec<u8>, op: Compare, value: Vec<u8> },
}

/// Sorts runs of tests, and keeps the expressions between them.
fn meaning(exprs: &[Expr]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut run = Vec::new();
    let mut rest = exprs;
    while let Some((first, after)) = rest.split_first() {
        if let Some(left) = test(rest, &mut run) {
            rest = left;
            continue;
        }
        if let Some((step, left)) = translation(rest) {
            steps.extend(tests(&mut run));
            steps.push(step);
            rest = left;
            continue;
        }
        rest = after;
        if !is_no_op(first) {
            steps.extend(tests(&mut run));
            steps.push(Step::Other(first));
        }
    }
    steps.extend(tests(&mut run));
    steps
}

fn tests(run: &mut Vec<Test>) -> Option<Step<'static>> {
    run.sort_unstable();
    run.dedup();
    (!run.is_empty()).then(|| Step::Tests(std::mem::take(run)))
}

/// Reads constants and the translation to them; returns the rest.
fn translation(exprs: &[Expr]) -> Option<(Step<'_>, &[Expr])> {
    let constants = exprs.iter().take_while(|expr| matches!(expr, Expr::Immediate { .. })).count();
    let (constants, [Expr::Nat(nat), rest @ ..]) = exprs.split_at(constants) else { return None };
    let registers = [Some(nat.addr), nat.addr_last, nat.port, nat.port_last];
    let values: Option<Vec<&Value>> = registers
        .into_iter()
        .flatten()
        .map(|reg| {
            constants.iter().find_map(|expr| match expr {
                Expr::Immediate { value, to } if *to == reg => Some(value),
                _ => None,
            })
        })
        .collect();
    let anywhere = |reg: Option<Reg>| reg.map(|_| Reg::FIRST);
    let nat = Nat {
        addr: Reg::FIRST,
        addr_last: anywhere(nat.addr_last),
        port: anywhere(nat.port),
        port_last: anywhere(nat.port_last),
        ..*nat
    };
    Some((Step::Translation(nat, values?), rest))
}

/// nft converts the first part of an interval key to network byte order although it is one byte,
/// which changes nothing.
fn is_no_op(expr: &Expr) -> bool {
    matches!(expr, Expr::Byteorder { size, length } if length < size)
}

/// Reads a load and its comparison; returns the rest.
fn test<'a>(exprs: &'a [Expr], run: &mut Vec<Test>) -> Option<&'a [Expr]> {
    let [Expr::Load { field, to }, rest @ ..] = exprs else { return None };
    let (mask, mut rest) = match rest {
        [Expr::Bitwise { at, mask, xor }, rest @ ..] if at == to && is_zero(xor) => {
            (mask.bytes().to_vec(), rest)
        }
        rest => (vec![0xff; field.length()], rest),
    };
    let mut tests = Vec::new();
    while let [Expr::Compare { from, op, value }, after @ ..] = rest
        && from == to
    {
        tests.push((*op, value.bytes().to_vec()));
        rest = after;
    }
    if tests.is_empty() || uses(rest, *to) {
        return None;
    }
    for (op, value) in tests {
        match (op, *field) {
            (Compare::Equal, Field::Payload { header, offset, .. }) => {
                let bytes = mask.iter().zip(value).enumerate().filter(|(_, (mask, _))| **mask != 0);
                run.extend(bytes.map(|(at, (mask, value))| Test::Byte {
                    header,
                    offset: usize::from(offset) + at,
                    mask: *mask,
                    value,
                }));
            }
            _ => run.push(trimmed(*field, mask.clone(), op, value)),
        }
    }
    Some(rest)
}

/// Drops trailing bytes that the mask of an equality ignores.
fn trimmed(mut field: Field, mut mask: Vec<u8>, op: Compare, mut value: Vec<u8>) -> Test {
    if let Field::Payload { header, offset, .. } = field
        && op == Compare::NotEqual
    {
        let length = mask.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        mask.truncate(length);
        value.truncate(length);
        field = Field::Payload { header, offset, length: u8::try_from(length).unwrap_or(u8::MAX) };
    }
    Test::Field { field, mask, op, value }
}

/// Whether a register is used before it is loaded again: then the test does not stand alone.
fn uses(exprs: &[Expr], reg: Reg) -> bool {
    matches!(exprs.first(), Some(Expr::Lookup { from, .. } | Expr::Bitwise { at: from, .. }) if *from == reg)
}

fn is_zero(value: &Value) -> bool {
    value.bytes().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::super::{IPV4, Meta, Rule, Verdict};
    use super::*;

    fn masked(network: &str) -> Vec<Expr> {
        let net: ipnetwork::IpNetwork = network.parse().unwrap();
        vec![
            Expr::Load { field: Field::IP_DADDR, to: Reg::FIRST },
            Expr::Bitwise { at: Reg::FIRST, mask: Value::new().addr(net.mask()), xor: Value::new().mark(0) },
            Expr::Compare { from: Reg::FIRST, op: Compare::Equal, value: Value::new().addr(net.network()) },
        ]
    }

    #[test]
    fn a_prefix_is_the_same_however_many_bytes_are_loaded() {
        for network in ["10.0.0.0/8", "10.1.2.0/24", "10.1.2.128/25", "224.0.0.0/4", "10.1.2.3/32"] {
            let rule = Rule::new().network(Field::IP_DADDR, network.parse().unwrap(), true);
            assert!(same(rule.exprs(), &masked(network)), "{network}");
            assert!(!same(rule.exprs(), &masked("10.1.3.0/24")), "{network}");
        }
    }

    #[test]
    fn tests_match_in_any_order_but_not_across_actions() {
        let name = Value::new().ifname("br0");
        let one = Rule::new().nfproto(IPV4).is(Field::IIFNAME, name);
        let other = Rule::new().is(Field::IIFNAME, name).nfproto(IPV4);
        assert!(same(one.exprs(), other.exprs()));
        let counted = |rule: Rule| rule.verdict(Verdict::Drop);
        assert!(same(counted(one.clone()).exprs(), counted(other).exprs()));
        let before = Rule::new().nfproto(IPV4).counter().is(Field::IIFNAME, name);
        let after = Rule::new().is(Field::IIFNAME, name).counter().nfproto(IPV4);
        assert!(!same(before.exprs(), after.exprs()));
        let mark = Rule::new().is(Field::Meta(Meta::Mark), Value::new().mark(1));
        assert!(!same(one.exprs(), mark.exprs()));
    }

    #[test]
    fn adjacent_fields_may_be_loaded_together() {
        let both = Value::new().raw(&[0, 1, 0, 2]);
        let field = Field::Payload { header: Header::Transport, offset: 0, length: 4 };
        let merged = Rule::new().is(field, both);
        let ports = Rule::new().is(Field::SPORT, Value::new().port(1)).is(Field::DPORT, Value::new().port(2));
        assert!(same(merged.exprs(), ports.exprs()));
    }
}
