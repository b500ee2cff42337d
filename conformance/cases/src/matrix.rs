//! Reachability on macvlan and ipvlan, by real packets in both families. The expected results are
//! the tables in the plugins' README.md, so code and tables must agree.

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::case::Case;
use harness::config::with;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, addresses_of, lan, outside, refused, vlan_outside};
use harness::{ip, socket};
use serde_json::{Value, json};

/// Each plugin with its page.
const PAGES: [(&str, &str); 2] = [
    ("macvlan", include_str!("../../../plugins/macvlan/README.md")),
    ("ipvlan", include_str!("../../../plugins/ipvlan/README.md")),
];

const IPVLAN: &[Need] = &[Need::Ipvlan];

pub const CASES: &[Case] = &[
    Case::new("macvlan/who_reaches_whom_in_bridge", &["MV-K2"], |room| row(room, "macvlan", &["bridge"])),
    Case::new("macvlan/who_reaches_whom_in_bridge_internal", &["MV-R5"], |room| {
        row(room, "macvlan", &["bridge", "internal"])
    })
    .needs(&[Need::Dummy]),
    Case::new("macvlan/who_reaches_whom_in_private", &["MV-K2"], |room| row(room, "macvlan", &["private"])),
    Case::new("macvlan/who_reaches_whom_in_vepa", &["MV-K2"], |room| row(room, "macvlan", &["vepa"])),
    Case::new("macvlan/who_reaches_whom_in_passthru", &["MV-K2"], |room| row(room, "macvlan", &["passthru"])),
    Case::new("macvlan/who_reaches_whom_in_source", &["MV-R4"], |room| row(room, "macvlan", &["source"])),
    Case::new("macvlan/who_reaches_whom_over_vlans", &["MV-R5", "LK-31"], |room| vlans(room, "macvlan"))
        .needs(&[Need::VlanLinks]),
    Case::new("ipvlan/who_reaches_whom_in_l2_bridge", &["IV-K2"], |room| {
        row(room, "ipvlan", &["l2", "bridge"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l2_private", &["IV-R1"], |room| {
        row(room, "ipvlan", &["l2", "private"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l2_vepa", &["IV-R1"], |room| row(room, "ipvlan", &["l2", "vepa"]))
        .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l3_bridge", &["IV-K2"], |room| {
        row(room, "ipvlan", &["l3", "bridge"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l3_private", &["IV-K2", "IV-R1"], |room| {
        row(room, "ipvlan", &["l3", "private"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l3_vepa", &["IV-K2", "IV-R1"], |room| {
        row(room, "ipvlan", &["l3", "vepa"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l3s_bridge", &["IV-K2"], |room| {
        row(room, "ipvlan", &["l3s", "bridge"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l3s_private", &["IV-K2", "IV-R1"], |room| {
        row(room, "ipvlan", &["l3s", "private"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_in_l3s_vepa", &["IV-K2", "IV-R1"], |room| {
        row(room, "ipvlan", &["l3s", "vepa"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/who_reaches_whom_over_vlans", &["IV-R3", "LK-31"], |room| vlans(room, "ipvlan"))
        .needs(&[Need::VlanLinks, Need::Ipvlan]),
];

/// The peers of a container: the tables' columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Outside,
    Sibling,
    Host,
    HostWithAccess,
    OtherVlan,
}

const PEERS: [(&str, Peer); 5] = [
    ("the outside", Peer::Outside),
    ("a container on the same master", Peer::Sibling),
    ("the host", Peer::Host),
    ("the host, with `hostAccess`", Peer::HostWithAccess),
    ("one on another VLAN", Peer::OtherVlan),
];

/// The values in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Yes,
    No,
    /// Through a switch that sends frames back to the port that they came from.
    Reflected,
    /// ADD refuses the key.
    Refused,
    /// ADD refuses a second container.
    Alone,
    /// Only from listed MAC addresses.
    Listed,
    /// With addresses that the host gets for it.
    Given,
}

const VALUES: [(&str, Cell); 7] = [
    ("yes", Cell::Yes),
    ("no", Cell::No),
    ("only by a switch that sends frames back (802.1Qbg)", Cell::Reflected),
    ("refused", Cell::Refused),
    ("there can be none", Cell::Alone),
    ("the listed addresses", Cell::Listed),
    ("by `hostAddresses`", Cell::Given),
];

/// A row of a table: mode, then flag or `internal`, and a value for each peer.
#[derive(Debug)]
struct Row {
    keys: Vec<String>,
    values: Vec<(Peer, Cell)>,
}

/// The table of a plugin's page with modes in rows and peers in columns.
fn table(plugin: &str) -> Result<Vec<Row>> {
    let page = PAGES.iter().find(|(name, _)| *name == plugin).map(|(_, page)| *page);
    let page = page.with_context(|| format!("{plugin} has no page"))?;
    let first = format!("| {} |", PEERS[0].0);
    let mut lines = page.lines().skip_while(|line| !line.starts_with("| `mode` |") || !line.contains(&first));
    let cells = |line: &'static str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<String>>()
    };
    let header = cells(lines.next().with_context(|| format!("the page of {plugin} has no table"))?);
    let keys = header.iter().take_while(|name| ["`mode`", "`flag`"].contains(&name.as_str())).count();
    let named = |list: &[(&str, Peer)], name: &String| {
        list.iter().find(|(known, _)| known == name).map(|(_, peer)| *peer)
    };
    let peers = header
        .iter()
        .skip(keys)
        .map(|name| named(&PEERS, name).with_context(|| format!("unknown peer {name:?}")));
    let peers: Vec<Peer> = peers.collect::<Result<_>>()?;
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = cells(line);
            let (keys, values) = cells.split_at(keys);
            ensure!(values.len() == peers.len(), "a row of another length: {line}");
            let values = peers.iter().zip(values).map(|(peer, cell)| {
                let known = VALUES.iter().find(|(known, _)| known == cell);
                Ok((*peer, known.with_context(|| format!("unknown value {cell:?}"))?.1))
            });
            let keys =
                keys.iter().flat_map(|cell| cell.split(", ")).map(|key| key.trim_matches('`').to_owned());
            let keys = keys.collect();
            Ok(Row { keys, values: values.collect::<Result<_>>()? })
        })
        .collect()
}

impl Row {
    /// The network, on the host's `wan0`. Routed modes have a subnet of their own.
    fn config(&self, plugin: &str, keys: Value) -> Result<Value> {
        let mut config = lan(plugin, &json!({"mode": self.keys[0], "enabledad": false}));
        match self.keys.get(1).map(String::as_str) {
            Some("internal") => config = with(&config, json!({"master": null, "internal": true})),
            Some(flag) => config["flag"] = flag.into(),
            None => {}
        }
        if self.keys[0].starts_with("l3") {
            config["ipam"] = json!({
                "type": "host-local",
                "ranges": [[{"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.10"}],
                           [{"subnet": "2001:db8:7::/64", "rangeStart": "2001:db8:7::10"}]],
            });
        }
        if self.keys[0] == "source" {
            let gateway = ip::link(Some("outside"), "eth0")?.context("no outside")?;
            config["sourceMacs"] = json!([gateway["address"]]);
        }
        Ok(with(&config, keys))
    }
}

fn row(room: &Room, plugin: &str, keys: &[&str]) -> Result<()> {
    room.outside(&["10.7.0.0/24", "2001:db8:7::/64"])?;
    let row = table(plugin)?.into_iter().find(|row| row.keys == keys).context("the page has no such row")?;
    let config = row.config(plugin, json!({}))?;
    let (_, result) = add(room, plugin, "c1", &config)?;
    let one = addresses_of(&result)?;
    let host = ["198.51.100.1".to_owned(), "2001:db8:ff::1".to_owned()];
    for (peer, cell) in &row.values {
        let ctx = || format!("{keys:?}, {peer:?}");
        match (peer, cell) {
            (Peer::Outside, Cell::Yes | Cell::No) => {
                meet(room, end("c1", &one), end("outside", &outside()), *cell == Cell::Yes)
            }
            (Peer::Outside, Cell::Listed) => listed(room, plugin, &row, &one),
            (Peer::Sibling, Cell::Alone) => {
                refused(room, plugin, &room.container("c2")?, &config, "passthru takes it alone")
            }
            (Peer::Sibling, cell) => sibling(room, plugin, &config, &one, *cell),
            (Peer::Host, Cell::Yes | Cell::No) => {
                meet(room, end("c1", &one), End { ns: None, addresses: &host }, *cell == Cell::Yes)
            }
            (Peer::HostWithAccess, cell) => with_access(room, plugin, &row, &host, *cell),
            (Peer::OtherVlan, Cell::No) => Ok(()), // See `vlans`.
            (peer, cell) => bail!("no test for {peer:?}: {cell:?}"),
        }
        .with_context(ctx)?;
    }
    Ok(())
}

/// One end of an exchange.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    /// The namespace; `None` is the host.
    ns: Option<&'a str>,
    addresses: &'a [String; 2],
}

fn end<'a>(ns: &'a str, addresses: &'a [String; 2]) -> End<'a> {
    End { ns: Some(ns), addresses }
}

/// Checks both directions in both families (concurrently, since each unanswered packet costs a
/// timeout).
fn meet(room: &Room, one: End<'_>, other: End<'_>, expected: bool) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let [v4, v6] = to.addresses;
        let try_one = |address: &str| -> Result<()> {
            let ip = address.parse()?;
            let patience = if expected { socket::patience() } else { harness::stage::lan::AMPLE };
            let reach = || Ok(socket::reach(ip, patience).is_ok());
            let reached = match from.ns {
                Some(ns) => room.inside(ns, reach)?,
                None => reach()?,
            };
            let who = from.ns.unwrap_or("the host");
            ensure!(reached == expected, "from {who} to {address}: {reached}, expected {expected}");
            Ok(())
        };
        std::thread::scope(|scope| {
            let v6 = scope.spawn(|| try_one(v6));
            try_one(v4).and(v6.join().map_err(|_| anyhow!("the trial panicked"))?)
        })?;
    }
    Ok(())
}

fn sibling(room: &Room, plugin: &str, config: &Value, one: &[String; 2], cell: Cell) -> Result<()> {
    let (_, result) = add(room, plugin, "c2", config)?;
    let two = addresses_of(&result)?;
    meet(room, end("c1", one), end("c2", &two), cell == Cell::Yes)?;
    if cell == Cell::Reflected {
        ip::script(
            Some("outside"),
            "link add sw0 type bridge
             link set eth0 master sw0
             link set eth0 type bridge_slave hairpin on
             link set sw0 up",
        )?;
        let met =
            meet(room, end("c1", one), end("c2", &two), true).context("by a switch that sends frames back");
        ip::script(Some("outside"), "link del sw0")?;
        met?;
    }
    Ok(())
}

/// Mode source: the listed outside is reachable; with another list it is not.
fn listed(room: &Room, plugin: &str, row: &Row, one: &[String; 2]) -> Result<()> {
    meet(room, end("c1", one), end("outside", &outside()), true)?;
    let other = row.config(plugin, json!({"sourceMacs": ["0a:00:00:00:00:77"]}))?;
    let (_, result) = add(room, plugin, "unlisted", &other)?;
    meet(room, end("unlisted", &addresses_of(&result)?), end("outside", &outside()), false)
}

fn with_access(room: &Room, plugin: &str, row: &Row, host: &[String; 2], cell: Cell) -> Result<()> {
    let given = ["198.51.100.5".to_owned(), "2001:db8:ff::5".to_owned()];
    let mut config = row.config(plugin, json!({"hostAccess": true}))?;
    let mut host = host;
    if cell == Cell::Given {
        config["hostAddresses"] = json!(given);
        host = &given;
    }
    if cell == Cell::Refused {
        return refused(room, plugin, &room.container("c3")?, &config, "hostAccess needs");
    }
    let (_, result) = add(room, plugin, "c3", &config)?;
    let host = End { ns: None, addresses: host };
    meet(room, end("c3", &addresses_of(&result)?), host, matches!(cell, Cell::Yes | Cell::Given))
}

/// All rows: two VLANs of one master, with one subnet, so that no router is needed.
fn vlans(room: &Room, plugin: &str) -> Result<()> {
    vlan_outside(room)?;
    // An internal network has no VLANs.
    for row in table(plugin)?.into_iter().filter(|row| row.keys != ["bridge", "internal"]) {
        let Some((_, cell)) = row.values.iter().find(|(peer, _)| *peer == Peer::OtherVlan) else {
            bail!("the table for {plugin} has no row for VLANs");
        };
        let on = |id: &str, vlan: u16| -> Result<(Container, Value, [String; 2])> {
            let config = row.config(plugin, json!({"vlan": vlan}))?;
            let (container, result) = add(room, plugin, id, &config)?;
            Ok((container, config, addresses_of(&result)?))
        };
        let name = row.keys.join("-");
        let ids = [10, 20].map(|vlan| format!("{name}-{vlan}"));
        let (first, config, one) = on(&ids[0], 10)?;
        let (second, other, two) = on(&ids[1], 20)?;
        meet(room, end(&ids[0], &one), end(&ids[1], &two), *cell == Cell::Yes)
            .with_context(|| name.clone())?;
        for (container, config) in [(first, config), (second, other)] {
            room.attach(plugin, "DEL", &container).config(&config).run()?.silent()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_readmes_tables_has_its_case() {
        let mut tried = 0;
        for plugin in ["macvlan", "ipvlan"] {
            for row in table(plugin).unwrap() {
                let name = format!("{plugin}/who_reaches_whom_in_{}", row.keys.join("_"));
                assert!(CASES.iter().any(|case| case.name == name), "{name}");
                tried += 1;
            }
            assert!(CASES.iter().any(|case| case.name == format!("{plugin}/who_reaches_whom_over_vlans")));
        }
        assert_eq!(CASES.len(), tried + 2, "a case without a row");
    }
}
