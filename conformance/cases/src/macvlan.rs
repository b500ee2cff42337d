//! macvlan: reachability by real packets, links and results, CHECK and DEL.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::stage::lan::{add, addresses, check, lan, outside, reaches, refused};
use harness::{ip, socket, store};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("macvlan/passthru_uses_its_master_exclusively", &["MV-K2"], passthru),
    Case::new("macvlan/source_accepts_listed_addresses_only", &["MV-R4"], source),
    Case::new("macvlan/first_bind_and_first_packet_succeed", &["MV-R1"], first_act),
    Case::new("macvlan/del_succeeds_without_master_and_with_invalid_keys", &["MV-B4"], del_broken),
    Case::new("macvlan/del_does_not_touch_others", &["C-047", "MV-B3"], del_others),
    Case::new("macvlan/check_names_every_drift", &["C-043", "MV-2"], drifts),
    Case::new("macvlan/gc_releases_leases", &["C-045", "MV-B5"], gc),
];

fn passthru(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"mode": "passthru", "mac": "0a:00:00:00:00:05"}));
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    let master = ip::link(None, "wan0")?.context("no wan0")?;
    // The kernel chooses the mode, whatever is requested; the result reports it.
    ensure!(result["interfaces"][0]["mac"] == master["address"], "{result} on {master}");
    ensure!(ip::link(Some("c1"), "eth0")?.context("no eth0")?["address"] == master["address"]);
    ensure!(reaches(room, Some("c1"), &outside())? && reaches(room, Some("outside"), &addresses(0))?);
    let other = room.container("c2")?;
    refused(room, "macvlan", &other, &config, "passthru takes it alone")?;
    refused(room, "macvlan", &other, &lan("macvlan", &json!({})), "it has a passthru link")?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
    let master = ip::link(None, "wan0")?.context("no wan0")?;
    ensure!(master["promiscuity"] == 0, "the master stays promiscuous: {master}");
    add(room, "macvlan", "c3", &config).map(drop)
}

fn source(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let gateway = ip::link(Some("outside"), "eth0")?.context("no outside")?;
    let config = lan("macvlan", &json!({"mode": "source", "sourceMacs": [gateway["address"]]}));
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    ensure!(reaches(room, Some("c1"), &outside())?, "the listed address is not taken in");
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    ip::run_in("outside", &["link", "set", "eth0", "address", "0a:00:00:00:00:77"])?;
    ensure!(!reaches(room, Some("outside"), &addresses(0))?, "an address that is not listed is taken in");
    Ok(())
}

fn first_act(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({}));
    for nth in 0..3 {
        let id = format!("c{nth}");
        add(room, "macvlan", &id, &config)?;
        for address in addresses(nth) {
            room.inside(&id, || socket::bind(address.parse()?))?;
            room.inside("outside", || socket::reach(address.parse()?, Duration::from_millis(500)))
                .with_context(|| format!("the first packet to {address}"))?;
        }
        let tentative = ip::tentative(Some(&id), "eth0")?;
        ensure!(tentative.is_empty(), "tentative after ADD: {tentative:?}");
    }
    // Without duplicate address detection there is nothing to wait for.
    let quick = room.container("quick")?;
    let call = room.attach("macvlan", "ADD", &quick).config(&with(&config, json!({"enabledad": false})));
    let answer = call.run()?;
    answer.result()?;
    ensure_prompt("ADD", answer.took, Duration::from_millis(500))?;
    for address in addresses(3) {
        room.inside("quick", || socket::bind(address.parse()?))?;
    }
    Ok(())
}

fn del_broken(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"enabledad": false}));
    let before = room.snapshot()?;
    let (container, _) = add(room, "macvlan", "c1", &config)?;
    let broken =
        with(&config, json!({"mode": "no such", "mtu": 99999, "mac": "zz", "master": 5, "bcqueuelen": "x"}));
    let call = room.attach("macvlan", "DEL", &container).config(&broken).env("CNI_ARGS", "x=1");
    let answer = call.run()?;
    answer.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none());
    room.ensure_nothing_left(&before, &["c1"])?;
    Ok(())
}

fn del_others(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config =
        json!({"cniVersion": harness::config::USUAL, "name": "lan", "type": "macvlan", "master": "wan0"});
    let (container, _) = add(room, "macvlan", "c1", &config)?;
    // The name exists, so the second network's ADD fails, and runtimes send DEL after that.
    let second = with(&config, json!({"name": "second"}));
    refused(room, "macvlan", &container, &second, "file exists")?;
    room.attach("macvlan", "DEL", &container).config(&second).run()?.silent()?;
    ensure!(
        ip::link(Some("c1"), "eth0")?.is_some(),
        "DEL of a failed ADD deleted another network's interface"
    );
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
    // A link that is not a macvlan is not deleted either.
    ip::run_in("c1", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])?;
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_some(), "DEL deleted an interface that is not a macvlan");
    Ok(())
}

fn drifts(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"mtu": 1400, "bcqueuelen": 2000}));
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    let [v4, v6] = addresses(0);
    // Each drift, and the command that reverts it.
    let drifts: [(&str, &str, &[&str]); 6] = [
        ("link set eth0 mtu 1300", "link set eth0 mtu 1400", &["MTU of eth0: expected 1400, actual 1300"]),
        (
            "link set eth0 type macvlan mode private",
            "link set eth0 type macvlan mode bridge",
            &["macvlan mode of eth0: expected bridge, actual private"],
        ),
        (
            "link set eth0 type macvlan bcqueuelen 500",
            "link set eth0 type macvlan bcqueuelen 2000",
            &["broadcast queue length of eth0: expected 2000, actual 500"],
        ),
        ("route del default via 198.51.100.2", "route add default via 198.51.100.2", &["route 0.0.0.0/0"]),
        ("-6 route del default", "-6 route add default via 2001:db8:ff::2 dev eth0", &["route ::/0"]),
        (
            "link set eth0 address 0a:00:00:00:00:01",
            "link set eth0 address OLD",
            &["MAC address of eth0: expected", "actual 0a:00:00:00:00:01"],
        ),
    ];
    let mac = result["interfaces"][0]["mac"].as_str().context("no mac")?;
    for (change, back, texts) in drifts {
        ip::script(Some("c1"), change)?;
        let error = check(room, "macvlan", &container, &config, &result)?.error()?;
        for text in texts {
            ensure!(error.msg.contains(text), "{change}: expected {text:?} in {error}");
        }
        ip::script(Some("c1"), &back.replace("OLD", mac))?;
        check(room, "macvlan", &container, &config, &result)?.silent().with_context(|| back.to_owned())?;
    }
    for (address, length) in [(&v4, 24), (&v6, 64)] {
        ip::script(Some("c1"), &format!("addr del {address}/{length} dev eth0"))?;
        let error = check(room, "macvlan", &container, &config, &result)?.error()?;
        ensure!(error.msg.contains(&format!("expected {address}/{length}")), "{error}");
    }
    // The same name on another master.
    ip::script(None, "link add other0 type veth peer name other1\n link set other0 up\n link set other1 up")?;
    let moved = with(&config, json!({"master": "other0"}));
    let error = check(room, "macvlan", &container, &moved, &result)?.error()?;
    ensure!(error.msg.contains("master of eth0: expected other0, actual wan0"), "{error}");
    ip::run_in("c1", &["link", "del", "eth0"])?;
    let error = check(room, "macvlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("interface eth0: expected present, actual missing"), "{error}");
    let elsewhere = with(&result, json!({"interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}]}));
    let error = check(room, "macvlan", &container, &config, &elsewhere)?.error()?;
    ensure!(error.msg.contains("Sandbox in prevResult /run/netns/x doesn't match"), "{error}");
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = with(&lan("macvlan", &json!({"enabledad": false})), json!({"cniVersion": "1.1.0"}));
    add(room, "macvlan", "c1", &config)?;
    let (gone, _) = add(room, "macvlan", "c2", &config)?;
    room.remove(&gone)?;
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]});
    room.call("macvlan", "GC").config(&with(&config, valid)).run()?.silent()?;
    let left: Vec<String> = store::addresses("/var/lib/cni/networks/lan")?;
    ensure!(left == addresses(0), "leases after GC: {left:?}");
    ensure!(reaches(room, Some("c1"), &outside())?, "GC broke a valid attachment");
    let unsaid: Value = config;
    room.call("macvlan", "GC").config(&unsaid).run()?.silent()?;
    ensure!(store::addresses("/var/lib/cni/networks/lan")?.len() == 2, "GC without the key collected");
    Ok(())
}
