//! tuning: parameters and settings of the link, the result, CHECK, and what is refused.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, bridge, with};
use harness::ip;
use harness::namespace::Container;
use harness::room::Room;
use harness::stage::lan::{add as attach, refused, until};
use harness::stage::tuning::{DIR, MAC, everything, linked, tuning};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("tuning/parameters_are_set_in_the_container_alone", &["TU-K1", "TU-K2"], parameters),
    Case::new("tuning/settings_of_the_link", &["TU-K4", "TU-1"], settings),
    Case::new("tuning/mac_of_the_call_counts_first", &["TU-K3", "TU-1", "TU-B5"], macs),
    Case::new("tuning/arguments_count_before_keys", &["TU-K8", "TU-B1"], arguments),
    Case::new("tuning/every_version_has_its_result", &["C-036", "C-060", "TU-1"], versions),
    Case::new("tuning/allow_list", &["TU-K5", "TU-R5"], allow_list),
    Case::new("tuning/keys_that_cannot_be_are_refused", &["TU-K2", "TU-K6", "TU-K9", "TU-4"], invalid),
    Case::new("tuning/check_names_every_drift", &["C-043", "TU-2"], drifts),
    Case::new("tuning/check_compares_as_the_kernel_prints", &["TU-B5"], printed),
    Case::new("tuning/check_passes_for_a_promiscuous_link", &["TU-2", "TU-B6"], promiscuous),
    Case::new("tuning/neighbours_learn_the_new_mac_address", &["TU-R10"], announced),
];

/// Runs ADD, which must succeed.
pub fn add(room: &Room, container: &Container, config: &Value) -> Result<Value> {
    room.attach("tuning", "ADD", container).config(config).run()?.result()
}

/// Runs CHECK with the result.
pub fn check(
    room: &Room,
    container: &Container,
    config: &Value,
    result: &Value,
) -> Result<harness::room::call::Answer> {
    room.attach("tuning", "CHECK", container).config(&with(config, json!({"prevResult": result}))).run()
}

/// Runs DEL, which must succeed.
pub fn del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    room.attach("tuning", "DEL", container).config(config).run()?.silent()
}

/// The container's `eth0`.
pub fn eth0(id: &str) -> Result<Value> {
    ip::link(Some(id), "eth0")?.context("no eth0")
}

/// Whether it has a flag.
pub fn has(link: &Value, flag: &str) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|it| it == flag))
}

fn parameters(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let (container, previous) = linked(room, "c1")?;
    ip::script(Some("c1"), "link set eth0 down\n link set eth0 name eth0.5\n link set eth0.5 up")?;
    let config = tuning(
        &previous,
        json!({"sysctl": {
            "net.ipv4.conf.IFNAME.arp_filter": "1",
            "net/ipv4/conf/IFNAME/log_martians": "1",
            "net.core.somaxconn": "500",
            "net.ipv4.ip_forward": "1",
            "net/ipv4/conf/far0/forwarding": "0",
        }}),
    );
    let call = room.attach("tuning", "ADD", &container).env("CNI_IFNAME", "eth0.5").config(&config);
    call.run()?.result()?;
    for (key, value) in [
        ("net/ipv4/conf/eth0.5/arp_filter", "1"),
        ("net/ipv4/conf/eth0.5/log_martians", "1"),
        ("net/ipv4/conf/far0/arp_filter", "0"),
        ("net/core/somaxconn", "500"),
        ("net/ipv4/ip_forward", "1"),
        // Set after it: the parameter before this one would change it.
        ("net/ipv4/conf/far0/forwarding", "0"),
    ] {
        let now = room.sysctl("c1", key)?;
        ensure!(now == value, "{key} is {now}, not {value}");
    }
    let changes = room.changes_since(&before)?;
    let of_host: Vec<_> =
        changes.iter().filter(|line| line.contains("sys/net") || line.contains("net/ipv")).collect();
    ensure!(of_host.is_empty(), "the host's parameters changed: {of_host:?}");
    Ok(())
}

fn settings(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let version = room.versions_of("tuning")?.iter().any(|version| version == "1.1.0");
    let config =
        with(&tuning(&previous, everything()), json!({"cniVersion": if version { "1.1.0" } else { USUAL }}));
    let config =
        with(&config, json!({"prevResult": with(&previous, json!({"cniVersion": config["cniVersion"]}))}));
    let result = add(room, &container, &config)?;
    let link = eth0("c1")?;
    ensure!(link["mtu"] == 1400 && link["txqlen"] == 50 && link["address"] == "02:00:00:00:00:aa", "{link}");
    ensure!(has(&link, "PROMISC") && has(&link, "ALLMULTI"), "{link}");
    let interface =
        json!({"name": "eth0", "mac": "02:00:00:00:00:aa", "mtu": 1400, "sandbox": container.path});
    ensure!(result["interfaces"] == json!([interface]), "{result}");
    ensure!(result["ips"] == previous["ips"], "{result}");
    // What is absent, 0 or false stays.
    let (other, previous) = linked(room, "c2")?;
    let state = || -> Result<_> {
        let link = eth0("c2")?;
        Ok((["mtu", "txqlen", "address"].map(|key| link[key].clone()), has(&link, "PROMISC")))
    };
    let before = state()?;
    let result = add(room, &other, &tuning(&previous, json!({"mtu": 0, "promisc": false, "mac": ""})))?;
    ensure!(state()? == before && result["interfaces"] == previous["interfaces"], "{result}");
    add(room, &other, &tuning(&previous, json!({"allmulti": true})))?;
    add(room, &other, &tuning(&previous, json!({"allmulti": false, "txQLen": 0})))?;
    let link = eth0("c2")?;
    ensure!(!has(&link, "ALLMULTI") && link["txqlen"].as_u64().unwrap_or(0) == 0, "{link}");
    Ok(())
}

fn macs(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let keys = [
        json!({"mac": "02:00:00:00:00:0A"}),
        json!({"runtimeConfig": {"mac": "02:00:00:00:00:0b"}}),
        json!({"args": {"cni": {"mac": "02:00:00:00:00:0c"}}}),
    ];
    let upto = |nth: usize| {
        keys.iter().take(nth).fold(tuning(&previous, json!({})), |all, key| with(&all, key.clone()))
    };
    for (nth, args, mac) in [
        (1, "", "02:00:00:00:00:0a"),
        (1, "IgnoreUnknown=1;MAC=02:00:00:00:00:0d;X=1", "02:00:00:00:00:0d"),
        (2, "MAC=02:00:00:00:00:0d", "02:00:00:00:00:0b"),
        (3, "MAC=02:00:00:00:00:0d", "02:00:00:00:00:0c"),
    ] {
        let config = upto(nth);
        let call = |verb: &str, config: &Value| {
            room.attach("tuning", verb, &container).env("CNI_ARGS", args).config(config).run()
        };
        let result = call("ADD", &config)?.result()?;
        let shown = eth0("c1")?["address"].clone();
        ensure!(shown == mac && result["interfaces"][0]["mac"] == mac, "{args}, {config}: {shown}, {result}");
        call("CHECK", &with(&config, json!({"prevResult": result})))?
            .silent()
            .with_context(|| config.to_string())?;
        call("DEL", &config)?.silent()?;
        ensure!(eth0("c1")?["address"] == MAC, "{}", eth0("c1")?);
    }
    room.attach("tuning", "ADD", &container)
        .env("CNI_ARGS", "X=1")
        .config(&upto(1))
        .run()?
        .error_with(999, "unknown args")
        .map(drop)
}

fn arguments(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let args = json!({"sysctl": {"net/core/somaxconn": "600"}, "mtu": 1300, "promisc": true, "allmulti": true, "txQLen": 60});
    // Without keys of the same names.
    add(room, &container, &tuning(&previous, json!({"args": {"cni": args}})))?;
    let both = json!({"sysctl": {"net.core.somaxconn": "1", "net.ipv4.tcp_ecn": "1"}, "mtu": 1400, "allmulti": false,
                      "txQLen": 1, "args": {"cni": args}});
    add(room, &container, &tuning(&previous, both))?;
    let link = eth0("c1")?;
    ensure!(
        link["mtu"] == 1300 && link["txqlen"] == 60 && has(&link, "PROMISC") && has(&link, "ALLMULTI"),
        "{link}"
    );
    ensure!(
        room.sysctl("c1", "net/core/somaxconn")? == "600" && room.sysctl("c1", "net/ipv4/tcp_ecn")? == "1"
    );
    Ok(())
}

fn versions(room: &Room) -> Result<()> {
    for (nth, version) in VERSIONS.iter().enumerate() {
        let network = with(&bridge(version), json!({"name": format!("n{nth}")}));
        let (container, previous) = attach(room, "bridge", &format!("c{nth}"), &network)?;
        let config = with(&tuning(&previous, everything()), json!({"cniVersion": version}));
        let result = add(room, &container, &config)?;
        ensure!(result["cniVersion"] == *version, "{result}");
        ensure!(result["ips"] == previous["ips"] && result["ip4"] == previous["ip4"], "{version}: {result}");
        if *version >= "0.3.0" {
            let own = result["interfaces"].as_array().into_iter().flatten().find(|it| it["name"] == "eth0");
            let own = own.context("no eth0")?;
            ensure!(
                own["mac"] == "02:00:00:00:00:aa" && own["mtu"].is_u64() == (*version == "1.1.0"),
                "{version}: {own}"
            );
        }
        if *version >= "0.4.0" {
            check(room, &container, &config, &result)?.silent().context(*version)?;
        }
        del(room, &container, &config)?;
        room.attach("bridge", "DEL", &container).config(&network).run()?.silent()?;
    }
    Ok(())
}

fn allow_list(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let config = |key: &str| {
        tuning(
            &with(&previous, json!({"cniVersion": "1.1.0"})),
            json!({"cniVersion": "1.1.0", "sysctl": {key: "1"}}),
        )
    };
    let (some, other) = ("net.ipv4.conf.IFNAME.arp_filter", "net.ipv4.tcp_ecn");
    fs::create_dir_all("/etc/cni/tuning")?;
    for (list, allowed) in [
        ("^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]+$\n", true),
        ("\n  none \n  arp_fil  \n", true),
        ("IFNAME.arp_filter$", true),
        ("", false),
        ("net/ipv4/conf", false),
        ("^net.ipv4.conf.eth0", false),
    ] {
        fs::write("/etc/cni/tuning/allowlist.conf", list)?;
        let call = |verb: &str, key: &str| room.attach("tuning", verb, &container).config(&config(key)).run();
        for (key, allowed) in [(some, allowed), (other, false)] {
            let status = room.call("tuning", "STATUS").config(&config(key)).run()?;
            if allowed {
                call("ADD", key)?.result().with_context(|| format!("{list:?}"))?;
                status.silent()?;
                call("DEL", key)?.silent()?;
                continue;
            }
            let text = format!("Sysctl {key} is not allowed. Only the following sysctls are allowed: [");
            call("ADD", key)?.refused(&text)?;
            status.error_with(50, &text)?;
        }
    }
    fs::write("/etc/cni/tuning/allowlist.conf", "(")?;
    refused(room, "tuning", &container, &config(some), "is no regular expression")?;
    // CHECK compares what is there, whatever the list says now.
    ip::script(Some("c1"), "link set eth0 up")?;
    room.inside("c1", || Ok(fs::write("/proc/sys/net/ipv4/conf/eth0/arp_filter", "1")?))?;
    check(room, &container, &config(some), &with(&previous, json!({"cniVersion": "1.1.0"})))?.silent()?;
    fs::remove_file("/etc/cni/tuning/allowlist.conf")?;
    add(room, &container, &config(other)).map(drop)
}

fn invalid(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let before = room.snapshot_in(&container)?;
    let with_ipv6 = with(&previous, json!({"ips": [{"interface": 0, "address": "2001:db8::3/64"}]}));
    for (keys, text) in [
        (json!({"sysctl": {"kernel.hostname": "x"}}), "invalid net sysctl key: \"kernel.hostname\""),
        (json!({"sysctl": {"net/../kernel/hostname": "x"}}), "net/"),
        (json!({"sysctl": {"net.ipv4.no_such_key": "1"}}), "No such file or directory"),
        (json!({"sysctl": {"net.core.somaxconn": "1\n2"}}), "invalid value of sysctl net.core.somaxconn"),
        (json!({"sysctl": {"net.core.somaxconn": "7", "net.ipv4.ip_forward": "x"}}), "net/ipv4/ip_forward=x"),
        (
            json!({"sysctl": {"net.core.somaxconn": "1", "net/core/somaxconn": "2"}}),
            "duplicated sysctl keys are not allowed",
        ),
        (json!({"mac": "02:00:00:00:00"}), "invalid args 02:00:00:00:00 for MAC addr"),
        (json!({"mac": "03:00:00:00:00:01"}), "neither zero nor a multicast address"),
        (json!({"mtu": 67}), "invalid MTU 67"),
        (json!({"mtu": -1}), "invalid MTU -1"),
        (json!({"mtu": 1200, "prevResult": with_ipv6}), "IPv6 needs at least 1280"),
        (json!({"txQLen": -1}), "invalid txQLen -1"),
        (json!({"txQLen": 1 << 30}), "invalid txQLen 1073741824"),
        (json!({"dataDir": "tuning"}), "invalid dataDir"),
        (json!({"prevResult": null, "mtu": 1400}), "Required prevResult missing"),
    ] {
        let config = with(&tuning(&previous, json!({})), keys);
        refused(room, "tuning", &container, &config, text).with_context(|| config.to_string())?;
        let after = room.snapshot_in(&container)?;
        ensure!(before == after, "{config} changed {:?}", harness::diff::lines(&before, &after));
        ensure!(!Path::new(DIR).join("c1_eth0.json").exists(), "a backup of {config}");
    }
    // Twice in the text, which a JSON library would not write.
    let twice = tuning(&previous, json!({"sysctl": {"net.core.somaxconn": "7"}})).to_string();
    let twice =
        twice.replace(r#""net.core.somaxconn":"7""#, r#""net.core.somaxconn":"7","net.core.somaxconn":"7""#);
    for verb in ["ADD", "CHECK"] {
        let answer = room.attach("tuning", verb, &container).stdin(twice.clone()).run()?;
        answer.refused("duplicated sysctl keys are not allowed")?;
    }
    let without = with(&tuning(&previous, json!({"mtu": 1400})), json!({"prevResult": null}));
    room.attach("tuning", "CHECK", &container)
        .config(&without)
        .run()?
        .refused("Required prevResult missing")
        .map(drop)
}

fn drifts(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let config = tuning(&previous, everything());
    let result = add(room, &container, &config)?;
    check(room, &container, &config, &result)?.silent()?;
    let write = |key: &'static str, value: &'static str| {
        room.inside("c1", || fs::write(format!("/proc/sys/{key}"), value).with_context(|| key.to_owned()))
    };
    for (drift, back, named) in [
        ("mtu 1500", "mtu 1400", "MTU of eth0: expected 1400, actual 1500"),
        (
            "address 02:00:00:00:00:bb",
            "address 02:00:00:00:00:aa",
            "MAC address of eth0: expected 02:00:00:00:00:aa",
        ),
        ("promisc off", "promisc on", "promiscuous mode of eth0: expected on, actual off"),
        ("allmulticast off", "allmulticast on", "all-multicast mode of eth0"),
        ("txqueuelen 1000", "txqueuelen 50", "queue length of eth0: expected 50, actual 1000"),
    ] {
        ip::script(Some("c1"), &format!("link set eth0 {drift}"))?;
        check(room, &container, &config, &result)?.error_with(999, named)?;
        ip::script(Some("c1"), &format!("link set eth0 {back}"))?;
    }
    write("net/core/somaxconn", "501")?;
    check(room, &container, &config, &result)?
        .error_with(999, "sysctl net/core/somaxconn: expected 500, actual 501")?;
    write("net/core/somaxconn", "500")?;
    check(room, &container, &config, &result)?.silent()?;
    ip::script(Some("c1"), "link del eth0")?;
    check(room, &container, &config, &result)?.error_with(999, "interface eth0")?;
    room.inside("c1", || Ok(())).and_then(|()| del(room, &container, &config))
}

fn printed(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let keys = json!({"sysctl": {
        "net.ipv4.ip_local_port_range": "1024 65000",
        "net.ipv4.tcp_rmem": "4096  87380\t6291456",
        "net.ipv4.ip_local_reserved_ports": "9148,8080-8081,8082",
        "net.core.somaxconn": "0x200",
        "net.ipv4.route.flush": "1",
    }});
    let config = tuning(&previous, keys);
    let result = add(room, &container, &config)?;
    check(room, &container, &config, &result)?.silent()?;
    // Also without a record: of an attachment by the reference.
    fs::remove_dir_all("/run/moor/tuning").ok();
    check(room, &container, &config, &result)?.silent()?;
    let other = with(&config, json!({"sysctl": {"net.ipv4.ip_local_port_range": "1024 65001"}}));
    check(room, &container, &other, &result)?.error_with(999, "actual 1024\t65000").map(drop)
}

fn promiscuous(room: &Room) -> Result<()> {
    let (container, previous) = linked(room, "c1")?;
    let config = tuning(&previous, json!({"mtu": 1400}));
    let result = add(room, &container, &config)?;
    ip::script(Some("c1"), "link set eth0 promisc on allmulticast on")?;
    check(room, &container, &config, &result)?.silent()
}

fn announced(room: &Room) -> Result<()> {
    let (container, previous) = attach(room, "bridge", "c1", &bridge(USUAL))?;
    room.reach("c1", "10.1.2.1")?;
    let config = tuning(&previous, json!({"mac": "02:00:00:00:00:AA"}));
    add(room, &container, &config)?;
    let address = harness::stage::portmap::address(&json!({"prevResult": previous}), false);
    until("the host knows the new address", || {
        let known = ip::rows(None, &["neigh", "show", &address, "dev", "br0"])?;
        Ok(known.iter().any(|row| row["lladdr"] == "02:00:00:00:00:aa"))
    })
}
