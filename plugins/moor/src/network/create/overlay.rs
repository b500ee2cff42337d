//! Networks over many hosts: what their description may have, and what the cluster has already.

use std::path::Path;

use cluster::local::SETTINGS;
use cluster::record::Net;
use cni::Json;
use ipnetwork::IpNetwork;

use crate::failure::Failure;
use crate::subnets::{Subnet, overlap};

use super::conflist::member;
use super::plan::{Driver, Plan};
use super::{Spec, address};

/// What `cluster` takes as a subnet, as lengths of prefixes.
const LENGTHS_V4: std::ops::RangeInclusive<u8> = 8..=29;
const LENGTHS_V6: std::ops::RangeInclusive<u8> = 32..=120;

/// Sets gateways, the range, and what others have, on the subnets that hold them. Addresses of
/// others are left out by `exclude`, and do not split the range.
pub fn refine(plan: &mut Plan, spec: &Spec) -> Result<(), Failure> {
    for [one, other] in pairs(&plan.subnets) {
        if one.is_ipv4() == other.is_ipv4() {
            let fault = format!("driver overlay has one subnet of a family: {one} or {other}");
            return Err(Failure::refused(fault));
        }
    }
    for Subnet { subnet, .. } in &plan.subnets {
        let lengths = if subnet.is_ipv4() { LENGTHS_V4 } else { LENGTHS_V6 };
        if !lengths.contains(&subnet.prefix()) {
            let (least, most) = (lengths.start(), lengths.end());
            return Err(Failure::refused(format!(
                "subnet {subnet}: driver overlay takes /{least} to /{most}"
            )));
        }
    }
    let aside = Spec { aux_addresses: Vec::new(), ..spec.clone() };
    address::refine(&mut plan.subnets, &aside)?;
    if plan.subnets.iter().filter(|subnet| !subnet.ranges.is_empty()).count() > 1 {
        return Err(Failure::refused("driver overlay takes one --ip-range"));
    }
    let mut exclude = Vec::new();
    for (name, text) in &spec.aux_addresses {
        let ip = address::address(&format!("--aux-address {name}"), text)?;
        if !plan.subnets.iter().any(|subnet| subnet.subnet.contains(ip)) {
            return Err(Failure::refused(format!("auxiliary address {text} needs the --subnet that has it")));
        }
        exclude.push(Json::from(ip.to_string()));
    }
    plan.ipam_keys.extend((!exclude.is_empty()).then(|| ("exclude".to_owned(), Json::Array(exclude))));
    Ok(())
}

fn pairs(subnets: &[Subnet]) -> impl Iterator<Item = [IpNetwork; 2]> {
    let later = |n: usize| subnets.get(n + 1..).unwrap_or_default();
    subnets
        .iter()
        .enumerate()
        .flat_map(move |(n, one)| later(n).iter().map(move |other| [one.subnet, other.subnet]))
}

/// The keys of the IPAM plugin.
pub fn ipam(plan: &Plan) -> Vec<(String, Json)> {
    let texts = |texts: Vec<String>| Json::Array(texts.into_iter().map(Json::from).collect());
    let mut keys = Vec::new();
    keys.extend((!plan.routes.is_empty()).then(|| member("routes", Json::Array(plan.routes.clone()))));
    keys.push(member("subnets", texts(plan.subnets.iter().map(|own| own.subnet.to_string()).collect())));
    let gateways = plan.subnets.iter().filter_map(|own| own.gateway.map(|ip| ip.to_string()));
    keys.push(member("gateway", texts(gateways.collect())));
    if let Some(range) = plan.subnets.iter().find_map(|own| own.ranges.first()) {
        keys.push(member("rangeStart", range.first.to_string()));
        keys.push(member("rangeEnd", range.last.to_string()));
    }
    keys.extend(plan.ipam_keys.iter().map(|(key, value)| member(key, value.clone())));
    keys
}

/// Refuses a network over many hosts where the host belongs to no cluster.
pub fn ensure_cluster(plan: &Plan) -> Result<(), Failure> {
    if plan.driver != Driver::Overlay || Path::new(SETTINGS).exists() {
        return Ok(());
    }
    let text = format!("driver overlay: this host belongs to no cluster: there is no {SETTINGS}");
    Err(Failure::refused(text).hint("it names the members of etcd: {\"endpoints\": [\"https://...:2379\"]}"))
}

/// What was not asked for is as the cluster has it, and what was asked for must be.
pub fn follow(plan: &mut Plan, net: &Net) -> Result<(), Failure> {
    for (subnet, gateway) in net.subnets.iter().zip(&net.gateways) {
        let lacks = if subnet.is_ipv4() { &mut plan.lacks_ipv4 } else { &mut plan.lacks_ipv6 };
        if std::mem::take(lacks) {
            let own = Subnet { subnet: *subnet, gateway: Some(*gateway), ranges: Vec::new() };
            let at = if subnet.is_ipv4() { 0 } else { plan.subnets.len() };
            plan.subnets.insert(at, own);
        }
    }
    for Subnet { subnet, gateway, .. } in &plan.subnets {
        let known = net.subnets.iter().zip(&net.gateways).find(|(known, _)| **known == *subnet);
        match known {
            None => {
                let known: Vec<String> = net.subnets.iter().map(ToString::to_string).collect();
                let known = known.join(", ");
                return Err(Failure::refused(format!(
                    "subnet {subnet}: the cluster has a network {} with {known} already",
                    plan.name
                )));
            }
            Some((_, known)) if gateway.is_some_and(|gateway| gateway != *known) => {
                return Err(Failure::refused(format!(
                    "gateway of {subnet}: the cluster's network {} has {known}",
                    plan.name
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The other network of the cluster that has addresses of a subnet.
pub fn of_cluster(subnet: IpNetwork, cluster: &[(String, Net)], own: Option<&str>) -> Option<String> {
    let others = cluster.iter().filter(|(name, _)| Some(name.as_str()) != own);
    let mut in_the_way = others.filter(|(_, net)| net.subnets.iter().any(|other| overlap(*other, subnet)));
    in_the_way.next().map(|(name, _)| format!("network {name} of the cluster"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn net(subnets: &[&str], gateways: &[&str]) -> Net {
        let json = serde_json::json!({"v": 1, "subnets": subnets, "gateways": gateways, "blockSize": 64});
        serde_json::from_value(json).unwrap()
    }

    fn plan(subnets: &[&str], gateways: &[&str]) -> Plan {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let spec = Spec {
            name: "front".into(),
            driver: "overlay".into(),
            subnets: texts(subnets),
            gateways: texts(gateways),
            ..Spec::default()
        };
        Plan::of(&spec).unwrap()
    }

    #[test]
    fn what_the_cluster_has_is_taken_over_and_not_contradicted() {
        let known = net(&["10.9.0.0/16"], &["10.9.0.7"]);
        let mut chosen = plan(&[], &[]);
        follow(&mut chosen, &known).unwrap();
        let own = &chosen.subnets[0];
        assert_eq!((own.subnet.to_string().as_str(), own.gateway), ("10.9.0.0/16", Some(known.gateways[0])));
        assert!(!chosen.lacks_ipv4);
        follow(&mut plan(&["10.9.0.0/16"], &["10.9.0.7"]), &known).unwrap();
        for (subnet, gateway) in [("10.8.0.0/16", "10.8.0.1"), ("10.9.0.0/16", "10.9.0.1")] {
            let refused = follow(&mut plan(&[subnet], &[gateway]), &known).unwrap_err();
            assert!(refused.text.contains("front"), "{refused}");
        }
    }

    #[test]
    fn a_subnet_of_another_network_of_the_cluster_is_in_the_way() {
        let cluster = [("front".to_owned(), net(&["10.9.0.0/16"], &["10.9.0.1"]))];
        let at = |text: &str| cni::parse_cidr(text).unwrap();
        assert!(of_cluster(at("10.9.4.0/24"), &cluster, Some("back")).unwrap().contains("network front"));
        assert_eq!(of_cluster(at("10.9.4.0/24"), &cluster, Some("front")), None);
        assert_eq!(of_cluster(at("10.8.0.0/16"), &cluster, None), None);
    }
}
