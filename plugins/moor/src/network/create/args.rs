//! The flags of `moor network create`: docker's, and a few of podman's.

use std::collections::BTreeMap;

use clap::Args;

use crate::failure::Failure;

use super::{Manner, Spec};

/// The arguments of `moor network create`.
#[derive(Args)]
pub struct CreateArgs {
    /// The name
    name: String,
    /// bridge, macvlan, ipvlan or overlay
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// A subnet, for example 10.1.0.0/24; may be given several times
    #[arg(long, value_name = "PREFIX")]
    subnet: Vec<String>,
    /// The gateway of a subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Give addresses of this part of a subnet only
    #[arg(long, value_name = "PREFIX|FIRST-LAST")]
    ip_range: Vec<String>,
    /// Never give this address: somebody else has it
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = pair)]
    aux_address: Vec<(String, String)>,
    /// No way outside
    #[arg(long)]
    internal: bool,
    /// IPv4 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv4: Option<bool>,
    /// IPv6 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv6: Option<bool>,
    /// default, host-local, none, dhcp, static or cluster
    #[arg(long, default_value = "default", value_name = "DRIVER")]
    ipam_driver: String,
    /// A key of the IPAM plugin
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    ipam_opt: Vec<(String, String)>,
    /// A label
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// An option of the driver: mtu, parent, mode, vlan, icc, ip-masq, isolate, domain and others
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = label)]
    opt: Vec<(String, String)>,
    /// The name of the bridge
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,
    /// No names for containers
    #[arg(long)]
    disable_dns: bool,
    /// A name server that queries are forwarded to
    #[arg(long, value_name = "ADDRESS", conflicts_with = "disable_dns")]
    dns: Vec<String>,
    /// A route of the containers
    #[arg(long, value_name = "PREFIX,GATEWAY[,METRIC]")]
    route: Vec<String>,
    /// Mark the network as this tool's, which may then remove it
    #[arg(long = "for", value_name = "nerdctl", value_parser = ["nerdctl"])]
    owner: Option<String>,
    /// Print the conflist, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// A network that is there with the same content is no error
    #[arg(long)]
    ignore: bool,
    /// The new file may be the first of the directory, which containerd and CRI-O give to pods
    #[arg(long)]
    first: bool,
    /// The subnet may overlap another network's, or a route of the host
    #[arg(long)]
    allow_overlap: bool,
    /// Accepted, without effect: every container can be attached
    #[arg(long)]
    attachable: bool,
    #[command(flatten)]
    swarm: SwarmArgs,
}

/// Flags that Swarm alone has a use for.
#[derive(Args)]
struct SwarmArgs {
    #[arg(long, hide = true)]
    config_from: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    ingress: bool,
    #[arg(long, hide = true)]
    scope: Option<String>,
}

impl CreateArgs {
    /// The network that is asked for.
    pub fn spec(&self) -> Result<Spec, Failure> {
        self.swarm.refuse()?;
        let bridge = self.interface_name.iter().map(|name| ("interface-name".into(), name.clone()));
        Ok(Spec {
            name: self.name.clone(),
            driver: self.driver.clone(),
            subnets: self.subnet.clone(),
            gateways: self.gateway.clone(),
            ip_ranges: self.ip_range.clone(),
            aux_addresses: self.aux_address.clone(),
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            internal: self.internal,
            ipam_driver: self.ipam_driver.clone(),
            ipam_options: self.ipam_opt.clone(),
            labels: self.label.iter().cloned().collect::<BTreeMap<_, _>>(),
            options: self.opt.iter().cloned().chain(bridge).collect(),
            disable_dns: self.disable_dns,
            dns: self.dns.clone(),
            routes: self.route.clone(),
            for_nerdctl: self.owner.is_some(),
        })
    }

    /// How the network is made.
    pub fn manner(&self) -> Manner {
        Manner {
            dry_run: self.dry_run,
            ignore: self.ignore,
            first: self.first,
            allow_overlap: self.allow_overlap,
        }
    }
}

impl SwarmArgs {
    fn refuse(&self) -> Result<(), Failure> {
        let given = [
            ("--config-from", self.config_from.is_some()),
            ("--config-only", self.config_only),
            ("--ingress", self.ingress),
            ("--scope", self.scope.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::usage(format!("{flag} is Swarm's, and there is no Swarm here"))),
            None => Ok(()),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// As [`pair`]; docker and podman take a key alone, too.
fn label(text: &str) -> Result<(String, String), String> {
    if text.contains('=') || text.is_empty() { pair(text) } else { Ok((text.to_owned(), String::new())) }
}
