//! Plans, without root or kernel.

use cni::{AddResult, Request, Version, testing};

use crate::config::Config;
use crate::plan::{self, Arrival, Facts, Plan};
use crate::record::Mode;

const BRIDGE: &str = r#"{"cniVersion":"1.1.0",
    "interfaces":[{"name":"br0"},{"name":"veth1"},{"name":"eth0","sandbox":"/run/netns/c1"}],
    "ips":[{"interface":2,"address":"10.1.2.3/24","gateway":"10.1.2.1"},
           {"interface":2,"address":"fd00::3/64","gateway":"fd00::1"}],
    "dns":{"nameservers":["9.9.9.9"],"search":["here"],"options":["ndots:1"]}}"#;
const MACVLAN: &str = r#"{"cniVersion":"1.1.0",
    "interfaces":[{"name":"eth0","sandbox":"/run/netns/c1"}],
    "ips":[{"interface":0,"address":"192.0.2.7/24","gateway":"192.0.2.1"}]}"#;

fn request(keys: &str) -> Request {
    testing::add_with("dns", keys, "K8S_POD_NAME=web")
}

fn result(text: &str) -> AddResult {
    AddResult::parse(text.as_bytes(), Version::NEWEST).unwrap()
}

fn bridge_facts() -> Facts {
    Facts {
        addresses: vec!["10.1.2.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        arrival: Some(Arrival { link: "br0".into(), own: false }),
    }
}

fn planned(keys: &str, text: &str, facts: &Facts) -> Result<Plan, cni::Error> {
    let request = request(keys);
    plan::plan(&Config::of(&request).unwrap(), &request, &result(text), facts)
}

/// The gateways that the host has.
#[test]
fn containers_query_a_gateway_that_is_the_hosts() {
    let Plan { network, attachment } =
        planned(r#""domainName":"Example.Org""#, BRIDGE, &bridge_facts()).unwrap();
    assert_eq!((network.mode, network.listen.len(), network.port), (Mode::Gateway, 2, 53));
    assert_eq!(
        network.subnets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.1.2.0/24", "fd00::/64"]
    );
    assert_eq!((network.ingress, network.domain.as_deref()), (vec!["br0".to_owned()], Some("example.org")));
    assert_eq!(attachment.names, ["web", "c1"]);
    assert_eq!(attachment.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.2.3", "fd00::3"]);
    assert_eq!((attachment.netns, attachment.ingress), (None, None));
}

/// ptp: the link leads to one container, and is removed with it.
#[test]
fn a_link_to_one_container_is_in_its_own_record() {
    let facts = Facts { arrival: Some(Arrival { link: "veth1".into(), own: true }), ..bridge_facts() };
    let plan = planned("", BRIDGE, &facts).unwrap();
    assert_eq!((plan.network.ingress.len(), plan.attachment.ingress.as_deref()), (0, Some("veth1")));
}

/// D-073
#[test]
fn containers_without_a_gateway_on_the_host_query_their_own_namespace() {
    let Plan { network, attachment } = planned("", MACVLAN, &Facts::default()).unwrap();
    assert_eq!((network.mode, network.listen.len(), network.ingress.len()), (Mode::Netns, 0, 0));
    assert_eq!(attachment.netns.as_deref(), Some("/run/netns/c1"));
    let forced = planned(r#""mode":"netns""#, BRIDGE, &bridge_facts()).unwrap();
    assert_eq!((forced.network.mode, forced.network.listen.len()), (Mode::Netns, 0));
    assert_eq!(planned(r#""mode":"gateway""#, MACVLAN, &Facts::default()).unwrap_err().code, 7);
    // A child cannot reach its parent, though the gateway may be the parent's address.
    assert!(plan::gateways(&result(MACVLAN)).is_empty());
    assert_eq!(plan::gateways(&result(BRIDGE)).len(), 2);
}

/// D-010
#[test]
fn a_result_without_a_container_address_is_an_error() {
    for odd in [
        r#"{"cniVersion":"1.1.0"}"#,
        r#"{"cniVersion":"1.1.0","interfaces":[{"name":"br0"}]}"#,
        r#"{"cniVersion":"1.1.0","interfaces":[],"ips":[]}"#,
        r#"{"cniVersion":"1.1.0","ips":[{"interface":0,"address":"10.1.2.3/24"}]}"#,
        r#"{"cniVersion":"1.1.0","interfaces":[{"name":"br0"}],"ips":[{"interface":7,"address":"10.1.2.3/24"}]}"#,
        r#"{"cniVersion":"1.1.0","interfaces":[{"name":"br0"}],"ips":[{"interface":0,"address":"10.1.2.3/24"}]}"#,
    ] {
        assert_eq!(planned("", odd, &Facts::default()).unwrap_err().code, 7, "{odd}");
    }
    let bare = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"}]}"#;
    assert_eq!(planned("", bare, &bridge_facts()).unwrap().attachment.ips.len(), 1);
}

/// D-011
#[test]
fn the_result_has_our_servers_first_and_the_domain_once() {
    let servers = ["10.1.2.1".parse().unwrap()];
    let answer = |keys: &str, text: &str| {
        plan::with_name_servers(&Config::of(&request(keys)).unwrap(), result(text), &servers)
    };
    let plain = answer("", BRIDGE);
    assert_eq!(plain.dns.nameservers, ["10.1.2.1", "9.9.9.9"]);
    assert_eq!((plain.dns.search, plain.dns.options), (vec!["here".to_owned()], vec!["ndots:1".to_owned()]));
    assert_eq!(answer(r#""keepNameservers":false"#, BRIDGE).dns.nameservers, ["10.1.2.1"]);
    let domain = answer(r#""domainName":"HERE""#, BRIDGE);
    assert_eq!(domain.dns.search, ["here"]);
    assert_eq!(answer(r#""domainName":"there""#, BRIDGE).dns.search, ["here", "there"]);
    assert_eq!(answer(r#""domainName":"""#, MACVLAN).dns.search, [""; 0]);
    let AddResult { interfaces, ips, routes, .. } = answer("", BRIDGE);
    let former = result(BRIDGE);
    assert_eq!((interfaces, ips, routes), (former.interfaces, former.ips, former.routes));
}

/// Addresses that other attachments need stay while they are the host's.
#[test]
fn a_network_keeps_what_its_other_attachments_need() {
    let v4 = Facts { addresses: vec!["10.1.2.1".parse().unwrap()], ..bridge_facts() };
    let plan = planned("", BRIDGE, &v4).unwrap();
    let mut former = planned("", BRIDGE, &bridge_facts()).unwrap().network;
    former.listen.push("10.9.9.9".parse().unwrap());
    let gone: std::net::IpAddr = "10.9.9.9".parse().unwrap();
    let joined = plan.merged_with(Some(&former), |ip| ip != gone);
    assert_eq!(joined.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.2.1", "fd00::1"]);
    assert_eq!((&joined.subnets, &joined.ingress), (&former.subnets, &former.ingress));
    assert_eq!(plan.merged_with(None, |_| true), plan.network);
}
