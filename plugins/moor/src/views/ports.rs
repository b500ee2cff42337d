//! `moor ports`: the ports of this host, and who has them.

use clap::Args;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::{HostPort, Model};
use crate::networks::Networks;
use crate::output::{self, Table};

/// The arguments of `moor ports`.
#[derive(Args)]
pub struct PortsArgs {
    /// Only what leads to containers, without sockets of the host's own
    #[arg(short, long)]
    containers: bool,
}

/// Prints the ports.
pub fn run(context: &Context, args: &PortsArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let mut model = Model::read(context, &networks);
    let mut ports = model.ports();
    ports.retain(|port| !args.containers || port.container_id.is_some());
    if context.json {
        output::document("ports", &ports, &model.notes)?;
    } else {
        output::notes(&model.notes);
        print(context, &ports)?;
    }
    let found = if ports.iter().any(|port| port.conflict) { Exit::Found } else { Exit::Done };
    Ok(model.exit(found))
}

fn print(context: &Context, ports: &[HostPort]) -> Result<(), Failure> {
    let mut table = Table::new(&["PORT", "PROTO", "ADDRESS", "TO", "CONTAINER", "NETWORK", "BY"]);
    for port in ports {
        let number = port.last.map_or(port.port.to_string(), |last| format!("{}-{last}", port.port));
        let by = if port.conflict { format!("{} (conflict)", port.by) } else { port.by.to_owned() };
        table.row(vec![
            number,
            port.protocol.clone(),
            port.address.map_or("*".into(), |address| address.to_string()),
            to(port),
            port.owner(),
            port.network.clone().unwrap_or_default(),
            by,
        ]);
    }
    table.print(context)
}

fn to(port: &HostPort) -> String {
    match (port.to, port.to_port) {
        (Some(to), Some(number)) => std::net::SocketAddr::new(to, number).to_string(),
        (Some(to), None) => to.to_string(),
        (None, _) => String::new(),
    }
}
