//! portmap, `backend: iptables`: the same life cycle as with nf_tables.

use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::portmap::{at_once, bridged, portmap};
use harness::strace::victim::Victim;
use serde_json::{Value, json};

use crate::portmap_del::{del_matrix_of, uncounted};
use crate::portmap_iptables::{iptables, one, published, saved};

pub const CASES: &[Case] = &[
    Case::new("portmap_iptables/del_matrix_after_a_flip_of_the_back_end", &["C-042", "PM-I9"], del_matrix)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/gc_removes_invalid_attachments", &["C-045", "C-046", "PM-R2"], gc)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/twenty_concurrent_adds_succeed", &["C-047", "PM-I16"], twenty)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/a_kill_at_any_step_leaves_nothing", &["C-047", "PM-I15"], |room| {
        hit(room, true)
    })
    .needs(&[Need::Iptables, Need::Strace]),
    Case::new("portmap_iptables/a_failure_at_any_step_leaves_nothing", &["C-085", "PM-I15"], |room| {
        hit(room, false)
    })
    .needs(&[Need::Iptables, Need::Strace]),
    Case::new("portmap_iptables/a_taken_port_is_refused_and_its_owner_named", &["PM-I10"], taken)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/legacy_tables_are_cleaned_up", &["PM-I9"], old_tables)
        .needs(&[Need::Iptables, Need::IptablesLegacy]),
];

/// The configuration no longer names iptables.
fn del_matrix(room: &Room) -> Result<()> {
    let publish = |id: &str, port| {
        let (container, config) = published(room, id, one(port), json!({}))?;
        ensure!(config["backend"] == "iptables", "the back end is another one");
        ensure!(saved()?.contains(&port.to_string()), "ADD created no rules of iptables");
        Ok((container, config))
    };
    let other = |case| json!({"backend": if case % 2 == 0 { "nftables" } else { "bogus" }});
    del_matrix_of(room, uncounted, publish, |case, config| with(&config, other(case)))
}

fn gc(room: &Room) -> Result<()> {
    published(room, "c1", one(8081), json!({}))?;
    let before = uncounted()?;
    published(room, "c2", one(8082), json!({}))?;
    let base = json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap"});
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]});
    let all = uncounted()?;
    let other = with(&with(&base, valid.clone()), json!({"name": "other"}));
    room.call("portmap", "GC").config(&other).run()?.silent()?;
    ensure!(uncounted()? == all, "GC without a list of valid attachments removed rules");
    room.call("portmap", "GC").config(&with(&base, valid)).run()?.silent()?;
    ensure!(uncounted()? == before, "after GC the rules are {}, not {before}", uncounted()?);
    Ok(())
}

fn twenty(room: &Room) -> Result<()> {
    const COUNT: u16 = 20;
    let attached = (0..COUNT).map(|n| {
        let (container, previous) = bridged(room, &format!("c{n}"))?;
        let port = 8000 + n;
        Ok((container, iptables(one(port), &previous)))
    });
    let attached = attached.collect::<Result<Vec<_>>>()?;
    let all = |verb| at_once(room, verb, &attached);
    all("ADD")?;
    let saved_then = saved()?;
    let mut lines: Vec<&str> = saved_then.lines().filter(|line| line.starts_with("-A ")).collect();
    let count = lines.len();
    lines.sort_unstable();
    // Both families share some rules, and no rule exists more often than once per family.
    let twice = |rule: &&&[&str]| rule.len() > 2;
    let doubled: Vec<_> = lines.chunk_by(|a, b| a == b).filter(|rule| twice(&rule)).collect();
    ensure!(doubled.is_empty(), "more than two copies of {count} rules: {doubled:?}");
    all("CHECK")?;
    all("DEL")?;
    ensure!(!saved()?.contains("CNI-DN-"), "left behind: {}", saved()?);
    let rest = ip::output("nft", &["list", "tables"])?;
    ensure!(!rest.contains("inet moor"), "left behind: {rest}");
    Ok(())
}

/// Ports of each back end are taken for both back ends.
fn taken(room: &Room) -> Result<()> {
    let range = json!({"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000});
    let here = json!({"hostPort": 9090, "containerPort": 80, "hostIP": "10.1.2.1"});
    let any = json!({"hostPort": 8080, "containerPort": 80});
    for theirs in ["iptables", "nftables"] {
        let id = format!("owner-{theirs}");
        let (owner, config) = published(room, &id, json!([any, here, range]), json!({"backend": theirs}))?;
        let (other, previous) = bridged(room, &format!("other-{theirs}"))?;
        let before = uncounted()?;
        for ours in ["iptables", "nftables"] {
            let config = |mappings: Value| with(&portmap(mappings, &previous), json!({"backend": ours}));
            for mapping in [
                json!({"hostPort": 8080, "containerPort": 81}),
                json!({"hostPort": 8080, "containerPort": 80, "hostIP": "10.1.2.1"}),
                json!({"hostPort": 9090, "containerPort": 80}),
                json!({"hostPort": 9090, "containerPort": 80, "hostIP": "10.1.2.1"}),
                json!({"hostPort": 3500, "containerPort": 80}),
                json!({"hostPort": 2500, "hostPortEnd": 3500, "containerPort": 80}),
            ] {
                let config = config(json!([{"hostPort": 1, "containerPort": 1}, mapping]));
                let context = || format!("{theirs} has it, {ours} asks for {mapping}");
                let answer = room.attach("portmap", "ADD", &other).config(&config).run()?;
                answer.error_with(999, &id).with_context(context)?;
                ensure!(uncounted()? == before, "{}: the refused ADD changed the rules", context());
            }
            // Another protocol, a neighbouring port, another address: these are free.
            let free = config(json!([
                {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
                {"hostPort": 4000, "containerPort": 80},
                {"hostPort": 9090, "containerPort": 80, "hostIP": "127.0.0.1"},
            ]));
            for verb in ["ADD", "CHECK", "DEL"] {
                let answer = room.attach("portmap", verb, &other).config(&free).run()?;
                ensure!(answer.succeeded(), "{theirs} beside {ours}: {verb}: {}", answer.summary());
            }
        }
        // A freed port is available to both; and the second back end of one container replaces the
        // first.
        room.attach("portmap", "DEL", &owner).config(&config).run()?.silent()?;
        for ours in [theirs, "iptables", "nftables", "iptables"] {
            let config = with(&portmap(json!([any]), &previous), json!({"backend": ours}));
            room.attach("portmap", "ADD", &other).config(&config).run()?.result().context(ours)?;
            room.attach("portmap", "CHECK", &other).config(&config).run()?.silent().context(ours)?;
            ensure!(saved()?.contains("CNI-DN-") == (ours == "iptables"), "after {ours}: {}", saved()?);
        }
        room.attach("portmap", "DEL", &other).config(&portmap(json!([any]), &previous)).run()?.silent()?;
        ensure!(!saved()?.contains("CNI-DN-"), "left: {}", saved()?);
    }
    Ok(())
}

/// A host with legacy iptables at ADD and nf_tables at DEL.
fn old_tables(room: &Room) -> Result<()> {
    let bin = room.scratch("bin");
    std::fs::create_dir_all(&bin)?;
    for program in ["iptables", "ip6tables"] {
        for what in ["save", "restore"] {
            let path = ip::output("sh", &["-c", &format!("command -v {program}-legacy-{what}")])?;
            symlink(path.trim(), bin.join(format!("{program}-{what}")))?;
        }
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let (container, previous) = bridged(room, "c1")?;
    let config = iptables(one(8080), &previous);
    let old = || -> Result<String> {
        let [v4, v6] =
            ["iptables-legacy-save", "ip6tables-legacy-save"].map(|name| ip::output(name, &["-t", "nat"]));
        Ok(v4? + &v6?)
    };
    for del in
        [&config, &with(&config, json!({"backend": "nftables", "runtimeConfig": {}, "name": "renamed"}))]
    {
        for verb in ["ADD", "ADD", "CHECK"] {
            let call = room.attach("portmap", verb, &container).config(&config).env("PATH", &path);
            ensure!(call.run()?.succeeded(), "{verb} failed");
        }
        let made = old()?;
        ensure!(made.matches("--to-destination").count() == 4, "ADD made {made}");
        ensure!(!saved()?.contains("CNI-DN-"), "ADD used the newer kind");
        room.attach("portmap", "DEL", &container).config(del).run()?.silent()?;
        ensure!(!old()?.contains("CNI-DN-"), "left: {}", old()?);
    }
    Ok(())
}

/// Kills the plugin at its own steps; the programs that it runs are atomic by themselves (one
/// COMMIT).
fn hit(room: &Room, kill: bool) -> Result<()> {
    // The shared chains exist, so that only objects of the container can be left over.
    published(room, "first", one(7000), json!({}))?;
    let (container, config) = published(room, "c1", one(8080), json!({}))?;
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    let before = uncounted()?;
    let nothing_left = || {
        let after = uncounted()?;
        ensure!(after == before, "the rules were {before} and are {after}");
        Ok(())
    };
    for verb in ["ADD", "DEL"] {
        let victim = Victim { room, plugin: "portmap", verb, container: &container, config: &config };
        let steps =
            if kill { victim.killed_at_each(nothing_left) } else { victim.failed_at_each(nothing_left) }?;
        ensure!(steps > 5, "only {steps} steps of {verb} were tried");
    }
    Ok(())
}
