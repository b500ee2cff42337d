//! ptp: the effect of each key, and what it is worth with other plugins.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, ptp, with};
use harness::namespace::OUTSIDE;
use harness::need::Need;
use harness::room::Room;
use harness::stage::dns::{call as dns_call, dns, expect as expect_name};
use harness::stage::lan::addresses_of;
use harness::stage::portmap::{HOST, address, expect, portmap, serve};
use harness::stage::reapply::{forget_records, mended};
use harness::{ip, snapshot, socket};
use serde_json::{Value, json};

use crate::masquerade::{ensure_masqueraded, nft};
use crate::ptp::{add, call, host_end};

pub const CASES: &[Case] = &[
    Case::new("ptp/masquerade_hides_the_container_from_the_outside_alone", &["PT-K1"], |room| {
        masqueraded(room, "nftables")
    }),
    Case::new("ptp/masquerade_by_iptables", &["PT-K1"], |room| masqueraded(room, "iptables"))
        .needs(&[Need::Iptables]),
    Case::new("ptp/mtu_applies_to_both_ends", &["PT-K2", "PT-B7"], mtu),
    Case::new("ptp/mac_precedence_and_syntax", &["PT-K4"], mac),
    Case::new("ptp/dns_overrides_that_of_ipam", &["PT-K3"], own_dns),
    Case::new("ptp/ipam_is_required_but_for_del_and_gc", &["PT-K5"], no_ipam),
    Case::new("ptp/unknown_back_end_is_refused_before_any_change", &["PT-K1"], back_end),
    Case::new("ptp/published_ports_are_reached_from_everywhere", &["PT-R9"], published),
    Case::new("ptp/names_are_answered_at_the_gateway", &["PT-R8"], names),
    Case::new("ptp/established_connections_take_the_fast_path", &["PT-R7"], fast_path)
        .needs(&[Need::Flowtables]),
    Case::new("ptp/fast_path_needs_masquerade_and_flowtables", &["PT-R7"], fast_path_refused),
    Case::new("ptp/status_is_that_of_ipam_and_kernel", &["PT-R5"], status),
    Case::new("ptp/a_container_sends_only_from_its_own_addresses", &["PT-K6"], own_sources),
    Case::new("ptp/flushed_rules_are_made_again_by_check", &["PT-R10"], flushed),
];

fn masqueraded(room: &Room, backend: &str) -> Result<()> {
    room.outside(&[])?;
    let config = with(&ptp(USUAL), json!({"ipMasq": true, "ipMasqBackend": backend}));
    let before = room.snapshot()?;
    let (one, first) = add(room, "c1", &config)?;
    let (two, second) = add(room, "c2", &config)?;
    for id in ["c1", "c2"] {
        ensure_masqueraded(id)?;
    }
    let kept = |result: &Value| with(&config, json!({"prevResult": result}));
    for (own, other) in [("10.1.2.2", "10.1.2.3"), ("2001:db8:1::2", "2001:db8:1::3")] {
        let seen = socket::seen_as("c1", "c2", other)?;
        ensure!(seen == own, "c2 sees c1 as {seen}");
    }
    call(room, "CHECK", &one, &kept(&first))?.silent()?;
    call(room, "DEL", &one, &kept(&first))?.silent()?;
    ensure_masqueraded("c2")?;
    call(room, "CHECK", &two, &kept(&second))?.silent()?;
    call(room, "DEL", &two, &kept(&second))?.silent()?;
    if backend == "nftables" {
        return room.ensure_nothing_left(&before, &["c1", "c2"]);
    }
    let rules = snapshot::rules()?.join("\n");
    ensure!(!rules.contains("CNI-"), "left: {rules}");
    Ok(())
}

fn mtu(room: &Room) -> Result<()> {
    let mtus = |result: &Value, id: &str| -> Result<[Value; 2]> {
        let near = ip::link(None, &host_end(result)?)?.context("no host end")?;
        Ok([near["mtu"].clone(), ip::link(Some(id), "eth0")?.context("no eth0")?["mtu"].clone()])
    };
    let of = |id: &str, mtu: Value| -> Result<[Value; 2]> {
        let (_, result) = add(room, id, &with(&ptp(USUAL), json!({"mtu": mtu})))?;
        mtus(&result, id)
    };
    ensure!(of("c1", json!(1400))? == [1400, 1400], "{:?}", of("c9", json!(1400))?);
    ensure!(of("c2", json!(0))? == [1500, 1500]);
    room.outside(&[])?;
    ip::run(&["link", "set", "wan0", "mtu", "1420"])?;
    ip::run(&["route", "add", "default", "via", OUTSIDE[0]])?;
    ensure!(of("c3", json!("auto"))? == [1420, 1420]);
    let container = room.container("c4")?;
    let before = room.snapshot()?;
    for (mtu, text) in
        [(json!(67), "invalid MTU 67"), (json!(65536), "invalid MTU 65536"), (json!(1000), "1280")]
    {
        let config = with(&ptp(USUAL), json!({"mtu": mtu}));
        call(room, "ADD", &container, &config)?.error_with(7, text)?;
    }
    room.ensure_unchanged(&before, "a refused MTU made something")
}

fn mac(room: &Room) -> Result<()> {
    let keys = json!({
        "runtimeConfig": {"mac": "02:00:00:00:00:0a"}, "args": {"cni": {"mac": "02:00:00:00:00:0b"}},
        "mac": "02:00:00:00:00:0d",
    });
    let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:0c";
    for (n, (gone, args, expected)) in [
        (&[][..], args, "0a"),
        (&["runtimeConfig"][..], args, "0b"),
        (&["runtimeConfig", "args"][..], args, "0c"),
        (&["runtimeConfig", "args"][..], "", "0d"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut config = with(&ptp(USUAL), keys.clone());
        gone.iter().for_each(|key| drop(config.as_object_mut().map(|map| map.remove(*key))));
        let container = room.container(&format!("c{n}"))?;
        let call = room.attach("ptp", "ADD", &container).config(&config).env("CNI_ARGS", args);
        let result = call.run()?.result()?;
        let link = ip::link(Some(&container.id), "eth0")?.context("no eth0")?;
        let expected = format!("02:00:00:00:00:{expected}");
        ensure!(link["address"] == expected && result["interfaces"][1]["mac"] == expected, "{result} {link}");
    }
    let container = room.container("c9")?;
    for mac in ["zz", "01:00:5e:00:00:01", "00:00:00:00:00:00"] {
        let config = with(&ptp(USUAL), json!({"mac": mac}));
        call(room, "ADD", &container, &config)?.error_with(7, mac)?;
    }
    Ok(())
}

fn own_dns(room: &Room) -> Result<()> {
    let file = room.write("resolv.conf", "nameserver 192.0.2.53\nsearch ipam.test\n")?;
    let mut config = ptp(USUAL);
    config["ipam"]["resolvConf"] = file.display().to_string().into();
    let (_, result) = add(room, "c1", &config)?;
    ensure!(result["dns"]["nameservers"] == json!(["192.0.2.53"]), "{result}");
    config["dns"] = json!({"nameservers": ["192.0.2.54"]});
    let (_, result) = add(room, "c2", &config)?;
    ensure!(result["dns"] == json!({"nameservers": ["192.0.2.54"]}), "{result}");
    Ok(())
}

fn no_ipam(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for ipam in [Value::Null, json!({}), json!({"type": ""})] {
        let config = with(&ptp("1.1.0"), json!({"ipam": ipam, "prevResult": {"interfaces": [], "ips": []}}));
        for verb in ["ADD", "CHECK"] {
            call(room, verb, &container, &config)?.error_with(7, "no plugin name provided")?;
        }
        room.call("ptp", "STATUS").config(&config).run()?.error_with(7, "no plugin name provided")?;
        call(room, "DEL", &container, &config)?.silent()?;
        let keys = json!({"cni.dev/valid-attachments": []});
        room.call("ptp", "GC").config(&with(&config, keys)).run()?.silent()?;
    }
    room.ensure_unchanged(&before, "without ipam something was made")
}

fn back_end(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let config = with(&ptp(USUAL), json!({"ipMasq": true, "ipMasqBackend": "x"}));
    call(room, "ADD", &container, &config)?.refused("unknown ipmasq backend \"x\"")?;
    room.ensure_unchanged(&before, "a refused back end made something")
}

fn published(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = with(&ptp(USUAL), json!({"ipMasq": true}));
    let before = room.snapshot()?;
    let (container, previous) = add(room, "c1", &config)?;
    let (sibling, _) = add(room, "sibling", &config)?;
    let ports = portmap(json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]), &previous);
    let result = room.attach("portmap", "ADD", &container).config(&ports).run()?.result()?;
    serve(room, "c1", 80)?;
    for (index, gateway) in ["10.1.2.1", "2001:db8:1::1"].into_iter().enumerate() {
        let own = address(&ports, index == 1);
        expect(room, Some("outside"), HOST[index], 8080, &format!("c1:80 {}", OUTSIDE[index]))?;
        expect(room, None, HOST[index], 8080, &format!("c1:80 {}", HOST[index]))?;
        let other = ["10.1.2.3", "2001:db8:1::3"][index];
        // A sibling is on a link of its own: its address needs no translation.
        expect(room, Some("sibling"), HOST[index], 8080, &format!("c1:80 {other}"))?;
        expect(room, Some("c1"), HOST[index], 8080, &format!("c1:80 {gateway}"))?;
        expect(room, Some("sibling"), &own, 80, &format!("c1:80 {other}"))?;
    }
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
    let kept = |config: &Value| with(config, json!({"prevResult": result}));
    room.attach("portmap", "CHECK", &container).config(&kept(&ports)).run()?.silent()?;
    call(room, "CHECK", &container, &kept(&config))?.silent()?;
    room.attach("portmap", "DEL", &container).config(&kept(&ports)).run()?.silent()?;
    call(room, "DEL", &container, &kept(&config))?.silent()?;
    call(room, "DEL", &sibling, &config)?.silent()?;
    room.ensure_nothing_left(&before, &["c1", "sibling"])
}

fn names(room: &Room) -> Result<()> {
    let gateways = ["10.1.2.1", "2001:db8:1::1"];
    let mut attached = vec![];
    for (id, name) in [("c1", "web"), ("c2", "db")] {
        let (container, previous) = add(room, id, &ptp(USUAL))?;
        let config = dns(&previous, json!({"mode": "gateway"}));
        let result = dns_call(room, "ADD", &container, name, &config).run()?.result()?;
        ensure!(result["dns"]["nameservers"] == json!(gateways), "{result}");
        attached.push((container, config, result));
    }
    let own = |index: usize| address(&attached[index].1, false);
    for gateway in gateways {
        expect_name(room, Some("c1"), gateway, "db", &[&own(1)])?;
        expect_name(room, Some("c2"), gateway, "web", &[&own(0)])?;
    }
    // The gateway's address is on every pair: it stays when one of them goes.
    let (container, config, result) = &attached[0];
    let kept = with(config, json!({"prevResult": result}));
    dns_call(room, "CHECK", container, "web", &kept).run()?.silent()?;
    dns_call(room, "DEL", container, "web", &kept).run()?.silent()?;
    call(room, "DEL", container, &ptp(USUAL))?.silent()?;
    for gateway in gateways {
        expect_name(room, Some("c2"), gateway, "db", &[&own(1)])?;
    }
    Ok(())
}

fn fast_path(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", OUTSIDE[0]])?;
    let before = room.snapshot()?;
    let config = with(&ptp(USUAL), json!({"ipMasq": true, "fastPath": true}));
    let (container, result) = add(room, "c1", &config)?;
    let rules = ip::output("nft", &["list", "ruleset"])?;
    let flowtable = rules.split("flowtable fastpath").nth(1).and_then(|rest| rest.split("devices =").nth(1));
    let devices = flowtable.and_then(|rest| rest.split('}').next()).context("no flowtable")?;
    ensure!(devices.contains(&host_end(&result)?) && devices.contains("wan0"), "{devices}");
    ensure_masqueraded("c1")?;
    call(room, "CHECK", &container, &with(&config, json!({"prevResult": result})))?.silent()?;
    call(room, "DEL", &container, &config)?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn fast_path_refused(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = with(&ptp(USUAL), json!({"fastPath": true}));
    call(room, "ADD", &container, &config)?.error_with(7, "ipMasq").map(drop)
}

fn status(room: &Room) -> Result<()> {
    let of = |config: &Value| room.call("ptp", "STATUS").config(config).run();
    of(&ptp("1.1.0"))?.silent()?;
    of(&with(&ptp("1.1.0"), json!({"ipMasq": true})))?.silent()?;
    of(&with(&ptp("1.1.0"), json!({"ipam": {"type": "nobodys"}})))?.error()?;
    Ok(())
}

/// Whether a datagram from this source of `c1` arrives at the host's address.
fn arrives(room: &Room, source: &str, to: &str) -> Result<bool> {
    let to: IpAddr = to.parse()?;
    let socket = UdpSocket::bind((to, 7777))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let source: IpAddr = source.parse()?;
    room.inside("c1", || Ok(UdpSocket::bind((source, 0))?.send_to(b"?", (to, 7777))?))?;
    Ok(socket.recv(&mut [0]).is_ok())
}

fn own_sources(room: &Room) -> Result<()> {
    room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
    let before = room.snapshot()?;
    for checked in [false, true] {
        let config = with(&ptp(USUAL), json!({"ipspoofchk": checked}));
        let (container, result) = add(room, "c1", &config)?;
        let kept = with(&config, json!({"prevResult": result}));
        let own = addresses_of(&result)?;
        for (own, other, gateway, outside) in [
            (&own[0], "10.1.2.99", "10.1.2.1", OUTSIDE[0]),
            (&own[1], "2001:db8:1::99", "2001:db8:1::1", OUTSIDE[1]),
        ] {
            room.reach("c1", outside)?;
            room.reach("outside", own)?;
            ip::run_in("c1", &["addr", "add", other, "dev", "eth0", "nodad"])?;
            ensure!(arrives(room, own, gateway)?, "{own} is dropped");
            ensure!(arrives(room, other, gateway)? != checked, "{other}, checked: {checked}");
        }
        call(room, "CHECK", &container, &kept)?.silent()?;
        if checked {
            nft("flush ruleset")?;
            mended(&call(room, "CHECK", &container, &kept)?, "chain inet moor ipspoofchk")?;
            ensure!(!arrives(room, "10.1.2.99", "10.1.2.1")?, "after CHECK");
        }
        call(room, "DEL", &container, &kept)?.silent()?;
        room.remove(&container)?;
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    Ok(())
}

fn flushed(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = with(&ptp(USUAL), json!({"ipMasq": true}));
    let (container, result) = add(room, "c1", &config)?;
    let kept = with(&config, json!({"prevResult": result}));
    nft("flush ruleset")?;
    mended(&call(room, "CHECK", &container, &kept)?, "chain inet moor masq")?;
    ensure_masqueraded("c1")?;
    nft("flush ruleset")?;
    forget_records()?;
    call(room, "CHECK", &container, &kept)?.error_with(999, "chain inet moor masq").map(drop)
}
