//! Verbs of `overlay` and `cluster`: results, CHECK, GC and STATUS.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::config::{VERSIONS, with};
use harness::ip;
use harness::room::Room;
use harness::room::call::Answer;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::addresses::{id, sized};
use super::{HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/check_names_each_single_drift", &["O-098"], drifts).needs(HOSTS),
    Case::new("overlay/check_names_the_host_that_has_the_address_now", &["O-098"], given_up).needs(HOSTS),
    Case::new("overlay/results_of_all_versions_are_as_bridge_gives_them", &["O-096"], results).needs(HOSTS),
    Case::new("overlay/gc_and_status_judge_this_host_alone", &["O-099"], judged).needs(HOSTS),
];

/// What is small enough for a case to wait for.
pub(super) const TTL_S: u64 = 3;

fn of_verb(config: &Value, result: &Value) -> Value {
    with(config, json!({"prevResult": result}))
}

fn check(host: &Host<'_>, guest: &Guest, result: &Value) -> Result<Answer> {
    host.attach("overlay", "CHECK", guest, &of_verb(&config(&json!({})), result))
}

/// Runs `nft` on a host.
pub(super) fn nft(host: &Host<'_>, rules: &str) -> Result<String> {
    host.inside(|| ip::output("nft", &[rules]))
}

fn drifts(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 1, 2)?;
    for host in &cluster.hosts {
        // CHECK can judge the device without the agent.
        let keys = json!({"hostAddress": [host.address], "hostTtlS": TTL_S, "timeoutMs": 2000});
        host.configure(&cluster.etcd.endpoints(), &keys)?;
    }
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, result) = add(one, "a", &config(&json!({})))?;
    let (other, peers) = add(two, "b", &config(&json!({})))?;
    for (host, guest, result) in [(one, &guest, &result), (two, &other, &peers)] {
        check(host, guest, result)?.silent().with_context(|| format!("right after ADD on {}", host.name))?;
    }
    let name = |prefix: &str| {
        let links = one.links()?;
        links.into_iter().find(|link| link.starts_with(prefix)).with_context(|| format!("no {prefix}"))
    };
    let (device, port) = (name("mx")?, name("veth")?);
    let mac = result["interfaces"][2]["mac"].as_str().context("no MAC")?.to_owned();
    let ip_of = |args: &str| ip::run_in(&one.name, &args.split(' ').collect::<Vec<_>>());
    let bridge = |args: &str| {
        let args: Vec<_> = ["-n", &one.name].into_iter().chain(args.split(' ')).collect();
        ip::output("bridge", &args).map(drop)
    };
    let entry = format!("{mac} dev {port} master static");
    type Change<'c> = Box<dyn Fn() -> Result<()> + 'c>;
    let no_undo = || Box::new(|| Ok(())) as Change<'_>;
    let local: Vec<(&str, Change<'_>, Change<'_>)> = vec![
        ("MTU of mx", Box::new(|| ip_of(&format!("link set {device} mtu 1300"))), no_undo()),
        (
            "learning of",
            Box::new(|| bridge(&format!("link set dev {port} learning on"))),
            Box::new(|| bridge(&format!("link set dev {port} learning off"))),
        ),
        (
            &mac,
            Box::new(|| bridge(&format!("fdb del {entry}"))),
            Box::new(|| bridge(&format!("fdb add {entry}"))),
        ),
        ("VXLAN device", Box::new(|| ip_of(&format!("link del {device}"))), no_undo()),
    ];
    for (words, change, undo) in &local {
        // It would make some of this right before CHECK looks.
        one.signal_agent(Signal::SIGKILL)?;
        change().with_context(|| format!("change {words}"))?;
        let error = check(one, &guest, &result)?.error().with_context(|| format!("changed: {words}"))?;
        ensure!(error.msg.contains(words), "no {words:?} in {error}");
        undo()?;
        let right = || check(one, &guest, &result)?.silent();
        cluster.until(SECONDS(2), right).with_context(|| format!("{words} is not right again"))?;
    }
    // Packet rules on record are made again by CHECK itself, which says so.
    one.signal_agent(Signal::SIGKILL)?;
    nft(one, "flush chain inet moor overlay-guard")?;
    let answer = check(one, &guest, &result)?;
    answer.silent()?;
    ensure!(answer.stderr.contains("overlay-guard: expected 1, actual 0"), "{}", answer.summary());
    // Only IPv4 and IPv6 neighbours: the device answers for others, and has no address of its own.
    let own = ip::addresses(Some(&one.name), &device)?;
    ensure!(own.is_empty(), "the agent made {device} with {own:?}");

    // What the agent itself repairs at once is found where two changes come too close.
    let peer = addresses(&peers).remove(0);
    let peer_mac = peers["interfaces"][2]["mac"].as_str().context("no MAC")?.to_owned();
    let fdb = format!("fdb del {peer_mac} dev {device} dst {} self", two.address);
    let neighbour = format!("neigh del {peer} dev {device}");
    let changes: [(&str, Change<'_>, Change<'_>); 2] = [
        (&peer_mac, Box::new(|| ip_of(&neighbour)), Box::new(|| bridge(&fdb))),
        (&peer, Box::new(|| bridge(&fdb)), Box::new(|| ip_of(&neighbour))),
    ];
    for (words, stir, change) in changes {
        let found = || {
            // What is not there again yet cannot be deleted.
            stir().ok();
            std::thread::sleep(Duration::from_millis(5));
            change().ok();
            let error = check(one, &guest, &result)?.error()?;
            ensure!(error.msg.contains(words), "no {words:?} in {error}");
            Ok(())
        };
        cluster.until(SECONDS(5), found)?;
        cluster.until(SECONDS(2), || check(one, &guest, &result)?.silent())?;
    }
    let key = format!("ep/front/{}/a@eth0", id(one)?);
    cluster.until(SECONDS(10), || {
        one.signal_agent(Signal::SIGSTOP)?;
        cluster.etcd.ctl(&["del", &format!("/moor/1/{key}")])?;
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| check(one, &guest, &result));
            std::thread::sleep(Duration::from_millis(50));
            one.signal_agent(Signal::SIGCONT)?;
            let error = asked.join().map_err(|_| anyhow::anyhow!("panicked"))??.error()?;
            ensure!(error.msg.contains("etcd's record of a@eth0"), "{error}");
            Ok(())
        })
    })?;
    cluster.until(SECONDS(2), || cluster.etcd.value(&key).map(drop)).context("published again")?;

    let run = one.inside(|| {
        let mut dirs = std::fs::read_dir("/run/moor/overlay")?;
        Ok(dirs.next().context("no directory of the agent")??.path())
    })?;
    one.signal_agent(Signal::SIGKILL)?;
    let held = one.inside(|| {
        let file = File::options().write(true).open(run.join("agent.lock"))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .context("hold the agent's lock")
    })?;
    let error = check(one, &guest, &result)?.error_code(11).context("no agent can be started")?;
    ensure!(error.msg.contains("overlay-agent"), "{error}");
    drop(held);
    check(one, &guest, &result)?.silent().context("the agent can be started again")?;

    cluster.etcd.all(false)?;
    let one = &cluster.hosts[0];
    let without = || {
        let answer = check(one, &guest, &result)?;
        answer.silent()?;
        ensure!(answer.stderr.contains("without etcd"), "no line: {}", answer.summary());
        Ok(())
    };
    cluster.until(SECONDS(5), without).context("etcd is away")?;
    Ok(())
}

fn given_up(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, result) = add(one, "a", &config(&json!({})))?;
    add(two, "b", &config(&json!({})))?;
    let bridge = json!({"cniVersion": "1.0.0", "name": "plain", "type": "bridge", "bridge": "br0",
        "ipam": {"type": "cluster", "subnets": ["10.8.0.0/16"]}});
    let plain = one.container("plain")?;
    let of_bridge = one.attach("bridge", "ADD", &plain, &bridge)?.result()?;
    // As another host has them that was away for as long as it takes.
    let owner = json!({"v": 1, "host": id(two)?}).to_string();
    for block in cluster.etcd.keys("blk/")? {
        if cluster.etcd.value(&block)?["host"] == json!(id(one)?) {
            cluster.etcd.ctl(&["put", &format!("/moor/1/{block}"), &owner])?;
        }
    }
    let names = |answer: Answer| {
        let error = answer.error()?;
        ensure!(error.msg.contains(&format!("host h2 ({})", id(two)?)), "no h2 in {error}");
        Ok(())
    };
    cluster.until(SECONDS(2), || names(check(one, &guest, &result)?))?;
    cluster.until(SECONDS(2), || {
        names(one.attach("bridge", "CHECK", &plain, &of_verb(&bridge, &of_bridge))?)
    })?;
    Ok(())
}

fn results(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    let host = &cluster.hosts[0];
    let bridge = json!({"type": "bridge", "bridge": "br0", "isDefaultGateway": true, "name": "plain",
        "ipam": {"type": "cluster", "subnets": ["10.8.0.0/16", "fd00:8::/64"]}});
    for version in VERSIONS {
        let with = |config: &Value| with(config, json!({"cniVersion": version}));
        let (ours, theirs) = (with(&config(&json!({}))), with(&bridge));
        let guests = (host.container("ours")?, host.container("theirs")?);
        let ours_result = host.attach("overlay", "ADD", &guests.0, &ours)?.result();
        let ours_result = ours_result.with_context(|| version.to_owned())?;
        let theirs_result = host.attach("bridge", "ADD", &guests.1, &theirs)?.result()?;
        let (shape, expected) = (shape(&ours_result), shape(&theirs_result));
        ensure!(shape == expected, "{version}: {shape} is not {expected}");
        let mtu = &ours_result["interfaces"][2]["mtu"];
        ensure!((*mtu == json!(1450)) == (version == "1.1.0"), "{version}: mtu {mtu}");
        host.attach("overlay", "DEL", &guests.0, &of_verb(&ours, &ours_result))?.silent()?;
        host.attach("bridge", "DEL", &guests.1, &of_verb(&theirs, &theirs_result))?.silent()?;
        host.remove(&guests.0)?;
        host.remove(&guests.1)?;
    }
    // Two addresses of a family cannot be told to whoever speaks 0.2.0.
    let range = |start: u8| json!([{"subnet": "10.7.0.0/24", "rangeStart": format!("10.7.0.{start}"), "rangeEnd": format!("10.7.0.{}", start + 9)}]);
    let two = json!({"cniVersion": "0.2.0", "name": "two", "foreignIpam": true,
        "ipam": {"type": "host-local", "ranges": [range(10), range(20)]}});
    let guest = host.container("two")?;
    host.attach("overlay", "ADD", &guest, &config(&two))?.error()?;
    let left = host.links()?;
    ensure!(left.is_empty(), "{left:?} is left of an ADD that cannot be told");
    ensure!(ip::link(Some(&guest.ns), "eth0")?.is_none(), "the container has an eth0");
    let leases = host.inside(|| {
        Ok(std::fs::read_dir("/var/lib/cni/networks/two")?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains('.'))
            .collect::<Vec<_>>())
    })?;
    ensure!(leases.is_empty(), "leases are left: {leases:?}");
    Ok(())
}

/// A result without what differs from one network to the other, and without the MTU.
fn shape(result: &Value) -> Value {
    let of_key = |(key, value): (&String, &Value)| match key.as_str() {
        "mtu" => None,
        "cniVersion" | "interface" => Some((key.clone(), value.clone())),
        _ => Some((key.clone(), shape(value))),
    };
    match result {
        Value::Object(map) => Value::Object(map.iter().filter_map(of_key).collect()),
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::String(text) if length(text).is_some() => json!(length(text)),
        Value::String(text) if text.contains("::") => json!("IPv6"),
        Value::String(text) if text.contains('.') => json!("IPv4"),
        Value::String(_) => json!("text"),
        other => other.clone(),
    }
}

/// The prefix length of a subnet.
fn length(text: &str) -> Option<u8> {
    text.rsplit_once('/')?.1.parse().ok()
}

fn judged(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    for host in &cluster.hosts {
        host.configure(&cluster.etcd.endpoints(), &json!({"hostTtlS": TTL_S}))?;
    }
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let config = with(&config(&json!({})), json!({"cniVersion": "1.1.0"}));
    let (kept, _) = add(one, "kept", &config)?;
    add(one, "gone", &config)?;
    let (other, peers) = add(two, "gone", &config)?;
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]});
    one.attach("overlay", "GC", &kept, &with(&config, valid))?.silent()?;
    cluster.until(SECONDS(2), || {
        let expected = [(one, "kept"), (two, "gone")];
        let keys = cluster.etcd.keys("ep/front/")?;
        let is_there = |(host, name): &(&Host<'_>, &str)| {
            Ok(keys.contains(&format!("ep/front/{}/{name}@eth0", id(host)?)))
        };
        let there = expected.iter().map(is_there).collect::<Result<Vec<_>>>()?;
        ensure!(keys.len() == 2 && there == [true, true], "{keys:?}");
        Ok(())
    })?;
    let veths = |host: &Host<'_>| {
        Ok::<_, anyhow::Error>(host.links()?.iter().filter(|name| name.starts_with("veth")).count())
    };
    ensure!((veths(one)?, veths(two)?) == (1, 1), "links are {:?} and {:?}", one.links()?, two.links()?);
    two.attach("overlay", "CHECK", &other, &of_verb(&config, &peers))?.silent()?;

    let status = |host: &Host<'_>, words: &str| {
        let answer = host.run(host.call("overlay", "STATUS", &kept).config(&config))?;
        match words.strip_prefix('!') {
            Some(words) => answer.error_with(50, words).map(drop),
            None => {
                answer.silent()?;
                ensure!(answer.stderr.contains(words), "no {words:?} in {}", answer.summary());
                Ok(())
            }
        }
    };
    status(one, "")?;
    // A smaller link is known everywhere, soon, and is no fault.
    let key = format!("host/{}", id(two)?);
    ip::run_in(&two.name, &["link", "set", "eth0", "mtu", "1400"])?;
    cluster.until(SECONDS(2), || {
        let mtu = cluster.etcd.value(&key)?["mtu"].clone();
        ensure!(mtu == json!(1400), "the record of h2 has an MTU of {mtu}");
        Ok(())
    })?;
    cluster.until(SECONDS(2), || status(one, "MTU of 1400 is too small"))?;
    ip::run_in(&two.name, &["link", "set", "eth0", "mtu", "1500"])?;
    // Somebody has the table of rules for himself.
    let rules = nft(one, "list table inet moor")?;
    ensure!(rules.contains("overlay-guard"), "{rules}");
    nft(one, "add table inet moor { flags dormant; }")?;
    status(one, "!dormant")?;
    nft(one, "delete table inet moor")?;
    let mut owner = one.inside(|| {
        let mut nft = Command::new("nft");
        nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut owner = nft.spawn().context("start nft")?;
        writeln!(owner.stdin.as_mut().context("its input")?, "add table inet moor {{ flags owner; }}")?;
        Ok(owner)
    })?;
    let owned = cluster.until(SECONDS(3), || status(one, "!owns it"));
    owner.kill().and_then(|()| owner.wait())?;
    owned.or_else(|error| {
        // The agent was there first: the table cannot be taken.
        if nft(one, "list table inet moor")?.contains("overlay-guard") {
            Ok(Duration::ZERO)
        } else {
            Err(error)
        }
    })?;
    cluster.until(SECONDS(10), || status(one, ""))?;
    // etcd away: a line; without a block a fault.
    cluster.cut_from_etcd(&one.name)?;
    cluster.until(SECONDS(5), || status(one, "etcd"))?;
    cluster.heal_to_etcd(&one.name)?;
    one.inside(|| Ok(std::fs::write("/etc/moor/cluster.json", "{}")?))?;
    let answer = one.run(one.call("overlay", "STATUS", &kept).config(&config))?;
    answer.error_with(7, "endpoints")?;
    // Nothing that can be had any more: of the last block all is given.
    let full = with(&sized("10.8.0.0/29", 8, json!({})), json!({"cniVersion": "1.1.0", "name": "full"}));
    for nth in 0..4 {
        add(two, &format!("full{nth}"), &full)?;
    }
    let answer = two.run(two.call("overlay", "STATUS", &kept).config(&full))?;
    answer.error_with(50, "10.8.0.0/29").map(drop)
}
