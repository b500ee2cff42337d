//! `portmap reapply` and `bridge reapply` restore rules after another program flushed them.

use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::config::with;
use harness::namespace::{Container, OUTSIDE};
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Answer;
use harness::stage::portmap::{HOST, bridged, expect, heir_of, portmap, published, ruleset, serve};
use harness::stage::reapply::{RECORDS, call, reapply, records, rules};
use serde_json::{Value, json};

use crate::masquerade::{ensure_masqueraded, masquerade, nft};

pub const CASES: &[Case] = &[
    Case::new("reapply/a_flushed_firewall_is_rebuilt_and_works", &["HO-20"], rebuilt),
    Case::new("reapply/a_second_reapply_commits_nothing", &["HO-21"], second).needs(&[Need::Strace]),
    Case::new("reapply/partial_rules_are_completed", &["HO-22"], partial),
    Case::new("reapply/deleted_attachments_do_not_come_back", &["HO-23"], deleted),
    Case::new("reapply/unfinished_adds_do_not_come_back", &["HO-23"], unfinished).needs(&[Need::Strace]),
    Case::new("reapply/a_reused_address_belongs_to_its_new_container", &["HO-24"], heir),
    Case::new("reapply/a_recorded_port_is_taken_despite_flushed_rules", &["HO-25"], ledger),
    Case::new("reapply/an_unreadable_record_is_a_warning", &["HO-26"], unreadable),
    Case::new("reapply/ten_thousand_records_are_one_transaction", &["HO-27"], many)
        .needs(&[Need::SendBuffer, Need::Strace]),
    Case::new("reapply/concurrent_adds_and_dels_leave_and_lose_nothing", &["C-047", "HO-28"], crowd),
];

/// A container with a port, masquerade and a MAC filter.
struct Attached {
    container: Container,
    bridge: Value,
    portmap: Value,
}

impl Attached {
    fn new(room: &Room, id: &str, port: u16) -> Result<Self> {
        let container = room.container(id)?;
        let bridge = with(&masquerade(), json!({"macspoofchk": true}));
        let result = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
        let mappings = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        let portmap = with(&portmap(mappings, &result), json!({"cniVersion": "1.1.0"}));
        room.attach("portmap", "ADD", &container).config(&portmap).run()?.result()?;
        let bridge = with(&bridge, json!({"prevResult": result}));
        Ok(Self { container, bridge, portmap })
    }

    fn call(&self, room: &Room, plugin: &str, verb: &str) -> Result<Answer> {
        let config = if plugin == "bridge" { &self.bridge } else { &self.portmap };
        room.attach(plugin, verb, &self.container).config(config).run()
    }

    fn check(&self, room: &Room) -> Result<()> {
        ["bridge", "portmap"].into_iter().try_for_each(|plugin| self.call(room, plugin, "CHECK")?.silent())
    }

    fn del(&self, room: &Room) -> Result<()> {
        ["portmap", "bridge"].into_iter().try_for_each(|plugin| self.call(room, plugin, "DEL")?.silent())
    }
}

fn same_rules(before: &[String], when: &str) -> Result<()> {
    let changes = harness::diff::lines(before, &rules()?);
    ensure!(changes.is_empty(), "{when} the rules differ: {}", harness::diff::shown(&changes));
    Ok(())
}

fn rebuilt(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let one = Attached::new(room, "c1", 8080)?;
    serve(room, "c1", 80)?;
    let before = rules()?;
    for plugin in ["portmap", "bridge"] {
        nft("flush ruleset")?;
        let printed = reapply(room, plugin)?;
        ensure!(printed.contains("of 1 attachments"), "{plugin} printed {printed:?}");
        same_rules(&before, "after reapply")?;
        one.check(room)?;
        for (host, client) in HOST.into_iter().zip(OUTSIDE) {
            expect(room, Some("outside"), host, 8080, &format!("c1:80 {client}"))?;
        }
        expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
        ensure_masqueraded("c1")?;
    }
    // The earlier value of route_localnet is still on record after the flush.
    one.del(room)?;
    ensure!(room.host_sysctl("net/ipv4/conf/br0/route_localnet")? == "0", "route_localnet stays on");
    ensure!(records()?.is_empty(), "records are left: {:?}", records()?);
    Ok(())
}

fn second(room: &Room) -> Result<()> {
    let printed = reapply(room, "portmap").context("with nothing on record")?;
    ensure!(printed.contains("0 records"), "{printed:?}");
    let one = Attached::new(room, "c1", 8080)?;
    let range = json!([{"hostPort": 20_000, "hostPortEnd": 39_999, "containerPort": 20_000}]);
    published(room, "c2", range)?;
    // With handles: a rule that was made anew would have another one.
    let handles = || harness::ip::output("nft", &["-a", "list", "ruleset"]);
    let before = handles()?;
    let log = room.scratch("strace");
    let words = ["strace", "-f", "-qq", "-e", "trace=sendto,sendmsg", "-o", &log.display().to_string()]
        .map(str::to_owned);
    let run = |plugin: &str| -> Result<usize> {
        call(room, plugin).under(&words).run()?.silent()?;
        Ok(fs::read_to_string(&log)?.matches("NFNL_MSG_BATCH_BEGIN").count())
    };
    for plugin in ["portmap", "bridge"] {
        let batches = run(plugin)?;
        ensure!(batches == 0, "a reapply with all rules present commits {batches} times");
    }
    ensure!(handles()? == before, "a reapply with all rules present changed them");
    nft("flush ruleset")?;
    for (plugin, wanted) in [("bridge", 1), ("portmap", 0)] {
        let batches = run(plugin)?;
        ensure!(batches == wanted, "{plugin} reapply after a flush commits {batches} times, not {wanted}");
    }
    one.check(room)
}

fn partial(room: &Room) -> Result<()> {
    let one = Attached::new(room, "c1", 8080)?;
    let range = json!([{"hostPort": 20_000, "hostPortEnd": 39_999, "containerPort": 20_000}]);
    let (two, config) = published(room, "c2", range)?;
    let before = rules()?;
    for change in [
        "delete element inet moor ports4 { tcp . 8080 }",
        "flush map inet moor port-ranges6",
        "flush map inet moor publishers",
        "flush set inet moor localnet",
        "flush chain inet moor published-new",
        "flush chain inet moor published-input",
        "flush chain inet moor masq",
        "add rule inet moor published accept",
        "flush map inet moor masq4",
        "flush set bridge moor macs",
        "delete table bridge moor",
        "delete table inet moor",
        "flush table inet moor",
    ] {
        nft(change)?;
        reapply(room, "portmap")?;
        same_rules(&before, &format!("after {change} and reapply"))?;
    }
    // A foreign rule replaced an element of ours; the elements of other attachments are kept.
    nft("delete element inet moor ports4 { tcp . 8080 }")?;
    nft("add element inet moor ports4 { tcp . 8080 : 192.0.2.1 . 1 }")?;
    fs::write("/proc/sys/net/ipv4/conf/br0/route_localnet", "0")?;
    reapply(room, "portmap")?;
    same_rules(&before, "after an element was led elsewhere, and reapply")?;
    one.check(room)?;
    room.attach("portmap", "CHECK", &two).config(&config).run()?.silent()?;
    nft("delete element inet moor ports4 { tcp . 8080 }")?;
    nft("add element inet moor ports4 { tcp . 8080 comment \"moor/net/eth0/other\" : 192.0.2.1 . 1 }")?;
    let printed = reapply(room, "portmap")?;
    ensure!(
        printed.contains("moor/net/eth0/other") && printed.contains("tcp . 8080"),
        "the conflict is not reported: {printed}"
    );
    ensure!(ruleset()?.to_string().contains("192.0.2.1"), "another's port was taken from it");
    Ok(())
}

fn deleted(room: &Room) -> Result<()> {
    // The bridge and the objects of the network exist.
    let (_, previous) = bridged(room, "first")?;
    let before = room.snapshot()?;
    let stays = Attached::new(room, "c1", 8081)?;
    let kept = rules()?;
    let gone = Attached::new(room, "c2", 8082)?;
    let collected = Attached::new(room, "c3", 8083)?;
    // While none of its rules exist.
    nft("flush ruleset")?;
    gone.del(room)?;
    let valid = ["first", "c1"].map(|id| json!({"containerID": id, "ifname": "eth0"}));
    let valid = json!({"cni.dev/valid-attachments": valid});
    for plugin in ["portmap", "bridge"] {
        let config = if plugin == "bridge" { &collected.bridge } else { &collected.portmap };
        room.call(plugin, "GC").config(&with(config, valid.clone())).run()?.silent()?;
    }
    reapply(room, "portmap")?;
    same_rules(&kept, "after DEL, GC and reapply")?;
    stays.check(room)?;
    // While all of its rules exist; with another name of the network.
    let renamed = Attached::new(room, "c4", 8084)?;
    for (plugin, config) in [("portmap", &renamed.portmap), ("bridge", &renamed.bridge)] {
        let config = with(config, json!({"name": "renamed"}));
        room.attach(plugin, "DEL", &renamed.container).config(&config).run()?.silent()?;
    }
    // A failed ADD.
    let mappings = json!([{"hostPort": 9000, "containerPort": 80}, {"hostPort": 8081, "containerPort": 80}]);
    let failing = room.container("failing")?;
    let config = portmap(mappings, &previous);
    room.attach("portmap", "ADD", &failing).config(&config).run()?.error_with(999, "taken")?;
    for round in ["as it was", "flushed"] {
        reapply(room, "bridge")?;
        same_rules(&kept, &format!("{round}, after reapply"))?;
        nft("flush ruleset")?;
    }
    stays.del(room)?;
    reapply(room, "bridge")?;
    // host-local finds the lease of the renamed network in the directory of the old name.
    room.attach("bridge", "DEL", &renamed.container).config(&renamed.bridge).run()?.silent()?;
    room.attach("bridge", "DEL", &collected.container).config(&collected.bridge).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1", "c2", "c3", "c4", "failing"])
}

/// Killed at the very end, when all rules exist and before the record is written.
fn unfinished(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = rules()?;
    let config = portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &previous);
    let add = || room.attach("portmap", "ADD", &container).config(&config);
    let killed = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=linkat,?link:signal=KILL:when=1"];
    let answer = add().under(&killed.map(str::to_owned)).run()?;
    ensure!(!answer.succeeded() && rules()? != before, "ADD was not killed after its rules were made");
    nft("flush ruleset")?;
    reapply(room, "portmap")?;
    same_rules(&before, "after a killed ADD, a flush and reapply")?;
    // Again, with a repeated ADD: DEL removes the objects of both.
    add().run()?.result()?;
    add().under(&killed.map(str::to_owned)).run()?;
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    reapply(room, "portmap")?;
    same_rules(&before, "after DEL and reapply")
}

/// A container died without DEL, and another one got its address and one of its ports.
fn heir(room: &Room) -> Result<()> {
    let two = json!([{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8081, "containerPort": 80}]);
    let (dead, config) = published(room, "dead", two)?;
    let (heir, previous) = heir_of(room, &dead, &config)?;
    let config = portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &previous);
    room.attach("portmap", "ADD", &heir).config(&config).run()?.result()?;
    nft("flush ruleset")?;
    reapply(room, "portmap")?;
    room.attach("portmap", "CHECK", &heir).config(&config).run()?.silent()?;
    let rules = ruleset()?.to_string();
    ensure!(!rules.contains("8081"), "a port of the dead container leads to its heir: {rules}");
    Ok(())
}

fn ledger(room: &Room) -> Result<()> {
    let one = Attached::new(room, "c1", 8080)?;
    let (other, previous) = bridged(room, "c2")?;
    nft("flush ruleset")?;
    let config = portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &previous);
    let error = room.attach("portmap", "ADD", &other).config(&config).run()?.error_with(999, "taken")?;
    ensure!(error.msg.contains("moor/net/eth0/c1"), "the owner is not named: {error}");
    // So they exist again.
    one.check(room)
}

fn unreadable(room: &Room) -> Result<()> {
    let one = Attached::new(room, "c1", 8080)?;
    let before = rules()?;
    let broken = Attached::new(room, "c2", 8081)?;
    for name in records()? {
        let path = format!("{RECORDS}/{name}");
        if fs::read_to_string(&path)?.contains("eth0 c2") {
            fs::write(&path, "v 7\n\u{0}what")?;
        }
    }
    fs::write(format!("{RECORDS}/portmap-long"), vec![b'x'; 4 << 20])?;
    nft("flush ruleset")?;
    let printed = reapply(room, "portmap")?;
    ensure!(printed.matches(RECORDS).count() == 3 && printed.contains("portmap-long"), "it prints {printed}");
    same_rules(&before, "after reapply with unreadable records")?;
    one.check(room)?;
    broken.del(room)?;
    fs::remove_file(format!("{RECORDS}/portmap-long"))?;
    let printed = reapply(room, "portmap")?;
    ensure!(!printed.contains(RECORDS), "DEL left an unreadable record: {printed}");
    same_rules(&before, "after DEL of an attachment with an unreadable record")
}

fn many(room: &Room) -> Result<()> {
    const COUNT: u32 = 10_000;
    let one = Attached::new(room, "c0", 9)?;
    for name in records()? {
        let (plugin, _) = name.split_once('-').with_context(|| format!("a record has the name {name}"))?;
        let text = fs::read_to_string(format!("{RECORDS}/{name}"))?;
        ensure!(text.contains("10.1.2.2") && text.contains("2001:db8:1::2"), "{name} holds {text}");
        for n in 1..COUNT {
            let text = text
                .replace("eth0 c0", &format!("eth0 c{n}"))
                .replace(" 9-9 ", &format!(" {0}-{0} ", 1000 + n))
                .replace("10.1.2.2\n", &format!("10.8.{}.{}\n", n / 250, n % 250 + 1))
                .replace("10.1.2.2 ", &format!("10.8.{}.{} ", n / 250, n % 250 + 1))
                .replace("2001:db8:1::2\n", &format!("2001:db8:1::{n:x}:1\n"))
                .replace("2001:db8:1::2 ", &format!("2001:db8:1::{n:x}:1 "))
                .replace("macfilter veth", &format!("macfilter v{n:x}-"));
            fs::write(format!("{RECORDS}/{plugin}-{n}"), text)?;
        }
    }
    let log = room.scratch("strace");
    let words = ["strace", "-f", "-qq", "-e", "trace=sendto,sendmsg", "-o", &log.display().to_string()]
        .map(str::to_owned);
    nft("flush ruleset")?;
    let answer = call(room, "portmap").under(&words).run()?;
    answer.silent()?;
    let batches = fs::read_to_string(&log)?.matches("NFNL_MSG_BATCH_BEGIN").count();
    ensure!(batches == 1, "it commits {batches} times");
    let wanted = format!("of {COUNT} attachments");
    ensure!(answer.stderr.contains(&wanted), "it prints {:?}, not {wanted}", answer.stderr);
    one.check(room)?;
    let rules = ruleset()?.to_string();
    for n in [1, COUNT / 2, COUNT - 1] {
        let label = format!("\"moor/net/eth0/c{n}\"");
        let count = rules.matches(&label).count();
        ensure!(count == 13, "{count} elements of {label}");
    }
    ensure!(reapply(room, "bridge")?.contains("everything is there"), "a second reapply changes something");
    Ok(())
}

fn crowd(room: &Room) -> Result<()> {
    const COUNT: u16 = 12;
    bridged(room, "first")?;
    let before = room.snapshot()?;
    let ids: Vec<String> = (0..COUNT).map(|n| format!("c{n}")).collect();
    let attached = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| -> Result<()> {
        let life = |port: u16, id: &str| -> Result<()> {
            let one = Attached::new(room, id, port);
            attached.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let one = one?;
            // Another process flushes the rules continuously: recorded rules exist again after the
            // next reapply.
            reapply(room, "bridge")?;
            one.del(room)
        };
        let lives: Vec<_> =
            (8000..).zip(&ids).map(|(port, id)| scope.spawn(move || life(port, id))).collect();
        while attached.load(std::sync::atomic::Ordering::Relaxed) < usize::from(COUNT) {
            nft("flush ruleset")?;
            reapply(room, "portmap")?;
        }
        for one in lives {
            one.join().map_err(|_| anyhow!("a life panicked"))??;
        }
        Ok(())
    })?;
    reapply(room, "portmap")?;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    room.ensure_nothing_left(&before, &ids)
}
