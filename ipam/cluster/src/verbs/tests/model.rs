//! Random sequences of commands on several hosts, whose blocks come and go.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Add(usize, u8),
    Ask(usize, u8, u8),
    Del(usize, u8),
    /// The agent gives a block back, if it is free.
    GiveUp(u64),
    Away(bool),
    Reboot(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3, 0_u8..8).prop_map(|(host, id)| Step::Add(host, id)),
        3 => (0_usize..3, 0_u8..8, 1_u8..31).prop_map(|(host, id, ip)| Step::Ask(host, id, ip)),
        6 => (0_usize..3, 0_u8..8).prop_map(|(host, id)| Step::Del(host, id)),
        3 => (0_u64..8).prop_map(Step::GiveUp),
        1 => any::<bool>().prop_map(Step::Away),
        1 => (0_usize..3).prop_map(Step::Reboot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    /// Whatever happens: no address is of two containers, none is a gateway's or a host's own, an
    /// ADD that failed holds nothing, and one that succeeded holds one address until its DEL.
    #[test]
    fn no_address_is_of_two_containers(steps in prop::collection::vec(step(), 1..60)) {
        let hosts = Hosts::new(3);
        let ipam = json!({ "subnets": ["10.9.0.0/27"], "blockSize": 4 });
        let mut model = BTreeMap::<(usize, u8), String>::new();
        let mut boots = 0;
        for step in steps {
            match step {
                Step::Add(host, id) | Step::Ask(host, id, _) => {
                    let name = format!("c{id}");
                    let given = match step {
                        Step::Ask(_, _, ip) => hosts.hosts[host].ask_for(&name, &ipam, json!([format!("10.9.0.{ip}")])),
                        _ => hosts.hosts[host].add(&name, &ipam),
                    };
                    if let Ok(given) = given {
                        prop_assert_eq!(given.len(), 1);
                        let before = model.insert((host, id), given[0].clone());
                        prop_assert!(before.is_none_or(|before| before == given[0]), "the same one again");
                    }
                }
                Step::Del(host, id) => {
                    hosts.hosts[host].del(&format!("c{id}"), &ipam);
                    model.remove(&(host, id));
                }
                Step::GiveUp(number) => {
                    let mut truth = hosts.truth.lock().unwrap();
                    let first = IpAddr::from([10, 9, 0, u8::try_from(number * 4).unwrap()]);
                    truth.give_up(first);
                }
                Step::Away(away) => hosts.truth.lock().unwrap().away = away,
                Step::Reboot(host) => {
                    boots += 1;
                    fs::write(&hosts.hosts[host].plugin.roots.boot_id, format!("{boots}\n")).unwrap();
                    model.retain(|(of, _), _| *of != host);
                    // The first operation drops the leases; the agent does one at its start.
                    hosts.hosts[host].del("none", &ipam);
                }
            }
            let mut all = BTreeMap::new();
            for (number, host) in hosts.hosts.iter().enumerate() {
                let leases = host.leases();
                let wanted: BTreeMap<String, String> = model.iter()
                    .filter(|((of, _), _)| *of == number)
                    .map(|((_, id), ip)| (ip.clone(), format!("c{id}\r\neth0")))
                    .collect();
                prop_assert_eq!(&leases, &wanted);
                for ip in leases.into_keys() {
                    prop_assert!(all.insert(ip.clone(), number).is_none(), "{} twice", ip);
                }
            }
            let truth = hosts.truth.lock().unwrap();
            let own = truth.own.values().flatten().map(ToString::to_string);
            for special in own.chain(["10.9.0.0".to_owned(), "10.9.0.1".to_owned(), "10.9.0.31".to_owned()]) {
                prop_assert!(!all.contains_key(&special), "{}", special);
            }
        }
    }
}
