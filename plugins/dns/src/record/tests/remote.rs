//! Files of other hosts.

use std::fs;
use std::os::unix::fs::MetadataExt;

use cluster::local::{RemoteAttachment, RemoteNames};

use super::*;

const HOST: &str = "00112233445566ff";

fn names(texts: &[&str], ips: &[&str]) -> RemoteAttachment {
    RemoteAttachment {
        names: texts.iter().map(|text| (*text).to_owned()).collect(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    }
}

fn host(attachments: Vec<RemoteAttachment>) -> RemoteNames {
    RemoteNames { v: VERSION, host: "node-b".into(), silent: false, attachments }
}

#[test]
fn a_file_is_replaced_and_only_another_one_has_another_stamp() {
    let (_dir, state_dir) = state_dir();
    let one = host(vec![names(&["web"], &["10.1.0.2"])]);
    assert!(state_dir.put_remote("net", HOST, &one).unwrap());
    let stamp = || state_dir.remote_files("net").unwrap().0[0].stamp;
    let first = stamp();
    assert!(!state_dir.put_remote("net", HOST, &one).unwrap(), "an identical file is not written");
    assert_eq!(stamp(), first);
    let two = RemoteNames { silent: true, ..one };
    assert!(state_dir.put_remote("net", HOST, &two).unwrap());
    assert_ne!(stamp(), first);
    let (files, unreadable) = state_dir.remote_files("net").unwrap();
    assert!(files.len() == 1 && unreadable.is_empty());
    assert_eq!(read_remote(&files[0].path).unwrap(), Some(Usable { names: two, left_out: 0 }));
    assert_eq!(fs::metadata(&files[0].path).unwrap().mode() & 0o777 & !0o640, 0, "not for others");
}

/// What other hosts wrote is part of no path, and no more than a container has.
#[test]
fn what_is_no_name_or_address_is_left_out() {
    let (_dir, state_dir) = state_dir();
    let many: Vec<String> = (0..70).map(|n| format!("n{n}")).collect();
    let odd = host(vec![
        names(&["web", "Web", "a b", "", "localhost", "10.0.0.1", "../x", "a\n10.9.9.9 x"], &["10.1.0.2"]),
        names(&["none"], &["0.0.0.0", "127.0.0.1", "224.0.0.1", "ff02::1"]),
        RemoteAttachment { names: many, ips: vec!["10.1.0.3".parse().unwrap()] },
    ]);
    state_dir.put_remote("net", HOST, &odd).unwrap();
    let read = read_remote(&state_dir.remote_files("net").unwrap().0[0].path).unwrap().unwrap();
    let [web, many] = &read.names.attachments[..] else { panic!("{read:?}") };
    assert_eq!((web.names.as_slice(), many.names.len()), (&["web".to_owned()][..], 64));
    assert_eq!(read.left_out, 7 + 4 + 1 + 6);
    for no_id in ["", "..", "../../x", "00112233445566FF", "00112233445566f", "00112233445566ff0"] {
        assert!(state_dir.put_remote("net", no_id, &odd).is_err(), "{no_id}");
        assert!(state_dir.remove_remote("net", no_id).is_err(), "{no_id}");
    }
}

#[test]
fn files_that_cannot_be_used_are_reported_and_kept() {
    let (_dir, state_dir) = state_dir();
    state_dir.put_remote("net", HOST, &host(vec![])).unwrap();
    let dir = state_dir.remote_dir("net");
    for (id, text) in [("1", "{"), ("2", r#"{"v":2}"#), ("3", r#"{"v":1,"host":"x"}"#)] {
        let path = dir.join(format!("{id:0>16}.json"));
        fs::write(&path, text).unwrap();
        assert!(read_remote(&path).is_err(), "{text}");
    }
    let big = dir.join(format!("{:0>16}.json", 4));
    fs::File::create(&big).unwrap().set_len(REMOTE_FILE_MAX as u64 + 1).unwrap();
    assert!(read_remote(&big).is_err());
    fs::write(dir.join("node-b.json"), "{}").unwrap();
    std::os::unix::fs::symlink("/etc/hosts", dir.join(format!("{:0>16}.json", 5))).unwrap();
    let (files, unreadable) = state_dir.remote_files("net").unwrap();
    assert_eq!((files.len(), unreadable.len()), (5, 2));
    assert_eq!(read_remote(&dir.join("gone.json")).unwrap(), None);
    assert_eq!(names_of_files(&dir).len(), 7);
}

/// The last DEL of a network leaves the agent's files, and the agent leaves nothing.
#[test]
fn each_owner_removes_its_own_files() {
    let (_dir, state_dir) = state_dir();
    state_dir.put_network(&network()).unwrap();
    state_dir.put_attachment(&attachment("c1", "eth0")).unwrap();
    state_dir.put_remote("net", HOST, &host(vec![])).unwrap();
    state_dir.remove_attachment("net", &attachment("c1", "eth0").key).unwrap();
    state_dir.remove_network("net").unwrap();
    assert_eq!(names_of_files(&state_dir.network_dir("net")), ["remote"]);
    assert!(state_dir.scan().unwrap()[0].network.is_none());
    state_dir.remove_all_remote("net").unwrap();
    assert_eq!(names_of_files(&state_dir.networks_dir()), [""; 0]);

    state_dir.put_network(&network()).unwrap();
    state_dir.put_remote("net", HOST, &host(vec![])).unwrap();
    assert!(state_dir.remove_remote("net", HOST).unwrap() && !state_dir.remove_remote("net", HOST).unwrap());
    state_dir.remove_all_remote("net").unwrap();
    state_dir.remove_all_remote("never").unwrap();
    assert_eq!(names_of_files(&state_dir.network_dir("net")), ["network.json"]);
}
