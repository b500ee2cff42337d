//! portmap, `conditionsV4` and `conditionsV6` in the language of nft: per attachment, checked with
//! packets.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::namespace::{Container, OUTSIDE};
use harness::room::Room;
use harness::socket::patience;
use harness::stage::portmap::{
    HOST, address, answer, ask, bridged, exchange, expect, heir_of, portmap, published, ruleset, serve,
};
use harness::stage::reapply::{reapply, rules};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("portmap_conditions/conditions_apply_to_their_container_only", &["PM-C1"], owners),
    Case::new(
        "portmap_conditions/conditions_hold_for_ranges_addresses_and_local_clients",
        &["PM-C2"],
        shapes,
    ),
    Case::new("portmap_conditions/nft_lists_conditions_as_written", &["PM-C3"], words),
    Case::new("portmap_conditions/unknown_tokens_are_refused_by_name", &["PM-C4"], refused),
    Case::new("portmap_conditions/del_finds_conditions_by_owner", &["C-042", "PM-C9"], del),
    Case::new(
        "portmap_conditions/check_names_missing_conditions_and_reapply_restores_them",
        &["C-043", "PM-C8", "HO-20"],
        mended,
    ),
    Case::new("portmap_conditions/gc_removes_invalid_attachments", &["C-045", "C-046", "PM-R2"], gc),
    Case::new("portmap_conditions/a_repeated_add_replaces_conditions", &["PM-C6"], again),
    Case::new("portmap_conditions/the_next_holder_of_an_address_has_its_own_conditions", &["PM-C7"], heir),
];

/// All clients except the machine outside.
fn not_outside() -> Value {
    let [v4, v6] = OUTSIDE.map(|address| address.to_owned());
    json!({"conditionsV4": ["ip", "saddr", "!=", v4], "conditionsV6": ["ip6", "saddr", "!=", v6]})
}

fn add(room: &Room, id: &str, mappings: Value, keys: Value) -> Result<(Container, Value)> {
    let (container, previous) = bridged(room, id)?;
    let config = with(&portmap(mappings, &previous), keys);
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    room.attach("portmap", "CHECK", &container).config(&config).run()?.silent()?;
    Ok((container, config))
}

fn one(port: u16) -> Value {
    json!([
        {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": port, "containerPort": 53, "protocol": "udp"},
    ])
}

fn closed(room: &Room, from: Option<&str>, to: &str, port: u16) -> Result<()> {
    let who = from.unwrap_or("the host");
    ensure!(
        ask(room, from, to, port).is_err(),
        "{who} reaches port {port} of {to}: the condition does not hold"
    );
    Ok(())
}

fn owners(room: &Room) -> Result<()> {
    room.outside(&[])?;
    add(room, "c1", one(8081), not_outside())?;
    published(room, "c2", one(8082))?;
    let only = json!({
        "conditionsV4": [format!("ip saddr {{ 192.0.2.0/24, {} }}", OUTSIDE[0])],
        "conditionsV6": [format!("ip6 saddr {{ 2001:db8:99::/48, {} }}", OUTSIDE[1])],
    });
    add(room, "c3", one(8083), only)?;
    // Conditions for one family only: the other one is open to all.
    add(room, "c4", one(8084), json!({"conditionsV4": ["ip", "saddr", "192.0.2.0/24"]}))?;
    for id in ["c1", "c2", "c3", "c4"] {
        serve(room, id, 80)?;
    }
    for (index, (host, outside)) in HOST.into_iter().zip(OUTSIDE).enumerate() {
        let outside =
            |id: &str, port| expect(room, Some("outside"), host, port, &format!("{id}:80 {outside}"));
        let own = |id: &str, port| expect(room, None, host, port, &format!("{id}:80 {host}"));
        closed(room, Some("outside"), host, 8081)?;
        own("c1", 8081)?;
        outside("c2", 8082)?;
        own("c2", 8082)?;
        outside("c3", 8083)?;
        closed(room, None, host, 8083)?;
        match index {
            0 => closed(room, Some("outside"), host, 8084)?,
            _ => outside("c4", 8084)?,
        }
    }
    Ok(())
}

fn shapes(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let link = ip::output("ip", &["-o", "route", "get", OUTSIDE[0]])?;
    let link =
        link.split(" dev ").nth(1).and_then(|rest| rest.split(' ').next()).context("no link to outside")?;
    // A range, an address of the host, and a link: the host's own packets arrive on no link.
    let mappings = json!([
        {"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 4000},
        {"hostPort": 8081, "containerPort": 80, "hostIP": HOST[0]},
        {"hostPort": 8082, "containerPort": 80, "hostIP": HOST[1]},
    ]);
    let keys = json!({
        "conditionsV4": ["iifname", link, "tcp", "dport", "!=", "3500-3599", "ct", "state", "new"],
        "conditionsV6": [format!("iif \"{link}\" tcp dport != 3500-3599 meta mark 0")],
    });
    add(room, "c1", mappings, keys)?;
    for port in [80, 4100, 4550] {
        serve(room, "c1", port)?;
    }
    for (index, (host, outside)) in HOST.into_iter().zip(OUTSIDE).enumerate() {
        let at = [8081, 8082][index];
        expect(room, Some("outside"), host, at, &format!("c1:80 {outside}"))?;
        expect(room, Some("outside"), host, 3100, &format!("c1:4100 {outside}"))?;
        closed(room, Some("outside"), host, 3550)?;
        closed(room, None, host, at)?;
        closed(room, None, host, 3100)?;
    }
    closed(room, None, "127.0.0.1", 3100)
}

/// The lines of the chains of conditions, without their handles and positions.
fn chains() -> Result<Vec<String>> {
    let text = ip::output("nft", &["-n", "list", "table", "inet", "moor"])?;
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        inside = (inside || line.starts_with("chain published-if")) && line != "}";
        if inside && !line.starts_with("comment") {
            lines.push(line.to_owned());
        }
    }
    Ok(lines)
}

fn words(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    for (key, words, shown) in [
        ("conditionsV4", "ip saddr 10.0.0.0/8", &["ip saddr 10.0.0.0/8 return"][..]),
        ("conditionsV4", "ip daddr 198.51.100.1", &["ip daddr 198.51.100.1 return"]),
        ("conditionsV4", "ip saddr 10.0.0.1-10.0.0.9", &["ip saddr 10.0.0.1-10.0.0.9 return"]),
        (
            "conditionsV4",
            "ip saddr != { 10.0.0.1, 10.1.0.0/16 }",
            &["ip saddr 10.0.0.1 accept", "ip saddr 10.1.0.0/16 accept"],
        ),
        (
            "conditionsV6",
            "ip6 saddr fd00::/8 tcp sport >= 1024",
            &["ip6 saddr fd00::/8 tcp sport >= 1024 return"],
        ),
        ("conditionsV6", "udp dport 53", &["udp dport 53 return"]),
        ("conditionsV4", "iifname \"eth*\" oifname lo", &["iifname \"eth*\" oifname \"lo\" return"]),
        ("conditionsV4", "meta mark and 0xff == 0x10", &["meta mark & 0x000000ff == 0x00000010 return"]),
        ("conditionsV4", "ct mark 7", &["ct mark 0x00000007 return"]),
        ("conditionsV4", "meta l4proto { tcp, 132 }", &["meta l4proto 6 return", "meta l4proto 132 return"]),
        ("conditionsV4", "ip protocol != udp", &["ip protocol 17 accept"]),
    ] {
        let config = with(&portmap(one(8080), &previous), json!({key: words.split(' ').collect::<Vec<_>>()}));
        room.attach("portmap", "ADD", &container).config(&config).run()?.result().context(words)?;
        let lines = chains()?;
        for line in shown {
            ensure!(
                lines.iter().any(|shown| shown.ends_with(line)),
                "{words}: nft shows {lines:#?}, not {line}"
            );
        }
        room.attach("portmap", "CHECK", &container).config(&config).run()?.silent().context(words)?;
    }
    Ok(())
}

fn refused(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = ruleset()?;
    let add = |keys: Value| {
        let config = with(&portmap(one(8080), &previous), keys);
        room.attach("portmap", "ADD", &container).config(&config).run()
    };
    for (words, named) in [
        (json!(["limit", "rate", "5/second"]), "limit"),
        (json!(["ip", "saddr", "10.0.0.1", "accept"]), "accept"),
        (json!(["ip", "saddr", "@allowed"]), "@allowed"),
        (json!(["ip", "saddr", "10.0.0.1", ";", "flush", "ruleset"]), ";"),
    ] {
        add(json!({"conditionsV4": words}))?.error_with(2, named)?;
    }
    for (keys, named) in [
        (json!({"conditionsV4": ["ip6", "saddr", "fd00::/8"]}), "ip6"),
        (json!({"conditionsV6": ["ip6", "saddr", "10.0.0.0/8"]}), "10.0.0.0/8"),
        (json!({"conditionsV6": ["tcp", "dport", "http"]}), "http"),
        (json!({"conditionsV4": ["ip", "saddr"]}), "conditionsV4"),
        (json!({"conditionsV4": ["iifname", "a-name-too-long-for-a-link"]}), "a-name-too-long"),
    ] {
        add(keys)?.refused(named)?;
    }
    add(json!({"conditionsV4": "ip saddr 10.0.0.1"}))?.error_code(999)?;
    ensure!(ruleset()? == before, "a refused ADD created rules");
    Ok(())
}

/// {only attachment, beside others} x {same mappings, none} x {same network, renamed}, twice each.
/// A renamed network's conditions are kept as long as their attachment exists.
fn del(room: &Room) -> Result<()> {
    for beside in [false, true] {
        if beside {
            add(room, "first", one(7000), not_outside())?;
        }
        let before = ruleset()?;
        for case in 0..4 {
            let (same, renamed) = (case % 2 == 0, case / 2 == 1);
            let ports = json!({"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000});
            let here = json!({"hostPort": 9, "containerPort": 9, "hostIP": "10.1.2.1"});
            let (container, config) =
                add(room, &format!("c{case}-{beside}"), json!([one(8080)[0], ports, here]), not_outside())?;
            // What ADD would refuse is no matter for DEL.
            let mut asked = with(&config, json!({"conditionsV4": ["bogus"], "prevResult": null}));
            if !same {
                asked["runtimeConfig"] = json!({});
            }
            if renamed {
                asked["name"] = json!("renamed");
            }
            if renamed {
                let made = ruleset()?;
                room.attach("portmap", "DEL", &container).config(&asked).run()?.silent()?;
                ensure!(ruleset()? == made, "a living attachment's are gone: {}", ruleset()?);
                gone(room, &container)?;
            }
            for _ in 0..2 {
                room.attach("portmap", "DEL", &container).config(&asked).run()?.silent()?;
                let after = ruleset()?;
                ensure!(
                    after == before,
                    "beside {beside}, same {same}, renamed {renamed}: the rules were {before} and are {after}"
                );
            }
            room.attach("bridge", "DEL", &container)
                .config(&harness::config::bridge(USUAL))
                .run()?
                .silent()?;
        }
    }
    Ok(())
}

/// Its link exists as long as its namespace.
fn gone(room: &Room, container: &Container) -> Result<()> {
    room.attach("bridge", "DEL", container).config(&harness::config::bridge(USUAL)).run()?.silent()
}

fn mended(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let (container, config) = add(room, "c1", one(8080), not_outside())?;
    serve(room, "c1", 80)?;
    let check = || room.attach("portmap", "CHECK", &container).config(&config).run();
    let chain = chains()?.first().and_then(|line| line.split(' ').nth(1).map(str::to_owned));
    let chain = chain.context("there is no chain of conditions")?;
    for (change, named) in [
        (format!("flush chain inet moor {chain}"), chain.as_str()),
        ("flush map inet moor conditional4".into(), "conditional4"),
        ("flush map inet moor conditional6".into(), "conditional6"),
        (format!("insert rule inet moor {chain} return"), chain.as_str()),
        ("flush ruleset".into(), chain.as_str()),
    ] {
        let before = rules()?;
        ip::output("nft", &change.split(' ').collect::<Vec<_>>())?;
        harness::stage::reapply::mended(&check()?, named).with_context(|| format!("after {change}"))?;
        let printed = reapply(room, "portmap")?;
        ensure!(printed.contains("everything is there"), "a second one prints {printed}");
        let changes = harness::diff::lines(&before, &rules()?);
        ensure!(changes.is_empty(), "{change}, and reapply: {}", harness::diff::shown(&changes));
        for (host, outside) in HOST.into_iter().zip(OUTSIDE) {
            closed(room, Some("outside"), host, 8080).context(outside)?;
            expect(room, None, host, 8080, &format!("c1:80 {host}"))?;
        }
    }
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    add(room, "c1", one(8081), not_outside())?;
    let before = ruleset()?;
    add(room, "c2", one(8082), not_outside())?;
    let config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "portmap",
        "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],
    });
    room.call("portmap", "GC").config(&config).run()?.silent()?;
    let after = ruleset()?;
    ensure!(after == before, "after GC the rules are {after}, not {before}");
    let none = with(&config, json!({"cni.dev/valid-attachments": []}));
    room.call("portmap", "GC").config(&none).run()?.silent()?;
    ensure!(!ruleset()?.to_string().contains("published"), "GC of all left rules");
    Ok(())
}

/// With other conditions, with none, and with some again; a UDP client that was once accepted is
/// checked again.
fn again(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let (container, open) = published(room, "c1", one(5353))?;
    let without = ruleset()?;
    let client = room.inside("outside", || {
        let socket = UdpSocket::bind((OUTSIDE[0].parse::<IpAddr>()?, 0))?;
        socket.set_read_timeout(Some(patience() / 6))?;
        socket.connect((HOST[0].parse::<IpAddr>()?, 5353))?;
        Ok(socket)
    })?;
    answer(room, "c1", &address(&open, false))?;
    exchange(&client).context("without conditions")?;
    let config = with(&open, not_outside());
    let add = |config: &Value| -> Result<Value> {
        room.attach("portmap", "ADD", &container).config(config).run()?.result()?;
        room.attach("portmap", "CHECK", &container).config(config).run()?.silent()?;
        ruleset()
    };
    let made = add(&config)?;
    ensure!(exchange(&client).is_err(), "the client still has its flow");
    ensure!(add(&config)? == made, "the same again changed the rules");
    let other = json!({"conditionsV6": ["ip6", "saddr", "fd00::/8"]});
    let rules = add(&with(&open, other))?.to_string();
    ensure!(!rules.contains(OUTSIDE[0]), "the old conditions are left: {rules}");
    exchange(&client).context("IPv4 has no conditions any more")?;
    ensure!(add(&open)? == without, "the chains of conditions are left");
    Ok(())
}

/// An address of a dead container belongs to another: its ports are free, and its conditions do not
/// apply.
fn heir(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let range = json!({"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000});
    let (dead, config) = add(room, "dead", json!([one(8080)[0], range]), not_outside())?;
    let (heir, previous) = heir_of(room, &dead, &config)?;
    let config = portmap(json!([one(8080)[0]]), &previous);
    room.attach("portmap", "ADD", &heir).config(&config).run()?.result()?;
    room.attach("portmap", "CHECK", &heir).config(&config).run()?.silent()?;
    serve(room, "heir", 80)?;
    for (host, outside) in HOST.into_iter().zip(OUTSIDE) {
        expect(room, Some("outside"), host, 8080, &format!("heir:80 {outside}"))?;
    }
    let rules = ruleset()?.to_string();
    ensure!(
        !rules.contains("3999") && !rules.contains("eth0/dead"),
        "what the dead one had is left: {rules}"
    );
    Ok(())
}
