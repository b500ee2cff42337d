//! Published ports: the reference's chains and rules (contract: portmap.md 6).

use std::collections::HashSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::names::{MASQUERADE, SET_MARK, SUMMARY, ports_chain, ports_comment};
use super::state::State;
use super::{Rules, add_all, delete_all, push, quoted, single, verify_all};
use crate::Result;
use crate::piece::Drift;
use crate::rules::published::{self, Mapping};

/// Ports of one rule, at most (XT_MULTI_PORTS, linux/netfilter/xt_multiport.h).
const CHUNK: usize = 15;

/// How what is to be masqueraded is marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// By this bit of a packet's mark, 0 to 31.
    Bit(u8),
    /// By somebody else's chain, who masquerades too.
    Chain(String),
}

/// What a container publishes in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The network's name.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// Its address, and the length of its network's.
    pub container: IpNetwork,
    /// Its ports in this family, in order.
    pub mappings: Vec<Mapping>,
    /// Protocol and host ports of all its mappings, also of those that are of the other family.
    pub listed: Vec<(u8, (u16, u16))>,
    /// Whose connections are masqueraded.
    pub masquerade: published::Masquerade,
    /// See [`Mark`].
    pub mark: Mark,
    /// Words that a packet is asked for too before it is led to the container; see [`Ports::is_word`].
    pub conditions: Vec<String>,
}

impl Ports {
    /// Whether a word can be a part of a rule: a line of one holds no other lines.
    pub fn is_word(word: &str) -> bool {
        !word.contains(char::is_control)
    }

    /// Makes the rules of a container's families, or none.
    ///
    /// # Errors
    /// A program is not there, did not end in time, or refused.
    pub fn add(all: &[Self]) -> Result<()> {
        add_all(all).map_err(|error| error.within("unable to setup DNAT".into()))
    }

    /// Takes them back; the chains that containers share stay.
    ///
    /// # Errors
    /// As [`Ports::add`]; all families are tried.
    pub fn delete(all: &[Self]) -> Result<()> {
        delete_all(all)
    }

    /// Every difference between these rules and the tables.
    ///
    /// # Errors
    /// A program could not be asked.
    pub fn verify(all: &[Self]) -> Result<Vec<Drift>> {
        verify_all(all)
    }

    fn chain(&self) -> String {
        ports_chain(&self.network, &self.container_id)
    }

    /// The chain that marks, where somebody is masqueraded.
    fn set_mark(&self) -> Option<&str> {
        match (&self.mark, self.masquerade) {
            (_, published::Masquerade::Nobody) => None,
            (Mark::Bit(_), _) => Some(SET_MARK),
            (Mark::Chain(chain), _) => Some(chain),
        }
    }

    /// The rules that containers share, in the order they are made in: where (in front of all others or behind), and
    /// the rule.
    fn shared(&self) -> Vec<(bool, String)> {
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

    fn shared_chains(&self) -> impl Iterator<Item = &'static str> {
        let marked = self.set_mark().is_some() && matches!(self.mark, Mark::Bit(_));
        let of_mark = [SET_MARK, MASQUERADE].into_iter().filter(move |_| marked);
        of_mark.chain([SUMMARY])
    }

    /// The rules of the container's own chain. What is given twice is there once.
    fn own(&self) -> Vec<String> {
        let chain = self.chain();
        let to = self.container.ip();
        let mut rules: Vec<String> = Vec::with_capacity(3 * self.mappings.len());
        let mut known = HashSet::new();
        let mut add = |rule: String| {
            if known.insert(rule.clone()) {
                rules.push(rule);
            }
        };
        for mapping in &self.mappings {
            let (proto, port) = (protocol(mapping.proto), range(mapping.ports));
            let at = mapping.address.map(|address| format!(" -d {}", single(address))).unwrap_or_default();
            let matches = format!("{at} -p {proto} -m {proto} --dport {port}");
            if let Some(set_mark) = self.set_mark() {
                let set_mark = quoted(set_mark);
                if self.masquerade == published::Masquerade::Everybody {
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
    fn entries(&self) -> Vec<String> {
        let chain = self.chain();
        let comment = quoted(&ports_comment(&self.network, &self.container_id));
        let conditions =
            self.conditions.iter().fold(String::new(), |words, word| words + " " + &quoted(word));
        let mut rules = Vec::new();
        let mut protocols: Vec<&str> = self.listed.iter().map(|(proto, _)| protocol(*proto)).collect();
        protocols.sort_unstable();
        protocols.dedup();
        for proto in protocols {
            let ports = self.listed.iter().filter(|(of, _)| protocol(*of) == proto);
            let ports: Vec<(u16, u16)> = ports.map(|(_, ports)| *ports).collect();
            let mut rest = ports.as_slice();
            while !rest.is_empty() {
                // A range takes the room of two.
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

impl Rules for Ports {
    fn v4(&self) -> bool {
        self.container.is_ipv4()
    }

    fn add(&self, state: &State) -> String {
        let chain = self.chain();
        let mut lines = String::new();
        // A chain that is said in this way is emptied if it is there. Those of all are only made, so that what somebody
        // has put in just now makes this fail.
        for shared in self.shared_chains().filter(|shared| !state.has_chain(shared)) {
            push(&mut lines, "-N", shared);
        }
        push(&mut lines, ":", &format!("{chain} - [0:0]"));
        for (first, rule) in self.shared().into_iter().filter(|(_, rule)| !state.has_rule(rule)) {
            match (first, rule.split_once(' ')) {
                (true, Some((chain, rule))) => push(&mut lines, "-I", &format!("{chain} 1 {rule}")),
                _ => push(&mut lines, "-A", &rule),
            }
        }
        for stale in state.jumps(SUMMARY, &chain) {
            push(&mut lines, "-D", stale);
        }
        for rule in self.own().iter().chain(&self.entries()) {
            push(&mut lines, "-A", rule);
        }
        lines
    }

    fn wanted(&self, state: &State) -> (Vec<String>, Vec<Drift>) {
        let chain = self.chain();
        let (own, entries) = (self.own(), self.entries());
        let mut drifts = Vec::new();
        let counts = [
            (format!("rules of {chain}"), own.len(), state.rules_of(&chain).count()),
            (format!("rules that lead to {chain}"), entries.len(), state.jumps(SUMMARY, &chain).count()),
        ];
        for (what, expected, actual) in counts {
            if actual > expected {
                let what = format!("{what} for {}", self.container.ip());
                drifts.push(Drift::new(what, expected, actual));
            }
        }
        let shared = self.shared().into_iter().map(|(_, rule)| rule);
        (shared.chain(own).chain(entries).collect(), drifts)
    }

    fn delete(&self, state: &State) -> String {
        delete(state, &self.chain())
    }
}

/// The lines that delete a container's chain and what leads to it; none where it is not there.
pub(super) fn delete(state: &State, chain: &str) -> String {
    let mut lines = String::new();
    if !state.has_chain(chain) {
        return lines;
    }
    for jump in state.jumps(SUMMARY, chain) {
        push(&mut lines, "-D", jump);
    }
    push(&mut lines, "-F", chain);
    push(&mut lines, "-X", chain);
    lines
}

/// `80`, or `80:90`.
fn range((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}:{last}") }
}

/// What follows the address: the port, none where ports stay as they are, or the range that they are moved to, and from
/// where (iptables 1.6.2, Linux 4.18).
fn target(mapping: &Mapping) -> String {
    let Mapping { ports: (first, last), target, .. } = *mapping;
    match last - first {
        0 => format!(":{target}"),
        _ if first == target => String::new(),
        count => format!(":{target}-{}/{first}", target + count),
    }
}

fn protocol(number: u8) -> &'static str {
    match number {
        6 => "tcp",
        17 => "udp",
        _ => "sctp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(container: &str) -> Ports {
        let mapping = |proto, port, target| Mapping { proto, address: None, ports: (port, port), target };
        Ports {
            network: "n".into(),
            container_id: "id1".into(),
            container: container.parse().unwrap(),
            mappings: vec![mapping(6, 8080, 80)],
            listed: vec![(17, (53, 53)), (6, (8080, 8080))],
            masquerade: published::Masquerade::Needed,
            mark: Mark::Bit(13),
            conditions: vec!["!".into(), "--comment".into(), "a \"b\" \\".into()],
        }
    }

    /// portmap.md 6.2: the example's end state, on a host where nothing of it is there.
    #[test]
    fn the_first_add_makes_what_the_reference_makes() {
        let lines = ports("10.8.0.5/24").add(&State::default());
        let chain = "CNI-DN-b40d6be49a3410ab31bc2";
        let entry = "-m comment --comment \"dnat name: \\\"n\\\" id: \\\"id1\\\"\" -m multiport --dports";
        let conditions = "! --comment \"a \\\"b\\\" \\\\\"";
        let expected = format!(
            "-N CNI-HOSTPORT-SETMARK\n-N CNI-HOSTPORT-MASQ\n-N CNI-HOSTPORT-DNAT\n:{chain} - [0:0]\n\
             -A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000\n\
             -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
             -I POSTROUTING 1 -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
             -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
             -A {chain} -s 10.8.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.8.0.5:80\n\
             -A CNI-HOSTPORT-DNAT -p tcp {entry} 8080 {conditions} -j {chain}\n\
             -A CNI-HOSTPORT-DNAT -p udp {entry} 53 {conditions} -j {chain}\n"
        );
        assert_eq!(lines, expected);
    }

    /// portmap.md 6.2: IPv6 has no localhost rule, masqAll no source, an external chain nothing of ours.
    #[test]
    fn masquerade_is_marked_for_whom_it_is_meant() {
        let own = |ports: &Ports| ports.own().join("; ").replace("CNI-DN-b40d6be49a3410ab31bc2 ", "");
        let v6 = ports("fd00::5/64");
        let to = "-p tcp -m tcp --dport 8080 -j DNAT --to-destination";
        assert_eq!(
            own(&v6),
            format!("-s fd00::/64 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK; {to} [fd00::5]:80")
        );
        let all = Ports { masquerade: published::Masquerade::Everybody, ..ports("10.8.0.5/24") };
        let marked = "-p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK";
        assert_eq!(own(&all), format!("{marked}; {to} 10.8.0.5:80"));
        let nobody = Ports { masquerade: published::Masquerade::Nobody, ..ports("10.8.0.5/24") };
        assert_eq!(own(&nobody), format!("{to} 10.8.0.5:80"));
        assert_eq!((nobody.shared().len(), nobody.shared_chains().count()), (2, 1));
        let external = Ports { mark: Mark::Chain("KUBE-MARK-MASQ".into()), ..ports("10.8.0.5/24") };
        assert!(own(&external).starts_with("-s 10.8.0.0/24 -p tcp -m tcp --dport 8080 -j KUBE-MARK-MASQ; "));
        assert_eq!((external.shared().len(), external.shared_chains().count()), (2, 1));
    }

    /// portmap.md 6.2, 6.3: what is there is not made again, but the container's own is.
    #[test]
    fn a_second_add_replaces_the_containers_own_alone() {
        let ports = ports("10.8.0.5/24");
        let first =
            ports.add(&State::default()).replace("-N ", ":").replace("-I POSTROUTING 1 ", "-A POSTROUTING ");
        let lines = ports.add(&State::read(&first));
        let commands: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(commands, [":CNI-DN-b40d6be49a3410ab31bc2", "-D", "-D", "-A", "-A", "-A", "-A", "-A"]);
        let (wanted, drifts) = ports.wanted(&State::read(&first));
        assert!(wanted.len() == 10 && drifts.is_empty(), "{wanted:?} {drifts:?}");
        let deleted = ports.delete(&State::read(&first));
        assert_eq!(deleted.lines().filter(|line| line.starts_with("-D ")).count(), 2);
        assert!(deleted.ends_with("-F CNI-DN-b40d6be49a3410ab31bc2\n-X CNI-DN-b40d6be49a3410ab31bc2\n"));
        assert_eq!(ports.delete(&State::default()), "");
    }

    /// portmap.md 6.2: fifteen ports a rule, in the order they are given in.
    #[test]
    fn ports_are_listed_by_fifteen() {
        let listed = (1..=31).rev().map(|port| (6, (port, port))).collect();
        let entries = Ports { listed, ..ports("10.8.0.5/24") }.entries();
        assert_eq!(entries.len(), 3);
        assert!(entries[0].contains("--dports 31,30,29,28,27,26,25,24,23,22,21,20,19,18,17 "));
        assert!(entries[2].contains("--dports 1 "));
    }
    /// What the reference knows nothing of: ranges, moved as a whole, each the room of two ports in a rule.
    #[test]
    fn ranges_are_moved_as_a_whole() {
        let mapping = |ports, target| Mapping { proto: 6, address: None, ports, target };
        let mappings = vec![mapping((3000, 3999), 3000), mapping((5000, 5009), 6000)];
        let nobody = published::Masquerade::Nobody;
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
