//! Random sequences of commands, compared with a model.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Ask(u8, u8),
    Del(u8),
    /// DEL of the reference: the file is deleted without our index.
    Vanish(u8),
    LoseIndex,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..12).prop_map(Step::Add),
        2 => (0_u8..12, 0_u8..16).prop_map(|(id, host)| Step::Ask(id, host)),
        5 => (0_u8..12).prop_map(Step::Del),
        1 => (0_u8..12).prop_map(Step::Vanish),
        1 => Just(Step::LoseIndex),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    /// The directory equals the model, no address is leased twice, and allocation is round-robin.
    #[test]
    fn the_directory_equals_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let room = Room::new();
        let ipam = json!({ "subnet": "10.0.0.0/28", "rangeEnd": "10.0.0.9" });
        let mut model = BTreeMap::<u8, u8>::new();
        let mut last = 9;
        for step in steps {
            let free = |host: u8, model: &BTreeMap<u8, u8>| (2..=9).contains(&host) && !model.contains_key(&host);
            match step {
                Step::Add(id) | Step::Ask(id, _) => {
                    let asked = if let Step::Ask(_, host) = step { Some(host) } else { None };
                    let given = match asked {
                        None => room.add(&format!("c{id}"), &ipam),
                        Some(host) => room.request(&format!("c{id}"), &ipam, json!([format!("10.0.0.{host}")])),
                    };
                    let round = (1..=8).map(|n| 2 + (last - 2 + n) % 8).find(|host| free(*host, &model));
                    let wanted = asked.map_or(round, |host| free(host, &model).then_some(host));
                    let wanted = wanted.filter(|_| !model.values().any(|holder| *holder == id));
                    prop_assert_eq!(given.ok(), wanted.map(|host| vec![format!("10.0.0.{host}")]));
                    if let Some(host) = wanted {
                        model.insert(host, id);
                        last = host;
                    }
                }
                Step::Del(id) => {
                    room.del(&format!("c{id}"), &ipam);
                    model.retain(|_, holder| *holder != id);
                }
                Step::Vanish(host) => {
                    if model.remove(&host).is_some() {
                        fs::remove_file(room.lease(&format!("10.0.0.{host}"))).unwrap();
                    }
                }
                Step::LoseIndex => drop(fs::remove_dir_all(&room.plugin.roots.run)),
            }
            let mut files = if room.dir().exists() { room.files() } else { BTreeMap::new() };
            files.retain(|name, _| name.parse::<IpAddr>().is_ok());
            let wanted: BTreeMap<_, _> = model.iter()
                .map(|(host, id)| (format!("10.0.0.{host}"), format!("c{id}\r\neth0"))).collect();
            prop_assert_eq!(files, wanted);
        }
    }
}
