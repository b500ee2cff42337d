//! The keys of `tap`, its results and CHECK. See also [`crate::tap_life`] and
//! [`crate::tap_queue`].

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, with};
use harness::need::Need;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::stage::lan::{add, check, refused};
use harness::{ip, store};
use serde_json::{Value, json};

const TAP: &[Need] = &[Need::Tap];

pub const CASES: &[Case] = &[
    Case::new("tap/result_names_one_interface", &["TA-1", "TA-K10"], result).needs(TAP),
    Case::new("tap/every_version_has_its_result", &["C-036", "C-060", "TA-1"], versions).needs(TAP),
    Case::new("tap/mtu_and_mac_are_honoured_with_every_other_key", &["TA-K1", "TA-K2", "TA-B2"], honoured)
        .needs(TAP),
    Case::new("tap/mac_of_the_runtime_counts_first", &["TA-K3"], precedence).needs(TAP),
    Case::new("tap/selinux_context_is_refused_without_selinux", &["TA-K6"], context).needs(TAP),
    Case::new("tap/process_of_a_context_makes_the_device", &["TA-K6"], process).needs(TAP),
    Case::new("tap/device_is_a_port_of_a_bridge_in_the_container", &["TA-K7"], port).needs(TAP),
    Case::new("tap/layer_2_has_no_addresses", &["TA-K8", "TA-K9"], layer2).needs(TAP),
    Case::new("tap/ipv6_address_does_not_wait_for_a_carrier", &["TA-B5"], quick).needs(TAP),
    Case::new("tap/check_names_every_drift", &["C-043", "TA-2", "TA-B6"], drifts).needs(TAP),
    Case::new("tap/status_is_50_without_the_device_node", &["C-044", "TA-R2"], status).needs(TAP),
];

/// A dual-stack network of TAP devices, with these keys.
pub fn tap(keys: &Value) -> Value {
    let config = json!({
        "cniVersion": USUAL, "name": "vm", "type": "tap",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.83.0.0/24"}], [{"subnet": "2001:db8:83::/64"}]],
            "routes": [{"dst": "192.0.2.0/24"}],
        },
    });
    with(&config, keys.clone())
}

/// The same in layer 2.
pub fn layer2_tap(keys: &Value) -> Value {
    with(&tap(&json!({"ipam": null})), keys.clone())
}

/// The description of the container's device.
pub fn device(id: &str) -> Result<Value> {
    let rows = ip::rows(Some(id), &["-d", "link", "show", "dev", "eth0"])?;
    rows.into_iter().next().with_context(|| format!("{id} has no eth0"))
}

fn result(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let config = tap(&json!({"dns": {"nameservers": ["10.83.0.53"], "search": ["example.org"]}}));
    let (container, result) = add(room, "tap", "c1", &config)?;
    let link = device("c1")?;
    let interfaces = json!([{"name": "eth0", "mac": link["address"], "sandbox": container.path}]);
    ensure!(result["interfaces"] == interfaces, "{result}, on {link}");
    ensure!(result["dns"] == config["dns"], "{result}");
    ensure!(ip::addresses(Some("c1"), "eth0")? == ["10.83.0.2/24", "2001:db8:83::2/64"], "{result}");
    for ip in result["ips"].as_array().context("no addresses")? {
        ensure!(ip["interface"] == 0, "{result}");
    }
    let routes = ip::rows(Some("c1"), &["route", "show", "192.0.2.0/24"])?;
    ensure!(routes.iter().any(|route| route["gateway"] == "10.83.0.1"), "{routes:?}");
    check(room, "tap", &container, &config, &result)?.silent()?;
    room.attach("tap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::links(Some("c1"))? == ["lo"], "{:?}", ip::links(Some("c1"))?);
    room.ensure_nothing_left(&before, &["c1"])
}

fn versions(room: &Room) -> Result<()> {
    for (nth, version) in VERSIONS.iter().enumerate() {
        let config = tap(&json!({"cniVersion": version}));
        let (container, result) = add(room, "tap", &format!("c{nth}"), &config)?;
        ensure!(result["cniVersion"] == *version, "{result}");
        let v4 = if *version < "0.3.0" { &result["ip4"]["ip"] } else { &result["ips"][0]["address"] };
        ensure!(*v4 == format!("10.83.0.{}/24", nth + 2), "{version}: {result}");
        if *version >= "0.4.0" {
            check(room, "tap", &container, &config, &result)?.silent().context(*version)?;
        }
    }
    Ok(())
}

fn honoured(room: &Room) -> Result<()> {
    for (nth, keys) in [
        json!({}),
        json!({"owner": 4107, "group": 4108}),
        json!({"owner": 4107}),
        json!({"group": 4108}),
        json!({"owner": 0, "group": 0, "multiQueue": true}),
        json!({"multiQueue": true}),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("c{nth}");
        let own = with(&keys, json!({"mtu": 9000, "mac": "02:00:00:00:00:07"}));
        let (container, result) = add(room, "tap", &id, &layer2_tap(&own))?;
        let link = device(&id)?;
        ensure!(link["mtu"] == 9000 && link["address"] == "02:00:00:00:00:07", "{own}: {link}");
        let info = &link["linkinfo"]["info_data"];
        let multi_queue = keys["multiQueue"] == true;
        let expected = json!({"type": "tap", "pi": false, "vnet_hdr": true, "multi_queue": multi_queue, "persist": true});
        for (key, value) in expected.as_object().into_iter().flatten() {
            ensure!(info[key] == *value, "{own}: {key} is {}", info[key]);
        }
        for (key, id) in [("user", &keys["owner"]), ("group", &keys["group"])] {
            ensure!(info[key] == *id || (*id == 0 && info[key] == "root"), "{own}: {key} is {}", info[key]);
        }
        check(room, "tap", &container, &layer2_tap(&own), &result)?.silent()?;
    }
    Ok(())
}

fn precedence(room: &Room) -> Result<()> {
    let key = json!({"mac": "02:00:00:00:00:01"});
    let runtime = with(&key, json!({"runtimeConfig": {"mac": "02:00:00:00:00:03"}}));
    let args = "IgnoreUnknown=1;K8S_POD_NAME=web;MAC=02:00:00:00:00:02";
    for (nth, (keys, args)) in [(&key, ""), (&key, args), (&runtime, args)].into_iter().enumerate() {
        let container = room.container(&format!("c{nth}"))?;
        let call = room.attach("tap", "ADD", &container).config(&layer2_tap(keys)).env("CNI_ARGS", args);
        let result = call.run()?.result()?;
        let expected = format!("02:00:00:00:00:0{}", nth + 1);
        ensure!(device(&container.id)?["address"] == expected, "{keys} with {args:?}");
        ensure!(result["interfaces"][0]["mac"] == expected, "{result}");
    }
    let container = room.container("bad")?;
    for mac in ["zz", "01:00:00:00:00:01", "00:00:00:00:00:00"] {
        refused(room, "tap", &container, &tap(&json!({"mac": mac})), "for MAC addr")?;
    }
    Ok(())
}

fn context(room: &Room) -> Result<()> {
    let own = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let container = room.container("c1")?;
    let config = tap(&json!({"selinuxContext": "system_u:system_r:container_t:s0"}));
    if own.split(':').count() > 2 {
        room.attach("tap", "ADD", &container).config(&config).run()?.result()?;
        return room.attach("tap", "DEL", &container).config(&config).run()?.silent();
    }
    refused(room, "tap", &container, &config, "this host does not run SELinux")?;
    let status = with(&config, json!({"cniVersion": "1.1.0"}));
    room.call("tap", "STATUS").config(&status).run()?.error_with(50, "SELinux")?;
    let other = tap(&json!({"selinuxContext": "exec unconfined"}));
    refused(room, "tap", &container, &other, "invalid selinuxContext").map(drop)
}

/// The process that ADD starts for a context, without one: it makes the device at its standard
/// input, which goes with the descriptor.
fn process(room: &Room) -> Result<()> {
    room.container("c1")?;
    let queue = room.inside("c1", || {
        let queue = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut command = Command::new(room.suite.join("tap"));
        command.args(["create-device", "eth0", "4711", "true"]).env_clear().stdin(queue.try_clone()?);
        ensure!(command.status()?.success(), "the process failed");
        Ok(queue)
    })?;
    let link = device("c1")?;
    let info = &link["linkinfo"]["info_data"];
    ensure!(link["ifindex"] == 4711 && info["multi_queue"] == true && info["persist"] == false, "{link}");
    drop(queue);
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the device outlives its queue");
    Ok(())
}

fn port(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = tap(&json!({"bridge": "br0"}));
    refused(room, "tap", &container, &config, "br0")?;
    ip::run_in("c1", &["link", "add", "br0", "type", "veth", "peer", "name", "br1"])?;
    refused(room, "tap", &container, &config, "is not a bridge")?;
    ip::script(
        Some("c1"),
        "link del br0
         link add br0 type bridge
         link add br1 type bridge",
    )?;
    let result = room.attach("tap", "ADD", &container).config(&config).run()?.result()?;
    ensure!(device("c1")?["master"] == "br0", "{}", device("c1")?);
    check(room, "tap", &container, &config, &result)?.silent()?;
    ip::run_in("c1", &["link", "set", "eth0", "master", "br1"])?;
    check(room, "tap", &container, &config, &result)?.refused("bridge of eth0: expected br0, actual br1")?;
    room.attach("tap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::links(Some("c1"))? == ["lo", "br0", "br1"], "{:?}", ip::links(Some("c1"))?);
    Ok(())
}

fn layer2(room: &Room) -> Result<()> {
    let args = json!({"args": {"cni": {"ips": 5}}});
    let (container, result) = add(room, "tap", "c1", &layer2_tap(&args))?;
    ensure!(result["ips"].as_array().is_none_or(Vec::is_empty), "{result}");
    ensure!(store::addresses("/var/lib/cni/networks/vm")?.is_empty(), "a lease for layer 2");
    let link = device("c1")?;
    ensure!(link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into())), "{link}");
    let config = layer2_tap(&json!({"args": null}));
    check(room, "tap", &container, &config, &result)?.silent()?;
    room.attach("tap", "DEL", &container).config(&config).run()?.silent()?;
    let old = with(&config, json!({"cniVersion": "0.1.0"}));
    refused(room, "tap", &container, &old, "cannot convert: no valid IP addresses").map(drop)
}

fn quick(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let answer = room.attach("tap", "ADD", &container).config(&tap(&json!({}))).run()?;
    answer.result()?;
    let tentative = ip::tentative(Some("c1"), "eth0")?;
    ensure!(tentative.is_empty(), "tentative after ADD: {tentative:?}");
    ensure_prompt("ADD", answer.took, Duration::from_secs(1))
}

fn drifts(room: &Room) -> Result<()> {
    let config = tap(&json!({"mtu": 1400, "owner": 4107, "multiQueue": true}));
    let (container, result) = add(room, "tap", "c1", &config)?;
    let checked = |config: &Value| check(room, "tap", &container, config, &result);
    checked(&config)?.silent()?;
    for (keys, text) in [
        (json!({"owner": 4108}), "owner of eth0: expected 4108, actual 4107"),
        (json!({"owner": null}), "owner of eth0: expected none, actual 4107"),
        (json!({"group": 4108}), "group of eth0: expected 4108, actual none"),
        (json!({"multiQueue": false}), "multiple queues of eth0: expected false, actual true"),
        (json!({"bridge": "br0"}), "bridge of eth0: expected br0, actual none"),
    ] {
        checked(&with(&config, keys))?.refused(text)?;
    }
    let mac = result["interfaces"][0]["mac"].as_str().context("no mac")?;
    for (change, back, text) in [
        ("link set eth0 mtu 1300", "link set eth0 mtu 1400", "MTU of eth0: expected 1400, actual 1300"),
        (
            "link set eth0 address 02:00:00:00:00:01",
            "link set eth0 address OLD",
            "MAC address of eth0: expected",
        ),
        ("addr del 10.83.0.2/24 dev eth0", "addr add 10.83.0.2/24 dev eth0", "expected 10.83.0.2/24"),
        (
            "addr del 2001:db8:83::2/64 dev eth0",
            "addr add 2001:db8:83::2/64 dev eth0 nodad",
            "expected 2001:db8:83::2/64",
        ),
        ("route del 192.0.2.0/24", "route add 192.0.2.0/24 via 10.83.0.1", "route 192.0.2.0/24"),
        ("link set eth0 down", "link set eth0 up", "state of eth0: expected up, actual down"),
    ] {
        ip::script(Some("c1"), change)?;
        checked(&config)?.refused(text).with_context(|| change.to_owned())?;
        ip::script(Some("c1"), &back.replace("OLD", mac))?;
        // Routes and IPv6 addresses go with one that is deleted, and with the link's state.
        ip::script(
            Some("c1"),
            "route replace 192.0.2.0/24 via 10.83.0.1
             addr replace 2001:db8:83::2/64 dev eth0 nodad",
        )?;
        checked(&config)?.silent().with_context(|| back.to_owned())?;
    }
    for other in ["link add eth0 type veth peer name eth1", "tuntap add mode tun name eth0"] {
        ip::run_in("c1", &["link", "del", "eth0"])?;
        checked(&config)?.refused("interface eth0: expected present, actual missing")?;
        ip::script(Some("c1"), other)?;
        checked(&config)?.refused("kind of eth0: expected tap")?;
    }
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    let config = layer2_tap(&json!({"cniVersion": "1.1.0"}));
    let status = || room.call("tap", "STATUS").config(&config);
    status().run()?.silent()?;
    let hidden = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$0\" \"$@\""];
    status().under(&hidden).run()?.error_with(50, "/dev/net/tun")?;
    let container = room.container("c1")?;
    let answer = room.attach("tap", "ADD", &container).config(&config).under(&hidden).run()?;
    answer.refused("is its module tun loaded?")?;
    ensure!(ip::links(Some("c1"))? == ["lo"], "{:?}", ip::links(Some("c1"))?);
    Ok(())
}
