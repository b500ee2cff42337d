//! A host with an administrator: bridges, addresses, rules and sysctls that are not the suite's;
//! and a route from a router's advertisements.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::router::Router;
use crate::ip;
use crate::room::{Room, UPLINK};
use crate::snapshot;

/// Sysctls that distributions and hardening guides set.
const SYSCTLS: [(&str, &str); 6] = [
    ("net/ipv6/conf/all/accept_dad", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/conf/all/rp_filter", "1"),
    ("net/ipv4/conf/default/rp_filter", "1"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/all/log_martians", "1"),
];

/// Links and their addresses. A bridge with spanning tree, as NetworkManager creates it, has a port
/// and an address; `zadmin` is idle; both are in no group, and their names sort before and after
/// the suite's. The port's other end stays down, so that no carrier comes up in the middle of a
/// case.
const LINKS: &str = "link add admin0 type bridge stp_state 1 forward_delay 400
     link add zadmin type bridge
     link add adminport type veth peer name adminpeer
     link set adminport master admin0
     addr add 172.31.255.1/24 dev admin0
     addr add 172.31.254.1/24 dev zadmin
     link set adminport up
     link set admin0 up
     link set zadmin up
     route add 172.30.0.0/16 via 172.31.255.2
     rule add pref 20000 from 172.31.255.0/24 lookup 200
     route add default via 172.31.255.2 table 200";

/// A firewall that accepts unknown packets, in tables before and after the usual priorities.
const RULES: &str = r#"
table inet administrator {
    set admins { type ipv4_addr; flags interval; elements = { 172.31.255.0/24 } }
    chain input { type filter hook input priority -10; policy accept; ip saddr @admins counter accept comment "ours"; }
    chain forward { type filter hook forward priority 10; policy accept; ct state invalid counter; }
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; ip daddr 172.31.255.9 tcp dport 1 dnat ip to 172.31.255.2; }
    chain postrouting { type nat hook postrouting priority srcnat; policy accept; ip saddr 172.31.255.0/24 oifname "wan0" masquerade; }
}
table bridge administrator {
    chain forward { type filter hook forward priority 0; policy accept; }
}
"#;

/// How the administrator's lines in a snapshot are recognised.
const MARKS: [&str; 4] = ["admin", "172.31.25", "172.30.", "disable_ipv6"];

/// The administrator's objects; checked in the end.
pub struct Administrator {
    before: Vec<String>,
    router: Router,
}

pub fn enter(room: &Room) -> Result<Administrator> {
    ip::script(None, LINKS)?;
    nft(RULES)?;
    // As at the last shutdown and boot.
    room.save_and_load_rules()?;
    for (path, value) in SYSCTLS {
        fs::write(format!("/proc/sys/{path}"), value).with_context(|| format!("set {path}"))?;
    }
    let router = Router::connect()?;
    Ok(Administrator { before: administrators_lines()?, router })
}

fn nft(rules: &str) -> Result<()> {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("start nft")?;
    nft.stdin.take().context("nft has an input")?.write_all(rules.as_bytes())?;
    let status = nft.wait()?;
    ensure!(status.success(), "nft refused the administrator's rules: {status}");
    Ok(())
}

/// The administrator's objects, except forwarding, which ADD turns on for the whole host, and the
/// parameter that then keeps the router's route. Carriers, which change in the kernel's own time,
/// and counters are left out.
fn administrators_lines() -> Result<Vec<String>> {
    let listens = format!("/{UPLINK}/accept_ra ");
    let mut lines = snapshot::network(None)?;
    lines.extend(snapshot::all_rules()?);
    let sysctls = snapshot::sysctls().into_iter();
    lines.extend(sysctls.filter(|line| !line.contains("/forwarding") && !line.contains(&listens)));
    // Moor's own table has a chain for administrators.
    lines.retain(|line| {
        MARKS.iter().any(|mark| line.contains(mark)) && !line.starts_with("nft table inet moor")
    });
    for line in &mut lines {
        if let (true, Some((head, _))) = (line.contains("counter"), line.split_once(" packets")) {
            *line = head.to_owned();
        }
        *line = line.replace("LOWER_UP ", "");
        // A change of the spanning tree's topology shortens the ageing time for a while.
        *line = line.split(" ageing_time").next().unwrap_or_default().to_owned();
    }
    Ok(lines)
}

impl Administrator {
    /// Requires that nothing of the administrator's is gone or changed. Rules that the case itself
    /// has flushed as a whole do not count.
    pub fn ensure_untouched(&self) -> Result<()> {
        let now = administrators_lines()?;
        let flushed = !now.iter().any(|line| line.starts_with("nft"));
        let lost =
            self.before.iter().filter(|line| !(now.contains(line) || flushed && line.starts_with("nft")));
        let lost: Vec<String> = lost.cloned().collect();
        ensure!(lost.is_empty(), "the administrator has lost:{}", crate::diff::shown(&lost));
        self.router.ensure_heard()
    }
}
