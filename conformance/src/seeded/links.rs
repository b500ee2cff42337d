//! Defects of link ownership: plugins that delete or change links of others.

use std::path::Path;
use std::process::Command;

use harness::ip;
use serde_json::Value;

use super::defect::{Defect, defect};
use super::wrapper::{Call, Reply};

/// The defects of this file.
pub const LINKS: &[Defect] = &[
    defect("deletes_any_link_of_the_name", "bridge", "bridge/del_keeps_another_networks_link", |call| {
        after_del(call, &["link", "del", &ifname()])
    }),
    defect(
        "deletes_the_new_containers_link",
        "bridge",
        "bridge/late_del_keeps_the_new_containers_link",
        |call| after_del(call, &["link", "del", &ifname()]),
    ),
    defect(
        "takes_lo_down_for_any_attachment",
        "loopback",
        "loopback/late_del_keeps_the_new_containers_lo",
        |call| after_del(call, &["link", "set", "lo", "down"]),
    ),
    defect(
        "trusts_the_containers_alias",
        "macvlan",
        "macvlan/del_removes_a_link_that_the_container_disguised",
        |call| if call.verb == "DEL" && is_disguised() { Reply::nothing() } else { call.sound() },
    ),
    defect("needs_a_master_to_delete", "vlan", "vlan/del_succeeds_without_a_master", |call| {
        let is_gone = ip::link(None, "wan0").is_ok_and(|link| link.is_none());
        if call.verb == "DEL" && is_gone { Reply::error(999, "Link not found") } else { call.sound() }
    }),
    defect("accepts_any_vlan_id", "vlan", "vlan/invalid_config_is_refused_before_any_change", |call| {
        call.without("vlanId")
    }),
    defect("needs_ipam_to_delete", "dummy", "dummy/del_succeeds_without_ipam", |call| {
        if call.verb == "DEL" { Reply::error(999, "no plugin name provided") } else { call.sound() }
    }),
    defect("accepts_any_mtu", "dummy", "dummy/invalid_config_is_refused_before_any_change", |call| {
        call.without("mtu")
    }),
    defect("deletes_by_group_alone", "macvlan", "parents/foreign_links_in_the_group_are_kept", |call| {
        call.after(call.verb == "DEL", |_| {
            drop(Command::new("ip").args(["link", "del", "group", "1836019570"]).status());
        })
    }),
    defect("gc_deletes_links_one_by_one", "bridge", "bridge/gc_deletes_many_links_by_one_request", |call| {
        if call.verb == "GC" {
            ours().iter().for_each(|name| drop(Command::new("ip").args(["link", "del", name]).status()));
        }
        call.sound()
    }),
    defect(
        "gc_deletes_its_group_alone",
        "bridge",
        "bridge/gc_keeps_links_that_others_put_into_its_group",
        |call| {
            call.after(call.verb == "GC", |_| {
                let links = ip::rows(None, &["link", "show", "type", "veth"]).unwrap_or_default();
                let groups = links.iter().filter_map(|link| link["group"].as_str());
                for group in groups.filter(|group| *group != "default") {
                    drop(Command::new("ip").args(["link", "del", "group", group]).status());
                }
            })
        },
    ),
    defect("forgets_the_owner_of_a_tap", "tap", "tap/its_owner_attaches_and_no_other_user", |call| {
        call.without("owner")
    }),
    defect("forgets_the_mtu_of_a_tap", "tap", "tap/mtu_and_mac_are_honoured_with_every_other_key", |call| {
        call.without("mtu")
    }),
    defect("deletes_any_tap_of_the_name", "tap", "tap/del_keeps_devices_of_others", |call| {
        after_del(call, &["link", "del", &ifname()])
    }),
    defect("looks_at_no_device", "tap", "tap/check_names_every_drift", |call| {
        if call.verb == "CHECK" { Reply::nothing() } else { call.sound() }
    }),
    defect(
        "sets_the_address_back_that_others_have_set",
        "bridge",
        "bridge/a_mac_address_that_others_set_meanwhile_is_kept",
        |call| {
            let before = ip::link(None, "br0").ok().flatten();
            let before = before.and_then(|link| link["address"].as_str().map(str::to_owned));
            call.after(call.verb == "ADD", |_| {
                let before = before.unwrap_or_default();
                drop(Command::new("ip").args(["link", "set", "br0", "address", &before]).status());
            })
        },
    ),
    defect("pins_another_bridge", "bridge", "bridge/a_foreign_bridge_keeps_its_mac_address", |call| {
        call.after(call.verb == "ADD", |reply| {
            let result: Value = serde_json::from_slice(&reply.stdout).unwrap_or_default();
            let text = |at: &str| result.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (bridge, mac) = (text("/interfaces/0/name"), text("/interfaces/1/mac"));
            drop(Command::new("ip").args(["link", "set", &bridge, "address", &mac]).status());
        })
    }),
    defect(
        "removes_an_idle_bridges_address",
        "bridge",
        "bridge/an_administrators_address_on_an_idle_bridge_is_kept",
        |call| {
            if call.verb == "ADD" {
                drop(Command::new("ip").args(["addr", "del", "10.7.7.1/24", "dev", "br0"]).status());
            }
            call.sound()
        },
    ),
];

/// The names of the host's veths with a label of network `net` but the first container's.
fn ours() -> Vec<String> {
    let links = ip::rows(None, &["-d", "link", "show", "type", "veth"]).unwrap_or_default();
    let stale = links.iter().filter(|link| {
        let alias = link["ifalias"].as_str().unwrap_or_default();
        alias.starts_with("moor/net/") && !alias.ends_with("/net0")
    });
    stale.filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect()
}

fn ifname() -> String {
    std::env::var("CNI_IFNAME").unwrap_or_default()
}

/// The name of the container's namespace for `ip`.
fn namespace() -> Option<String> {
    let path = std::env::var_os("CNI_NETNS")?;
    Some(Path::new(&path).file_name()?.to_string_lossy().into_owned())
}

/// Runs an `ip` command in the container after a DEL.
fn after_del(call: &Call, words: &[&str]) -> Reply {
    call.after(call.verb == "DEL", |_| {
        if let Some(namespace) = namespace() {
            drop(Command::new("ip").args(["-n", &namespace]).args(words).status());
        }
    })
}

/// Whether the container's link has another name than the runtime requested, or a foreign alias.
fn is_disguised() -> bool {
    let link = namespace().and_then(|namespace| ip::link(Some(&namespace), &ifname()).ok()?);
    let id = std::env::var("CNI_CONTAINERID").unwrap_or_default();
    let alias = link.as_ref().and_then(|link| link["ifalias"].as_str());
    alias.is_none_or(|alias| !alias.ends_with(&format!("/{}/{id}", ifname())))
}
