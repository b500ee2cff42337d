//! The table of connections: when it is full, new ones are dropped.

use super::facts::Facts;
use super::finding::{Finding, sysctl};

const ID: &str = "conntrack";
const MAX: &str = "net/netfilter/nf_conntrack_max";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(table) = facts.conntrack.filter(|table| table.max > 0) else {
        return vec![Finding::ok(ID, "connections are not tracked yet")];
    };
    let share = table.count.saturating_mul(100) / table.max;
    let used = format!("{} of {} connections, {share} %", table.count, table.max);
    let larger = sysctl(MAX, &table.max.saturating_mul(2).to_string());
    let mut findings = match share {
        90.. => vec![Finding::fail(ID, "the table of connections is nearly full").evidence(used).fix(larger)],
        75.. => vec![Finding::warn(ID, "the table of connections fills up").evidence(used).fix(larger)],
        _ => vec![Finding::ok(ID, used)],
    };
    if table.insert_failed + table.drop > 0 {
        findings.push(
            Finding::warn(ID, "connections were lost since this host was started")
                .evidence(format!("insert_failed {}, drop {}", table.insert_failed, table.drop)),
        );
    }
    findings
}
