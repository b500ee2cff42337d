//! Fifteen faults and more, each seeded into a sane host: it is found, alone, with its fix.

use std::collections::BTreeSet;
use std::path::PathBuf;

use host::rules::{ForeignChain, Way};
use nft::Family;

use cluster::control::Status as ClusterStatus;

use super::facts::*;
use super::finding::Status;
use super::*;
use crate::output::Note;
use crate::overlay::Asked;

fn sane() -> Facts {
    let bridge = LinkFacts { name: "br0".into(), kind: "bridge".into(), mtu: 1500, master: None };
    let port = LinkFacts { name: "veth1".into(), kind: "veth".into(), mtu: 1500, master: Some("br0".into()) };
    let uplink = LinkFacts { name: "eth0".into(), mtu: 1500, ..LinkFacts::default() };
    let network = NetworkFacts {
        name: "front".into(),
        file: "/etc/cni/net.d/moor-front.conflist".into(),
        types: ["bridge", "portmap", "dns", "host-local"].map(str::to_owned).to_vec(),
        bridge: Some("br0".into()),
        subnets: vec!["10.90.1.0/24".parse().unwrap(), "fd00:90::/64".parse().unwrap()],
        gateways: vec!["10.90.1.1".parse().unwrap(), "fd00:90::1".parse().unwrap()],
        routed: true,
        ranges: vec![RangeFacts { text: "10.90.1.0/24".into(), size: 253, used: 2 }],
        ..NetworkFacts::default()
    };
    let plugin = |name: &str| PluginFacts {
        name: name.into(),
        networks: vec!["front".into()],
        found: vec![Copy {
            path: format!("/opt/cni/bin/{name}").into(),
            executable: true,
            suite: "Moor's",
            ..Copy::default()
        }],
        path: vec!["/opt/cni/bin".into()],
        ..PluginFacts::default()
    };
    let values = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/all/disable_ipv6", "0"),
        ("net/ipv6/conf/eth0/accept_ra", "2"),
        ("net/ipv4/conf/br0/forwarding", "1"),
        ("user/max_net_namespaces", "60000"),
    ];
    Facts {
        release: "6.1.0".into(),
        features: kernel::modules().map(|module| (module, Has::Yes)).collect(),
        sysctls: values.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        links: vec![bridge, port, uplink],
        routes: vec![("192.168.1.0/24".parse().unwrap(), "eth0".into())],
        uplinks: vec!["eth0".into()],
        advertised: vec!["eth0".into()],
        chains: Some(Vec::new()),
        conntrack: Some(Conntrack { count: 10, max: 1000, ..Conntrack::default() }),
        networks: vec![network],
        first_file: Some("/etc/cni/net.d/moor-front.conflist".into()),
        plugins: vec![plugin("bridge"), plugin("dns")],
        name_servers: vec!["9.9.9.9".parse().unwrap()],
        responder: Some(true),
        files: Some((100, 1000)),
        ..Facts::default()
    }
}

fn set(facts: &mut Facts, key: &str, value: &str) {
    facts.sysctls.insert(key.into(), value.into());
}

fn chain(family: Family, table: &str, name: &str, drops: bool) -> ForeignChain {
    ForeignChain {
        family,
        table: table.into(),
        name: name.into(),
        kind: "filter".into(),
        hook: 2,
        priority: 0,
        drops,
        closed: true,
        accepts: BTreeSet::new(),
        comments: BTreeSet::new(),
        leads_to: BTreeSet::new(),
    }
}

fn drop_of_nftables(facts: &mut Facts) {
    facts.chains = Some(vec![chain(Family::Inet, "own", "forward", true)]);
}

fn drop_of_iptables(facts: &mut Facts) {
    let mut docker = chain(Family::Ip, "filter", "FORWARD", true);
    docker.leads_to.insert("DOCKER-USER".into());
    facts.chains = Some(vec![docker]);
}

fn reject_of_firewalld(facts: &mut Facts) {
    facts.chains = Some(vec![chain(Family::Inet, "firewalld", "filter_FORWARD", false)]);
}

fn broken_first_file(facts: &mut Facts) {
    let file = PathBuf::from("/etc/cni/net.d/00-a.conflist");
    facts.unreadable = vec![Note::about("unreadable", &file, "expected value")];
    facts.first_file = Some(file);
}

fn overlap(facts: &mut Facts) {
    let mut other = facts.networks[0].clone();
    other.name = "back".into();
    other.bridge = Some("br1".into());
    facts.networks.push(other);
}

fn strict_source_check(facts: &mut Facts) {
    facts.networks.push(NetworkFacts {
        name: "lan".into(),
        types: vec!["ipvlan".into()],
        master: Some("eth0".into()),
        host_access: true,
        ..NetworkFacts::default()
    });
    set(facts, "net/ipv4/conf/eth0/rp_filter", "1");
}

fn port_taken(facts: &mut Facts) {
    let who = "dnsmasq, pid 812".into();
    facts.port53 = vec![Listener { address: "0.0.0.0".parse().unwrap(), protocol: "udp", who }];
}

fn lacks(facts: &mut Facts, veth: Has) {
    facts.features.insert("veth", veth);
}

fn plugin(facts: &mut Facts, change: impl Fn(&mut PluginFacts)) {
    change(&mut facts.plugins[0]);
}

/// Id, status, a piece of the fix (or of the evidence), and the fault.
type Fault = (&'static str, Status, &'static str, fn(&mut Facts));

const FAULTS: [Fault; 40] = [
    ("kernel", Status::Fail, "modprobe veth", |f| lacks(f, Has::No)),
    ("kernel", Status::Unknown, "", |f| lacks(f, Has::Unknown)),
    ("forwarding", Status::Fail, "sysctl -w net/ipv4/ip_forward=1", |f| set(f, "net/ipv4/ip_forward", "0")),
    ("forwarding", Status::Fail, "net/ipv6/conf/all/forwarding=1", |f| {
        set(f, "net/ipv6/conf/all/forwarding", "0");
    }),
    ("forwarding", Status::Fail, "net/ipv6/conf/eth0/accept_ra=2", |f| {
        set(f, "net/ipv6/conf/eth0/accept_ra", "1");
    }),
    ("filter", Status::Fail, "nft insert rule inet own forward iifname br0 accept", drop_of_nftables),
    ("filter", Status::Fail, "iptables -I DOCKER-USER -i br0 -j ACCEPT", drop_of_iptables),
    ("filter", Status::Fail, "inet firewalld filter_FORWARD oifname br0", reject_of_firewalld),
    ("filter", Status::Unknown, "", |f| f.legacy_tables.push("ip filter".into())),
    ("bridge", Status::Warn, "modprobe br_netfilter", |f| f.signs.kubernetes = true),
    ("bridge", Status::Warn, "bridge-nf-call-iptables=0", |f| {
        f.networks[0].hairpin = true;
        set(f, "net/bridge/bridge-nf-call-iptables", "1");
    }),
    ("rp_filter", Status::Fail, "net/ipv4/conf/eth0/rp_filter=2", strict_source_check),
    ("conntrack", Status::Fail, "nf_conntrack_max=2000", |f| {
        f.conntrack = Some(Conntrack { count: 950, max: 1000, ..Conntrack::default() });
    }),
    ("mtu", Status::Warn, "ip link set dev br0 mtu 1400", |f| f.links[2].mtu = 1400),
    ("ipv6", Status::Fail, "net/ipv6/conf/all/disable_ipv6=0", |f| {
        set(f, "net/ipv6/conf/all/disable_ipv6", "1");
    }),
    ("addresses", Status::Warn, "moor network rm back", overlap),
    ("addresses", Status::Fail, "moor network rm front", |f| {
        f.routes.push(("10.90.0.0/16".parse().unwrap(), "tun0".into()));
    }),
    ("addresses", Status::Fail, "", |f| {
        f.twice = vec![("10.90.1.2".parse().unwrap(), vec!["a".into(), "b".into()])];
    }),
    ("files", Status::Fail, "mv /etc/cni/net.d/00-a.conflist", broken_first_file),
    ("files", Status::Warn, "", |f| f.signs.podman_cni = true),
    ("files", Status::Warn, "moor-reapply@firewalld.service", |f| f.signs.firewalld = true),
    ("plugins", Status::Fail, "ln -s /usr/lib/cni/bridge /opt/cni/bin/bridge", |f| {
        plugin(f, |p| (p.found, p.elsewhere) = (Vec::new(), Some("/usr/lib/cni/bridge".into())));
    }),
    ("plugins", Status::Fail, "chmod +x /opt/cni/bin/bridge", |f| {
        plugin(f, |p| p.found[0].executable = false);
    }),
    ("plugins", Status::Fail, "mount -o remount,exec /opt", |f| {
        plugin(f, |p| p.found[0].noexec = Some("/opt".into()));
    }),
    ("plugins", Status::Warn, "", |f| {
        plugin(f, |p| p.found.push(Copy { digest: 1, ..p.found[0].clone() }));
    }),
    ("ranges", Status::Warn, "moor gc --fix front", |f| f.networks[0].ranges[0].used = 240),
    ("ranges", Status::Fail, "fs/file-max=2000", |f| f.files = Some((950, 1000))),
    ("dns", Status::Fail, "set \"port\"", port_taken),
    ("dns", Status::Fail, "moor check --fix", |f| f.responder = Some(false)),
    ("overlay", Status::Fail, "there is no such file", |f| {
        overlay(f).unusable = Some("/etc/moor/cluster.json: there is no such file".into());
    }),
    ("overlay", Status::Warn, "https://192.0.2.2:2379: refused", |f| {
        overlay(f).members[1].1 = Some("refused".into());
    }),
    ("overlay", Status::Fail, "https://192.0.2.1:2379: refused", |f| {
        overlay(f).members.iter_mut().for_each(|member| member.1 = Some("refused".into()));
    }),
    ("overlay", Status::Warn, "in 13 days", |f| overlay(f).credentials[0].state = Ok(Some(13 * 86_400 + 9))),
    ("overlay", Status::Fail, "2 days ago", |f| overlay(f).credentials[0].state = Ok(Some(-2 * 86_400 - 9))),
    ("overlay", Status::Fail, "No such file", |f| {
        overlay(f).credentials[0].state = Err("No such file or directory".into());
    }),
    ("overlay", Status::Fail, "moor check --fix", |f| overlay(f).agent = Asked::Absent),
    ("overlay", Status::Fail, "no answer", |f| overlay(f).agent = Asked::Silent("no answer".into())),
    ("overlay", Status::Warn, "database space exceeded", |f| {
        status(f).away = Some("etcd: database space exceeded".into());
    }),
    ("overlay", Status::Fail, "socat, pid 7", |f| overlay(f).port_taken = Some("socat, pid 7".into())),
    ("overlay", Status::Warn, "MTU 1460 of the network above 1450", |f| {
        f.addresses.push(("eth0".into(), "192.0.2.11/24".parse().unwrap()));
        overlay(f).networks[0].1 = 1460;
        status(f).addresses = vec!["192.0.2.11".parse().unwrap()];
    }),
];

/// A host of a cluster, without a fault.
fn overlay(facts: &mut Facts) -> &mut OverlayFacts {
    let members = ["192.0.2.1", "192.0.2.2"].map(|ip| (format!("https://{ip}:2379"), None));
    let credential =
        Credential { key: "cert", path: "/etc/moor/host.pem".into(), state: Ok(Some(90 * 86_400)) };
    facts.overlay.get_or_insert(OverlayFacts {
        conflists: vec!["wide".into()],
        members: members.into(),
        credentials: vec![credential],
        agent: Asked::Answered(Box::default()),
        attached: 1,
        networks: vec![("wide".into(), 1450, false)],
        port: 4789,
        ..OverlayFacts::default()
    })
}

fn status(facts: &mut Facts) -> &mut ClusterStatus {
    match &mut overlay(facts).agent {
        Asked::Answered(status) => status,
        _ => panic!("the agent answered"),
    }
}

#[test]
fn a_sane_host_of_a_cluster_has_no_fault() {
    let mut facts = sane();
    facts.addresses.push(("eth0".into(), "192.0.2.11/24".parse().unwrap()));
    status(&mut facts).addresses = vec!["192.0.2.11".parse().unwrap()];
    let findings = judge(&facts);
    assert!(findings.iter().all(|finding| finding.status == Status::Ok), "{findings:#?}");
    overlay(&mut facts).vmware = true;
    status(&mut facts).faults = vec!["identity used twice".into()];
    status(&mut facts).warnings = vec!["the database of etcd is beyond half of its quota".into()];
    let found: Vec<_> = judge(&facts).into_iter().filter(|finding| finding.status != Status::Ok).collect();
    assert_eq!(
        found.iter().map(|one| one.status).collect::<Vec<_>>(),
        [Status::Fail, Status::Warn, Status::Warn]
    );
    // Without an attachment the agent need not run.
    (overlay(&mut facts).vmware, overlay(&mut facts).attached) = (false, 0);
    overlay(&mut facts).agent = Asked::Absent;
    assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
}

#[test]
fn a_sane_host_has_no_fault() {
    let findings = judge(&sane());
    assert!(findings.iter().all(|finding| finding.status == Status::Ok), "{findings:#?}");
    assert_eq!(exit(&findings), Exit::Done);
    let ids: BTreeSet<_> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(ids.len(), JUDGES.len(), "each judgement reports: {ids:?}");
}

/// T-085
#[test]
fn each_seeded_fault_is_found_with_its_fix_and_nothing_else_is() {
    for (index, (id, status, fix, seed)) in FAULTS.into_iter().enumerate() {
        let mut facts = sane();
        seed(&mut facts);
        let findings: Vec<_> =
            judge(&facts).into_iter().filter(|finding| finding.status != Status::Ok).collect();
        assert!(!findings.is_empty(), "fault {index} of {id} is not found");
        assert!(findings.iter().all(|finding| finding.id == id), "fault {index}: {findings:#?}");
        assert!(findings.iter().any(|finding| finding.status == status), "fault {index}: {findings:#?}");
        let mut hints = findings.iter().flat_map(|finding| finding.fix.iter().chain(&finding.evidence));
        assert!(hints.any(|hint| hint.contains(fix)), "fault {index}: {findings:#?}");
    }
}

#[test]
fn a_filter_that_lets_the_network_through_is_no_fault() {
    let mut facts = sane();
    let mut open = chain(Family::Inet, "own", "forward", true);
    open.accepts = [(Way::In, "br*".to_owned()), (Way::Out, "br0".to_owned())].into();
    let mut labelled = chain(Family::Ip, "filter", "FORWARD", true);
    labelled.comments.insert("moor/front".into());
    facts.chains = Some(vec![open, labelled]);
    assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
}

#[test]
fn forwarding_that_the_first_add_turns_on_is_no_fault() {
    let mut facts = sane();
    facts.links.retain(|link| link.name == "eth0");
    set(&mut facts, "net/ipv4/ip_forward", "0");
    assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
}

#[test]
fn a_fault_ends_with_1_and_an_open_question_with_3() {
    assert_eq!(exit(&[Finding::fail("a", ""), Finding::unknown("b", "")]), Exit::Found);
    assert_eq!(exit(&[Finding::warn("a", ""), Finding::unknown("b", "")]), Exit::Incomplete);
    assert_eq!(exit(&[Finding::warn("a", "")]), Exit::Done);
}
