mod remote;

use std::fs;

use super::*;

pub(crate) fn network() -> Network {
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
        cache: 512,
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

fn state_dir() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = StateDir::at(dir.path().join("42"));
    (dir, state_dir)
}

fn names_of_files(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn records_are_read_back_singly_and_with_their_network() {
    let (_dir, state_dir) = state_dir();
    let _lock = state_dir.lock().unwrap();
    let (one, two) = (attachment("c1", "eth0"), attachment("c1", "eth1"));
    state_dir.put_network(&network()).unwrap();
    state_dir.put_attachment(&one).unwrap();
    state_dir.put_attachment(&two).unwrap();
    assert_eq!(state_dir.network("net").unwrap(), Some(network()));
    assert_eq!(state_dir.attachment("net", &one.key).unwrap(), Some(one.clone()));
    assert_eq!(state_dir.attachment("other", &one.key).unwrap(), None);
    let [known] = &mut state_dir.scan().unwrap()[..] else { panic!("one network") };
    known.attachments.sort_by(|a, b| a.key.ifname.cmp(&b.key.ifname));
    assert_eq!((&known.network, &known.attachments), (&Some(network()), &vec![one, two]));
    assert!(known.unreadable.is_empty());
}

/// ADD twice for one key replaces the record, and leaves no other file.
#[test]
fn a_record_is_replaced_despite_a_killed_plugins_draft() {
    let (_dir, state_dir) = state_dir();
    let mut record = attachment("c1", "eth0");
    state_dir.put_attachment(&record).unwrap();
    let att = state_dir.networks_dir().join("net/att");
    fs::write(att.join(".moor-c1@eth0.json"), "half").unwrap();
    record.names = vec!["other".into()];
    state_dir.put_attachment(&record).unwrap();
    assert_eq!(state_dir.attachment("net", &record.key).unwrap(), Some(record));
    assert_eq!(names_of_files(&att), ["c1@eth0.json"]);
}

/// D-006, D-071: removing one interface's record keeps the other's; locks are never removed.
#[test]
fn records_are_removed_by_key_and_the_network_after_the_last() {
    let (_dir, state_dir) = state_dir();
    drop(state_dir.lock().unwrap());
    state_dir.put_network(&network()).unwrap();
    let (one, two) = (attachment("c1", "eth0"), attachment("c1", "eth1"));
    state_dir.put_attachment(&one).unwrap();
    state_dir.put_attachment(&two).unwrap();
    fs::write(state_dir.networks_dir().join("net/att/.moor-c1@eth1.json"), "half").unwrap();
    assert!(state_dir.remove_attachment("net", &one.key).unwrap());
    assert!(!state_dir.remove_attachment("net", &one.key).unwrap());
    assert!(state_dir.has_attachment("net", &two.key) && !state_dir.has_attachment("net", &one.key));
    assert!(!state_dir.is_empty("net").unwrap() && state_dir.remove_network("net").is_err());
    assert!(state_dir.remove_attachment("net", &two.key).unwrap());
    assert!(state_dir.is_empty("net").unwrap());
    fs::write(state_dir.networks_dir().join("net/.moor-network.json"), "half").unwrap();
    state_dir.remove_network("net").unwrap();
    assert_eq!(names_of_files(&state_dir.networks_dir()), [""; 0]);
    assert_eq!(names_of_files(state_dir.dir()), ["lock", "net"]);
    state_dir.remove_network("never").unwrap();
    assert!(!state_dir.remove_attachment("never", &two.key).unwrap());
}

/// D-065, D-070
#[test]
fn unreadable_records_are_reported_and_kept() {
    let (_dir, state_dir) = state_dir();
    state_dir.put_network(&network()).unwrap();
    state_dir.put_attachment(&attachment("good", "eth0")).unwrap();
    let att = state_dir.networks_dir().join("net/att");
    let newer = serde_json::to_string(&Attachment { v: 2, ..attachment("new", "eth0") }).unwrap();
    fs::write(att.join("new@eth0.json"), newer).unwrap();
    fs::write(att.join("bad@eth0.json"), "{").unwrap();
    let nameless = Attachment { names: vec![], ..attachment("none", "eth0") };
    fs::write(att.join("none@eth0.json"), serde_json::to_string(&nameless).unwrap()).unwrap();
    fs::write(att.join("big@eth0.json"), vec![b' '; FILE_MAX + 1]).unwrap();
    let known = state_dir.scan_network("net").unwrap();
    assert_eq!(known.attachments, [attachment("good", "eth0")]);
    assert_eq!(known.unreadable.len(), 4);
    assert!(
        known
            .unreadable
            .iter()
            .any(|unreadable| matches!(unreadable.error, Error::Newer(Newer { found: 2, known: 1 })))
    );
    assert_eq!(names_of_files(&att).len(), 5);
    for id in ["new", "bad", "none", "big", "good"] {
        let key = Key { container: id.into(), ifname: "eth0".into() };
        assert!(
            state_dir.remove_attachment("net", &key).unwrap(),
            "DEL removes by key, whatever the content"
        );
    }
    assert!(state_dir.is_empty("net").unwrap());
}

/// DEL removes by file name, so a file under another name is not served.
#[test]
fn a_copy_under_another_name_is_reported_and_not_served() {
    let (_dir, state_dir) = state_dir();
    state_dir.put_network(&network()).unwrap();
    let record = attachment("c1", "eth0");
    state_dir.put_attachment(&record).unwrap();
    let file = state_dir.attachments_dir("net").join(record.key.file_name());
    fs::copy(&file, file.with_extension("bak")).unwrap();
    fs::copy(&file, file.with_file_name("c2@eth0.json")).unwrap();
    let known = state_dir.scan_network("net").unwrap();
    assert_eq!((known.attachments.as_slice(), known.unreadable.len()), (&[record.clone()][..], 2));
    let other = Key { container: "c2".into(), ..record.key };
    assert!(matches!(state_dir.attachment("net", &other), Err(Error::Malformed(_))));
    fs::rename(state_dir.network_dir("net"), state_dir.network_dir("aside")).unwrap();
    assert_eq!(state_dir.networks().unwrap(), []);
    assert!(state_dir.scan().unwrap().iter().all(|known| known.network.is_none()));
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
    let (_dir, state_dir) = state_dir();
    let record = Attachment { network: long.clone(), ..attachment(&"c".repeat(300), "123456789012345") };
    state_dir.put_attachment(&record).unwrap();
    assert_eq!(state_dir.attachment(&long, &record.key).unwrap(), Some(record));
}

/// D-067: by file name, so unreadable records are removed too.
#[test]
fn all_invalid_attachments_are_removed_readable_or_not() {
    let (_dir, state_dir) = state_dir();
    let (good, stale) = (attachment("c1", "eth0"), attachment("c2", "eth0"));
    state_dir.put_attachment(&good).unwrap();
    state_dir.put_attachment(&stale).unwrap();
    fs::write(state_dir.networks_dir().join("net/att/bad@eth0.json"), "{").unwrap();
    assert_eq!(state_dir.remove_all_but("net", std::slice::from_ref(&good.key)).unwrap(), 2);
    assert_eq!(state_dir.scan_network("net").unwrap().attachments, [good]);
    assert_eq!(state_dir.remove_all_but("never", &[]).unwrap(), 0);
}

/// A record without the number means the default, as of builds that kept no answers.
#[test]
fn a_network_without_the_number_of_kept_answers_has_the_default() {
    let mut record = serde_json::to_value(network()).unwrap();
    assert_eq!(record.as_object_mut().unwrap().remove("cache"), Some(ANSWERS_KEPT.into()));
    assert_eq!(serde_json::from_value::<Network>(record).unwrap(), network());
}
