//! portmap: DEL and GC of published ports, including those that the reference published.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::portmap::{bridged, portmap, published, ruleset};
use serde_json::{Value, json};

use crate::portmap_life::one;

pub const CASES: &[Case] = &[
    Case::new("portmap/del_matrix", &["C-042", "PM-2"], del_matrix),
    Case::new("portmap/the_last_del_leaves_no_rules", &["C-042", "PM-R4"], last),
    Case::new("portmap/del_with_invalid_keys_still_cleans_up", &["R-4", "PM-B5"], broken_rest),
    Case::new("portmap/gc_removes_invalid_attachments", &["C-045", "C-046", "PM-R2"], gc),
    Case::new("portmap/del_removes_what_an_add_of_the_reference_created", &["PM-5"], migration)
        .needs(&[Need::Reference]),
];

fn del_matrix(room: &Room) -> Result<()> {
    del_matrix_of(room, ruleset, |id, port| published(room, id, one(port)), |_, config| config)
}

/// {namespace fine, empty, gone} x {prevResult, none} x {same mappings, none} x {same network,
/// renamed}, twice each: the rules are then as they were before `publish`. `asked` makes further
/// changes to the configuration.
pub fn del_matrix_of(
    room: &Room,
    rules: fn() -> Result<Value>,
    publish: impl Fn(&str, u16) -> Result<(Container, Value)>,
    asked: impl Fn(usize, Value) -> Value,
) -> Result<()> {
    // The tables exist before, so that only objects of the attachment can be left over.
    publish("first", 7000)?;
    let before = rules()?;
    for case in 0..24 {
        let (netns, prev, same, renamed) = (case % 3, case / 3 % 2 == 0, case / 6 % 2 == 0, case / 12 == 1);
        let context = || format!("namespace {netns}, prevResult {prev}, mappings {same}, renamed {renamed}");
        let (container, config) = publish(&format!("c{case}"), 8080)?;
        ensure!(rules()? != before, "ADD created no rules");
        let mut asked = asked(case, config);
        if !prev {
            asked["prevResult"] = Value::Null;
        }
        if !same {
            asked["runtimeConfig"] = json!({});
        }
        if renamed {
            asked["name"] = json!("renamed");
        }
        if netns == 2 {
            room.remove(&container)?;
        }
        // Without prevResult, a renamed network's rules are kept while their attachment exists.
        if renamed && !prev && netns != 2 {
            let made = rules()?;
            room.attach("portmap", "DEL", &container).config(&asked).run()?.silent().with_context(context)?;
            ensure!(rules()? == made, "{}: the rules of an existing attachment are gone", context());
        }
        if renamed && !prev {
            let bridge = harness::config::bridge(USUAL);
            room.attach("bridge", "DEL", &container).config(&bridge).run()?.silent()?;
        }
        for time in ["once", "twice"] {
            let call = room.attach("portmap", "DEL", &container).config(&asked);
            let call = if netns == 1 { call.env("CNI_NETNS", "") } else { call };
            call.run()?.silent().with_context(context)?;
            let after = rules()?;
            ensure!(after == before, "{}, {time}: the rules were {before} and are {after}", context());
        }
        let bridge = harness::config::bridge(USUAL);
        room.attach("bridge", "DEL", &container).config(&bridge).run()?.silent()?;
    }
    Ok(())
}

fn last(room: &Room) -> Result<()> {
    // The bridge and its addresses are kept.
    bridged(room, "first")?;
    let (before, state) = (ruleset()?, room.snapshot()?);
    let attached = [published(room, "c1", one(8080))?, published(room, "c2", one(8081))?];
    for (container, config) in &attached {
        room.attach("portmap", "DEL", container).config(config).run()?.silent()?;
        room.attach("bridge", "DEL", container).config(&harness::config::bridge(USUAL)).run()?.silent()?;
    }
    let after = ruleset()?;
    ensure!(after == before, "the rules were {before} and are {after}");
    ensure!(room.host_sysctl("net/ipv4/conf/br0/route_localnet")? == "0", "route_localnet stays on");
    room.ensure_nothing_left(&state, &["c1", "c2"])
}

fn broken_rest(room: &Room) -> Result<()> {
    let before = ruleset()?;
    for keys in [
        json!({"backend": "bogus", "markMasqBit": 99}),
        json!({"runtimeConfig": {"portMappings": "none"}}),
        json!({"runtimeConfig": {"portMappings": [{"hostPort": -1}]}, "prevResult": {"ips": 7}}),
        json!({"conditionsV4": ["-p"], "externalSetMarkChain": "X", "snat": "yes"}),
    ] {
        let (container, config) = published(room, "c1", one(8080))?;
        let config = with(&config, keys.clone());
        room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
        ensure!(ruleset()? == before, "with {keys} objects are left");
        room.attach("bridge", "DEL", &container).config(&harness::config::bridge(USUAL)).run()?.silent()?;
        room.remove(&container)?;
    }
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    published(room, "c1", one(8081))?;
    let before = ruleset()?;
    published(room, "c2", one(8082))?;
    published(room, "c3", json!([{"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000}]))?;
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let base = json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap"});
    let all = ruleset()?;
    room.call("portmap", "GC").config(&base).run()?.silent()?;
    let other = with(&base, json!({"name": "other", "cni.dev/valid-attachments": []}));
    room.call("portmap", "GC").config(&other).run()?.silent()?;
    ensure!(ruleset()? == all, "GC without a list of valid attachments removed rules");
    let config = with(&base, json!({"cni.dev/valid-attachments": valid}));
    room.call("portmap", "GC").config(&config).run()?.silent()?;
    let after = ruleset()?;
    ensure!(after == before, "after GC the rules are {after}, not {before}");
    Ok(())
}

fn migration(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let (neighbour, other) = bridged(room, "c2")?;
    let theirs = |container, config: &Value| {
        let plugin = room.reference.join("portmap");
        let call = Call::new(room, plugin).env("CNI_COMMAND", "ADD").env("CNI_PATH", &room.reference);
        let container: &harness::namespace::Container = container;
        let call = call.env("CNI_CONTAINERID", &container.id).env("CNI_NETNS", &container.path);
        call.env("CNI_IFNAME", "eth0").config(config).run()?.result()
    };
    let config = portmap(one(8080), &previous);
    // Another container's rules exist, and with them the shared chains.
    theirs(&neighbour, &portmap(one(8081), &other))?;
    let before = uncounted()?;
    theirs(&container, &config)?;
    ensure!(ruleset()?.to_string().contains("8080"), "the reference made nothing that nft shows");
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    let after = uncounted()?;
    ensure!(after == before, "left of the reference's: {after}, before: {before}");
    // Both suites side by side.
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    room.attach("portmap", "CHECK", &container).config(&config).run()?.silent()?;
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(uncounted()? == before, "DEL changed the rules of another container");
    Ok(())
}

/// The rules without their counters, which packets change.
pub fn uncounted() -> Result<Value> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("counter");
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut rules = ruleset()?;
    strip(&mut rules);
    Ok(rules)
}
