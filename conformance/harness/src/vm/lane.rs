//! Selects the cases for the virtual machine and collects their outcomes: one machine per run.

use std::ffi::OsString;
use std::sync::Mutex;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use super::VmArgs;
use crate::case::{Case, Outcome, Verdict};
use crate::need::Need;
use crate::report;
use crate::runner::{self, Grounds};

/// The factor on a room's time limit under emulation.
const PATIENCE: u32 = 2;

/// Where cases run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lane {
    /// Here; in a virtual machine, if available, what this kernel lacks.
    Auto,
    /// Here.
    Native,
    /// In a virtual machine, all of them.
    Vm,
}

/// Runs the cases, each in its lane. Outcomes are in the order of the cases; `each` is called as
/// they come. With [`Lane::Vm`] a missing machine is an error.
pub fn run(
    grounds: &Grounds,
    cases: &[Case],
    lane: Lane,
    vm: &VmArgs,
    each: impl Fn(&Outcome) + Sync,
) -> Result<Vec<Outcome>> {
    if lane == Lane::Vm {
        vm.machine()?;
    }
    let lacking = match lane {
        Lane::Native | Lane::Vm => vec![],
        Lane::Auto => {
            let of_kernel: Vec<Need> = Need::ALL.into_iter().filter(|need| need.of_kernel()).collect();
            let wanted =
                of_kernel.into_iter().filter(|need| cases.iter().any(|case| case.needs.contains(need)));
            grounds.lacking(&wanted.collect::<Vec<_>>())
        }
    };
    let goes_there =
        |case: &&Case| lane == Lane::Vm || lacking.iter().any(|(need, _)| case.needs.contains(need));
    let (there, here): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(goes_there);
    let here: Vec<Case> = here.into_iter().copied().collect();
    // Cases mostly wait, so both lanes together take little longer than the longer one.
    let (mut outcomes, in_machine) = std::thread::scope(|scope| {
        let machine =
            (!there.is_empty()).then(|| scope.spawn(|| in_machine(grounds, &there, &lacking, vm, &each)));
        (runner::run_cases(grounds, &here, &each), machine.map(ScopedJoinHandle::join))
    });
    match in_machine {
        Some(Ok(of_machine)) => outcomes.extend(of_machine),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => {}
    }
    let place = |outcome: &Outcome| cases.iter().position(|case| case.name == outcome.name);
    outcomes.sort_by_key(place);
    Ok(outcomes)
}

fn in_machine(
    grounds: &Grounds,
    there: &[&Case],
    lacking: &[(Need, String)],
    vm: &VmArgs,
    each: &(impl Fn(&Outcome) + Sync),
) -> Vec<Outcome> {
    let outcome = |case: &Case, verdict, took| {
        let in_vm = !matches!(verdict, Verdict::NotRun(_));
        let outcome = Outcome { name: case.name.to_owned(), clauses: case.clauses, verdict, took, in_vm };
        each(&outcome);
        outcome
    };
    let machine = match vm.machine() {
        Ok(machine) => machine,
        Err(missing) => {
            let why = |case: &Case| {
                let need = lacking.iter().find(|(need, _)| case.needs.contains(need));
                need.map(|(need, why)| format!("{}: {why}; ", need.name())).unwrap_or_default()
            };
            let not_run = |case: &&Case| {
                outcome(case, Verdict::NotRun(format!("{}{missing:#}", why(case))), Duration::ZERO)
            };
            return there.iter().map(not_run).collect();
        }
    };
    let began = Instant::now();
    let mut outcomes: Vec<Outcome> = vec![];
    let mut stray = String::new();
    let names: Vec<String> = there.iter().map(|case| case.name.to_owned()).collect();
    let ended = machine.run(&harness(grounds, "cases", &names), |line| match read(line, there) {
        Some((case, verdict, took)) => outcomes.push(outcome(case, verdict, took)),
        None => stray += &format!("\n    {line}"),
    });
    let mut trouble = match &ended {
        Ok(ended) => {
            eprintln!("conformance: {}", ended.summary());
            format!(
                "the harness in the virtual machine reported no outcome of this case (exit status {})",
                ended.status
            )
        }
        Err(error) => format!("{error:#}"),
    };
    if !stray.is_empty() {
        trouble += &format!("\n  stray output:{stray}");
    }
    for case in there {
        if !outcomes.iter().any(|outcome| outcome.name == case.name) {
            outcomes.push(outcome(case, Verdict::Failed(trouble.clone()), began.elapsed()));
            trouble = "the virtual machine had ended, see above".into();
        }
    }
    outcomes
}

/// The command in the machine: this harness, for that work on these names (see `__guest` in
/// main.rs).
pub fn harness(grounds: &Grounds, work: &str, names: &[String]) -> Vec<OsString> {
    let seconds = (grounds.timeout * PATIENCE).as_secs().to_string();
    let mut words: Vec<OsString> = vec![grounds.exe.clone().into(), "__guest".into()];
    for (option, value) in [
        ("--cni-path", grounds.suite.as_os_str()),
        ("--reference", grounds.reference.as_os_str()),
        ("--net-d", grounds.net_d.as_os_str()),
        ("--timeout", seconds.as_ref()),
    ] {
        words.extend([option.into(), value.to_owned()]);
    }
    if let Some(world) = grounds.world {
        words.extend(["--world".into(), world.name().into()]);
    }
    words.push(work.into());
    words.extend(names.iter().map(Into::into));
    words
}

/// In the machine: runs the cases with these names and prints each outcome as a line of its own,
/// see [`read`].
pub fn guest(grounds: &Grounds, all: Vec<Case>, names: &[String]) -> Result<bool> {
    let cases: Vec<_> = all.into_iter().filter(|case| names.iter().any(|name| name == case.name)).collect();
    if cases.len() != names.len() {
        bail!("of {} cases that were asked for, {} are known", names.len(), cases.len());
    }
    let line = Mutex::new(());
    let outcomes = runner::run_cases(grounds, &cases, |outcome| {
        let _one_at_a_time = line.lock();
        println!("{}", report::case(outcome));
    });
    Ok(!outcomes.iter().any(|outcome| outcome.verdict.is_failure()))
}

/// Parses an outcome's line; `None` for other output, which is reported as stray.
fn read<'c>(line: &str, there: &[&'c Case]) -> Option<(&'c Case, Verdict, Duration)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let case = there.iter().find(|case| line["name"] == case.name)?;
    let report = line["report"].as_str()?.to_owned();
    let verdict = match line["outcome"].as_str()? {
        "passed" => Verdict::Passed,
        "failed" => Verdict::Failed(report),
        "not run" => Verdict::NotRun(format!("in the virtual machine too: {report}")),
        _ => return None,
    };
    Some((case, verdict, Duration::try_from_secs_f64(line["seconds"].as_f64()?).ok()?))
}
