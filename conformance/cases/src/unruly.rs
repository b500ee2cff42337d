//! Containers that change their own links, and clocks that jump: the harness can do both, and an
//! attachment survives them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::namespace::{Container, clocks_ahead};
use harness::need::Need;
use harness::room::Room;
use harness::stage::dns::{call, dns, expect};
use harness::stage::lan::addresses_of;
use harness::stage::portmap::{ask, portmap, serve};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("harness/a_container_can_disguise_and_crowd_its_link", &["HA-8"], disguised),
    Case::new("harness/the_clock_can_jump_for_one_program", &["HA-9"], clocks).needs(&[Need::TimeNamespace]),
    Case::new(
        "worlds/del_of_a_container_under_anothers_label_keeps_the_other",
        &["C-042", "C-043", "HO-34"],
        unruly,
    ),
    Case::new("worlds/an_attachment_survives_clock_jumps", &["C-042", "C-043", "HO-35"], jumping)
        .needs(&[Need::TimeNamespace]),
];

/// Addresses of each family on the crowded link: more than one reply of the kernel holds.
const CROWD: usize = 500;

/// A month.
const JUMP: u64 = 30 * 24 * 3600;

fn disguised(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    ip::run_in("c1", &["link", "add", "eth0", "type", "veth", "peer", "name", "peer0"])?;
    room.disguise(&container.id, "eth0", "lan0", "a label of two words")?;
    room.crowd("c1", "lan0", CROWD)?;
    let link = ip::link(Some("c1"), "lan0")?.context("the link has not got its new name")?;
    ensure!(link["ifalias"] == "a label of two words", "{link}");
    ensure!(link["flags"].to_string().contains("\"UP\""), "{link}");
    let count = ip::addresses(Some("c1"), "lan0")?.len();
    ensure!(count == 2 * CROWD, "{count} addresses");
    Ok(())
}

fn clocks(room: &Room) -> Result<()> {
    let uptime = |wrapper: &[String]| -> Result<f64> {
        let words = [wrapper, &["cat".into(), "/proc/uptime".into()]].concat();
        let (program, args) = words.split_first().context("a program has a name")?;
        let done = Command::new(program).args(args).current_dir(room.scratch("")).output()?;
        let text = String::from_utf8(done.stdout)?;
        let first = text.split(' ').next().unwrap_or_default();
        first.parse().with_context(|| format!("{words:?} printed {text:?}"))
    };
    let (before, ahead, after) = (uptime(&[])?, uptime(&clocks_ahead(JUMP))?, uptime(&[])?);
    let jumped = ahead - before;
    ensure!((0.0..60.0).contains(&(jumped - 2_592_000.0)), "the clock was ahead by {jumped} s");
    ensure!((0.0..60.0).contains(&(after - before)), "the machine's clock went from {before} to {after}");
    Ok(())
}

/// A container with a published port, and its plugins' configurations.
struct Published {
    container: Container,
    bridge: Value,
    portmap: Value,
}

impl Published {
    fn add(room: &Room, id: &str, port: u16) -> Result<Self> {
        let container = room.container(id)?;
        let config = with(&bridge(USUAL), json!({"ipMasq": true, "macspoofchk": true}));
        let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
        let portmap = portmap(json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]), &result);
        room.attach("portmap", "ADD", &container).config(&portmap).run()?.result()?;
        let bridge = with(&config, json!({"prevResult": result}));
        Ok(Self { container, bridge, portmap })
    }

    fn verb(&self, room: &Room, verb: &str) -> Result<()> {
        for (plugin, config) in [("portmap", &self.portmap), ("bridge", &self.bridge)] {
            let answer = room.attach(plugin, verb, &self.container).config(config).run()?;
            answer.silent().with_context(|| format!("{verb} of {plugin} for {}", self.container.id))?;
        }
        Ok(())
    }
}

/// One container sets another's label on its link, puts another kind of link in its place, and adds
/// a thousand addresses.
fn unruly(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let (unruly, other) = (Published::add(room, "c1", 8080)?, Published::add(room, "c2", 8081)?);
    serve(room, "c2", 80)?;
    let label = ip::link(Some("c2"), "eth0")?.context("c2 has no eth0")?["ifalias"].clone();
    room.disguise("c1", "eth0", "lan0", label.as_str().unwrap_or("moor/net/eth0/c2"))?;
    room.crowd("c1", "lan0", CROWD)?;
    ip::run_in("c1", &["link", "add", "eth0", "type", "bridge"])?;
    let check = room.attach("bridge", "CHECK", &unruly.container).config(&unruly.bridge).run()?;
    ensure!(!check.succeeded(), "CHECK accepts the container's own bridge as the attachment's link");
    other.verb(room, "CHECK")?;
    unruly.verb(room, "DEL")?;
    ensure!(ip::link(Some("c1"), "lan0")?.is_none(), "the attachment's link is left under its new name");
    ensure!(ip::link(Some("c1"), "eth0")?.is_some(), "DEL has taken the container's own bridge");
    other.verb(room, "CHECK")?;
    room.reach("c2", "10.1.2.1")?;
    let reply = ask(room, Some("outside"), "198.51.100.1", 8081)?;
    ensure!(reply.starts_with("c2:80"), "the other's published port answers {reply:?}");
    other.verb(room, "DEL")?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

/// One call a month ahead, the next not, so that the clock jumps both ways.
fn jumping(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let (ahead, now) = (clocks_ahead(JUMP), Vec::new());
    let mut attached = vec![];
    for (nth, clocks) in [&ahead, &now, &ahead].into_iter().enumerate() {
        let (id, name) = (format!("jump{nth}"), format!("web{nth}"));
        let container = room.container(&id)?;
        let add = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).under(clocks);
        let result = add.run()?.result()?;
        let config = dns(&result, json!({}));
        call(room, "ADD", &container, &name, &config).under(clocks).run()?.result()?;
        attached.push((container, name, config, addresses_of(&result)?));
    }
    for (container, name, config, [address, _]) in &attached {
        for clocks in [&now, &ahead] {
            let config = with(&bridge(USUAL), json!({"prevResult": config["prevResult"]}));
            room.attach("bridge", "CHECK", container).config(&config).under(clocks).run()?.silent()?;
        }
        for clocks in [&ahead, &now] {
            call(room, "CHECK", container, name, config).under(clocks).run()?.silent()?;
        }
        expect(room, Some("jump0"), "10.1.2.1", name, &[address])?;
    }
    for ((container, name, config, _), clocks) in attached.iter().zip([&now, &ahead, &ahead]) {
        call(room, "DEL", container, name, config).under(clocks).run()?.silent()?;
        room.attach("bridge", "DEL", container).config(&bridge(USUAL)).under(clocks).run()?.silent()?;
    }
    room.ensure_nothing_left(&before, &["jump"])
}
