//! Records on disk, without the kernel.

use std::fs;

use netlink::Mac;

use super::{By, Record, Records, text};
use crate::ports::{Chosen, Conditions, Container, Mapping, Masquerade};
use crate::{Attached, Isolation, Namespace, OverlayNetwork, Owner, Policy, Removal, Source, Ways, Zone};

fn owner(network: &str, id: &str) -> Owner {
    Owner::new(network, id, "eth0")
}

fn full() -> Record {
    let port = |ports, target| Mapping { proto: 6, address: None, ports, target };
    let at =
        Mapping { proto: 17, address: Some("2001:db8::1".parse().unwrap()), ports: (53, 53), target: 53 };
    let container = |address: &str, link: Option<&str>, mappings, masquerade| Container {
        address: address.parse().unwrap(),
        link: link.map(str::to_owned),
        mappings,
        masquerade,
        conditions: Conditions::default(),
    };
    let conditions =
        Conditions::read(&["ip saddr != { 10.0.0.0/8, 192.0.2.1 } iifname \"eth*\""], sys::IpFamily::V4)
            .unwrap();
    Record {
        containers: vec![
            Container {
                conditions,
                ..container("10.1.2.3", Some("br0"), vec![port((80, 80), 8080)], Masquerade::Needed)
            },
            container("fd00::3", None, vec![port((1000, 1999), 2000), at], Masquerade::Everybody),
        ],
        chain: Some("CNI-DN-b40d6be49a3410ab31bc2".into()),
        chosen: vec![Chosen { proto: 6, at: Some("0.0.0.0".parse().unwrap()), target: 80, port: 61234 }],
        localnet: vec!["br0".into()],
        masquerade: Some((
            vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
            vec!["10.1.2.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        )),
        masquerade_chain: Some(("CNI-a631aa8e1549a3b129110fd2".into(), vec!["10.1.2.3".parse().unwrap()])),
        mac_filter: Some(("veth01234567".into(), Mac([2, 0, 0, 0, 0, 1]))),
        sources: Some(("veth01234567".into(), vec!["10.1.2.3".parse().unwrap()])),
        frames: Some((
            "veth01234567".into(),
            Mac([2, 0, 0, 0, 0, 1]),
            vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
        )),
        overlay: Some(OverlayNetwork {
            bridge: "mo0123456789".into(),
            port: 4789,
            addresses: vec!["10.1.2.1".parse().unwrap()],
            internal: true,
        }),
        fast_path: Some((vec!["veth01234567".into()], vec!["10.1.2.3".parse().unwrap()])),
        accepted: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
        zone: Some(Zone {
            name: "trusted".into(),
            settled: true,
            sources: [("10.1.2.3", true), ("fd00::3", false)]
                .map(|(address, is_ours)| Source { address: address.parse().unwrap(), is_ours })
                .to_vec(),
        }),
        firewall: Some(Attached {
            accepted: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
            link: Some("br0".into()),
            isolation: Isolation::Isolated,
            policy: Policy {
                ingress: vec!["allow @front - tcp 80-80,443-443".parse().unwrap()],
                egress: vec!["deny-log - 10.0.0.0/8 - -".parse().unwrap()],
            },
            port: Some("veth01234567".into()),
            ways: Ways { links: vec!["br0".into()], subnets: vec!["10.1.2.0/24".parse().unwrap()] },
        }),
        netns: Namespace::at("/proc/self/ns/net"),
        ..Record::new(owner("net", "c1"))
    }
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open_at(&dir.path().join("a/b")).unwrap();
    for record in [full(), Record::new(owner("net", "c1"))] {
        records.write(By::Portmap, &record).unwrap();
        assert_eq!(records.read(By::Portmap, &record.owner).unwrap(), Some(record));
    }
    assert_eq!(records.paths().unwrap().len(), 1);
}

/// PM-R14: container ids of 300 characters; and after a rename of the network.
#[test]
fn a_record_is_found_by_the_attachment_however_long_its_id_and_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open_at(&dir.path().join("moor/intent")).unwrap();
    let long = "c".repeat(300);
    let record = Record::new(owner("net", &long));
    records.write(By::Bridge, &record).unwrap();
    let read = |by, owner: &Owner| records.read(by, owner).unwrap();
    assert_eq!(read(By::Bridge, &owner("renamed", &long)), Some(record));
    assert_eq!(read(By::Portmap, &owner("net", &long)), None);
    assert_eq!(read(By::Bridge, &owner("net", &"c".repeat(301))), None);
    // Another network's that takes its own back; and that which it is.
    records.remove_own(By::Bridge, &owner("renamed", &long)).unwrap();
    assert_eq!(records.paths().unwrap().len(), 1);
    records.remove_own(By::Bridge, &owner("net", &long)).unwrap();
    records.remove_own(By::Bridge, &owner("net", &long)).unwrap();
    assert_eq!(records.paths().unwrap().len(), 0);
}

#[test]
fn only_what_a_network_has_not_any_more_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open_at(&dir.path().join("moor/intent")).unwrap();
    for (by, network, id) in [
        (By::Bridge, "net", "c1"),
        (By::Bridge, "net", "c2"),
        (By::Bridge, "other", "c3"),
        (By::Portmap, "net", "c1"),
    ] {
        records.write(by, &Record::new(owner(network, id))).unwrap();
    }
    fs::write(dir.path().join("moor/intent/bridge-of-nobody"), "?").unwrap();
    for record in records.all_but(By::Bridge, "net", &[owner("net", "c2")].into()).unwrap() {
        records.remove_own(By::Bridge, &record.owner).unwrap();
    }
    let (left, unreadable) = records.all().unwrap();
    let mut left: Vec<_> = left.into_iter().map(|record| record.owner.container_id).collect();
    left.sort();
    assert_eq!((left, unreadable.len()), (vec!["c1".into(), "c2".into(), "c3".into()], 1));
}

/// As a newer release may write them: whose they are can be read, and no more.
#[test]
fn a_newer_record_goes_with_its_owner_and_with_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open_at(&dir.path().join("moor/intent")).unwrap();
    for (by, id) in [(By::Bridge, "c1"), (By::Bridge, "c2"), (By::Zone, "c1")] {
        let text = format!("v 2\nowner net eth0 {id}\nquux {id}\nnetns 7 /run/netns/{id}\n");
        fs::write(records.path(by, &owner("net", id)), text).unwrap();
    }
    let error = records.read(By::Bridge, &owner("net", "c1")).unwrap_err();
    assert!(format!("{error:#}").contains("of version 2"), "{error:#}");
    assert_eq!(records.head(By::Bridge, &owner("net", "c1")).unwrap().netns.unwrap().inode, 7);
    // Another network's ADD that is undone leaves them.
    records.remove_own(By::Bridge, &owner("renamed", "c1")).unwrap();
    let valid = [owner("net", "c2")].into();
    assert_eq!(records.all_but(By::Bridge, "net", &valid).unwrap(), []);
    let (stale, owners) = records.stale(By::Bridge, "net", &valid).unwrap();
    assert_eq!((stale, owners), (vec![], vec![owner("net", "c1")]));
    // What only the record names is not forgotten by GC.
    assert!(By::Bridge.is_labelled() && !By::Zone.is_labelled());
    let removal = Removal::new(owner("net", "c1"), "", Vec::new());
    assert_eq!(records.take(By::Bridge, &removal).unwrap(), None);
    let left: Vec<_> = records.paths().unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// HO-24: an address claimed several times belongs to the last claim, however close they are.
#[test]
fn records_of_one_moment_are_in_the_order_they_were_written_in() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open_at(&dir.path().join("moor/intent")).unwrap();
    let ids: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    ids.iter().for_each(|id| records.write(By::Bridge, &Record::new(owner("net", id))).unwrap());
    let (all, _) = records.all().unwrap();
    let all: Vec<String> = all.into_iter().rev().map(|record| record.owner.container_id).collect();
    assert_eq!(all, ids);
}

#[test]
fn a_text_that_is_no_record_is_an_error_that_says_where() {
    let good = text::write(&full(), 7);
    assert_eq!(text::read(good.as_bytes()), Ok((full(), 7)));
    for (change, expected) in [
        ("", "does not begin"),
        ("v 2\n", "of version 2, and this release reads 1"),
        ("v 1\n", "no owner"),
        ("v 1\nport 6 any 80-80 80\n", "line 2"),
        ("v 1\nowner net eth0\n", "line 2"),
        ("v 1\nowner net eth0 c1\nport 6 any 80-80 80\n", "line 3"),
        ("v 1\nowner net eth0 c1 c2\n", "line 2"),
        ("v 1\nowner net eth0 c1\ncontainer 10.1.2.3 br0 maybe\n", "line 3"),
        ("v 1\nowner net eth0 c1\ncontainer 10.1.2.3 br0 needed\nport 6 any 81-80 80\n", "line 4"),
        ("v 1\nowner net eth0 c1\ncontainer 10.1.2.3 br0 needed\nport 6 any 1-65535 80\n", "line 4"),
        ("v 1\nowner net eth0 c1\ninside 10.1.2.0/24\n", "line 3"),
        ("v 1\nowner net eth0 c1\nsomething else\n", "line 3"),
    ] {
        let error = text::read(change.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{change:?}: {error}");
    }
    assert!(text::read(&[0xff]).is_err());
    // Cut anywhere, a text is no other record than that of the remaining lines.
    for end in 0..good.len() {
        let _ = text::read(&good.as_bytes()[..end]);
    }
}

/// The lock separates a DEL from a reapply.
#[test]
fn many_change_their_own_and_nobody_while_one_makes_all_anew() {
    let dir = tempfile::tempdir().unwrap();
    let first = Records::open_at(&dir.path().join("moor/intent")).unwrap();
    let second = Records::open_if_any_at(&dir.path().join("moor/intent")).unwrap().unwrap();
    let alone = fs::File::open(dir.path().join("moor/intent/.lock")).unwrap();
    assert!(alone.try_lock().is_err());
    drop((first, second));
    alone.try_lock().unwrap();
}

#[test]
fn nothing_stays_of_a_killed_replacement_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open_at(&dir.path().join("moor/intent")).unwrap();
    let record = Record::new(owner("net", "c1"));
    records.write(By::Bridge, &record).unwrap();
    let path = records.path(By::Bridge, &record.owner);
    let name = path.file_name().unwrap().to_string_lossy();
    fs::write(path.with_file_name(format!("{}{name}", sys::file::TEMP_PREFIX)), "killed").unwrap();
    assert_eq!(records.of(By::Bridge).unwrap(), std::slice::from_ref(&record));
    records.remove_own(By::Bridge, &record.owner).unwrap();
    let left: Vec<_> = fs::read_dir(&records.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
}
