//! Conditions as rules; no root, no kernel. (The conformance cases try how `nft` lists them, and
//! what they do with packets.)

use nft::Expr;

use proptest::prelude::*;
use sys::IpFamily;

use super::*;

fn read(words: &str, family: IpFamily) -> Result<Conditions, Fault> {
    Conditions::read(&[words], family)
}

/// Each rule as the constants that it compares with, and its verdict.
fn shown(words: &str, family: IpFamily) -> Vec<String> {
    let rules = read(words, family).unwrap().rules(family);
    let step = |expr: &Expr| match expr {
        Expr::Compare { op, value, .. } => Some(format!("{op:?} {:02x?}", value.bytes())),
        Expr::Bitwise { mask, .. } => Some(format!("& {:02x?}", mask.bytes())),
        Expr::Verdict(verdict) => Some(verdict.to_string()),
        _ => None,
    };
    // The first comparison is that of the family.
    let rule = |rule: &Rule| {
        let steps: Vec<String> = rule.exprs().iter().filter_map(step).collect();
        let from = usize::from(steps.len() > 1);
        steps[from..].join(", ").replace("Equal ", "").replace("0x", "")
    };
    rules.iter().map(rule).collect()
}

/// PM-C1: all conditions must hold, of a set one; otherwise the packet is not redirected.
#[test]
fn every_condition_must_be_so_and_of_a_set_one() {
    assert_eq!(shown("ip saddr 10.0.0.0/8", IpFamily::V4), ["[0a], return", "accept"]);
    assert_eq!(
        shown("ip saddr 10.0.0.0/9", IpFamily::V4),
        ["& [ff, 80, 00, 00], [0a, 00, 00, 00], return", "accept"]
    );
    assert_eq!(shown("ip saddr 192.0.2.1", IpFamily::V4), ["[c0, 00, 02, 01], return", "accept"]);
    assert_eq!(
        shown("ip saddr { 192.0.2.1, 192.0.2.9 } tcp sport { 1-2, 7 }", IpFamily::V4),
        [
            "[c0, 00, 02, 01], [06], GreaterOr[00, 01], LessOr[00, 02], return",
            "[c0, 00, 02, 01], [06], [00, 07], return",
            "[c0, 00, 02, 09], [06], GreaterOr[00, 01], LessOr[00, 02], return",
            "[c0, 00, 02, 09], [06], [00, 07], return",
            "accept"
        ]
    );
    assert_eq!(shown("tcp dport < 1024", IpFamily::V4), ["[06], Less [04, 00], return", "accept"]);
    assert_eq!(shown("ct state new,related", IpFamily::V6).len(), 2);
}

/// A negated condition is tested first; the protocol that its field implies must match all the
/// same.
#[test]
fn none_of_what_is_negated_may_be_so() {
    assert_eq!(
        shown("tcp dport != { 80, 90-99 } ip saddr 192.0.2.1", IpFamily::V4),
        [
            "[06], [00, 50], accept",
            "[06], GreaterOr[00, 5a], LessOr[00, 63], accept",
            "[06], [c0, 00, 02, 01], return",
            "accept"
        ]
    );
    assert_eq!(shown("ct state != new", IpFamily::V4).len(), 3);
}

/// PM-C5: a list item may be a word or many; signs need no spaces; names may be in quotes.
#[test]
fn words_are_parted_as_nft_parts_them() {
    let of = |words: &[&str]| Conditions::read(words, IpFamily::V4).unwrap();
    let one = of(&["ip saddr!={10.0.0.0/8,192.0.2.1-192.0.2.9} iifname \"eth*\""]);
    let many =
        of(&["ip", "saddr", "!=", "{", "10.0.0.0/8,", "192.0.2.1", "-", "192.0.2.9", "}", "iifname", "eth*"]);
    assert_eq!(one.terms, many.terms);
    // A recorded text is parsed to the same conditions.
    for conditions in [one, many] {
        assert_eq!(read(&conditions.to_string(), IpFamily::V4), Ok(conditions));
    }
    assert_eq!(of(&["meta mark and 0xff == 16"]).terms, of(&["mark&255 0x10"]).terms);
    assert!(of(&[""]).is_empty() && Conditions::read::<&str>(&[], IpFamily::V4).unwrap().is_empty());
}

/// PM-C4: the error names the word.
#[test]
fn what_is_not_known_and_what_cannot_be_is_told_apart() {
    for (words, word) in [
        ("limit rate 5/second", "limit"),
        ("ip saddr 10.0.0.1 accept", "accept"),
        ("ip frag-off 7", "frag-off"),
        ("ip saddr @mine", "@mine"),
        ("ct state untracked", "untracked"),
        ("meta skuid 0", "meta skuid"),
        ("meta tcp dport 80", "meta tcp"),
        ("meta ip protocol 6", "meta ip"),
        ("l4proto tcp", "l4proto"),
        ("iifname \"a b\"", "a b"),
        ("ip saddr 10.0.0.1 ; flush", ";"),
        ("ip saddr 10.0.0.1\0", "\0"),
    ] {
        match read(words, IpFamily::V4) {
            Err(Fault::Unknown(excerpt)) => assert!(excerpt.starts_with(word), "{words}: {excerpt}"),
            other => panic!("{words}: {other:?}"),
        }
    }
    for words in [
        "ip",
        "ip saddr",
        "ip saddr {",
        "ip saddr { }",
        "ip saddr { 10.0.0.1",
        "ip saddr { 10.0.0.1 10.0.0.2 }",
        "ip6 saddr fd00::1",
        "ip saddr fd00::1",
        "ip saddr 10.0.0.300",
        "ip saddr 10.0.0.9-10.0.0.1",
        "ip saddr < 10.0.0.0/8",
        "tcp dport http",
        "tcp dport 65536",
        "tcp dport 010",
        "tcp dport +80",
        "tcp dport 1-+9",
        "meta l4proto 06",
        "meta mark 010",
        "meta mark 0x+1",
        "ip saddr 10.0.0.0/255.0.0.0",
        "ip saddr 10.0.0.0/08",
        "ip saddr 10.0.0.0/+8",
        "ip saddr 10.0.0.0/33",
        "ip saddr 010.0.0.1",
        "iif \"wa*\"",
        "oif wa*",
        "iif 3",
        "meta l4proto udp tcp dport 80",
        "ct state { new } , related",
        "tcp dport 80 udp sport 53",
        "meta mark < 9",
        "iifname \"sixteen-letters-\"",
        "iifname *",
        "ct state != new,related",
        "iifname \"eth0",
    ] {
        assert!(
            matches!(read(words, IpFamily::V4), Err(Fault::Invalid(..))),
            "{words}: {:?}",
            read(words, IpFamily::V4)
        );
    }
    let large: String = (0..23).map(|n| format!("{}{n}", if n > 0 { ", " } else { "" })).collect();
    assert!(read(&format!("tcp dport {{ {large} }} tcp sport {{ {large} }}"), IpFamily::V4).is_err());
}

proptest! {
    /// Any text is parsed or refused. A parsed text is parsed again from the record, and makes only
    /// rules that can be sent.
    #[test]
    fn any_words_are_read_without_panic(words in proptest::collection::vec(
        prop_oneof![
            Just("ip".to_owned()), Just("ip6".into()), Just("saddr".into()), Just("tcp".into()), Just("dport".into()),
            Just("{".into()), Just("}".into()), Just(",".into()), Just("!=".into()), Just("<".into()), Just("iifname".into()),
            Just("10.0.0.0/8".into()), Just("fd00::/8".into()), Just("80".into()), Just("1-9".into()), Just("-".into()),
            Just("ct".into()), Just("state".into()), Just("new".into()), Just("mark".into()), Just("&".into()), ".{0,6}",
        ], 0..9), v4: bool)
    {
        let family = if v4 { IpFamily::V4 } else { IpFamily::V6 };
        if let Ok(conditions) = Conditions::read(&words, family) {
            let text = conditions.to_string();
            prop_assert!(!text.contains('\n'));
            prop_assert!(!conditions.rules(family).is_empty());
            prop_assert_eq!(read(&text, family), Ok(conditions));
        }
    }
}
