//! A network of the file as the description that conflists are made of.

use serde_json::Value;

use crate::import::{Lost, honoured};
use crate::network::create::{Spec, Suite, check, conflist};
use crate::yaml::Place;

use super::networks::{Network, Settings};
use super::plan::{Remarks, labels};
use super::project::Project;

/// The description of a network of the project; none for an external one.
pub fn spec(project: &Project, network: &Network) -> Option<Spec> {
    let settings = network.settings.as_ref()?;
    let text = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>();
    let subnets = || settings.subnets.iter();
    let aux = subnets().flat_map(|subnet| &subnet.aux);
    let pairs = |pairs: &std::collections::BTreeMap<String, String>| {
        pairs.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    Some(Spec {
        name: network.name.clone(),
        driver: settings.driver.clone().unwrap_or_default(),
        subnets: text(&mut subnets().map(|subnet| subnet.subnet.to_string())),
        gateways: text(&mut subnets().filter_map(|subnet| Some(subnet.gateway?.to_string()))),
        ip_ranges: text(&mut subnets().filter_map(|subnet| Some(subnet.range?.to_string()))),
        aux_addresses: aux.map(|(name, address)| (name.clone(), address.to_string())).collect(),
        ipv4: settings.ipv4,
        ipv6: settings.ipv6,
        internal: settings.internal,
        ipam_driver: settings.ipam_driver.clone().unwrap_or_default(),
        ipam_options: pairs(&settings.ipam_options),
        labels: labels(project, network, settings),
        options: pairs(&settings.options),
        ..Spec::default()
    })
}

/// The description with those of the driver's options that a list can have.
pub fn lossy(spec: Spec) -> Spec {
    let options = spec.options.iter().cloned().collect();
    let bare = Spec { options: Vec::new(), ..spec };
    let kept = honoured(&bare, options).kept;
    Spec { options: kept, ..bare }
}

/// The list of a network, with remarks on what no list has; none for an external network and for
/// one that `create` refuses.
pub fn list(project: &Project, network: &Network, suite: Suite, remarks: &mut Remarks<'_>) -> Option<Value> {
    let settings = network.settings.as_ref()?;
    let whole = spec(project, network)?;
    let path = |key: &str| format!("networks.{}{key}", network.key);
    let mut kept = Spec { options: Vec::new(), ..whole };
    if let Err(failure) = check(&kept) {
        remarks.add(network.at, path(""), failure.to_string());
        return None;
    }
    let honoured = honoured(&kept, settings.options.clone());
    for Lost { key, reason } in honoured.lost {
        remarks.add(place(settings, &key, network.at), path(&format!(".driver_opts.{key}")), reason);
    }
    kept.options = honoured.kept;
    serde_json::from_slice(&conflist(&kept, suite).ok()?).ok()
}

fn place(settings: &Settings, key: &str, otherwise: Place) -> Place {
    settings.places.iter().find(|(known, _)| known == key).map_or(otherwise, |(_, at)| *at)
}
