//! dns: which names are registered.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, with};
use harness::dns_client::{Question, kind};
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::dns::{GATEWAYS, Named, ask, call, dns, expect, records};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("dns/a_name_resolves_before_add_returns", &["D-001", "D-005"], at_once),
    Case::new("dns/aliases_are_a_list_or_a_map", &["D-002"], aliases),
    Case::new("dns/containers_can_share_an_alias", &["D-003"], shared_alias),
    Case::new("dns/containers_can_share_a_name", &["D-004"], shared_name),
    Case::new("dns/two_interfaces_of_a_container_are_two_attachments", &["D-006"], two_interfaces),
    Case::new("dns/a_container_without_a_name_has_its_short_id", &["D-007", "D-008"], short_id),
    Case::new("dns/invalid_names_are_refused_and_leave_nothing", &["D-009", "D-054"], bad_names),
    Case::new("dns/an_inconsistent_result_is_refused_and_leaves_nothing", &["D-010", "D-012"], odd_results),
    Case::new("dns/the_result_has_the_responder_first", &["D-011"], result),
    Case::new("dns/a_configuration_of_dnsname_works_unchanged", &["D-109"], dnsname),
];

fn at_once(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let address = named.address(false);
    for _ in 0..100 {
        named.del(room)?;
        named.verb(room, "ADD")?.result()?;
        expect(room, Some("c1"), GATEWAYS[0], "web", &[&address])?;
    }
    // Again with another address: the old one is removed.
    let mut moved = named.config.clone();
    moved["prevResult"]["ips"][0]["address"] = json!("10.1.2.77/24");
    call(room, "ADD", &named.container, "web", &moved).run()?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.77"])?;
    ensure!(records().len() == 1, "{:?}", records());
    Ok(())
}

fn aliases(room: &Room) -> Result<()> {
    let list = json!({"runtimeConfig": {"aliases": ["www", "API"]}});
    let map = json!({"runtimeConfig": {"aliases": {"net": ["www", "API"], "other": ["hidden"]}}});
    let recorded = || -> Result<Value> {
        let mut record: Value = serde_json::from_slice(&fs::read(&records()[0])?)?;
        record["order"] = Value::Null;
        Ok(record)
    };
    let named = Named::add(room, "c1", "web", list)?;
    let by_list = recorded()?;
    named.del(room)?;
    call(room, "ADD", &named.container, "web", &with(&named.config, map)).run()?.result()?;
    ensure!(recorded()? == by_list, "the map made {}, the list {by_list}", recorded()?);
    for name in ["web", "www", "api", "Api"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &[&named.address(false)])?;
    }
    let before = room.snapshot()?;
    for odd in [json!(5), json!("www"), json!([5]), json!({"net": "www"}), json!({"net": [{}]})] {
        let config = with(&named.config, json!({"runtimeConfig": {"aliases": odd}}));
        call(room, "ADD", &named.container, "web", &config).run()?.error_with(999, "aliases")?;
    }
    room.ensure_unchanged(&before, "a refused ADD changed something")
}

fn shared_alias(room: &Room) -> Result<()> {
    let alias = json!({"runtimeConfig": {"aliases": ["www"]}});
    let both = [Named::add(room, "c1", "web1", alias.clone())?, Named::add(room, "c2", "web2", alias)?];
    let mut addresses = both.each_ref().map(|named| named.address(false));
    addresses.sort();
    let mut first = vec![];
    for _ in 0..8 {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("www", kind::A))?;
        let mut texts = reply.texts();
        first.push(texts.first().context("no answer")?.to_string());
        texts.sort_unstable();
        ensure!(texts == addresses, "{texts:?}, not {addresses:?}");
    }
    first.sort();
    first.dedup();
    ensure!(first == addresses, "of 8 answers, {first:?} came first");
    Ok(())
}

fn shared_name(room: &Room) -> Result<()> {
    let [one, two] = [Named::add(room, "c1", "web", json!({}))?, Named::add(room, "c2", "web", json!({}))?];
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&one.address(false), &two.address(false)])?;
    one.del(room)?;
    expect(room, Some("c2"), GATEWAYS[0], "web", &[&two.address(false)])
}

fn two_interfaces(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let second = |plugin: &str, verb: &str, config: &Value| {
        let call = room.attach(plugin, verb, &named.container).env("CNI_IFNAME", "eth1").config(config);
        let call = if plugin == "dns" { call.env("CNI_ARGS", "K8S_POD_NAME=web") } else { call };
        call.run()
    };
    let previous = second("bridge", "ADD", &harness::config::bridge(USUAL))?.result()?;
    let config = dns(&previous, json!({}));
    second("dns", "ADD", &config)?.result()?;
    let other = harness::stage::portmap::address(&config, false);
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false), &other])?;
    named.del(room)?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&other])
}

fn short_id(room: &Room) -> Result<()> {
    let id = "0123456789abcdef0123";
    let named = Named::add(room, id, "", json!({}))?;
    expect(room, None, GATEWAYS[0], "0123456789ab", &[&named.address(false)])?;
    let record: Value = serde_json::from_slice(&fs::read(&records()[0])?)?;
    ensure!(record["names"] == json!(["0123456789ab"]), "{record}");
    for args in ["UNKNOWN=1;K8S_POD_NAME=web", "K8S_POD_NAME=web;junk", "IgnoreUnknown=odd;K8S_POD_NAME=web"]
    {
        let call = room.attach("dns", "ADD", &named.container).config(&named.config);
        call.env("CNI_ARGS", args).run()?.result().with_context(|| args.to_owned())?;
        expect(room, None, GATEWAYS[0], "web", &[&named.address(false)])?;
    }
    Ok(())
}

fn bad_names(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let before = room.snapshot()?;
    let long = "a".repeat(256);
    for bad in
        ["a b", "a,b", "a\n10.9.9.9 injected", "a\0b", "-a", "a..b", "ä", "localhost", "10.0.0.1", &long]
    {
        let config = dns(&previous, json!({"runtimeConfig": {"aliases": [bad]}}));
        call(room, "ADD", &container, "web", &config)
            .run()?
            .error_code(7)
            .with_context(|| format!("{bad:?}"))?;
    }
    for network in ["../x", "a/b", ".", "..", ""] {
        let config = with(&dns(&previous, json!({})), json!({"name": network}));
        call(room, "ADD", &container, "web", &config).run()?.error()?;
    }
    room.ensure_unchanged(&before, "a refused ADD changed something")?;
    let skip = json!({"runtimeConfig": {"aliases": ["good", "bad one"]}, "invalidNames": "skip"});
    call(room, "ADD", &container, "web", &dns(&previous, skip)).run()?.result()?;
    let record: Value = serde_json::from_slice(&fs::read(&records()[0])?)?;
    ensure!(record["names"] == json!(["web", "good", "c1"]), "{record}");
    Ok(())
}

fn odd_results(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let ip = |keys: Value| with(&json!({"address": "10.1.2.3/24"}), keys);
    for odd in [
        json!({}),
        json!({"interfaces": [], "ips": []}),
        json!({"interfaces": [{"name": "br0"}]}),
        json!({"ips": [ip(json!({"interface": 0}))]}),
        json!({"interfaces": [{"name": "br0"}], "ips": [ip(json!({"interface": 7}))]}),
        json!({"interfaces": [{"name": "br0"}], "ips": [ip(json!({"interface": 0}))]}),
    ] {
        let odd = with(&odd, json!({"cniVersion": USUAL}));
        call(room, "ADD", &container, "web", &dns(&odd, json!({}))).run()?.error_code(7)?;
    }
    call(room, "ADD", &container, "web", &dns(&Value::Null, json!({}))).run()?.error_with(7, "chained")?;
    room.ensure_unchanged(&before, "a refused ADD changed something")
}

fn result(room: &Room) -> Result<()> {
    for version in VERSIONS.into_iter().filter(|version| *version >= "0.3.0") {
        let container = room.container(&format!("c-{version}"))?;
        let bridge = with(
            &harness::config::bridge(version),
            json!({"dns": {
                "nameservers": ["9.9.9.9"], "search": ["here"], "domain": "dom", "options": ["ndots:1"],
            }}),
        );
        let previous = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
        let config = with(&dns(&previous, json!({"domainName": "there"})), json!({"cniVersion": version}));
        let answer = call(room, "ADD", &container, "web", &config).run()?.result()?;
        let mut wanted = previous.clone();
        wanted["dns"]["nameservers"] = json!([GATEWAYS[0], GATEWAYS[1], "9.9.9.9"]);
        wanted["dns"]["search"] = json!(["here", "there"]);
        ensure!(answer == wanted, "{version}: {answer}, not {wanted}");
        for (keys, key, value) in [
            (json!({"domainName": ""}), "search", json!(["here"])),
            (json!({"domainName": "HERE"}), "search", json!(["here"])),
            (json!({"keepNameservers": false}), "nameservers", json!(GATEWAYS)),
        ] {
            let answer = call(room, "ADD", &container, "web", &with(&config, keys)).run()?.result()?;
            ensure!(answer["dns"][key] == value, "{version}: {}", answer["dns"]);
        }
    }
    Ok(())
}

/// The executable is called dnsname too: a link to the plugin.
fn dnsname(room: &Room) -> Result<()> {
    let program = room.scratch("dnsname");
    std::os::unix::fs::symlink(room.suite.join("dns"), &program)?;
    let container = room.container("c1")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let config = json!({
        "cniVersion": USUAL, "name": "net", "type": "dnsname", "domainName": "foobar.io",
        "capabilities": {"aliases": true}, "runtimeConfig": {"aliases": {"net": ["www"]}}, "prevResult": previous,
    });
    let run = |verb: &str| {
        let call = Call::new(room, program.clone()).config(&config).env("CNI_PATH", &room.suite);
        let call = call.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
        call.env("CNI_NETNS", &container.path).env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web").run()
    };
    let answer = run("ADD")?.result()?;
    ensure!(answer["dns"] == json!({"nameservers": GATEWAYS, "search": ["foobar.io"]}), "{}", answer["dns"]);
    for name in ["web", "web.foobar.io", "www", "www.foobar.io", "c1"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &["10.1.2.2"])?;
    }
    run("CHECK")?.silent()?;
    run("DEL")?.silent()
}
