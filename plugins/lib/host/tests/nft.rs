//! nf_tables, made over netlink and looked at with `nft -j`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::Ipv4Addr;

use common::run;
use host::nft::{
    Base, Batch, Chain, Compare, Data, Element, Family, Field, Hook, IPV4, Kind, LOCAL, Nft, Policy, Rule,
    STATE_NEW, STATUS_DNAT, Set, Table, Type, Value, Verdict, is_stale,
};
use serde_json::{Value as Json, json};

const TABLE: Table<'_> = Table { family: Family::Inet, name: "moor" };
const PREROUTING: Chain<'_> = Chain { table: TABLE, name: "prerouting" };
const PUBLISH: Chain<'_> = Chain { table: TABLE, name: "publish" };
const NAT: Base = Base { kind: Kind::Nat, hook: Hook::Prerouting, priority: -90, policy: Policy::Accept };
const PORTS: Set<'_> = Set {
    table: TABLE,
    name: "ports",
    key: &[Type::Proto, Type::Port],
    data: Data::Value(&[Type::Ipv4, Type::Port]),
    interval: false,
};
const ADDR_PORTS: Set<'_> = Set { name: "addr-ports", key: &[Type::Ipv4, Type::Proto, Type::Port], ..PORTS };
const RANGES: Set<'_> =
    Set { name: "ranges", data: Data::Range(&[Type::Ipv4, Type::Port]), interval: true, ..PORTS };
const RANGES6: Set<'_> =
    Set { name: "ranges6", data: Data::Range(&[Type::Ipv6, Type::Port]), interval: true, ..PORTS };
const MASQ: Set<'_> =
    Set { table: TABLE, name: "masq", key: &[Type::Ipv4], data: Data::Verdict, interval: false };
const NETS: Set<'_> =
    Set { table: TABLE, name: "nets", key: &[Type::Ipv4], data: Data::None, interval: true };

/// What `nft` sees, without its own version and without handles.
fn ruleset() -> Vec<Json> {
    let said = std::process::Command::new("nft").args(["-j", "list", "ruleset"]).output();
    let said = said.expect("nft(8), of the package nftables, is needed to look at what was made");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let mut all: Json = serde_json::from_slice(&said.stdout).unwrap();
    let mut objects: Vec<Json> = all["nftables"].as_array_mut().unwrap().drain(1..).collect();
    for object in objects.iter_mut().flat_map(|object| object.as_object_mut().unwrap().values_mut()) {
        object.as_object_mut().unwrap().remove("handle");
    }
    objects
}

fn named(kind: &str, name: &str) -> Json {
    let objects = ruleset();
    let found = objects.iter().filter_map(|object| object.get(kind)).find(|object| object["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("nft sees no {kind} {name}: {objects:#?}"))
}

fn port(port: u16) -> Value {
    Value::new().proto(6).port(port)
}

fn target(last: u8, port: u16) -> Value {
    Value::new().addr(Ipv4Addr::new(10, 1, 2, last)).port(port)
}

fn commit(nft: &Nft, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    nft.commit(batch).unwrap_or_else(|error| panic!("{error:#}"));
}

fn tables(batch: &mut Batch) {
    batch.add_table(&TABLE, Some("containers' ports"));
    for set in [PORTS, ADDR_PORTS, RANGES, RANGES6, MASQ, NETS] {
        batch.add_set(&set, None);
    }
}

network_test! {
    /// Issue 3, Deliver 1: nft sees tables, chains and maps as they are meant, with their comments.
    fn objects_are_seen_by_nft_as_they_were_meant() {
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
    fn elements_are_seen_by_nft_with_their_owners_and_are_deleted_singly() {
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
        // And by ourselves: all, and each by its key.
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
    /// What CHECK compares: the steps of a rule, read back, are those that were written.
    fn rules_are_read_back_as_they_were_written_and_nft_can_show_them() {
        let nft = Nft::open().unwrap();
        let ip = |rule: Rule| rule.nfproto(IPV4);
        let inside = "10.1.2.0/24".parse().unwrap();
        let rules = [
            (Rule::new().is(Field::FibDaddrType, Value::new().mark(LOCAL)).verdict(Verdict::Jump("publish".into())),
                "fib daddr type local jump publish"),
            (ip(Rule::new()).dnat_map(&[Field::IP_DADDR, Field::L4PROTO, Field::DPORT], &ADDR_PORTS).comment("mine"),
                "dnat ip to ip daddr . meta l4proto . th dport map @addr-ports comment \"mine\""),
            (ip(Rule::new()).dnat_map(&[Field::L4PROTO, Field::DPORT], &PORTS), "dnat ip to meta l4proto . th dport map @ports"),
            (ip(Rule::new()).dnat_map(&[Field::L4PROTO, Field::DPORT], &RANGES), "map @ranges"),
            (Rule::new().dnat_map(&[Field::L4PROTO, Field::DPORT], &RANGES6), "map @ranges6"),
            (ip(Rule::new()).verdict_map(&[Field::IP_SADDR], &MASQ), "ip saddr vmap @masq"),
            (ip(Rule::new()).no_member(&[Field::IP_DADDR], &NETS).counter().verdict(Verdict::Drop),
                "ip daddr != @nets counter packets 0 bytes 0 drop"),
            (ip(Rule::new()).network(Field::IP_DADDR, inside, true).verdict(Verdict::Accept), "ip daddr 10.1.2.0/24 accept"),
            (Rule::new().nfproto(10).network(Field::IP6_DADDR, "ff00::/8".parse().unwrap(), false).verdict(Verdict::Return),
                "ip6 daddr != ff00::/8 return"),
            (Rule::new().any_bit(Field::Ct(host::nft::Ct::State), STATE_NEW)
                .any_bit(Field::Ct(host::nft::Ct::Status), STATUS_DNAT)
                .is(Field::Ct(host::nft::Ct::Direction), Value::new().raw(&[0])).set_mark(Field::MARK, 0x2000, 0x2000),
                "ct state new ct status dnat ct direction original meta mark set meta mark | 0x00002000"),
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
    fn a_chain_and_a_table_tell_what_they_are() {
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
            // Twice is once.
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
    /// Rule 6 of the house: what was tried, on what object, what the kernel said; and nothing was done.
    fn a_refused_element_is_named_and_nothing_is_changed() {
        let nft = Nft::open().unwrap();
        commit(&nft, |batch| {
            tables(batch);
            batch.add_elements(&ADDR_PORTS, &[Element::new(Value::new().addr([10, 1, 2, 3]).proto(6).port(80)).to(target(2, 80))]);
        });
        let before = ruleset();
        let key = |port| Value::new().addr([10, 1, 2, 3]).proto(6).port(port);
        let mut batch = Batch::new();
        batch.add_chain(&PUBLISH, None, None);
        let elements: Vec<_> = (78..90).map(|port| Element::new(key(port)).to(target(9, port))).collect();
        batch.add_elements(&ADDR_PORTS, &elements);
        batch.add_elements(&PORTS, &[Element::new(port(1)).to(target(9, 1))]);
        let error = nft.commit(batch).unwrap_err();
        assert!(error.is_exists());
        assert_eq!(error.to_string(), "add element 10.1.2.3 . tcp . 80 of map inet moor addr-ports");
        assert_eq!(ruleset(), before);

        let mut batch = Batch::new();
        batch.del_chain(&PUBLISH);
        let error = nft.commit(batch).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert_eq!(error.to_string(), "delete chain inet moor publish");

        // What cannot be said is not sent.
        for (element, fault) in [
            (Element::new(Value::new().port(80)).to(target(2, 80)), "a value is not of the type of its set"),
            (Element::new(port(80)), "an element does not lead to what its set holds"),
            (Element::new(port(80)).to(target(2, 80)).comment("x".repeat(254)), "a comment is longer than 253 bytes"),
            (Element::range(port(80), port(81)).to(target(2, 80)), "a range of keys is for a set of intervals"),
        ] {
            let mut batch = Batch::new();
            batch.add_elements(&PORTS, &[element]);
            let error = format!("{:#}", nft.commit(batch).unwrap_err());
            assert!(error.starts_with("add map inet moor ports: ") && error.ends_with(fault), "{error}");
        }
        let mut batch = Batch::new();
        batch.add_rule(&PREROUTING, &Rule::new().dnat_map(&[Field::DPORT], &PORTS));
        assert!(nft.commit(batch).is_err());
        assert_eq!(ruleset(), before);
    }
}

network_test! {
    fn a_transaction_with_ten_thousand_faults_is_one_error() {
        let nft = Nft::open().unwrap();
        let mut batch = Batch::new();
        for _ in 0..10_000 {
            batch.del_table(&TABLE);
        }
        let error = nft.commit(batch).unwrap_err();
        assert_eq!(error.to_string(), "delete table inet moor");
        // And the next one is not confused by what is left of it.
        commit(&nft, tables);
        assert!(nft.table(&TABLE).unwrap().is_some());
    }
}

network_test! {
    /// Trap T6: twenty thousand elements with comments are one transaction of several megabytes.
    fn twenty_thousand_elements_are_one_transaction() {
        let nft = Nft::open().unwrap();
        let generation = nft.generation().unwrap();
        let comment = "x".repeat(200);
        let elements: Vec<_> =
            (0..20_000).map(|port| Element::new(self::port(port)).to(target(2, port)).comment(&comment)).collect();
        commit(&nft, |batch| {
            tables(batch);
            batch.add_elements(&PORTS, &elements);
        });
        assert_eq!(nft.generation().unwrap(), generation + 1);
        let mut read = nft.elements(&PORTS).unwrap();
        read.sort_by_key(|element| element.key);
        assert_eq!(read.len(), elements.len());
        assert!(read == elements);
        commit(&nft, |batch| batch.flush_set(&PORTS));
        assert_eq!(nft.elements(&PORTS).unwrap(), []);
    }
}

fn destroy_twice(nft: &Nft) {
    commit(nft, |batch| {
        tables(batch);
        batch.add_chain(&PUBLISH, None, None);
        batch.add_elements(&PORTS, &[Element::new(port(80)).to(target(2, 80))]);
    });
    for _ in 0..2 {
        nft.transact(|nft, batch| {
            nft.destroy_elements(batch, &PORTS, &[Element::new(port(80)), Element::new(port(81))])?;
            nft.destroy_chain(batch, &PUBLISH)?;
            nft.destroy_set(batch, &NETS)
        })
        .unwrap();
        assert_eq!(nft.elements(&PORTS).unwrap(), []);
        assert_eq!(nft.chain(&PUBLISH).unwrap(), None);
        assert_eq!(nft.set_is(&NETS).unwrap(), None);
    }
    for _ in 0..2 {
        nft.transact(|nft, batch| nft.destroy_table(batch, &TABLE)).unwrap();
        assert_eq!(ruleset(), [] as [Json; 0]);
    }
}

network_test! {
    /// What is not there can be destroyed: by the kernel (Linux 6.3) without looking, else after a look.
    fn what_is_not_there_is_destroyed_without_an_error() {
        let nft = Nft::open().unwrap();
        let generation = nft.generation().unwrap();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        let recent = (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 3);
        assert!(nft.has_destroy() || !recent, "{release}");
        assert_eq!(nft.generation().unwrap(), generation, "asking changes nothing");
        destroy_twice(&nft);
        nft.assume_no_destroy();
        destroy_twice(&nft);
    }
}

network_test! {
    /// Compare and delete: an element that belongs to somebody else meanwhile stays.
    fn only_what_is_ours_is_deleted() {
        let nft = Nft::open().unwrap();
        let element = |at: u16, owner: &str| Element::new(port(at)).to(target(2, at)).comment(owner);
        commit(&nft, |batch| {
            tables(batch);
            batch.add_elements(&PORTS, &[element(80, "moor/net/eth0/c1"), element(81, "moor/net/eth0/c2"), element(82, "moor/net/eth0/c1")]);
        });
        let wanted = [80, 81, 83].map(|at| Element::new(port(at)));
        let ours = |comment: &str| comment == "moor/net/eth0/c1";
        let deleted = nft.delete_elements_owned_by(&PORTS, &wanted, ours).unwrap();
        assert_eq!(deleted, [element(80, "moor/net/eth0/c1")]);
        let generation = nft.generation().unwrap();
        assert_eq!(nft.delete_elements_owned_by(&PORTS, &wanted, ours).unwrap(), []);
        assert_eq!(nft.generation().unwrap(), generation, "nothing to delete is no transaction");
        nft.transact(|nft, batch| nft.delete_all_owned(batch, &PORTS, ours)).unwrap();
        assert_eq!(nft.elements(&PORTS).unwrap(), [element(81, "moor/net/eth0/c2")]);
    }
}

network_test! {
    fn what_was_decided_on_an_older_generation_is_not_done_but_decided_anew() {
        let nft = Nft::open().unwrap();
        let other = Nft::open().unwrap();
        commit(&nft, tables);
        let generation = nft.generation().unwrap();
        let add = |at: u16| {
            let mut batch = Batch::new();
            batch.add_elements(&PORTS, &[Element::new(port(at)).to(target(2, at))]);
            batch
        };
        other.commit(add(1)).unwrap();
        let error = nft.commit_at(add(2), generation).unwrap_err();
        assert!(is_stale(&error), "{error:#}");
        assert_eq!(nft.elements(&PORTS).unwrap().len(), 1);

        let mut rounds = 0;
        let seen = nft
            .transact(|nft, batch| {
                rounds += 1;
                let seen = nft.elements(&PORTS)?.len();
                if rounds < 3 {
                    other.commit(add(10 + rounds))?;
                }
                batch.add_elements(&PORTS, &[Element::new(port(3)).to(target(2, 3))]);
                Ok(seen)
            })
            .unwrap();
        assert_eq!((rounds, seen), (3, 3));
        // Bounded.
        let mut rounds = 0;
        let error = nft
            .transact(|_, batch| {
                rounds += 1;
                other.commit(add(1000 + rounds))?;
                batch.flush_set(&PORTS);
                Ok(())
            })
            .unwrap_err();
        assert!(is_stale(&error) && rounds == 100, "{rounds}: {error:#}");
    }
}
