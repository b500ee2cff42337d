//! Early refusals: STATUS reports a missing kernel feature, ADD refuses an MTU too small for IPv6.
//! The example networks avoid the subnets of other tools.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::fake::Fake;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::lan;
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

const IPVLAN: &[Need] = &[Need::Ipvlan];
const MACVLAN: &[Need] = &[Need::Macvlan];

pub const CASES: &[Case] = &[
    Case::new("bridge/status_is_50_where_the_kernel_lacks_a_feature", &["C-044", "LK-8"], |room| {
        status(room, &[bridge(USUAL), with(&bridge(USUAL), json!({"vlan": 100}))])
    }),
    Case::new("macvlan/status_is_50_where_the_kernel_lacks_a_feature", &["C-044", "LK-8"], |room| {
        let internal = json!({"internal": true, "master": null});
        let keys = [json!({}), json!({"vlan": 10}), json!({"master": "wan0.10"}), internal];
        status(room, &keys.map(|keys| lan("macvlan", &keys)))
    }),
    Case::new("ipvlan/status_is_50_where_the_kernel_lacks_a_feature", &["C-044", "LK-8"], |room| {
        status(room, &[lan("ipvlan", &json!({}))])
    }),
    Case::new("vlan/status_is_50_where_the_kernel_lacks_a_feature", &["C-044", "LK-8"], |room| {
        status(room, &[lan("vlan", &json!({"vlanId": 10}))])
    }),
    Case::new("dummy/status_is_50_where_the_kernel_lacks_a_feature", &["C-044", "LK-8"], |room| {
        status(room, &[lan("dummy", &json!({}))])
    }),
    Case::new("conflists/examples_avoid_the_defaults_of_other_tools", &["LR-6"], suitable),
    Case::new("bridge/mtu_too_small_for_ipv6_is_refused", &["LK-1"], |room| mtu(room, "bridge")),
    Case::new("macvlan/mtu_too_small_for_ipv6_is_refused", &["LK-1"], |room| mtu(room, "macvlan"))
        .needs(MACVLAN),
    Case::new("ipvlan/mtu_too_small_for_ipv6_is_refused", &["LK-1"], |room| mtu(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("tap/mtu_too_small_for_ipv6_is_refused", &["LK-1"], |room| mtu(room, "tap"))
        .needs(&[Need::Tap]),
];

/// STATUS succeeds where ADD does, and reports the same missing kernel feature where ADD fails.
fn status(room: &Room, configs: &[Value]) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    for config in configs {
        let config = with(config, json!({"cniVersion": "1.1.0"}));
        let plugin = config["type"].as_str().context("no type")?;
        let links = ip::links(None)?;
        let answer = room.call(plugin, "STATUS").config(&config).run()?;
        ensure!(ip::links(None)? == links, "{config}: STATUS created a link");
        let added = room.attach(plugin, "ADD", &container).config(&config).run()?;
        room.attach(plugin, "DEL", &container).config(&config).run()?.silent()?;
        if added.succeeded() {
            answer.silent().with_context(|| config.to_string())?;
            continue;
        }
        let error = added.error()?;
        let missing = error.msg.split("this kernel").nth(1).and_then(|text| text.split('(').next());
        let missing = missing.with_context(|| format!("{config}: {error}"))?;
        answer.error_with(50, missing.trim()).with_context(|| config.to_string())?;
    }
    Ok(())
}

const RANGES: &str = "2001:db8:ff::/64";
const ANSWER: &str = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion":"1.0.0","ips":[{"address":"198.51.100.7/24"},{"address":"2001:db8:ff::7/64"}]}'"#;

fn mtu(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let network = if plugin == "bridge" { bridge(USUAL) } else { lan(plugin, &json!({})) };
    let fake = Fake::new(room, "fakeipam", ANSWER)?;
    let add = |mtu: u32, ipam: &Value| {
        let keys = json!({"isDefaultGateway": false, "enabledad": false, "mtu": mtu, "ipam": ipam});
        room.attach(plugin, "ADD", &container).path_first(&fake.dir).config(&with(&network, keys)).run()
    };
    // If the configuration shows the conflict, no IPAM plugin is called.
    for ipam in [
        json!({"type": "fakeipam", "ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": RANGES}]]}),
        json!({"type": "fakeipam", "subnet": RANGES}),
        json!({"type": "fakeipam", "addresses": [{"address": "2001:db8:ff::7/64"}]}),
    ] {
        add(1279, &ipam)?.error_with(7, "IPv6 needs at least 1280").with_context(|| ipam.to_string())?;
        ensure!(fake.commands()?.is_empty(), "{ipam}: {:?}", fake.commands()?);
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    // If only the result shows it, ADD undoes everything.
    let plain = json!({"type": "fakeipam"});
    add(1279, &plain)?.error_with(7, "IPv6 needs at least 1280")?;
    ensure!(fake.commands()? == ["ADD", "DEL"], "{:?}", fake.commands()?);
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the link stays");
    room.ensure_nothing_left(&before, &["c1"])?;
    add(1280, &plain)?.result()?;
    let config = with(&network, json!({"ipam": plain}));
    room.attach(plugin, "DEL", &container).path_first(&fake.dir).config(&config).run()?.silent()?;
    // IPv4 has no such minimum.
    let v4 = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}]]});
    add(576, &v4)?.result().map(drop)
}

/// The subnets that podman, Docker and Kubernetes use by default.
const DEFAULTS: [&str; 5] =
    ["10.88.0.0/16", "172.17.0.0/16", "10.96.0.0/12", "10.244.0.0/16", "10.85.0.0/16"];

/// podman treats a bridge without `isGateway` as an internal network.
fn suitable(room: &Room) -> Result<()> {
    let defaults: Vec<IpNetwork> = DEFAULTS.iter().map(|net| net.parse()).collect::<Result<_, _>>()?;
    for (file, list) in harness::stage::conflists::load(&room.net_d)? {
        for plugin in &list.plugins {
            let key = |name: &str| plugin.object.get(name).and_then(Value::as_bool).unwrap_or(false);
            ensure!(
                !key("isDefaultGateway") || key("isGateway"),
                "{file}: isDefaultGateway without isGateway"
            );
            let ranges = plugin.object.get("ipam").map(|ipam| ipam["ranges"].clone()).unwrap_or_default();
            let sets = ranges.as_array().into_iter().flatten();
            for range in sets.filter_map(Value::as_array).flatten() {
                let subnet: IpNetwork = range["subnet"].as_str().context("no subnet")?.parse()?;
                let taken =
                    defaults.iter().find(|net| net.contains(subnet.ip()) || subnet.contains(net.ip()));
                ensure!(taken.is_none(), "{file}: {subnet} is another tool's default: {taken:?}");
            }
        }
    }
    Ok(())
}
