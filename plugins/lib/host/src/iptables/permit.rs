//! Permits in legacy tables (xtables): see [`crate::rules::permit`], which does the same in those of
//! nf_tables.

use sys::{IpFamily, Result};

use super::state::State;
use super::{FILTER, in_old_tables, push};
use crate::chain_end::{Earlier, Step, end};

/// The chain for packets to this host.
pub(crate) const INPUT: &str = "INPUT";
/// The chain for packets through this host.
pub(crate) const FORWARD: &str = "FORWARD";

/// Puts the `wanted` rules of each family, without `-A`, at the head of the chain, if it refuses
/// unknown packets. Their comment is the label, and no other rules have it.
///
/// # Errors
/// A program could not be run, or refused.
pub(crate) fn let_in(
    chain: &str,
    wanted: &dyn Fn(IpFamily) -> Vec<String>,
    label: &str,
    earlier: Earlier,
) -> Result<()> {
    in_old_tables(FILTER, |family, state| match is_closed(state, chain) {
        true => lines(state, chain, &wanted(family), label, earlier),
        false => String::new(),
    })
}

/// Deletes all rules of the chain with that label.
///
/// # Errors
/// A program could not be run, or refused.
pub(crate) fn let_in_no_more(chain: &str, label: &str) -> Result<()> {
    in_old_tables(FILTER, |_, state| lines(state, chain, &[], label, Earlier::Replace))
}

fn lines(state: &State, chain: &str, wanted: &[String], label: &str, earlier: Earlier) -> String {
    let mark = format!(" --comment \"{label}\" ");
    let ours: Vec<&str> = state.rules_of(chain).filter(|rule| rule.contains(&mark)).collect();
    let is_there = |rule: &&String| ours.contains(&rule.as_str());
    let mut lines = String::new();
    if earlier == Earlier::Keep {
        wanted.iter().rev().filter(|rule| !is_there(rule)).for_each(|rule| push(&mut lines, "-I", rule));
        return lines;
    }
    if ours.len() == wanted.len() && wanted.iter().all(|rule| is_there(&rule)) {
        return lines;
    }
    for rule in ours {
        push(&mut lines, "-D", rule);
    }
    for rule in wanted.iter().rev() {
        push(&mut lines, "-I", rule);
    }
    lines
}

fn is_closed(state: &State, chain: &str) -> bool {
    let steps = |chain: &str| Ok(state.rules_of(chain).filter_map(step).collect());
    let end = end(chain, &steps).ok().flatten();
    end.unwrap_or(state.policy(chain) == Some("DROP"))
}

/// The effect of a rule without a condition.
fn step(rule: &str) -> Option<Step> {
    let (_chain, rest) = rule.split_once(' ')?;
    let (how, target) = rest.split_once(' ')?;
    match (how, target.split(' ').next()?) {
        ("-j", "ACCEPT") => Some(Step::Accept),
        ("-j", "DROP" | "REJECT") => Some(Step::Refuse),
        ("-j", "RETURN") => Some(Step::Return),
        // Other targets are chains, or continue: then no chain has that name, and the step has no
        // effect.
        ("-j", other) => Some(Step::Jump(other.to_owned())),
        ("-g", chain) => Some(Step::Goto(chain.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(names: &[&str]) -> Vec<String> {
        names
            .iter()
            .map(|link| {
                format!("INPUT -i {link} -p udp -m udp --dport 53 -m comment --comment \"moor/n\" -j ACCEPT")
            })
            .collect()
    }

    #[test]
    fn a_table_is_closed_by_its_policy_or_by_what_refuses_everything() {
        for (closed, text) in [
            (false, ":INPUT ACCEPT [0:0]\n"),
            (true, ":INPUT DROP [7:420]\n"),
            (false, ":INPUT DROP [0:0]\n-A INPUT -i lo -j DROP\n-A INPUT -j ACCEPT\n"),
            (true, ":INPUT ACCEPT [0:0]\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\n"),
            (false, ":INPUT ACCEPT [0:0]\n-A INPUT -j LOG --log-prefix x\n-A INPUT -s 10.0.0.1/32 -j DROP\n"),
            (true, ":INPUT ACCEPT [0:0]\n:X - [0:0]\n-A INPUT -j X\n-A X -p tcp -j ACCEPT\n-A X -j DROP\n"),
        ] {
            assert_eq!(is_closed(&State::read(text), INPUT), closed, "{text}");
        }
    }

    #[test]
    fn only_what_is_missing_is_made_and_all_of_the_label_goes() {
        let wanted = rules(&["br0"]);
        let fresh = State::read(":INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n");
        let lines = |state: &State, wanted: &[String], label: &str| {
            lines(state, INPUT, wanted, label, Earlier::Replace)
        };
        assert_eq!(lines(&fresh, &wanted, "moor/n"), format!("-I {}\n", wanted[0]));
        let there = State::read(&format!(":INPUT DROP [0:0]\n-A {}\n", wanted[0]));
        assert_eq!(lines(&there, &wanted, "moor/n"), "");
        assert_eq!(lines(&there, &[], "moor/n"), format!("-D {}\n", wanted[0]));
        assert_eq!(lines(&there, &[], "moor/other"), "");
        let more = rules(&["br0", "br1"]);
        assert_eq!(
            lines(&there, &more, "moor/n"),
            format!("-D {}\n-I {}\n-I {}\n", wanted[0], more[1], more[0])
        );
    }

    /// FW-R3: a network may have several links.
    #[test]
    fn rules_of_the_label_that_are_not_wanted_may_stay() {
        let [one, two] = [rules(&["br0"]), rules(&["br1"])];
        let there = State::read(&format!(":INPUT DROP [0:0]\n-A {}\n", one[0]));
        let add = |wanted: &[String]| lines(&there, INPUT, wanted, "moor/n", Earlier::Keep);
        assert_eq!((add(&one), add(&two)), (String::new(), format!("-I {}\n", two[0])));
    }
}
