//! The VXLAN device of a network.

use std::fmt::Display;

use netlink::{Link, LinkChange, Netlink, NewVxlan, PortChange};
use sys::{Error, Result};

use super::links::OverlayLinks;
use super::{alias, is_ours, overlay_device, taken};
use crate::Drift;
use crate::piece::shared::GROUP;
use crate::piece::{Feature, sysctl};

/// Attempts at a device that other processes create or delete at the same time.
const ATTEMPTS: usize = 5;

/// Makes the device as it must be, as a port of the bridge. Returns whether it was different.
pub(super) fn ensure(wanted: &OverlayLinks, host: &Netlink, bridge: &Link) -> Result<bool> {
    let name = overlay_device(&wanted.network);
    let mut changed = false;
    for _ in 0..ATTEMPTS {
        let Some(link) = host.link_by_name(&name)? else {
            create(wanted, host, bridge, &name)?;
            changed = true;
            continue;
        };
        if !is_ours(&link, "vxlan", &wanted.network) {
            return Err(taken(&link, "VXLAN device"));
        }
        // Most of its attributes cannot be changed, and the rest are not worth a second way.
        if !is_as_wanted(wanted, &link) {
            host.delete_link(link.index).or_else(unless_gone)?;
            continue;
        }
        return settle(wanted, host, bridge, &link).map(|settled| settled || changed);
    }
    Err(Error::new("create VXLAN device", name, std::io::ErrorKind::AlreadyExists))
}

fn create(wanted: &OverlayLinks, host: &Netlink, bridge: &Link, name: &str) -> Result<()> {
    let new = NewVxlan {
        name,
        id: wanted.vni,
        local: wanted.local,
        port: wanted.port,
        mtu: wanted.mtu,
        mac: None,
        master: Some(bridge.index),
        group: GROUP,
    };
    match host.create_vxlan(&new) {
        Err(error) if error.is_exists() => match host.link_by_name(name)? {
            Some(_) => Ok(()),
            None => {
                let other = host.links()?.into_iter().find(|link| {
                    link.vxlan.is_some_and(|info| info.id == wanted.vni && info.port == wanted.port)
                });
                let whose = other.map_or_else(String::new, |link| format!(", {:?}", link.name));
                Err(error.within(format!(
                    "this host has another VXLAN device of id {} and UDP port {}{whose}",
                    wanted.vni, wanted.port
                )))
            }
        },
        Err(error) if error.is_not_supported() => Err(error.within(Feature::Links("vxlan").missing())),
        done => done,
    }
}

/// Sets what can be changed of a device, where it differs.
fn settle(wanted: &OverlayLinks, host: &Netlink, bridge: &Link, link: &Link) -> Result<bool> {
    let mtu = Some(wanted.mtu).filter(|mtu| link.mtu != *mtu);
    let master = Some(bridge.index).filter(|master| link.master != Some(*master));
    let is_port_right = link.port.is_some_and(|port| !port.learning && port.flood);
    let fresh = link.alias.is_none() || !link.up();
    if !fresh && mtu.is_none() && master.is_none() && is_port_right {
        return Ok(false);
    }
    if fresh {
        // It answers for others, and says nothing of its own.
        if wanted.ipv6 {
            sysctl::best_effort(&format!("net/ipv6/conf/{}/disable_ipv6", link.name), "0");
        }
        // Not by a parameter's file: the agent may write none.
        match host.make_no_link_local(link.index) {
            Err(error) if !error.is_not_supported() => return Err(error),
            _ => {}
        }
        // A port's frames are the bridge's, which refuses them: the agent makes the device all the
        // same.
        let _ = sysctl::refuse_routers(&link.name);
    }
    if mtu.is_some() || master.is_some() {
        host.set_link(link.index, &LinkChange { mtu, master, ..LinkChange::default() })?;
    }
    let port = PortChange { learning: Some(false), flood: Some(true), ..PortChange::default() };
    host.set_bridge_port(link.index, &port)?;
    let alias = alias(&wanted.network);
    let change = LinkChange { up: Some(true), alias: Some(&alias), ..LinkChange::default() };
    host.set_link(link.index, &change)?;
    Ok(true)
}

fn is_as_wanted(wanted: &OverlayLinks, link: &Link) -> bool {
    link.vxlan.is_some_and(|info| {
        (info.id, info.local, info.port) == (wanted.vni, Some(wanted.local), wanted.port)
            && info.proxy
            && !info.learning
    })
}

fn unless_gone(error: Error) -> Result<()> {
    if error.is_not_found() { Ok(()) } else { Err(error) }
}

/// Lists the differences of the device.
pub(super) fn drifts(wanted: &OverlayLinks, link: &Link, bridge: &Link) -> Vec<Drift> {
    let name = &link.name;
    let Some(info) = link.vxlan else {
        let kind = link.kind.clone().unwrap_or_else(|| "no virtual link".into());
        return vec![Drift::new(format!("kind of {name}"), "vxlan", kind)];
    };
    let on_off = |on: bool| if on { "on" } else { "off" };
    let mut drifts = Vec::new();
    let mut compare = |what: &str, expected: &dyn Display, actual: &dyn Display| {
        let what = format!("{what} of {name}");
        drifts.extend(Drift::unless_equal(what, expected.to_string(), actual.to_string()));
    };
    compare("owner", &alias(&wanted.network), &link.alias.as_deref().unwrap_or("nobody"));
    compare("state", &"up", &if link.up() { "up" } else { "down" });
    compare("VXLAN id", &wanted.vni, &info.id);
    let local = info.local.map_or_else(|| "none".into(), |local| local.to_string());
    compare("local address", &wanted.local, &local);
    compare("UDP port", &wanted.port, &info.port);
    compare("learning", &"off", &on_off(info.learning));
    compare("proxy", &"on", &on_off(info.proxy));
    compare("MTU", &wanted.mtu, &link.mtu);
    let master = link.master.map_or(0, |master| master);
    compare("index of the bridge", &bridge.index, &master);
    if let Some(port) = link.port {
        compare("learning of port", &"off", &on_off(port.learning));
        compare("flooding of port", &"on", &on_off(port.flood));
    }
    drifts
}
