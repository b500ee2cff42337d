//! The text of the rules of published ports (PM-I1).

use std::collections::HashSet;
use std::net::IpAddr;

use nft::Protocol;

use super::{Mark, Ports};
use crate::iptables::names::{MASQUERADE, SET_MARK, SUMMARY, ports_comment};
use crate::iptables::{quoted, single};
use crate::ports::{Mapping, Masquerade};

/// The most ports in one rule (XT_MULTI_PORTS, linux/netfilter/xt_multiport.h).
const CHUNK: usize = 15;

impl Ports {
    /// The chain that marks, if anything is masqueraded.
    fn set_mark(&self) -> Option<&str> {
        match (&self.mark, self.masquerade) {
            (_, Masquerade::Nobody) => None,
            (Mark::Bit(_), _) => Some(SET_MARK),
            (Mark::Chain(chain), _) => Some(chain),
        }
    }

    /// The shared rules, in the order of creation: whether it is inserted at the head, and the
    /// rule.
    pub(super) fn shared(&self) -> Vec<(bool, String)> {
        let mut rules = Vec::new();
        if let (Some(_), Mark::Bit(bit)) = (self.set_mark(), &self.mark) {
            let mark = 1_u32.checked_shl((*bit).into()).unwrap_or_default();
            rules.extend([
                (
                    false,
                    format!(
                        "{SET_MARK} -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark \
                         {mark:#x}/{mark:#x}"
                    ),
                ),
                (false, format!("{MASQUERADE} -m mark --mark {mark:#x}/{mark:#x} -j MASQUERADE")),
                (
                    true,
                    format!(
                        "POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j {MASQUERADE}"
                    ),
                ),
            ]);
        }
        for chain in ["PREROUTING", "OUTPUT"] {
            rules.push((false, format!("{chain} -m addrtype --dst-type LOCAL -j {SUMMARY}")));
        }
        rules
    }

    pub(super) fn shared_chains(&self) -> impl Iterator<Item = &'static str> {
        let marked = self.set_mark().is_some() && matches!(self.mark, Mark::Bit(_));
        let of_mark = [SET_MARK, MASQUERADE].into_iter().filter(move |_| marked);
        of_mark.chain([SUMMARY])
    }

    /// The rules of the container's own chain, without duplicates.
    pub(super) fn own(&self) -> Vec<String> {
        let chain = &self.chain;
        let to = self.container.ip();
        let mut rules: Vec<String> = Vec::with_capacity(3 * self.mappings.len());
        let mut known = HashSet::new();
        let mut add = |rule: String| {
            if known.insert(rule.clone()) {
                rules.push(rule);
            }
        };
        for mapping in &self.mappings {
            let (proto, port) = (Protocol(mapping.proto), range(mapping.ports));
            let at = mapping.address.map(|address| format!(" -d {}", single(address))).unwrap_or_default();
            let matches = format!("{at} -p {proto} -m {proto} --dport {port}");
            if let Some(set_mark) = self.set_mark() {
                let set_mark = quoted(set_mark);
                if self.masquerade == Masquerade::Everybody {
                    add(format!("{chain}{matches} -j {set_mark}"));
                } else {
                    let (network, length) = (self.container.network(), self.container.prefix());
                    add(match length {
                        0 => format!("{chain}{matches} -j {set_mark}"),
                        _ => format!("{chain} -s {network}/{length}{matches} -j {set_mark}"),
                    });
                    if to.is_ipv4() {
                        add(format!("{chain} -s 127.0.0.1/32{matches} -j {set_mark}"));
                    }
                }
            }
            let target = target(mapping);
            add(match to {
                IpAddr::V4(to) => format!("{chain}{matches} -j DNAT --to-destination {to}{target}"),
                IpAddr::V6(to) if target.is_empty() => {
                    format!("{chain}{matches} -j DNAT --to-destination {to}")
                }
                IpAddr::V6(to) => format!("{chain}{matches} -j DNAT --to-destination [{to}]{target}"),
            });
        }
        rules
    }

    /// The rules that lead to it: by protocol, in the order of their names.
    pub(super) fn entries(&self) -> Vec<String> {
        let chain = &self.chain;
        let comment = quoted(&ports_comment(&self.network, &self.container_id));
        let conditions =
            self.conditions.iter().fold(String::new(), |words, word| words + " " + &quoted(word));
        let mut rules = Vec::new();
        let name = |proto: u8| Protocol(proto).to_string();
        let mut protocols: Vec<String> = self.listed.iter().map(|(proto, _)| name(*proto)).collect();
        protocols.sort_unstable();
        protocols.dedup();
        for proto in protocols {
            let ports = self.listed.iter().filter(|(of, _)| name(*of) == proto);
            let ports: Vec<(u16, u16)> = ports.map(|(_, ports)| *ports).collect();
            let mut rest = ports.as_slice();
            while !rest.is_empty() {
                // A range counts as two ports.
                let mut room = CHUNK;
                let fits = |ports: &&(u16, u16)| {
                    let left = room.checked_sub(if ports.0 == ports.1 { 1 } else { 2 });
                    room = left.unwrap_or_default();
                    left.is_some()
                };
                let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
                rest = later;
                let now: Vec<String> = now.iter().map(|ports| range(*ports)).collect();
                rules.push(format!(
                    "{SUMMARY} -p {proto} -m comment --comment {comment} -m multiport --dports {}{conditions} -j {chain}",
                    now.join(",")
                ));
            }
        }
        rules
    }
}

/// `80`, or `80:90`.
fn range((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}:{last}") }
}

/// The part after the address: the port, nothing if ports stay as they are, or the range that they
/// are moved to, and the base port (iptables 1.6.2, Linux 4.18).
fn target(mapping: &Mapping) -> String {
    let Mapping { ports: (first, last), target, .. } = *mapping;
    match last - first {
        0 => format!(":{target}"),
        _ if first == target => String::new(),
        count => format!(":{target}-{}/{first}", target + count),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ports;
    use super::*;

    /// PM-I1: IPv6 has no localhost rule, masqAll no source, an external chain no rule of Moor's.
    #[test]
    fn masquerade_is_marked_for_whom_it_is_meant() {
        let own = |ports: &Ports| ports.own().join("; ").replace("CNI-DN-b40d6be49a3410ab31bc2 ", "");
        let v6 = ports("fd00::5/64");
        let to = "-p tcp -m tcp --dport 8080 -j DNAT --to-destination";
        assert_eq!(
            own(&v6),
            format!("-s fd00::/64 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK; {to} [fd00::5]:80")
        );
        let all = Ports { masquerade: Masquerade::Everybody, ..ports("10.8.0.5/24") };
        let marked = "-p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK";
        assert_eq!(own(&all), format!("{marked}; {to} 10.8.0.5:80"));
        let nobody = Ports { masquerade: Masquerade::Nobody, ..ports("10.8.0.5/24") };
        assert_eq!(own(&nobody), format!("{to} 10.8.0.5:80"));
        assert_eq!((nobody.shared().len(), nobody.shared_chains().count()), (2, 1));
        let external = Ports { mark: Mark::Chain("KUBE-MARK-MASQ".into()), ..ports("10.8.0.5/24") };
        assert!(own(&external).starts_with("-s 10.8.0.0/24 -p tcp -m tcp --dport 8080 -j KUBE-MARK-MASQ; "));
        assert_eq!((external.shared().len(), external.shared_chains().count()), (2, 1));
    }

    /// PM-I1: fifteen ports per rule, in the given order.
    #[test]
    fn ports_are_listed_by_fifteen() {
        let listed = (1..=31).rev().map(|port| (6, (port, port))).collect();
        let entries = Ports { listed, ..ports("10.8.0.5/24") }.entries();
        assert_eq!(entries.len(), 3);
        assert!(entries[0].contains("--dports 31,30,29,28,27,26,25,24,23,22,21,20,19,18,17 "));
        assert!(entries[2].contains("--dports 1 "));
    }

    /// Ranges, which the reference does not support, are moved as a whole and count as two ports in
    /// a rule.
    #[test]
    fn ranges_are_moved_as_a_whole() {
        let mapping = |ports, target| Mapping { proto: 6, address: None, ports, target };
        let mappings = vec![mapping((3000, 3999), 3000), mapping((5000, 5009), 6000)];
        let nobody = Masquerade::Nobody;
        let of = |container| {
            Ports { mappings: mappings.clone(), masquerade: nobody, ..ports(container) }.own().join("; ")
        };
        let v4 = of("10.8.0.5/24");
        assert!(v4.contains("--dport 3000:3999 -j DNAT --to-destination 10.8.0.5;"), "{v4}");
        assert!(v4.ends_with("--dport 5000:5009 -j DNAT --to-destination 10.8.0.5:6000-6009/5000"), "{v4}");
        let v6 = of("fd00::5/64");
        assert!(v6.contains("--to-destination fd00::5;") && v6.ends_with("[fd00::5]:6000-6009/5000"), "{v6}");
        let listed = (1..=8).map(|port| (6, (1000 * port, 1000 * port + 9))).chain([(6, (80, 80))]).collect();
        let entries = Ports { listed, ..ports("10.8.0.5/24") }.entries();
        assert_eq!(entries.len(), 2);
        assert!(
            entries[0].contains(",7000:7009 ") && entries[1].contains("--dports 8000:8009,80 "),
            "{entries:?}"
        );
    }
}
