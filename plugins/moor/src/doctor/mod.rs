//! `moor doctor`: what keeps containers of this host from working, or will. A judgement is a
//! function of data that was read before; reading changes nothing and loads no module.

mod addresses;
mod bridge;
mod conntrack;
mod dns;
mod facts;
mod files;
mod filter;
mod finding;
mod forwarding;
mod ipv6;
mod kernel;
mod mtu;
mod overlay;
mod plugins;
mod ranges;
mod read;
mod rp_filter;
#[cfg(test)]
mod tests;

use clap::Args;

use crate::context::{Context, require_root};
use crate::failure::{Exit, Failure};
use crate::networks::Networks;
use crate::output::{document, escaped, print};

use facts::Facts;
pub use filter::maker;
use finding::{Finding, Status};
pub use read::responder;

/// What is looked at.
#[derive(Args)]
pub struct DoctorArgs {
    /// Also run VERSION of every plugin, and STATUS of every network
    #[arg(long)]
    plugins: bool,
}

type Judge = fn(&Facts) -> Vec<Finding>;

const JUDGES: [Judge; 14] = [
    kernel::judge,
    forwarding::judge,
    filter::judge,
    bridge::judge,
    rp_filter::judge,
    conntrack::judge,
    mtu::judge,
    ipv6::judge,
    addresses::judge,
    files::judge,
    plugins::judge,
    ranges::judge,
    dns::judge,
    overlay::judge,
];

/// Runs the command.
pub fn run(context: &Context, args: &DoctorArgs) -> Result<Exit, Failure> {
    require_root("packet rules and sockets of the host are visible to root only")?;
    let facts = read::facts(context, &Networks::read(context), args.plugins)?;
    let findings = judge(&facts);
    if context.json {
        document("doctor", &findings, &[])?;
    } else {
        print(&text(context, &findings))?;
    }
    Ok(exit(&findings))
}

fn judge(facts: &Facts) -> Vec<Finding> {
    JUDGES.iter().flat_map(|judge| judge(facts)).collect()
}

fn exit(findings: &[Finding]) -> Exit {
    match findings.iter().map(|finding| finding.status).max() {
        Some(Status::Fail) => Exit::Found,
        _ if findings.iter().any(|finding| finding.status == Status::Unknown) => Exit::Incomplete,
        _ => Exit::Done,
    }
}

fn text(context: &Context, findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { id, status, text: sentence, evidence, fix } in findings {
        let (word, colour) = match status {
            Status::Ok => ("ok", ""),
            Status::Unknown => ("unknown", "33"),
            Status::Warn => ("warn", "33"),
            Status::Fail => ("fail", "31"),
        };
        let padded = format!("{word:<7}");
        let word = match context.colour && !colour.is_empty() {
            true => format!("\x1b[{colour}m{padded}\x1b[0m"),
            false => padded,
        };
        text += &format!("{word}  {id:<10}  {}\n", escaped(sentence).replace('\n', "\\n"));
        for line in evidence {
            text += &format!("{:21}{}\n", "", escaped(line).replace('\n', "\\n"));
        }
        for command in fix {
            text += &format!("{:21}fix: {}\n", "", escaped(command).replace('\n', "\\n"));
        }
    }
    text
}
