//! Transactions of nf_tables: all or nothing, refused by name, bound to the generation that was
//! read.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::os::fd::AsFd;

use common::*;
use nft::{Batch, Element, Field, Nft, Rule, Value, is_stale};
use sys::{BackgroundClose, network_test};

network_test! {
    /// A refusal contains the operation, the object and the kernel's reason, and nothing is
    /// changed.
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

        // Impossible elements are not sent.
        for (element, fault) in [
            (Element::new(Value::new().port(80)).to(target(2, 80)), "a value does not have the type of its set"),
            (Element::new(port(80)), "an element does not have the data of its set"),
            (Element::new(port(80)).to(target(2, 80)).comment("x".repeat(254)), "a comment is longer than 253 bytes"),
            (Element::range(port(80), port(81)).to(target(2, 80)), "a range of keys needs a set of intervals"),
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
        // Leftover replies do not confuse the next transaction.
        commit(&nft, tables);
        assert!(nft.table(&TABLE).unwrap().is_some());
    }
}

network_test! {
    /// Twenty thousand elements with comments are one transaction of several megabytes.
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

network_test! {
    fn a_decision_on_an_older_generation_is_discarded_and_repeated() {
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
        // The retries are bounded.
        let mut rounds = 0;
        let error = nft
            .transact(|_, batch| {
                rounds += 1;
                other.commit(add(1000 + rounds))?;
                batch.flush_set(&PORTS);
                Ok(())
            })
            .unwrap_err();
        assert!(is_stale(&error) && rounds > 100, "{rounds}: {error:#}");
        assert!(error.to_string().contains("nft monitor"), "{error:#}");
    }
}

network_test! {
    /// Two hundred concurrent transactions, each of which reads and then changes, succeed and leave
    /// nothing.
    fn two_hundred_concurrent_transactions_succeed() {
        let nft = Nft::open().unwrap();
        commit(&nft, tables);
        let threads: Vec<_> = (0..200u16)
            .map(|at| {
                std::thread::spawn(move || {
                    let nft = Nft::open().unwrap();
                    let element = Element::new(port(at)).to(target(2, at)).comment(format!("moor/net/eth0/c{at}"));
                    let mut rounds = 0;
                    nft.transact(|nft, batch| {
                        rounds += 1;
                        assert_eq!(nft.element(&PORTS, &element)?, None);
                        batch.create_elements(&PORTS, std::slice::from_ref(&element));
                        Ok(())
                    })
                    .unwrap_or_else(|error| panic!("{error:#}"));
                    nft.transact(|nft, batch| {
                        assert_eq!(nft.element(&PORTS, &element)?.as_ref(), Some(&element));
                        batch.del_elements(&PORTS, std::slice::from_ref(&element));
                        Ok(())
                    })
                    .unwrap_or_else(|error| panic!("{error:#}"));
                    rounds
                })
            })
            .collect();
        let rounds: Vec<u32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        println!("rounds at most {:?}", rounds.iter().max());
        assert_eq!(nft.elements(&PORTS).unwrap(), []);
    }
}

network_test! {
    /// The kernel only checks the ends of a new range: a range that contains an existing one passes
    /// (Linux 6.18), so a ledger of ports cannot rely on this alone.
    fn ranges_that_overlap_are_refused() {
        let nft = Nft::open().unwrap();
        let range = |first: u16, last: u16| Element::range(port(first), port(last)).to((target(2, first), target(2, last)));
        commit(&nft, |batch| {
            tables(batch);
            batch.add_elements(&RANGES, &[range(100, 200)]);
        });
        for (first, last) in [(150, 250), (50, 150), (120, 130), (100, 201)] {
            let mut batch = Batch::new();
            batch.add_elements(&RANGES, &[range(first, last)]);
            let error = nft.commit(batch).unwrap_err();
            assert!(matches!(error.errno(), Some(libc::EEXIST | libc::ENOTEMPTY)), "{error:#}");
            assert_eq!(error.to_string(), format!("add element tcp . {first} - tcp . {last} of map inet moor ranges"));
        }
        commit(&nft, |batch| batch.add_elements(&RANGES, &[range(201, 250), range(50, 99)]));
        // The range that contains a port is found, although it is not the requested one.
        let found = nft.element(&RANGES, &range(120, 130)).unwrap();
        assert_eq!(found, Some(range(100, 200)));
        // An existing element keeps its comment: its owner does not change silently.
        let element = |owner: &str| Element::new(port(80)).to(target(2, 80)).comment(owner);
        commit(&nft, |batch| batch.add_elements(&PORTS, &[element("first")]));
        commit(&nft, |batch| batch.add_elements(&PORTS, &[element("second")]));
        assert_eq!(nft.elements(&PORTS).unwrap(), [element("first")]);
        let mut batch = Batch::new();
        batch.create_elements(&PORTS, &[element("second")]);
        assert!(nft.commit(batch).unwrap_err().is_exists());
    }
}

/// How often this thread has slept.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

network_test! {
    /// Deletions and refusals leave the kernel something to free, and a socket that only read may
    /// be closed while another process's deletions are freed.
    fn a_socket_closes_without_waiting_for_deletions() {
        let listener = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        if !BackgroundClose::of(listener.as_fd()).is_deferred() {
            // Without io_uring it waits.
            return;
        }
        let changed = |change: &dyn Fn(&mut Batch)| {
            let nft = Nft::open().unwrap();
            commit(&nft, tables);
            let mut batch = Batch::new();
            change(&mut batch);
            let _ = nft.commit(batch);
            nft
        };
        let ways: [&dyn Fn() -> Nft; 3] = [
            &|| changed(&|batch| batch.del_table(&TABLE)),
            &|| changed(&|batch| batch.del_chain(&PUBLISH)),
            &|| {
                drop(changed(&|batch| batch.del_table(&TABLE)));
                let nft = Nft::open().unwrap();
                nft.tables().unwrap();
                nft
            },
        ];
        for (at, way) in ways.iter().enumerate() {
            // Locks of the kernel make it sleep now and then.
            let quick = (0..9).filter(|_| {
                let nft = way();
                let before = sleeps();
                drop(nft);
                sleeps() == before
            });
            let quick = quick.count();
            assert!(quick > 4, "way {at}: only {quick} of 9 closed at once");
        }
    }
}
