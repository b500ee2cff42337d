//! Rules of policy routing: which packets look for their route in which table.
//!
//! The requests are messages of netlink-packet-route: rtnetlink's builder for them needs its
//! asynchronous handle.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use libc::{RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use sys::Result;

use crate::Netlink;
use crate::addr::{AF_INET, AF_INET6, family};
use crate::attr::{Attrs, Malformed};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};

/// linux/fib_rules.h, attributes of a rule.
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
/// linux/fib_rules.h: the route is looked up in a table.
const FR_ACT_TO_TBL: u8 = 1;
/// linux/fib_rules.h: the rule is for the packets that do not match it.
const FIB_RULE_INVERT: u32 = 2;
/// Length of `struct fib_rule_hdr` (linux/fib_rules.h): u8 family, u8 destination length, u8 source
/// length, u8 tos, u8 table, two reserved, u8 action, u32 flags.
const HEADER: usize = 12;
/// The value of a limit that is not set.
const NO_LIMIT: u32 = u32::MAX;

/// A rule of policy routing, to be added or as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// The packets' source.
    pub source: IpNetwork,
    /// The table in which their route is looked up.
    pub table: u32,
    /// Its place among all rules, the lowest first; `None` lets the kernel choose one that is ahead
    /// of the main table's.
    pub priority: Option<u32>,
    /// Its origin (`RTPROT_*`): 0 unspecified, 3 boot.
    pub protocol: u8,
    /// Whether nothing else than the source selects its packets, and it does nothing else than
    /// naming the table.
    pub is_plain: bool,
}

impl PolicyRule {
    /// Whether it is for one address.
    pub fn is_for_one_address(&self) -> bool {
        self.source.prefix() == if self.source.is_ipv4() { 32 } else { 128 }
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let mut message = RuleMessage::default();
        message.header.family = family(self.source.ip()).into();
        message.header.src_len = self.source.prefix();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(self.source.ip()),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(self.protocol.into()),
        ];
        message.attributes.extend(self.priority.map(RuleAttribute::Priority));
        Request::of(kind, flags, &message)
    }

    fn label(&self) -> String {
        format!("from {} lookup {}", self.source, self.table)
    }
}

/// Reads the payload of an RTM_NEWRULE; `None` for another family.
fn read(of: u8, payload: &[u8]) -> Result<Option<PolicyRule>, Malformed> {
    let short = Malformed("a rule is too short");
    let (&[family, to_length, from_length, tos], rest) = payload.split_first_chunk().ok_or(short)?;
    let (&[table, _, _, action], rest) = rest.split_first_chunk().ok_or(short)?;
    let flags = u32::from_ne_bytes(*rest.first_chunk().ok_or(short)?);
    let any: IpAddr = match family {
        _ if family != of => return Ok(None),
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return Ok(None),
    };
    let source = |ip| IpNetwork::new(ip, from_length).map_err(|_| Malformed("a prefix is too long"));
    let to_table = action == FR_ACT_TO_TBL && flags & FIB_RULE_INVERT == 0;
    let mut rule = PolicyRule {
        source: source(any)?,
        table: table.into(),
        priority: None,
        protocol: 0,
        is_plain: to_table && to_length == 0 && tos == 0,
    };
    for attr in Attrs::after(payload, HEADER)? {
        let attr = attr?;
        match attr.kind {
            FRA_SRC => rule.source = source(attr.ip()?)?,
            FRA_TABLE => rule.table = attr.u32()?,
            FRA_PRIORITY => rule.priority = Some(attr.u32()?),
            FRA_PROTOCOL => rule.protocol = attr.u8()?,
            FRA_SUPPRESS_IFGROUP | FRA_SUPPRESS_PREFIXLEN => rule.is_plain &= attr.u32()? == NO_LIMIT,
            FRA_PAD => {}
            _ => rule.is_plain = false,
        }
    }
    Ok(Some(rule))
}

impl Netlink {
    /// Lists the rules of both families, in their order.
    ///
    /// # Errors
    /// The kernel refused; `is_not_supported` without CONFIG_IP_MULTIPLE_TABLES.
    pub fn rules(&self) -> Result<Vec<PolicyRule>> {
        let mut rules = self.rules_of(AF_INET)?;
        match self.rules_of(AF_INET6) {
            // Without IPv6, or without CONFIG_IPV6_MULTIPLE_TABLES.
            Err(error) if error.is_not_supported() => {}
            more => rules.extend(more?),
        }
        Ok(rules)
    }

    fn rules_of(&self, family: u8) -> Result<Vec<PolicyRule>> {
        let mut wanted = RuleMessage::default();
        wanted.header.family = family.into();
        let listed = self.socket.dump(Request::of(RTM_GETRULE, 0, &wanted), |payload, rules| {
            rules.extend(read(family, payload)?);
            Ok(())
        });
        listed.map_err(|refusal| refusal.on("list", "rules of policy routing"))
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// `is_exists`; `is_not_supported` where the kernel has no rules of that family.
    pub fn add_rule(&self, rule: &PolicyRule) -> Result<()> {
        let request = rule.request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
        self.change("add rule", request, || rule.label())
    }

    /// Removes the first rule with these values.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub fn delete_rule(&self, rule: &PolicyRule) -> Result<()> {
        self.change("delete rule", rule.request(RTM_DELRULE, 0), || rule.label())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::attr::Writer;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in vec(any::<u8>(), 0..100)) {
            for family in [AF_INET, AF_INET6] {
                if let Some(first) = bytes.first_mut() {
                    *first = family;
                }
                let _ = read(family, &bytes);
            }
        }

        /// A request and the kernel's description have the same form.
        #[test]
        fn a_request_is_read_back(v6: bool, octets: [u8; 16], table: u32, protocol: u8, priority: Option<u32>) {
            let ip: IpAddr = if v6 { octets.into() } else { <[u8; 4]>::try_from(&octets[..4]).unwrap().into() };
            let rule = PolicyRule { source: ip.into(), table, priority, protocol, is_plain: true };
            let bytes = rule.request(RTM_NEWRULE, 0).finish(1).unwrap();
            let of = if v6 { AF_INET6 } else { AF_INET };
            prop_assert_eq!(read(of, bytes.get(16..).unwrap()).unwrap(), Some(rule));
            prop_assert!(rule.is_for_one_address());
        }
    }

    #[test]
    fn a_rule_with_another_condition_is_not_plain() {
        let header = |tos, action, flags: u32| {
            [&[AF_INET, 0, 0, tos, 254, 0, 0, action][..], &flags.to_ne_bytes()].concat()
        };
        let is_plain = |bytes: &[u8]| read(AF_INET, bytes).unwrap().unwrap().is_plain;
        assert!(is_plain(&header(0, FR_ACT_TO_TBL, 0)));
        assert!(!is_plain(&header(4, FR_ACT_TO_TBL, 0)) && !is_plain(&header(0, 6, 0)));
        assert!(!is_plain(&header(0, FR_ACT_TO_TBL, FIB_RULE_INVERT)));
        let with = |kind, value| {
            let mut writer = Writer::default();
            writer.raw(&header(0, FR_ACT_TO_TBL, 0));
            writer.u32(kind, value);
            writer.finish().unwrap()
        };
        // A packet mark, FRA_FWMARK.
        assert!(!is_plain(&with(10, 1)));
        assert!(
            is_plain(&with(FRA_SUPPRESS_PREFIXLEN, NO_LIMIT)) && !is_plain(&with(FRA_SUPPRESS_PREFIXLEN, 0))
        );
    }
}
