//! What people do with networks of one host, on networks over hosts: names, addresses of choice,
//! containers that join and leave while they run, published ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::config::{USUAL, with};
use harness::dns_client::{Question, kind};
use harness::namespace::inside;
use harness::room::Room;
use harness::room::call::Answer;
use harness::stage::portmap::{ask, serve};
use harness::{ip, socket};
use serde_json::{Value, json};

use super::packets_networks::network;
use super::{AMPLE, HOSTS, SECONDS, addresses};

pub const CASES: &[Case] = &[
    Case::new("overlay/names_of_a_network_lead_to_its_containers", &["S-11", "S-12", "S-13", "S-17"], named)
        .needs(HOSTS),
    Case::new("overlay/a_running_container_joins_and_leaves_networks", &["S-14", "S-15", "S-16"], joins)
        .needs(HOSTS),
    Case::new("overlay/published_ports_lead_to_a_container_of_their_host", &["S-34"], published).needs(HOSTS),
];

/// A container on a network, by a list of `overlay`, `portmap` and `dns`.
struct Joined<'c> {
    host: &'c Host<'c>,
    guest: Guest,
    ifname: &'static str,
    name: &'static str,
    server: String,
    list: Vec<Value>,
    ips: Vec<String>,
}

/// The networks of these cases, with the number of their subnets.
fn of(name: &str) -> Value {
    network(name, if name == "dev" { 8 } else { 7 }, &json!({}))
}

impl<'c> Joined<'c> {
    /// A new container whose `eth0` is on a network.
    fn new(host: &'c Host<'c>, id: &str, name: &'static str, net: &str, keys: &Value) -> Result<Self> {
        Self::with(host, host.container(id)?, "eth0", name, (net, keys))
    }

    /// An existing one, by a further interface. The keys are a runtime's.
    fn with(
        host: &'c Host<'c>,
        guest: Guest,
        ifname: &'static str,
        name: &'static str,
        (net, keys): (&str, &Value),
    ) -> Result<Self> {
        let overlay = of(net);
        let server = if net == "dev" { "10.8.0.1" } else { "10.7.0.1" }.to_owned();
        let mut joined = Self { host, guest, ifname, name, server, list: vec![], ips: vec![] };
        let runtime = json!({"runtimeConfig": keys});
        let mut result = joined.add(with(&overlay, runtime.clone()))?;
        joined.ips = addresses(&result);
        for plugin in ["portmap", "dns"] {
            let config = json!({"cniVersion": USUAL, "name": net, "type": plugin, "prevResult": result});
            let config = with(&config, runtime.clone());
            let only = if plugin == "dns" { json!({"internal": true}) } else { json!({}) };
            result = joined.add(with(&config, only))?;
        }
        Ok(joined)
    }

    fn call(&self, verb: &str, config: &Value) -> Result<Answer> {
        let plugin = config["type"].as_str().context("a configuration has a type")?;
        let call = self.host.call(plugin, verb, &self.guest).config(config).env("CNI_IFNAME", self.ifname);
        let args = format!("IgnoreUnknown=1;K8S_POD_NAME={}", self.name);
        self.host.run(if self.name.is_empty() { call } else { call.env("CNI_ARGS", args) })
    }

    fn add(&mut self, config: Value) -> Result<Value> {
        let result = self.call("ADD", &config)?.result();
        let result = result.with_context(|| format!("ADD {} on {}", self.guest.id, self.host.name))?;
        self.list.push(config);
        Ok(result)
    }

    fn leave(&self) -> Result<()> {
        self.list.iter().rev().try_for_each(|config| self.call("DEL", config)?.silent())
    }

    fn answers(&self, question: &Question) -> Result<Vec<String>> {
        let server = SocketAddr::new(self.server.parse()?, 53);
        let reply = inside(&self.guest.ns, || question.udp(server));
        let reply = reply.with_context(|| format!("{} asks for {}", self.guest.id, question.name))?;
        Ok(reply.texts().into_iter().map(str::to_owned).collect())
    }

    /// Waits until a name has exactly these addresses, and reaches each.
    fn finds(&self, cluster: &Cluster, name: &str, those: &[&Joined]) -> Result<()> {
        let expected: BTreeSet<_> = those.iter().filter_map(|joined| joined.ips.first()).cloned().collect();
        cluster.until(SECONDS(1), || {
            let found: BTreeSet<_> = self.answers(&Question::new(name, kind::A))?.into_iter().collect();
            ensure!(found == expected, "{} finds {name} at {found:?}, not {expected:?}", self.guest.id);
            expected.iter().try_for_each(|to| self.guest.reach(to, AMPLE).map(drop))
        })?;
        Ok(())
    }

    /// Requires that the name of another's address is this one.
    fn names(&self, other: &Joined, name: &str) -> Result<()> {
        let found = self.answers(&Question::reverse(&other.ips[0])?)?;
        ensure!(found == [name], "{} is called {found:?}, not {name}", other.ips[0]);
        Ok(())
    }
}

fn aliases(alias: &str) -> Value {
    json!({"aliases": [alias]})
}

fn named(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let none = json!({});
    // S-11
    let es = Joined::new(two, "es", "es", "dev", &none)?;
    let dev = Joined::new(one, "shell-dev", "shell", "dev", &none)?;
    let prod = Joined::new(one, "shell-prod", "shell", "prod", &none)?;
    dev.finds(&cluster, "es", &[&es])?;
    dev.names(&es, "es.dev")?;
    prod.finds(&cluster, "es", &[])?;
    // S-12
    dev.finds(&cluster, "redis", &[])?;
    let redis = Joined::new(two, "redis", "redis", "dev", &none)?;
    dev.finds(&cluster, "redis", &[&redis])?;
    redis.leave()?;
    dev.finds(&cluster, "redis", &[])?;
    let other = Joined::new(one, "other", "other", "dev", &aliases("redis"))?;
    dev.finds(&cluster, "redis", &[&other])?;
    // S-13
    let first = Joined::new(one, "prod-es-1", "prod-es-1", "prod", &aliases("es"))?;
    let second = Joined::new(two, "prod-es-2", "prod-es-2", "prod", &aliases("es"))?;
    prod.finds(&cluster, "es", &[&first, &second])?;
    prod.names(&second, "prod-es-2.prod")?;
    let mut heads = BTreeSet::new();
    for _ in 0..12 {
        heads.extend(prod.answers(&Question::new("es", kind::A))?.into_iter().next());
    }
    ensure!(heads.len() == 2, "of 12 answers {heads:?} came first");
    dev.finds(&cluster, "es", &[&es])?;
    // S-17
    let hello = Joined::new(two, "0123456789abcdef", "", "prod", &aliases("hello"))?;
    prod.finds(&cluster, "hello", &[&hello])?;
    prod.names(&hello, "hello.prod")
}

fn joins(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    // S-14
    let chosen = json!({"ips": ["10.8.66.66/16"]});
    let es = Joined::new(two, "es", "es", "dev", &chosen)?;
    ensure!(es.ips[0] == "10.8.66.66", "the address asked for became {:?}", es.ips);
    for outside in ["10.66.66.66/16", "10.8.0.1/16", "10.8.255.255/16"] {
        let config = with(&of("dev"), json!({"runtimeConfig": {"ips": [outside]}}));
        let guest = one.container(&format!("not-{}", outside.replace('/', "-")))?;
        let answer = one.attach("overlay", "ADD", &guest, &config)?;
        ensure!(!answer.succeeded(), "{outside} was given: {}", answer.summary());
    }
    // S-15
    let other = Joined::new(two, "prod-es", "es", "prod", &json!({}))?;
    let running = Joined::new(one, "running", "running", "prod", &json!({}))?;
    running.finds(&cluster, "es", &[&other])?;
    let is_silent = |to: &Joined| match running.guest.reach(&to.ips[0], AMPLE / 6) {
        Ok(_) => bail!("{} is reached", to.ips[0]),
        Err(_) => Ok(()),
    };
    is_silent(&es)?;
    let second = Joined::with(one, running.guest.clone(), "eth1", "running", ("dev", &json!({})))?;
    ensure!(ip::links(Some(&running.guest.ns))?.contains(&"eth1".to_owned()), "there is no eth1");
    // S-16
    running.finds(&cluster, "es", &[&other])?;
    running.finds(&cluster, "es.dev", &[&es])?;
    running.finds(&cluster, "es.prod", &[&other])?;
    es.finds(&cluster, "running", &[&second])?;
    second.leave()?;
    running.finds(&cluster, "es.dev", &[])?;
    running.finds(&cluster, "es", &[&other])?;
    is_silent(&es)
}

fn published(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let port = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let web = Joined::new(one, "web", "web", "dev", &port)?;
    let near = Joined::new(one, "near", "near", "dev", &json!({}))?;
    let far = Joined::new(two, "far", "far", "dev", &json!({}))?;
    let apart = Joined::new(two, "apart", "apart", "prod", &json!({}))?;
    serve(room, &web.guest.ns, 80)?;
    let hosts = [one.name.as_str(), two.name.as_str(), "e1"];
    let guests = [&web, &near, &far, &apart].map(|joined| joined.guest.ns.as_str());
    for from in hosts.into_iter().chain(guests) {
        for (to, outside) in [("192.0.2.11", "192.0.2.1"), ("2001:db8:2::b", "2001:db8:2::1")] {
            let answer = ask(room, Some(from), to, 8080).with_context(|| format!("{from} asks {to}"))?;
            ensure!(answer.starts_with("h1.d/web:80 "), "{from} got {answer:?} of {to}");
            let keeps = from != "e1" || answer.ends_with(&format!(" {outside}"));
            ensure!(keeps, "{from} with {outside} is seen as {answer:?}");
        }
    }
    let refused = |to: IpAddr| inside("e1", || socket::tcp_exchange(SocketAddr::new(to, 8080)));
    ensure!(refused(two.address).is_err(), "a host without the container publishes its port");
    web.leave()?;
    ensure!(refused(one.address).is_err(), "the port is published after DEL");
    Ok(())
}
