use std::os::unix::fs::PermissionsExt;

use cluster::VERSION;
use cluster::local::Namespace;

use super::*;

fn files(dir: &Path) -> Files {
    Files::at(dir.join("state"), dir.join("run/7"))
}

fn attachment() -> Attachment {
    Attachment {
        v: VERSION,
        ips: vec!["10.9.0.66".parse().unwrap()],
        mac: "02:6d:0a:09:00:42".into(),
        names: vec!["web".into()],
        netns: Namespace { path: "/run/netns/a".into(), inode: 7 },
        veth: "veth1".into(),
    }
}

fn net() -> Net {
    Net {
        v: VERSION,
        vni: Some(cluster::VNI_FIRST),
        subnets: vec!["10.9.0.0/16".parse().unwrap()],
        gateways: vec!["10.9.0.1".parse().unwrap()],
        block_size: 64,
        mtu: Some(1450),
        encrypted: false,
        multicast: false,
        internal: false,
    }
}

#[test]
fn what_is_written_is_read_by_its_names_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    assert!(files.attachments("front").unwrap().is_empty() && !files.has_attachments("front").unwrap());
    files.write_attachment("front", "c1", "eth0", &attachment()).unwrap();
    files.write_attachment("front", "c2", "eth@0", &attachment()).unwrap();
    let names: Vec<_> = files.attachments("front").unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["c1@eth0", "c2@eth@0"]);
    assert_eq!(files.attachment("front", "c1", "eth0").unwrap(), Some(attachment()));
    assert_eq!(files.attached().unwrap(), ["front"]);
    for path in ["run/7/att/front/c1@eth0.json", "run/7/att/front", "run/7/att", "run/7"] {
        let mode = fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}");
    }
    assert!(files.remove_attachment("front", "c1", "eth0").unwrap());
    assert!(!files.remove_attachment("front", "c1", "eth0").unwrap());
    assert!(files.remove_attachment("front", "c2", "eth@0").unwrap());
    assert_eq!(files.attached().unwrap(), Vec::<String>::new());
    assert!(!dir.path().join("run/7/att/front").exists());
}

#[test]
fn a_networks_copy_and_blocks_stay_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    assert_eq!((files.net("front").unwrap(), files.blocks("front").unwrap()), (None, None));
    files.write_net("front", &net()).unwrap();
    let blocks = Blocks { v: VERSION, blocks: vec!["10.9.0.64".parse().unwrap()], ..Blocks::default() };
    files.write_blocks("front", &blocks).unwrap();
    assert_eq!(files.net("front").unwrap(), Some(net()));
    assert_eq!(files.blocks("front").unwrap(), Some(blocks));
    assert_eq!(files.nets().unwrap(), ["front"]);
    files.remove_net("front").unwrap();
    files.remove_net("front").unwrap();
    assert!(files.nets().unwrap().is_empty() && files.net("front").unwrap().is_none());
    assert_eq!(fs::read_dir(dir.path().join("state/net")).unwrap().count(), 0);
}

#[test]
fn an_unreadable_record_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    files.write_attachment("front", "c1", "eth0", &attachment()).unwrap();
    let beside = dir.path().join("run/7/att/front");
    fs::write(beside.join("c2@eth0.json"), "{").unwrap();
    // A newer release's, of another shape.
    fs::write(beside.join("c3@eth0.json"), "{\"v\":2,\"ips\":{}}").unwrap();
    fs::write(beside.join(".moor-c4@eth0.json"), "half").unwrap();
    fs::write(beside.join("odd"), "").unwrap();
    let all = files.attachments("front").unwrap();
    let readable: Vec<_> = all.iter().map(|(name, record)| (name.as_str(), record.is_ok())).collect();
    assert_eq!(readable, [("c1@eth0", true), ("c2@eth0", false), ("c3@eth0", false)]);
    let error = all[2].1.as_ref().unwrap_err();
    assert!(format!("{error:#}").contains("it is of version 2"), "{error:#}");
}

/// O-078: a name that is no name is never a part of a path.
#[test]
fn a_name_does_not_leave_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let long = "n".repeat(cluster::key::NAME_MAX + 1);
    for name in ["..", "", "a/b", "/etc", ".x", &long] {
        assert!(files.write_net(name, &net()).is_err(), "{name}");
        assert!(files.write_attachment(name, "c1", "eth0", &attachment()).is_err(), "{name}");
        assert!(files.write_attachment("front", name, "eth0", &attachment()).is_err(), "{name}");
        assert!(!files.remove_attachment(name, "c1", "eth0").unwrap());
    }
    assert!(files.write_attachment("front", "c1", "../x", &attachment()).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_record_is_written_while_the_last_one_of_its_network_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    std::thread::scope(|threads| {
        for container in ["c1", "c2"] {
            let files = &files;
            threads.spawn(move || {
                for _ in 0..200 {
                    files.write_attachment("front", container, "eth0", &attachment()).unwrap();
                    assert!(files.remove_attachment("front", container, "eth0").unwrap());
                }
            });
        }
    });
    assert!(!files.has_attachments("front").unwrap());
}
