//! dummy: links and results, CHECK and DEL. Cases that create a link need a kernel with
//! CONFIG_DUMMY.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, with};
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, addresses_of, check, refused};
use harness::{ip, socket, store};
use serde_json::{Value, json};

const DUMMY: &[Need] = &[Need::Dummy];

pub const CASES: &[Case] = &[
    Case::new("dummy/link_and_result_are_as_configured", &["DU-1", "DU-K2", "DU-K3", "DU-R1"], life)
        .needs(DUMMY),
    Case::new("dummy/every_version_has_its_result", &["C-050", "DU-1"], versions).needs(DUMMY),
    Case::new("dummy/dns_of_the_configuration_replaces_that_of_ipam", &["DU-K4"], dns).needs(DUMMY),
    Case::new("dummy/check_names_every_drift", &["C-043", "DU-2"], drifts).needs(DUMMY),
    Case::new("dummy/a_failed_add_leaves_nothing", &["C-085", "DU-B1"], failed_add).needs(DUMMY),
    Case::new("dummy/del_matrix", &["C-042", "C-113", "C-114", "DU-3"], del_matrix).needs(DUMMY),
    Case::new("dummy/del_keeps_links_of_others", &["C-047", "DU-L1"], del_others).needs(DUMMY),
    Case::new("dummy/gc_and_status_reach_the_ipam_plugin", &["C-044", "C-045", "DU-4"], gc_and_status)
        .needs(DUMMY),
    Case::new("dummy/invalid_config_is_refused_before_any_change", &["DU-K1", "DU-K2", "DU-K3"], faults),
    Case::new("dummy/del_succeeds_without_ipam", &["C-042", "DU-B2"], del_broken),
];

/// The directory of the network's leases.
const LEASES: &str = "/var/lib/cni/networks/own";

/// A dual-stack network.
fn dummy(keys: Value) -> Value {
    let ranges = json!([[{"subnet": "10.50.0.0/24"}], [{"subnet": "2001:db8:50::/64"}]]);
    let ipam = json!({"type": "host-local", "ranges": ranges, "routes": [{"dst": "10.60.0.0/16"}]});
    with(&json!({"cniVersion": USUAL, "name": "own", "type": "dummy", "ipam": ipam}), keys)
}

fn life(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let mac = "0a:00:00:00:00:05";
    let keys = json!({"mtu": 9000, "mac": "0a:00:00:00:00:06", "runtimeConfig": {"mac": mac}});
    let (container, result) = add(room, "dummy", "c1", &dummy(keys.clone()))?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    ensure!(
        link["linkinfo"]["info_kind"] == "dummy" && link["mtu"] == 9000 && link["address"] == mac,
        "{link}"
    );
    let expected = json!([{"name": "eth0", "mac": mac, "sandbox": container.path}]);
    ensure!(result["interfaces"] == expected && result["ips"][1]["interface"] == 0, "{result}");
    for address in addresses_of(&result)? {
        room.inside("c1", || socket::bind(address.parse()?))?;
    }
    let routes = ip::rows(Some("c1"), &["route", "show", "dev", "eth0"])?;
    ensure!(routes.iter().any(|route| route["dst"] == "10.60.0.0/16"), "{routes:?}");
    check(room, "dummy", &container, &dummy(keys.clone()), &result)?.silent()?;
    let again = room.attach("dummy", "ADD", &container).config(&dummy(json!({"name": "other"}))).run()?;
    ensure!(again.error()?.msg.contains("file exists"), "a taken name");
    room.attach("dummy", "DEL", &container).config(&dummy(keys)).run()?.silent()?;
    // Without keys: the kernel's MTU, and an address that differs each time.
    let bare = |id| {
        add(room, "dummy", id, &dummy(json!({}))).map(|(_, result)| result["interfaces"][0]["mac"].clone())
    };
    ensure!(bare("c2")? != bare("c3")?, "two links have one MAC address");
    ensure!(ip::link(Some("c2"), "eth0")?.context("no eth0")?["mtu"] == 1500);
    for id in ["c2", "c3"] {
        let container = room.container(&format!("{id}x"))?;
        let call = room.attach("dummy", "DEL", &container).env("CNI_CONTAINERID", id);
        call.env("CNI_NETNS", format!("/run/netns/{id}")).config(&dummy(json!({}))).run()?.silent()?;
    }
    room.ensure_nothing_left(&before, &["c1", "c2", "c3"])
}

fn versions(room: &Room) -> Result<()> {
    for (nth, version) in VERSIONS.iter().enumerate() {
        let config = dummy(json!({"cniVersion": version}));
        let (container, result) = add(room, "dummy", &format!("c{nth}"), &config)?;
        ensure!(result["cniVersion"] == *version, "{result}");
        if *version >= "0.4.0" {
            check(room, "dummy", &container, &config, &result)?
                .silent()
                .with_context(|| version.to_string())?;
        }
        room.attach("dummy", "DEL", &container).config(&config).run()?.silent()?;
    }
    ensure!(store::addresses(LEASES)?.is_empty(), "leases are left");
    Ok(())
}

fn dns(room: &Room) -> Result<()> {
    let path = room.scratch("resolv.conf");
    std::fs::write(&path, "nameserver 10.50.0.7\n")?;
    let mut config = dummy(json!({}));
    config["ipam"]["resolvConf"] = path.display().to_string().into();
    let (_, result) = add(room, "dummy", "c1", &config)?;
    ensure!(result["dns"]["nameservers"] == json!(["10.50.0.7"]), "{result}");
    let own = json!({"nameservers": ["10.50.0.9"], "search": ["example.org"]});
    let (_, result) = add(room, "dummy", "c2", &with(&config, json!({"dns": own})))?;
    ensure!(result["dns"] == own, "{result}");
    Ok(())
}

fn drifts(room: &Room) -> Result<()> {
    let config = dummy(json!({"mtu": 1400}));
    let (container, result) = add(room, "dummy", "c1", &config)?;
    let mac = result["interfaces"][0]["mac"].as_str().context("no mac")?;
    for (change, back, text) in [
        ("link set eth0 mtu 1300", "link set eth0 mtu 1400", "MTU of eth0: expected 1400, actual 1300"),
        ("link set eth0 address 0a:00:00:00:00:01", "link set eth0 address OLD", "actual 0a:00:00:00:00:01"),
        ("route del 10.60.0.0/16", "route add 10.60.0.0/16 via 10.50.0.1", "route 10.60.0.0/16"),
        ("addr del 10.50.0.2/24 dev eth0", "addr add 10.50.0.2/24 dev eth0", "expected 10.50.0.2/24"),
    ] {
        check(room, "dummy", &container, &config, &result)?.silent().with_context(|| change.to_owned())?;
        ip::script(Some("c1"), change)?;
        let error = check(room, "dummy", &container, &config, &result)?.error()?;
        ensure!(error.msg.contains(text), "{change}: expected {text:?} in {error}");
        ip::script(Some("c1"), &back.replace("OLD", mac))?;
    }
    ip::script(Some("c1"), "link set eth0 down")?;
    let error = check(room, "dummy", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("state of eth0: expected up, actual down"), "{error}");
    ip::script(Some("c1"), "link del eth0\n link add eth0 type veth peer name eth1")?;
    let error = check(room, "dummy", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("kind of eth0: expected dummy, actual veth"), "{error}");
    ip::script(Some("c1"), "link del eth0")?;
    let error = check(room, "dummy", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("interface eth0: expected present, actual missing"), "{error}");
    let elsewhere = with(&result, json!({"interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}]}));
    let error = check(room, "dummy", &container, &config, &elsewhere)?.error()?;
    ensure!(error.msg.contains("Sandbox in prevResult /run/netns/x doesn't match"), "{error}");
    Ok(())
}

fn failed_add(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let ipam = |routes: Value| json!({"type": "host-local", "subnet": "10.50.0.0/24", "routes": routes});
    let unreachable = ipam(json!([{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]));
    refused(room, "dummy", &container, &dummy(json!({"ipam": unreachable})), "failed to add route")?;
    let ipam = json!({"type": "no-such-plugin"});
    refused(room, "dummy", &container, &dummy(json!({"ipam": ipam})), "no-such-plugin")
}

/// DEL for each state of the container's namespace, with the result of ADD and without, twice.
fn del_matrix(room: &Room) -> Result<()> {
    // The network's directory exists before, so that only objects of the attachment can be left
    // over.
    add(room, "dummy", "first", &dummy(json!({})))?;
    for (state, prev) in
        [("fine", true), ("fine", false), ("unset", true), ("gone", false), ("plain file", true)]
    {
        let id = format!("{}-{prev}", state.replace(' ', "-"));
        let before = room.snapshot()?;
        let (container, result) = add(room, "dummy", &id, &dummy(json!({})))?;
        if matches!(state, "gone" | "plain file") {
            room.remove(&container)?;
        }
        if state == "plain file" {
            File::create(&container.path)?;
        }
        let config = dummy(json!({"prevResult": if prev { result } else { json!(null) }}));
        for time in ["once", "twice"] {
            let call = room.attach("dummy", "DEL", &container).config(&config);
            let call = if state == "unset" { call.env("CNI_NETNS", "") } else { call };
            call.run()?.silent().with_context(|| format!("{state}, prevResult {prev}, {time}"))?;
            room.ensure_nothing_left(&before, &[&id])?;
            if state == "fine" {
                ensure!(ip::link(Some(&id), "eth0")?.is_none(), "the link is still there");
            }
        }
    }
    Ok(())
}

fn del_others(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = dummy(json!({}));
    // As the reference makes it: without a label.
    ip::script(Some("c1"), "link add eth0 type dummy\n link set eth0 up")?;
    room.attach("dummy", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the reference's link is still there");
    // The container's own dummy, another attachment's, and a link of another kind.
    ip::script(Some("c1"), "link add mine0 type dummy\n link add eth0 type veth peer name eth1")?;
    let other = dummy(json!({"name": "other"}));
    room.attach("dummy", "ADD", &container).env("CNI_IFNAME", "net1").config(&other).run()?.result()?;
    room.attach("dummy", "DEL", &container).config(&config).run()?.silent()?;
    let left = ip::links(Some("c1"))?;
    ensure!(["mine0", "eth0", "net1"].iter().all(|name| left.iter().any(|link| link == name)), "{left:?}");
    Ok(())
}

fn gc_and_status(room: &Room) -> Result<()> {
    let config = dummy(json!({"cniVersion": "1.1.0"}));
    add(room, "dummy", "c1", &config)?;
    let (gone, _) = add(room, "dummy", "c2", &config)?;
    room.remove(&gone)?;
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]});
    room.call("dummy", "GC").config(&with(&config, valid)).run()?.silent()?;
    ensure!(store::addresses(LEASES)?.len() == 2, "leases after GC: {:?}", store::addresses(LEASES)?);
    let ask = |config: &Value| room.call("dummy", "STATUS").config(config).run();
    ask(&config)?.silent()?;
    ask(&with(&config, json!({"ipam": {"type": "no-such-plugin"}})))?.error()?;
    ask(&with(&config, json!({"ipam": null})))?
        .error_with(7, "dummy interface requires an IPAM configuration")
        .map(drop)
}

fn faults(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    for (keys, text) in [
        (json!({"ipam": null}), "dummy interface requires an IPAM configuration"),
        (json!({"ipam": {}}), "dummy interface requires an IPAM configuration"),
        (json!({"mtu": 67}), "invalid MTU 67, must be 0 or [68, 65535]"),
        (json!({"mtu": 65536}), "invalid MTU 65536"),
        (json!({"mtu": 1279}), "IPv6 needs at least 1280"),
        (json!({"mac": "zz"}), "invalid MAC address \"zz\""),
        (json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}), "multicast"),
    ] {
        refused(room, "dummy", &container, &dummy(keys.clone()), text).with_context(|| keys.to_string())?;
    }
    Ok(())
}

fn del_broken(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let broken = json!({"mtu": "x", "mac": 5, "runtimeConfig": []});
    for (keys, leased) in [(json!({"ipam": null}), false), (broken, true)] {
        if leased {
            store::write(LEASES, "10.50.0.2", &store::content("c1", "eth0"))?;
        }
        let answer = room.attach("dummy", "DEL", &container).config(&dummy(keys.clone())).run()?;
        answer.silent().with_context(|| keys.to_string())?;
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    Ok(())
}
