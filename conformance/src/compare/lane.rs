//! Where requests run: here, or in a virtual machine for features that this kernel lacks.

use std::sync::Mutex;

use anyhow::Result;
use harness::config::VERSIONS;
use harness::need::Need;
use harness::runner::Grounds;
use harness::stage::conflists;
use harness::vm::VmArgs;
use harness::vm::lane::{Lane, harness};
use runtime::Conflist;

use super::{Compared, Options, Request, Row, compared};

/// How many versions, the newest ones, run in the virtual machine by default: under emulation one
/// takes ten times as long, and the result hardly depends on the version.
const NEWEST: usize = 2;

/// The results of all conflists.
#[derive(Default)]
pub struct Findings {
    /// The requests, in the order of the conflists and versions.
    pub rows: Vec<Row>,
    /// The conflists that were not compared, and why.
    pub not_run: Vec<(String, String)>,
    /// The conflists with older versions that run in the virtual machine only on request.
    pub newest_only: Vec<String>,
}

/// Compares these conflists, each in its lane: in every version, except for those limited in the
/// virtual machine. With [`Lane::Vm`] a missing machine is an error.
pub fn run(grounds: &Grounds, lists: &[(String, Conflist)], options: &Options) -> Result<Findings> {
    let lacking = match options.lane {
        Lane::Vm => vec![],
        Lane::Auto | Lane::Native => {
            let wanted = |need: &Need| lists.iter().any(|(_, list)| conflists::needs(list).contains(need));
            grounds.lacking(&Need::ALL.into_iter().filter(wanted).collect::<Vec<_>>())
        }
    };
    let missing = |list: &Conflist| {
        let needs = conflists::needs(list);
        lacking
            .iter()
            .find(|(need, _)| needs.contains(need))
            .map(|(need, why)| format!("{}: {why}", need.name()))
    };
    let (there, here): (Vec<_>, Vec<_>) =
        lists.iter().partition(|(_, list)| options.lane == Lane::Vm || missing(list).is_some());
    let asked = requests(&here, &VERSIONS);
    let row = |request: &Request| Row { request: request.clone(), compared: compared(grounds, request) };
    let mut findings = Findings { rows: grounds.parallel(&asked, row), ..Findings::default() };
    if there.is_empty() {
        return Ok(findings);
    }
    let why = |list: &Conflist| missing(list).unwrap_or_default();
    match options.vm.machine() {
        _ if options.lane == Lane::Native => {
            findings.not_run = there.iter().map(|(file, list)| (file.clone(), why(list))).collect();
        }
        Err(missing) if options.lane == Lane::Vm => return Err(missing),
        Err(missing) => {
            let not_run =
                |(file, list): &&(String, Conflist)| (file.clone(), format!("{}; {missing:#}", why(list)));
            findings.not_run = there.iter().map(not_run).collect();
        }
        Ok(_) if options.lane == Lane::Vm => {
            findings.rows.extend(in_machine(grounds, options.vm, &requests(&there, &VERSIONS))?);
        }
        Ok(_) => {
            let newest = &VERSIONS[VERSIONS.len().saturating_sub(NEWEST)..];
            findings.rows.extend(in_machine(grounds, options.vm, &requests(&there, newest))?);
            findings.newest_only = there.iter().map(|(file, _)| file.clone()).collect();
        }
    }
    findings.rows.sort_by_key(|row| lists.iter().position(|(file, _)| *file == row.request.file));
    Ok(findings)
}

fn requests(lists: &[&(String, Conflist)], versions: &[&str]) -> Vec<Request> {
    let request =
        |file: &str, version: &&str| Request { file: file.to_owned(), version: (*version).to_owned() };
    lists.iter().flat_map(|(file, _)| versions.iter().map(move |version| request(file, version))).collect()
}

fn in_machine(grounds: &Grounds, vm: &VmArgs, asked: &[Request]) -> Result<Vec<Row>> {
    let names: Vec<String> = asked.iter().map(Request::name).collect();
    let mut rows: Vec<Row> = vec![];
    let mut stray = String::new();
    let ended =
        vm.machine()?.run(&harness(grounds, "diff", &names), |line| match serde_json::from_str(line) {
            Ok(row) => rows.push(row),
            Err(_) => stray += &format!("\n    {line}"),
        });
    let mut trouble = match ended {
        Ok(ended) => {
            eprintln!("conformance: {}", ended.summary());
            format!(
                "the harness in the virtual machine reported nothing about it (exit status {})",
                ended.status
            )
        }
        Err(error) => format!("{error:#}"),
    };
    if !stray.is_empty() {
        trouble += &format!(
            "
  it printed:{stray}"
        );
    }
    let row = |request: &Request| match rows.iter().find(|row| row.request == *request) {
        Some(row) => row.clone(),
        None => Row { request: request.clone(), compared: Compared::Trouble(trouble.clone()) },
    };
    Ok(asked.iter().map(row).collect())
}

/// In the machine: compares these requests and prints the result of each on a line of its own.
pub fn guest(grounds: &Grounds, names: &[String]) -> Result<bool> {
    let asked = names.iter().map(|name| Request::read(name)).collect::<Result<Vec<_>>>()?;
    let line = Mutex::new(());
    let printed = grounds.parallel(&asked, |request| -> Result<()> {
        let row = Row { request: request.clone(), compared: compared(grounds, request) };
        let text = serde_json::to_string(&row)?;
        let _one_at_a_time = line.lock();
        println!("{text}");
        Ok(())
    });
    printed.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(true)
}
