//! bridge CHECK: each case changes one thing, and the error names it.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, layer2, with};
use harness::ip;
use harness::namespace::Container;
use harness::room::Room;
use harness::room::call::Answer;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("bridge/check_needs_prev_result", &["C-043", "BR-5"], needs_prev),
    Case::new("bridge/check_passes_for_layer_2", &["BR-K17", "BR-B5"], layer_2),
    Case::new("bridge/check_ignores_changes_by_others", &["C-043", "BR-B6"], tolerates),
    Case::new("bridge/check_names_a_missing_container_address", &["BR-5"], |room| {
        drift(room, json!({}), "10.1.2.2", |d| {
            ip::run_in("c1", &["addr", "del", "10.1.2.2/24", "dev", d.ifname])
        })
    }),
    Case::new("bridge/check_names_a_changed_prefix_length", &["BR-5"], |room| {
        drift(room, json!({}), "10.1.2.2/24", |d| {
            ip::script(
                Some("c1"),
                &format!(
                    "addr del 10.1.2.2/24 dev {0}\naddr add 10.1.2.2/25 dev {0}\nroute add default via 10.1.2.1",
                    d.ifname
                ),
            )
        })
    }),
    Case::new("bridge/check_names_a_missing_ipv6_address", &["BR-5"], |room| {
        drift(room, json!({}), "2001:db8:1::2", |d| {
            ip::run_in("c1", &["addr", "del", "2001:db8:1::2/64", "dev", d.ifname])
        })
    }),
    Case::new("bridge/check_names_a_missing_route", &["BR-5"], |room| {
        drift(room, json!({}), "0.0.0.0", |_| ip::run_in("c1", &["route", "del", "default"]))
    }),
    Case::new("bridge/check_names_a_changed_default_gateway", &["BR-5"], |room| {
        drift(room, json!({}), "10.1.2.1", |_| {
            ip::run_in("c1", &["route", "replace", "default", "via", "10.1.2.77"])
        })
    }),
    Case::new("bridge/check_names_a_changed_container_mac", &["BR-5"], |room| {
        drift(room, json!({}), "0a:00:00:00:00:77", |d| {
            ip::script(Some("c1"), &format!("link set {} address 0a:00:00:00:00:77", d.ifname))
        })
    }),
    Case::new("bridge/check_names_a_lost_master", &["BR-5"], |room| {
        drift(room, json!({}), "br0", |d| ip::run(&["link", "set", d.host, "nomaster"]))
    }),
    Case::new("bridge/check_names_a_missing_container_link", &["BR-5"], |room| {
        drift(room, json!({}), "eth0", |d| ip::run_in("c1", &["link", "del", d.ifname]))
    }),
    Case::new("bridge/check_names_a_container_link_that_is_down", &["BR-5"], |room| {
        drift(room, json!({}), "eth0", |_| ip::script(Some("c1"), "link set eth0 down\nlink show"))
    }),
    Case::new("bridge/check_names_a_host_end_that_is_down", &["BR-5"], |room| {
        drift(room, json!({}), "veth", |d| ip::run(&["link", "set", d.host, "down"]))
    }),
    Case::new("bridge/check_names_lost_hairpin_mode", &["BR-R6"], |room| {
        drift(room, json!({"hairpinMode": true}), "hairpin", |d| {
            ip::run(&["link", "set", d.host, "type", "bridge_slave", "hairpin", "off"])
        })
    }),
    Case::new("bridge/check_names_lost_isolation", &["BR-R6"], |room| {
        drift(room, json!({"portIsolation": true}), "isolat", |d| {
            ip::run(&["link", "set", d.host, "type", "bridge_slave", "isolated", "off"])
        })
    }),
    Case::new("bridge/check_names_a_changed_mtu", &["BR-5"], |room| {
        drift(room, json!({"mtu": 1400}), "1400", |d| ip::run(&["link", "set", d.host, "mtu", "1300"]))
    }),
    Case::new("bridge/check_names_a_missing_gateway_address", &["BR-R6"], |room| {
        drift(room, json!({}), "10.1.2.1", |_| ip::run(&["addr", "del", "10.1.2.1/24", "dev", "br0"]))
    }),
    Case::new("bridge/check_reports_forwarding_that_is_off_and_passes", &["BR-R6"], forwarding),
    Case::new("bridge/check_names_a_bridge_that_is_gone", &["BR-5"], |room| {
        drift(room, json!({}), "br0", |_| ip::run(&["link", "del", "br0"]))
    }),
    Case::new("bridge/check_names_a_lost_lease", &["C-043", "BR-5", "HL-7"], |room| {
        drift(room, json!({}), "c1", |_| lose_lease())
    }),
];

/// The names that a change may need.
struct Drift<'a> {
    host: &'a str,
    ifname: &'a str,
}

fn check(room: &Room, container: &Container, config: &Value, result: &Value) -> Result<Answer> {
    let config = with(config, json!({"prevResult": result}));
    room.attach("bridge", "CHECK", container).config(&config).run()
}

/// Attaches `c1`, runs CHECK, makes one change, and expects CHECK to fail with `text` in its
/// message.
fn drift(room: &Room, keys: Value, text: &str, change: impl Fn(&Drift) -> Result<()>) -> Result<()> {
    let container = room.container("c1")?;
    let config = with(&bridge(USUAL), keys);
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    check(room, &container, &config, &result)?.silent().context("right after ADD")?;
    let host = result["interfaces"][1]["name"].as_str().context("no host end in the result")?;
    change(&Drift { host, ifname: "eth0" })?;
    let error = check(room, &container, &config, &result)?.error_code(999).context("after the change")?;
    ensure!(error.msg.contains(text), "the message does not name the drift ({text}): {error}");
    Ok(())
}

/// Forwarding belongs to the host: if CHECK failed, a runtime would remove the addresses of all its
/// containers.
fn forwarding(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let result = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/{key}"), "0")?;
        let answer = check(room, &container, &bridge(USUAL), &result)?;
        answer.silent()?;
        ensure!(answer.stderr.contains(key), "CHECK is silent on {key}: {:?}", answer.stderr);
        ensure!(room.host_sysctl(key)? == "0", "CHECK changed {key} of the host");
    }
    Ok(())
}

fn lose_lease() -> Result<()> {
    for entry in std::fs::read_dir("/var/lib/cni/networks/net")? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn needs_prev(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = bridge(USUAL);
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    room.attach("bridge", "CHECK", &container)
        .config(&config)
        .run()?
        .error_with(999, "Required prevResult missing")?;
    // A result for another interface or container.
    let mut other = result.clone();
    other["interfaces"][2]["name"] = "eth7".into();
    check(room, &container, &config, &other)?.error_code(999)?;
    let mut other = result.clone();
    other["interfaces"][2]["sandbox"] = "/run/netns/other".into();
    check(room, &container, &config, &other)?.error_code(999)?;
    Ok(())
}

fn layer_2(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let result = room.attach("bridge", "ADD", &container).config(&layer2(USUAL)).run()?.result()?;
    check(room, &container, &layer2(USUAL), &result)?.silent()
}

fn tolerates(room: &Room) -> Result<()> {
    let config = with(&bridge(USUAL), json!({"isDefaultGateway": false}));
    let container = room.container("c1")?;
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    // Another container, a sniffer, and additions of later plugins in the chain.
    room.attach("bridge", "ADD", &room.container("c2")?).config(&config).run()?.result()?;
    ip::run(&["link", "set", "br0", "promisc", "on"])?;
    ip::script(
        Some("c1"),
        "addr add 10.77.0.1/24 dev eth0
         route add 10.78.0.0/16 via 10.1.2.1
         rule add from 10.1.2.2 table 100",
    )?;
    let mut result = result;
    if let Some(interfaces) = result["interfaces"].as_array_mut() {
        interfaces.push(json!({"name": "ifb-of-bandwidth", "mac": "0a:00:00:00:00:01"}));
    }
    check(room, &container, &config, &result)?.silent()
}
