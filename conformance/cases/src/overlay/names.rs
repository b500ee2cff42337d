//! Names of containers on all hosts, answered by the responder of each host.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::config::{USUAL, with};
use harness::dns_client::{Question, Reply, kind, rcode};
use harness::namespace;
use harness::patience::{ensure_prompt, on_this_machine};
use harness::room::Room;
use harness::stage::dns::{responder, state_dirs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{HOSTS, SECONDS, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/names_follow_add_and_del_on_every_host", &["O-040"], follow).needs(HOSTS),
    Case::new("overlay/an_alias_has_the_addresses_of_all_hosts", &["O-041"], alias).needs(HOSTS),
    Case::new("overlay/names_never_vanish_with_a_silent_host", &["O-042"], silent).needs(HOSTS),
    Case::new("overlay/names_of_other_hosts_need_no_agent", &["O-043"], restarted).needs(HOSTS),
    Case::new("overlay/a_network_sees_no_names_of_another", &["O-044"], apart).needs(HOSTS),
    Case::new("overlay/a_list_without_dns_publishes_names", &["O-045"], without_dns).needs(HOSTS),
];

/// The promised time for a name to follow its container: on a busy machine, at best.
const SOON: Duration = Duration::from_millis(50);
/// The longest time, whatever else the machine does.
const LATE: Duration = Duration::from_secs(2);
/// The name server of containers on `front`: the gateway, which every host has.
const SERVER: &str = "10.9.0.1";

/// A container with names.
pub(super) struct Named<'a> {
    host: &'a Host<'a>,
    pub(super) guest: Guest,
    server: &'static str,
    /// Its keys of `overlay`: the network's, its own name and aliases.
    overlay: Value,
    ips: Vec<String>,
    dns: Value,
}

impl<'a> Named<'a> {
    /// ADD of `overlay`; the name server of its network.
    fn overlay(
        host: &'a Host<'a>,
        id: &str,
        aliases: &[&str],
        net: &Value,
        server: &'static str,
    ) -> Result<Self> {
        let overlay = with(net, json!({"runtimeConfig": {"aliases": aliases}}));
        let guest = host.container(id)?;
        let mut named = Self { host, guest, server, overlay, ips: vec![], dns: Value::Null };
        named.add()?;
        Ok(named)
    }

    /// The same on `front`, and ADD of `dns`.
    pub(super) fn new(host: &'a Host<'a>, id: &str, aliases: &[&str]) -> Result<Self> {
        let named = Self::overlay(host, id, aliases, &config(&json!({})), SERVER)?;
        named.dns()?;
        Ok(named)
    }

    fn call(&self, plugin: &str, verb: &str, config: &Value) -> Result<harness::room::call::Answer> {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAME={}", self.guest.id);
        self.host.run(self.host.call(plugin, verb, &self.guest).config(config).env("CNI_ARGS", args))
    }

    fn add(&mut self) -> Result<()> {
        let result = self.call("overlay", "ADD", &self.overlay)?.result();
        let result = result.with_context(|| format!("ADD {} on {}", self.guest.id, self.host.name))?;
        self.ips = addresses(&result);
        self.dns = json!({
            "cniVersion": USUAL, "name": self.overlay["name"], "type": "dns", "internal": true,
            "prevResult": result, "runtimeConfig": self.overlay["runtimeConfig"],
        });
        Ok(())
    }

    fn dns(&self) -> Result<()> {
        let result = self.call("dns", "ADD", &self.dns)?.result()?;
        let servers = result["dns"]["nameservers"].as_array().context("no servers")?;
        ensure!(servers.iter().any(|server| server == self.server), "the servers are {servers:?}");
        Ok(())
    }

    pub(super) fn del(&self) -> Result<()> {
        self.call("dns", "DEL", &self.dns)?.silent()?;
        self.call("overlay", "DEL", &self.overlay)?.silent()
    }

    fn ask(&self, question: &Question) -> Result<Reply> {
        let server = SocketAddr::new(self.server.parse()?, 53);
        namespace::inside(&self.guest.ns, || question.udp(server))
            .with_context(|| format!("{} of {} queries for {}", self.guest.id, self.host.name, question.name))
    }

    /// Requires exactly these answers, in any order; none: that the name does not exist.
    fn expect(&self, question: &Question, expected: &[&str]) -> Result<()> {
        let reply = self.ask(question)?;
        let (found, wanted) =
            (BTreeSet::from_iter(reply.texts()), BTreeSet::from_iter(expected.iter().copied()));
        ensure!(
            found == wanted && (reply.rcode() == rcode::NXDOMAIN) == wanted.is_empty(),
            "{} of {} queried for {}: {found:?} (code {}), not {wanted:?}",
            self.guest.id,
            self.host.name,
            question.name,
            reply.rcode()
        );
        Ok(())
    }

    /// The same for the IPv4 addresses of a name.
    pub(super) fn resolves(&self, name: &str, expected: &[&str]) -> Result<()> {
        self.expect(&Question::new(name, kind::A), expected)
    }

    pub(super) fn v4(&self) -> &str {
        self.ips.first().map_or("", String::as_str)
    }
}

/// How long after a call returned something held: [`LATE`] at most.
fn took(since: Instant, holds: impl Fn() -> Result<()>) -> Result<Duration> {
    let limit = on_this_machine(LATE);
    loop {
        let at = since.elapsed();
        match holds() {
            Ok(()) => return Ok(at),
            Err(error) if at > limit => return Err(error.context(format!("{} ms after", at.as_millis()))),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn follow(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let [one, two, three] = &cluster.hosts[..] else { unreachable!("three were asked for") };
    let askers = [two, three].map(|host| Named::new(host, "asker", &[]));
    let askers = askers.into_iter().collect::<Result<Vec<_>>>()?;
    let mut web = Named::new(one, "web-1", &["web"])?;
    let (mut added, mut deleted) = (Duration::MAX, Duration::MAX);
    for round in 0..20 {
        // After ADD of `overlay` alone for others, and after that of `dns` on its own host.
        if round > 0 {
            web.add()?;
        }
        let since = Instant::now();
        let reverse = web.ips.iter().map(|ip| Question::reverse(ip)).collect::<Result<Vec<_>>>()?;
        let [v4, v6] = &web.ips[..] else { bail!("addresses are {:?}", web.ips) };
        let knows = |asker: &Named<'_>| -> Result<()> {
            for name in ["web-1", "web", "web-1.front", "web.front"] {
                asker.expect(&Question::new(name, kind::A), &[v4])?;
                asker.expect(&Question::new(name, kind::AAAA), &[v6])?;
            }
            reverse.iter().try_for_each(|question| asker.expect(question, &["web-1.front"]))
        };
        for asker in &askers {
            let took = took(since, || knows(asker)).with_context(|| format!("round {round}, ADD"))?;
            added = added.min(took);
        }
        if round > 0 {
            web.dns()?;
        }
        knows(&web)?;
        web.del()?;
        let since = Instant::now();
        for asker in &askers {
            let forgot = || {
                ["web-1", "web", "web-1.front"].iter().try_for_each(|name| asker.resolves(name, &[]))?;
                reverse.iter().try_for_each(|question| asker.expect(question, &[]))
            };
            let took = took(since, forgot).with_context(|| format!("round {round}, DEL"))?;
            deleted = deleted.min(took);
        }
    }
    // The quickest: how busy the machine was is no matter of names.
    ensure_prompt("a name of a new container on another host", added, SOON)?;
    ensure_prompt("the end of a name on another host", deleted, SOON)
}

fn alias(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let webs = (cluster.hosts.iter().zip(["web-1", "web-2", "web-3"]))
        .map(|(host, id)| Named::new(host, id, &["web"]))
        .collect::<Result<Vec<_>>>()?;
    let all: Vec<&str> = webs.iter().map(Named::v4).collect();
    for asker in &webs {
        cluster.until(SECONDS(1), || asker.resolves("web", &all))?;
        let mut first = BTreeSet::new();
        for _ in 0..12 {
            let reply = asker.ask(&Question::new("web", kind::A))?;
            first.extend(reply.texts().first().map(|text| (*text).to_owned()));
        }
        ensure!(first.len() == 3, "on {} only {first:?} came first", asker.host.name);
    }
    Ok(())
}

fn silent(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    for host in &cluster.hosts {
        host.configure(&cluster.etcd.endpoints(), &json!({"hostTtlS": 3}))?;
    }
    let [one, two, three] = &cluster.hosts[..] else { unreachable!("three were asked for") };
    let asker = Named::new(one, "asker", &[])?;
    let lost = Named::new(two, "only", &["app"])?;
    let stays = Named::new(three, "other", &["app"])?;
    let both = [lost.v4(), stays.v4()];
    cluster.until(SECONDS(1), || asker.resolves("app", &both))?;
    let ended = AtomicBool::new(false);
    // Both names answer at any time, on the hosts that can be asked.
    let watched = || -> Result<usize> {
        for count in 1.. {
            for (name, allowed) in [("only", &both[..1]), ("app", &both[..])] {
                let reply = asker.ask(&Question::new(name, kind::A))?;
                let texts = reply.texts();
                let right = !texts.is_empty() && texts.iter().all(|text| allowed.contains(text));
                ensure!(right, "{name} is {texts:?} (code {})", reply.rcode());
            }
            if ended.load(Ordering::Relaxed) {
                return Ok(count);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(0)
    };
    let flaps = || -> Result<()> {
        for round in 0..2 {
            cluster.cut(&two.name)?;
            let left_out = || asker.resolves("app", &both[1..]);
            cluster.until(SECONDS(8), left_out).with_context(|| format!("round {round}, cut"))?;
            asker.resolves("only", &both[..1])?;
            // Whoever is cut off knows no better, and answers as before.
            lost.resolves("app", &both)?;
            cluster.heal(&two.name)?;
            let alive = || {
                let hosts = cluster.etcd.keys("alive/")?;
                ensure!(hosts.len() == 3, "{hosts:?} are alive");
                Ok(())
            };
            cluster.until(SECONDS(12), alive).with_context(|| format!("round {round}, healed"))?;
            let back = || asker.resolves("app", &both);
            cluster.until(SECONDS(1), back).with_context(|| format!("round {round}, back"))?;
        }
        Ok(())
    };
    let (flapped, asked) = std::thread::scope(|scope| {
        let watch = scope.spawn(watched);
        let flapped = flaps();
        ended.store(true, Ordering::Relaxed);
        (flapped, watch.join().unwrap_or_else(|_| bail!("the asker panicked")))
    });
    flapped?;
    let asked = asked.context("while the host was cut off and came back")?;
    ensure!(asked > 100, "asked only {asked} times");
    Ok(())
}

fn restarted(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let far = Named::new(one, "far", &[])?;
    let asker = Named::new(two, "asker", &[])?;
    let answers = || asker.resolves("far", &[far.v4()]);
    cluster.until(SECONDS(1), answers)?;
    two.signal_agent(Signal::SIGKILL)?;
    answers().context("without an agent")?;
    restart_responder(&cluster, &asker)?;
    answers().context("by a responder that started without an agent")?;
    ensure!(two.agent()?.is_none(), "CHECK of dns started an agent");
    // One that does not run any more, and one that does not answer.
    let config = with(&asker.overlay, json!({"cniVersion": "1.1.0"}));
    asker.call("overlay", "STATUS", &config)?.silent()?;
    two.signal_agent(Signal::SIGSTOP)?;
    restart_responder(&cluster, &asker)?;
    answers().context("by a responder that started beside a stopped agent")?;
    two.signal_agent(Signal::SIGCONT)?;
    far.del()?;
    cluster.until(SECONDS(1), || asker.resolves("far", &[])).map(drop)
}

/// Kills the responder of a container's host, and has another one start.
fn restart_responder(cluster: &Cluster<'_>, named: &Named<'_>) -> Result<()> {
    let running = || named.host.inside(|| Ok(state_dirs().iter().find_map(|place| responder(place))));
    let pid = running()?.context("no responder runs")?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
    cluster.until(SECONDS(2), || {
        ensure!(running()?.is_none(), "the killed responder runs");
        Ok(())
    })?;
    named.call("dns", "CHECK", &named.dns)?.silent()
}

fn apart(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let ipam = json!({"type": "cluster", "subnets": ["10.10.0.0/16", "fd00:10::/64"]});
    let back = config(&json!({"name": "back", "ipam": ipam}));
    // `web` is on both networks, and `db` on the other one alone.
    let mut fronts = vec![];
    let mut backs = vec![];
    for (host, nth) in [(one, 1), (two, 2)] {
        fronts.push(Named::new(host, &format!("front-{nth}"), &["web"])?);
        let named = Named::overlay(host, &format!("back-{nth}"), &["web", "db"], &back, "10.10.0.1")?;
        named.dns()?;
        backs.push(named);
    }
    let v4 =
        |named: &[Named<'_>]| -> Vec<String> { named.iter().map(|named| named.v4().to_owned()).collect() };
    let (of_front, of_back) = (v4(&fronts), v4(&backs));
    for (named, own) in fronts.iter().zip([&of_front; 2]).chain(backs.iter().zip([&of_back; 2])) {
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        cluster.until(SECONDS(1), || named.resolves("web", &own))?;
    }
    let hidden = |asker: &Named<'_>, names: &[&str], ips: &[Named<'_>]| -> Result<()> {
        let forward = names.iter().map(|name| Ok(Question::new(name, kind::A)));
        let reverse = ips.iter().flat_map(|named| &named.ips).map(|ip| Question::reverse(ip));
        for question in forward.chain(reverse).collect::<Result<Vec<_>>>()? {
            let reply = asker.ask(&question)?;
            ensure!(reply.texts().is_empty(), "{}: {:?}", question.name, reply.texts());
        }
        Ok(())
    };
    for asker in &fronts {
        let names = ["db", "back-1", "back-2", "back-1.back", "web.back", "back-1.front", "db.front"];
        hidden(asker, &names, &backs)?;
    }
    for asker in &backs {
        hidden(asker, &["front-1", "front-2", "front-1.front", "web.front"], &fronts)?;
    }
    Ok(())
}

fn without_dns(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let asker = Named::new(two, "asker", &[])?;
    let named = Named::overlay(one, "plain", &["www"], &config(&json!({})), SERVER)?;
    let since = Instant::now();
    for name in ["plain", "www", "plain.front", "www.front"] {
        took(since, || asker.resolves(name, &[named.v4()]))?;
    }
    one.inside(|| {
        ensure!(state_dirs().iter().all(|place| responder(place).is_none()), "a responder runs");
        Ok(())
    })?;
    named.call("overlay", "DEL", &named.overlay)?.silent()?;
    let since = Instant::now();
    took(since, || ["plain", "www"].iter().try_for_each(|name| asker.resolves(name, &[]))).map(drop)
}
