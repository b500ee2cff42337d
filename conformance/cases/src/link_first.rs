//! The order of ADD: the container's link exists when the IPAM plugin runs, and is deleted when
//! that fails.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::fake::Fake;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::lan;
use serde_json::{Value, json};

const DUMMY: &[Need] = &[Need::Dummy];
const IPVLAN: &[Need] = &[Need::Ipvlan];
const MACVLAN: &[Need] = &[Need::Macvlan];
const TAP: &[Need] = &[Need::Tap];
const VLAN: &[Need] = &[Need::VlanLinks];

pub const CASES: &[Case] = &[
    Case::new("bridge/ipam_plugin_finds_and_uses_the_link", &["LK-4"], |room| found(room, "bridge")),
    Case::new("macvlan/ipam_plugin_finds_and_uses_the_link", &["LK-4"], |room| found(room, "macvlan"))
        .needs(MACVLAN),
    Case::new("ipvlan/ipam_plugin_finds_and_uses_the_link", &["LK-4"], |room| found(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("tap/ipam_plugin_finds_and_uses_the_link", &["LK-4"], |room| found(room, "tap")).needs(TAP),
    Case::new("vlan/ipam_plugin_finds_and_uses_the_link", &["LK-4"], |room| found(room, "vlan")).needs(VLAN),
    Case::new("dummy/ipam_plugin_finds_and_uses_the_link", &["LK-4"], |room| found(room, "dummy"))
        .needs(DUMMY),
    Case::new("bridge/ipam_failure_removes_the_link", &["LK-5"], |room| refused(room, "bridge")),
    Case::new("macvlan/ipam_failure_removes_the_link", &["LK-5"], |room| refused(room, "macvlan"))
        .needs(MACVLAN),
    Case::new("ipvlan/ipam_failure_removes_the_link", &["LK-5"], |room| refused(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("tap/ipam_failure_removes_the_link", &["LK-5"], |room| refused(room, "tap")).needs(TAP),
    Case::new("vlan/ipam_failure_removes_the_link", &["LK-5"], |room| refused(room, "vlan")).needs(VLAN),
    Case::new("dummy/ipam_failure_removes_the_link", &["LK-5"], |room| refused(room, "dummy")).needs(DUMMY),
    Case::new("bridge/add_killed_at_the_ipam_plugin_leaves_nothing_after_del", &["LK-6"], |room| {
        killed(room, "bridge")
    }),
    Case::new("macvlan/add_killed_at_the_ipam_plugin_leaves_nothing_after_del", &["LK-6"], |room| {
        killed(room, "macvlan")
    })
    .needs(MACVLAN),
    Case::new("ipvlan/add_killed_at_the_ipam_plugin_leaves_nothing_after_del", &["LK-6"], |room| {
        killed(room, "ipvlan")
    })
    .needs(IPVLAN),
    Case::new("tap/add_killed_at_the_ipam_plugin_leaves_nothing_after_del", &["LK-6"], |room| {
        killed(room, "tap")
    })
    .needs(TAP),
    Case::new("vlan/add_killed_at_the_ipam_plugin_leaves_nothing_after_del", &["LK-6"], |room| {
        killed(room, "vlan")
    })
    .needs(VLAN),
    Case::new("dummy/add_killed_at_the_ipam_plugin_leaves_nothing_after_del", &["LK-6"], |room| {
        killed(room, "dummy")
    })
    .needs(DUMMY),
    Case::new("bridge/spoof_filter_is_set_before_the_ipam_plugin_runs", &["BR-R13"], filtered),
];

/// What a DHCP client does first, with an error in the reference's wording; it sends its release
/// over the link.
const LOOK: &str = r#"case "$CNI_COMMAND" in
ADD)
    if ! ip -n "$CNI_CONTAINERID" link set "$CNI_IFNAME" up; then
        printf '{"code": 999, "msg": "error looking up \\"eth0\\": Link not found"}'
        exit 1
    fi ;;
DEL)
    ip -n "$CNI_CONTAINERID" link show "$CNI_IFNAME" > /dev/null || touch "$0.missed"
    exit 0 ;;
*)
    exit 0 ;;
esac
"#;

const ANSWER: &str =
    r#"printf '{"cniVersion":"1.0.0","ips":[{"address":"198.51.100.7/24","gateway":"198.51.100.2"}]}'"#;

fn asking(room: &Room, plugin: &str, then: &str) -> Result<(Fake, Value)> {
    if plugin != "bridge" && ip::link(None, "wan0")?.is_none() {
        room.outside(&[])?;
    }
    let fake = Fake::new(room, "fakeipam", &format!("{LOOK}{then}"))?;
    let config = if plugin == "bridge" { bridge(USUAL) } else { lan(plugin, &json!({})) };
    let config = with(&config, json!({"isDefaultGateway": false, "ipam": {"type": fake.name()}}));
    Ok((fake, config))
}

/// Every DEL of the IPAM plugin found the link.
fn ensure_del_had_the_link(fake: &Fake) -> Result<()> {
    let missed = fake.dir.join(format!("{}.missed", fake.name()));
    ensure!(!missed.exists(), "the IPAM plugin's DEL did not find the link");
    Ok(())
}

fn found(room: &Room, plugin: &str) -> Result<()> {
    let (fake, config) = asking(room, plugin, ANSWER)?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let call = room.attach(plugin, "ADD", &container).path_first(&fake.dir).config(&config);
    let result = call.run()?.result()?;
    ensure!(ip::addresses(Some("c1"), "eth0")? == ["198.51.100.7/24"], "{result}");
    let call = room.attach(plugin, "CHECK", &container).path_first(&fake.dir);
    call.config(&with(&config, json!({"prevResult": result}))).run()?.silent()?;
    room.attach(plugin, "DEL", &container).path_first(&fake.dir).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the link stays");
    ensure_del_had_the_link(&fake)?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn refused(room: &Room, plugin: &str) -> Result<()> {
    let container = room.container("c1")?;
    let endings = [
        (r#"printf '{"code": 11, "msg": "no address"}'; exit 1"#, "no address"),
        ("kill -9 $$", "netplugin failed"),
        (r#"printf '{"cniVersion": "1.0.0", "ips": []}'"#, "missing IP config"),
    ];
    for (then, text) in endings {
        std::fs::remove_dir_all(room.scratch("fake")).ok();
        let (fake, config) = asking(room, plugin, then)?;
        let before = room.snapshot()?;
        let call = room.attach(plugin, "ADD", &container).path_first(&fake.dir).config(&config);
        let error = call.run()?.error().with_context(|| then.to_owned())?;
        ensure!(error.msg.contains(text), "{then}: {error}");
        ensure!(fake.commands()? == ["ADD", "DEL"], "{then}: {:?}", fake.commands()?);
        ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "{then}: the link stays");
        ensure_del_had_the_link(&fake)?;
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    Ok(())
}

fn killed(room: &Room, plugin: &str) -> Result<()> {
    let (fake, config) = asking(room, plugin, "kill -9 $PPID")?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let call = room.attach(plugin, "ADD", &container).path_first(&fake.dir).config(&config);
    ensure!(!call.run()?.succeeded(), "ADD survived SIGKILL");
    ensure!(ip::link(Some("c1"), "eth0")?.is_some(), "the link was not there when ADD was killed");
    room.attach(plugin, "DEL", &container).path_first(&fake.dir).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the link stays");
    ensure!(fake.commands()? == ["ADD", "DEL"], "{:?}", fake.commands()?);
    ensure_del_had_the_link(&fake)?;
    room.ensure_nothing_left(&before, &["c1"])
}

/// A running container can send as soon as the IPAM plugin has set its link up.
fn filtered(room: &Room) -> Result<()> {
    let rules = room.scratch("rules");
    let (fake, config) =
        asking(room, "bridge", &format!("nft list ruleset > {}\n{ANSWER}", rules.display()))?;
    let container = room.container("c1")?;
    let config = with(&config, json!({"macspoofchk": true}));
    let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config);
    let result = call.run()?.result()?;
    let host = result["interfaces"][1]["name"].as_str().context("no host veth")?;
    let rules = std::fs::read_to_string(rules)?;
    ensure!(rules.contains(host), "no filter of {host} while the IPAM plugin runs: {rules}");
    Ok(())
}
