//! Every conflist in testdata/net.d, loaded and run as a runtime does (C-120, C-121, C-122).

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::diff::shown;
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::need::Need;
use harness::room::Room;
use harness::stage::conflists::{ifname, is_of_many_hosts, load, needs, runtime, stage};
use harness::stage::dhcp::{Offer, Software};
use runtime::Attachment;

pub const CASES: &[Case] = &[
    Case::new("conflists/every_file_loads_and_runs", &["C-040", "C-042", "C-122", "LR-1"], |room| {
        every_file(room, |needs| needs.is_empty())
    }),
    Case::new(
        "conflists/every_file_with_dhcp_loads_and_runs",
        &["C-040", "C-042", "C-122", "LR-1"],
        |room| {
            room.outside(&[])?;
            ip::run(&["route", "add", "default", "via", OUTSIDE[0]])?;
            let _server = room.dhcp_server(Software::Dnsmasq, &Offer::default())?;
            every_file(room, |needs| needs == [Need::DhcpServers])
        },
    )
    .needs(&[Need::DhcpServers, Need::Macvlan]),
    Case::new(
        "conflists/every_file_with_iptables_loads_and_runs",
        &["C-040", "C-042", "C-122", "LR-1"],
        |room| every_file(room, |needs| needs == [Need::Iptables]),
    )
    .needs(&[Need::Iptables]),
    Case::new(
        "conflists/every_file_with_ipvlan_loads_and_runs",
        &["C-040", "C-042", "C-122", "LR-1"],
        |room| every_file(room, |needs| needs == [Need::Ipvlan]),
    )
    .needs(&[Need::Ipvlan]),
    Case::new("conflists/every_file_with_tap_loads_and_runs", &["C-040", "C-042", "C-122", "LR-1"], |room| {
        every_file(room, |needs| needs == [Need::Tap])
    })
    .needs(&[Need::Tap]),
    Case::new(
        "conflists/every_file_with_a_parent_on_demand_loads_and_runs",
        &["C-040", "C-042", "C-122", "LR-1"],
        |room| every_file(room, |needs| needs == [Need::VlanLinks] || needs == [Need::Dummy]),
    )
    .needs(&[Need::VlanLinks, Need::Dummy]),
    Case::new("conflists/every_file_with_vrf_loads_and_runs", &["C-040", "C-042", "C-122", "LR-1"], |room| {
        every_file(room, |needs| needs == [Need::Vrf])
    })
    .needs(&[Need::Vrf]),
];

fn every_file(room: &Room, wanted: fn(&[Need]) -> bool) -> Result<()> {
    let runtime = runtime(room);
    let lists = load(&room.net_d)?;
    let of_one_host = lists.into_iter().filter(|(_, list)| !is_of_many_hosts(list));
    let lists: Vec<_> = of_one_host.filter(|(_, list)| wanted(&needs(list))).collect();
    ensure!(!lists.is_empty(), "no such conflist in {}", room.net_d.display());
    for (file, mut list) in lists {
        stage(room, &list)?;
        list.version = room.newest_common(&list)?;
        let container = room.container(&format!("c-{}", list.name))?;
        let attachment = Attachment::new(&container.id, container.path.display().to_string(), ifname(&list));
        if needs(&list).contains(&Need::Iptables) {
            // The shared chains stay, as the reference's do.
            runtime.add(&list, &attachment)?;
            runtime.del(&list, &attachment)?;
        }
        let before = room.snapshot()?;
        let context = |verb: &'static str| {
            let file = file.clone();
            move || format!("{file}: {verb}")
        };
        runtime.add(&list, &attachment).with_context(context("ADD"))?;
        if list.version.as_str() >= "0.4.0" {
            runtime.check(&list, &attachment).with_context(context("CHECK"))?;
        }
        runtime.status(&list).with_context(context("STATUS"))?;
        runtime.del(&list, &attachment).with_context(context("DEL"))?;
        runtime.del(&list, &attachment).with_context(context("DEL again"))?;
        let bridges: Vec<_> =
            list.plugins.iter().filter_map(|plugin| plugin.object.get("bridge")?.as_str()).collect();
        let left = room.left_since(&before, &bridges, &[&container.id])?;
        ensure!(left.is_empty(), "{file}: left behind: {}", shown(&left));
    }
    Ok(())
}
