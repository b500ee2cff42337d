//! `moor network connect`: attaches a container of any runtime to another network.

use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use runtime::{Conflist, Runtime};
use serde::Serialize;
use serde_json::Value;
use sys::NetNs;

use crate::context::Context;
use crate::default_route::DefaultRoutes;
use crate::endpoint::{Address, Container, Endpoint, Resolver, parse_mac, parse_name, parse_v4, parse_v6};
use crate::failure::{Exit, Failure};
use crate::model::{Model, NamespaceId};
use crate::networks::Networks;
use crate::output;
use crate::target::Target;
use crate::undo::undo;

use super::find;

pub const KIND: &str = "connections";
/// An argument that no plugin reads: the attachment is this command's, and no runtime's own.
pub const MARK: &str = "MOOR_CONNECTED";
/// How often `--wait` looks whether the namespace is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The longest name of a link (linux/if.h, IFNAMSIZ).
const IFNAME_MAX: usize = 15;

/// The arguments of `moor network connect`.
#[derive(Args)]
pub struct ConnectArgs {
    /// Another name on the network
    #[arg(long, visible_aliases = ["network-alias", "net-alias"], value_name = "NAME", value_parser = parse_name)]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS", value_parser = parse_v4)]
    ip: Option<Address>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS", value_parser = parse_v6)]
    ip6: Option<Address>,
    /// MAC address
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    mac_address: Option<String>,
    /// Interface in the container, instead of the first free one of eth0, eth1, ...
    #[arg(long, value_name = "NAME", value_parser = parse_ifname)]
    ifname: Option<String>,
    /// Above 0, the container's default route becomes that of this network
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    gw_priority: i64,
    /// Stay until the container has ended, and disconnect it then
    #[arg(long)]
    wait: bool,
    /// Network
    network: String,
    /// Container: its name, namespace/pod, the beginning of its id, pid:N, or a path of a namespace
    container: String,
}

fn parse_ifname(text: &str) -> Result<String, String> {
    let is_usual = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    if text.is_empty()
        || text.len() > IFNAME_MAX
        || [".", ".."].contains(&text)
        || !text.bytes().all(is_usual)
    {
        return Err(format!("the name of an interface has 1 to {IFNAME_MAX} characters, without / and :"));
    }
    Ok(text.into())
}

/// What was connected.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection<'c> {
    network: &'c str,
    container_id: &'c str,
    ifname: &'c str,
    addresses: Vec<&'c str>,
}

/// Connects the container.
pub fn run(context: &Context, args: &ConnectArgs) -> Result<Exit, Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::incomplete("needs root: plugins change the host's network"));
    }
    let networks = Networks::read(context);
    let list = &find::existing(&networks, &args.network)?.list;
    let model = Model::read(context, &networks);
    let target = Target::find(&model, &args.container)?;
    let ifname = ifname(args, &target, &list.name)?;
    let join = Join { context, list, target: &target, ifname: &ifname, args };
    let result = join.add()?;
    join.report(&result)?;
    if args.wait {
        let namespace = target.namespace;
        // A descriptor would keep the namespace alive.
        let (id, path) = (target.id.clone(), target.path.clone());
        drop(target);
        drop(model);
        await_end(context, &networks, namespace, &path);
        return delete(context, list, &id, &ifname, None).map(|()| Exit::Done);
    }
    Ok(Exit::Done)
}

/// The interface's name.
fn ifname(args: &ConnectArgs, target: &Target<'_>, network: &str) -> Result<String, Failure> {
    let known = target.attachments.iter();
    let is_taken = |name: &str| {
        target.links.iter().any(|link| link == name)
            || target.attachments.iter().any(|one| one.may_be_alive() && one.ifname == name)
    };
    if let Some(name) = &args.ifname {
        let taken = || Failure::refused(format!("the container has an interface {name:?} already"));
        return if is_taken(name) { Err(taken()) } else { Ok(name.clone()) };
    }
    if let Some(one) = known.into_iter().find(|one| one.network == network && one.may_be_alive()) {
        let text = format!("the container is on network {network:?} already, by {}", one.ifname);
        return Err(Failure::refused(text).hint("--ifname NAME connects it once more"));
    }
    let free = (0..=target.links.len() + target.attachments.len()).map(|number| format!("eth{number}"));
    let free = free.into_iter().find(|name| !is_taken(name));
    free.ok_or_else(|| Failure::refused("no name for an interface is free"))
}

/// An attachment to make.
struct Join<'j> {
    context: &'j Context,
    list: &'j Conflist,
    target: &'j Target<'j>,
    ifname: &'j str,
    args: &'j ConnectArgs,
}

impl Join<'_> {
    /// ADD; when it fails, or the container has ended meanwhile and nobody waits for that, DEL.
    fn add(&self) -> Result<Value, Failure> {
        let Self { context, list, target, ifname, args } = self;
        let first = target.attachments.first();
        let pod = first.and_then(|one| one.pod.as_ref());
        let name = pod.map(|pod| pod.name.as_str()).or(first.and_then(|one| one.name.as_deref()));
        let endpoint = Endpoint {
            network: list.name.clone(),
            addresses: args.ip.iter().chain(&args.ip6).copied().collect(),
            mac: args.mac_address.clone(),
            aliases: args.alias.clone(),
            gateway_priority: args.gw_priority,
        };
        let container = Container { id: &target.id, name, netns: &target.path };
        let mut attachment = endpoint.attachment(list, container, ifname, &Resolver::default())?;
        let mut arg = |key: &str, value: &str| attachment.args.push((key.into(), value.into()));
        pod.iter().for_each(|pod| arg("K8S_POD_NAMESPACE", &pod.namespace));
        arg(MARK, "1");
        let failed = |error: &dyn std::fmt::Display| {
            Failure::refused(format!("connect {} to network {:?}: {error}", args.container, list.name))
        };
        let routes = DefaultRoutes::read(&target.netns).map_err(|error| failed(&error))?;
        let runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
        let added = runtime.add(list, &attachment).map_err(|error| failed(&error)).and_then(|result| {
            let takes = args.gw_priority > 0;
            routes.settle(ifname, takes).map_err(|error| failed(&error))?;
            let there = NetNs::open(&target.path).ok().and_then(|netns| netns.same_as(&target.netns).ok());
            // Whoever waits for the container's end has it.
            if there == Some(true) || args.wait {
                Ok(result)
            } else {
                Err(failed(&"the container has ended meanwhile"))
            }
        });
        added.map_err(|failure| {
            if let Err(more) = undo(&runtime, list, &attachment) {
                return failure.hint(format!("what it left could not be removed: {more}"));
            }
            failure
        })
    }

    fn report(&self, result: &Value) -> Result<(), Failure> {
        let Self { context, list, target, ifname, .. } = self;
        if let Some(server) = foreign_server(self.target, result) {
            eprintln!(
                "moor: the container's resolv.conf stays as it is; names of {} are answered by {}",
                list.name,
                output::escaped(server)
            );
        }
        if !context.json {
            return Ok(());
        }
        let addresses = result["ips"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|ip| ip["address"].as_str()).collect();
        let (network, container_id) = (list.name.as_str(), target.id.as_str());
        output::document(KIND, &[Connection { network, container_id, ifname, addresses }], &[])
    }
}

/// The network's name server, unless the container asks one that knows all of its networks.
fn foreign_server<'r>(target: &Target<'_>, result: &'r Value) -> Option<&'r str> {
    let server = result["dns"]["nameservers"][0].as_str()?;
    let is_ours = |list: &Conflist| list.plugins.iter().any(|plugin| plugin.plugin_type == "dns");
    let mut lists =
        target.attachments.iter().filter_map(|one| Conflist::from_bytes(&one.record.as_ref()?.config).ok());
    if lists.any(|list| is_ours(&list)) { None } else { Some(server) }
}

/// Waits until the namespace has ended.
fn await_end(context: &Context, networks: &Networks, namespace: NamespaceId, path: &str) {
    let is_there = |path: &str| {
        let identity = NetNs::open(path).ok().and_then(|netns| netns.identity().ok());
        identity.is_some_and(|(device, inode)| NamespaceId { device, inode } == namespace)
    };
    let mut path = path.to_owned();
    loop {
        sleep(LOOK_INTERVAL);
        if is_there(&path) {
            continue;
        }
        // Another process or mount may hold it.
        let model = Model::read(context, networks);
        let other = model.kernel.position(namespace).and_then(|at| model.kernel.namespaces[at].path());
        match other.map(|other| other.display().to_string()).filter(|other| is_there(other)) {
            Some(other) => path = other,
            None => return,
        }
    }
}

/// DEL by the record's parameters.
fn delete(
    context: &Context,
    list: &Conflist,
    id: &str,
    ifname: &str,
    netns: Option<String>,
) -> Result<(), Failure> {
    let runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    let mut attachment = runtime::Attachment::new(id, netns, ifname);
    if let Ok(Some(runtime::Entry::Record(record))) = runtime.cache().get(&list.name, &attachment.id()) {
        let netns = attachment.netns.take();
        attachment = runtime::Attachment { netns, ..record.attachment };
    }
    runtime.del(list, &attachment).map_err(|error| Failure::refused(format!("disconnect: {error}")))
}
