//! A record as text, one fact per line, readable for people. Words are separated by spaces, which
//! no name of a network, an interface or a container contains:
//!
//! ```text
//! v 1
//! owner net eth0 c1
//! written 40123456789012
//! container 10.1.2.3 br0 needed
//! port 6 any 8080-8080 80
//! if ip saddr 10.0.0.0/8
//! chain CNI-DN-b40d6be49a3410ab31bc2
//! chosen 6 any 80 61234
//! localnet br0
//! masquerade 10.1.2.3
//! inside 10.1.2.0/24
//! masqchain CNI-a631aa8e1549a3b129110fd2 10.1.2.3
//! macfilter veth01234567 02:00:00:00:00:01
//! sourcelink veth01234567
//! source 10.1.2.3
//! frames veth01234567 02:00:00:00:00:01
//! frame 10.1.2.3
//! overlay mo0123456789 4789 internal
//! overlayaddress 10.1.2.1
//! fastlink veth01234567
//! fastpath 10.1.2.3
//! accepted 10.1.2.3
//! zone trusted settled
//! zonesource 10.1.2.3 ours
//! firewall same-bridge br0
//! accept 10.1.2.3
//! isolated veth01234567
//! ingress allow @front - tcp 80-80
//! egress deny-log - 10.0.0.0/8 - -
//! waylink br0
//! way 10.1.2.0/24
//! netns 4026532567 /run/netns/c1
//! ```
//!
//! `written` is in ns since the boot: it decides who has an address that several claim, as the time
//! of a file is only as precise as the kernel's tick. `port` and `if` lines, ports and their
//! conditions, belong to the preceding container.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::{FromStr, SplitWhitespace};

use sys::{IpFamily, file};

use super::Record;
use crate::ports::{Chosen, Conditions, Container, Mapping, Masquerade};
use crate::{Attached, Isolation, Namespace, OverlayNetwork, Owner, PolicyRule, Source, Zone};

/// The version that is written, and the only one that is read.
pub(super) const VERSION: &str = "v 1";
pub(super) const NUMBER: u32 = 1;
/// Any address of the host.
const ANY: &str = "any";
/// No link.
const NONE: &str = "-";
/// Whether all sources of a zone are made, and none is about to go.
const SETTLED: &str = "settled";
const UNSETTLED: &str = "unsettled";
/// Whether a network reaches the outside.
const INTERNAL: &str = "internal";
const OPEN: &str = "open";
/// Whether this suite made a source.
const OURS: &str = "ours";
const THEIRS: &str = "theirs";
const MASQUERADES: [(Masquerade, &str); 3] =
    [(Masquerade::Nobody, "nobody"), (Masquerade::Needed, "needed"), (Masquerade::Everybody, "everybody")];

/// `written` is the time ([`sys::clock`]).
pub(super) fn write(record: &Record, written: u64) -> String {
    let Owner { network, ifname, container_id } = &record.owner;
    let mut text = format!("{VERSION}\nowner {network} {ifname} {container_id}\nwritten {written}\n");
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    };
    let any = |address: Option<IpAddr>| address.map_or(ANY.to_owned(), |address| address.to_string());
    for container in &record.containers {
        let link = container.link.as_deref().unwrap_or(NONE);
        let known = MASQUERADES.iter().find(|(masquerade, _)| *masquerade == container.masquerade);
        let masquerade = known.map_or(NONE, |(_, word)| word);
        line(format_args!("container {} {link} {masquerade}", container.address));
        for Mapping { proto, address, ports: (first, last), target } in container.merged() {
            line(format_args!("port {proto} {} {first}-{last} {target}", any(address)));
        }
        if !container.conditions.is_empty() {
            line(format_args!("if {}", container.conditions));
        }
    }
    if let Some(chain) = &record.chain {
        line(format_args!("chain {chain}"));
    }
    for Chosen { proto, at, target, port } in &record.chosen {
        line(format_args!("chosen {proto} {} {target} {port}", any(*at)));
    }
    for link in &record.localnet {
        line(format_args!("localnet {link}"));
    }
    if let Some((addresses, inside)) = &record.masquerade {
        addresses.iter().for_each(|address| line(format_args!("masquerade {address}")));
        inside.iter().for_each(|net| line(format_args!("inside {net}")));
    }
    if let Some((chain, addresses)) = &record.masquerade_chain {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        line(format_args!("masqchain {chain} {}", addresses.join(" ")));
    }
    if let Some((port, mac)) = &record.mac_filter {
        line(format_args!("macfilter {port} {mac}"));
    }
    if let Some((link, addresses)) = &record.sources {
        line(format_args!("sourcelink {link}"));
        addresses.iter().for_each(|address| line(format_args!("source {address}")));
    }
    if let Some((port, mac, addresses)) = &record.frames {
        line(format_args!("frames {port} {mac}"));
        addresses.iter().for_each(|address| line(format_args!("frame {address}")));
    }
    if let Some(OverlayNetwork { bridge, port, addresses, internal }) = &record.overlay {
        line(format_args!("overlay {bridge} {port} {}", if *internal { INTERNAL } else { OPEN }));
        addresses.iter().for_each(|address| line(format_args!("overlayaddress {address}")));
    }
    if let Some((links, addresses)) = &record.fast_path {
        links.iter().for_each(|link| line(format_args!("fastlink {link}")));
        addresses.iter().for_each(|address| line(format_args!("fastpath {address}")));
    }
    record.accepted.iter().for_each(|address| line(format_args!("accepted {address}")));
    if let Some(Zone { name, settled, sources }) = &record.zone {
        line(format_args!("zone {name} {}", if *settled { SETTLED } else { UNSETTLED }));
        for Source { address, is_ours } in sources {
            line(format_args!("zonesource {address} {}", if *is_ours { OURS } else { THEIRS }));
        }
    }
    if let Some(Attached { accepted, link, isolation, policy, port, ways }) = &record.firewall {
        line(format_args!("firewall {isolation} {}", link.as_deref().unwrap_or(NONE)));
        accepted.iter().for_each(|address| line(format_args!("accept {address}")));
        port.iter().for_each(|port| line(format_args!("isolated {port}")));
        policy.ingress.iter().for_each(|rule| line(format_args!("ingress {rule}")));
        policy.egress.iter().for_each(|rule| line(format_args!("egress {rule}")));
        ways.links.iter().for_each(|link| line(format_args!("waylink {link}")));
        ways.subnets.iter().for_each(|subnet| line(format_args!("way {subnet}")));
    }
    if let Some(Namespace { path, inode }) = &record.netns {
        line(format_args!("netns {inode} {path}"));
    }
    text
}

/// The inverse; also returns the time it was written (0 if missing). An error describes the fault
/// in the text.
pub(super) fn read(bytes: &[u8]) -> Result<(Record, u64), String> {
    file::ensure_known(bytes, NUMBER).map_err(|newer| newer.to_string())?;
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let mut lines = text.lines().enumerate();
    if lines.next().is_none_or(|(_, first)| first != VERSION) {
        return Err(format!("it does not begin with {VERSION:?}"));
    }
    let mut record = None;
    let mut written = 0;
    for (number, line) in lines {
        fact(line, &mut record, &mut written)
            .ok_or_else(|| format!("line {} is not understood", number + 1))?;
    }
    record.map(|record| (record, written)).ok_or_else(|| "it names no owner".to_owned())
}

fn fact(line: &str, record: &mut Option<Record>, written: &mut u64) -> Option<()> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    if kind == "owner" {
        let mut word = || words.next().map(str::to_owned);
        let (network, ifname, container_id) = (word()?, word()?, word()?);
        *record = Some(Record::new(Owner { network, container_id, ifname }));
        return end(words);
    }
    let record = record.as_mut()?;
    match kind {
        "written" => *written = parse(&mut words)?,
        "container" => {
            let address = parse(&mut words)?;
            let link = words.next().filter(|link| *link != NONE).map(str::to_owned);
            let word = words.next()?;
            let (masquerade, _) = MASQUERADES.into_iter().find(|(_, known)| *known == word)?;
            record.containers.push(Container {
                address,
                link,
                mappings: Vec::new(),
                masquerade,
                conditions: Conditions::default(),
            });
        }
        "if" => {
            let container = record.containers.last_mut()?;
            let words: Vec<&str> = words.by_ref().collect();
            container.conditions = Conditions::read(&words, IpFamily::of(container.address)).ok()?;
        }
        "port" => {
            let proto = parse(&mut words)?;
            let address = maybe(&mut words)?;
            let (first, last) = words.next()?.split_once('-')?;
            let ports = (first.parse().ok()?, last.parse().ok()?);
            let target = parse(&mut words)?;
            // All later computations rely on this.
            i32::from(ports.1).checked_sub(i32::from(ports.0)).filter(|count| *count >= 0)?;
            u16::checked_add(target, ports.1 - ports.0)?;
            record.containers.last_mut()?.mappings.push(Mapping { proto, address, ports, target });
        }
        "chosen" => record.chosen.push(Chosen {
            proto: parse(&mut words)?,
            at: maybe(&mut words)?,
            target: parse(&mut words)?,
            port: parse(&mut words)?,
        }),
        "chain" => record.chain = Some(words.next()?.to_owned()),
        "localnet" => record.localnet.push(words.next()?.to_owned()),
        "masquerade" => {
            record.masquerade.get_or_insert_default().0.push(parse(&mut words)?);
        }
        "inside" => record.masquerade.as_mut()?.1.push(parse(&mut words)?),
        "masqchain" => {
            let chain = words.next()?.to_owned();
            let addresses = words.by_ref().map(str::parse).collect::<Result<_, _>>().ok()?;
            record.masquerade_chain = Some((chain, addresses));
        }
        "macfilter" => record.mac_filter = Some((words.next()?.to_owned(), parse(&mut words)?)),
        "sourcelink" => record.sources = Some((words.next()?.to_owned(), Vec::new())),
        "source" => record.sources.as_mut()?.1.push(parse(&mut words)?),
        "frames" => {
            record.frames = Some((words.next()?.to_owned(), parse(&mut words)?, Vec::new()));
        }
        "frame" => record.frames.as_mut()?.2.push(parse(&mut words)?),
        "overlay" => {
            let (bridge, port) = (words.next()?.to_owned(), parse(&mut words)?);
            let internal = one_of(&mut words, INTERNAL, OPEN)?;
            record.overlay = Some(OverlayNetwork { bridge, port, addresses: Vec::new(), internal });
        }
        "overlayaddress" => record.overlay.as_mut()?.addresses.push(parse(&mut words)?),
        "fastlink" => record.fast_path.get_or_insert_default().0.push(words.next()?.to_owned()),
        "fastpath" => record.fast_path.get_or_insert_default().1.push(parse(&mut words)?),
        "accepted" => record.accepted.push(parse(&mut words)?),
        "zone" => {
            let name = words.next()?.to_owned();
            let settled = one_of(&mut words, SETTLED, UNSETTLED)?;
            record.zone = Some(Zone { name, settled, sources: Vec::new() });
        }
        "zonesource" => {
            let address = parse(&mut words)?;
            let is_ours = one_of(&mut words, OURS, THEIRS)?;
            record.zone.as_mut()?.sources.push(Source { address, is_ours });
        }
        "firewall" => {
            let isolation = Isolation::named(words.next()?)?;
            let link = words.next().filter(|link| *link != NONE).map(str::to_owned);
            record.firewall = Some(Attached { link, isolation, ..Attached::default() });
        }
        "accept" => record.firewall.as_mut()?.accepted.push(parse(&mut words)?),
        "isolated" => record.firewall.as_mut()?.port = Some(words.next()?.to_owned()),
        "ingress" => record.firewall.as_mut()?.policy.ingress.push(rule(&mut words)?),
        "egress" => record.firewall.as_mut()?.policy.egress.push(rule(&mut words)?),
        "waylink" => record.firewall.as_mut()?.ways.links.push(words.next()?.to_owned()),
        "way" => record.firewall.as_mut()?.ways.subnets.push(parse(&mut words)?),
        "netns" => {
            let inode = parse(&mut words)?;
            record.netns = Some(Namespace { path: words.next()?.to_owned(), inode });
        }
        _ => return None,
    }
    end(words)
}

fn parse<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn rule(words: &mut SplitWhitespace<'_>) -> Option<PolicyRule> {
    words.by_ref().collect::<Vec<_>>().join(" ").parse().ok()
}

fn one_of(words: &mut SplitWhitespace<'_>, yes: &str, no: &str) -> Option<bool> {
    let word = words.next()?;
    (word == yes || word == no).then_some(word == yes)
}

/// An address, or any address.
fn maybe(words: &mut SplitWhitespace<'_>) -> Option<Option<IpAddr>> {
    match words.next()? {
        ANY => Some(None),
        address => address.parse().ok().map(Some),
    }
}

fn end(mut words: SplitWhitespace<'_>) -> Option<()> {
    words.next().is_none().then_some(())
}
