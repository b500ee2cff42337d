//! `status`: the state of this host, by its agent.

use std::fmt::Write as _;

use cluster::control::{Answer, Request, Status};

use super::failure::{FAILED, Failure};
use super::table::{clean, joined};

/// What the agent is asked.
pub(super) fn request() -> Request {
    Request::Status
}

/// What is printed. A fault is a failure, after everything was printed.
pub(super) fn status(answer: &Answer, json: bool) -> Result<String, Failure> {
    let Some(status) = &answer.status else {
        let why = answer.why.as_deref().unwrap_or("it gave no reason");
        return Err(Failure::refused(format!("the agent does not report its state: {}", clean(why))));
    };
    let text = if json {
        let value = serde_json::to_value(status).unwrap_or_default();
        format!("{value:#}\n")
    } else {
        text(answer, status)
    };
    match status.faults.len() {
        0 => Ok(text),
        1 => Err(Failure { output: Some(text), ..fault("one fault") }),
        more => Err(Failure { output: Some(text), ..fault(&format!("{more} faults")) }),
    }
}

fn fault(what: &str) -> Failure {
    Failure {
        exit: FAILED,
        ..Failure::refused(format!("{what}: STATUS of this host's overlay networks fails"))
    }
}

fn text(answer: &Answer, status: &Status) -> String {
    let etcd = match (&status.member, &status.away) {
        (Some(member), _) => member.clone(),
        (None, Some(why)) => format!("away for {} s: {why}", status.away_s),
        (None, None) => format!("away for {} s", status.away_s),
    };
    let mut lines = vec![
        ("host", format!("{} ({})", status.host, status.name)),
        ("agent", format!("{} (process {}, protocol {})", answer.build, answer.pid, answer.protocol)),
        ("cluster", status.cluster.clone()),
        ("etcd", etcd),
        ("underlay", format!("{}, MTU {}, UDP port {}", joined(&status.addresses), status.mtu, status.port)),
        ("hosts", format!("{}, {} of them silent", status.hosts, status.silent)),
        ("networks", format!("{} with attachments here", status.networks)),
        ("attachments", format!("{} here, {} on other hosts", status.local, status.remote)),
        ("queued", format!("{} records that etcd has not", status.queued)),
        ("repaired", format!("{} entries of the kernel that somebody else had changed", status.repaired)),
        ("left out", format!("{} records of etcd", status.left_out)),
    ];
    lines.extend(status.warnings.iter().map(|warning| ("warning", warning.clone())));
    lines.extend(status.faults.iter().map(|fault| ("FAULT", fault.clone())));
    let mut text = String::new();
    for (what, value) in lines {
        let _ = writeln!(text, "{what:<12} {}", clean(&value));
    }
    text
}
