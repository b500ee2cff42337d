//! One network over three hosts: containers that reach and resolve each other, one that moves with
//! its address, a host that dies, and an etcd that is away.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::dns_client::{Question, kind};
use harness::room::Room;
use harness::{ip, namespace, socket};
use runtime::{Attachment, Conflist, Runtime};
use serde_json::{Value, json};

use super::{one_line, timed};
use crate::paper::Paper;

const CONFLIST: &str = "89-overlay.conflist";
/// Members of etcd, on none of the hosts.
const MEMBERS: u8 = 3;
/// The shortest time after which a host may be silent.
const SILENT_AFTER_S: u64 = 3;
/// The alias of the containers that do the same.
const ALIAS: &str = "web";
/// How many connections are made while etcd is away.
const QUESTIONS: usize = 100;
/// The time between two of them.
const BETWEEN: Duration = Duration::from_millis(20);

/// The hosts and what runs on them.
struct Stage<'r> {
    cluster: Cluster<'r>,
    list: Conflist,
    runtime: Runtime,
    paper: Paper,
}

/// An attached container.
struct Container {
    host: usize,
    guest: Guest,
    attachment: Attachment,
    ips: Vec<IpAddr>,
    mac: Value,
    server: IpAddr,
}

/// Runs the demo in this room: true when every step passed.
pub fn run(room: &Room) -> Result<bool> {
    println!("Three hosts, one network, and containers on all of them.");
    println!("Everything happens in throwaway namespaces; this machine's network is not touched.");
    let mut stage = Stage::new(room)?;
    let first = ["web-1", "web-2", "web-3"].into_iter().enumerate();
    stage.paper.heading("ADD, on each host: nobody was told of the network before");
    let mut webs = vec![];
    for (host, name) in first {
        webs.extend(stage.add(host, name, Some(ALIAS), None)?);
    }
    let db = stage.add(1, "db", None, None)?;
    let (Some(db), [one, two, three]) = (db, &webs[..]) else { return Ok(stage.paper.verdict()) };

    stage.paper.heading("Who reaches whom (a TCP handshake or its refusal, both ways)");
    stage.matrix(&[one, two, three, &db])?;

    stage.paper.heading("Names, asked on each host: its own responder answers");
    for container in [one, two, three] {
        let all = [one, two, three].map(|web| web.ips[0]);
        stage.resolves(container, ALIAS, &all);
        stage.resolves(container, "db.overlay", &db.ips[..1]);
    }

    let db = stage.moves(db, three)?;
    let Some(db) = db else { return Ok(stage.paper.verdict()) };
    let again = stage.dies([one, two, three])?;
    let Some(again) = again else { return Ok(stage.paper.verdict()) };
    let late = stage.without_etcd(one, two)?;

    stage.paper.heading("DEL, on the hosts that are left");
    for container in [one, two, &db, &again].into_iter().chain(&late) {
        stage.del(container);
    }
    stage.nothing_left()?;
    Ok(stage.paper.verdict())
}

impl<'r> Stage<'r> {
    fn new(room: &'r Room) -> Result<Self> {
        let mut paper = Paper::new();
        paper.heading("The stage");
        let mut list = Conflist::from_file(room.net_d.join(CONFLIST)).context("load the conflist")?;
        list.version = room.newest_common(&list)?;
        let mut runtime = Runtime::new(vec![room.suite.clone()], "/var/lib/cni");
        runtime.timeout = Duration::from_secs(20);
        runtime.forward_stderr = false;
        let types: Vec<_> = list.plugins.iter().map(|plugin| plugin.plugin_type.as_str()).collect();
        paper.line(&format!("plugins    {}", room.suite.display()));
        paper.line(&format!("conflist   {CONFLIST}: {}, CNI {}", types.join(" + "), list.version));
        let (took, cluster) = timed(|| Cluster::new(room, MEMBERS, 3));
        let cluster = cluster?;
        for host in &cluster.hosts {
            host.configure(&cluster.etcd.endpoints(), &json!({"hostTtlS": SILENT_AFTER_S}))?;
            paper.line(&format!("{:<10} {}", host.name, host.address));
        }
        paper.line(&format!("etcd       {}", cluster.etcd.endpoints().join(" ")));
        paper.step("etcd has a quorum", took, Ok(()));
        Ok(Self { cluster, list, runtime, paper })
    }

    fn host(&self, number: usize) -> &Host<'r> {
        &self.cluster.hosts[number]
    }

    /// ADD; `None` if it failed, which is printed.
    fn add(
        &mut self,
        number: usize,
        name: &str,
        alias: Option<&str>,
        asked: Option<IpAddr>,
    ) -> Result<Option<Container>> {
        let guest = self.host(number).container(name)?;
        let mut attachment = Attachment::new(name, format!("/run/netns/{name}"), "eth0");
        attachment.args = vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), name.into())];
        attachment.args.extend(asked.map(|ip| ("IP".into(), ip.to_string())));
        let aliases: Vec<_> = alias.into_iter().collect();
        attachment.capabilities.insert("aliases".into(), json!({self.list.name.as_str(): aliases}));
        let (runtime, list) = (&self.runtime, &self.list);
        let (took, done) =
            timed(|| self.host(number).inside(|| Ok(runtime.add(list, &attachment).map_err(one_line))));
        let what = format!("ADD {name} on {}", self.host(number).name);
        let result = match done? {
            Ok(result) => result,
            Err(error) => {
                self.paper.step(&what, took, Err(error));
                return Ok(None);
            }
        };
        let texts = result["ips"].as_array().into_iter().flatten();
        let ips = texts.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok());
        let ips: Vec<IpAddr> = ips.collect();
        ensure!(ips.len() == 2, "the result has not two addresses: {result}");
        let link = ip::link(Some(&guest.ns), "eth0")?.context("the container has no eth0")?;
        self.paper.step(&format!("{what}: {}", ips[0]), took, Ok(()));
        let server = result["dns"]["nameservers"][0].as_str().context("the result names no server")?;
        let server = server.parse()?;
        Ok(Some(Container { host: number, guest, attachment, ips, mac: link["address"].clone(), server }))
    }

    fn del(&mut self, container: &Container) {
        let host = self.host(container.host);
        let (runtime, list) = (&self.runtime, &self.list);
        let (took, done) = timed(|| {
            host.inside(|| runtime.del(list, &container.attachment).map_err(Into::into))?;
            host.remove(&container.guest)
        });
        let what = format!("DEL {} on {}", container.guest.id, host.name);
        self.step(&what, took, done);
    }

    fn step(&mut self, what: &str, took: Duration, done: Result<()>) {
        self.paper.step(what, took, done.map_err(|error| format!("{error:#}")));
    }

    /// A step that has to hold within a time.
    fn until(&mut self, what: &str, limit: u64, holds: impl Fn(&Self) -> Result<()>) {
        let (took, done) = timed(|| self.cluster.until(Duration::from_secs(limit), || holds(self)).map(drop));
        self.step(what, took, done);
    }

    fn matrix(&mut self, all: &[&Container]) -> Result<()> {
        // ADD returns when etcd has the record; other hosts hear of it milliseconds later.
        self.until("the last host knows the last container", 2, |_| {
            all.iter().try_for_each(|from| all.iter().try_for_each(|to| from.reaches(to.ips[0])))
        });
        for v6 in [0, 1] {
            let names = all.iter().map(|to| format!("{:>13}", to.guest.id)).collect::<String>();
            self.paper.line(&format!("{:<16}{names}", ["IPv4", "IPv6"][v6]));
            for from in all {
                let cells = all.iter().map(|to| {
                    let to = to.ips[v6];
                    namespace::inside(&from.guest.ns, || socket::reach(to, socket::patience())).ok()
                });
                let cells: Vec<_> = cells.collect();
                let cells: Vec<_> = cells.into_iter().map(|time| self.paper.cell(time)).collect();
                let place = format!("{} on {}", from.guest.id, self.host(from.host).name);
                self.paper.line(&format!("{place:<17} {}", cells.join("  ")));
            }
        }
        Ok(())
    }

    fn resolves(&mut self, asker: &Container, name: &str, expected: &[IpAddr]) {
        let what =
            format!("{} on {}: {name}, {}", asker.guest.id, self.host(asker.host).name, counted(expected));
        self.until(&what, 1, |_| asker.resolves(name, expected));
    }

    /// A container is stopped on one host and started on another one, with its address.
    fn moves(&mut self, db: Container, asker: &Container) -> Result<Option<Container>> {
        let to = 0;
        let what =
            format!("{} moves from {} to {}", db.guest.id, self.host(db.host).name, self.host(to).name);
        self.paper.heading(&format!("{what}, with its address"));
        self.del(&db);
        let Some(moved) = self.add(to, "db", None, Some(db.ips[0]))? else { return Ok(None) };
        let same = ensure_same(&db, &moved);
        self.step("it has the address and the MAC of before", Duration::ZERO, same);
        let what = format!("{} on {} reaches it", asker.guest.id, self.host(asker.host).name);
        self.until(&what, 2, |_| asker.reaches(moved.ips[0]));
        self.resolves(asker, "db.overlay", &moved.ips[..1]);
        Ok(Some(moved))
    }

    /// A host dies: names avoid it, the others go on, and its container starts elsewhere.
    fn dies(&mut self, [one, two, three]: [&Container; 3]) -> Result<Option<Container>> {
        let dead = self.host(three.host).name.clone();
        self.paper.heading(&format!("{dead} dies"));
        self.host(three.host).die()?;
        let (took, done) = timed(|| one.reaches(two.ips[0]));
        self.step("web-1 on h1 still reaches web-2 on h2", took, done);
        let left = [one.ips[0], two.ips[0]];
        self.until(&format!("the alias {ALIAS} leaves its container out"), SILENT_AFTER_S + 7, |_| {
            one.resolves(ALIAS, &left)?;
            two.resolves(ALIAS, &left)
        });
        self.resolves(one, "web-3.overlay", &three.ips[..1]);
        let (took, gone) = timed(|| self.host(0).overlay(&["host", "remove", &dead, "--dead"]));
        let gone = gone.and_then(|answer| {
            ensure!(answer.succeeded(), "{}", answer.summary());
            Ok(())
        });
        self.step(&format!("overlay host remove {dead} --dead"), took, gone);
        let Some(again) = self.add(1, "web-3", Some(ALIAS), Some(three.ips[0]))? else { return Ok(None) };
        self.step("it has the address and the MAC of before", Duration::ZERO, ensure_same(three, &again));
        self.until("web-1 on h1 reaches it", 2, |_| one.reaches(again.ips[0]));
        self.resolves(one, ALIAS, &[one.ips[0], two.ips[0], again.ips[0]]);
        Ok(Some(again))
    }

    /// All members of etcd are killed, and come back.
    fn without_etcd(&mut self, one: &Container, two: &Container) -> Result<Option<Container>> {
        self.paper.heading("etcd is stopped: nothing is taken away");
        self.cluster.etcd.all(false)?;
        let began = Instant::now();
        let lost = (0..QUESTIONS).filter(|_| {
            std::thread::sleep(BETWEEN);
            one.reaches(two.ips[0]).is_err()
        });
        let lost = lost.count();
        let held = if lost == 0 { Ok(()) } else { Err(anyhow::anyhow!("{lost} were lost")) };
        self.step(&format!("{QUESTIONS} connections of web-1 to web-2, none lost"), began.elapsed(), held);
        self.resolves(one, "web-2.overlay", &two.ips[..1]);
        let late = self.add(0, "late", None, None)?;
        let Some(late) = late else { return Ok(None) };
        let (took, done) = timed(|| late.reaches(one.ips[0]));
        self.step("late reaches web-1 on its host", took, done);
        self.cluster.etcd.all(true)?;
        self.until("etcd is back: web-2 on h2 resolves late", 10, |_| {
            two.resolves("late.overlay", &late.ips[..1])
        });
        self.until("and reaches it", 2, |_| two.reaches(late.ips[0]));
        Ok(Some(late))
    }

    fn nothing_left(&mut self) -> Result<()> {
        self.paper.heading("What is left");
        let records = || {
            let keys = self.cluster.etcd.keys("ep/")?;
            ensure!(keys.is_empty(), "{}", keys.join("\n"));
            Ok(())
        };
        let (took, done) = timed(|| self.cluster.until(Duration::from_secs(2), records).map(drop));
        self.step("of the containers, in etcd: nothing", took, done);
        for number in [0, 1] {
            let host = self.host(number);
            let mut left: Vec<String> =
                host.links()?.into_iter().map(|link| format!("link {link}")).collect();
            left.extend(host.inside(|| Ok(leases("/var/lib/cni/networks/overlay")))?);
            let held = if left.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(left.join("\n"))) };
            let what = format!("of the containers, on {}: nothing", host.name);
            self.step(&what, Duration::ZERO, held);
        }
        Ok(())
    }
}

impl Container {
    fn reaches(&self, to: IpAddr) -> Result<()> {
        self.guest.reach(&to.to_string(), Duration::from_millis(700)).map(drop)
    }

    /// Requires that a name has exactly these IPv4 addresses.
    fn resolves(&self, name: &str, expected: &[IpAddr]) -> Result<()> {
        let question = Question::new(name, kind::A);
        let server = SocketAddr::new(self.server, 53);
        let reply = namespace::inside(&self.guest.ns, || question.udp(server))?;
        let expected: BTreeSet<_> = expected.iter().map(IpAddr::to_string).collect();
        let found: BTreeSet<_> = reply.texts().into_iter().map(str::to_owned).collect();
        ensure!(found == expected, "{name} resolves to {found:?}, not {expected:?}");
        Ok(())
    }
}

fn ensure_same(before: &Container, now: &Container) -> Result<()> {
    ensure!(
        before.ips[0] == now.ips[0] && before.mac == now.mac,
        "it had {} {}, and has {} {}",
        before.ips[0],
        before.mac,
        now.ips[0],
        now.mac
    );
    Ok(())
}

fn counted(addresses: &[IpAddr]) -> String {
    match addresses {
        [one] => one.to_string(),
        all => format!("{} addresses", all.len()),
    }
}

/// The leases in a directory.
fn leases(dir: &str) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.parse::<IpAddr>().is_ok()).map(|name| format!("lease {name}")).collect()
}
