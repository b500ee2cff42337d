//! ADD and DEL.

use std::collections::BTreeSet;

use super::*;

/// O-001, O-003: the second ADD asks nobody.
#[test]
fn hosts_give_addresses_of_their_own_blocks_without_asking() {
    let hosts = Hosts::new(2);
    let mut seen = BTreeSet::new();
    for host in &hosts.hosts {
        for id in ["c1", "c2"] {
            let given = host.add(id, &two_families()).unwrap();
            assert_eq!(given.len(), 2, "{given:?}");
            assert!(given.iter().all(|ip| seen.insert(ip.clone())), "{given:?}");
        }
        assert_eq!(host.agent.requests()[0], "network");
    }
    hosts.truth.lock().unwrap().away = true;
    let ipam = json!({ "subnets": ["10.9.0.0/16"] });
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    host.add("c1", &ipam).unwrap();
    host.agent.requests();
    host.add("c2", &ipam).unwrap();
    assert_eq!(host.agent.requests(), [""; 0]);
}

#[test]
fn the_result_has_the_subnets_prefix_gateway_routes_and_resolvers() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let resolv = host.dir.join("resolv.conf");
    fs::write(&resolv, "nameserver 192.0.2.1\n").unwrap();
    let ipam = json!({
        "subnets": ["10.9.0.0/16", "fd00:9::/64"], "gateway": "10.9.0.9",
        "routes": [{ "dst": "0.0.0.0/0" }], "resolvConf": resolv,
    });
    let (status, result) = host.run("ADD", "c1", "", &conf(&ipam));
    assert_eq!(status, 0, "{result}");
    assert!(result["ips"][0]["address"].as_str().unwrap().ends_with("/16"), "{result}");
    assert_eq!(
        (&result["ips"][0]["gateway"], &result["ips"][1]["gateway"]),
        (&json!("10.9.0.9"), &json!("fd00:9::1"))
    );
    assert_eq!(result["routes"], json!([{ "dst": "0.0.0.0/0" }]));
    assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.1"]));
    for (version, key) in [("0.2.0", "ip4"), ("0.3.1", "ips"), ("1.0.0", "ips")] {
        let mut conf = conf(&ipam);
        conf["cniVersion"] = json!(version);
        let (status, result) = host.run("ADD", &format!("c{version}"), "", &conf);
        assert!(status == 0 && !result[key].is_null(), "{version}: {result}");
    }
}

/// O-009: as host-local writes them.
#[test]
fn leases_are_host_locals_and_a_reboot_frees_them() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let given = host.add("c1", &small()).unwrap();
    assert_eq!(host.leases(), BTreeMap::from([(given[0].clone(), "c1\r\neth0".to_owned())]));
    fs::write(&host.plugin.roots.boot_id, "second\n").unwrap();
    let again = host.add("c2", &small()).unwrap();
    assert_eq!(host.leases().into_keys().collect::<Vec<_>>(), again);
    assert_eq!(host.blocks().blocks.len(), 1, "blocks stay");
}

#[test]
fn the_same_attachment_gets_the_same_addresses_again() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let given = host.add("c1", &two_families()).unwrap();
    assert_eq!(host.add("c1", &two_families()).unwrap(), given);
    // A killed ADD had one of the two.
    fs::remove_file(host.network_dir().join(&given[1])).unwrap();
    let again = host.add("c1", &two_families()).unwrap();
    assert_eq!((again.len(), &again[0]), (2, &given[0]));
    assert_eq!(host.ask_for("c1", &two_families(), json!([given[0]])).unwrap(), again);
    let error = host.ask_for("c1", &two_families(), json!(["10.9.0.62"])).unwrap_err();
    assert!(error.contains("has been allocated to c1"), "{error}");
}

/// A lease of an address that is another host's by now is not given a second time.
#[test]
fn an_address_that_was_lost_is_not_given_again() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let given = host.add("c1", &small()).unwrap();
    let mut truth = hosts.truth.lock().unwrap();
    truth.lent.insert(given[0].parse().unwrap(), (0, 1));
    truth.write(0);
    drop(truth);
    assert_ne!(host.add("c1", &small()).unwrap(), given);
}

#[test]
fn a_full_block_is_followed_by_the_next_and_the_last_by_a_loan() {
    let hosts = Hosts::new(2);
    let [one, other] = &hosts.hosts[..] else { unreachable!() };
    other.add("other", &tiny()).unwrap();
    // 10.9.0.0/29 has 5 addresses for containers and hosts: each host has one, `other` one more.
    let first = one.add("c1", &tiny()).unwrap();
    let mut given = BTreeSet::from([first]);
    for id in ["c2", "c3"] {
        let Ok(ips) = one.add(id, &tiny()) else { break };
        assert!(given.insert(ips));
    }
    let error = one.add("c9", &tiny()).unwrap_err();
    assert!(
        error.starts_with("11 ") && error.contains("10.9.0.0/29") && error.contains("host0 4"),
        "{error}"
    );
    other.del("other", &tiny());
    one.add("c9", &tiny()).unwrap();
    let borrowed = one.blocks().borrowed;
    assert!(!borrowed.is_empty());
    one.agent.requests();
    one.del("c9", &tiny());
    for id in ["c1", "c2", "c3"] {
        one.del(id, &tiny());
    }
    assert!(one.agent.requests().contains(&"sync".to_owned()));
    assert_eq!(one.blocks().borrowed, [] as [IpAddr; 0]);
}

/// O-005
#[test]
fn an_address_asked_for_is_given_wherever_it_is_free() {
    let hosts = Hosts::new(2);
    let ipam = json!({ "subnets": ["10.9.0.0/24"], "blockSize": 8 });
    let [one, other] = &hosts.hosts[..] else { unreachable!() };
    one.add("c1", &ipam).unwrap();
    let theirs = other.add("c1", &ipam).unwrap().remove(0);
    let own = one.blocks();
    // In an own block: nobody is asked.
    let net = one.files().net("front").unwrap().unwrap();
    let space = cluster::block::Space::of(&net)[0];
    let leased = one.leases();
    let free = |blocks: &Blocks, leased: &BTreeMap<String, String>| {
        let all = space.usable(blocks.blocks[0]).filter(|ip| !blocks.own.contains(ip));
        all.map(|ip| ip.to_string()).find(|ip| !leased.contains_key(ip)).unwrap()
    };
    let local = free(&own, &leased);
    one.agent.requests();
    assert_eq!(one.ask_for("c2", &ipam, json!([local])).unwrap(), std::slice::from_ref(&local));
    assert!(!one.agent.requests().iter().any(|request| request.starts_with("block")));
    let error = one.ask_for("c3", &ipam, json!([local])).unwrap_err();
    assert!(error.starts_with("11 ") && error.contains("container c2, interface eth0 has it"), "{error}");
    let error = one.ask_for("c3", &ipam, json!([own.own[0]])).unwrap_err();
    assert!(error.starts_with("11 ") && error.contains("this host's own"), "{error}");
    // In a block of nobody.
    let nobodys = {
        let taken = &hosts.truth.lock().unwrap().blocks;
        let first = (0..16).filter_map(|n| space.first(n)).find(|first| !taken.contains_key(first)).unwrap();
        space.usable(first).nth(1).unwrap().to_string()
    };
    assert_eq!(one.ask_for("c4", &ipam, json!([nobodys])).unwrap(), [nobodys]);
    // In another host's block.
    let lent = free(&other.blocks(), &other.leases());
    assert_eq!(one.ask_for("c5", &ipam, json!([lent])).unwrap(), std::slice::from_ref(&lent));
    let error = one.ask_for("c6", &ipam, json!([theirs])).unwrap_err();
    assert!(error.starts_with("11 ") && error.contains("in use on host1 by container c1"), "{error}");
    let error = other.ask_for("c7", &ipam, json!([lent])).unwrap_err();
    assert!(error.starts_with("11 ") && error.contains("in use on host0"), "{error}");
    one.del("c5", &ipam);
    assert_eq!(other.ask_for("c7", &ipam, json!([lent])).unwrap(), [lent]);
}

#[test]
fn an_address_asked_for_may_be_outside_of_the_range() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let ipam = json!({
        "subnets": ["10.9.0.0/24"], "blockSize": 4, "rangeStart": "10.9.0.100", "rangeEnd": "10.9.0.109",
        "exclude": ["10.9.0.104/31"],
    });
    let mut given = BTreeSet::new();
    for n in 0..10 {
        match host.add(&format!("c{n}"), &ipam) {
            Ok(ips) => assert!(given.insert(ips[0].parse::<IpAddr>().unwrap())),
            Err(error) => {
                assert!(error.starts_with("11 "), "{error}");
                break;
            }
        }
    }
    let wanted: BTreeSet<IpAddr> =
        [100, 101, 102, 103, 106, 107, 108, 109].map(|n| IpAddr::from([10, 9, 0, n])).into();
    given.extend(host.blocks().own);
    assert_eq!(given, wanted, "one is the host's own");
    assert_eq!(host.ask_for("x", &ipam, json!(["10.9.0.200"])).unwrap(), ["10.9.0.200"]);
}

/// O-012
#[test]
fn a_freed_address_rests_while_another_is_free() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let ipam = json!({ "subnets": ["10.9.0.0/29"], "blockSize": 8 });
    let freed = host.add("c0", &ipam).unwrap();
    host.del("c0", &ipam);
    let mut given = Vec::new();
    for n in 1..=4 {
        given.extend(host.add(&format!("c{n}"), &ipam).unwrap());
    }
    assert_eq!(given.last(), Some(&freed[0]), "{given:?}");
}

/// O-095
#[test]
fn what_the_host_lacks_is_an_error_that_names_it_and_makes_nothing() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    for (content, wanted) in [
        (None, "cluster.json"),
        (Some("{}"), "endpoints"),
        (Some(r#"{"endpoints":["http://127.0.0.1:2379"],"timeoutMs":1}"#), "timeoutMs"),
    ] {
        match content {
            None => fs::remove_file(&host.plugin.host.settings).unwrap(),
            Some(content) => fs::write(&host.plugin.host.settings, content).unwrap(),
        }
        let error = host.add("c1", &small()).unwrap_err();
        assert!(error.starts_with("7 ") && error.contains(wanted), "{error}");
        assert_eq!(host.agent.requests(), [""; 0]);
        assert!(!host.network_dir().exists());
    }
    host.del("c1", &small());
}

#[test]
fn what_the_record_has_otherwise_is_named_with_both_values() {
    let hosts = Hosts::new(2);
    let [one, other] = &hosts.hosts[..] else { unreachable!() };
    one.add("c1", &small()).unwrap();
    for (ipam, wanted) in [
        (json!({ "subnets": ["10.9.0.0/26"] }), "blockSize is 8 here, and 4 in the network's record"),
        (
            json!({ "subnets": ["10.9.0.0/25"], "blockSize": 4 }),
            "subnets is 10.9.0.0/25 here, and 10.9.0.0/26",
        ),
        (
            json!({ "subnets": ["10.9.0.0/26"], "blockSize": 4, "gateway": "10.9.0.9" }),
            "gateway is 10.9.0.9 here, and 10.9.0.1",
        ),
    ] {
        for host in [one, other] {
            let error = host.add("c9", &ipam).unwrap_err();
            assert!(error.starts_with("7 ") && error.contains(wanted), "{error}");
        }
    }
}

#[test]
fn etcd_away_is_an_error_when_nothing_is_free_alone() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    host.add("c1", &small()).unwrap();
    hosts.truth.lock().unwrap().away = true;
    let mut error = None;
    for n in 2..5 {
        error = host.add(&format!("c{n}"), &small()).err();
        if error.is_some() {
            break;
        }
    }
    let error = error.unwrap();
    assert!(error.starts_with("11 ") && error.contains("no member answered"), "{error}");
    host.del("c1", &small());
    host.add("c9", &small()).unwrap();
}

#[test]
fn a_host_that_was_cut_off_for_too_long_gives_nothing() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    host.add("c1", &small()).unwrap();
    host.files().write_blocks("front", &Blocks { closed: true, ..host.blocks() }).unwrap();
    hosts.truth.lock().unwrap().away = true;
    let error = host.add("c2", &small()).unwrap_err();
    assert!(error.starts_with("11 ") && error.contains("reclaimAfterS"), "{error}");
    assert!(error.contains("no member answered"), "{error}");
    let (_, error) = host.run("STATUS", "", "", &conf(&small()));
    assert_eq!(error["code"], json!(50));
    host.del("c1", &small());
}

#[test]
fn nothing_is_given_before_etcd_was_heard_of_since_boot() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let ipam = json!({ "subnets": ["10.9.0.0/24"], "blockSize": 16 });
    host.add("c1", &ipam).unwrap();
    let contact = host.files().run().join(cluster::local::CONTACT);
    fs::remove_file(&contact).unwrap();
    hosts.truth.lock().unwrap().away = true;
    let error = host.add("c2", &ipam).unwrap_err();
    assert!(error.starts_with("11 ") && error.contains("reclaimAfterS"), "{error}");
    fs::write(&contact, "1").unwrap();
    host.add("c2", &ipam).unwrap();
    // Where addresses are never another host's, nobody has to be asked.
    fs::remove_file(&contact).unwrap();
    let never = json!({ "endpoints": ["http://127.0.0.1:2379"], "reclaimAfterS": 0 });
    fs::write(&host.plugin.host.settings, never.to_string()).unwrap();
    host.del("c1", &ipam);
    host.add("c3", &ipam).unwrap();
}

#[test]
fn an_add_fails_without_etcd_where_that_is_wanted() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    host.add("c1", &small()).unwrap();
    hosts.truth.lock().unwrap().away = true;
    let fail = json!({ "endpoints": ["http://127.0.0.1:2379"], "timeoutMs": 500, "whenUnreachable": "fail" });
    fs::write(&host.plugin.host.settings, fail.to_string()).unwrap();
    let before = host.leases();
    let error = host.add("c2", &small()).unwrap_err();
    assert!(error.starts_with("11 ") && error.contains("whenUnreachable"), "{error}");
    assert_eq!(host.leases(), before);
    hosts.truth.lock().unwrap().away = false;
    host.add("c2", &small()).unwrap();
}

#[test]
fn del_needs_neither_configuration_nor_agent() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    host.add("c1", &small()).unwrap();
    hosts.truth.lock().unwrap().away = true;
    fs::write(&host.plugin.host.settings, "{").unwrap();
    host.del("c1", &json!({ "subnets": 7, "exclude": "x" }));
    assert_eq!(host.leases(), BTreeMap::new());
    host.del("c1", &json!({}));
    host.del("unknown", &json!({}));
    fs::remove_dir_all(host.dir.join("state")).unwrap();
    host.del("c1", &small());
}

#[test]
fn the_agent_hears_when_few_are_left_but_not_from_under_overlay() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let ipam = json!({ "subnets": ["10.9.0.0/24"], "blockSize": 16 });
    let (mut told, mut claimed) = (None, None);
    for n in 0..20 {
        host.add(&format!("c{n}"), &ipam).unwrap();
        let requests = host.agent.requests();
        told = told.or(requests.iter().any(|request| request == "sync").then_some(n));
        claimed = claimed.or(requests.iter().any(|request| request == "block").then_some(n));
    }
    assert_eq!(told.map(|n| n + 4), claimed, "with less than a quarter of a block left");
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    host.add("first", &ipam).unwrap();
    for n in 0..20 {
        let mut conf = conf(&ipam);
        conf["type"] = json!("overlay");
        hosts.truth.lock().unwrap().make_overlay();
        host.add_conf(&format!("c{n}"), &conf).unwrap();
    }
    assert!(!host.agent.requests().contains(&"sync".to_owned()));
}
