//! Records and kernel in one table, with a kernel that is made up. The namespace of the containers
//! is this process's own: its path is the only one that leads to a namespace here.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use ipnetwork::IpNetwork;
use netlink::{Address, Link, Mac, OperState};
use runtime::{Attachment as Parameters, Record};
use serde_json::json;

use super::records::Recorded;
use super::*;

const PATH: &str = "/proc/self/ns/net";
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn link(index: u32, name: &str, peer: Option<(i32, u32)>) -> Link {
    Link {
        index,
        name: name.into(),
        mac: None,
        permanent_mac: None,
        mtu: 1500,
        flags: 0,
        promiscuity: 0,
        queue_length: 0,
        oper_state: OperState::Up,
        master: None,
        kind: Some("veth".into()),
        peer_index: peer.map(|(_, index)| index),
        peer_netns_id: peer.map(|(number, _)| number),
        alias: None,
        group: 0,
        makes_link_local: false,
        port: None,
        bridge: None,
        macvlan: None,
        ipvlan: None,
        vlan: None,
        tun: None,
        vrf_table: None,
        vxlan: None,
    }
}

fn address(index: u32, text: &str) -> Address {
    let net: IpNetwork = text.parse().unwrap();
    Address { index, net, flags: 0, scope: 0, marked: false }
}

/// A host with a veth, index 7, whose other end is index 2 of the namespace of number 5.
fn model(inside: &str) -> Model {
    let meta = fs::metadata(PATH).unwrap();
    let own = NamespaceId { device: meta.dev(), inode: meta.ino() };
    let host = Host {
        id: Some(NamespaceId { inode: 1, ..own }),
        links: vec![link(7, "veth7", Some((5, 2)))],
        addresses: Vec::new(),
    };
    let mut kernel = Kernel::default();
    kernel.set_host(host);
    kernel.add(Namespace {
        id: Some(own),
        number: Some(5),
        host_number: Some(0),
        links: vec![Link { mac: Some(MAC), ..link(2, inside, Some((0, 7))) }],
        addresses: vec![address(2, "10.1.2.3/24")],
        ..Namespace::default()
    });
    Model { kernel, is_whole: true, ..Model::default() }
}

fn recorded(id: &str, path: Option<&str>, mac: Mac, ip: &str) -> Recorded {
    let mut attachment = Parameters::new(id, path.map(ToOwned::to_owned), "eth0");
    attachment.args = vec![("K8S_POD_NAME".into(), format!("name-{id}"))];
    let result = json!({"interfaces": [{"name": "veth7"}, {"name": "eth0", "mac": mac.to_string(),
        "sandbox": "/run/netns/none-of-this-name"}], "ips": [{"address": ip, "interface": 1}]});
    let record = Record { network: "front".into(), attachment, config: Vec::new(), result: Some(result) };
    Recorded { record, file: "/r".into(), at: None }
}

fn judged(mut model: Model, records: Vec<Recorded>) -> Model {
    model.judge(&Networks::default(), records);
    model
}

#[test]
fn record_and_kernel_agree_or_the_differences_are_named() {
    let up = judged(model("eth0"), vec![recorded("c1", Some(PATH), MAC, "10.1.2.3/24")]);
    let one = &up.attachments[0];
    assert_eq!((one.state, one.host_link.as_deref(), one.host_ifindex), (State::Up, Some("veth7"), Some(7)));
    assert_eq!(one.addresses, ["10.1.2.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(up.attachments.len(), 1, "the link is not unrecorded too");

    // The path is by a pid: one difference is one, two are another container's.
    let drift = judged(model("renamed"), vec![recorded("c1", Some(PATH), MAC, "10.1.2.3/24")]);
    let one = &drift.attachments[0];
    assert_eq!((one.state, one.drift[0].what, one.host_ifindex), (State::Drift, "link", Some(7)));
    let other = judged(model("eth0"), vec![recorded("c1", Some(PATH), Mac([2; 6]), "10.9.9.9/24")]);
    assert_eq!(other.attachments[1].state, State::Unknown);
}

#[test]
fn what_is_not_there_is_gone_only_where_everything_was_looked_at() {
    let gone = || vec![recorded("c1", Some("/run/netns/none-of-this-name"), Mac([2; 6]), "10.9.9.9/24")];
    let of = |model: Model| model.attachments.iter().find(|one| one.container_id == "c1").unwrap().state;
    assert_eq!(of(judged(model("eth0"), gone())), State::Gone);
    assert_eq!(of(judged(Model { is_whole: false, ..model("eth0") }, gone())), State::Unknown);
    assert_eq!(
        of(judged(model("eth0"), vec![recorded("c1", Some("/dev/null"), Mac([2; 6]), "10.9.9.9/24")])),
        State::Gone
    );
    let mut blind = model("eth0");
    blind.kernel.namespaces[0].fault = Some("no right".into());
    let blind = judged(blind, vec![recorded("c1", Some(PATH), MAC, "10.1.2.3/24")]);
    assert_eq!(of(blind), State::Unknown);
}

#[test]
fn a_namespace_without_its_path_is_found_by_its_link() {
    let held = judged(model("eth0"), vec![recorded("c1", None, MAC, "10.1.2.3/24")]);
    assert_eq!(held.attachments.len(), 1);
    assert_eq!((held.attachments[0].state, held.attachments[0].namespace), (State::Up, Some(0)));
}

#[test]
fn a_link_that_no_record_names_is_unrecorded_and_its_label_names_it() {
    let mut labelled = model("eth0");
    let mut host = Host { id: labelled.kernel.host.id, ..Host::default() };
    host.links = vec![Link { alias: Some("moor/back/eth0/c9".into()), ..link(7, "veth7", Some((5, 2))) }];
    labelled.kernel.set_host(host);
    let one = &judged(labelled, Vec::new()).attachments[0];
    assert_eq!(
        (one.state, one.network.as_str(), one.container_id.as_str()),
        (State::Unrecorded, "back", "c9")
    );
}

#[test]
fn a_container_is_resolved_by_name_then_by_the_beginning_of_its_id() {
    let gone = |id: &str| recorded(id, Some("/run/netns/none-of-this-name"), Mac([2; 6]), "10.9.9.9/24");
    let model = judged(model("eth0"), vec![gone("abc1"), gone("abc2"), gone("abc"), gone("ns-4d26")]);
    let of = |text: &str| model.resolve(text).map(|found| found[0].container_id.clone());
    assert_eq!(of("name-abc1").unwrap(), "abc1");
    assert_eq!(of("abc").unwrap(), "abc", "exact before the beginning");
    assert_eq!(of("4d2").unwrap(), "ns-4d26");
    assert!(of("ab").unwrap_err().text.contains("no attachment"), "too short");
    let ambiguous = of("abc0").and(of("name-abc9")).unwrap_err();
    assert_eq!(ambiguous.exit, Exit::Found);
    let several = model.resolve("ns-").map(|found| found.len());
    assert_eq!(several.unwrap(), 1);
    let candidates = judged(Model::default(), vec![gone("abc1"), gone("abc2")]);
    let failure = candidates.resolve("abc").unwrap_err();
    assert!(failure.text.contains("2 containers") && failure.hint.unwrap().contains("name-abc2"));
}
