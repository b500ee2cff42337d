//! What changes of nf_tables cost, whatever else is there (DESIGN.md, "Packet rules: one table, constant time").
//! `--nocapture` shows the figures.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use host::nft::{
    Base, Batch, Chain, Data, Element, Family, Field, Hook, Kind, Nft, Policy, Rule, Set, Table, Type, Value,
    Verdict,
};

const TABLE: Table<'_> = Table { family: Family::Inet, name: "moor" };
const PORTS: Set<'_> = Set {
    table: TABLE,
    name: "ports4",
    key: &[Type::Proto, Type::Port],
    data: Data::Value(&[Type::Ipv4, Type::Port]),
    interval: false,
};
const RANGES: Set<'_> =
    Set { name: "ranges4", data: Data::Range(&[Type::Ipv4, Type::Port]), interval: true, ..PORTS };
const MASQ: Set<'_> = Set { name: "masq4", key: &[Type::Ipv4], data: Data::Verdict, ..PORTS };
const OWNER: &str = "moor/net/eth0/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ROUNDS: u16 = 200;

fn commit(nft: &Nft, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    nft.commit(batch).unwrap();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The median time of `body`, which is called with a number of its own each time.
fn timed(mut body: impl FnMut(u16)) -> Duration {
    let times = (0..ROUNDS).map(|round| {
        let start = Instant::now();
        body(round);
        start.elapsed()
    });
    median(times.collect())
}

fn port(port: u16) -> Value {
    Value::new().proto(6).port(port)
}

fn target(port: u16) -> Value {
    Value::new().addr([10, 1, 2, 3]).port(port)
}

network_test! {
    /// Adding, looking at and deleting one element takes as long with fifty thousand others as with none.
    fn one_element_costs_the_same_whatever_else_is_there() {
        let mut add = Vec::new();
        for others in [0, 1_000, 10_000, 50_000] {
            let nft = Nft::open().unwrap();
            commit(&nft, |batch| {
                batch.add_table(&TABLE, None);
                batch.add_set(&PORTS, None);
                let elements: Vec<_> = (0..others)
                    .map(|at| Element::new(Value::new().proto(17).port(at)).to(target(at)).comment(OWNER))
                    .collect();
                batch.add_elements(&PORTS, &elements);
            });
            let element = |at| Element::new(port(at)).to(target(at)).comment(OWNER);
            let added = timed(|round| commit(&nft, |batch| batch.add_elements(&PORTS, &[element(round)])));
            let again = timed(|round| commit(&nft, |batch| batch.add_elements(&PORTS, &[element(round)])));
            let got = timed(|round| assert!(nft.element(&PORTS, &element(round)).unwrap().is_some()));
            let generation = timed(|_| {
                nft.generation().unwrap();
            });
            let listing = Instant::now();
            let listed = nft.elements(&PORTS).unwrap().len();
            let listing = listing.elapsed();
            let deleted = timed(|round| {
                let gone = nft.delete_elements_owned_by(&PORTS, &[element(round)], |comment| comment == OWNER);
                assert_eq!(gone.unwrap().len(), 1);
            });
            let closing = Instant::now();
            drop(nft);
            println!(
                "{others} others: add {added:?}, again {again:?}, get {got:?}, generation {generation:?}, \
                 compare and delete {deleted:?}, list {listed} in {listing:?}, close {:?}", closing.elapsed()
            );
            add.push(added);
            let nft = Nft::open().unwrap();
            commit(&nft, |batch| batch.del_table(&TABLE));
        }
        // Were it a search, it would be thousands of times as long.
        assert!(add[3] < add[0] * 10 + Duration::from_micros(200), "{add:?}");
    }
}

network_test! {
    /// Ranges are searched and copied: for the few. So many are bearable.
    fn a_hundred_ranges_are_bearable() {
        let nft = Nft::open().unwrap();
        commit(&nft, |batch| {
            batch.add_table(&TABLE, None);
            batch.add_set(&RANGES, None);
        });
        let range = |at: u16| {
            Element::range(port(at * 100 + 1), port(at * 100 + 90))
                .to((target(at * 100 + 1), target(at * 100 + 90))).comment(OWNER)
        };
        let mut times = Vec::new();
        for at in 0..500 {
            let start = Instant::now();
            commit(&nft, |batch| batch.add_elements(&RANGES, &[range(at)]));
            times.push(start.elapsed());
        }
        println!("range added: first {:?}, the 100th {:?}, the 500th {:?}", times[0], times[99], times[499]);
        let start = Instant::now();
        commit(&nft, |batch| batch.del_elements(&RANGES, &[range(250)]));
        println!("range deleted of 500: {:?}", start.elapsed());
        assert!(median(times[90..110].to_vec()) < Duration::from_millis(50));
    }
}

network_test! {
    /// An attachment's ADD and DEL, as portmap and ipMasq make them: one transaction each.
    fn an_attachment_is_one_transaction_each_way() {
        let nft = Nft::open().unwrap();
        let postrouting = Chain { table: TABLE, name: "postrouting" };
        let table = |batch: &mut Batch| {
            batch.add_table(&TABLE, None);
            batch.add_set(&PORTS, None);
            batch.add_set(&MASQ, None);
            let base = Base { kind: Kind::Nat, hook: Hook::Postrouting, priority: 100, policy: Policy::Accept };
            batch.add_chain(&postrouting, Some(&base), None);
        };
        let start = Instant::now();
        commit(&nft, |batch| {
            table(batch);
            batch.add_rule(&postrouting, &Rule::new().nfproto(2).verdict_map(&[Field::IP_SADDR], &MASQ));
        });
        let made = start.elapsed();
        let name = |at: u16| format!("masq-{at:016x}");
        let address = |at: u16| Value::new().addr([10, 1, at.to_be_bytes()[0], at.to_be_bytes()[1]]);
        let add = timed(|at| {
            nft.transact(|nft, batch| {
                assert!(nft.chain(&postrouting)?.is_some());
                let name = name(at);
                let chain = Chain { name: &name, ..postrouting };
                batch.create_chain(&chain, None, Some(OWNER));
                for network in ["10.1.0.0/16", "224.0.0.0/4"] {
                    let inside = Rule::new().nfproto(2).network(Field::IP_DADDR, network.parse().unwrap(), true);
                    batch.add_rule(&chain, &inside.verdict(Verdict::Return));
                }
                batch.add_rule(&chain, &Rule::new().masquerade(true));
                batch.create_elements(&MASQ, &[Element::new(address(at)).to(Verdict::Goto(name.clone())).comment(OWNER)]);
                batch.create_elements(&PORTS, &[Element::new(port(at)).to(target(80)).comment(OWNER)]);
                Ok(())
            }).unwrap();
        });
        let delete = timed(|at| {
            nft.transact(|nft, batch| {
                let ours = |comment: &str| comment == OWNER;
                nft.delete_owned(batch, &MASQ, &[Element::new(address(at))], ours)?;
                nft.delete_owned(batch, &PORTS, &[Element::new(port(at))], ours)?;
                nft.destroy_chain(batch, &Chain { name: &name(at), ..postrouting })
            }).unwrap();
        });
        println!("table made in {made:?}; attachment added in {add:?}, deleted in {delete:?}");
        assert_eq!(nft.elements(&PORTS).unwrap(), []);
        assert_eq!(nft.chains(&TABLE).unwrap().len(), 1);
        let opened = Instant::now();
        let other = Nft::open().unwrap();
        other.generation().unwrap();
        drop(other);
        println!("another socket opened and closed with these deletions pending: {:?}", opened.elapsed());
    }
}
