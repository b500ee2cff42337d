//! The conditions under which a container's ports are published, in nft's language (PM-C1).
//!
//! This crate parses them, not `nft`: an unknown word is an error before anything is changed. They
//! become rules of a chain of the container's own, so they affect no other container.

mod read;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;

use ipnetwork::IpNetwork;
use nft::{Compare, Field, Header, IPV4, IPV6, Rule, Value, Verdict};
use sys::IpFamily;

/// The conditions on packets to a published port; an empty list is no condition. Two are equal if
/// their texts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    text: String,
    terms: Vec<Term>,
}

/// Why conditions are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A word that this parser does not know; `nft` may.
    Unknown(String),
    /// An invalid expression: the fault, and the word.
    Invalid(&'static str, String),
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// The transport protocol that the packet must have, whatever the field must be.
    proto: Option<u8>,
    field: Field,
    /// None of the tests may match; otherwise one of them must.
    negated: bool,
    tests: Vec<Test>,
}

/// A value to compare a field with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// A whole value.
    Is(Compare, Value),
    /// The first bytes of a name.
    Begins(Value),
    /// An inclusive range.
    Between(Value, Value),
    /// Addresses.
    Network(IpNetwork),
    /// Bits of a mark: the mask, and the value.
    Bits(u32, u32),
    /// Bits of a state, any of them.
    Any(u32),
}

impl Conditions {
    /// Parses the words of a rule for one family; they may be one string or many, as on nft's
    /// command line.
    ///
    /// # Errors
    /// Names the word that is unknown or invalid.
    pub fn read<T: AsRef<str>>(words: &[T], family: IpFamily) -> Result<Self, Fault> {
        read::conditions(words, family)
    }

    /// Whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The rules of a chain of `inet`. It returns if the conditions hold. Otherwise it accepts the
    /// packet, which skips everything after the jump to it.
    pub fn rules(&self, family: IpFamily) -> Vec<Rule> {
        let family = || Rule::new().nfproto(family.choose(IPV4, IPV6));
        let mut rules = Vec::new();
        for term in self.terms.iter().filter(|term| term.negated) {
            let rule = |test: &Test| test.put(term.of_proto(family()), term.field).verdict(Verdict::Accept);
            rules.extend(term.tests.iter().map(rule));
        }
        let mut wanted = vec![family()];
        for term in &self.terms {
            let begun = wanted.into_iter().map(|rule| term.of_proto(rule));
            wanted = match term.negated {
                true => begun.collect(),
                false => begun
                    .flat_map(|rule| term.tests.iter().map(move |test| test.put(rule.clone(), term.field)))
                    .collect(),
            };
        }
        rules.extend(wanted.into_iter().map(|rule| rule.verdict(Verdict::Return)));
        rules.push(Rule::new().verdict(Verdict::Accept));
        rules
    }
}

impl Term {
    /// The only transport protocol that a packet can have if the condition holds, if there is one.
    fn only_proto(&self) -> Option<u8> {
        let tested = match &self.tests[..] {
            [Test::Is(Compare::Equal, value)] if self.is_of_proto() && !self.negated => value.bytes().first(),
            _ => None,
        };
        self.proto.or(tested.copied())
    }

    fn is_of_proto(&self) -> bool {
        self.field == Field::L4PROTO
            || matches!(self.field, Field::Payload { header: Header::Network, length: 1, .. })
    }

    fn of_proto(&self, rule: Rule) -> Rule {
        match self.proto {
            Some(proto) => rule.is(Field::L4PROTO, Value::new().proto(proto)),
            None => rule,
        }
    }
}

impl Test {
    fn put(&self, rule: Rule, field: Field) -> Rule {
        match *self {
            Self::Is(op, value) => rule.compare(field, op, value),
            Self::Begins(value) => rule.begins(field, value),
            Self::Between(first, last) => {
                rule.compare(field, Compare::GreaterOrEqual, first).compare(field, Compare::LessOrEqual, last)
            }
            Self::Network(network) => rule.network(field, network, true),
            Self::Bits(mask, value) => rule.bits(field, mask, Compare::Equal, value),
            Self::Any(bits) => rule.bits(field, bits, Compare::NotEqual, 0),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "{word:?} is not known here"),
            Self::Invalid(what, word) => write!(f, "{word:?}: {what}"),
        }
    }
}

impl std::error::Error for Fault {}
