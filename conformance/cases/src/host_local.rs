//! host-local: allocation, the store's bytes, requests, results.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, host_local, with};
use harness::room::Room;
use harness::room::call::Answer;
use harness::store::{self, NET};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("host_local/addresses_are_allocated_in_order", &["HL-2"], vectors),
    Case::new("host_local/lease_bytes_names_and_modes", &["HL-K1", "HL-1"], bytes),
    Case::new("host_local/same_owner_twice_fails_and_keeps_the_first", &["HL-4"], twice),
    Case::new("host_local/another_ifname_has_its_own_address", &["HL-5"], other_ifname),
    Case::new("host_local/round_robin_does_not_reuse_a_freed_address_at_once", &["HL-3"], freed),
    Case::new("host_local/network_and_broadcast_are_never_allocated", &["HL-B2"], edges),
    Case::new("host_local/range_validation", &["HL-K3", "HL-K4"], validation),
    Case::new("host_local/range_sets_in_order", &["HL-K3", "HL-K4", "HL-K8"], order),
    Case::new("host_local/one_address_per_family_before_0_3_0", &["HL-9"], old_versions),
    Case::new("host_local/resolv_conf", &["HL-K7"], resolv_conf),
    Case::new("host_local/route_without_destination_is_refused", &["HL-K5", "HL-B4"], route_without_dst),
    Case::new("host_local/exclude", &["HL-K10"], exclude),
    Case::new("host_local/check", &["C-043", "HL-7"], check),
    Case::new("host_local/missing_ipam_key", &["HL-K2"], missing_ipam),
];

/// Runs ADD with a namespace that does not exist: host-local never opens it.
pub fn add(room: &Room, id: &str, config: &Value) -> Result<Answer> {
    attach(room, "ADD", id, config)
}

/// Runs a verb for `id` and `eth0`.
pub fn attach(room: &Room, verb: &str, id: &str, config: &Value) -> Result<Answer> {
    let call = room.call("host-local", verb).env("CNI_CONTAINERID", id).env("CNI_IFNAME", "eth0");
    call.env("CNI_NETNS", "/run/netns/none").config(config).run()
}

/// The addresses of a result, without prefix lengths.
pub fn given(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| Some(ip["address"].as_str()?.split('/').next()?.to_owned())).collect()
}

/// The configuration with these range sets.
pub fn ranges(sets: Value) -> Value {
    with(&host_local(USUAL, "10.1.2.0/24"), json!({"ipam": {"type": "host-local", "ranges": sets}}))
}

fn fresh() {
    fs::remove_dir_all("/var/lib/cni/networks").ok();
    fs::remove_dir_all("/run/moor").ok();
}

fn vectors(room: &Room) -> Result<()> {
    // Sets, pointer, leased addresses, the addresses of the next ADDs ("-" for exhausted).
    let vectors: &[(Value, &str, &[&str], &[&str])] = &[
        (json!([[{"subnet": "10.1.2.0/24"}]]), "", &[], &["10.1.2.2"]),
        (json!([[{"subnet": "10.0.0.0/29"}]]), "10.0.0.5", &[], &["10.0.0.6", "10.0.0.2"]),
        (
            json!([[{"subnet": "10.0.0.0/29"}]]),
            "10.0.0.3",
            &["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"],
            &["10.0.0.3", "-"],
        ),
        (json!([[{"subnet": "10.0.0.0/29"}]]), "10.0.0.128", &[], &["10.0.0.2"]),
        (json!([[{"subnet": "10.0.0.0/29"}]]), "10.0.0.4\n", &[], &["10.0.0.2"]),
        (
            json!([[{"subnet": "10.0.0.0/30"}, {"subnet": "10.0.1.0/30"}]]),
            "10.0.0.2",
            &[],
            &["10.0.1.2", "10.0.0.2", "-"],
        ),
        (json!([[{"subnet": "10.0.0.0/30"}]]), "", &[], &["10.0.0.2", "-"]),
        (json!([[{"subnet": "fd00:1::/126"}]]), "", &[], &["fd00:1::2", "fd00:1::3", "-"]),
        (json!([[{"subnet": "10.0.0.0/22"}]]), "10.0.0.254", &[], &["10.0.0.255", "10.0.1.0", "10.0.1.1"]),
        (
            json!([[{"subnet": "10.0.0.0/29", "gateway": "10.0.0.3"}]]),
            "",
            &[],
            &["10.0.0.1", "10.0.0.2", "10.0.0.4"],
        ),
        (
            json!([[{"subnet": "10.0.0.0/29", "rangeStart": "10.0.0.4", "rangeEnd": "10.0.0.5"}]]),
            "",
            &[],
            &["10.0.0.4", "10.0.0.5", "-"],
        ),
    ];
    for (sets, pointer, taken, expected) in vectors {
        fresh();
        if !pointer.is_empty() {
            store::write(NET, "last_reserved_ip.0", pointer)?;
        }
        for address in *taken {
            store::write(NET, address, &store::content("other", "eth0"))?;
        }
        for (n, wanted) in expected.iter().enumerate() {
            let answer = add(room, &format!("c{n}"), &ranges(sets.clone()))?;
            if *wanted == "-" {
                answer.error_with(999, "no IP addresses available in range set: ")?;
                continue;
            }
            let result = answer.result()?;
            ensure!(
                given(&result) == [*wanted],
                "{sets} from {pointer:?}: gave {:?}, expected {wanted}",
                given(&result)
            );
            ensure!(
                store::pointer(NET, 0).as_deref() == Some(*wanted),
                "{sets}: the pointer is {:?}",
                store::pointer(NET, 0)
            );
        }
    }
    Ok(())
}

fn bytes(room: &Room) -> Result<()> {
    add(room, "c1", &ranges(json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "2001:DB8:1::/64"}]])))?
        .result()?;
    let mode = |name: &str| -> Result<u32> {
        let meta = fs::metadata(format!("{NET}/{name}")).with_context(|| name.to_owned())?;
        Ok(meta.permissions().mode() & 0o7777)
    };
    for (name, expected) in [
        ("10.1.2.2", 0o600),
        ("2001:db8:1::2", 0o600),
        ("last_reserved_ip.1", 0o600),
        ("lock", 0o750),
        ("", 0o755),
    ] {
        ensure!(mode(name)? == expected, "{name:?} has mode {:o}", mode(name)?);
    }
    for name in ["10.1.2.2", "2001:db8:1::2"] {
        ensure!(fs::read(format!("{NET}/{name}"))? == b"c1\r\neth0", "the bytes of {name}");
    }
    ensure!(
        store::pointer(NET, 1).as_deref() == Some("2001:db8:1::2"),
        "pointer {:?}",
        store::pointer(NET, 1)
    );
    let mut names: Vec<_> = fs::read_dir(NET)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    ensure!(
        names == ["10.1.2.2", "2001:db8:1::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"],
        "{names:?}"
    );
    Ok(())
}

fn twice(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    add(room, "c1", &config)?.result()?;
    let text = "10.1.2.2 has been allocated to c1, duplicate allocation is not allowed";
    add(room, "c1", &config)?.error_with(999, text)?;
    ensure!(store::addresses(NET)? == ["10.1.2.2"], "{:?}", store::addresses(NET)?);
    Ok(())
}

fn other_ifname(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    add(room, "c1", &config)?.result()?;
    let call = |verb| room.call("host-local", verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth1");
    call("ADD").env("CNI_NETNS", "/x").config(&config).run()?.result()?;
    ensure!(store::leases(NET)?.len() == 2, "{:?}", store::leases(NET)?);
    call("DEL").config(&config).run()?.silent()?;
    ensure!(store::addresses(NET)? == ["10.1.2.2"], "{:?}", store::addresses(NET)?);
    Ok(())
}

fn freed(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    for expected in ["10.1.2.2", "10.1.2.3", "10.1.2.4"] {
        let result = add(room, "c1", &config)?.result()?;
        ensure!(given(&result) == [expected], "{:?}", given(&result));
        attach(room, "DEL", "c1", &config)?.silent()?;
        attach(room, "DEL", "c1", &config)?.silent()?;
    }
    Ok(())
}

fn edges(room: &Room) -> Result<()> {
    let config = ranges(
        json!([[{"subnet": "10.0.0.0/29", "rangeStart": "10.0.0.0", "rangeEnd": "10.0.0.7", "gateway": "10.0.0.1"}]]),
    );
    let mut all = vec![];
    for n in 0..5 {
        all.extend(given(&add(room, &format!("c{n}"), &config)?.result()?));
    }
    all.sort();
    ensure!(all == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"], "{all:?}");
    add(room, "c9", &config)?.error_with(999, "no IP addresses available in range set")?;
    Ok(())
}

fn validation(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    for (sets, text) in [
        (json!([]), "no IP ranges specified"),
        (json!([[]]), "invalid range set 0: empty range set"),
        (json!([[{}]]), "IP <nil> not v4 nor v6"),
        (json!([[{"subnet": "10.0.0.0"}]]), "invalid CIDR address: 10.0.0.0"),
        (json!([[{"subnet": "10.0.0.0/33"}]]), "invalid CIDR address: 10.0.0.0/33"),
        (json!([[{"subnet": "010.0.0.0/24"}]]), "invalid CIDR address: 010.0.0.0/24"),
        (json!([[{"subnet": "10.0.0.0/31"}]]), "Network 10.0.0.0/31 too small to allocate from"),
        (json!([[{"subnet": "fd00::/127"}]]), "Network fd00::/127 too small to allocate from"),
        (
            json!([[{"subnet": "10.0.0.5/24"}]]),
            "Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0",
        ),
        (
            json!([[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}]]),
            "RangeStart 10.0.1.1 not in network 10.0.0.0/24",
        ),
        (
            json!([[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.1.1"}]]),
            "RangeEnd 10.0.1.1 not in network 10.0.0.0/24",
        ),
        (
            json!([[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.5"}]]),
            "RangeStart 10.0.0.9 not in network 10.0.0.0/24",
        ),
        (json!([[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]), "mixed address families"),
        (
            json!([[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.128/25"}]]),
            "subnets 10.0.0.1-10.0.0.254 and 10.0.0.129-10.0.0.254 overlap",
        ),
        (json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.128/25"}]]), "range set 0 overlaps with 1"),
        (json!([[{"subnet": "10.0.0.0/24", "gateway": "x"}]]), ""),
    ] {
        let answer = add(room, "c1", &ranges(sets.clone()))?;
        answer.refused(text).with_context(|| sets.to_string())?;
        ensure!(store::leases(NET)?.is_empty(), "{sets}: a lease was created");
    }
    room.ensure_nothing_left(&before, &["c1"])?;
    // One subnet may be split among sets.
    let split = json!([[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.99"}], [{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.100"}]]);
    let result = add(room, "c1", &ranges(split))?.result()?;
    ensure!(given(&result) == ["10.0.0.2", "10.0.0.100"], "{:?}", given(&result));
    Ok(())
}

fn order(room: &Room) -> Result<()> {
    let config = with(
        &host_local(USUAL, "10.1.2.0/24"),
        json!({
            "ipam": {"type": "host-local", "subnet": "10.2.0.0/24", "rangeStart": "10.2.0.9", "ranges": [[{"subnet": "10.3.0.0/24"}]]},
            "runtimeConfig": {"ipRanges": [[{"subnet": "10.4.0.0/24", "rangeStart": "", "Gateway": ""}], [{"Subnet": "fd00::/64"}]]},
        }),
    );
    let result = add(room, "c1", &config)?.result()?;
    ensure!(given(&result) == ["10.4.0.2", "fd00::2", "10.2.0.9", "10.3.0.2"], "{:?}", given(&result));
    ensure!(
        store::pointer(NET, 2).as_deref() == Some("10.2.0.9"),
        "pointer 2 is {:?}",
        store::pointer(NET, 2)
    );
    let flat = with(&config, json!({"runtimeConfig": {"ipRanges": [{"subnet": "10.4.0.0/24"}]}}));
    add(room, "c2", &flat)?.refused("")?;
    Ok(())
}

fn old_versions(room: &Room) -> Result<()> {
    let config = with(
        &ranges(json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.0.0/24"}]])),
        json!({"cniVersion": "0.2.0"}),
    );
    add(room, "c1", &config)?.refused("CNI version 0.2.0 does not support more than 1 address per family")?;
    ensure!(store::leases(NET)?.is_empty(), "a lease was created");
    let config = with(
        &ranges(json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]])),
        json!({"cniVersion": "0.2.0"}),
    );
    add(room, "c1", &config)?.result()?;
    Ok(())
}

fn resolv_conf(room: &Room) -> Result<()> {
    let text = "# comment\n; comment\n nameserver 10.0.0.1 ignored\nnameserver 10.0.0.2\nnameserver\ndomain a.example\n\
                domain b.example\nsearch x.example y.example\nsearch z.example\noptions ndots:2 rotate\nsortlist 1.2.3.4\n";
    let path = room.write("resolv.conf", text)?;
    let mut config = host_local(USUAL, "10.1.2.0/24");
    config["ipam"]["resolvConf"] = path.display().to_string().into();
    let result = add(room, "c1", &config)?.result()?;
    let expected = json!({
        "nameservers": ["10.0.0.1", "10.0.0.2"], "domain": "b.example",
        "search": ["x.example", "y.example", "z.example"], "options": ["ndots:2", "rotate"],
    });
    ensure!(result["dns"] == expected, "{}", result["dns"]);
    config["ipam"]["resolvConf"] = "/run/room/missing".into();
    add(room, "c2", &config)?.error_with(999, "no such file or directory")?;
    ensure!(store::addresses(NET)? == ["10.1.2.2"], "{:?}", store::addresses(NET)?);
    attach(room, "DEL", "c1", &config)?.silent()
}

fn route_without_dst(room: &Room) -> Result<()> {
    let mut config = host_local(USUAL, "10.1.2.0/24");
    config["ipam"]["routes"] = json!([{"gw": "10.1.2.9"}]);
    add(room, "c1", &config)?.refused("")?;
    ensure!(store::leases(NET)?.is_empty(), "a lease was created");
    Ok(())
}

fn exclude(room: &Room) -> Result<()> {
    let mut config = ranges(json!([[{"subnet": "10.0.0.0/28"}]]));
    config["ipam"]["exclude"] = json!(["10.0.0.2", "10.0.0.4/30", "10.0.0.9/32", "fd00::/64"]);
    let mut all = vec![];
    for n in 0..7 {
        all.extend(given(&add(room, &format!("c{n}"), &config)?.result()?));
    }
    let expected = ["10.0.0.3", "10.0.0.8", "10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"];
    ensure!(all == expected, "{all:?}");
    add(room, "c9", &config)?.error_with(999, "no IP addresses available in range set")?;
    // Not on request either.
    attach(room, "DEL", "c0", &config)?.silent()?;
    let asked = with(&config, json!({"runtimeConfig": {"ips": ["10.0.0.2"]}}));
    add(room, "c9", &asked)?.refused("")?;
    Ok(())
}

fn check(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    let text = "host-local: Failed to find address added by container c1";
    attach(room, "CHECK", "c1", &config)?.error_with(999, text)?;
    add(room, "c1", &config)?.result()?;
    attach(room, "CHECK", "c1", &config)?.silent()?;
    attach(room, "DEL", "c1", &config)?.silent()?;
    attach(room, "CHECK", "c1", &config)?.error_with(999, text)?;
    Ok(())
}

fn missing_ipam(room: &Room) -> Result<()> {
    for ipam in [json!(null), json!({"ipam": null})] {
        let mut config = host_local(USUAL, "10.1.2.0/24");
        config.as_object_mut().map(|map| map.remove("ipam"));
        let config = if ipam.is_null() { config } else { with(&config, ipam) };
        add(room, "c1", &config)?.refused("IPAM config missing 'ipam' key")?;
    }
    Ok(())
}
