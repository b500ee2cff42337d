//! What runs out: addresses, open files, namespaces.

use super::facts::Facts;
use super::finding::{Finding, quoted, sysctl};

const ID: &str = "ranges";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for network in &facts.networks {
        for range in network.ranges.iter().filter(|range| range.size > 0) {
            let share = range.used.saturating_mul(100) / range.size;
            let finding = match share {
                100.. => Finding::fail(ID, format!("network {} has no address left", network.name)),
                90.. => Finding::warn(ID, format!("network {} has few addresses left", network.name)),
                _ => continue,
            };
            let used = format!("{} of {} addresses of {}", range.used, range.size, range.text);
            findings.push(finding.evidence(used).fix(format!("moor gc --fix {}", quoted(&network.name))));
        }
    }
    if let Some((used, max)) =
        facts.files.filter(|(used, max)| used.saturating_mul(10) >= max.saturating_mul(9))
    {
        findings.push(
            Finding::fail(ID, "the system has few open files left")
                .evidence(format!("{used} of {max}"))
                .fix(sysctl("fs/file-max", &max.saturating_mul(2).to_string())),
        );
    }
    for (key, least) in [("user/max_net_namespaces", 64), ("fs/inotify/max_user_instances", 64)] {
        if let Some(value) = facts.number(key).filter(|value| *value < least) {
            findings.push(
                Finding::warn(ID, format!("{key} is {value}"))
                    .evidence("containers and their runtime need more")
                    .fix(sysctl(key, "8192")),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "addresses and files are left"));
    }
    findings
}
