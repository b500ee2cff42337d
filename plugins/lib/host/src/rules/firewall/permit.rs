//! What a network's containers may do in closed chains of others: see [`crate::rules::permit`].
//!
//! ```text
//! iifname "br0" counter accept comment "moor/net"
//! oifname "br0" ct state established,related counter accept comment "moor/net"
//! oifname "br0" ct status dnat counter accept comment "moor/net"
//! ```
//!
//! The first two are what the reference's chain accepts; the third is for published ports. In a
//! table of iptables the connection is matched by its own extension, so that it lists these rules
//! as its own.

use ipnetwork::IpNetwork;
use nft::{
    Chain, Ct, Expr, Family, Field, Hook, IPV4, IPV6, Nft, Rule, STATE_ESTABLISHED, STATE_RELATED,
    STATUS_DNAT, Value, Verdict,
};
use sys::{IpFamily, Result};

use super::withdraw::has_any;
use crate::chain_end::Earlier;
use crate::rules::permit::{self, Permission};
use crate::{Drift, Owner, Ways, iptables};

/// One of a network's ways.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    Link(&'a str),
    Subnet(IpNetwork),
}

/// Which packets of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    From,
    ToInConnection,
    ToPublished,
    /// The last two by one rule of iptables.
    To,
}

/// linux/netfilter/xt_conntrack.h: `struct xt_conntrack_mtinfo3`, padded to eight bytes.
const CONNTRACK_LENGTH: usize = 168;
const CONNTRACK_REVISION: u32 = 3;
/// The offset of `match_flags`, and XT_CONNTRACK_STATE.
const FLAGS: (usize, u16) = (146, 1);
/// The offset of `state_mask`, and XT_CONNTRACK_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED
/// with XT_CONNTRACK_STATE_DNAT.
const STATES: (usize, u16) = (150, 0x86);

impl Ways {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.subnets.is_empty()
    }

    /// Adds to closed chains what they lack of the network's rules. Rules of other ways stay.
    ///
    /// # Errors
    /// The kernel refused: some firewalls own their tables exclusively (NFT_TABLE_F_OWNER).
    pub fn open(&self, network: &str, nft: &Nft) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let label = Owner::network_label(network);
        self.with(&label, |permission| nft.transact(|nft, batch| permission.add(nft, batch)))?;
        let lines = |family| self.lines(family, &label);
        iptables::let_in(iptables::FORWARD, &lines, &label, Earlier::Keep)
    }

    /// Closed chains that lack some of the network's rules. Legacy tables are not examined: that
    /// takes child processes.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, network: &str, nft: &Nft) -> Result<Vec<Drift>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let label = Owner::network_label(network);
        let lacking = self.with(&label, |permission| permission.lacking(nft))?;
        let drift = |chain| {
            Drift::new(format!("rules of {label} in chain {chain}, which is closed"), "present", "absent")
        };
        Ok(lacking.into_iter().map(drift).collect())
    }

    fn with<T>(&self, label: &str, work: impl FnOnce(&Permission<'_>) -> T) -> T {
        let rules = |chain: &Chain<'_>| self.rules(chain, label);
        work(&Permission { hook: Hook::Forward, label, rules: &rules, earlier: Earlier::Keep })
    }

    fn all(&self) -> impl Iterator<Item = Way<'_>> {
        let links = self.links.iter().map(|link| Way::Link(link));
        links.chain(self.subnets.iter().map(|subnet| Way::Subnet(*subnet)))
    }

    fn rules(&self, chain: &Chain<'_>, label: &str) -> Vec<Rule> {
        let family = chain.table.family;
        let fits = |way: &Way<'_>| match (way, family) {
            (Way::Subnet(subnet), Family::Ip) => subnet.is_ipv4(),
            (Way::Subnet(subnet), Family::Ip6) => subnet.is_ipv6(),
            _ => true,
        };
        let which: &[Which] = match is_of_iptables(chain) {
            true => &[Which::From, Which::To],
            false => &[Which::From, Which::ToInConnection, Which::ToPublished],
        };
        let ways = self.all().filter(fits);
        ways.flat_map(|way| which.iter().map(move |which| rule(way, *which, family, label))).collect()
    }

    /// The same in the format of `iptables-save`, without `-A`.
    fn lines(&self, family: IpFamily, label: &str) -> Vec<String> {
        let fits = |way: &Way<'_>| match way {
            Way::Link(_) => true,
            Way::Subnet(subnet) => IpFamily::of(subnet.ip()) == family,
        };
        let lines = |way| {
            let (from, to) = match way {
                Way::Link(link) => (format!("-i {link}"), format!("-o {link}")),
                Way::Subnet(subnet) => {
                    let subnet = format!("{}/{}", subnet.network(), subnet.prefix());
                    (format!("-s {subnet}"), format!("-d {subnet}"))
                }
            };
            let end = format!("-m comment --comment \"{label}\" -j ACCEPT");
            let chain = iptables::FORWARD;
            [
                format!("{chain} {from} {end}"),
                format!("{chain} {to} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT {end}"),
            ]
        };
        self.all().filter(fits).flat_map(lines).collect()
    }
}

/// Whether iptables made a base chain: its names are in capitals.
fn is_of_iptables(chain: &Chain<'_>) -> bool {
    matches!(chain.table.family, Family::Ip | Family::Ip6)
        && chain.table.name == "filter"
        && chain.name == iptables::FORWARD
}

fn rule(way: Way<'_>, which: Which, family: Family, label: &str) -> Rule {
    let is_from = which == Which::From;
    let rule = match way {
        Way::Link(link) => {
            let field = if is_from { Field::IIFNAME } else { Field::OIFNAME };
            Rule::new().is(field, Value::new().ifname(link))
        }
        Way::Subnet(subnet) => {
            let ip = IpFamily::of(subnet.ip());
            let rule = match family {
                Family::Inet => Rule::new().nfproto(ip.choose(IPV4, IPV6)),
                _ => Rule::new(),
            };
            let field = match is_from {
                true => ip.choose(Field::IP_SADDR, Field::IP6_SADDR),
                false => ip.choose(Field::IP_DADDR, Field::IP6_DADDR),
            };
            rule.network(field, subnet, true)
        }
    };
    let rule = match which {
        Which::From => rule,
        Which::ToInConnection => rule.any_bit(Field::Ct(Ct::State), STATE_ESTABLISHED | STATE_RELATED),
        Which::ToPublished => rule.any_bit(Field::Ct(Ct::Status), STATUS_DNAT),
        Which::To => rule.then(conntrack()),
    };
    rule.counter().verdict(Verdict::Accept).comment(label)
}

/// `-m conntrack --ctstate RELATED,ESTABLISHED,DNAT`.
fn conntrack() -> Expr {
    let mut data = vec![0; CONNTRACK_LENGTH];
    for (offset, number) in [FLAGS, STATES] {
        if let Some(field) = data.get_mut(offset..offset + 2) {
            field.copy_from_slice(&number.to_ne_bytes());
        }
    }
    Expr::Match { name: "conntrack".into(), revision: CONNTRACK_REVISION, data }
}

/// Deletes the rules of a network, by its label, if none of its attachments has anything any more.
///
/// # Errors
/// The kernel refused, or a program did.
pub(super) fn close_if_last(nft: &Nft, network: &str) -> Result<()> {
    let here = !permit::foreign(nft, Hook::Forward)?.is_empty();
    if here {
        nft.transact(|nft, batch| match has_any(nft, network)? {
            true => Ok(()),
            false => permit::delete(nft, batch, Hook::Forward, network),
        })?;
    }
    match iptables::has_old_filter() && !has_any(nft, network)? {
        true => iptables::let_in_no_more(iptables::FORWARD, network),
        false => Ok(()),
    }
}

/// The same on a kernel without nf_tables.
///
/// # Errors
/// A program refused.
pub(super) fn close_old(network: &str) -> Result<()> {
    iptables::let_in_no_more(iptables::FORWARD, &Owner::network_label(network))
}
