//! Addresses that chains of iptables accept: the reference's chains of its plugin
//! `firewall`.
//!
//! Only the rules of an address belong to an attachment. The two chains and the jumps to them are
//! every attachment's, and the reference's too: they stay, and the second chain's rules are an
//! administrator's.

use std::cell::RefCell;
use std::net::IpAddr;

use sys::{IpFamily, Result};

use super::state::State;
use super::{FILTER, Rules, Tools, change, in_old_tables, lock, old_tables, push, single, tools, verify_all};
use crate::Drift;

/// The chain of the accepted addresses.
pub(crate) const CHAIN: &str = "CNI-FORWARD";
/// The chain for packets that pass this host.
const FORWARD: &str = "FORWARD";

/// The addresses of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// An administrator's chain, which packets pass first.
    pub admin: String,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

/// What a call has added.
#[derive(Debug, Default)]
struct Added(Vec<(Tools, OfCall)>);

/// The same of one table.
#[derive(Clone, Debug, Default)]
struct OfCall {
    rules: Vec<String>,
    chains: Vec<String>,
}

impl Accepted {
    /// Adds the rules of both families, or none; existing ones stay where they are.
    ///
    /// # Errors
    /// A program is missing, did not end in time, or refused.
    pub fn add(&self) -> Result<()> {
        let _lock = lock()?;
        let mut added = Added::default();
        for rules in self.families() {
            let of_call = RefCell::new(OfCall::default());
            let changed = change(rules.tools(), |state| {
                let missing = rules.missing(state);
                let lines = missing.lines();
                *of_call.borrow_mut() = missing;
                lines
            });
            // A change without an answer may have been made.
            added.0.push((rules.tools(), of_call.into_inner()));
            if let Err(error) = changed {
                added.take_back();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Lists every difference between these rules and the tables.
    ///
    /// # Errors
    /// A program could not be asked.
    pub fn verify(&self) -> Result<Vec<Drift>> {
        verify_all(&self.families())
    }

    fn families(&self) -> Vec<OfFamily> {
        let of = |family| {
            let of_family = |address: &IpAddr| IpFamily::of(*address) == family;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in self.addresses.iter().filter(|address| of_family(address)) {
                if !addresses.contains(address) {
                    addresses.push(*address);
                }
            }
            (!addresses.is_empty()).then(|| OfFamily { family, admin: self.admin.clone(), addresses })
        };
        IpFamily::BOTH.into_iter().filter_map(of).collect()
    }
}

impl Added {
    /// Takes it back; rules that were there before stay. Errors are dropped: the first one is the one
    /// to return.
    fn take_back(&self) {
        for (tools, of_call) in self.0.iter().rev() {
            let _ = change(*tools, |state| of_call.deletion(state));
        }
    }
}

impl OfCall {
    fn lines(&self) -> String {
        let mut lines = String::new();
        self.chains.iter().for_each(|chain| push(&mut lines, "-N", chain));
        for rule in &self.rules {
            match rule.split_once(' ') {
                Some((chain, rest)) if is_jump(rule) => {
                    push(&mut lines, "-I", &format!("{chain} 1 {rest}"));
                }
                _ => push(&mut lines, "-A", rule),
            }
        }
        lines
    }

    /// Rules of addresses go, and the jumps and chains unless others use them now.
    fn deletion(&self, state: &State) -> String {
        let mut lines = String::new();
        let here = |rule: &&String| state.has_rule(rule);
        let (jumps, own): (Vec<&String>, Vec<&String>) =
            self.rules.iter().filter(here).partition(|rule| is_jump(rule));
        own.iter().for_each(|rule| push(&mut lines, "-D", rule));
        let is_used = state.rules_of(CHAIN).any(|rule| !self.rules.iter().any(|known| known == rule));
        if is_used || !self.chains.iter().any(|chain| chain == CHAIN) {
            return lines;
        }
        jumps.iter().for_each(|rule| push(&mut lines, "-D", rule));
        let is_empty = |chain: &&String| *chain == CHAIN || state.rules_of(chain).next().is_none();
        for chain in self.chains.iter().filter(is_empty).filter(|chain| state.has_chain(chain)) {
            push(&mut lines, "-X", chain);
        }
        lines
    }
}

fn is_jump(rule: &str) -> bool {
    !rule.ends_with(" -j ACCEPT")
}

struct OfFamily {
    family: IpFamily,
    admin: String,
    addresses: Vec<IpAddr>,
}

impl OfFamily {
    fn jumps(&self) -> [String; 2] {
        let Self { admin, .. } = self;
        [
            format!("{FORWARD} -m comment --comment \"CNI firewall plugin rules\" -j {CHAIN}"),
            format!("{CHAIN} -m comment --comment \"CNI firewall plugin admin overrides\" -j {admin}"),
        ]
    }

    fn rules(&self) -> Vec<String> {
        self.jumps().into_iter().chain(self.addresses.iter().flat_map(|address| rules(*address))).collect()
    }

    fn missing(&self, state: &State) -> OfCall {
        let chains = [CHAIN.to_owned(), self.admin.clone()];
        let mut missing = OfCall {
            chains: chains.into_iter().filter(|chain| !state.has_chain(chain)).collect(),
            rules: self.rules(),
        };
        missing.rules.retain(|rule| !state.has_rule(rule));
        missing
    }
}

impl Rules for OfFamily {
    fn family(&self) -> IpFamily {
        self.family
    }

    fn tools(&self) -> Tools {
        Tools { table: FILTER, ..tools(self.family) }
    }

    fn add(&self, state: &State) -> String {
        self.missing(state).lines()
    }

    fn wanted(&self, _: &State) -> (Vec<String>, Vec<Drift>) {
        (self.rules(), Vec::new())
    }

    fn delete(&self, state: &State) -> String {
        delete(state, &self.addresses)
    }
}

/// The rules of an address.
fn rules(address: IpAddr) -> [String; 2] {
    let address = single(address);
    [
        format!("{CHAIN} -d {address} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        format!("{CHAIN} -s {address} -j ACCEPT"),
    ]
}

/// The lines that delete the rules of these addresses.
fn delete(state: &State, addresses: &[IpAddr]) -> String {
    let mut lines = String::new();
    let rules = addresses.iter().flat_map(|address| rules(*address));
    rules.filter(|rule| state.has_rule(rule)).for_each(|rule| push(&mut lines, "-D", &rule));
    lines
}

/// Whether there are legacy tables that may have such rules.
pub(crate) fn accepts_in_old_tables() -> bool {
    !old_tables(FILTER).is_empty()
}

/// Deletes the rules of these addresses from legacy tables (xtables), which netlink does not show.
///
/// # Errors
/// A program could not be run, or refused.
pub(crate) fn accept_no_more_in_old_tables(addresses: &[IpAddr]) -> Result<()> {
    in_old_tables(FILTER, |family, state| {
        let of_family = |address: &IpAddr| IpFamily::of(*address) == family;
        delete(state, &addresses.iter().copied().filter(of_family).collect::<Vec<_>>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_family(addresses: &[&str]) -> OfFamily {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        OfFamily { family: IpFamily::V4, admin: "CNI-ADMIN".into(), addresses }
    }

    /// What iptables-save prints after the reference's ADD.
    const MADE: &str = ":FORWARD ACCEPT [0:0]\n:CNI-ADMIN - [0:0]\n:CNI-FORWARD - [0:0]\n\
        -A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD\n\
        -A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN\n\
        -A CNI-FORWARD -d 10.1.2.3/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A CNI-FORWARD -s 10.1.2.3/32 -j ACCEPT\n";

    #[test]
    fn the_first_add_makes_all_and_the_second_nothing() {
        let lines = of_family(&["10.1.2.3"]).add(&State::read(":FORWARD ACCEPT [0:0]\n"));
        let expected = MADE
            .replace("-A FORWARD", "-I FORWARD 1")
            .replace("-A CNI-FORWARD -m", "-I CNI-FORWARD 1 -m")
            .lines()
            .skip(3)
            .fold("-N CNI-FORWARD\n-N CNI-ADMIN\n".to_owned(), |all, line| all + line + "\n");
        assert_eq!(lines, expected);
        let made = State::read(MADE);
        assert_eq!(of_family(&["10.1.2.3"]).add(&made), "");
        assert_eq!(of_family(&["10.1.2.4"]).add(&made).lines().count(), 2);
        assert_eq!(of_family(&["10.1.2.3"]).delete(&made).matches("-D CNI-FORWARD -").count(), 2);
        assert_eq!(of_family(&["10.1.2.4"]).delete(&made), "");
    }

    #[test]
    fn an_undo_takes_back_what_its_call_made_and_nothing_else() {
        let first = of_family(&["10.1.2.3"]).missing(&State::read(":FORWARD ACCEPT [0:0]\n"));
        let lines = first.deletion(&State::read(MADE));
        assert_eq!(lines.matches("-D ").count(), 4);
        assert!(lines.ends_with("-X CNI-FORWARD\n-X CNI-ADMIN\n"), "{lines}");
        // Another container came meanwhile, or an administrator's rule.
        let used = format!("{MADE}-A CNI-FORWARD -s 10.1.2.4/32 -j ACCEPT\n");
        assert_eq!(first.deletion(&State::read(&used)).matches("-D CNI-FORWARD -").count(), 2);
        let admin = format!("{MADE}-A CNI-ADMIN -j DROP\n");
        assert!(first.deletion(&State::read(&admin)).ends_with("-X CNI-FORWARD\n"));
        // All was there before.
        let second = of_family(&["10.1.2.3"]).missing(&State::read(MADE));
        assert_eq!(second.deletion(&State::read(MADE)), "");
    }
}
