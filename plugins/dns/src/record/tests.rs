use std::fs;

use super::*;

fn network() -> Network {
    Network {
        v: VERSION,
        name: "net".into(),
        mode: Mode::Gateway,
        listen: vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        port: 53,
        subnets: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()],
        ingress: vec!["cni0".into()],
        domain: Some("example.org".into()),
        upstreams: None,
        internal: false,
        ttl: 0,
        forward_single_label: true,
        cross_network: CrossNetwork::First,
        from_dnsname: false,
    }
}

fn attachment(container: &str, ifname: &str) -> Attachment {
    Attachment {
        v: VERSION,
        network: "net".into(),
        key: Key { container: container.into(), ifname: ifname.into() },
        names: vec!["web".into(), "www".into()],
        ips: vec!["10.1.0.2".parse().unwrap()],
        upstreams: None,
        ingress: None,
        netns: None,
        namespace: None,
        order: 7,
    }
}

fn place() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::at(dir.path().join("42"));
    (dir, place)
}

fn names_of_files(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn records_are_read_back_singly_and_with_their_network() {
    let (_dir, place) = place();
    let _lock = place.lock().unwrap();
    let (one, two) = (attachment("c1", "eth0"), attachment("c1", "eth1"));
    place.put_network(&network()).unwrap();
    place.put_attachment(&one).unwrap();
    place.put_attachment(&two).unwrap();
    assert_eq!(place.network("net").unwrap(), Some(network()));
    assert_eq!(place.attachment("net", &one.key).unwrap(), Some(one.clone()));
    assert_eq!(place.attachment("other", &one.key).unwrap(), None);
    let [known] = &mut place.scan().unwrap()[..] else { panic!("one network") };
    known.attachments.sort_by(|a, b| a.key.ifname.cmp(&b.key.ifname));
    assert_eq!((&known.network, &known.attachments), (&Some(network()), &vec![one, two]));
    assert!(known.faulty.is_empty());
}

/// ADD twice for one key replaces the record, and leaves no other file.
#[test]
fn a_record_is_replaced_despite_a_killed_plugins_draft() {
    let (_dir, place) = place();
    let mut record = attachment("c1", "eth0");
    place.put_attachment(&record).unwrap();
    let att = place.networks_dir().join("net/att");
    fs::write(att.join(".moor-c1@eth0.json"), "half").unwrap();
    record.names = vec!["other".into()];
    place.put_attachment(&record).unwrap();
    assert_eq!(place.attachment("net", &record.key).unwrap(), Some(record));
    assert_eq!(names_of_files(&att), ["c1@eth0.json"]);
}

/// D-006, D-071: removing one interface's record keeps the other's; locks are never removed.
#[test]
fn records_are_removed_by_key_and_the_network_after_the_last() {
    let (_dir, place) = place();
    drop(place.lock().unwrap());
    place.put_network(&network()).unwrap();
    let (one, two) = (attachment("c1", "eth0"), attachment("c1", "eth1"));
    place.put_attachment(&one).unwrap();
    place.put_attachment(&two).unwrap();
    fs::write(place.networks_dir().join("net/att/.moor-c1@eth1.json"), "half").unwrap();
    assert!(place.remove_attachment("net", &one.key).unwrap());
    assert!(!place.remove_attachment("net", &one.key).unwrap());
    assert!(place.has_attachment("net", &two.key) && !place.has_attachment("net", &one.key));
    assert!(!place.is_empty("net").unwrap() && place.remove_network("net").is_err());
    assert!(place.remove_attachment("net", &two.key).unwrap());
    assert!(place.is_empty("net").unwrap());
    fs::write(place.networks_dir().join("net/.moor-network.json"), "half").unwrap();
    place.remove_network("net").unwrap();
    assert_eq!(names_of_files(&place.networks_dir()), [""; 0]);
    assert_eq!(names_of_files(place.dir()), ["lock", "net"]);
    place.remove_network("never").unwrap();
    assert!(!place.remove_attachment("never", &two.key).unwrap());
}

/// D-065, D-070
#[test]
fn unreadable_records_are_reported_and_kept() {
    let (_dir, place) = place();
    place.put_network(&network()).unwrap();
    place.put_attachment(&attachment("good", "eth0")).unwrap();
    let att = place.networks_dir().join("net/att");
    let newer = serde_json::to_string(&Attachment { v: 2, ..attachment("new", "eth0") }).unwrap();
    fs::write(att.join("new@eth0.json"), newer).unwrap();
    fs::write(att.join("bad@eth0.json"), "{").unwrap();
    let nameless = Attachment { names: vec![], ..attachment("none", "eth0") };
    fs::write(att.join("none@eth0.json"), serde_json::to_string(&nameless).unwrap()).unwrap();
    fs::write(att.join("big@eth0.json"), vec![b' '; FILE_MAX + 1]).unwrap();
    let known = place.scan_network("net").unwrap();
    assert_eq!(known.attachments, [attachment("good", "eth0")]);
    assert_eq!(known.faulty.len(), 4);
    assert!(known.faulty.iter().any(|faulty| matches!(faulty.error, Error::Newer(2))));
    assert_eq!(names_of_files(&att).len(), 5);
    for id in ["new", "bad", "none", "big", "good"] {
        let key = Key { container: id.into(), ifname: "eth0".into() };
        assert!(place.remove_attachment("net", &key).unwrap(), "DEL removes by key, whatever the content");
    }
    assert!(place.is_empty("net").unwrap());
}

/// DEL removes by file name, so a file under another name is not served.
#[test]
fn a_copy_under_another_name_is_reported_and_not_served() {
    let (_dir, place) = place();
    place.put_network(&network()).unwrap();
    let record = attachment("c1", "eth0");
    place.put_attachment(&record).unwrap();
    let file = place.attachments_dir("net").join(record.key.file_name());
    fs::copy(&file, file.with_extension("bak")).unwrap();
    fs::copy(&file, file.with_file_name("c2@eth0.json")).unwrap();
    let known = place.scan_network("net").unwrap();
    assert_eq!((known.attachments.as_slice(), known.faulty.len()), (&[record.clone()][..], 2));
    let other = Key { container: "c2".into(), ..record.key };
    assert!(matches!(place.attachment("net", &other), Err(Error::Malformed(_))));
    fs::rename(place.network_dir("net"), place.network_dir("aside")).unwrap();
    assert_eq!(place.networks().unwrap(), []);
    assert!(place.scan().unwrap().iter().all(|known| known.network.is_none()));
}

/// D-054: no identifier leaves the directory or makes a file name too long.
#[test]
fn long_identifiers_are_hashed() {
    let long = "n".repeat(5000);
    assert_eq!(encoded("a.b-c_D9"), "a.b-c_D9");
    assert_eq!(encoded(&"n".repeat(200)).len(), 200);
    assert_eq!(encoded(&long).len(), "sha256-".len() + 64);
    assert_ne!(encoded(&long), encoded(&"n".repeat(5001)));
    assert_eq!(encoded(&encoded(&long)), encoded(&long));
    let (_dir, place) = place();
    let record = Attachment { network: long.clone(), ..attachment(&"c".repeat(300), "123456789012345") };
    place.put_attachment(&record).unwrap();
    assert_eq!(place.attachment(&long, &record.key).unwrap(), Some(record));
}

/// D-067: by file name, so unreadable records are removed too.
#[test]
fn all_invalid_attachments_are_removed_readable_or_not() {
    let (_dir, place) = place();
    let (good, stale) = (attachment("c1", "eth0"), attachment("c2", "eth0"));
    place.put_attachment(&good).unwrap();
    place.put_attachment(&stale).unwrap();
    fs::write(place.networks_dir().join("net/att/bad@eth0.json"), "{").unwrap();
    assert_eq!(place.remove_all_but("net", std::slice::from_ref(&good.key)).unwrap(), 2);
    assert_eq!(place.scan_network("net").unwrap().attachments, [good]);
    assert_eq!(place.remove_all_but("never", &[]).unwrap(), 0);
}
