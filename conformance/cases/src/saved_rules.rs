//! Packet rules that are saved with `nft list ruleset` and loaded again, as distributions do at
//! shutdown and boot; and rules of an earlier layout, which an upgrade finds.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::namespace::{Container, OUTSIDE};
use harness::room::Room;
use harness::stage::portmap::{HOST, address, expect, portmap, serve};
use harness::{ip, snapshot};
use serde_json::{Value, json};

use crate::masquerade::{ensure_masqueraded, masquerade, nft};

pub const CASES: &[Case] = &[
    Case::new("saved_rules/every_feature_loads_again_and_works", &["C-043", "HO-30"], every_feature),
    Case::new("saved_rules/conditions_load_again", &["C-043", "HO-30"], conditions),
    Case::new("saved_rules/permits_in_an_administrators_chain_load_again", &["C-043", "D-057"], permits),
    Case::new("saved_rules/a_range_that_moves_loads_again", &["C-043", "HO-30"], moved_range),
    Case::new("saved_rules/the_rules_inside_a_container_load_again", &["C-043", "HO-30"], inside),
    Case::new("saved_rules/an_add_replaces_an_earlier_layout", &["C-043", "HO-31"], earlier_add),
    Case::new("saved_rules/a_del_removes_an_earlier_layout", &["C-042", "HO-31"], earlier_del),
];

fn listing() -> Result<String> {
    ip::output("nft", &["list", "ruleset"])
}

/// A container with every rule of bridge and portmap.
struct Attached {
    container: Container,
    bridge: Value,
    portmap: Value,
}

impl Attached {
    fn new(room: &Room, id: &str, mappings: Value, keys: Value) -> Result<Self> {
        let container = room.container(id)?;
        let bridge = with(&masquerade(), json!({"macspoofchk": true}));
        let result = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
        let portmap = with(&portmap(mappings, &result), with(&json!({"cniVersion": "1.1.0"}), keys));
        room.attach("portmap", "ADD", &container).config(&portmap).run()?.result()?;
        Ok(Self { container, bridge: with(&bridge, json!({"prevResult": result})), portmap })
    }

    fn verb(&self, room: &Room, verb: &str) -> Result<()> {
        for (plugin, config) in [("portmap", &self.portmap), ("bridge", &self.bridge)] {
            let answer = room.attach(plugin, verb, &self.container).config(config).run()?;
            answer.silent().with_context(|| format!("{verb} of {plugin}"))?;
            // CHECK may restore a missing rule and report it on standard error: here it restores
            // nothing.
            ensure!(verb != "CHECK" || answer.stderr.is_empty(), "{plugin} prints {:?}", answer.stderr);
        }
        Ok(())
    }
}

fn nothing_left() -> Result<()> {
    let left = snapshot::rules()?;
    ensure!(left.is_empty(), "DEL leaves {}", harness::diff::shown(&left));
    Ok(())
}

fn every_feature(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
        {"hostPort": 8081, "containerPort": 80, "protocol": "tcp", "hostIP": HOST[0]},
        {"hostPort": 132, "containerPort": 132, "protocol": "sctp"},
        {"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000, "protocol": "tcp"},
        {"hostPort": 4000, "hostPortEnd": 4999, "containerPort": 4000, "hostIP": HOST[1]},
    ]);
    let one = Attached::new(room, "c1", mappings, json!({}))?;
    let other = json!([{"hostPort": 8090, "containerPort": 80, "protocol": "tcp"}]);
    let everybody = Attached::new(room, "c2", other, json!({"masqAll": true}))?;
    room.save_and_load_rules()?;
    one.verb(room, "CHECK")?;
    everybody.verb(room, "CHECK")?;
    for port in [80, 3500] {
        serve(room, "c1", port)?;
    }
    for (host, client) in HOST.into_iter().zip(OUTSIDE) {
        expect(room, Some("outside"), host, 8080, &format!("c1:80 {client}"))?;
        expect(room, Some("outside"), host, 3500, &format!("c1:3500 {client}"))?;
    }
    expect(room, Some("outside"), HOST[0], 8081, &format!("c1:80 {}", OUTSIDE[0]))?;
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
    ensure_masqueraded("c1")?;
    // Everything continues with the loaded rules.
    let third = Attached::new(
        room,
        "c3",
        json!([{"hostPort": 8100, "hostPortEnd": 8199, "containerPort": 8100}]),
        json!({}),
    )?;
    serve(room, "c3", 8150)?;
    expect(room, Some("outside"), HOST[0], 8150, &format!("c3:8150 {}", OUTSIDE[0]))?;
    room.save_and_load_rules()?;
    for attached in [&one, &third, &everybody] {
        attached.verb(room, "CHECK")?;
    }
    for attached in [one, third, everybody] {
        attached.verb(room, "DEL")?;
    }
    nothing_left()
}

fn conditions(room: &Room) -> Result<()> {
    let words = json!({
        "conditionsV4": [
            "ip saddr != { 192.0.2.0/25, 198.51.100.9-198.51.100.12, 203.0.113.7 } ip daddr 10.0.0.0/8",
            "tcp sport { 1024-65535, 80 } iifname \"eth*\" meta mark & 0xff == 0x10 ct state new,related",
        ],
        "conditionsV6": [
            "ip6 saddr != fd00::/8 ip6 daddr 2001:db8::/33 th dport != { 22, 1-9 } ct mark 0x7 meta l4proto tcp",
        ],
    });
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000, "hostIP": "10.1.2.1"},
    ]);
    let attached = Attached::new(room, "c1", mappings, words)?;
    room.save_and_load_rules()?;
    attached.verb(room, "CHECK")?;
    attached.verb(room, "DEL")?;
    nothing_left()
}

fn permits(room: &Room) -> Result<()> {
    nft("add table inet fw; add chain inet fw in { type filter hook input priority 0; policy drop; }; \
         add table ip old; add chain ip old in { type filter hook input priority 0; policy drop; }")?;
    let named = harness::stage::dns::Named::add(room, "c1", "web", json!({}))?;
    room.save_and_load_rules()?;
    let check = named.verb(room, "CHECK")?;
    check.silent()?;
    ensure!(listing()?.matches("moor/net").count() > 6, "the permits are gone: {}", listing()?);
    named.del(room)?;
    ensure!(!listing()?.contains("moor"), "DEL leaves {}", listing()?);
    Ok(())
}

/// nft's language cannot map a range of ports; the loaded rules still map them.
fn moved_range(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mappings = json!([{"hostPort": 20_000, "hostPortEnd": 20_999, "containerPort": 30_000}]);
    let attached = Attached::new(room, "c1", mappings, json!({}))?;
    room.save_and_load_rules()?;
    attached.verb(room, "CHECK")?;
    for port in [20_000, 20_555, 20_999] {
        serve(room, "c1", port + 10_000)?;
        for (host, client) in HOST.into_iter().zip(OUTSIDE) {
            expect(room, Some("outside"), host, port, &format!("c1:{} {client}", port + 10_000))?;
        }
    }
    attached.verb(room, "DEL")?;
    nothing_left()
}

fn inside(room: &Room) -> Result<()> {
    let config = harness::config::layer2(USUAL);
    let container = room.container("c1")?;
    let subnet = json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}]]}});
    let previous = room.attach("bridge", "ADD", &container).config(&with(&config, subnet)).run()?.result()?;
    let config = harness::stage::dns::dns(&previous, json!({"mode": "netns"}));
    harness::stage::dns::call(room, "ADD", &container, "web", &config).run()?.result()?;
    room.inside("c1", || room.save_and_load_rules())?;
    harness::stage::dns::call(room, "CHECK", &container, "web", &config).run()?.silent()?;
    harness::stage::dns::call(room, "DEL", &container, "web", &config).run()?.silent()
}

/// Turns the rules into those of earlier executables; nft has no syntax for the rules that looked
/// the ranges up.
fn make_earlier(id: &str, config: &Value) -> Result<()> {
    let mut script = String::from(
        "flush chain inet moor published-output\n\
         add rule inet moor published-output fib daddr type local jump published\n\
         flush chain inet moor published-prerouting\n\
         add rule inet moor published-prerouting fib daddr type local jump published\n\
         delete chain inet moor published-new\n\
         delete chain inet moor published-input\n\
         delete chain inet moor published-loopback\n\
         add chain inet moor published-guard { type filter hook prerouting priority raw; }\n\
         add rule inet moor published-guard ip daddr 127.0.0.0/8 iifname @localnet drop\n\
         add rule inet moor published-guard ip saddr 127.0.0.0/8 iifname @localnet drop\n\
         delete chain inet moor leaving\n\
         add chain inet moor leave { type filter hook forward priority filter; }\n\
         add rule inet moor leave ct state invalid ip saddr vmap @leave4\n\
         add rule inet moor leave ct state invalid ip6 saddr vmap @leave6\n\
         flush chain inet moor published\n",
    );
    for v6 in [false, true] {
        let (n, family) = if v6 { (6, "ip6") } else { (4, "ip") };
        let to = address(config, v6);
        script.push_str(&format!(
            "delete map inet moor port-ranges{n}\ndelete map inet moor port-ranges-at{n}\n\
             add map inet moor ranges{n} {{ type inet_proto . inet_service : interval ipv{n}_addr . inet_service; flags interval; }}\n\
             add map inet moor ranges-at{n} {{ type ipv{n}_addr . inet_proto . inet_service : interval ipv{n}_addr . inet_service; flags interval; }}\n\
             add element inet moor ranges{n} {{ tcp . 3000-3999 comment \"moor/net/eth0/{id}\" : {to} . 3000-3999 }}\n\
             add rule inet moor published meta nfproto ipv{n} dnat {family} to meta l4proto . th dport map @ports{n}\n",
        ));
    }
    script.lines().try_for_each(nft)
}

fn earlier(room: &Room, id: &str) -> Result<Attached> {
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000, "protocol": "tcp"},
    ]);
    let one = Attached::new(room, id, mappings, json!({}))?;
    make_earlier(id, &one.portmap)?;
    Ok(one)
}

fn earlier_add(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let one = earlier(room, "c1")?;
    let two = Attached::new(room, "c2", json!([{"hostPort": 8081, "containerPort": 80}]), json!({}))?;
    for port in [80, 3333] {
        serve(room, "c1", port)?;
    }
    serve(room, "c2", 80)?;
    for (host, client) in HOST.into_iter().zip(OUTSIDE) {
        expect(room, Some("outside"), host, 8080, &format!("c1:80 {client}"))?;
        expect(room, Some("outside"), host, 3333, &format!("c1:3333 {client}"))?;
        expect(room, Some("outside"), host, 8081, &format!("c2:80 {client}"))?;
    }
    for earlier in ["map ranges4", "published-guard", "chain leave {"] {
        ensure!(!listing()?.contains(earlier), "{earlier} is still there: {}", listing()?);
    }
    for attached in [&one, &two] {
        attached.verb(room, "CHECK")?;
    }
    for attached in [one, two] {
        attached.verb(room, "DEL")?;
    }
    nothing_left()
}

fn earlier_del(room: &Room) -> Result<()> {
    earlier(room, "c1")?.verb(room, "DEL")?;
    nothing_left()?;
    // Beside another attachment, which is not changed.
    let one = earlier(room, "c2")?;
    nft(
        "add element inet moor publishers { 1 . 1 comment \"moor/net/eth0/c9 1\" : \"br0\" . 10.1.2.9 . \"br0\" . :: }; \
         add element inet moor ranges4 { tcp . 5000-5999 comment \"moor/net/eth0/c9\" : 10.1.2.9 . 5000-5999 }",
    )?;
    one.verb(room, "DEL")?;
    let left = listing()?;
    ensure!(left.contains("5000-5999") && !left.contains("3000-3999"), "{left}");
    Ok(())
}
