//! Networks over many hosts: etcd, the agent, and the wire between the hosts.

use cluster::control::Status;
use cluster::net::mtu_of_underlay;
use sys::IpFamily;

use super::facts::{Credential, Facts, OverlayFacts};
use super::finding::Finding;
use crate::overlay::Asked;

const ID: &str = "overlay";
const SETTINGS: &str = cluster::local::SETTINGS;
const DAY: i64 = 86_400;
/// Certificates are renewed in time if this many days are left.
const DAYS: i64 = 14;
/// The UDP port of VXLAN that VMware NSX keeps for itself (IANA's), and the older one of Linux.
const NSX: [u16; 2] = [4789, 8472];

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(overlay) = &facts.overlay else {
        return vec![Finding::ok(ID, "no network spans hosts")];
    };
    if let Some(why) = &overlay.unusable {
        let finding = match overlay.conflists.is_empty() {
            true => Finding::warn(ID, "the configuration of the cluster cannot be used"),
            false => Finding::fail(ID, "no container can be attached to a network that spans hosts"),
        };
        return vec![finding.evidence(why.clone())];
    }
    let mut findings = Vec::new();
    findings.extend(members(overlay));
    findings.extend(overlay.credentials.iter().filter_map(credential));
    findings.extend(agent(overlay));
    findings.extend(port(overlay));
    if let Asked::Answered(status) = &overlay.agent {
        findings.extend(mtu(facts, overlay, status));
    }
    if findings.is_empty() {
        let members = overlay.members.len();
        let plural = if members == 1 { "" } else { "s" };
        findings.push(Finding::ok(
            ID,
            format!("{members} member{plural} of etcd, certificates, agent and wire are well"),
        ));
    }
    findings
}

fn members(overlay: &OverlayFacts) -> Option<Finding> {
    let away: Vec<_> = overlay.members.iter().filter(|(_, fault)| fault.is_some()).collect();
    if away.is_empty() {
        return None;
    }
    let mut finding = match away.len() == overlay.members.len() {
        true => Finding::fail(ID, "no member of etcd is reached: other hosts do not learn of new containers"),
        false => Finding::warn(ID, "not every member of etcd is reached"),
    };
    for (endpoint, fault) in away {
        finding = finding.evidence(format!("{endpoint}: {}", fault.as_deref().unwrap_or_default()));
    }
    Some(finding)
}

fn credential(Credential { key, path, state }: &Credential) -> Option<Finding> {
    let path = path.display();
    match state {
        Err(why) => Some(
            Finding::fail(ID, format!("{path} cannot be used: etcd refuses this host"))
                .evidence(format!("\"{key}\" of {SETTINGS}: {why}")),
        ),
        Ok(Some(left)) if *left <= 0 => Some(
            Finding::fail(ID, format!("{path} has expired: etcd refuses this host"))
                .evidence(format!("\"{key}\" of {SETTINGS}, {} days ago", -left / DAY)),
        ),
        Ok(Some(left)) if *left <= DAYS * DAY => Some(
            Finding::warn(ID, format!("{path} expires within {DAYS} days"))
                .evidence(format!("\"{key}\" of {SETTINGS}, in {} days", left / DAY))
                .evidence("replace the file: it is read again without a restart"),
        ),
        Ok(_) => None,
    }
}

fn agent(overlay: &OverlayFacts) -> Vec<Finding> {
    let status = match &overlay.agent {
        Asked::Absent if overlay.attached == 0 => return Vec::new(),
        Asked::Absent => {
            let finding =
                Finding::fail(ID, "the agent does not run: what changes on other hosts is not followed")
                    .evidence(format!("{} containers are attached; their traffic goes on", overlay.attached))
                    .evidence("the next ADD or CHECK of any of them starts it");
            return vec![finding.fix("moor check --fix")];
        }
        Asked::Silent(why) => {
            return vec![Finding::fail(ID, "the agent does not answer").evidence(why.clone())];
        }
        Asked::Answered(status) => status,
    };
    let mut findings = Vec::new();
    findings.extend(status.faults.iter().map(|fault| Finding::fail(ID, fault.clone())));
    findings.extend(status.warnings.iter().map(|warning| Finding::warn(ID, warning.clone())));
    if let Some(why) = &status.away {
        findings.push(
            Finding::warn(ID, format!("the agent has not reached etcd for {} s", status.away_s))
                .evidence(why.clone())
                .evidence(format!("{} records wait to be published", status.queued)),
        );
    }
    findings
}

fn port(overlay: &OverlayFacts) -> Vec<Finding> {
    let port = overlay.port;
    let mut findings = Vec::new();
    if let Some(who) = &overlay.port_taken {
        findings.push(
            Finding::fail(ID, format!("UDP port {port} of VXLAN is taken: no packet of other hosts arrives"))
                .evidence(who.clone())
                .evidence(format!("stop that program, or set \"port\" of {SETTINGS} on all hosts")),
        );
    }
    if overlay.vmware && NSX.contains(&port) {
        findings.push(
            Finding::warn(ID, format!("VMware NSX may keep UDP port {port} to itself"))
                .evidence("this host is a virtual machine of VMware")
                .evidence(format!(
                    "if other hosts are not reached: another \"port\" in {SETTINGS} on all hosts"
                )),
        );
    }
    findings
}

/// Networks whose packets the link to the other hosts does not carry.
fn mtu(facts: &Facts, overlay: &OverlayFacts, status: &Status) -> Vec<Finding> {
    let has =
        |ip| facts.addresses.iter().find(|(_, net)| net.ip() == ip).and_then(|(name, _)| facts.link(name));
    let limits = status.addresses.iter().filter_map(|ip| Some((IpFamily::of(*ip), has(*ip)?)));
    let limits: Vec<_> = limits.collect();
    let mut findings = Vec::new();
    for (name, mtu, encrypted) in &overlay.networks {
        let carried =
            limits.iter().map(|(family, link)| (mtu_of_underlay(link.mtu, *family, *encrypted), link));
        let Some((most, link)) = carried.min_by_key(|(most, _)| *most).filter(|(most, _)| most < mtu) else {
            continue;
        };
        findings.push(
            Finding::warn(ID, format!("{} does not carry the packets of network {name}", link.name))
                .evidence(format!(
                    "MTU {mtu} of the network above {most}, which an MTU of {} leaves",
                    link.mtu
                ))
                .evidence("raise the MTU of that link, or make the network anew with \"mtu\""),
        );
    }
    findings
}
