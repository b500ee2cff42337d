//! `moor run`: a command in a network namespace of its own, attached by conflists, and detached
//! when it ends.

mod attach;
pub mod guardian;
pub mod inside;
mod keep;
mod plan;

use std::ffi::OsString;
use std::io::Write;
use std::net::Shutdown;

use clap::Args;
use nix::unistd::geteuid;
use runtime::Runtime;
use serde_json::Value;
use sys::NetNs;

use crate::context::Context;
use crate::endpoint::{Address, Endpoint, parse_mac, parse_name, parse_network, parse_v4, parse_v6};
use crate::failure::{Exit, Failure};
use crate::helper::{Helper, Role, Start, become_command};
use crate::networks::Networks;
use crate::publish::Publish;
use crate::supervise::{Orphans, wait_for};
use crate::{lab, output, space};

use attach::Join;
use guardian::Guardian;
use keep::Kept;
use plan::Plan;

const EXAMPLES: &str = "Examples:\n  \
    moor run --network front -p 8080:80 -- python3 -m http.server 80\n  \
    moor run --network name=front,alias=www --network back -- sh\n  \
    moor run --network none -- ip addr\n\n\
    The status is the command's; 125 when moor failed, 126 and 127 when the command cannot be executed \
    or found, and 128+N after signal N.";

/// Run a command on networks; this is no container: its files and processes are the host's
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Network: its name, `none`, `host`, or name=front,ip=A,ip6=A,mac-address=M,alias=A,gw-priority=N; may
    /// be given several times: eth0, eth1, ...
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = parse_network)]
    network: Vec<Endpoint>,
    /// Name, by which others on the network find it
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    /// IPv4 address on the first network
    #[arg(long, value_name = "ADDRESS", value_parser = parse_v4)]
    ip: Option<Address>,
    /// IPv6 address on the first network
    #[arg(long, value_name = "ADDRESS", value_parser = parse_v6)]
    ip6: Option<Address>,
    /// MAC address on the first network
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    mac_address: Option<String>,
    /// Another name on the first network
    #[arg(long, visible_aliases = ["network-alias", "net-alias"], value_name = "NAME", value_parser = parse_name)]
    alias: Vec<String>,
    /// Publish a port at the host, [IP:][HOST[-HOST]:]PORT[-PORT][/PROTO]; without HOST a free one, which is
    /// printed on standard error
    #[arg(short, long, value_name = "SPEC", value_parser = Publish::parse)]
    publish: Vec<Publish>,
    /// Name server
    #[arg(long, value_name = "ADDRESS", value_parser = parse_server)]
    dns: Vec<String>,
    /// Domain to look for names in
    #[arg(long, value_name = "DOMAIN", value_parser = parse_word)]
    dns_search: Vec<String>,
    /// Option of resolv.conf
    #[arg(long, value_name = "OPTION", value_parser = parse_word)]
    dns_option: Vec<String>,
    /// Give the namespace a name in /run/netns, and leave it and its attachments there at the end
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    refused: Refused,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Flags of docker that have no place here.
#[derive(Args)]
struct Refused {
    #[arg(short = 'P', long, hide = true)]
    publish_all: bool,
    #[arg(long, hide = true)]
    link: Vec<String>,
    #[arg(long, hide = true)]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true)]
    driver_opt: Vec<String>,
}

impl Refused {
    fn check(&self) -> Result<(), Failure> {
        let why = if self.publish_all {
            "-P publishes the ports that an image exposes, and there is no image; use -p"
        } else if !self.link.is_empty() {
            "--link: containers on one network find each other by name; use --network and --alias"
        } else if !self.link_local_ip.is_empty() {
            "--link-local-ip: the kernel gives IPv6 links theirs; use --ip or --ip6"
        } else if !self.driver_opt.is_empty() {
            "--driver-opt: the conflist has the driver's options; use network create -o"
        } else {
            return Ok(());
        };
        Err(Failure::usage(why))
    }
}

fn parse_server(text: &str) -> Result<String, String> {
    let address: Result<std::net::IpAddr, _> = text.parse();
    address.map(|address| address.to_string()).map_err(|_| "expected the address of a server".into())
}

fn parse_word(text: &str) -> Result<String, String> {
    let is_word = |character: char| !character.is_whitespace() && !character.is_control();
    if !text.is_empty() && text.len() <= 253 && text.chars().all(is_word) {
        Ok(text.into())
    } else {
        Err("expected one word".into())
    }
}

/// Runs the command.
pub fn run(context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    args.refused.check()?;
    run_command(context, &args).map_err(|failure| match failure.exit {
        Exit::Usage => failure,
        _ => Failure { exit: Exit::Status(125), ..failure },
    })
}

fn run_command(context: &Context, args: &RunArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let id = format!("moor-{:08x}", u32::from_ne_bytes(random()?));
    let plan = plan::plan(&networks, args, &id).inspect_err(|_| output::notes(&networks.notes))?;
    let Plan::Joins(mut joins) = plan else { return Ok(become_command(&args.command)) };
    if !geteuid().is_root() {
        eprintln!("moor: without root this runs in a lab: a host of its own, whose network has no outside");
        return lab::run_this_again(context);
    }
    let mut child =
        Start { role: Role::Command, arguments: &args.command, inherits: None, has_terminal: true }.run()?;
    let done = run_attached(context, args, &id, &mut joins, &mut child);
    if done.is_err() {
        child.end();
    }
    done
}

fn random() -> Result<[u8; 4], Failure> {
    sys::random::bytes().map_err(|error| space::refused("random bytes", error))
}

/// Attaches the child, has it become the command, and detaches it when that has ended.
fn run_attached(
    context: &Context,
    args: &RunArgs,
    id: &str,
    joins: &mut [Join],
    child: &mut Helper,
) -> Result<Exit, Failure> {
    let own = format!("/proc/{}/ns/net", child.process.id());
    let netns = NetNs::open(&own).map_err(|error| Failure::refused(error.to_string()))?;
    let kept = if args.keep { Some(Kept::bind(&own, id)?) } else { None };
    let path = kept.as_ref().map_or(own, Kept::path);
    joins.iter_mut().for_each(|join| join.attachment.netns = Some(path.clone()));
    let runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    // What is kept needs nobody who detaches it.
    let guardian = match kept {
        Some(_) => None,
        None => Some(Guardian::start(&runtime, joins, &path)?),
    };
    let done = attach::add(&runtime, joins, &netns).and_then(|results| {
        let resolver = plan::resolver(args);
        let resolv_conf = space::resolv_conf(&results, &resolver);
        hand_over(child, resolv_conf.as_deref())?;
        wait_for(&mut child.process, Orphans::Elsewhere)
    });
    match kept {
        Some(kept) if done.is_ok() => kept.report(joins),
        kept => {
            attach::delete(&runtime, joins, &netns);
            kept.into_iter().for_each(Kept::remove);
        }
    }
    guardian.into_iter().for_each(Guardian::dismiss);
    done
}

/// Has the child become the command.
fn hand_over(child: &mut Helper, resolv_conf: Option<&str>) -> Result<(), Failure> {
    let text = Value::from(resolv_conf).to_string();
    let written =
        child.socket.write_all(text.as_bytes()).and_then(|()| child.socket.shutdown(Shutdown::Write));
    written.map_err(|error| space::refused("start the command", error))
}
