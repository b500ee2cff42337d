//! firewall: policies, which decide what connections between networks begin.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::room::Room;
use harness::socket::patience;
use harness::stage::firewall::{Behind, Way, expect, firewall};
use harness::stage::lan::outside;
use harness::stage::portmap::{HOST, portmap, serve};
use harness::stage::reapply::{forget_records, mended, reapply, records, rules};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new(
        "firewall/a_policy_decides_which_connections_begin",
        &["FW-8", "FW-9", "FW-R11", "FW-R13"],
        decides,
    ),
    Case::new("firewall/a_policy_lets_connections_go_on", &["FW-9"], goes_on),
    Case::new("firewall/a_policy_ends_with_its_network", &["FW-R12", "FW-6", "FW-R6"], ends),
    Case::new("firewall/check_and_reapply_make_a_policy_again", &["FW-R12", "FW-7", "FW-R5"], again),
    Case::new("firewall/policies_of_many_networks_cost_a_packet_nothing", &["FW-R2"], constant),
    Case::new("firewall/what_a_policy_cannot_mean_is_refused", &["FW-K4", "FW-R9"], refused),
];

/// Of `net2`: the network `net1` may use port 80, and nobody anything else.
fn data() -> Value {
    let ingress = json!([
        {"action": "allow", "from": "net1", "proto": "tcp", "ports": [80]},
        {"action": "deny", "log": true},
    ]);
    json!({"ingressPolicy": "same-bridge", "policy": {"ingress": ingress}})
}

/// Of `net3`: nothing to `net1`.
fn shy() -> Value {
    json!({"ingressPolicy": "same-bridge", "policy": {"egress": [{"action": "deny", "to": "net1"}]}})
}

fn decides(room: &Room) -> Result<()> {
    for family in ["ip", "ip6"] {
        // Absent without the module. With it, frames between neighbours meet the rules too.
        fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables"), "1").ok();
    }
    let inside =
        [1, 2, 3].map(|number| [format!("10.{number}.0.0/16"), format!("2001:db8:{number}::/48")]).concat();
    room.outside(&inside.iter().map(String::as_str).collect::<Vec<_>>())?;
    let b = Behind::open(room, "b", 2)?;
    let ports = with(
        &portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &b.result),
        json!({"name": b.network()}),
    );
    room.attach("portmap", "ADD", &b.container).config(&ports).run()?.result()?;
    b.call(room, "ADD", &data())?.result()?;
    Behind::add(room, "b2", 2, &data())?;
    let c = Behind::add(room, "c", 3, &shy())?;
    // The network that both policies name comes later.
    let a = Behind::add(room, "a", 1, &json!({}))?;
    serve(room, "b", 80)?;
    let [to_a, to_b, to_c] = [a.addresses()?, b.addresses()?, c.addresses()?];
    let way = |from, to: &[String; 2], open| Way { from: Some(from), to: to.clone(), port: None, open };
    let port = |from, to: &[String; 2], port, open| Way { port: Some(port), ..way(from, to, open) };
    let published = HOST.map(str::to_owned);
    let ways = [
        port("a", &to_b, 80, true),
        way("a", &to_b, false),
        port("c", &to_b, 80, false),
        port("outside", &to_b, 80, false),
        port("outside", &published, 8080, false),
        Way { from: None, ..port("a", &to_b, 80, true) },
        port("b2", &to_b, 80, true),
        // Answers of net1 are no connections to net2, and those of net3 none to net1.
        way("b", &to_a, true),
        way("a", &to_c, true),
        way("c", &to_a, false),
        way("c", &outside(), true),
        way("b", &outside(), true),
    ];
    expect(room, "with policies", &ways)?;
    let chains = ip::output("nft", &["list", "table", "inet", "moor"])?;
    let log = "limit rate 1/second burst 10 packets log prefix \"moor: net2 denies ingress: \"";
    ensure!(chains.contains(log) && chains.matches(" log ").count() == 1, "{chains}");
    // An allow is an exception from the isolation, and of its own direction only.
    a.call(room, "ADD", &json!({"ingressPolicy": "same-bridge"}))?.result()?;
    let ways =
        [port("a", &to_b, 80, true), way("a", &to_b, false), way("b", &to_a, false), way("a", &to_c, false)];
    expect(room, "between isolated networks", &ways)?;
    // Another ADD replaces it: addresses instead of names, a range of ports, and ICMP.
    let ingress = json!([
        {"action": "allow", "from": "198.51.100.2", "proto": "tcp", "ports": ["79-81"]},
        {"action": "allow", "from": "2001:db8:ff::/64", "to": format!("{}/128", to_b[1]), "proto": "tcp"},
        {"action": "deny", "proto": "tcp"},
        {"action": "deny", "proto": "udp"},
    ]);
    b.call(room, "ADD", &json!({"policy": {"ingress": ingress}}))?.result()?;
    let ways = [
        port("outside", &to_b, 80, true),
        port("outside", &published, 8080, true),
        port("a", &to_b, 80, false),
        port("c", &to_b, 80, false),
    ];
    expect(room, "with addresses", &ways)
}

fn goes_on(room: &Room) -> Result<()> {
    let a = Behind::add(room, "a", 1, &json!({}))?;
    let b = Behind::add(room, "b", 2, &json!({}))?;
    let listener = room.inside("b", || TcpListener::bind(("::", 80)).context("listen"))?;
    let addresses = b.addresses()?;
    let mut pairs = Vec::new();
    for address in &addresses {
        let at = SocketAddr::new(address.parse::<IpAddr>()?, 80);
        let client = room.inside("a", || TcpStream::connect_timeout(&at, patience()).context("connect"))?;
        pairs.push((client, accept(&listener)?));
    }
    let deny = json!({"policy": {"ingress": [{"action": "deny"}], "egress": [{"action": "deny"}]}});
    b.call(room, "ADD", &deny)?.result()?;
    for (client, server) in &mut pairs {
        let word = |from: &mut TcpStream, to: &mut TcpStream| -> Result<()> {
            from.write_all(b"word")?;
            to.set_read_timeout(Some(patience()))?;
            to.read_exact(&mut [0; 4]).context("a connection that was there is cut")
        };
        word(client, server)?;
        word(server, client)?;
    }
    let way = |from, to: [String; 2]| Way { from: Some(from), to, port: None, open: false };
    expect(room, "after the policy", &[way("a", addresses), way("b", a.addresses()?)])
}

/// Accepts a client, without waiting for one for ever.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let deadline = Instant::now() + patience();
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            accepted => {
                let (stream, _) = accepted.context("accept")?;
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
        }
    }
}

/// The names of the chains and sets of policies.
fn objects() -> Result<Vec<String>> {
    let listed = ip::output("nft", &["--terse", "list", "ruleset"])?;
    let named = listed.lines().map(str::trim).filter(|line| {
        ["set network-", "chain policy-ingress-", "chain policy-egress-"]
            .iter()
            .any(|name| line.starts_with(name))
    });
    let mut names: Vec<String> = named.map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// Counts chains and sets of policies.
fn ensure_objects(when: &str, chains: usize, sets: usize) -> Result<()> {
    let there = objects()?;
    let count = there.iter().filter(|name| name.starts_with("chain")).count();
    ensure!((count, there.len() - count) == (chains, sets), "{when}: {there:#?}");
    Ok(())
}

fn ends(room: &Room) -> Result<()> {
    let before = rules()?;
    let a = Behind::add(room, "a", 1, &json!({}))?;
    let without = rules()?;
    let b = Behind::add(room, "b", 2, &data())?;
    let b2 = Behind::add(room, "b2", 2, &data())?;
    let c = Behind::add(room, "c", 3, &shy())?;
    // Of net1, net2 and net3.
    ensure_objects("two policies", 2, 3)?;
    b.call(room, "ADD", &data())?.result()?;
    ensure_objects("the same again", 2, 3)?;
    b.call(room, "ADD", &with(&data(), json!({"policy": {"egress": [{"action": "deny", "to": "net9"}]}})))?
        .result()?;
    // The set of net1 stays for net3, and the one of net9 is new.
    ensure_objects("another policy", 2, 4)?;
    c.call(room, "ADD", &json!({"ingressPolicy": "same-bridge"}))?.result()?;
    ensure_objects("without the policy of net3", 1, 2)?;
    b.del(room)?;
    b2.call(
        room,
        "CHECK",
        &with(&data(), json!({"policy": {"egress": [{"action": "deny", "to": "net9"}]}})),
    )?
    .silent()?;
    let gc = firewall("net2", &json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}), &Value::Null);
    room.call("firewall", "GC").config(&gc).run()?.silent()?;
    ensure_objects("after GC", 0, 0)?;
    c.del(room)?;
    ensure!(rules()? == without, "left behind: {:#?}", rules()?);
    // The network of the name goes first, or last.
    let c = Behind::add(room, "c2", 3, &shy())?;
    a.del(room)?;
    ensure_objects("the named network is gone", 1, 2)?;
    c.call(room, "CHECK", &shy())?.silent()?;
    let a = Behind::add(room, "a2", 1, &json!({}))?;
    let ways = [Way { from: Some("c2"), to: a.addresses()?, port: None, open: false }];
    expect(room, "with a new container of the network", &ways)?;
    c.del(room)?;
    ensure_objects("the policy is gone", 0, 0)?;
    // And whatever has become of its rules.
    let c = Behind::add(room, "c3", 3, &shy())?;
    let chain = objects()?.into_iter().find(|name| name.starts_with("chain")).unwrap_or_default();
    let name = chain.split(' ').nth(1).unwrap_or_default();
    ip::output("nft", &["flush", "chain", "inet", "moor", name])?;
    c.del(room)?;
    a.del(room)?;
    b2.del(room)?;
    ensure!(rules()? == before && records()?.is_empty(), "left behind: {:#?} {:?}", rules()?, records()?);
    Ok(())
}

fn again(room: &Room) -> Result<()> {
    Behind::add(room, "a", 1, &json!({}))?;
    let b = Behind::add(room, "b", 2, &data())?;
    let c = Behind::add(room, "c", 3, &shy())?;
    let before = rules()?;
    ip::output("nft", &["flush ruleset"])?;
    reapply(room, "portmap")?;
    ensure!(rules()? == before, "after reapply: {:#?}", rules()?);
    let there = objects()?;
    let chain = there.iter().find_map(|name| name.strip_prefix("chain ")?.split(' ').next());
    let chain = chain.context("no chain")?;
    ip::output("nft", &["flush", "chain", "inet", "moor", chain])?;
    let of_chain = [(&b, data()), (&c, shy())].into_iter().map(|(one, keys)| one.call(room, "CHECK", &keys));
    let answers = of_chain.collect::<Result<Vec<_>>>()?;
    ensure!(answers.iter().any(|answer| mended(answer, chain).is_ok()), "no CHECK made {chain} again");
    ensure!(rules()? == before, "after CHECK: {:#?}", rules()?);
    // Without records, every drift is an error.
    forget_records()?;
    for (one, keys) in [(&b, data()), (&c, shy())] {
        one.call(room, "CHECK", &keys)?.silent()?;
    }
    for (what, change, whose) in [
        ("policy-ingress", "flush map inet moor policy-ingress", (&b, data())),
        ("policy-egress", "flush map inet moor policy-egress", (&c, shy())),
        ("behind", "flush set inet moor behind", (&c, shy())),
    ] {
        ip::output("nft", &[change])?;
        let error = whose.0.call(room, "CHECK", &whose.1)?.error_code(999)?;
        ensure!(error.msg.contains(what), "{what} is not named: {error}");
        for (one, keys) in [(&b, data()), (&c, shy())] {
            one.call(room, "ADD", &keys)?.result()?;
        }
        forget_records()?;
        whose.0.call(room, "CHECK", &whose.1)?.silent()?;
    }
    Ok(())
}

fn constant(room: &Room) -> Result<()> {
    let chain = |name: &str| ip::output("nft", &["--stateless", "list", "chain", "inet", "moor", name]);
    Behind::add(room, "b", 2, &data())?;
    let own = objects()?.into_iter().find_map(|name| Some(name.strip_prefix("chain ")?.replace(" {", "")));
    let own = own.context("no chain")?;
    let first = [chain("firewall")?, chain(&own)?];
    for number in 3..6 {
        Behind::add(room, &format!("c{number}"), number, &data())?;
    }
    Behind::add(room, "b2", 2, &data())?;
    let now = [chain("firewall")?, chain(&own)?];
    ensure!(now == first, "the rules grew from {first:#?} to {now:#?}");
    Ok(())
}

fn refused(room: &Room) -> Result<()> {
    let a = Behind::open(room, "a", 1)?;
    let before = room.snapshot()?;
    for (policy, text) in [
        (json!({"ingress": [{"action": "pass"}]}), "policy ingress, rule 1: unknown action \"pass\""),
        (json!({"ingress": [{"action": "deny", "form": "net2"}]}), "unknown key \"form\""),
        (
            json!({"egress": [{"action": "deny"}, {"action": "deny", "to": "a/b"}]}),
            "policy egress, rule 2: invalid to",
        ),
        (json!({"ingress": [{"action": "allow", "from": "net1"}]}), "from is this network"),
        (json!({"ingress": vec![json!({"action": "deny"}); 65]}), "policy ingress: 65 rules, of at most 64"),
    ] {
        let keys = json!({"policy": policy});
        a.call(room, "ADD", &keys)?.error_with(7, text)?;
        room.ensure_unchanged(&before, "after a refused ADD")?;
        a.call(room, "DEL", &keys)?.silent()?;
    }
    Ok(())
}
