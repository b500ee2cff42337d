//! Where trials run: here, or in a virtual machine if this kernel lacks what the plugin needs.

use std::sync::Mutex;

use anyhow::Result;
use serde_json::{Value, json};

use super::target::Target;
use super::trial::{Fault, Outcome};
use super::{Options, Row, trials};
use crate::need::Need;
use crate::runner::Grounds;
use crate::strace::point::{Extent, Point};
use crate::vm::VmArgs;
use crate::vm::lane::{Lane, harness};

/// The results of all targets.
#[derive(Default)]
pub struct Findings {
    /// The trials, in the order of the targets.
    pub rows: Vec<Row>,
    /// Targets that were not run, with reasons.
    pub not_run: Vec<(Target, String)>,
    /// Targets that only an explicit request for the virtual machine runs.
    pub left_out: Vec<Target>,
    /// Targets on a host of a cluster of which only messages were hit.
    pub on_hosts: Vec<Target>,
    /// Targets that ran in the virtual machine, and the extent of their trials.
    pub in_vm: Option<(Vec<Target>, Extent)>,
    /// Why the virtual machine's results are incomplete.
    pub trouble: Option<String>,
}

/// Runs the trials of these targets, each in its lane. Emulation takes ten times as long, so
/// without a request only representative targets go to the virtual machine, and only their messages
/// are hit; [`Lane::Vm`] runs all targets and points there.
pub fn run(grounds: &Grounds, targets: &[Target], options: &Options) -> Result<Findings> {
    let mut findings = Findings::default();
    let needs = |target: &Target, need: &Need| target.needs().contains(need);
    let lacking = match options.lane {
        Lane::Vm => vec![],
        Lane::Auto | Lane::Native => {
            let wanted =
                Need::ALL.into_iter().filter(|need| targets.iter().any(|target| needs(target, need)));
            grounds.lacking(&wanted.collect::<Vec<_>>())
        }
    };
    let missing = |target: &Target| lacking.iter().find(|(need, _)| needs(target, need));
    let (there, here): (Vec<Target>, Vec<Target>) =
        targets.iter().partition(|target| options.lane == Lane::Vm || missing(target).is_some());
    // A host and its etcd for each trial take several times as long, too.
    let (on_hosts, here): (Vec<Target>, Vec<Target>) =
        here.into_iter().partition(|target| target.is_on_a_host() && options.filter.is_empty());
    findings.rows = trials(grounds, &here, Extent::All, |_| {})?;
    findings.rows.extend(trials(grounds, &on_hosts, Extent::Messages, |_| {})?);
    findings.on_hosts = on_hosts;
    if there.is_empty() {
        return Ok(findings);
    }
    let why = |target: &Target| missing(target).map_or("", |(_, why)| why).to_owned();
    if options.lane == Lane::Native {
        findings.not_run = there.iter().map(|target| (*target, why(target))).collect();
        return Ok(findings);
    }
    let extent = if options.lane == Lane::Vm { Extent::All } else { Extent::Messages };
    let (there, left_out): (Vec<Target>, Vec<Target>) =
        there.iter().partition(|target| options.lane == Lane::Vm || target.is_representative());
    findings.left_out = left_out;
    if there.is_empty() {
        return Ok(findings);
    }
    match options.vm.machine() {
        Err(missing) if options.lane == Lane::Vm => return Err(missing),
        Err(missing) => {
            let not_run = |target: &Target| (*target, format!("{}; {missing:#}", why(target)));
            findings.not_run = there.iter().map(not_run).collect();
        }
        Ok(_) => in_machine(grounds, options.vm, &there, extent, &mut findings)?,
    }
    let place = |row: &Row| targets.iter().position(|target| *target == row.target);
    findings.rows.sort_by_key(place);
    Ok(findings)
}

fn in_machine(
    grounds: &Grounds,
    vm: &VmArgs,
    there: &[Target],
    extent: Extent,
    findings: &mut Findings,
) -> Result<()> {
    let work = if extent == Extent::All { "faults" } else { "messages" };
    let names: Vec<String> = there.iter().map(|target| target.name()).collect();
    let mut stray = String::new();
    let ended = vm.machine()?.run(&harness(grounds, work, &names), |line| match read(line) {
        Some(row) => findings.rows.push(row),
        None => stray += &format!("\n    {line}"),
    });
    findings.trouble = match ended {
        Ok(ended) if ended.status == 0 => {
            eprintln!("conformance: {}", ended.summary());
            None
        }
        Ok(ended) => {
            Some(format!("the harness in the virtual machine failed (exit status {})", ended.status))
        }
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(trouble) = findings.trouble.as_mut().filter(|_| !stray.is_empty()) {
        *trouble += &format!("\n  stray output:{stray}");
    }
    findings.in_vm = Some((there.to_vec(), extent));
    Ok(())
}

/// In the machine: runs the trials of these targets and prints each as a line of its own, see
/// [`read`].
pub fn guest(grounds: &Grounds, names: &[String], extent: Extent) -> Result<bool> {
    let targets = names.iter().map(|name| Target::named(name)).collect::<Result<Vec<_>>>()?;
    let line = Mutex::new(());
    trials(grounds, &targets, extent, |row| {
        let _one_at_a_time = line.lock();
        println!("{}", to_line(row));
    })?;
    Ok(true)
}

fn to_line(row: &Row) -> Value {
    let (outcome, report) = match &row.outcome {
        Ok(outcome) => (Some(outcome.name()), None),
        Err(report) => (None, Some(report)),
    };
    json!({
        "target": row.target.name(), "fault": format!("{:?}", row.fault), "syscall": row.point.syscall,
        "nth": row.point.nth, "outcome": outcome, "report": report,
    })
}

/// Parses a trial's line; `None` for other output, which is reported as stray.
fn read(line: &str) -> Option<Row> {
    let line: Value = serde_json::from_str(line).ok()?;
    let outcome = match (line["outcome"].as_str(), line["report"].as_str()) {
        (Some(outcome), None) => Ok(Outcome::named(outcome)?),
        (None, Some(report)) => Err(report.to_owned()),
        _ => return None,
    };
    let point =
        Point { syscall: line["syscall"].as_str()?.to_owned(), nth: line["nth"].as_u64()?.try_into().ok()? };
    let target = Target::named(line["target"].as_str()?).ok()?;
    Some(Row { target, fault: Fault::named(line["fault"].as_str()?)?, point, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_read_from_its_own_line() {
        for outcome in [Ok(Outcome::Tolerated), Err("left behind: eth0\n".to_owned())] {
            let target = Target::named("ipvlan/ADD/host-access").unwrap();
            let point = Point { syscall: "sendto".into(), nth: 7 };
            let row = Row { target, fault: Fault::Kill, point, outcome: outcome.clone() };
            let back = read(&to_line(&row).to_string()).unwrap();
            assert_eq!((back.target, back.fault, back.outcome), (target, Fault::Kill, outcome));
            assert_eq!((back.point.syscall.as_str(), back.point.nth), ("sendto", 7));
        }
        assert!(read("thread 'main' panicked").is_none());
    }
}
