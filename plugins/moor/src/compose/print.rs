//! The plan as text.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Table, escaped, print};

use super::plan::{Plan, PlannedMember, PlannedNetwork, PlannedService};

/// Prints the plan for people.
pub fn text(context: &Context, plan: &Plan) -> Result<(), Failure> {
    networks(context, &plan.networks)?;
    print("\n")?;
    services(context, &plan.services)?;
    let mut text = String::new();
    for service in &plan.services {
        text += &format!("\n# {}\n", service.name);
        text += &format!("podman run {}\n", service.podman.join(" "));
        text += &format!("nerdctl run {}\n", service.nerdctl.join(" "));
    }
    if !plan.not_honoured.is_empty() {
        text += "\nNot honoured:\n";
    }
    for remark in &plan.not_honoured {
        let runtime = remark.runtime.map(|runtime| format!(" by {runtime} run")).unwrap_or_default();
        let place = format!("{}:{}:{}", remark.file.display(), remark.line, remark.column);
        text += &format!("{place}: {}{runtime}: {}\n", remark.key, remark.reason);
    }
    print(&escaped(&text))
}

fn networks(context: &Context, networks: &[PlannedNetwork]) -> Result<(), Failure> {
    let mut table = Table::new(&["NETWORK", "NAME", "DRIVER", "SUBNETS"]);
    for network in networks {
        let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.subnet.clone()).collect();
        let chosen = if network.external || !subnets.is_empty() { "" } else { "(chosen by create)" };
        let internal = if network.internal { "(internal)" } else { "" };
        let subnets = [&subnets.join(" "), chosen, internal].map(ToOwned::to_owned);
        table.row(vec![
            network.key.clone(),
            network.name.clone(),
            network.driver.clone().unwrap_or_else(|| "(external)".into()),
            subnets.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" "),
        ]);
    }
    table.print(context)
}

fn services(context: &Context, services: &[PlannedService]) -> Result<(), Failure> {
    let mut table = Table::new(&["SERVICE", "NETWORK", "NAMES", "ADDRESSES", "PORTS"]);
    for service in services {
        if let Some(mode) = &service.network_mode {
            let row = [&service.name, &format!("({mode})"), "", "", &service.ports.join(" ")];
            table.row(row.map(ToOwned::to_owned).to_vec());
        }
        for (number, member) in service.networks.iter().enumerate() {
            let ports = if number == 0 { service.ports.join(" ") } else { String::new() };
            table.row(row(service, member, ports));
        }
    }
    table.print(context)
}

fn row(service: &PlannedService, member: &PlannedMember, ports: String) -> Vec<String> {
    let addresses: Vec<_> = member.addresses.iter().map(ToString::to_string).collect();
    vec![service.name.clone(), member.network.clone(), member.names.join(" "), addresses.join(" "), ports]
}
