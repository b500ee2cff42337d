//! Each line of docker's flags gives exactly the conflist of `testdata/tool/create`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use clap::Parser;
use runtime::Conflist;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    create: CreateArgs,
}

const WHOLE: Suite = Suite { firewall: true, dns: true };

fn plan(line: &str) -> Result<Plan, Failure> {
    let words = ["create"].into_iter().chain(line.split_whitespace());
    let mut plan = Plan::of(&Line::try_parse_from(words).unwrap().create.spec()?)?;
    choose(&mut plan, &Host::default(), &Networks::default())?;
    Ok(plan)
}

/// The name of the file, and the line.
const LINES: &[(&str, &str)] = &[
    ("bridge", "front --label team=shop"),
    ("subnets", "front --subnet 10.1.0.0/24 --subnet fd00:1::/64 --gateway fd00:1::9 --gateway 10.1.0.9"),
    ("ip-range", "front --subnet 10.1.0.0/24 --ip-range 10.1.0.128/25"),
    ("ip-range-first-last", "front --subnet 10.1.0.0/24 --ip-range 10.1.0.20-10.1.0.40"),
    ("aux-address", "front --subnet 10.1.0.0/24 --aux-address my-router=10.1.0.5 --aux-address nas=10.1.0.9"),
    ("internal", "back --internal"),
    ("internal-macvlan", "back -d macvlan --internal"),
    ("internal-ipvlan", "back -d ipvlan --internal --subnet 10.2.0.0/24"),
    ("ipv6", "front --ipv6 --subnet fd00:1::/64"),
    ("ipv6-only", "front --subnet fd00:1::/64"),
    ("ipv4-off", "front --ipv4=false --ipv6 --subnet fd00:1::/64"),
    ("ipam-none", "wire --ipam-driver none"),
    ("ipam-none-macvlan", "wire -d macvlan --ipam-driver none -o parent=eth0"),
    ("ipam-dhcp", "lan -d macvlan --ipam-driver dhcp --ipam-opt timeout=30 --ipam-opt ipv6=slaac"),
    ("ipam-dhcp-bridge", "lan --ipam-driver dhcp --interface-name br0"),
    ("ipam-static", "front --ipam-driver static --route 10.9.0.0/16,10.1.0.7"),
    (
        "ipam-opt",
        "front --ipam-opt dataDir=/var/lib/x --ipam-opt reclaim=never --ipam-opt resolvConf=/etc/resolv.conf",
    ),
    ("bridge-name", "front -o com.docker.network.bridge.name=shop0"),
    ("mtu", "front -o com.docker.network.driver.mtu=1400"),
    ("mtu-auto", "front -o mtu=auto"),
    ("no-masquerade", "front -o com.docker.network.bridge.enable_ip_masquerade=false"),
    ("no-icc", "front -o com.docker.network.bridge.enable_icc=false"),
    ("macvlan", "lan -d macvlan --subnet 192.168.1.0/24 --gateway 192.168.1.1 -o parent=eth0"),
    ("macvlan-mode", "lan -d macvlan --subnet 192.168.1.0/24 -o parent=eth0.10 -o macvlan_mode=vepa"),
    ("macvlan-vlan", "lan -d macvlan --subnet 192.168.1.0/24 -o parent=eth0 -o vlan=20 -o mode=private"),
    (
        "macvlan-host",
        "lan -d macvlan --subnet 192.168.1.0/24 -o hostAccess=true -o detectConflict=200 -o cooldown=60",
    ),
    (
        "overlay",
        "front -d overlay --subnet 10.9.0.0/16 --subnet fd00:9::/64 --label team=shop --attachable -o mtu=1400 \
         -o com.docker.network.bridge.enable_ip_masquerade=false --route 10.20.0.0/16,10.9.0.9",
    ),
    (
        "overlay-range",
        "front -d overlay --subnet 10.9.0.0/16 --gateway 10.9.0.9 --ip-range 10.9.4.0/22 \
         --aux-address nas=10.9.4.7 --ipam-opt blockSize=16 -o cooldown=5 -o encrypted",
    ),
    ("overlay-internal", "back -d overlay --internal --subnet 10.9.0.0/16"),
    ("ipvlan", "lan -d ipvlan --subnet 192.168.1.0/24 -o parent=eth0"),
    (
        "ipvlan-l3",
        "lan -d ipvlan --subnet 10.3.0.0/24 -o parent=eth0 -o ipvlan_mode=l3 -o ipvlan_flag=private",
    ),
    ("vlan", "front -o vlan=10"),
    ("vlan-trunk", "front -o vlanTrunk=1-5,7"),
    ("isolate-off", "front -o isolate=false"),
    ("disable-dns", "front --disable-dns"),
    ("dns", "front --dns 9.9.9.9 --dns 2620:fe::fe -o domain=shop.internal"),
    ("route", "front --route 10.9.0.0/16,10.90.0.7 --route 10.8.0.0/16,10.90.0.8,50"),
    ("default-route", "front --route 0.0.0.0/0,10.90.0.7"),
    ("attachable", "front --attachable"),
    ("for-nerdctl", "front --for nerdctl --label team=shop"),
];

#[test]
fn each_flag_of_docker_gives_exactly_its_conflist() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tool/create");
    let bless = std::env::var_os("BLESS").is_some();
    for (name, line) in LINES {
        let plan = plan(line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
        let text = String::from_utf8(conflist::text(&plan, WHOLE)).unwrap();
        let path = dir.join(format!("{name}.conflist"));
        if bless {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, expected, "moor network create {line}: {}", path.display());
        let list = Conflist::from_bytes(text.as_bytes()).unwrap();
        assert_eq!((list.name.as_str(), list.version.as_str()), (plan.name.as_str(), "1.1.0"), "{line}");
        assert_eq!(subnets::of(&list), plan.subnets, "{line}");
    }
    let files = std::fs::read_dir(&dir).unwrap().count();
    assert_eq!(files, LINES.len(), "a file without a line");
}

#[test]
fn contradictions_and_unknown_words_are_refused_in_words() {
    for (line, why) in [
        ("front -d overlay --ipam-driver host-local", "has its addresses from cluster"),
        ("front --ipam-driver cluster", "is for driver overlay"),
        ("front -d overlay --subnet 10.1.0.0/16 --subnet 10.2.0.0/16", "one subnet of a family"),
        ("front -d overlay --subnet 10.1.0.0/30", "/8 to /29"),
        ("front -d overlay --subnet fd00::/24", "/32 to /120"),
        ("front -d overlay -o parent=eth0", "overlay has none"),
        ("front -d overlay -o vlan=5", "overlay has none"),
        ("front -d overlay -o mtu=500", "576 to 65485"),
        ("front -d overlay -o com.docker.network.driver.overlay.vxlanid_list=256", "gives the ids"),
        ("front -d overlay --aux-address nas=10.1.0.1", "needs the --subnet"),
        ("front -o encrypted", "bridge has none"),
        ("front -d host", "no network of their own"),
        ("front -d brigde", "unknown driver"),
        ("none", "no network of its own"),
        ("../x", "bad name"),
        ("a/b", "bad name"),
        ("front --gateway 10.1.0.1", "needs --subnet"),
        ("front --subnet 10.1.0.0/24 --gateway 10.2.0.1", "in none of the subnets"),
        ("front --subnet 10.1.0.0/24 --subnet 10.1.0.0/25", "overlap"),
        ("front --ipv4=false", "no family"),
        ("front --ipv4=false --subnet 10.1.0.0/24", "a subnet of this family"),
        ("front --ipam-driver dhcp --subnet 10.1.0.0/24", "takes no subnets"),
        ("front -d ipvlan --ipam-driver none", "needs addresses"),
        ("front --internal -d macvlan -o parent=eth0", "no parent"),
        ("front -o parent=eth0", "bridge has none"),
        ("front -d macvlan -o icc=false", "macvlan has none"),
        ("front -o com.docker.network.bridge.host_binding_ipv4=10.0.0.1", "-p IP"),
        ("front -o com.docker.network.container_iface_prefix=net", "the runtime names interfaces"),
        ("front -d macvlan -o bclim=5", "not the same"),
        ("front -d macvlan -o mode=l2", "none of bridge"),
        ("front -o mtu=9", "not a number"),
        ("front -o vlan=10 -o bridge=a-longer-name", "longer than 15 bytes"),
        ("front -o mtuu=1400", "unknown option"),
        ("front --interface-name a -o com.docker.network.bridge.name=b", "given twice"),
        ("front --disable-dns -o domain=x", "by --disable-dns"),
        ("front --ipam-opt nope=1", "unknown option"),
        ("front --route 10.0.0.0/8", "expected DESTINATION"),
        ("front --route 10.0.0.0/8,fd00::1", "different families"),
    ] {
        match plan(line) {
            Err(failure) => assert!(failure.to_string().contains(why), "{line}: {failure}"),
            Ok(plan) => assert!(why.is_empty(), "{line}: {plan:?}"),
        }
    }
    let name = "a".repeat(201);
    assert!(plan(&name).unwrap_err().text.len() < 200);
}

#[test]
fn swarms_flags_are_a_wrong_command_line() {
    for flag in ["--config-only", "--ingress", "--scope=swarm", "--config-from=x"] {
        let failure = plan(&format!("front {flag}")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.text.contains("Swarm"), "{failure}");
    }
}

#[test]
fn a_list_without_optional_plugins_has_none_of_them() {
    let plan = plan("front").unwrap();
    let list = Conflist::from_bytes(&conflist::text(&plan, Suite::default())).unwrap();
    let types: Vec<_> = list.plugins.iter().map(|plugin| plugin.plugin_type.as_str()).collect();
    assert_eq!(types, ["bridge", "portmap"]);
}
