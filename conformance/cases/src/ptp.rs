//! ptp: what ADD makes at both ends, as `ip` and packets see it.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, ptp, with};
use harness::fake::Fake;
use harness::namespace::{Container, OUTSIDE};
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::stage::lan::addresses_of;
use harness::{ip, socket};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("ptp/result_names_both_ends_and_addresses_of_the_second", &["PT-1"], result),
    Case::new("ptp/both_ends_have_the_references_addresses_and_routes", &["PT-2"], both_ends)
        .needs(&[Need::Reference]),
    Case::new("ptp/several_addresses_of_a_family_are_routed", &["PT-2"], several),
    Case::new("ptp/first_packet_reaches_host_sibling_and_outside", &["PT-3", "PT-R3"], reached),
    Case::new("ptp/addresses_without_gateways_get_link_local_ones", &["PT-B3"], no_gateways),
    Case::new("ptp/single_addresses_are_attached", &["PT-B4"], |room| single(room, true)),
    Case::new("ptp/single_addresses_without_gateways_are_attached", &["PT-B3", "PT-B4"], |room| {
        single(room, false)
    }),
    Case::new("ptp/an_address_that_another_container_has_is_refused", &["PT-B8"], taken),
    Case::new("ptp/a_gateway_that_the_host_cannot_have_is_refused", &["PT-B1"], bad_gateway),
    Case::new("ptp/forwarding_is_on_for_the_families_of_the_addresses", &["PT-6"], forwarding),
    Case::new("ptp/failed_add_leaves_nothing", &["PT-B1"], failed),
];

const NETWORKS: [&str; 2] = ["10.1.2.0/24", "2001:db8:1::/64"];

/// A call of ptp for `eth0` of a container.
pub fn call(room: &Room, verb: &str, container: &Container, config: &Value) -> Result<Answer> {
    room.attach("ptp", verb, container).config(config).run()
}

/// A new container, attached; its result.
pub fn add(room: &Room, id: &str, config: &Value) -> Result<(Container, Value)> {
    let container = room.container(id)?;
    let result = call(room, "ADD", &container, config)?.result()?;
    Ok((container, result))
}

/// The name of the host's end in a result.
pub fn host_end(result: &Value) -> Result<String> {
    Ok(result["interfaces"][0]["name"].as_str().context("no host end in the result")?.to_owned())
}

/// The routes of a namespace by a link, as text, in order.
fn routes(ns: Option<&str>, link: &str) -> Result<Vec<String>> {
    let mut lines = vec![];
    for family in ["-4", "-6"] {
        for row in ip::rows(ns, &[family, "route", "show", "dev", link])? {
            let field = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            lines.push(format!("{} via {} src {}", field("dst"), field("gateway"), field("prefsrc")));
        }
    }
    // The kernel's own.
    lines.retain(|line| !line.starts_with("fe80::/64") && !line.starts_with("ff00::/8"));
    lines.sort();
    Ok(lines)
}

fn addresses(ns: Option<&str>, link: &str) -> Result<Vec<String>> {
    let mut all = ip::addresses(ns, link)?;
    all.retain(|address| !address.starts_with("fe80:"));
    all.sort();
    Ok(all)
}

fn result(room: &Room) -> Result<()> {
    let (container, result) = add(room, "c1", &ptp(USUAL))?;
    let host = host_end(&result)?;
    let path = container.path.display().to_string();
    let [near, far] = [
        ip::link(None, &host)?.context("the host has no such end")?,
        ip::link(Some("c1"), "eth0")?.context("no eth0")?,
    ];
    let expected = json!([
        {"name": host, "mac": near["address"]},
        {"name": "eth0", "mac": far["address"], "sandbox": path},
    ]);
    ensure!(result["interfaces"] == expected, "{result}");
    let ips = json!([
        {"interface": 1, "address": "10.1.2.2/24", "gateway": "10.1.2.1"},
        {"interface": 1, "address": "2001:db8:1::2/64", "gateway": "2001:db8:1::1"},
    ]);
    ensure!(result["ips"] == ips, "{result}");
    ensure!(result["routes"] == json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]), "{result}");
    ensure!(near["linkinfo"]["info_kind"] == "veth" && near["master"].is_null(), "{near}");
    Ok(())
}

/// A call of the reference's plugin.
pub fn reference<'r>(room: &'r Room, verb: &str, container: &Container, ifname: &str) -> Call<'r> {
    Call::new(room, room.reference.join("ptp"))
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", &room.reference)
        .env("CNI_CONTAINERID", &container.id)
        .env("CNI_NETNS", &container.path)
        .env("CNI_IFNAME", ifname)
}

fn both_ends(room: &Room) -> Result<()> {
    let seen = |result: &Value, id: &str| -> Result<Vec<String>> {
        let host = host_end(result)?;
        let mut lines = addresses(None, &host)?;
        lines.extend(
            routes(None, &host)?.iter().map(|line| line.split(" src").next().unwrap_or(line).to_owned()),
        );
        lines.extend(addresses(Some(id), "eth0")?);
        lines.extend(routes(Some(id), "eth0")?);
        Ok(lines)
    };
    let config = ptp("1.0.0");
    let container = room.container("theirs")?;
    let result = reference(room, "ADD", &container, "eth0").config(&config).run()?.result()?;
    let theirs = seen(&result, "theirs")?;
    reference(room, "DEL", &container, "eth0").config(&config).run()?.silent()?;
    fs::remove_dir_all("/var/lib/cni/networks").context("forget the last address")?;
    let (_, result) = add(room, "ours", &config)?;
    let ours = seen(&result, "ours")?;
    ensure!(ours == theirs, "ours: {ours:#?}, theirs: {theirs:#?}");
    let subnet = "10.1.2.0/24 via 10.1.2.1 src 10.1.2.2".to_owned();
    ensure!(ours.contains(&subnet) && ours.contains(&"10.1.2.1 via - src 10.1.2.2".to_owned()), "{ours:#?}");
    Ok(())
}

fn several(room: &Room) -> Result<()> {
    room.outside(&["10.1.0.0/16", "2001:db8:1::/48"])?;
    let ranges = json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}],
        [{"subnet": "10.1.4.0/30"}], [{"subnet": "2001:db8:1::/64"}], [{"subnet": "2001:db8:1:1::/64"}]]);
    let mut config = ptp(USUAL);
    config["ipam"]["ranges"] = ranges;
    let (container, result) = add(room, "c1", &config)?;
    let ips = result["ips"].as_array().context("no ips")?;
    ensure!(ips.len() == 5, "{result}");
    for address in ips.iter().filter_map(|ip| ip["address"].as_str()?.split('/').next()) {
        room.reach("outside", address)?;
    }
    for gateway in ips.iter().filter_map(|ip| ip["gateway"].as_str()) {
        room.reach("c1", gateway)?;
    }
    let checked = with(&config, json!({"prevResult": result}));
    call(room, "CHECK", &container, &checked)?.silent()?;
    call(room, "DEL", &container, &config)?.silent()
}

/// Everybody reaches everybody, in both families, with the first packet after ADD.
fn reached(room: &Room) -> Result<()> {
    room.outside(&NETWORKS)?;
    let (_, first) = add(room, "c1", &ptp(USUAL))?;
    let one = addresses_of(&first)?;
    for address in OUTSIDE.into_iter().chain(["10.1.2.1", "2001:db8:1::1"]) {
        room.reach("c1", address)?;
    }
    let (_, second) = add(room, "c2", &ptp(USUAL))?;
    let two = addresses_of(&second)?;
    for (own, other) in one.iter().zip(&two) {
        room.reach("c1", other)?;
        room.reach("outside", own)?;
        socket::reach(other.parse()?, socket::patience()).context("from the host")?;
        let seen = socket::seen_as("c1", "c2", other)?;
        ensure!(seen == *own, "c2 sees c1 as {seen}");
    }
    Ok(())
}

/// An IPAM plugin that returns these addresses, each with this gateway, if any.
fn ipam(room: &Room, ips: &Value) -> Result<Fake> {
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let result = json!({"cniVersion": USUAL, "ips": ips, "routes": routes});
    Fake::new(room, "given", &format!("[ \"$CNI_COMMAND\" = ADD ] && echo '{result}'; exit 0"))
}

fn given(config: &Value) -> Value {
    with(config, json!({"ipam": {"type": "given"}}))
}

/// Attaches `c1` to these addresses; both ends must reach each other and the outside. Then CHECK
/// and DEL.
fn works_with(room: &Room, ips: &Value, gateways: [&str; 2]) -> Result<()> {
    room.outside(&NETWORKS)?;
    let before = room.snapshot()?;
    let fake = ipam(room, ips)?;
    let (config, container) = (given(&ptp(USUAL)), room.container("c1")?);
    let call = |verb: &str, config: &Value| {
        room.attach("ptp", verb, &container).config(config).path_first(&fake.dir).run()
    };
    let result = call("ADD", &config)?.result()?;
    for (ip, gateway) in result["ips"].as_array().into_iter().flatten().zip(gateways) {
        ensure!(ip["gateway"] == gateway, "{result}");
    }
    let own = addresses_of(&result)?;
    for (address, outside) in own.iter().zip(OUTSIDE) {
        room.reach("c1", outside)?;
        room.reach("outside", address)?;
        socket::reach(address.parse()?, socket::patience()).context("from the host")?;
    }
    call("CHECK", &with(&config, json!({"prevResult": result})))?.silent()?;
    call("DEL", &config)?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

const LINK_LOCAL: [&str; 2] = ["169.254.1.1", "fe80::1"];

fn no_gateways(room: &Room) -> Result<()> {
    works_with(room, &json!([{"address": "10.1.2.5/24"}, {"address": "2001:db8:1::5/64"}]), LINK_LOCAL)
}

fn single(room: &Room, gateways: bool) -> Result<()> {
    let ip = |address: &str, gateway: &str| match gateways {
        true => json!({"address": address, "gateway": gateway}),
        false => json!({"address": address}),
    };
    let ips = json!([ip("10.1.2.5/32", "10.9.9.1"), ip("2001:db8:1::5/128", "2001:db8:9::1")]);
    works_with(room, &ips, if gateways { ["10.9.9.1", "2001:db8:9::1"] } else { LINK_LOCAL })
}

/// The host has one route to an address. The reference attaches both containers, and the second one
/// gets no packets.
fn taken(room: &Room) -> Result<()> {
    let fake = ipam(room, &json!([{"address": "10.1.2.5/24", "gateway": "10.1.2.1"}]))?;
    let config = given(&ptp(USUAL));
    let call = |verb: &str, container: &Container| {
        room.attach("ptp", verb, container).config(&config).path_first(&fake.dir).run()
    };
    let (one, two) = (room.container("c1")?, room.container("c2")?);
    let veth = host_end(&call("ADD", &one)?.result()?)?;
    let before = room.snapshot()?;
    let error = call("ADD", &two)?.error_with(999, "10.1.2.5")?;
    ensure!(error.msg.contains(&veth) && error.msg.contains("moor/net/eth0/c1"), "{error}");
    room.ensure_nothing_left(&before, &["c2"])?;
    call("DEL", &one)?.silent()?;
    call("ADD", &two)?.result()?;
    room.reach("c2", "10.1.2.1")
}

fn bad_gateway(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    for (n, (address, gateway)) in [
        ("10.1.2.5/24", "10.1.2.5"),
        ("10.1.2.5/24", "2001:db8:1::1"),
        ("10.1.2.5/24", "127.0.0.1"),
        ("2001:db8:1::5/64", "ff02::1"),
    ]
    .into_iter()
    .enumerate()
    {
        let fake = ipam(room, &json!([{"address": address, "gateway": gateway}]))?;
        let container = room.container(&format!("c{n}"))?;
        let add = room.attach("ptp", "ADD", &container).config(&given(&ptp(USUAL))).path_first(&fake.dir);
        add.run()?.error_with(999, gateway)?;
        room.ensure_nothing_left(&before, &[&container.id])?;
    }
    Ok(())
}

fn forwarding(room: &Room) -> Result<()> {
    let keys = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    let now = || keys.iter().map(|key| room.host_sysctl(key)).collect::<Result<Vec<_>>>();
    for key in keys {
        fs::write(format!("/proc/sys/{key}"), "0")?;
    }
    let mut config = ptp(USUAL);
    config["ipam"] = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}]]});
    let (container, _) = add(room, "c1", &config)?;
    ensure!(now()? == ["1", "0"], "with IPv4: {:?}", now()?);
    config["name"] = "other".into();
    config["ipam"]["ranges"] = json!([[{"subnet": "2001:db8:1::/64"}]]);
    add(room, "c2", &config)?;
    ensure!(now()? == ["1", "1"], "with IPv6: {:?}", now()?);
    call(room, "DEL", &container, &config)?.silent()?;
    ensure!(now()? == ["1", "1"], "others may rely on it by now: {:?}", now()?);
    Ok(())
}

fn failed(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    // A route that the kernel refuses, after everything else.
    let mut config = with(&ptp(USUAL), json!({"ipMasq": true, "ipspoofchk": true}));
    config["ipam"]["routes"] = json!([{"dst": "10.99.0.0/16", "gw": "172.31.255.1"}]);
    call(room, "ADD", &container, &config)?.error_code(999)?;
    room.ensure_nothing_left(&before, &["c1"])?;
    let config = with(&ptp(USUAL), json!({"ipam": {"type": "host-local", "ranges": []}}));
    call(room, "ADD", &container, &config)?.error()?;
    room.ensure_nothing_left(&before, &["c1"])?;
    ensure!(ip::links(Some("c1"))? == ["lo"], "left in the container: {:?}", ip::links(Some("c1"))?);
    Ok(())
}
