//! A kernel without nf_tables returns EPROTONOSUPPORT for a netfilter socket: packet rules fail
//! with an error that names nf_tables, and everything else works.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::stage::firewall::Behind;
use harness::stage::portmap::{portmap, ruleset};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("rules/a_kernel_without_nf_tables_is_reported", &["C-044", "HO-32"], refused)
        .needs(&[Need::Strace]),
    Case::new("firewall/auto_is_iptables_without_nf_tables", &["FW-11"], automatic)
        .needs(&[Need::Strace, Need::Iptables]),
];

const WORDS: &str = "packet rules need nf_tables, which this kernel is without";

/// Runs the call as on such a kernel: the plugin's netfilter socket is refused, wherever it is
/// among its sockets, and as often as it is asked for. A C library may ask twice: musl does without
/// SOCK_CLOEXEC, for kernels that do not know the flag.
fn without<'r>(room: &'r Room, times: usize, call: &dyn Fn() -> Call<'r>) -> Result<Answer> {
    Ok(refusing(room, times, call)?.0)
}

/// As [`without`]; returns how often the socket was asked for too.
fn refusing<'r>(room: &'r Room, times: usize, call: &dyn Fn() -> Call<'r>) -> Result<(Answer, usize)> {
    let log = room.scratch("sockets");
    let under = |rest: &[&str]| {
        let words =
            ["strace", "-qq", "-o", &log.display().to_string(), "-e", "trace=socket"].map(str::to_owned);
        let rest = rest.iter().map(|word| (*word).to_owned());
        call().under(&words.into_iter().chain(rest).collect::<Vec<_>>()).run()
    };
    // The position of the netfilter socket is unknown, so each socket is refused in turn.
    for nth in 1..8 {
        let last = nth + times - 1;
        let answer = under(&["-e", &format!("inject=socket:error=EPROTONOSUPPORT:when={nth}..{last}")])?;
        let sockets = fs::read_to_string(&log).context("read the requested sockets")?;
        let refused = sockets.lines().find(|line| line.contains("(INJECTED)"));
        if refused
            .with_context(|| format!("no netfilter socket among: {sockets}"))?
            .contains("NETLINK_NETFILTER")
        {
            return Ok((answer, sockets.lines().filter(|line| line.contains("NETLINK_NETFILTER")).count()));
        }
    }
    anyhow::bail!("the plugin opens no netfilter socket")
}

fn refused(room: &Room) -> Result<()> {
    let plain = with(&bridge(USUAL), json!({"isDefaultGateway": true}));
    let masquerade = with(&plain, json!({"ipMasq": true}));
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let newer = |config: &Value| with(config, json!({"cniVersion": "1.1.0"}));
    // STATUS changes nothing: it shows how often one socket is asked for.
    let status = || room.attach("bridge", "STATUS", &container).config(&newer(&masquerade));
    let times = refusing(room, 1, &status)?.1;
    let on = |plugin: &'static str, verb: &'static str, config: &Value| {
        without(room, times, &|| room.attach(plugin, verb, &container).config(config))
    };
    on("bridge", "ADD", &masquerade)?.error_with(999, WORDS)?;
    ensure!(room.left_since(&before, &["br0"], &["c1"])?.is_empty(), "bridge's ADD has left something");
    on("bridge", "STATUS", &newer(&masquerade))?.error_with(50, WORDS)?;
    let previous = room.attach("bridge", "ADD", &container).config(&plain).run()?.result()?;
    let config = portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &previous);
    let (rules, before) = (ruleset()?, room.snapshot()?);
    on("portmap", "ADD", &config)?.error_with(999, WORDS)?;
    ensure!(ruleset()? == rules, "portmap's ADD has left rules");
    room.ensure_unchanged(&before, "portmap's ADD")?;
    on("portmap", "STATUS", &newer(&config))?.error_with(50, WORDS)?;
    // There is nothing to undo.
    on("portmap", "DEL", &config)?.silent()?;
    on("bridge", "DEL", &plain)?.silent()
}

/// The programs are not refused a socket: only the plugin is.
fn automatic(room: &Room) -> Result<()> {
    let a = Behind::open(room, "a", 1)?;
    let config = |keys: Value| a.config(&with(&json!({"cniVersion": "1.1.0"}), keys));
    let ask = |verb: &'static str, keys: &Value| {
        room.attach("firewall", verb, &a.container).config(&config(keys.clone()))
    };
    // STATUS changes nothing: it shows how often one socket is asked for.
    let times = refusing(room, 1, &|| ask("STATUS", &json!({})))?.1;
    let call = |verb: &'static str, keys: Value| without(room, times, &|| ask(verb, &keys));
    call("STATUS", json!({}))?.silent()?;
    call("ADD", json!({}))?.result()?;
    let [v4, v6] = a.addresses()?;
    for (program, address) in [("iptables", v4), ("ip6tables", v6)] {
        let rules = ip::output(program, &["-S", "CNI-FORWARD"])?;
        ensure!(rules.contains(&address), "{program} does not accept {address}: {rules}");
    }
    let tables = ip::output("nft", &["list", "tables"])?;
    ensure!(!tables.contains("moor"), "{tables}");
    call("CHECK", json!({}))?.silent()?;
    // A policy is one of nf_tables.
    let by_name = json!({"backend": "iptables", "ingressPolicy": "same-bridge"});
    for keys in [by_name, json!({"backend": "nftables"})] {
        let call = |verb: &'static str| {
            // Every request for a socket, from the first of netfilter on.
            without(room, 4, &|| ask(verb, &keys))
        };
        call("ADD")?.error_with(999, WORDS)?;
        call("STATUS")?.error_with(50, WORDS)?;
    }
    a.del(room)?;
    let left = ip::output("iptables", &["-S", "CNI-FORWARD"])?;
    ensure!(!left.contains("10.1.0."), "left behind: {left}");
    Ok(())
}
