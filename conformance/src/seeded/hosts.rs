//! Defects of networks over many hosts. A wrapper cannot replace the agent, so these do beside a
//! plugin what a defective agent would do.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::ip;
use serde_json::{Value, json};

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The defects of this file.
pub const HOSTS: &[Defect] = &[
    defect(
        "gives_an_address_of_the_cluster_twice",
        "cluster",
        "overlay/three_cold_hosts_give_no_address_twice",
        |call| {
            call.after(call.verb == "ADD", |_| {
                let files = listed("/var/lib/cni/networks/front").into_iter();
                let files = files.filter(|file| !file.ends_with("lock"));
                files.for_each(|file| drop(fs::remove_file(file)));
            })
        },
    ),
    defect("does_nothing_at_del", "overlay", "overlay/names_follow_add_and_del_on_every_host", |call| {
        // Nothing of it: an agent that heard of a DEL would look at the record itself.
        if call.verb == "DEL" { Reply::nothing() } else { call.sound() }
    }),
    defect(
        "deletes_peers_while_etcd_is_away",
        "overlay",
        "overlay/nothing_is_taken_away_while_etcd_is_away",
        |call| {
            call.after(call.verb == "ADD" && !etcd_answers(), |_| {
                // The agent would make them again.
                stop_agent();
                let ours = ip::links(None).unwrap_or_default();
                for device in ours.iter().filter(|name| name.starts_with("mx")) {
                    drop(Command::new("bridge").args(["fdb", "flush", "dev", device]).status());
                }
            })
        },
    ),
    defect("needs_etcd_for_del", "overlay", "overlay/nothing_is_taken_away_while_etcd_is_away", |call| {
        if call.verb == "DEL" && !etcd_answers() { Reply::error(11, "etcd: no answer") } else { call.sound() }
    }),
    defect(
        "asks_etcd_for_each_address",
        "cluster",
        "overlay/a_paused_etcd_delays_no_add_from_an_own_block",
        |call| {
            if call.verb == "ADD" && !etcd_answers() {
                Reply::error(11, "etcd: no answer")
            } else {
                call.sound()
            }
        },
    ),
    defect("shows_names_to_other_networks", "dns", "overlay/a_network_sees_no_names_of_another", |call| {
        call.after(call.verb == "ADD", |_| {
            for place in listed("/run/moor/dns") {
                for file in listed(place.join("net/back/remote")) {
                    drop(fs::copy(file, place.join("net/front/remote/00000000000000ff.json")));
                }
                let sync = br#"{"ask":"sync","network":"front"}"#;
                drop(harness::stage::dns::control_at(&place.join("control.sock"), sync));
            }
        })
    }),
    defect("forgets_names_of_other_hosts", "dns", "overlay/names_of_other_hosts_need_no_agent", |call| {
        call.after(call.verb == "CHECK", |_| {
            for place in listed("/run/moor/dns") {
                drop(fs::remove_dir_all(place.join("net/front/remote")));
            }
        })
    }),
    defect("publishes_no_aliases", "overlay", "overlay/an_alias_has_the_addresses_of_all_hosts", |call| {
        call.with(|config| config["runtimeConfig"]["aliases"] = json!([]))
    }),
    defect("serves_with_a_copied_identity", "overlay", "overlay/a_cloned_host_serves_nothing", |call| {
        if call.verb == "STATUS" { Reply::nothing() } else { call.sound() }
    }),
];

fn listed(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Whether the cluster's first member of etcd answers.
fn etcd_answers() -> bool {
    let config = fs::read("/etc/moor/cluster.json").unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    let member = config["endpoints"][0].as_str().and_then(|url| url.strip_prefix("http://"));
    let Some(member) = member.and_then(|at| at.parse::<SocketAddr>().ok()) else { return false };
    let wait = Duration::from_millis(500);
    let ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect_timeout(&member, wait)?;
        stream.set_read_timeout(Some(wait))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        stream.read(&mut [0; 16])
    };
    ask().is_ok_and(|length| length > 0)
}

/// Stops the agent of this host, whose lock names it.
fn stop_agent() {
    for place in listed("/run/moor/overlay") {
        let lock = fs::read_to_string(place.join("agent.lock")).unwrap_or_default();
        let pid = lock.split_whitespace().next().unwrap_or_default();
        drop(Command::new("kill").args(["-STOP", pid]).status());
    }
}
