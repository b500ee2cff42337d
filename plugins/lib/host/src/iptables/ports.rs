//! Published ports: the reference's chains and rules (PM-I1).

mod text;

use ipnetwork::IpNetwork;
use sys::{IpFamily, Result};

use super::names::SUMMARY;
use super::state::State;
use super::{Rules, add_all, delete_all, push, verify_all};
use crate::Drift;
use crate::ports::{Mapping, Masquerade};

/// How packets to masquerade are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// With this bit of a packet's mark, 0 to 31.
    Bit(u8),
    /// By another program's chain, which also masquerades.
    Chain(String),
}

/// A container's published ports in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Its chain.
    pub chain: String,
    /// The network's name.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// Its address, with its network's prefix length.
    pub container: IpNetwork,
    /// Its ports in this family, in order.
    pub mappings: Vec<Mapping>,
    /// Protocol and host ports of all its mappings, those of the other family included.
    pub listed: Vec<(u8, (u16, u16))>,
    /// The connections that are masqueraded.
    pub masquerade: Masquerade,
    /// See [`Mark`].
    pub mark: Mark,
    /// Additional conditions for packets to the container; see [`Ports::is_word`].
    pub conditions: Vec<String>,
}

impl Ports {
    /// Whether a word can be part of a rule: it must not contain a line break.
    pub fn is_word(word: &str) -> bool {
        !word.contains(char::is_control)
    }

    /// Adds the rules of a container's families, or none.
    ///
    /// # Errors
    /// A program is missing, did not end in time, or refused.
    pub fn add(all: &[Self]) -> Result<()> {
        add_all(all).map_err(|error| error.within("unable to setup DNAT".into()))
    }

    /// Deletes them; chains shared by containers stay.
    ///
    /// # Errors
    /// As [`Ports::add`]; all families are tried.
    pub fn delete(all: &[Self]) -> Result<()> {
        delete_all(all)
    }

    /// Lists every difference between these rules and the tables.
    ///
    /// # Errors
    /// A program could not be asked.
    pub fn verify(all: &[Self]) -> Result<Vec<Drift>> {
        verify_all(all)
    }
}

impl Rules for Ports {
    fn family(&self) -> IpFamily {
        IpFamily::of(self.container.ip())
    }

    fn add(&self, state: &State) -> String {
        let chain = &self.chain;
        let mut lines = String::new();
        // This notation empties an existing chain. Shared chains are only created, so that this
        // fails if another program has just filled one.
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
        for stale in state.jumps(SUMMARY, chain) {
            push(&mut lines, "-D", stale);
        }
        for rule in self.own().iter().chain(&self.entries()) {
            push(&mut lines, "-A", rule);
        }
        lines
    }

    fn wanted(&self, state: &State) -> (Vec<String>, Vec<Drift>) {
        let chain = &self.chain;
        let (own, entries) = (self.own(), self.entries());
        let mut drifts = Vec::new();
        let counts = [
            (format!("rules of {chain}"), own.len(), state.rules_of(chain).count()),
            (format!("rules that lead to {chain}"), entries.len(), state.jumps(SUMMARY, chain).count()),
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
        delete(state, &self.chain)
    }
}

/// The lines that delete a container's chain and the jumps to it; none if it does not exist.
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

#[cfg(test)]
mod tests {
    use super::super::names::ports_chain;
    use super::*;

    /// Two ports of a container, one of them in the other family.
    pub(super) fn ports(container: &str) -> Ports {
        let mapping = |proto, port, target| Mapping { proto, address: None, ports: (port, port), target };
        Ports {
            chain: ports_chain("n", "id1"),
            network: "n".into(),
            container_id: "id1".into(),
            container: container.parse().unwrap(),
            mappings: vec![mapping(6, 8080, 80)],
            listed: vec![(17, (53, 53)), (6, (8080, 8080))],
            masquerade: Masquerade::Needed,
            mark: Mark::Bit(13),
            conditions: vec!["!".into(), "--comment".into(), "a \"b\" \\".into()],
        }
    }

    /// PM-I1, on a host without any of the rules.
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

    /// PM-I4: existing shared rules are not added again, the container's own are.
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
}
