//! The configuration directory, and who else uses it.

use super::facts::Facts;
use super::finding::{Finding, quoted};

const ID: &str = "files";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for note in &facts.unreadable {
        let file = note.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let is_first = note.file.is_some() && note.file == facts.first_file;
        let finding = if is_first {
            Finding::fail(ID, format!("{file}, the first file, is broken: pods get no network"))
        } else {
            Finding::warn(ID, format!("{file} is broken"))
        };
        let finding = finding.evidence(&note.text);
        findings.push(finding.fix(format!("mv {} {}", quoted(&file), quoted(&format!("{file}.broken")))));
    }
    let own = facts.networks.iter().find(|network| {
        network.file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"moor-"))
    });
    if let (true, Some(network)) = (facts.signs.podman_cni, own) {
        findings.push(
            Finding::warn(ID, "`podman network prune` removes networks that its own containers do not use")
                .evidence(format!("podman uses this directory, and {} is of moor", network.name)),
        );
    }
    if facts.signs.firewalld && !facts.signs.firewalld_reapply {
        findings.push(
            Finding::warn(ID, "rules that firewalld takes away at a reload are not made again by themselves")
                .evidence("the unit moor-reapply@firewalld.service is not enabled")
                .fix("systemctl enable moor-reapply@firewalld.service"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, format!("{} networks, every file is readable", facts.networks.len())));
    }
    findings
}
