//! The parser of conditions: the known part of nft's language, as one table of fields and one of
//! values.

use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use nft::{
    Compare, Ct, Field, Header, Meta, Protocol, STATE_ESTABLISHED, STATE_INVALID, STATE_NEW, STATE_RELATED,
    Value,
};
use sys::IpFamily;

use super::tokens::{excerpt, tokens};
use super::{Conditions, Fault, Term, Test};

/// The maximum number of rules: more would cost a packet too much.
const RULES_MAX: usize = 512;
/// The longest name of an interface (IFNAMSIZ, less its NUL).
const NAME_MAX: usize = 15;

const STATES: [(&str, u32); 4] = [
    ("new", STATE_NEW),
    ("established", STATE_ESTABLISHED),
    ("related", STATE_RELATED),
    ("invalid", STATE_INVALID),
];
const PROTOCOLS: [(&str, u8); 6] = [
    ("tcp", Protocol::TCP),
    ("udp", Protocol::UDP),
    ("sctp", Protocol::SCTP),
    ("icmp", 1),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
];

/// The kinds of values of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An address of the family that the conditions are for.
    Address,
    Port,
    Proto,
    Name,
    /// A name that nft converts to an index.
    Interface,
    Mark,
    State,
}

pub(super) fn conditions<T: AsRef<str>>(words: &[T], family: IpFamily) -> Result<Conditions, Fault> {
    let tokens = tokens(words)?;
    let mut reader = Reader { tokens: &tokens, family };
    let mut terms: Vec<Term> = Vec::new();
    while !reader.tokens.is_empty() {
        let begin = reader.tokens;
        let term = reader.term()?;
        let contradicts =
            |other: &Term| term.only_proto().zip(other.only_proto()).is_some_and(|(one, two)| one != two);
        if terms.iter().any(contradicts) {
            let word = begin.first().map(String::as_str).unwrap_or_default();
            return Err(Fault::Invalid("no packet is of two protocols", excerpt(word)));
        }
        terms.push(term);
    }
    let count =
        |negated| terms.iter().filter(move |term| term.negated == negated).map(|term| term.tests.len());
    let rules = count(false).try_fold(1_usize, usize::checked_mul);
    match rules.and_then(|rules| count(true).try_fold(rules, usize::checked_add)) {
        Some(..=RULES_MAX) => Ok(Conditions { text: tokens.join(" "), terms }),
        _ => Err(Fault::Invalid("the sets make more than 512 rules", excerpt(&tokens.join(" ")))),
    }
}

struct Reader<'a> {
    tokens: &'a [String],
    family: IpFamily,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> &'a str {
        self.tokens.first().map(String::as_str).unwrap_or_default()
    }

    fn next(&mut self) -> Result<&'a str, Fault> {
        let (first, rest) = self
            .tokens
            .split_first()
            .ok_or_else(|| Fault::Invalid("something must follow", "the last word".into()))?;
        self.tokens = rest;
        Ok(first)
    }

    /// Takes the next word if it is one of these.
    fn take(&mut self, words: &[&str]) -> bool {
        let is_it = !self.tokens.is_empty() && words.contains(&self.peek());
        if is_it {
            self.tokens = self.tokens.get(1..).unwrap_or_default();
        }
        is_it
    }

    fn term(&mut self) -> Result<Term, Fault> {
        let (proto, field, kind) = self.field()?;
        let mask = match kind {
            Kind::Mark if self.take(&["&", "and"]) => Some(number(self.next()?)?),
            _ => None,
        };
        let sign = self.peek();
        let ops: [(&[&str], Compare); 6] = [
            (&["==", "eq"], Compare::Equal),
            (&["!=", "ne"], Compare::NotEqual),
            (&["<", "lt"], Compare::Less),
            (&["<=", "le"], Compare::LessOrEqual),
            (&[">", "gt"], Compare::Greater),
            (&[">=", "ge"], Compare::GreaterOrEqual),
        ];
        let op = ops.into_iter().find(|(words, _)| self.take(words)).map(|(_, op)| op);
        let mut tests = Vec::new();
        let is_set = self.take(&["{"]);
        if is_set {
            loop {
                tests.push(self.value(kind, mask)?);
                if self.take(&["}"]) {
                    break;
                }
                if !self.take(&[","]) {
                    return Err(Fault::Invalid("a comma or } must come before it", excerpt(self.peek())));
                }
            }
        } else {
            tests.push(self.value(kind, mask)?);
        }
        if kind == Kind::State && op.is_none() {
            let bits = |test: &Test| match test {
                Test::Any(bits) => *bits,
                _ => 0,
            };
            let mut all = tests.iter().map(bits).fold(0, |all, bits| all | bits);
            while !is_set && self.take(&[","]) {
                all |= named(self.next()?, &STATES)?;
            }
            tests = vec![Test::Any(all)];
        }
        if self.peek() == "," {
            // `nft` takes it for one value, which no packet has.
            return Err(Fault::Invalid("a list after a sign is written { new, related }", ",".into()));
        }
        let negated = match op {
            None | Some(Compare::Equal) => false,
            Some(Compare::NotEqual) => true,
            Some(op) => match tests[..] {
                [Test::Is(Compare::Equal, value)] if matches!(kind, Kind::Address | Kind::Port) => {
                    tests = vec![Test::Is(op, value)];
                    false
                }
                _ => {
                    return Err(Fault::Invalid(
                        "only one address or port can be less or more",
                        excerpt(sign),
                    ));
                }
            },
        };
        Ok(Term { proto, field, negated, tests })
    }

    /// A field, and the transport protocol that it implies.
    fn field(&mut self) -> Result<(Option<u8>, Field, Kind), Fault> {
        let word = self.next()?;
        if matches!((word, self.family), ("ip", IpFamily::V6) | ("ip6", IpFamily::V4)) {
            let what = self.family.choose("no IPv4 packet has it", "no IPv6 packet has it");
            return Err(Fault::Invalid(what, word.into()));
        }
        if word == "meta" {
            let word = self.next()?;
            return meta(word).ok_or_else(|| Fault::Unknown(format!("meta {}", excerpt(word))));
        }
        // The protocol has no name without `meta`.
        if let Some(field) = meta(word).filter(|(.., kind)| *kind != Kind::Proto) {
            return Ok(field);
        }
        let ports = |proto| move |field| (proto, field, Kind::Port);
        let of_protocol = match word {
            "tcp" => ports(Some(Protocol::TCP)),
            "udp" => ports(Some(Protocol::UDP)),
            "sctp" => ports(Some(Protocol::SCTP)),
            "th" => ports(None),
            "ip" | "ip6" | "ct" => return self.field_of(word),
            other => return Err(Fault::Unknown(excerpt(other))),
        };
        match self.next()? {
            "sport" => Ok(of_protocol(Field::SPORT)),
            "dport" => Ok(of_protocol(Field::DPORT)),
            other => Err(Fault::Unknown(excerpt(other))),
        }
    }

    fn field_of(&mut self, whole: &str) -> Result<(Option<u8>, Field, Kind), Fault> {
        let header = |offset| Field::Payload { header: Header::Network, offset, length: 1 };
        let (field, kind) = match (whole, self.next()?) {
            ("ip", "saddr") => (Field::IP_SADDR, Kind::Address),
            ("ip", "daddr") => (Field::IP_DADDR, Kind::Address),
            ("ip", "protocol") => (header(9), Kind::Proto),
            ("ip6", "saddr") => (Field::IP6_SADDR, Kind::Address),
            ("ip6", "daddr") => (Field::IP6_DADDR, Kind::Address),
            ("ip6", "nexthdr") => (header(6), Kind::Proto),
            ("ct", "mark") => (Field::Ct(Ct::Mark), Kind::Mark),
            ("ct", "state") => (Field::Ct(Ct::State), Kind::State),
            (_, other) => return Err(Fault::Unknown(excerpt(other))),
        };
        Ok((None, field, kind))
    }

    fn value(&mut self, kind: Kind, mask: Option<u32>) -> Result<Test, Fault> {
        let word = self.next()?;
        if word.starts_with(['@', '$']) {
            // A set of another table, or a variable of an nft file.
            return Err(Fault::Unknown(excerpt(word)));
        }
        match kind {
            Kind::Address => self.address(word),
            Kind::Port => {
                let port = |word: &str| match decimal(word) {
                    Some(port) => Ok(Value::new().port(port)),
                    None => Err(Fault::Invalid("it is no port number", excerpt(word))),
                };
                self.one_or_range(word, port)
            }
            Kind::Proto => {
                let known = PROTOCOLS.iter().find(|(name, _)| *name == word).map(|(_, proto)| *proto);
                let proto = known.or_else(|| decimal(word));
                let proto = proto.ok_or_else(|| Fault::Invalid("it is no protocol", excerpt(word)))?;
                Ok(equal(Value::new().proto(proto)))
            }
            Kind::Name => name(word),
            Kind::Interface => match name(word)? {
                Test::Begins(_) => {
                    Err(Fault::Invalid("only iifname and oifname have a pattern", excerpt(word)))
                }
                // nft takes a number for an index.
                _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                    Err(Fault::Invalid("an interface is named here, not numbered", excerpt(word)))
                }
                test => Ok(test),
            },
            Kind::Mark => Ok(match (mask, number(word)?) {
                (None, mark) => equal(Value::new().mark(mark)),
                (Some(mask), mark) => Test::Bits(mask, mark),
            }),
            Kind::State => named(word, &STATES).map(Test::Any),
        }
    }

    fn address(&mut self, word: &str) -> Result<Test, Fault> {
        let family = self.family;
        let wrong = |word: &str| {
            Fault::Invalid(family.choose("it is no IPv4 address", "it is no IPv6 address"), excerpt(word))
        };
        if word.contains('/') {
            // Like nft: a prefix length, not a mask.
            let parts =
                word.split_once('/').and_then(|(ip, length)| Some((ip.parse().ok()?, decimal(length)?)));
            let network = parts.and_then(|(ip, length)| IpNetwork::new(ip, length).ok());
            return network
                .filter(|net| IpFamily::of(net.ip()) == family)
                .map(Test::Network)
                .ok_or_else(|| wrong(word));
        }
        self.one_or_range(word, |word| match word.parse::<IpAddr>() {
            Ok(ip) if IpFamily::of(ip) == family => Ok(Value::new().addr(ip)),
            _ => Err(wrong(word)),
        })
    }

    /// `1`, `1-9`, `1 - 9`.
    fn one_or_range(
        &mut self,
        word: &str,
        value: impl Fn(&str) -> Result<Value, Fault>,
    ) -> Result<Test, Fault> {
        let ends = match word.split_once('-') {
            Some(ends) => Some(ends),
            None if self.take(&["-"]) => Some((word, self.next()?)),
            None => None,
        };
        let Some((first, last)) = ends else { return value(word).map(equal) };
        match (value(first)?, value(last)?) {
            (first, last) if first <= last => Ok(Test::Between(first, last)),
            _ => Err(Fault::Invalid("the range ends before it begins", excerpt(word))),
        }
    }
}

/// The keywords of nft after `meta`.
fn meta(word: &str) -> Option<(Option<u8>, Field, Kind)> {
    let (meta, kind) = match word {
        "mark" => (Meta::Mark, Kind::Mark),
        "l4proto" => (Meta::L4proto, Kind::Proto),
        // By its name, since an interface may have another index when the rules are made again.
        "iif" => (Meta::Iifname, Kind::Interface),
        "oif" => (Meta::Oifname, Kind::Interface),
        "iifname" => (Meta::Iifname, Kind::Name),
        "oifname" => (Meta::Oifname, Kind::Name),
        _ => return None,
    };
    Some((None, Field::Meta(meta), kind))
}

/// A decimal number. A leading zero is refused: nft reads such a number as octal.
fn decimal<T: FromStr>(word: &str) -> Option<T> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

fn equal(value: Value) -> Test {
    Test::Is(Compare::Equal, value)
}

fn name(word: &str) -> Result<Test, Fault> {
    let (name, is_whole) = match word.strip_suffix('*') {
        Some(head) => (head, false),
        None => (word, true),
    };
    if name.is_empty() || name.len() > NAME_MAX || name.contains(['*', '/', ':']) || is_sign(word) {
        return Err(Fault::Invalid("no interface has such a name", excerpt(word)));
    }
    Ok(match is_whole {
        true => equal(Value::new().ifname(name)),
        false => Test::Begins(Value::new().raw(name.as_bytes())),
    })
}

fn is_sign(word: &str) -> bool {
    word.starts_with(['{', '}', ',', '&', '!', '=', '<', '>'])
}

/// A mark.
fn number(word: &str) -> Result<u32, Fault> {
    let number = match word.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        _ => decimal(word),
    };
    number.ok_or_else(|| Fault::Invalid("it is no mark", excerpt(word)))
}

fn named(word: &str, known: &[(&str, u32)]) -> Result<u32, Fault> {
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| Fault::Unknown(excerpt(word)))
}
