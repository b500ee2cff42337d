//! The permission to ask a resolver, in the chains of other firewalls (D-057).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;

use host::rules::resolver::{self, Permit};
use ipnetwork::IpNetwork;
use nft::Nft;
use sys::network_test;
use sys::testing::run;

/// Everything of nf_tables, but for numbers that change by themselves.
fn ruleset() -> String {
    run("nft --stateless list ruleset")
}

fn addresses() -> [IpAddr; 2] {
    ["10.1.2.1".parse().unwrap(), "fd00::1".parse().unwrap()]
}

fn permit<'a>(network: &'a str, addresses: &'a [IpAddr], links: &'a [String]) -> Permit<'a> {
    Permit { network, addresses, port: 53, links, subnets: &[] }
}

fn count(text: &str, wanted: &str) -> usize {
    text.matches(wanted).count()
}

network_test! {
    fn closed_chains_of_others_get_the_permission_and_are_as_they_were_after_the_last() {
        for command in [
            "nft add table inet fw",
            "nft add chain inet fw input { type filter hook input priority 0 ; policy drop ; }",
            "nft add rule inet fw input iif lo accept",
            "nft add table inet open",
            "nft add chain inet open input { type filter hook input priority 10 ; }",
            "nft add rule inet open input udp dport 53 ip saddr 10.9.9.9 drop",
            "nft add table ip rejecting",
            "nft add chain ip rejecting more",
            "nft add rule ip rejecting more counter reject",
            "nft add chain ip rejecting input { type filter hook input priority 20 ; }",
            "nft add rule ip rejecting input jump more",
            "nft add chain inet fw forward { type filter hook forward priority 0 ; policy drop ; }",
            "iptables -P INPUT DROP",
            "ip6tables -A INPUT -j REJECT",
        ] {
            run(command);
        }
        let (before, listed) = (ruleset(), run("iptables-save -t filter"));
        let (nft, addresses, links) = (Nft::open().unwrap(), addresses(), ["br0".to_owned()]);
        let one = permit("net", &addresses, &links);
        assert_eq!(one.drifts(&nft).unwrap().len(), 4);
        one.add(Some(&nft)).unwrap();
        assert!(one.drifts(&nft).unwrap().is_empty());
        let after = ruleset();
        // Of both families six rules, of IPv4 two, of IPv6 four.
        assert_eq!(count(&after, "comment \"moor/net\""), 6 + 2 + 2 + 4, "{after}");
        assert!(!run("nft list table inet open").contains("moor") && !run("nft list chain inet fw forward").contains("moor"));
        // iptables shows the rules as its own.
        let shown = run("iptables-save -t filter");
        assert!(shown.contains("-A INPUT -d 10.1.2.1/32 -i br0 -p tcp -m tcp --dport 53 -m comment"), "{shown}");
        let shown = run("ip6tables-save -t filter");
        assert!(shown.contains("-A INPUT -i br0 -p ipv6-icmp -m icmp6 --icmpv6-type 135"), "{shown}");

        // What is whole is left alone, what is not is made anew, and another network's is its own.
        one.add(Some(&nft)).unwrap();
        assert_eq!(ruleset(), after);
        run("nft flush chain inet fw input");
        one.add(Some(&nft)).unwrap();
        assert_eq!(count(&run("nft list table inet fw"), "moor/net"), 6);
        run("nft add rule inet fw input iif lo accept");
        let other = ["br1".to_owned()];
        permit("net2", &addresses, &other).add(Some(&nft)).unwrap();
        resolver::remove(&nft, "net", &addresses, &[]).unwrap();
        let left = ruleset();
        assert_eq!((count(&left, "\"moor/net\""), count(&left, "\"moor/net2\"")), (0, 14), "{left}");
        resolver::remove(&nft, "net2", &addresses, &[]).unwrap();
        assert_eq!((ruleset(), strip(&run("iptables-save -t filter"))), (before, strip(&listed)));
    }
}

network_test! {
    fn containers_with_a_link_each_are_known_by_their_prefix() {
        run("nft add table ip fw");
        run("nft add chain ip fw input { type filter hook input priority 0 ; policy drop ; }");
        let (nft, addresses) = (Nft::open().unwrap(), ["10.1.2.1".parse().unwrap()]);
        let subnets: [IpNetwork; 1] = ["10.1.2.0/23".parse().unwrap()];
        let permit = Permit { network: "net", addresses: &addresses, port: 53, links: &[], subnets: &subnets };
        permit.add(Some(&nft)).unwrap();
        let after = run("nft --stateless list table ip fw");
        assert!(after.contains("ip saddr 10.1.2.0/23 ip daddr 10.1.2.1 udp dport 53 counter accept"), "{after}");
        assert!(permit.drifts(&nft).unwrap().is_empty());
    }
}

network_test! {
    fn tables_of_the_older_kind_likewise() {
        run("iptables-legacy -P INPUT DROP");
        run("iptables-legacy -A INPUT -i lo -j ACCEPT");
        run("ip6tables-legacy -A INPUT -s fd00::9/128 -j DROP");
        let before = strip(&run("iptables-legacy-save -t filter"));
        let (addresses, links) = (addresses(), ["br0".to_owned()]);
        let permit = permit("net", &addresses, &links);
        permit.add(None).unwrap();
        let after = strip(&run("iptables-legacy-save -t filter"));
        assert_eq!(count(&after, "--comment \"moor/net\" -j ACCEPT"), 2, "{after}");
        assert!(!run("ip6tables-legacy-save -t filter").contains("moor"), "an open chain was changed");
        permit.add(None).unwrap();
        assert_eq!(strip(&run("iptables-legacy-save -t filter")), after);
        resolver::remove_from_old_tables("net").unwrap();
        assert_eq!(strip(&run("iptables-legacy-save -t filter")), before);
    }
}

/// Without the times of day and the counters.
fn strip(saved: &str) -> String {
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or_default().to_owned() + "\n").collect()
}
