//! Bytes written by hand from linux/netfilter/nf_tables.h and `nft --debug=mnl`, and readers on any
//! bytes.

use netlink::attr::{Attr, Attrs, Writer};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TABLE: Table<'_> = Table { family: Family::Inet, name: "t" };
const PORTS: Set<'_> = Set {
    table: TABLE,
    name: "m",
    key: &[Type::Proto, Type::Port],
    data: Data::Value(&[Type::Ipv4, Type::Port]),
    interval: false,
};
const RANGES: Set<'_> = Set { data: Data::Range(&[Type::Ipv4, Type::Port]), interval: true, ..PORTS };
const NETS: Set<'_> =
    Set { table: TABLE, name: "n", key: &[Type::Ipv4], data: Data::Verdict, interval: true };

/// An attribute: length and type in host byte order, then the payload padded to four bytes.
fn attr(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A nest: its type has the top bit set.
fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attr(kind | 0x8000, &parts.concat())
}

fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
    nest(kind, &[attr(1, bytes)])
}

fn element(set: &Set<'_>, element: &Element) -> Vec<u8> {
    let mut writer = Writer::default();
    element.write(set, true, &mut writer).unwrap();
    writer.finish().unwrap()
}

#[test]
fn an_element_of_a_concatenation_with_its_comment() {
    let key = Value::new().proto(6).port(80);
    let target = Value::new().addr([10, 1, 1, 1]).port(8080);
    let written = element(&PORTS, &Element::new(key).to(target).comment("own"));
    let expected = nest(
        1,
        &[
            value(1, &[6, 0, 0, 0, 0, 80, 0, 0]),
            value(2, &[10, 1, 1, 1, 0x1f, 0x90, 0, 0]),
            attr(6, &[0, 4, b'o', b'w', b'n', 0]),
        ],
    );
    assert_eq!(written, expected);
}

#[test]
fn a_range_of_a_concatenation_has_its_end_beside_its_key() {
    let key = |port| Value::new().proto(6).port(port);
    let target = |port| Value::new().addr([10, 1, 1, 1]).port(port);
    let written = element(&RANGES, &Element::range(key(100), key(200)).to((target(8080), target(8180))));
    let expected = nest(
        1,
        &[
            value(1, &[6, 0, 0, 0, 0, 100, 0, 0]),
            value(10, &[6, 0, 0, 0, 0, 200, 0, 0]),
            value(2, &[10, 1, 1, 1, 0x1f, 0x90, 0, 0, 10, 1, 1, 1, 0x1f, 0xf4, 0, 0]),
        ],
    );
    assert_eq!(written, expected);
}

#[test]
fn an_interval_of_single_keys_ends_with_a_separate_element() {
    let addr = |a, b, c, d| Value::new().addr([a, b, c, d]);
    let net = Element::range(addr(10, 0, 0, 0), addr(10, 255, 255, 255)).to(Verdict::Accept);
    let verdict = |code: [u8; 4]| nest(2, &[nest(2, &[attr(1, &code)])]);
    let start = nest(1, &[value(1, &[10, 0, 0, 0]), verdict([0, 0, 0, 1])]);
    let end = nest(1, &[value(1, &[11, 0, 0, 0]), attr(3, &[0, 0, 0, 1])]);
    assert_eq!(element(&NETS, &net), [start, end].concat());
    // No key follows the last address.
    let last = Element::range(addr(255, 0, 0, 0), addr(255, 255, 255, 255)).to(Verdict::Drop);
    assert_eq!(element(&NETS, &last), nest(1, &[value(1, &[255, 0, 0, 0]), verdict([0, 0, 0, 0])]));
}

#[test]
fn intervals_are_read_in_any_order_of_their_ends() {
    let addr = |last| Value::new().addr([10, 0, 0, last]);
    let elements = [
        Element::range(addr(0), addr(7)).comment("a"),
        // Adjacent to the one before: its end mark has the same key.
        Element::range(addr(8), addr(9)),
        Element::new(addr(20)),
        Element::range(addr(200), Value::new().addr([255, 255, 255, 255])),
    ];
    let set = Set { data: Data::None, ..NETS };
    let mut writer = Writer::default();
    elements.iter().for_each(|element| element.write(&set, true, &mut writer).unwrap());
    let bytes = writer.finish().unwrap();
    let mut read: Vec<_> =
        Attrs::new(&bytes).map(|attr| Element::read(&set, attr.unwrap()).unwrap()).collect();
    assert_eq!(read.len(), 7);
    for _ in 0..read.len() {
        read.rotate_left(1);
        assert_eq!(Element::intervals(read.clone()), elements);
    }
}

/// The rule `fib daddr type local dnat ip to meta l4proto . th dport map @m`.
#[test]
fn a_rule_with_lookups() {
    let local = Rule::new().is(Field::FibDaddrType, Value::new().mark(LOCAL));
    let rule = local.dnat_map(&[Field::L4PROTO, Field::DPORT], &PORTS).comment("c");
    let mut writer = Writer::default();
    rule.write(&mut writer);
    let be = |number: u32| number.to_be_bytes();
    let expr = |name: &str, attrs: &[Vec<u8>]| {
        nest(1, &[attr(1, &[name.as_bytes(), &[0]].concat()), nest(2, attrs)])
    };
    // 4-byte registers are numbered from 8.
    let expected = [
        nest(
            4,
            &[
                expr("fib", &[attr(3, &be(2)), attr(2, &be(3)), attr(1, &be(8))]),
                expr("cmp", &[attr(1, &be(8)), attr(2, &be(0)), value(3, &2u32.to_ne_bytes())]),
                expr("meta", &[attr(2, &be(16)), attr(1, &be(8))]),
                expr("payload", &[attr(1, &be(9)), attr(2, &be(2)), attr(3, &be(2)), attr(4, &be(2))]),
                expr("lookup", &[attr(1, b"m\0"), attr(2, &be(8)), attr(3, &be(8))]),
                expr("nat", &[attr(1, &be(1)), attr(2, &be(2)), attr(3, &be(8)), attr(5, &be(9))]),
            ],
        ),
        attr(7, &[0, 2, b'c', 0]),
    ];
    assert_eq!(writer.finish().unwrap(), expected.concat());
}

/// The kernel uses the 16-byte number for every fourth register, and repeats the first value of a
/// range without a last.
#[test]
fn the_kernels_other_notations_are_read_as_written() {
    let be = |number: u32| number.to_be_bytes();
    let bytes = nest(
        1,
        &[
            attr(1, b"nat\0"),
            nest(
                2,
                &[
                    attr(1, &be(1)),
                    attr(2, &be(10)),
                    attr(3, &be(1)),
                    attr(4, &be(1)),
                    attr(5, &be(2)),
                    attr(6, &be(2)),
                    attr(7, &be(3)),
                ],
            ),
        ],
    );
    let expr = Expr::read(Attrs::new(&bytes).next().unwrap().unwrap()).unwrap();
    let map = Set { data: Data::Value(&[Type::Ipv6, Type::Port]), ..PORTS };
    let rule = Rule::new().dnat_map(&[Field::L4PROTO, Field::DPORT], &map);
    assert_eq!(Some(&expr), rule.exprs().last());
}

#[test]
fn an_impossible_rule_is_refused() {
    let wrong = [
        Rule::new().is(Field::DPORT, Value::new().mark(80)),
        Rule::new().verdict_map(&[Field::IP_SADDR], &PORTS),
        Rule::new().dnat_map(&[Field::L4PROTO, Field::DPORT], &Set { data: Data::Verdict, ..PORTS }),
        Rule::new().dnat_map(&[Field::L4PROTO, Field::DPORT], &RANGES),
        Rule::new().member(&[Field::DPORT, Field::L4PROTO], &PORTS),
        Rule::new().network(Field::IP6_DADDR, "10.0.0.0/8".parse().unwrap(), true),
        Rule::new().any_bit(Field::DPORT, 1),
        Rule::new().comment("x".repeat(COMMENT_MAX + 1)),
        Rule::new().then(Expr::Other("limit".to_owned())),
    ];
    for rule in wrong {
        let mut writer = Writer::default();
        rule.write(&mut writer);
        assert!(writer.finish().is_err(), "{rule:?}");
    }
}

fn sets() -> [Set<'static>; 4] {
    [PORTS, RANGES, NETS, Set { data: Data::None, ..NETS }]
}

fn read_all(attr: Attr<'_>) {
    let _ = Expr::read(attr);
    for set in sets() {
        let _ = Element::read(&set, attr);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..200), kind: u16) {
        read_all(Attr { kind, payload: &bytes });
        read::read_any(&sets(), &bytes);
    }

    /// Nearly valid messages are what breaks readers.
    #[test]
    fn damaged_messages_are_read_without_panic(at in any::<usize>(), with: u8, cut in any::<usize>()) {
        let rule = Rule::new()
            .nfproto(IPV4)
            .network(Field::IP_DADDR, "10.0.0.0/8".parse().unwrap(), true)
            .dnat_map(&[Field::L4PROTO, Field::DPORT], &PORTS)
            .masquerade(true)
            .verdict(Verdict::Goto("x".to_owned()));
        let mut writer = Writer::default();
        writer.raw(&[0; 4]);
        rule.write(&mut writer);
        let key = Value::new().proto(6).port(80);
        let target = Value::new().addr([10, 1, 1, 1]).port(8080);
        writer.nest(3, |w| Element::new(key).to((target, target)).comment("own").write(&RANGES, true, w).unwrap());
        let mut bytes = writer.finish().unwrap();
        let at = at % bytes.len();
        bytes[at] = with;
        bytes.truncate(cut % (bytes.len() + 1));
        read::read_any(&sets(), &bytes);
    }

    /// CHECK compares what is written, for any value and register that the builder produces.
    #[test]
    fn what_is_written_is_read(port: u16, mark: u32, mask: u32, inside: bool) {
        let rule = Rule::new()
            .compare(Field::DPORT, Compare::GreaterOrEqual, Value::new().port(port))
            .any_bit(Field::Ct(Ct::Status), mask)
            .bits(Field::Ct(Ct::Mark), mask, Compare::NotEqual, mark)
            .network(Field::IP6_SADDR, "fd00::/64".parse().unwrap(), inside)
            .network(Field::Ct(Ct::OriginalDaddr), "127.0.0.0/8".parse().unwrap(), inside)
            .network(Field::Ct(Ct::ReplyDaddr), "10.0.0.0/9".parse().unwrap(), inside)
            .is(Field::Ct(Ct::Direction), Value::new().raw(&[ORIGINAL]))
            .not_member(&[Field::L4PROTO, Field::DPORT], &PORTS)
            .dnat_map(&[Field::L4PROTO, Field::DPORT], &PORTS)
            .dnat([10, 1, 2, 3].into(), Some(port))
            .counter()
            .limit(u64::from(mark), mask)
            .log("a prefix: ")
            .offload(&Flowtable { table: TABLE, name: "f" })
            .masquerade(inside)
            .verdict(Verdict::Jump("chain".to_owned()));
        let mut writer = Writer::default();
        rule.write(&mut writer);
        let bytes = writer.finish().unwrap();
        let list = Attrs::new(&bytes).next().unwrap().unwrap();
        let read: Vec<_> = list.nested().map(|attr| Expr::read(attr.unwrap()).unwrap()).collect();
        prop_assert_eq!(read, rule.exprs());
    }
}
