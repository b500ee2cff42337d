//! iptables rules, for configurations that request them: the same chains and rules as the
//! reference's, so that either suite can continue the other's work.
//!
//! Each operation costs two child processes per family, whatever the number of rules:
//! `iptables-save -t nat` lists the state (the whole table, so it grows with everybody's rules),
//! and one `iptables-restore --noflush` makes all changes or none. Between the two a lock excludes
//! our other processes; if another program has changed the same chains meanwhile, the second one
//! fails as a whole, and both are repeated.
//!
//! Rules to delete are looked up over netlink (see [`crate::rules`]), since iptables usually uses
//! nf_tables; the programs run for that only on a host with legacy tables.

mod accepted;
mod masquerade;
mod names;
mod permit;
mod ports;
mod state;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use sys::{Error, IpFamily, Result, file, program};

use crate::Drift;

pub use accepted::Accepted;
pub(crate) use accepted::{CHAIN as ACCEPTED_CHAIN, accept_no_more_in_old_tables, accepts_in_old_tables};
pub use masquerade::MasqueradeChain;
pub(crate) use names::{SUMMARY, hash};
pub use names::{masquerade_chain, masquerade_comment, old_ports_chain, ports_chain};
pub(crate) use permit::{FORWARD, INPUT, let_in, let_in_no_more};
pub use ports::{Mark, Ports};
use state::State;

/// Seconds that the program waits for the tables' lock.
const WAIT: &str = "10";
/// The time limit of the program itself.
const TIME: Duration = Duration::from_secs(20);
/// The most attempts at a change that other programs disturb.
const ATTEMPTS: usize = 5;
/// The most missing rules that CHECK looks up one by one.
const MISSING_MAX: usize = 8;
/// Larger than any list of table names, in bytes.
const NAMES_MAX: usize = 4096;
/// Held from reading to changing. It is created when first needed, and nothing is written to it.
const LOCK: &str = "/run/moor/iptables.lock";

/// The programs for the tables of one family and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tools {
    table: &'static str,
    save: &'static str,
    restore: &'static str,
    /// The list of the legacy tables.
    names: &'static str,
}

const NAT: &str = "nat";
const FILTER: &str = "filter";
const V4: Tools = Tools {
    table: NAT,
    save: "iptables-save",
    restore: "iptables-restore",
    names: "/proc/net/ip_tables_names",
};
const V6: Tools = Tools {
    table: NAT,
    save: "ip6tables-save",
    restore: "ip6tables-restore",
    names: "/proc/net/ip6_tables_names",
};
const OLD_V4: Tools = Tools { save: "iptables-legacy-save", restore: "iptables-legacy-restore", ..V4 };
const OLD_V6: Tools = Tools { save: "ip6tables-legacy-save", restore: "ip6tables-legacy-restore", ..V6 };

fn tools(family: IpFamily) -> Tools {
    family.choose(V4, V6)
}

/// Rules of one family that can be added, compared and deleted.
trait Rules {
    /// Their family.
    fn family(&self) -> IpFamily;
    /// The programs for their table.
    fn tools(&self) -> Tools {
        tools(self.family())
    }
    /// The lines that add them to a table in that state.
    fn add(&self, state: &State) -> String;
    /// Every required rule, without `-A`, and the surplus ones as drift.
    fn wanted(&self, state: &State) -> (Vec<String>, Vec<Drift>);
    /// The lines that delete them.
    fn delete(&self, state: &State) -> String;
}

/// Adds the rules of all families, or none.
///
/// # Errors
/// A program is missing, did not end in time, or refused.
fn add_all<R: Rules>(all: &[R]) -> Result<()> {
    let _lock = lock()?;
    for (made, rules) in all.iter().enumerate() {
        let added = change(rules.tools(), |state| rules.add(state));
        if added.is_err() {
            // A change without an answer may have been made. The first error is the one to return.
            for rules in all.iter().take(made + 1) {
                let _ = change(rules.tools(), |state| rules.delete(state));
            }
            return added;
        }
    }
    Ok(())
}

/// Deletes the rules of all families.
///
/// # Errors
/// The first error of a program; the others run nevertheless.
fn delete_all<R: Rules>(all: &[R]) -> Result<()> {
    let _lock = lock()?;
    let mut done = Ok(());
    for rules in all {
        done = done.and(change(rules.tools(), |state| rules.delete(state)));
    }
    done
}

/// Lists every difference between the rules of all families and the tables.
///
/// # Errors
/// A program could not be asked.
fn verify_all<R: Rules>(all: &[R]) -> Result<Vec<Drift>> {
    let mut drifts = Vec::new();
    for rules in all {
        let tools = rules.tools();
        let state = look(tools)?;
        let (wanted, mut extra) = rules.wanted(&state);
        drifts.append(&mut extra);
        // A rule that is not listed literally may be listed in another notation: the program itself
        // compares.
        let there = state.rules();
        let mut unknown: Vec<&String> = wanted.iter().filter(|rule| !there.contains(rule.as_str())).collect();
        for _ in 0..MISSING_MAX {
            let Some(at) = first_missing(tools, &unknown)? else { break };
            let missing = unknown.remove(at);
            drifts.push(Drift::new(format!("{} rule {missing}", family(tools)), "present", "absent"));
        }
    }
    Ok(drifts)
}

/// The index of the first of these rules that is not in the table.
fn first_missing(tools: Tools, rules: &[&String]) -> Result<Option<usize>> {
    if rules.is_empty() {
        return Ok(None);
    }
    let checks = rules.iter().fold(String::new(), |lines, rule| lines + "-C " + rule + "\n");
    let done = program::run(tools.restore, &["--noflush", "-w", WAIT], &table(tools, &checks), TIME)?;
    if done.status.success() {
        return Ok(None);
    }
    // `iptables-restore: line 3 failed`; the first one is `*nat`.
    let line = done.stderr.split("line").nth(1).and_then(|rest| {
        let digits = rest.trim_start_matches([' ', ':']);
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    });
    match line.and_then(|line| line.checked_sub(2)).filter(|at| *at < rules.len()) {
        Some(at) => Ok(Some(at)),
        None => Err(refused(tools.restore, &done.stderr)),
    }
}

/// Whether the programs of at least one family are installed. Those of a family without rules are
/// not needed; with rules, their absence is that change's error.
///
/// # Errors
/// Names the first missing program of IPv4.
pub fn is_installed() -> Result<()> {
    let missing =
        |tools: Tools| [tools.save, tools.restore].into_iter().find(|name| program::find(name).is_none());
    match (missing(V4), missing(V6)) {
        (Some(name), Some(_)) => {
            Err(Error::new("find program", name, io::Error::from(io::ErrorKind::NotFound)))
        }
        _ => Ok(()),
    }
}

/// Deletes the chains of published ports from legacy tables (xtables), which netlink does not show.
/// Most hosts have none, as one read of /proc shows.
///
/// # Errors
/// A program could not be run, or refused; or it is unknown whether a chain is in use.
pub fn withdraw_from_old_tables(chains: &[String], is_in_use: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    if chains.is_empty() {
        return Ok(());
    }
    let tables = old_tables(NAT);
    if tables.is_empty() {
        return Ok(());
    }
    let mut unused = BTreeSet::new();
    for chain in chains {
        if !is_in_use(chain)? {
            unused.insert(chain);
        }
    }
    in_tables(&tables, |_, state| unused.iter().map(|chain| ports::delete(state, chain)).collect())
}

/// As [`withdraw_from_old_tables`], for the chains of masqueraded containers, with the addresses
/// that lead to them: known addresses distinguish a container's interfaces.
///
/// # Errors
/// A program could not be run, or refused.
pub fn unmasquerade_in_old_tables(chains: &[(String, Vec<IpAddr>)]) -> Result<()> {
    let lines =
        |state: &State| chains.iter().map(|(chain, of)| masquerade::delete(state, chain, of)).collect();
    in_old_tables(NAT, |_, state| lines(state))
}

/// Whether this host has a legacy table `filter`: one read of /proc for each family.
pub(crate) fn has_old_filter() -> bool {
    !old_tables(FILTER).is_empty()
}

/// `lines` gets the family of the table.
fn in_old_tables(table: &'static str, lines: impl Fn(IpFamily, &State) -> String) -> Result<()> {
    in_tables(&old_tables(table), lines)
}

/// The programs for the legacy tables of that name, each with its family.
fn old_tables(table: &'static str) -> Vec<(IpFamily, Tools)> {
    let mut tables = Vec::new();
    for (family, old, new) in [(IpFamily::V4, OLD_V4, V4), (IpFamily::V6, OLD_V6, V6)] {
        let names = file::read(Path::new(old.names), NAMES_MAX).ok().flatten().unwrap_or_default();
        if names.split(|byte| *byte == b'\n').any(|name| name == table.as_bytes()) {
            // Hosts with only legacy tables have the programs under the plain names.
            let tools = if program::find(old.save).is_some() { old } else { new };
            tables.push((family, Tools { table, ..tools }));
        }
    }
    tables
}

fn in_tables(tables: &[(IpFamily, Tools)], lines: impl Fn(IpFamily, &State) -> String) -> Result<()> {
    let mut done = Ok(());
    for &(family, tools) in tables {
        let changed = lock().and_then(|_lock| change(tools, |state| lines(family, state)));
        done = done.and(changed);
    }
    done
}

/// Changes the table by the lines that `decide` makes from its state; without lines nothing is
/// done.
fn change(tools: Tools, decide: impl Fn(&State) -> String) -> Result<()> {
    let mut before = String::new();
    for _ in 0..ATTEMPTS {
        let lines = decide(&look(tools)?);
        if lines.is_empty() {
            return Ok(());
        }
        let done = program::run(tools.restore, &["--noflush", "-w", WAIT], &table(tools, &lines), TIME)?;
        if done.status.success() {
            return Ok(());
        }
        // Refused because of the lines, and not because of another program's change.
        if lines == before {
            return Err(refused(tools.restore, &done.stderr));
        }
        before = lines;
    }
    Err(refused(tools.restore, "others change the same chains again and again"))
}

fn look(tools: Tools) -> Result<State> {
    let done = program::run(tools.save, &["-t", tools.table], "", TIME)?;
    match done.status.success() {
        true => Ok(State::read(&done.stdout)),
        false => Err(refused(tools.save, &done.stderr)),
    }
}

fn table(tools: Tools, lines: &str) -> String {
    format!("*{}\n{lines}COMMIT\n", tools.table)
}

/// The program's own message, without its advice.
fn refused(program: &str, stderr: &str) -> Error {
    let words = stderr.lines().filter(|line| !line.starts_with('#') && !line.starts_with("Try `"));
    let words: Vec<&str> = words.map(str::trim).filter(|line| !line.is_empty()).collect();
    Error::Kernel {
        op: "change rules by",
        object: program.into(),
        message: None,
        source: io::Error::other(words.join("; ")),
    }
}

fn family(tools: Tools) -> &'static str {
    if tools.save == V4.save { "iptables" } else { "ip6tables" }
}

/// While it is held, no other process of ours is between reading and changing; each of them has a
/// time limit. Without a writable /run there is no lock, and the slower process repeats its change.
fn lock() -> Result<Option<File>> {
    let locked =
        file::make_private_dir(Path::new(file::RUN_DIR), 1).and_then(|()| file::lock(Path::new(LOCK), 0o600));
    match locked {
        Err(error) if error.errno() == Some(libc::EAGAIN) => Err(error),
        locked => Ok(locked.ok()),
    }
}

/// Appends a line: a command, and its object.
fn push(lines: &mut String, command: &str, rest: &str) {
    let space = if command == ":" { "" } else { " " };
    // Writing to a string does not fail.
    let _ = writeln!(lines, "{command}{space}{rest}");
}

/// Quotes a word for the programs, if necessary.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:,/!=@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text + "\""
}

/// An address in a rule, with the full prefix length.
pub(crate) fn single(address: IpAddr) -> String {
    format!("{address}/{}", IpFamily::of(address).bits())
}
