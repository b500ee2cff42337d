//! Addresses of `cluster`: each given once, asked for, moved between hosts, and given back.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::config::with;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{AMPLE, FIRST, HOSTS, SECONDS, add, addresses, config};

const HOSTS_AND_MACVLAN: &[Need] = &[Need::Etcd, Need::Overlay, Need::Macvlan];

pub const CASES: &[Case] = &[
    Case::new("overlay/three_cold_hosts_give_no_address_twice", &["O-001", "S-36"], unique).needs(HOSTS),
    Case::new("overlay/ten_cold_hosts_share_sixteen_blocks", &["O-002"], ten).needs(HOSTS),
    Case::new("overlay/an_address_asked_for_is_given_or_refused_by_name", &["O-005"], asked).needs(HOSTS),
    Case::new("overlay/an_address_moves_with_its_container", &["O-006", "O-005"], moves).needs(HOSTS),
    Case::new("overlay/a_full_host_borrows_and_the_last_address_is_found", &["O-007"], borrows).needs(HOSTS),
    Case::new("overlay/addresses_are_unique_under_bridge_and_macvlan", &["O-010"], others)
        .needs(HOSTS_AND_MACVLAN),
    Case::new("overlay/a_freed_address_rests_while_another_is_free", &["O-012"], rests).needs(HOSTS),
    Case::new("overlay/links_come_and_go_with_the_only_container", &["O-092"], churn).needs(HOSTS),
];

/// A network with this `ipam` beside the plugin.
pub(super) fn sized(subnet: &str, block: u32, keys: Value) -> Value {
    let ipam = with(&json!({"type": "cluster", "subnets": [subnet], "blockSize": block}), keys);
    config(&json!({"ipam": ipam}))
}

fn asking(config: &Value, address: &str) -> Value {
    with(config, json!({"runtimeConfig": {"ips": [format!("{address}/16")]}}))
}

/// The same work on all hosts at once.
fn on_all<'h, 'r, T: Send>(
    hosts: &'h [Host<'r>],
    work: impl Fn(&'h Host<'r>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let hosts: Vec<_> = hosts.iter().map(|host| scope.spawn(move || work(host))).collect();
        hosts.into_iter().map(|host| host.join().map_err(|_| anyhow::anyhow!("panicked"))?).collect()
    })
}

/// The id of a host.
pub(super) fn id(host: &Host<'_>) -> Result<String> {
    let text = host.inside(|| Ok(std::fs::read_to_string("/var/lib/moor/overlay/host.json")?))?;
    let identity: Value = serde_json::from_str(&text)?;
    identity["id"].as_str().map(str::to_owned).context("no id")
}

/// Adds a container, and returns its only address.
fn one_address(host: &Host<'_>, id: &str, config: &Value) -> Result<String> {
    Ok(addresses(&add(host, id, config)?.1).remove(0))
}

fn unique(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let config = config(&json!({}));
    let given = on_all(&cluster.hosts, |host| {
        // Two at a time on each host, so that they meet at its ledger, too.
        std::thread::scope(|scope| {
            let half = |from: u32| {
                let config = &config;
                move || -> Result<Vec<String>> {
                    let mut given = vec![];
                    for nth in from..from + 50 {
                        given.extend(addresses(&add(host, &format!("c{nth}"), config)?.1));
                    }
                    Ok(given)
                }
            };
            let other = scope.spawn(half(50));
            let mut given = half(0)()?;
            given.extend(other.join().map_err(|_| anyhow::anyhow!("panicked"))??);
            Ok(given)
        })
    })?;
    let all: BTreeSet<_> = given.iter().flatten().collect();
    ensure!(all.len() == 600, "{} of 600 differ", all.len());
    for (host, given) in cluster.hosts.iter().zip(&given) {
        let host = id(host)?;
        let own = cluster.etcd.value(&format!("own/front/{host}"))?;
        let own = own["ips"].as_array().context("own addresses")?.iter().filter_map(Value::as_str);
        for address in own.chain(["10.9.0.0", "10.9.0.1", "10.9.255.255", "fd00:9::", "fd00:9::1"]) {
            ensure!(!all.iter().any(|given| *given == address), "{address} was given");
        }
        for block in given.iter().filter_map(|address| block_of(address, 64)).collect::<BTreeSet<_>>() {
            let owner = cluster.etcd.value(&format!("blk/front/{block}"))?;
            ensure!(owner["host"] == json!(host), "the block {block} is {owner}, and host {host} gave of it");
        }
    }
    Ok(())
}

/// The block of an IPv4 address of a subnet of /24 or shorter.
fn block_of(address: &str, size: u32) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = address.parse().ok()?;
    Some((address.to_bits() / size * size).into())
}

fn ten(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 10)?;
    let config = sized("10.9.0.0/25", 8, json!({}));
    on_all(&cluster.hosts, |host| add(host, "c", &config).map(drop))?;
    let mut owners = BTreeSet::new();
    let blocks = cluster.etcd.keys("blk/front/")?;
    for block in &blocks {
        let owner = cluster.etcd.value(block)?["host"].as_str().map(str::to_owned);
        owners.insert(owner.context("a block without owner")?);
    }
    ensure!(owners.len() == 10, "{} hosts have blocks: {blocks:?}", owners.len());
    // Each block is a key that was claimed once. How many claims failed, etcd knows.
    let member = &cluster.etcd.members[0];
    let metrics = harness::namespace::inside(&member.name, || {
        let address = member.endpoint().replace("http://", "");
        let mut stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(SECONDS(5)))?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    let count = |name: &str| -> Result<f64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("no {name}"))?.trim().parse().context("a number")
    };
    let asked = count(
        r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#,
    )?;
    let text = cluster.etcd.ctl(&["get", "none", "-w", "json"])?;
    let revision =
        serde_json::from_str::<Value>(&text)?["header"]["revision"].as_f64().context("revision")?;
    // A claim and whatever else failed, of ten hosts that had to make one network.
    let failed = asked - (revision - 1.0);
    ensure!(failed <= 20.0 + 10.0, "{failed} transactions of {asked} failed for 10 claims");
    Ok(())
}

fn asked(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    for host in &cluster.hosts {
        host.configure(&cluster.etcd.endpoints(), &json!({"timeoutMs": 2000}))?;
    }
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let config = sized("10.9.0.0/16", 64, json!({}));
    let first = one_address(one, "c1", &config)?;
    one_address(two, "c2", &config)?;
    let block = block_of(&first, 64).context("no block")?.to_bits();
    let [own, lent, later] = [40, 41, 42].map(|nth| Ipv4Addr::from(block + nth).to_string());
    ensure!(one_address(one, "own", &asking(&config, &own))? == own, "an own address");
    ensure!(cluster.etcd.keys("lent/")?.is_empty(), "an address of an own block was borrowed");
    ensure!(one_address(one, "free", &asking(&config, "10.9.255.7"))? == "10.9.255.7", "of a free block");
    let owner = cluster.etcd.value("blk/front/10.9.255.0")?;
    ensure!(owner["host"] == json!(id(one)?), "the block of an address asked for is {owner}");
    ensure!(one_address(two, "lent", &asking(&config, &lent))? == lent, "of another host's block");
    let loan = cluster.etcd.value(&format!("lent/front/{lent}"))?;
    ensure!(loan["from"] == json!(id(one)?) && loan["to"] == json!(id(two)?), "the loan is {loan}");
    let refused = |host: &Host<'_>, id: &str, address: &str| {
        let guest = host.container(id)?;
        let began = Instant::now();
        let answer = host.attach("overlay", "ADD", &guest, &asking(&config, address))?;
        let error = answer.error_code(11).with_context(|| format!("{address} for {id}"))?;
        Ok::<_, anyhow::Error>((error.msg, began.elapsed()))
    };
    let (text, _) = refused(two, "third", &first)?;
    ensure!(text.contains("h1") && text.contains("c1"), "{first} is in use there: {text}");
    let (text, _) = refused(one, "fourth", &lent)?;
    ensure!(text.contains("h2") && text.contains("lent"), "{lent} is lent: {text}");
    one.signal_agent(Signal::SIGSTOP)?;
    let silent = refused(two, "fifth", &later);
    one.signal_agent(Signal::SIGCONT)?;
    let (text, took) = silent?;
    ensure!(text.contains("h1") && text.contains("does not answer"), "the owner is silent: {text}");
    ensure!(
        took <= harness::patience::on_this_machine(SECONDS(2) + SECONDS(1) / 2),
        "refused after {took:?}"
    );
    ensure!(two.links()?.iter().filter(|name| name.starts_with("veth")).count() == 2, "something is left");
    Ok(())
}

fn moves(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let [one, two, three] = &cluster.hosts[..] else { unreachable!("three were asked for") };
    let (asker, _) = add(three, "asker", &config(&json!({})))?;
    let (first, result) = add(one, "moving", &config(&json!({})))?;
    let address = addresses(&result).remove(0);
    let asked = config(&json!({"runtimeConfig": {"ips": [format!("{address}/16")]}}));
    let mac = |guest: &Guest| {
        Ok::<_, anyhow::Error>(ip::link(Some(&guest.ns), "eth0")?.context("no eth0")?["address"].clone())
    };
    let its_mac = mac(&first)?;
    let mut at = (one, first);
    for round in 0..20 {
        at.0.attach("overlay", "DEL", &at.1, &config(&json!({})))?.silent()?;
        at.0.remove(&at.1)?;
        let to = if round % 2 == 0 { two } else { one };
        let (guest, _) = add(to, "moving", &asked).with_context(|| format!("round {round}"))?;
        ensure!(mac(&guest)? == its_mac, "round {round}: another MAC");
        // A question that nobody answers is repeated after a second: the first one has to be answered.
        let entry = format!("{} {}", its_mac.as_str().unwrap_or_default(), to.address);
        let known = || {
            let entries = three.fdb()?;
            ensure!(entries.contains(&entry), "no {entry} in {entries:?}");
            Ok(())
        };
        let took = cluster.until(FIRST * 2, known).with_context(|| format!("round {round}"))?;
        let reached = asker.reach(&address, AMPLE);
        reached.with_context(|| format!("round {round}, known after {took:?}"))?;
        at = (to, guest);
    }
    Ok(())
}

fn borrows(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    // The last of four blocks is kept back, but for the broadcast address: it is of no use.
    let config = sized("10.9.0.0/27", 8, json!({"exclude": ["10.9.0.24/29"], "cooldown": 3600}));
    let mut given: BTreeSet<String> = BTreeSet::new();
    let mut others = vec![];
    for host in &cluster.hosts {
        let (guest, result) = add(host, "c", &config)?;
        given.extend(addresses(&result));
        others.push(guest);
    }
    let blocks = cluster.etcd.keys("blk/front/")?;
    ensure!(blocks.len() == 3, "a block of no use was claimed: {blocks:?}");
    // 24 addresses without network and gateway, and without an own one of each host.
    let one = &cluster.hosts[0];
    for nth in given.len()..24 - 2 - 3 {
        let address = one_address(one, &format!("c{nth}"), &config)?;
        ensure!(given.insert(address.clone()), "{address} twice");
    }
    ensure!(!given.iter().any(|given| block_of(given, 8) == Some([10, 9, 0, 24].into())), "{given:?}");
    let late = one.container("late")?;
    let error = one.attach("overlay", "ADD", &late, &config)?.error_code(11)?;
    for host in &cluster.hosts {
        let count = format!("{} ({}) 0", host.name, id(host)?);
        ensure!(error.msg.contains(&count), "no {count:?} in {error}");
    }
    let freed = &cluster.hosts[2];
    freed.attach("overlay", "DEL", &others[2], &config)?.silent()?;
    let result = one.attach("overlay", "ADD", &late, &config)?.result()?;
    ensure!(given.contains(&addresses(&result)[0]), "{result} is not what was freed");
    ensure!(cluster.etcd.keys("blk/front/")?.len() == 3, "a block of no use was claimed");
    Ok(())
}

fn others(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 1, 2)?;
    let ipam = json!({"type": "cluster", "subnets": ["10.9.0.0/24", "fd00:9::/64"]});
    let bridge =
        json!({"cniVersion": "1.0.0", "name": "plain", "type": "bridge", "bridge": "br0", "ipam": ipam});
    let macvlan = with(&bridge, json!({"type": "macvlan", "master": "eth0"}));
    let given = on_all(&cluster.hosts, |host| {
        let mut given = vec![];
        for nth in 0..3 {
            for (plugin, config) in [("bridge", &bridge), ("macvlan", &macvlan)] {
                let guest = host.container(&format!("{plugin}{nth}"))?;
                let result = host.attach(plugin, "ADD", &guest, config)?.result()?;
                given.extend(addresses(&result));
                let config = with(config, json!({"prevResult": result}));
                host.attach(plugin, "CHECK", &guest, &config)?.silent()?;
            }
        }
        Ok(given)
    })?
    .concat();
    let different: BTreeSet<_> = given.iter().collect();
    ensure!(given.len() == 24 && different.len() == 24, "{} of {} differ", different.len(), given.len());
    ensure!(cluster.etcd.value("net/plain")?["vni"].is_null(), "a network without VXLAN has an id");
    ensure!(cluster.etcd.keys("ep/")?.is_empty(), "something is published");
    // The cluster does not know these containers; their hosts do.
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let refused = one.overlay(&["network", "rm", "plain"])?;
    ensure!(!refused.succeeded() && refused.stderr.contains("has containers on"), "{}", refused.summary());
    let blocks = cluster.etcd.keys("blk/plain/")?;
    ensure!(blocks.len() >= 4, "living hosts lost blocks: {blocks:?} are left");
    for host in &cluster.hosts {
        for nth in 0..3 {
            for (plugin, config) in [("bridge", &bridge), ("macvlan", &macvlan)] {
                let guest =
                    Guest { id: format!("{plugin}{nth}"), ns: format!("{}.d/{plugin}{nth}", host.name) };
                host.attach(plugin, "DEL", &guest, config)?.silent()?;
            }
        }
    }
    let removed = two.overlay(&["network", "rm", "plain"])?;
    ensure!(removed.succeeded(), "{}", removed.summary());
    let left: Vec<_> = cluster.etcd.keys("")?.into_iter().filter(|key| key.contains("plain")).collect();
    ensure!(left.is_empty(), "{left:?} is left");
    // etcd away: by its own blocks, unless that is not wanted.
    let fail = |host: &Host<'_>, want: &str| {
        host.configure(&cluster.etcd.endpoints(), &json!({"whenUnreachable": want, "timeoutMs": 2000}))?;
        host.signal_agent(Signal::SIGKILL)
    };
    let (guest, late) = (one.container("c")?, one.container("late")?);
    fail(one, "fail")?;
    one.attach("bridge", "ADD", &guest, &bridge)?.result()?;
    cluster.etcd.all(false)?;
    let one = &cluster.hosts[0];
    let error = one.attach("bridge", "ADD", &late, &bridge)?.error_code(11)?;
    ensure!(error.msg.contains("etcd"), "{error}");
    one.configure(&cluster.etcd.endpoints(), &json!({"whenUnreachable": "local", "timeoutMs": 2000}))?;
    one.attach("bridge", "ADD", &late, &bridge)?.result().map(drop)
}

pub(super) fn rests(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    let host = &cluster.hosts[0];
    // One block, with four addresses for containers: one of the five is the host's own.
    let config = sized("10.9.0.0/29", 8, json!({"cooldown": 3600}));
    let first = add(host, "c0", &config)?;
    let freed = addresses(&first.1).remove(0);
    let del = |guest: &Guest| host.attach("overlay", "DEL", guest, &config)?.silent();
    del(&first.0)?;
    // The last address is taken: the next search begins with the freed one.
    let last = host.container("last")?;
    let take = |address: &str| host.attach("overlay", "ADD", &last, &asking(&config, address))?.result();
    take("10.9.0.6").or_else(|_| take("10.9.0.5")).context("ADD of the last address")?;
    for nth in 1..3 {
        let given = one_address(host, &format!("c{nth}"), &config)?;
        ensure!(given != freed, "{given} was given again while another was free");
    }
    let given = one_address(host, "c4", &config)?;
    ensure!(given == freed, "{given} is not the last one, {freed}");
    let full = host.container("full")?;
    host.attach("overlay", "ADD", &full, &config)?.error_code(11)?;
    Ok(())
}

fn churn(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    let host = &cluster.hosts[0];
    let guest = host.container("a")?;
    for round in 0..50 {
        let result = host.attach("overlay", "ADD", &guest, &config(&json!({})))?.result();
        result.with_context(|| format!("round {round}"))?;
        host.attach("overlay", "DEL", &guest, &config(&json!({})))?.silent()?;
        let left = host.links()?;
        ensure!(left.is_empty(), "round {round}: {left:?} left");
    }
    Ok(())
}
