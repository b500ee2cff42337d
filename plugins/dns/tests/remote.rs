//! Names of containers on other hosts, as the agent of networks over many hosts gives them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use cluster::local::{RemoteAttachment, RemoteNames};
use dns::record::{self, Network};
use dns::remote::{Put, RemoteFiles};
use dns::restore;

use common::*;

const HOST: &str = "0123456789abcdef";

fn far(silent: bool, name: &str, ip: &str) -> RemoteNames {
    let container = RemoteAttachment { names: vec![name.into()], ips: vec![ip.parse().unwrap()] };
    RemoteNames { v: record::VERSION, host: "node-b".into(), silent, attachments: vec![container] }
}

fn files(responder: &Responder) -> RemoteFiles {
    RemoteFiles::at(responder.state_dir.dir())
}

/// O-040, O-042: as another user, who may read only what his group may.
#[test]
fn names_of_other_hosts_are_in_force_when_sync_returns() {
    in_own_network("names_of_other_hosts_are_in_force_when_sync_returns", || {
        let responder = Responder::start(&network(&[]));
        let files = files(&responder);
        for round in 0..50 {
            let put = files.put("n1", HOST, &far(round % 2 == 0, "far", "10.0.1.2")).unwrap();
            assert!(put == Put::Written && files.sync("n1").unwrap());
            assert_eq!(ask("far.foo.io"), (0, 1), "a silent host's names answer, too");
            assert!(files.remove("n1", HOST).unwrap() && files.sync("n1").unwrap());
            assert_eq!(ask("far.foo.io"), (3, 0));
        }
        files.put("n1", HOST, &far(false, "web", "10.0.1.2")).unwrap();
        assert!(files.sync("n1").unwrap());
        assert_eq!(ask("web.foo.io"), (0, 2), "local and remote containers of one name");
        assert_eq!(files.put("n1", HOST, &far(false, "web", "10.0.1.2")).unwrap(), Put::Same);
    });
}

/// A sync that is lost makes no name stale.
#[test]
fn a_file_that_nobody_reports_is_noticed() {
    in_own_network("a_file_that_nobody_reports_is_noticed", || {
        let responder = Responder::start(&network(&[]));
        let files = files(&responder);
        files.put("n1", HOST, &far(false, "far", "10.0.1.2")).unwrap();
        soon("the name answers", || ask("far.foo.io") == (0, 1));
        files.put("n1", HOST, &far(false, "farther", "10.0.1.2")).unwrap();
        soon("the new name answers", || ask("farther.foo.io") == (0, 1));
        files.remove_network("n1").unwrap();
        soon("no name answers", || ask("farther.foo.io") == (3, 0));
    });
}

/// O-043
#[test]
fn a_responder_that_starts_again_has_them_and_a_bad_file_stops_nothing() {
    in_own_network("a_responder_that_starts_again_has_them_and_a_bad_file_stops_nothing", || {
        let mut responder = Responder::start(&network(&[]));
        let files = files(&responder);
        files.put("n1", HOST, &far(false, "far", "10.0.1.2")).unwrap();
        let bad = responder.state_dir.remote_dir("n1").join("00000000000000bb.json");
        fs::write(&bad, "{").unwrap();
        responder.child.kill().unwrap();
        responder.child.wait().unwrap();
        assert!(!files.sync("n1").unwrap(), "there is no responder");
        let (child, line) = spawn(&responder.state_dir, "60");
        responder.child = child;
        assert_eq!((line.as_str(), ask("far.foo.io"), ask("web.foo.io")), ("ok", (0, 1), (0, 1)));
        assert!(bad.exists());
    });
}

/// The network's first local container comes after the names of others.
#[test]
fn a_network_that_comes_later_has_them() {
    in_own_network("a_network_that_comes_later_has_them", || {
        let responder = Responder::start(&network(&[]));
        let files = files(&responder);
        files.put("n2", HOST, &far(false, "far", "10.0.1.2")).unwrap();
        assert!(files.sync("n2").unwrap());
        assert_eq!(ask("far.bar.io"), (5, 0), "nobody knows the network");
        let n2 = Network {
            name: "n2".into(),
            listen: vec!["127.0.2.1".parse().unwrap()],
            domain: Some("bar.io".into()),
            ..network(&[])
        };
        responder.state_dir.put_network(&n2).unwrap();
        let record = record::Attachment { network: "n2".into(), ..attachment("c2", "near", "10.0.0.9") };
        responder.state_dir.put_attachment(&record).unwrap();
        let request = dns::control::ControlRequest::Sync { network: "n2".into(), key: Some(key("c2")) };
        assert_eq!(responder.control().ask(&request).unwrap().error, None);
        assert_eq!((ask_at("127.0.2.1:53", "far.bar.io"), ask("far.foo.io")), ((0, 1), (3, 0)));
    });
}

/// D-061: records that were removed are written again from the responder's memory.
#[test]
fn removed_files_are_restored_with_the_records() {
    in_own_network("removed_files_are_restored_with_the_records", || {
        let responder = Responder::start(&network(&[]));
        let files = files(&responder);
        let names = far(true, "far", "10.0.1.2");
        files.put("n1", HOST, &names).unwrap();
        assert!(files.sync("n1").unwrap());
        fs::remove_dir_all(responder.state_dir.networks_dir()).unwrap();
        assert_eq!(files.put("n1", HOST, &far(false, "new", "10.0.1.3")).unwrap(), Put::Later);
        assert!(!files.sync("n1").unwrap());
        let lock = responder.state_dir.lock().unwrap();
        restore::restore(&responder.state_dir).unwrap();
        drop(lock);
        assert_eq!(files.put("n1", HOST, &names).unwrap(), Put::Same);
        assert!(files.sync("n1").unwrap());
        assert_eq!((ask("far.foo.io"), ask("web.foo.io")), ((0, 1), (0, 1)));
    });
}
