//! Permits for queries to the resolver, on hosts with a firewall that refuses unknown packets: see
//! [`crate::rules::permit`].
//!
//! ```text
//! iifname "br0" ip daddr 10.1.2.1 udp dport 53 counter accept comment "moor/net"
//! ```
//!
//! The rules have the form of iptables' own: on most hosts its tables are tables of nf_tables, and
//! it lists these rules as its own. For legacy tables see [`crate::iptables`].

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nft::{Batch, Family, Field, Header, Hook, IPV4, IPV6, Nft, Protocol, Rule, Value, Verdict};
use sys::{IpFamily, Result};

use super::PROTOCOLS;
use crate::chain_end::Earlier;
use crate::rules::permit::{self, Permission};
use crate::{Drift, Owner, iptables};

/// linux/in6.h
const ICMPV6: u8 = 58;
/// Neighbour Solicitation and Neighbour Advertisement (RFC 4861, sections 4.3 and 4.4): nothing is
/// reachable by IPv6 without them.
const NEIGHBOURS: [u8; 2] = [135, 136];
const ICMPV6_TYPE: Field = Field::Payload { header: Header::Transport, offset: 0, length: 1 };

/// What a network's containers may send to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit<'a> {
    /// The network's name.
    pub network: &'a str,
    /// Addresses of this host that its containers query.
    pub addresses: &'a [IpAddr],
    /// The resolver's port at these addresses; a redirection of port 53 happens before.
    pub port: u16,
    /// Links by which the queries arrive, if all containers share these; otherwise the containers'
    /// prefixes identify them.
    pub links: &'a [String],
    /// Their prefixes.
    pub subnets: &'a [IpNetwork],
}

/// One of its rules.
#[derive(Clone, Copy, Debug)]
struct Allowed<'a> {
    from: From<'a>,
    ip: IpFamily,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum From<'a> {
    Link(&'a str),
    Subnet(IpNetwork),
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Queries to this address, by this protocol, to this port.
    Questions(IpAddr, u8, u16),
    /// This type of ICMPv6.
    Neighbours(u8),
}

impl Permit<'_> {
    /// Adds the permit to each chain that needs it and lacks some of it. Commits nothing if no
    /// chain does. `nft` is `None` if the kernel has no nf_tables.
    ///
    /// # Errors
    /// The kernel refused: some firewalls own their tables exclusively (NFT_TABLE_F_OWNER).
    pub fn add(&self, nft: Option<&Nft>) -> Result<()> {
        let label = Owner::network_label(self.network);
        let lines = |ip| {
            let allowed = self.allowed().filter(|allowed| allowed.ip == ip);
            allowed.map(|allowed| allowed.line(&label)).collect()
        };
        nft.map_or(Ok(()), |nft| {
            nft.transact(|nft, batch| self.with(&label, |permission| permission.add(nft, batch)))
        })
        .and_then(|()| iptables::let_in(iptables::INPUT, &lines, &label, Earlier::Replace))
        .map_err(|error| error.within("failed to let questions in through the host's firewall".into()))
    }

    fn with<T>(&self, label: &str, work: impl FnOnce(&Permission<'_>) -> T) -> T {
        let rules = |chain: &nft::Chain<'_>| self.rules(chain.table.family, label);
        work(&Permission { hook: Hook::Input, label, rules: &rules, earlier: Earlier::Replace })
    }

    /// Chains that need the permit and lack some of it. Legacy tables are not examined: that takes
    /// child processes.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let lacking = self.with(&Owner::network_label(self.network), |permission| permission.lacking(nft))?;
        let drift = |chain| {
            let what = format!("permission to ask the resolver in chain {chain}, which is closed");
            Drift::new(what, "present", "absent")
        };
        Ok(lacking.into_iter().map(drift).collect())
    }

    fn rules(&self, family: Family, label: &str) -> Vec<Rule> {
        let fits = |allowed: &Allowed<'_>| match family {
            Family::Ip => allowed.ip == IpFamily::V4,
            Family::Ip6 => allowed.ip == IpFamily::V6,
            _ => true,
        };
        self.allowed().filter(fits).map(|allowed| allowed.rule(family, label)).collect()
    }

    fn allowed(&self) -> impl Iterator<Item = Allowed<'_>> {
        let links = self.links.iter().map(|link| From::Link(link));
        let subnets = self.subnets.iter().filter(|_| self.links.is_empty());
        let sources = move || links.clone().chain(subnets.clone().map(|subnet| From::Subnet(*subnet)));
        let questions = self.addresses.iter().flat_map(|ip| PROTOCOLS.map(|proto| (*ip, proto)));
        let questions =
            questions.map(|(ip, proto)| (IpFamily::of(ip), What::Questions(ip, proto, self.port)));
        let v6 = self.addresses.iter().any(IpAddr::is_ipv6);
        let neighbours =
            NEIGHBOURS.into_iter().filter(move |_| v6).map(|kind| (IpFamily::V6, What::Neighbours(kind)));
        questions.chain(neighbours).flat_map(move |(ip, what)| {
            let fitting = sources().filter(move |from| from.is_of(ip));
            fitting.map(move |from| Allowed { from, ip, what })
        })
    }
}

impl From<'_> {
    fn is_of(self, ip: IpFamily) -> bool {
        match self {
            Self::Link(_) => true,
            Self::Subnet(subnet) => IpFamily::of(subnet.ip()) == ip,
        }
    }
}

impl Allowed<'_> {
    fn rule(&self, family: Family, label: &str) -> Rule {
        let of_family = |rule: Rule| match family {
            Family::Inet => rule.nfproto(self.ip.choose(IPV4, IPV6)),
            _ => rule,
        };
        let (saddr, daddr) =
            self.ip.choose((Field::IP_SADDR, Field::IP_DADDR), (Field::IP6_SADDR, Field::IP6_DADDR));
        let rule = match self.from {
            From::Link(link) => of_family(Rule::new().is(Field::IIFNAME, Value::new().ifname(link))),
            From::Subnet(subnet) => of_family(Rule::new()).network(saddr, subnet, true),
        };
        let rule = match self.what {
            What::Questions(ip, proto, port) => rule
                .is(daddr, Value::new().addr(ip))
                .is(Field::L4PROTO, Value::new().raw(&[proto]))
                .is(Field::DPORT, Value::new().raw(&port.to_be_bytes())),
            What::Neighbours(kind) => rule
                .is(Field::L4PROTO, Value::new().raw(&[ICMPV6]))
                .is(ICMPV6_TYPE, Value::new().raw(&[kind])),
        };
        rule.counter().verdict(Verdict::Accept).comment(label)
    }

    /// The same in the format of `iptables-save`, without `-A`.
    fn line(&self, label: &str) -> String {
        let (source, link) = match self.from {
            From::Link(link) => (String::new(), format!(" -i {link}")),
            From::Subnet(subnet) => (format!(" -s {}/{}", subnet.network(), subnet.prefix()), String::new()),
        };
        let (destination, what) = match self.what {
            What::Questions(ip, proto, port) => {
                let proto = Protocol(proto);
                (format!(" -d {}", iptables::single(ip)), format!("-p {proto} -m {proto} --dport {port}"))
            }
            What::Neighbours(kind) => (String::new(), format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind}")),
        };
        format!(
            "{}{source}{destination}{link} {what} -m comment --comment \"{label}\" -j ACCEPT",
            iptables::INPUT
        )
    }
}

/// Deletes what [`Permit::add`] made for a network, as a part of the caller's transaction.
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn delete(nft: &Nft, batch: &mut Batch, label: &str) -> Result<()> {
    permit::delete(nft, batch, Hook::Input, label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(addresses: &[&str], links: &[&str], subnets: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let links: Vec<String> = links.iter().map(|&link| link.into()).collect();
        let subnets: Vec<IpNetwork> = subnets.iter().map(|net| net.parse().unwrap()).collect();
        let permit =
            Permit { network: "net", addresses: &addresses, port: 5353, links: &links, subnets: &subnets };
        permit.allowed().map(|allowed| allowed.line("moor/net")).collect()
    }

    /// D-057: both protocols and both families, to the resolver's actual port; neighbour discovery,
    /// if there is IPv6.
    #[test]
    fn as_much_is_permitted_as_questions_need() {
        let end = "-m comment --comment \"moor/net\" -j ACCEPT";
        assert_eq!(
            lines(&["10.1.2.1", "fd00::1"], &["br0"], &["10.1.2.0/24", "fd00::/64"]),
            [
                format!("INPUT -d 10.1.2.1/32 -i br0 -p udp -m udp --dport 5353 {end}"),
                format!("INPUT -d 10.1.2.1/32 -i br0 -p tcp -m tcp --dport 5353 {end}"),
                format!("INPUT -d fd00::1/128 -i br0 -p udp -m udp --dport 5353 {end}"),
                format!("INPUT -d fd00::1/128 -i br0 -p tcp -m tcp --dport 5353 {end}"),
                format!("INPUT -i br0 -p ipv6-icmp -m icmp6 --icmpv6-type 135 {end}"),
                format!("INPUT -i br0 -p ipv6-icmp -m icmp6 --icmpv6-type 136 {end}"),
            ]
        );
        assert_eq!(
            lines(&["10.1.2.1"], &[], &["10.1.2.0/24", "fd00::/64"]),
            ["udp", "tcp"].map(|proto| {
                format!("INPUT -s 10.1.2.0/24 -d 10.1.2.1/32 -p {proto} -m {proto} --dport 5353 {end}")
            })
        );
    }
}
