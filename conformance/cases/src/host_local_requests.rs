//! host-local: requested addresses.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, host_local, with};
use harness::room::Room;
use harness::store::{self, NET};
use serde_json::json;

use crate::host_local::{add, given, ranges};

pub const CASES: &[Case] = &[
    Case::new("host_local/requested_addresses", &["C-101", "HL-K9"], requested),
    Case::new("host_local/unsatisfiable_requests_fail", &["HL-6"], refused_requests),
    Case::new("host_local/a_second_request_of_one_owner_is_a_duplicate", &["HL-B1"], second_request),
    Case::new("host_local/failed_second_add_keeps_the_first_adds_leases", &["HL-B3"], failed_second),
];

fn requested(room: &Room) -> Result<()> {
    let sets = ranges(json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}]]));
    let config = with(&sets, json!({"args": {"cni": {"ips": ["fd00::77/8"]}}, "runtimeConfig": {"ips": []}}));
    let call = room
        .call("host-local", "ADD")
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", "/x");
    let result = call.env("CNI_ARGS", "IP=10.1.2.50").config(&config).run()?.result()?;
    let addresses: Vec<_> =
        result["ips"].as_array().into_iter().flatten().map(|ip| ip["address"].clone()).collect();
    ensure!(addresses == ["10.1.2.50/24", "fd00::77/64"], "the subnet's length counts: {addresses:?}");
    // The pointer advances too.
    let result = add(room, "c2", &sets)?.result()?;
    ensure!(given(&result) == ["10.1.2.51", "fd00::78"], "{:?}", given(&result));
    let config = with(&sets, json!({"runtimeConfig": {"ips": ["10.1.2.60/24"]}}));
    let result = add(room, "c3", &config)?.result()?;
    ensure!(given(&result) == ["10.1.2.60", "fd00::79"], "{:?}", given(&result));
    Ok(())
}

fn refused_requests(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    add(room, "taken", &with(&config, json!({"runtimeConfig": {"ips": ["10.1.2.5"]}})))?.result()?;
    for (ips, text) in [
        (json!(["10.1.2.1"]), "requested ip 10.1.2.1 is subnet's gateway"),
        (
            json!(["10.1.2.5"]),
            "requested IP address 10.1.2.5 is not available in range set 10.1.2.1-10.1.2.254",
        ),
        (json!(["10.1.2.0"]), "failed to allocate all requested IPs: 10.1.2.0"),
        (json!(["10.1.2.255"]), "failed to allocate all requested IPs: 10.1.2.255"),
        (json!(["10.9.9.9"]), "failed to allocate all requested IPs: 10.9.9.9"),
        (json!(["10.1.2.7", "10.1.2.8"]), "failed to allocate all requested IPs: 10.1.2."),
        (json!([""]), ""),
        (json!(["x"]), ""),
    ] {
        let answer = add(room, "c1", &with(&config, json!({"runtimeConfig": {"ips": ips}})))?;
        answer.refused(text).with_context(|| ips.to_string())?;
        ensure!(store::addresses(NET)? == ["10.1.2.5"], "{ips}: leases {:?}", store::leases(NET)?);
    }
    let call = room
        .call("host-local", "ADD")
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", "/x");
    call.env("CNI_ARGS", "IP=x").config(&config).run()?.error_with(999, "invalid IP address x")?;
    Ok(())
}

fn second_request(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    add(room, "c1", &config)?.result()?;
    let again = with(&config, json!({"runtimeConfig": {"ips": ["10.1.2.9"]}}));
    add(room, "c1", &again)?.error_with(999, "duplicate allocation is not allowed")?;
    ensure!(store::addresses(NET)? == ["10.1.2.2"], "{:?}", store::addresses(NET)?);
    Ok(())
}

fn failed_second(room: &Room) -> Result<()> {
    let one = ranges(json!([[{"subnet": "10.1.2.0/24"}]]));
    add(room, "c1", &one)?.result()?;
    // The first set has an address, the second is exhausted: the second ADD returns its lease, the
    // first ADD's lease remains.
    let two = ranges(json!([[{"subnet": "10.5.0.0/24"}], [{"subnet": "10.6.0.0/30"}]]));
    store::write(NET, "10.6.0.2", &store::content("other", "eth0"))?;
    add(room, "c1", &two)?.error_with(999, "no IP addresses available in range set")?;
    ensure!(store::addresses(NET)? == ["10.1.2.2", "10.6.0.2"], "{:?}", store::addresses(NET)?);
    Ok(())
}
