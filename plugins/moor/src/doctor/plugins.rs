//! The executables that conflists name.

use super::facts::{Copy, Facts, PluginFacts};
use super::finding::{Finding, quoted};

const ID: &str = "plugins";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = facts.plugins.iter().flat_map(judge_one).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "no conflist names a plugin"));
    }
    findings
}

fn judge_one(plugin: &PluginFacts) -> Vec<Finding> {
    let Some(first) = plugin.found.first() else { return vec![missing(plugin)] };
    let path = first.path.display().to_string();
    let mut findings = Vec::new();
    if !first.executable {
        let text = format!("{path} is not executable");
        findings.push(Finding::fail(ID, text).fix(format!("chmod +x {}", quoted(&path))));
    }
    if let Some(mount) = &first.noexec {
        let mount = mount.display().to_string();
        findings.push(
            Finding::fail(ID, format!("nothing on {mount} can be executed: {}", plugin.name))
                .evidence("the mount has the option noexec")
                .fix(format!("mount -o remount,exec {}", quoted(&mount))),
        );
    }
    let differs = |copy: &&Copy| copy.digest != first.digest;
    if let Some(other) = plugin.found.iter().find(differs) {
        findings.push(
            Finding::warn(ID, format!("there are several {} in the path, and they differ", plugin.name))
                .evidence(format!(
                    "{path} ({}) is used, {} ({}) is not",
                    first.suite,
                    other.path.display(),
                    other.suite
                )),
        );
    }
    for fault in &plugin.faults {
        findings.push(Finding::fail(ID, format!("{path}: {fault}")));
    }
    if findings.is_empty() {
        let versions = match first.versions.last() {
            Some(newest) => format!(", up to {newest}"),
            None => String::new(),
        };
        findings.push(Finding::ok(ID, format!("{}: {path} ({}{versions})", plugin.name, first.suite)));
    }
    findings
}

fn missing(plugin: &PluginFacts) -> Finding {
    let path = plugin.path.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    let finding = Finding::fail(ID, format!("there is no plugin {}", plugin.name))
        .evidence(format!("looked in {path}"))
        .evidence(format!("network {}", plugin.networks.join(", ")));
    match (&plugin.elsewhere, plugin.path.first()) {
        (Some(elsewhere), Some(dir)) => {
            let link = format!("{}/{}", dir.display(), plugin.name);
            finding.fix(format!("ln -s {} {}", quoted(&elsewhere.display().to_string()), quoted(&link)))
        }
        _ => finding,
    }
}
