//! static: addresses of the configuration and of the runtime, CHECK, and that it keeps nothing.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, with};
use harness::golden::differences;
use harness::ip;
use harness::room::Room;
use harness::room::call::Answer;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("static/addresses_routes_and_dns_of_the_configuration", &["ST-1", "ST-2"], configured),
    Case::new("static/results_in_every_version", &["C-060", "C-063", "ST-9", "ST-11", "ST-12"], versions),
    Case::new("static/addresses_of_cni_args_are_appended", &["C-090", "ST-3", "ST-4"], by_environment),
    Case::new("static/gateway_of_cni_args_reaches_configured_addresses", &["ST-4", "ST-B1"], gateways),
    Case::new("static/ips_of_args_and_runtime_replace_the_list", &["C-101", "ST-5", "ST-6"], replaced),
    Case::new("static/replaced_addresses_keep_the_gateway_of_their_subnet", &["ST-B2"], kept_gateway),
    Case::new("static/invalid_addresses_are_refused_by_their_text", &["ST-7", "ST-8"], refused),
    Case::new("static/a_replaced_address_need_not_be_valid", &["ST-10"], replaced_invalid),
    Case::new("static/an_address_given_twice_is_named", &["ST-B4"], duplicates),
    Case::new("static/a_gateway_of_another_family_is_refused", &["ST-B5"], families),
    Case::new("static/a_route_without_destination_is_refused", &["ST-B6"], nil_route),
    Case::new("static/keeps_no_state", &["C-042", "ST-13"], no_state),
    Case::new("static/gc_and_status_need_no_address", &["ST-13", "ST-R1"], inquiries),
    Case::new("static/check_needs_the_earlier_result_and_compares_gateways", &["C-043", "ST-14"], check),
    Case::new("static/check_reports_a_missing_address_and_route", &["ST-B3"], drift),
    Case::new("static/bridge_has_the_address_and_routes_in_the_container", &["ST-1", "ST-2"], delegated),
];

fn config(version: &str, ipam: Value) -> Value {
    let mut ipam = ipam;
    ipam["type"] = json!("static");
    json!({"cniVersion": version, "name": "net", "type": "static", "ipam": ipam})
}

/// One address of each family, of them the first with a gateway.
fn usual() -> Value {
    let addresses =
        json!([{"address": "10.1.2.5/24", "gateway": "10.1.2.1"}, {"address": "2001:db8:1::5/64"}]);
    config(USUAL, json!({"addresses": addresses}))
}

fn call(room: &Room, verb: &str, config: &Value, args: &str) -> Result<Answer> {
    let call = room.call("static", verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
    call.env("CNI_NETNS", "/run/netns/none").env("CNI_ARGS", args).config(config).run()
}

fn add(room: &Room, config: &Value, args: &str) -> Result<Value> {
    call(room, "ADD", config, args)?.result()
}

/// The addresses of a result, each with its gateway.
fn given(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ips.map(|ip| format!("{} {}", text(&ip["address"]), text(&ip["gateway"])).trim_end().to_owned()).collect()
}

fn ensure_given(result: &Value, wanted: &[&str]) -> Result<()> {
    ensure!(given(result) == wanted, "expected {wanted:?}, got {:?}", given(result));
    Ok(())
}

fn configured(room: &Room) -> Result<()> {
    let mut config = usual();
    let dns = json!({"nameservers": ["10.1.2.1"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:2"]});
    let routes = json!([
        {"dst": "0.0.0.0/0"},
        {"dst": "10.0.0.1/8", "gw": "10.1.2.9", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 100, "scope": 0},
    ]);
    config["ipam"]["dns"] = dns.clone();
    config["ipam"]["routes"] = routes.clone();
    let result = add(room, &config, "")?;
    let ips = json!([{"address": "10.1.2.5/24", "gateway": "10.1.2.1"}, {"address": "2001:db8:1::5/64"}]);
    let expected = json!({"cniVersion": USUAL, "ips": ips, "routes": routes, "dns": dns});
    let found = differences(&expected, &result);
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

fn versions(room: &Room) -> Result<()> {
    let two = json!([{"address": "10.1.2.5/24"}, {"address": "10.1.3.5/24"}]);
    let both = json!([{"address": "10.1.2.5/24", "gateway": "10.1.2.1"}, {"address": "2001:db8:1::5/64"}]);
    for version in VERSIONS {
        let old = matches!(version, "0.1.0" | "0.2.0");
        let expected = match version {
            _ if old => json!({"cniVersion": version, "dns": {},
                "ip4": {"ip": "10.1.2.5/24", "gateway": "10.1.2.1"}, "ip6": {"ip": "2001:db8:1::5/64"}}),
            "1.0.0" | "1.1.0" => json!({"cniVersion": version, "ips": both}),
            _ => json!({"cniVersion": version, "dns": {}, "ips": [
                {"version": "4", "address": "10.1.2.5/24", "gateway": "10.1.2.1"},
                {"version": "6", "address": "2001:db8:1::5/64"}]}),
        };
        let found = differences(&expected, &add(room, &config(version, json!({"addresses": both})), "")?);
        ensure!(found.is_empty(), "{version}: {found:#?}");
        let more = call(room, "ADD", &config(version, json!({"addresses": two})), "")?;
        let none = call(room, "ADD", &config(version, json!({})), "")?;
        if old {
            let text = format!("CNI version {version} does not support more than 1 address per family");
            more.refused(&text)?;
            none.error_with(999, "cannot convert: no valid IP addresses")?;
        } else {
            ensure_given(&more.result()?, &["10.1.2.5/24", "10.1.3.5/24"]).context(version)?;
            ensure!(none.result()?.get("ips").is_none(), "{version}: without addresses there are ips");
        }
    }
    Ok(())
}

fn by_environment(room: &Room) -> Result<()> {
    let result = add(room, &usual(), "IP=10.5.0.7/16, 2001:db8:5::7/64;GATEWAY=10.5.0.1,2001:db8:5::1")?;
    ensure_given(
        &result,
        &[
            "10.1.2.5/24 10.1.2.1",
            "2001:db8:1::5/64",
            "10.5.0.7/16 10.5.0.1",
            "2001:db8:5::7/64 2001:db8:5::1",
        ],
    )?;
    let nothing = config(USUAL, json!({}));
    ensure_given(&add(room, &nothing, "IP=10.5.0.7/16;GATEWAY=192.0.2.1")?, &["10.5.0.7/16"])?;
    ensure_given(&add(room, &nothing, "IgnoreUnknown=1;K8S_POD_NAME=a;IP=10.5.0.7/16")?, &["10.5.0.7/16"])?;
    call(room, "ADD", &nothing, "ip=10.5.0.7/16")?.refused("unknown args")?;
    Ok(())
}

fn gateways(room: &Room) -> Result<()> {
    let wanted = ["10.1.2.5/24 10.1.2.254", "2001:db8:1::5/64 2001:db8:1::1"];
    ensure_given(&add(room, &usual(), "GATEWAY=10.1.2.254,2001:db8:1::1")?, &wanted)?;
    let config = with(&usual(), json!({"runtimeConfig": {"ips": ["10.7.0.5/16"]}}));
    ensure_given(&add(room, &config, "GATEWAY=10.7.0.1")?, &["10.7.0.5/16 10.7.0.1"])
}

fn replaced(room: &Room) -> Result<()> {
    let by_args = with(&usual(), json!({"args": {"cni": {"ips": ["10.8.0.5/16", "10.9.0.5/16"]}}}));
    ensure_given(&add(room, &by_args, "IP=10.5.0.7/16")?, &["10.8.0.5/16", "10.9.0.5/16"])?;
    let by_runtime = with(&by_args, json!({"runtimeConfig": {"ips": ["10.7.0.5/16"]}}));
    ensure_given(&add(room, &by_runtime, "IP=10.5.0.7/16")?, &["10.7.0.5/16"])?;
    let empty = with(&by_args, json!({"runtimeConfig": {"ips": []}}));
    ensure_given(&add(room, &empty, "")?, &["10.8.0.5/16", "10.9.0.5/16"])
}

fn kept_gateway(room: &Room) -> Result<()> {
    for key in [
        json!({"args": {"cni": {"ips": ["10.1.2.9/24", "10.8.0.5/16"]}}}),
        json!({"runtimeConfig": {"ips": ["10.1.2.9/24", "10.8.0.5/16"]}}),
    ] {
        let result = add(room, &with(&usual(), key), "")?;
        ensure_given(&result, &["10.1.2.9/24 10.1.2.1", "10.8.0.5/16"])?;
    }
    Ok(())
}

fn refused(room: &Room) -> Result<()> {
    let without = json!({"cniVersion": USUAL, "name": "net", "type": "static"});
    call(room, "ADD", &without, "")?.refused("IPAM config missing 'ipam' key")?;
    for text in ["10.1.2.5", "", "bad", "10.1.2.5/33", "10.1.2.5/255.255.255.0"] {
        let addresses = config(USUAL, json!({"addresses": [{"address": text}]}));
        let wanted = format!("the 'address' field is expected to be in CIDR notation, got: '{text}'");
        call(room, "ADD", &addresses, "")?.refused(&wanted)?;
        let ips = with(&usual(), json!({"runtimeConfig": {"ips": [text]}}));
        let wanted = format!("an entry in the 'ips' field is NOT in CIDR notation, got: '{text}'");
        call(room, "ADD", &ips, "")?.refused(&wanted)?;
    }
    let wanted = "the 'ip' field is expected to be in CIDR notation, got: '10.5.0.7'";
    call(room, "ADD", &usual(), "IP=10.5.0.7")?.refused(wanted)?;
    call(room, "ADD", &usual(), "GATEWAY=x")?.refused("invalid gateway address: x")?;
    let gateway = config(USUAL, json!({"addresses": [{"address": "10.1.2.5/24", "gateway": "x"}]}));
    call(room, "ADD", &gateway, "")?.refused("invalid IP address: x")?;
    Ok(())
}

fn replaced_invalid(room: &Room) -> Result<()> {
    let bad = config(USUAL, json!({"addresses": [{"address": "bad", "gateway": "10.1.2.1"}]}));
    let config = with(&bad, json!({"args": {"cni": {"ips": ["10.8.0.5/16"]}}}));
    ensure_given(&add(room, &config, "")?, &["10.8.0.5/16"])
}

fn duplicates(room: &Room) -> Result<()> {
    let twice =
        |texts: [&str; 2]| config(USUAL, json!({"addresses": texts.map(|text| json!({"address": text}))}));
    call(room, "ADD", &twice(["10.1.2.5/24", "10.1.2.5/24"]), "")?.refused("10.1.2.5/24 is given twice")?;
    call(room, "ADD", &twice(["fd00::5/64", "fd00:0::5/80"]), "")?.refused("fd00::5/80 is given twice")?;
    call(room, "ADD", &usual(), "IP=10.1.2.5/24")?.refused("10.1.2.5/24 is given twice")?;
    // To the kernel these are two.
    let lengths = add(room, &twice(["10.1.2.5/24", "10.1.2.5/16"]), "")?;
    ensure_given(&lengths, &["10.1.2.5/24", "10.1.2.5/16"])
}

fn families(room: &Room) -> Result<()> {
    let config = config(USUAL, json!({"addresses": [{"address": "10.1.2.5/24", "gateway": "fd00::1"}]}));
    call(room, "ADD", &config, "")?.refused("gateway fd00::1 is not of the address family of 10.1.2.5/24")?;
    Ok(())
}

fn nil_route(room: &Room) -> Result<()> {
    for route in [json!({"gw": "10.1.2.1"}), json!({"dst": "", "gw": "10.1.2.1"})] {
        let mut config = usual();
        config["ipam"]["routes"] = json!([route]);
        call(room, "ADD", &config, "")?.refused("ipam.routes[0].dst")?;
    }
    Ok(())
}

fn no_state(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let result = room.attach("static", "ADD", &container).config(&usual()).run()?.result()?;
    let kept = with(&usual(), json!({"prevResult": result}));
    room.attach("static", "CHECK", &container).config(&kept).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])?;
    room.remove(&container)?;
    let bare = json!({"cniVersion": USUAL, "name": "net", "type": "static"});
    for config in [&kept, &usual(), &bare, &with(&bare, json!({"ipam": {"addresses": [{"address": "bad"}]}}))]
    {
        room.attach("static", "DEL", &container).unset("CNI_NETNS").config(config).run()?.silent()?;
    }
    room.ensure_nothing_left(&before, &["c1"])
}

fn inquiries(room: &Room) -> Result<()> {
    let nothing = config("1.1.0", json!({"routes": [{"dst": "0.0.0.0/0"}]}));
    let valid = with(&nothing, json!({"cni.dev/valid-attachments": []}));
    room.call("static", "GC").config(&valid).run()?.silent()?;
    room.call("static", "STATUS").config(&nothing).run()?.silent()?;
    // A runtime replaces these.
    let bad = config("1.1.0", json!({"addresses": [{"address": "bad"}]}));
    room.call("static", "STATUS").config(&bad).run()?.silent()?;
    for wrong in [
        json!({"cniVersion": "1.1.0", "name": "net", "type": "static"}),
        config("1.1.0", json!({"routes": [{"dst": "bad"}]})),
    ] {
        room.call("static", "STATUS").config(&wrong).run()?.refused("")?;
    }
    Ok(())
}

fn check(room: &Room) -> Result<()> {
    let result = add(room, &usual(), "")?;
    call(room, "CHECK", &usual(), "")?.error_with(999, "Required prevResult missing")?;
    call(room, "CHECK", &with(&usual(), json!({"prevResult": result})), "")?.silent()?;
    // The plugin that called this one may choose a gateway where there was none.
    let mut chosen = result.clone();
    chosen["ips"][1]["gateway"] = json!("2001:db8:1::1");
    call(room, "CHECK", &with(&usual(), json!({"prevResult": chosen})), "")?.silent()?;
    let mut other = result;
    other["ips"][0]["gateway"] = json!("10.1.2.2");
    let answer = call(room, "CHECK", &with(&usual(), json!({"prevResult": other})), "")?;
    answer.error_with(999, "static: Failed to match addr 10.1.2.5 on interface eth0")?;
    Ok(())
}

fn drift(room: &Room) -> Result<()> {
    let mut config = usual();
    config["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24"}]);
    let result = add(room, &config, "")?;
    for (edit, text) in [
        (json!({"ips": [result["ips"][0]]}), "Failed to match addr 2001:db8:1::5 on interface eth0"),
        (
            json!({"ips": [{"address": "10.1.2.5/16", "gateway": "10.1.2.1"}, result["ips"][1]]}),
            "expected 10.1.2.5/24 with gateway 10.1.2.1, found 10.1.2.5/16 with gateway 10.1.2.1",
        ),
        (json!({"routes": [{"dst": "0.0.0.0/0"}]}), "no route to 192.0.2.0/24"),
    ] {
        let drifted = with(&config, json!({"prevResult": with(&result, edit)}));
        call(room, "CHECK", &drifted, "")?.error_with(999, text)?;
    }
    Ok(())
}

fn delegated(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let mut config = usual();
    config["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "10.1.2.7", "priority": 7}]);
    let config = with(&config, json!({"type": "bridge", "bridge": "br0", "isGateway": true}));
    let container = room.container("c1")?;
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    let addresses = ip::addresses(Some("c1"), "eth0")?;
    for address in ["10.1.2.5/24", "2001:db8:1::5/64"] {
        ensure!(addresses.iter().any(|has| has == address), "no {address}: {addresses:?}");
    }
    let routes = ip::output("ip", &["-n", "c1", "route", "show", "192.0.2.0/24"])?;
    ensure!(routes.contains("via 10.1.2.7 dev eth0") && routes.contains("metric 7"), "{routes}");
    room.reach("c1", "10.1.2.1")?;
    let kept = with(&config, json!({"prevResult": result}));
    room.attach("bridge", "CHECK", &container).config(&kept).run()?.silent()?;
    room.attach("bridge", "DEL", &container).config(&kept).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}
