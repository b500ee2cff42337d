//! Beside the reference and back to it: CHECK of what it attached, and `portmap release`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::masquerade::{masquerade, nft};
use super::portmap::{HOST, address, portmap};
use super::with;
use crate::case::Case;
use crate::need::Need;
use crate::room::Room;
use crate::room::call::{Answer, Call};
use crate::room::netns::Container;
use crate::{ip, snapshot};

pub const CASES: &[Case] = &[
    Case::new("going_back/check_passes_what_the_reference_attached", &["C-043", "bridge 8"], attached)
        .needs(&[Need::Reference, Need::Iptables]),
    Case::new("going_back/check_passes_the_references_nftables_rules", &["C-043", "bridge 5"], by_nftables),
];

/// The reference is asked in a version that Debian's has.
fn config() -> Value {
    with(&masquerade(), json!({"cniVersion": "1.0.0", "macspoofchk": true}))
}

fn reference(room: &Room, plugin: &str, verb: &str, container: &Container, config: &Value) -> Result<Answer> {
    call(room, &room.reference, plugin, verb, container, config)
}

fn call(
    room: &Room,
    suite: &Path,
    plugin: &str,
    verb: &str,
    container: &Container,
    config: &Value,
) -> Result<Answer> {
    let call = Call::new(room, suite.join(plugin)).env("CNI_COMMAND", verb).env("CNI_PATH", suite);
    let call = call.env("CNI_CONTAINERID", &container.id).env("CNI_IFNAME", "eth0");
    call.env("CNI_NETNS", &container.path).config(config).run()
}

fn ports() -> Value {
    json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": HOST[0]},
    ])
}

fn passes(room: &Room, plugin: &str, container: &Container, config: &Value) -> Result<()> {
    let answer = room.attach(plugin, "CHECK", container).config(config).run()?;
    answer.silent().with_context(|| format!("CHECK of {plugin}"))
}

/// By its iptables back end, with a MAC filter, and a name of its own for the host's end.
fn attached(room: &Room) -> Result<()> {
    room.outside(&[])?;
    // What the reference leaves for good, of an attachment that is gone.
    let once = room.container("once")?;
    let result = reference(room, "bridge", "ADD", &once, &config())?.result()?;
    let published = portmap(ports(), &result);
    reference(room, "portmap", "ADD", &once, &published)?.result()?;
    reference(room, "portmap", "DEL", &once, &published)?.silent()?;
    reference(room, "bridge", "DEL", &once, &config())?.silent()?;
    let before = snapshot::rules()?;
    let container = room.container("c1")?;
    let result = reference(room, "bridge", "ADD", &container, &config())?.result()?;
    let attached = with(&config(), json!({"prevResult": result}));
    let published = portmap(ports(), &result);
    reference(room, "portmap", "ADD", &container, &published)?.result()?;
    for backend in [json!({}), json!({"backend": "iptables"})] {
        passes(room, "portmap", &container, &with(&published, backend))?;
    }
    for backend in [json!({}), json!({"ipMasqBackend": "iptables"})] {
        passes(room, "bridge", &container, &with(&attached, backend))?;
    }
    // And fails as ever where something is missing.
    let chain = ip::output("iptables", &["-t", "nat", "-S", "POSTROUTING"])?;
    let jump = chain.lines().find(|line| line.contains("-s 10.1.2.")).context("no jump of the reference")?;
    let lines = |jump: &str| -> Result<()> {
        let path = room.write("lines", format!("*nat\n{jump}\nCOMMIT\n"))?.display().to_string();
        ip::output("iptables-restore", &["--noflush", &path]).map(drop)
    };
    lines(&jump.replacen("-A", "-D", 1))?;
    room.attach("bridge", "CHECK", &container).config(&attached).run()?.error_with(999, "masq4")?;
    lines(jump)?;
    room.attach("portmap", "DEL", &container).config(&published).run()?.silent()?;
    room.attach("bridge", "DEL", &container).config(&attached).run()?.silent()?;
    let changes = crate::diff::lines(&before, &snapshot::rules()?);
    ensure!(changes.is_empty(), "DEL leaves {}", crate::room::shown(&changes));
    Ok(())
}

/// What its later releases make of tables of nf_tables, by their published shapes.
fn by_nftables(room: &Room) -> Result<()> {
    let container = room.container("one")?;
    let plain = with(&config(), json!({"ipMasq": false, "macspoofchk": false}));
    let result = room.attach("bridge", "ADD", &container).config(&plain).run()?.result()?;
    let attached = with(&masquerade(), json!({"cniVersion": "1.0.0", "prevResult": result}));
    let published = portmap(ports(), &result);
    let of = |v6| address(&json!({"prevResult": result}), v6);
    let comment = "d23676b4f2d9fe04-287fc69eff0574a2, net: net, if: eth0, id: one";
    let masquerades = format!(
        "add table inet cni_plugins_masquerade
         add chain inet cni_plugins_masquerade masq_checks
         add chain inet cni_plugins_masquerade postrouting {{ type nat hook postrouting priority 100; }}
         add rule inet cni_plugins_masquerade postrouting ip daddr 224.0.0.0/4 return
         add rule inet cni_plugins_masquerade postrouting ip6 daddr ff00::/8 return
         add rule inet cni_plugins_masquerade postrouting goto masq_checks
         add rule inet cni_plugins_masquerade masq_checks ip saddr == {} ip daddr != 10.1.2.0/24 masquerade comment \"{comment}\"
         add rule inet cni_plugins_masquerade masq_checks ip6 saddr == {} ip6 daddr != 2001:db8:1::/64 masquerade comment \"{comment}\"",
        of(false),
        of(true)
    );
    let mut forwards = String::new();
    for (family, to) in [("ip", of(false)), ("ip6", format!("[{}]", of(true)))] {
        forwards.push_str(&format!(
            "add table {family} cni_hostport
             add chain {family} cni_hostport hostports
             add rule {family} cni_hostport hostports tcp dport 8080 dnat to {to}:80 comment \"one\"\n",
        ));
    }
    let at = format!(
        "add rule ip cni_hostport hostports ip daddr {} udp dport 5353 dnat to {}:53 comment \"one\"",
        HOST[0],
        of(false)
    );
    let run = |script: &str| script.lines().try_for_each(|line| nft(line.trim()));
    let check = |plugin: &str, config: &Value| room.attach(plugin, "CHECK", &container).config(config).run();
    check("bridge", &attached)?.error_with(999, "masq4")?;
    check("portmap", &published)?.error_with(999, "published")?;
    run(&masquerades)?;
    check("bridge", &attached)?.silent()?;
    run(&forwards)?;
    // One port is missing still.
    check("portmap", &published)?.error_with(999, "published")?;
    run(&at)?;
    check("portmap", &published)?.silent()?;
    room.attach("portmap", "DEL", &container).config(&published).run()?.silent()?;
    let left = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!left.contains("8080") && !left.contains("5353"), "DEL leaves {left}");
    Ok(())
}
