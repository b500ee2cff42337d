//! Conditions compared with nft: it accepts every condition that is accepted here, with the same
//! meaning.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use host::ports::Conditions;
use nft::{Batch, Chain, Family, Nft, Rule, Table, Verdict, same};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use sys::testing::run;
use sys::{IpFamily, network_test};

const TABLE: Table<'_> = Table { family: Family::Inet, name: "t" };
const OURS: Chain<'_> = Chain { table: TABLE, name: "ours" };
const THEIRS: Chain<'_> = Chain { table: TABLE, name: "theirs" };

/// A field, an operator, and a value or a set of them.
#[derive(Clone, Debug)]
struct Term {
    field: &'static str,
    op: &'static str,
    values: Vec<&'static str>,
    is_set: bool,
}

const FIELDS: [(&str, &[&str]); 7] = [
    (
        "ip saddr|ip daddr|ip6 saddr|ip6 daddr|meta ip saddr",
        &[
            "10.0.0.1",
            "10.0.0.0/8",
            "10.0.0.5/9",
            "10.1.0.0/16",
            "10.0.0.3-10.0.0.9",
            "0.0.0.0/0",
            "010.0.0.1",
            "10.1",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/33",
            "0x0a000001",
            "10.0.0.9 - 10.0.0.12",
            "fd00::1",
            "fd00::/8",
            "fd00::/33",
            "::/0",
            "FD00::1",
            "fd00::1-fd00::9",
            "::ffff:1.2.3.4",
            "fd00::/129",
        ],
    ),
    (
        "tcp dport|tcp sport|udp dport|sctp sport|th dport|th sport|meta tcp dport|meta th dport",
        &[
            "80", "010", "+80", "0x50", "0", "65535", "65536", "1-9", "9-1", "80-80", "1-+9", "01-9",
            "1 - 9", "-1", "http", "8e1",
        ],
    ),
    (
        "meta l4proto|l4proto|ip protocol|ip6 nexthdr|meta ip protocol|meta ip6 nexthdr",
        &["tcp", "udp", "6", "06", "0x6", "+6", "17", "255", "256", "icmp", "icmpv6", "ipv6-icmp", "sctp"],
    ),
    (
        "iifname|oifname|meta iifname|meta oifname",
        &["lo", "eth0", "eth*", "\"eth0\"", "\"eth*\"", "sixteen-letters-", "*"],
    ),
    ("iif|oif|meta iif|meta oif", &["lo", "\"lo\"", "lo*", "\"wa*\"", "1", "01", "*"]),
    (
        "mark|meta mark|ct mark|mark & 0xff|meta mark and 15|ct mark & 0x10|ct mark & 010|mark & +1",
        &[
            "0",
            "1",
            "0x10",
            "16",
            "010",
            "+1",
            "0x+1",
            "0X10",
            "4294967295",
            "4294967296",
            "0xffffffff",
            "08",
        ],
    ),
    (
        "ct state|meta ct state",
        &[
            "new",
            "established",
            "related",
            "invalid",
            "new,related",
            "related , established",
            "untracked",
            "8",
        ],
    ),
];
const OPS: [&str; 14] = ["", "", "", "", "==", "!=", "!=", "eq", "ne", "<", ">", "<=", "ge", "!"];

fn term() -> impl Strategy<Value = Term> {
    select(&FIELDS[..]).prop_flat_map(|(fields, values)| {
        let fields: Vec<&'static str> = fields.split('|').collect();
        (select(fields), select(&OPS[..]), vec(select(values), 1..4), any::<bool>()).prop_map(
            |(field, op, mut values, is_set)| {
                values.truncate(if is_set { 3 } else { 1 });
                Term { field, op, values, is_set }
            },
        )
    })
}

impl Term {
    fn words(&self) -> String {
        let values = self.values.join(", ");
        let values = if self.is_set { format!("{{ {values} }}") } else { values };
        format!("{} {} {values}", self.field, self.op)
    }

    fn each(&self) -> impl Iterator<Item = &str> {
        self.values.iter().flat_map(|value| value.split(','))
    }

    fn is_negated(&self) -> bool {
        matches!(self.op, "!=" | "ne")
    }

    /// The transport protocol that it asks for, whatever the port.
    fn proto(&self) -> Option<String> {
        let first = self.field.split(' ').next().unwrap();
        ["tcp", "udp", "sctp"].contains(&first).then(|| format!("meta l4proto {first}"))
    }

    /// One value of it, that must be so.
    fn one(&self, value: &str) -> String {
        let op = if matches!(self.op, "<" | ">" | "<=" | "ge") { self.op } else { "" };
        format!("{} {op} {value}", self.field)
    }

    /// nft compares a single interface by its index, and this library by its name.
    fn by_name(mut self) -> Self {
        self.field = match self.field {
            "iif" => "iifname",
            "oif" => "oifname",
            "meta iif" => "meta iifname",
            "meta oif" => "meta oifname",
            field => field,
        };
        self
    }
}

/// The same as rules without sets and negations, in the order that this library has them in.
fn spelled_out(terms: &[Term]) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for term in terms.iter().filter(|term| term.is_negated()) {
        rules.extend(term.each().map(|value| format!("{} accept", term.one(value))));
    }
    let mut wanted = vec![String::new()];
    for term in terms {
        // States that are listed are bits of one test.
        let whole = term.field == "ct state" && term.op.is_empty();
        let parts: Vec<String> = match term.is_negated() {
            true => vec![term.proto().unwrap_or_default()],
            false if whole => vec![term.one(&term.values.join(","))],
            // Spelled out too: nft leaves it out where `ip protocol` or `ip6 nexthdr` says the same.
            false => {
                let proto = term.proto().unwrap_or_default();
                term.each().map(|value| format!("{proto} {}", term.one(value))).collect()
            }
        };
        wanted =
            wanted.iter().flat_map(|rule| parts.iter().map(move |part| format!("{rule} {part}"))).collect();
    }
    rules.extend(wanted.iter().map(|rule| format!("{rule} return")));
    rules
}

fn nft(command: &str) -> Result<(), String> {
    let output = Command::new("nft").arg(command).output().expect("nft is needed");
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn compare(socket: &Nft, terms: &[Term], family: IpFamily) -> Result<bool, TestCaseError> {
    let words: Vec<String> = terms.iter().map(Term::words).collect();
    let words = words.join(" ");
    let Ok(conditions) = Conditions::read(&[&words], family) else { return Ok(false) };
    let proto = family.choose("meta nfproto ipv4", "meta nfproto ipv6");
    let whole = nft(&format!("flush table inet t; add rule inet t theirs {proto} {words} return"));
    prop_assert!(whole.is_ok(), "{words:?} is accepted, and nft refuses it: {}", whole.unwrap_err());
    let terms: Vec<Term> = terms.iter().cloned().map(Term::by_name).collect();
    let rules: String =
        spelled_out(&terms).iter().map(|rule| format!("; add rule inet t theirs {proto} {rule}")).collect();
    let added = nft(&format!("flush table inet t{rules}"));
    prop_assert!(added.is_ok(), "{words:?}: {}", added.unwrap_err());
    let mut batch = Batch::new();
    let rules = conditions.rules(family);
    let (rest, rules) = rules.split_last().unwrap();
    let accept = Rule::new().verdict(Verdict::Accept);
    prop_assert_eq!(rest.exprs(), accept.exprs());
    rules.iter().for_each(|rule| batch.add_rule(&OURS, rule));
    socket.commit(batch).unwrap();
    let (ours, theirs) = (socket.rules(&OURS).unwrap(), socket.rules(&THEIRS).unwrap());
    let equal = ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(ours, theirs)| same(&ours.exprs, &theirs.exprs));
    prop_assert!(equal, "{words:?} means {}", run("nft list table inet t"));
    Ok(true)
}

network_test! {
    /// For words that are right, odd, and wrong.
    fn what_is_accepted_means_what_nft_makes_of_it() {
        let socket = Nft::open().unwrap();
        nft("add table inet t; add chain inet t ours; add chain inet t theirs").unwrap();
        // Too rare among random ones.
        for (field, family) in [("ip protocol", IpFamily::V4), ("ip6 nexthdr", IpFamily::V6)] {
            let term = |field, value| Term { field, op: "", values: vec![value], is_set: false };
            assert!(compare(&socket, &[term(field, "tcp"), term("tcp dport", "80")], family).unwrap());
        }
        let accepted = std::cell::Cell::new(0);
        let mut runner = TestRunner::new(Config { cases: 1000, failure_persistence: None, ..Config::default() });
        let tried = runner.run(&(vec(term(), 1..3), any::<bool>()), |(terms, v4)| {
            let is_accepted = compare(&socket, &terms, if v4 { IpFamily::V4 } else { IpFamily::V6 })?;
            accepted.set(accepted.get() + u32::from(is_accepted));
            Ok(())
        });
        tried.unwrap();
        assert!(accepted.get() > 50, "only {} of the words were accepted", accepted.get());
    }
}
