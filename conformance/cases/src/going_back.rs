//! Migration beside and back to the reference: CHECK of its attachments, and `portmap release`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::stage::portmap::{HOST, address, portmap};
use harness::{ip, snapshot};
use serde_json::{Value, json};

use crate::masquerade::{masquerade, nft};

pub const CASES: &[Case] = &[
    Case::new("going_back/check_accepts_attachments_of_the_reference", &["C-043", "HO-33"], attached)
        .needs(&[Need::Reference, Need::Iptables]),
    Case::new("going_back/check_accepts_the_references_nftables_rules", &["C-043", "HO-33"], by_nftables),
    Case::new(
        "going_back/release_leaves_nothing_that_a_freed_address_inherits",
        &["C-042", "HO-37"],
        release,
    )
    .needs(&[Need::Reference]),
];

/// A version that Debian's reference supports.
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

/// The rules, without the packet counters of iptables.
fn uncounted() -> Result<Vec<String>> {
    let strip = |line: String| -> String {
        let words = line.split(' ').filter(|word| word.parse::<u64>().is_err());
        words.collect::<Vec<_>>().join(" ")
    };
    Ok(snapshot::rules()?.into_iter().map(strip).collect())
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

/// With the iptables back end, a MAC filter, and a given name for the host end.
fn attached(room: &Room) -> Result<()> {
    room.outside(&[])?;
    // Objects that the reference leaves behind for a deleted attachment.
    let once = room.container("once")?;
    let result = reference(room, "bridge", "ADD", &once, &config())?.result()?;
    let published = portmap(ports(), &result);
    reference(room, "portmap", "ADD", &once, &published)?.result()?;
    reference(room, "portmap", "DEL", &once, &published)?.silent()?;
    reference(room, "bridge", "DEL", &once, &config())?.silent()?;
    let before = uncounted()?;
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
    // CHECK still fails where something is missing.
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
    let changes = harness::diff::lines(&before, &uncounted()?);
    ensure!(changes.is_empty(), "DEL leaves {}", harness::diff::shown(&changes));
    Ok(())
}

/// The nf_tables rules of later releases, by their published form.
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
    // One port is still missing.
    check("portmap", &published)?.error_with(999, "published")?;
    run(&at)?;
    check("portmap", &published)?.silent()?;
    room.attach("portmap", "DEL", &container).config(&published).run()?.silent()?;
    let left = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!left.contains("8080") && !left.contains("5353"), "DEL leaves {left}");
    Ok(())
}

/// Before the switch to the reference: its DEL does not know the objects of this suite.
fn release(room: &Room) -> Result<()> {
    let add = |id: &str, network: &str, port: u16| -> Result<(Container, Value, Value)> {
        let container = room.container(id)?;
        let (bridge, subnet) = if network == "net" { ("br0", "10.1.2.0/24") } else { ("br1", "10.1.9.0/24") };
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": subnet}]]});
        let config = with(&config(), json!({"name": network, "bridge": bridge, "ipam": ipam}));
        let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
        let mappings = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        let published = with(&portmap(mappings, &result), json!({"name": network}));
        room.attach("portmap", "ADD", &container).config(&published).run()?.result()?;
        Ok((container, with(&config, json!({"prevResult": result})), published))
    };
    let release = |words: &[&str]| -> Result<String> {
        let answer = Call::new(room, room.suite.join("portmap")).argv(words).run()?;
        answer.silent()?;
        Ok(answer.stderr)
    };
    let (container, attached, published) = add("c1", "net", 8080)?;
    let (other, others, others_ports) = add("c2", "other", 8081)?;
    let printed = release(&["release", "net"])?;
    for word in ["container c1", "8080", "masquerade of 10.1.2.2", "MAC filter"] {
        ensure!(printed.contains(word), "no {word:?} in: {printed}");
    }
    let left = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!left.contains("moor/net/") && left.contains("moor/other/"), "of one network: {left}");
    reference(room, "portmap", "DEL", &container, &published)?.silent()?;
    // Debian's 1.1.1 fails after deleting link and lease if a chain of iptables is missing.
    let del = reference(room, "bridge", "DEL", &container, &attached)?;
    let is_known = |answer: &Answer| answer.error().is_ok_and(|error| error.msg.contains("does not exist"));
    ensure!(del.silent().is_ok() || is_known(&del), "{}", del.summary());
    let lease = std::path::Path::new("/var/lib/cni/networks/net/10.1.2.2");
    ensure!(
        !lease.exists() && ip::link(Some("c1"), "eth0")?.is_none(),
        "the reference's DEL left the attachment"
    );
    release(&["release"])?;
    let left = ip::output("nft", &["list", "tables"])?;
    ensure!(!left.contains("moor"), "release leaves {left}");
    let records = std::fs::read_dir("/run/moor/intent")?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = records.filter(|name| !name.as_encoded_bytes().starts_with(b".")).collect();
    ensure!(left.is_empty(), "release leaves records: {left:?}");
    room.attach("portmap", "DEL", &other).config(&others_ports).run()?.silent()?;
    room.attach("bridge", "DEL", &other).config(&others).run()?.silent()
}
