//! The second part: ports that are reachable from outside, and names instead of addresses.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::dns_client::{Question, kind};
use harness::namespace::OUTSIDE;
use harness::room::Room;
use harness::stage::dns::{ask, resolve};
use harness::stage::portmap;
use harness::stage::upstream::Upstream;
use runtime::{Attachment, Conflist, Runtime};
use serde_json::{Value, json};

use super::{HOST, one_line, timed};
use crate::paper::Paper;

const CONFLIST: &str = "70-dns.conflist";
const PORT: u16 = 8080;
/// The answer of the outside's name server for every name.
const ELSEWHERE: &str = "203.0.113.9";

/// Two containers with the same service under one alias; the first one publishes its port.
pub struct Shops {
    list: Conflist,
    shops: Vec<(Attachment, Value)>,
}

impl Shops {
    /// Attaches them.
    pub fn open(room: &Room, paper: &mut Paper, runtime: &Runtime) -> Result<Self> {
        paper.heading("Ports and names: two more containers, on a network with portmap and dns");
        let mut list = Conflist::from_file(room.net_d.join(CONFLIST)).context("load the conflist")?;
        list.version = room.newest_common(&list)?;
        // The servers in the machine's own resolv.conf are not reachable from here.
        let dns = list.plugins.iter_mut().find(|plugin| plugin.plugin_type == "dns");
        let dns = dns.context("the conflist has no dns")?;
        dns.object.insert("upstreams".into(), json!([OUTSIDE[0]]));
        paper.line(&format!("conflist   {CONFLIST}; names of the outside by a server at {}", OUTSIDE[0]));
        let mut shops = vec![];
        for name in ["shop-1", "shop-2"] {
            let container = room.container(name)?;
            let mut attachment = Attachment::new(name, container.path.display().to_string(), "eth0");
            attachment.args =
                vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), name.into())];
            attachment.capabilities.insert("aliases".into(), json!({list.name.as_str(): ["shop"]}));
            if name == "shop-1" {
                let mappings = json!([{"hostPort": PORT, "containerPort": 80, "protocol": "tcp"}]);
                attachment.capabilities.insert("portMappings".into(), mappings);
            }
            let (took, done) = timed(|| runtime.add(&list, &attachment));
            match done {
                Ok(result) => {
                    paper.step(&format!("ADD {name} eth0"), took, Ok(()));
                    shops.push((attachment, result));
                }
                Err(error) => paper.step(&format!("ADD {name} eth0"), took, Err(one_line(error))),
            }
        }
        Ok(Self { list, shops })
    }

    /// The bridge that remains of their network.
    pub fn bridge(&self) -> Vec<&str> {
        super::bridge_of(&self.list)
    }

    /// Who reaches the published port, and which client address the container sees.
    pub fn ports(&self, room: &Room, paper: &mut Paper) -> Result<()> {
        if self.shops.len() < 2 {
            return Ok(());
        }
        paper.heading(&format!("Port {PORT} of the host is port 80 of shop-1"));
        portmap::serve(room, "shop-1", 80)?;
        for v6 in [false, true] {
            let host = HOST[usize::from(v6)];
            let mut from = vec![
                ("the outside", Some("outside"), host, Some(OUTSIDE[usize::from(v6)])),
                ("the host", None, host, Some(host)),
                ("shop-2, at the host's address", Some("shop-2"), host, None),
                ("shop-1 itself, there too", Some("shop-1"), host, None),
            ];
            if !v6 {
                from.insert(2, ("the host, at localhost", None, "127.0.0.1", None));
            }
            for (who, ns, to, client) in from {
                let (took, reply) = timed(|| portmap::ask(room, ns, to, PORT));
                let held = reply.map_err(|error| format!("{error:#}")).and_then(|reply| {
                    let right = client.is_none_or(|client| reply == format!("shop-1:80 {client}"));
                    if right { Ok(()) } else { Err(format!("the reply is {reply:?}")) }
                });
                let family = if v6 { "IPv6" } else { "IPv4" };
                paper.step(&format!("{family}: {who}"), took, held);
            }
        }
        paper.line("the container sees the outside's and the host's own addresses");
        Ok(())
    }

    /// The addresses of names.
    pub fn names(&self, room: &Room, paper: &mut Paper) -> Result<()> {
        let [first, second] = self.shops.as_slice() else { return Ok(()) };
        paper.heading("Names, queried from inside shop-2");
        let _outside = Upstream::start(room, Some("outside"), OUTSIDE[0], ELSEWHERE)?;
        let server = first.1["dns"]["nameservers"][0].as_str().context("the result names no server")?;
        paper.line(&format!("nameserver {server}, from the result of ADD"));
        let own = |shop: &(Attachment, Value), v6| portmap::address(&json!({"prevResult": shop.1}), v6);
        let asked = |what: &str, kind| -> Result<Vec<String>> {
            let reply = ask(room, Some("shop-2"), server, &Question::new(what, kind))?;
            Ok(reply.texts().into_iter().map(str::to_owned).collect())
        };
        let addresses = |v6| vec![own(first, v6)];
        let both = vec![own(first, false), own(second, false)];
        let reverse = Question::reverse(&own(first, false))?.name;
        let expectations = [
            ("shop-1, A", "shop-1", kind::A, addresses(false)),
            ("shop-1.moor.internal, AAAA", "shop-1.moor.internal", kind::AAAA, addresses(true)),
            ("the alias shop: both", "shop", kind::A, both),
            ("who has shop-1's address", &reverse, kind::PTR, vec!["shop-1.moor.internal".to_owned()]),
            ("www.moor.test, of the outside", "www.moor.test", kind::A, vec![ELSEWHERE.to_owned()]),
        ];
        for (what, name, kind, expected) in expectations {
            let (took, reply) = timed(|| asked(name, kind));
            let held = reply.and_then(|reply| {
                let equal = reply.iter().collect::<BTreeSet<_>>() == expected.iter().collect();
                ensure!(equal, "the answer is {reply:?}, not {expected:?}");
                Ok(())
            });
            paper.step(what, took, held.map_err(|error| format!("{error:#}")));
        }
        Ok(())
    }

    /// DEL of both: a name is gone when its DEL returns.
    pub fn close(&self, room: &Room, paper: &mut Paper, runtime: &Runtime) {
        paper.heading("DEL of these, too");
        for (attachment, result) in &self.shops {
            let name = &attachment.container_id;
            let (took, done) = timed(|| runtime.del(&self.list, attachment));
            paper.step(&format!("DEL {name}"), took, done.map_err(one_line));
            let server = result["dns"]["nameservers"][0].as_str().unwrap_or_default();
            let Some(other) = self.shops.last().filter(|last| last.0.container_id != *name) else { continue };
            let whole = format!("{name}.moor.internal");
            let (took, reply) = timed(|| resolve(room, Some(&other.0.container_id), server, &whole));
            let held = match reply {
                Ok(reply) if reply.is_empty() => Ok(()),
                Ok(reply) => Err(format!("it resolves to {reply:?}")),
                Err(error) => Err(format!("{error:#}")),
            };
            paper.step(&format!("the name {whole} is gone"), took, held);
        }
    }
}
