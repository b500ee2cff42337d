use super::*;
use crate::model::{Drift, Port, State};
use crate::output::Note;

fn attachment(network: &str, runtime: &str, state: State) -> Attachment {
    Attachment {
        network: network.into(),
        runtime: Some(runtime.into()).filter(|runtime: &String| !runtime.is_empty()),
        state,
        ..Attachment::default()
    }
}

fn text(model: &Model) -> String {
    let facts = Facts { networks: &Networks::default(), model, leases: &[], conntrack: Some((3, 100)) };
    facts.text(false).0
}

#[test]
fn attachments_are_counted_by_network_runtime_and_state() {
    let port = Port { host_ip: None, host_port: 80, container_port: 80, protocol: "tcp".into() };
    let mut web = attachment("front", "podman", State::Up);
    (web.ports, web.names) = (vec![port], vec!["web".into(), "www".into()]);
    let mut gone = attachment("front", "", State::Gone);
    (gone.names, gone.drift) = (vec!["x".into()], Vec::new());
    let attachments = vec![web, attachment("front", "podman", State::Up), gone];
    let text = text(&Model { attachments, ..Model::default() });
    for line in [
        "moor_attachments{network=\"front\",runtime=\"\",state=\"gone\"} 1",
        "moor_attachments{network=\"front\",runtime=\"podman\",state=\"up\"} 2",
        "moor_published_ports 1",
        "moor_names 2",
        "moor_check_drift 0",
        "moor_conflists{state=\"read\"} 0",
        "moor_conntrack_used 3",
        "moor_conntrack_max 100",
        "moor_scrape_complete 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn what_could_not_be_seen_makes_the_scrape_incomplete() {
    let mut model = Model { notes: vec![Note::new("root", "needs root")], ..Model::default() };
    model.attachments = vec![attachment("front", "podman", State::Drift)];
    model.attachments[0].drift = vec![Drift { what: "mac", expected: "a".into(), actual: "b".into() }];
    let text = text(&model);
    assert!(text.contains("\nmoor_scrape_complete 0\n") && text.contains("\nmoor_check_drift 1\n"));
}

#[test]
fn a_file_is_replaced_by_rename_and_everyone_may_read_it() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt as _};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("moor.prom");
    write(&file, "one\n").unwrap();
    let before = fs::metadata(&file).unwrap();
    write(&file, "two\n").unwrap();
    let after = fs::metadata(&file).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "two\n");
    assert_ne!(before.ino(), after.ino());
    assert_eq!(after.permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(write(&dir.path().join("none/x"), "x").is_err());
}
