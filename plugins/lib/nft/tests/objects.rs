//! nf_tables objects, created over netlink and examined with `nft -j`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::Ipv4Addr;

use common::*;
use nft::{
    Base, Chain, Compare, Data, Element, Family, Field, Hook, IPV4, Kind, LOCAL, Nft, Policy, Rule,
    STATE_NEW, STATUS_DNAT, Set, Table, Type, Value, Verdict,
};
use serde_json::{Value as Json, json};
use sys::network_test;
use sys::testing::run;

const NAT: Base = Base { kind: Kind::Nat, hook: Hook::Prerouting, priority: -90, policy: Policy::Accept };

fn named(kind: &str, name: &str) -> Json {
    let objects = ruleset();
    let found = objects.iter().filter_map(|object| object.get(kind)).find(|object| object["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("nft sees no {kind} {name}: {objects:#?}"))
}

network_test! {
    /// nft lists tables, chains and maps with their types and comments.
    fn nft_lists_objects_as_declared() {
        let nft = Nft::open().unwrap();
        commit(&nft, |batch| {
            tables(batch);
            batch.add_set(&Set { name: "marks", key: &[Type::Mark], data: Data::None, ..PORTS }, Some("of a kind"));
            batch.add_chain(&PREROUTING, Some(&NAT), Some("where it begins"));
            batch.add_chain(&PUBLISH, None, None);
        });
        assert_eq!(named("table", "moor")["family"], "inet");
        let chain = named("chain", "prerouting");
        assert_eq!((&chain["type"], &chain["hook"]), (&json!("nat"), &json!("prerouting")));
        assert_eq!((&chain["prio"], &chain["policy"]), (&json!(-90), &json!("accept")));
        assert_eq!(named("chain", "publish")["hook"], Json::Null);
        assert_eq!(named("map", "masq")["map"], "verdict");
        assert_eq!(named("map", "ranges")["flags"], json!(["interval"]));
        assert_eq!(named("set", "marks")["type"], "mark");
        let text = run("nft list ruleset");
        for comment in ["containers' ports", "of a kind", "where it begins"] {
            assert!(text.contains(&format!("comment \"{comment}\"")), "{comment}: {text}");
        }
        assert!(text.contains("type inet_proto . inet_service : ipv4_addr . inet_service\n"), "{text}");
        assert!(text.contains("interval ipv4_addr . inet_service"), "{text}");
    }
}

network_test! {
    fn nft_lists_elements_with_owners_and_they_are_deleted_singly() {
        let nft = Nft::open().unwrap();
        let owned = |element: Element| element.comment("moor/net/eth0/c1");
        let net = |a, b| Element::range(
            Value::new().addr(Ipv4Addr::new(10, a, 0, 0)), Value::new().addr(Ipv4Addr::new(10, b, 255, 255)));
        let range = Element::range(port(20000), port(39999)).to((target(2, 20000), target(2, 39999)));
        commit(&nft, |batch| {
            tables(batch);
            batch.add_elements(&PORTS, &[owned(Element::new(port(80)).to(target(2, 8080))), Element::new(port(81)).to(target(3, 81))]);
            batch.add_elements(&RANGES, &[owned(range.clone())]);
            batch.add_elements(&MASQ, &[owned(Element::new(Value::new().addr(Ipv4Addr::new(10, 1, 2, 2))).to(Verdict::Accept))]);
            batch.add_elements(&NETS, &[owned(net(1, 1)), net(2, 2), net(200, 254)]);
            batch.add_elements(&NETS, &[Element::range(Value::new().addr(Ipv4Addr::new(255, 0, 0, 0)), Value::new().addr(Ipv4Addr::BROADCAST))]);
        });
        let text = run("nft list ruleset");
        for line in [
            "tcp . 80 comment \"moor/net/eth0/c1\" : 10.1.2.2 . 8080",
            "tcp . 81 : 10.1.2.3 . 81",
            "tcp . 20000-39999 comment \"moor/net/eth0/c1\" : 10.1.2.2 . 20000-39999",
            "10.1.2.2 comment \"moor/net/eth0/c1\" : accept",
            "10.1.0.0/16 comment \"moor/net/eth0/c1\"",
            "10.2.0.0/16",
            "10.200.0.0-10.254.255.255",
            "255.0.0.0/8",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        // Our own reader: all elements, and each by its key.
        let mut nets = nft.elements(&NETS).unwrap();
        nets.sort_by_key(|element| element.key);
        assert_eq!(nets.len(), 4, "{nets:?}");
        assert_eq!(nets[0], owned(net(1, 1)));
        assert_eq!(nets[3].end, Some(Value::new().addr(Ipv4Addr::BROADCAST)));
        for net in &nets {
            assert_eq!(nft.element(&NETS, net).unwrap().as_ref(), Some(net));
        }
        assert_eq!(nft.elements(&RANGES).unwrap(), [owned(range.clone())]);
        assert_eq!(nft.element(&RANGES, &range).unwrap(), Some(owned(range.clone())));
        assert_eq!(nft.element(&PORTS, &Element::new(port(82))).unwrap(), None);

        commit(&nft, |batch| {
            batch.del_elements(&PORTS, &[Element::new(port(80))]);
            batch.del_elements(&RANGES, &[Element::range(port(20000), port(39999))]);
            batch.del_elements(&NETS, &[net(1, 1)]);
        });
        assert_eq!(nft.elements(&PORTS).unwrap(), [Element::new(port(81)).to(target(3, 81))]);
        assert_eq!(nft.elements(&RANGES).unwrap(), []);
        assert_eq!(nft.elements(&NETS).unwrap().len(), 3);
        assert_eq!(named("set", "nets")["elem"].as_array().unwrap().len(), 3);
    }
}

network_test! {
    /// CHECK compares the steps of a rule that was read with those that were written.
    fn rules_are_read_back_as_written_and_nft_shows_them() {
        let nft = Nft::open().unwrap();
        let ip = |rule: Rule| rule.nfproto(IPV4);
        let inside = "10.1.2.0/24".parse().unwrap();
        let rules = [
            (Rule::new().is(Field::FibDaddrType, Value::new().mark(LOCAL)).verdict(Verdict::Jump("publish".into())),
                "fib daddr type local jump publish"),
            (ip(Rule::new()).dnat_map(&[Field::IP_DADDR, Field::L4PROTO, Field::DPORT], &ADDR_PORTS).comment("mine"),
                "dnat ip to ip daddr . meta l4proto . th dport map @addr-ports comment \"mine\""),
            (ip(Rule::new()).dnat_map(&[Field::L4PROTO, Field::DPORT], &PORTS), "dnat ip to meta l4proto . th dport map @ports"),
            (ip(Rule::new()).verdict_map(&[Field::IP_SADDR], &MASQ), "ip saddr vmap @masq"),
            (ip(Rule::new()).not_member(&[Field::IP_DADDR], &NETS).counter().verdict(Verdict::Drop),
                "ip daddr != @nets counter packets 0 bytes 0 drop"),
            (ip(Rule::new()).network(Field::IP_DADDR, inside, true).verdict(Verdict::Accept), "ip daddr 10.1.2.0/24 accept"),
            (Rule::new().nfproto(10).network(Field::IP6_DADDR, "ff00::/8".parse().unwrap(), false).verdict(Verdict::Return),
                "ip6 daddr != ff00::/8 return"),
            (Rule::new().any_bit(Field::Ct(nft::Ct::State), STATE_NEW)
                .any_bit(Field::Ct(nft::Ct::Status), STATUS_DNAT)
                .is(Field::Ct(nft::Ct::Direction), Value::new().raw(&[0])),
                "ct state new ct status dnat ct direction original"),
            (Rule::new().bits(Field::MARK, 0xff, Compare::Equal, 0x10).begins(Field::OIFNAME, Value::new().raw(b"eth")),
                "meta mark & 0x000000ff == 0x00000010 oifname \"eth*\""),
            (Rule::new().is(Field::IIFNAME, Value::new().ifname("veth0")).compare(Field::SPORT, Compare::Less, Value::new().port(1024))
                .dnat([10, 1, 2, 3].into(), Some(80)), "dnat ip to 10.1.2.3:80"),
        ];
        commit(&nft, |batch| {
            tables(batch);
            batch.add_chain(&PREROUTING, Some(&NAT), None);
            batch.add_chain(&PUBLISH, None, None);
            batch.add_chain(&Chain { name: "postrouting", ..PREROUTING },
                Some(&Base { hook: Hook::Postrouting, priority: 100, ..NAT }), None);
            for (rule, _) in &rules {
                batch.add_rule(&PREROUTING, rule);
            }
            batch.add_rule(&Chain { name: "postrouting", ..PREROUTING }, &Rule::new().masquerade(true));
        });
        let text = run("nft list ruleset");
        let read = nft.rules(&PREROUTING).unwrap();
        assert_eq!(read.len(), rules.len());
        for ((rule, shown), read) in rules.iter().zip(&read) {
            assert_eq!(rule.exprs(), read.exprs, "{shown}");
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(text.contains("masquerade fully-random"), "{text}");
        assert_eq!(read[1].comment.as_deref(), Some("mine"));

        commit(&nft, |batch| batch.del_rule(&PREROUTING, read[1].handle));
        assert_eq!(nft.rules(&PREROUTING).unwrap().len(), rules.len() - 1);
        commit(&nft, |batch| {
            batch.flush_chain(&PREROUTING);
            batch.insert_rule(&PREROUTING, &Rule::new().comment("second"));
            batch.insert_rule(&PREROUTING, &Rule::new().comment("first"));
        });
        let comments: Vec<_> = nft.rules(&PREROUTING).unwrap().into_iter().filter_map(|rule| rule.comment).collect();
        assert_eq!(comments, ["first", "second"]);
    }
}

network_test! {
    fn chains_and_tables_are_listed_with_their_attributes() {
        let nft = Nft::open().unwrap();
        assert_eq!(nft.table(&TABLE).unwrap(), None);
        assert_eq!(nft.chain(&PREROUTING).unwrap(), None);
        assert_eq!(nft.chains(&TABLE).unwrap(), []);
        assert_eq!(nft.rules(&PREROUTING).unwrap(), []);
        assert_eq!(nft.elements(&PORTS).unwrap(), []);
        assert_eq!(nft.set_is(&PORTS).unwrap(), None);
        commit(&nft, |batch| {
            tables(batch);
            batch.add_table(&Table { family: Family::Bridge, name: "nat" }, None);
            batch.add_chain(&PREROUTING, Some(&NAT), Some("begins"));
            batch.add_chain(&Chain { table: Table { family: Family::Bridge, name: "nat" }, name: "PREROUTING" },
                Some(&Base { kind: Kind::Filter, priority: -300, ..NAT }), None);
            // Adding twice is the same as once.
            tables(batch);
            batch.add_chain(&PREROUTING, Some(&NAT), Some("begins"));
        });
        let table = nft.table(&TABLE).unwrap().unwrap();
        assert_eq!((table.comment.as_deref(), table.uses), (Some("containers' ports"), 7));
        let tables = nft.tables().unwrap();
        assert_eq!(tables.iter().map(|table| table.family).collect::<Vec<_>>(), [Some(Family::Inet), Some(Family::Bridge)]);
        let chains = nft.chains(&TABLE).unwrap();
        assert_eq!(chains.len(), 1);
        assert_eq!(chains[0].base, Some(("nat".to_owned(), 0, -90, 1)));
        assert_eq!(chains[0].comment.as_deref(), Some("begins"));
        assert_eq!(nft.chain(&PREROUTING).unwrap().as_ref(), Some(&chains[0]));
        for set in [PORTS, ADDR_PORTS, RANGES, RANGES6, MASQ, NETS] {
            assert_eq!(nft.set_is(&set).unwrap(), Some(true), "{set}");
        }
        assert_eq!(nft.set_is(&Set { data: Data::Value(&[Type::Ipv6, Type::Port]), ..PORTS }).unwrap(), Some(false));
    }
}

network_test! {
    /// As macspoofchk needs it: packets from a port must have its container's Ethernet address.
    fn a_bridge_table_matches_ports_and_ethernet_addresses() {
        let table = Table { family: Family::Bridge, name: "moor" };
        let chain = Chain { table, name: "spoof" };
        let set = |name, key| Set { table, name, key, data: Data::None, interval: false };
        let guarded = set("guarded", &[Type::Ifname]);
        let allowed = set("allowed", &[Type::Ifname, Type::Ether]);
        let mac = "02:00:00:00:00:01".parse().unwrap();
        let nft = Nft::open().unwrap();
        let port = Value::new().ifname("veth0123456789");
        let rules = [
            Rule::new().not_member(&[Field::IIFNAME], &guarded).verdict(Verdict::Accept),
            Rule::new().member(&[Field::IIFNAME, Field::ETHER_SADDR], &allowed).verdict(Verdict::Accept),
            Rule::new().is(Field::ETHER_SADDR, Value::new().mac(mac)).verdict(Verdict::Return),
            Rule::new().is(Field::IIFNAME, port).counter().verdict(Verdict::Drop),
        ];
        commit(&nft, |batch| {
            batch.add_table(&table, None);
            batch.add_set(&guarded, None);
            batch.add_set(&allowed, None);
            batch.add_chain(&chain, Some(&Base { kind: Kind::Filter, priority: -300, ..NAT }), None);
            rules.iter().for_each(|rule| batch.add_rule(&chain, rule));
            batch.add_elements(&guarded, &[Element::new(port).comment("moor/net/eth0/c1")]);
            batch.add_elements(&allowed, &[Element::new(port.mac(mac)).comment("moor/net/eth0/c1")]);
        });
        let text = run("nft list ruleset");
        for line in [
            "iifname != @guarded accept",
            "iifname . ether saddr @allowed accept",
            "ether saddr 02:00:00:00:00:01 return",
            "iifname \"veth0123456789\" counter packets 0 bytes 0 drop",
            "\"veth0123456789\" . 02:00:00:00:00:01 comment \"moor/net/eth0/c1\"",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let read: Vec<_> = nft.rules(&chain).unwrap().into_iter().map(|rule| rule.exprs).collect();
        assert_eq!(read, rules.map(|rule| rule.exprs().to_vec()));
        assert_eq!(nft.set_is(&allowed).unwrap(), Some(true));
        assert_eq!(nft.elements(&allowed).unwrap()[0].show(&allowed), "veth0123456789 . 02:00:00:00:00:01");
    }
}
