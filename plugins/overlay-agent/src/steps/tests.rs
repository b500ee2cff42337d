use std::collections::BTreeMap;
use std::time::Duration;

use cluster::VERSION;
use cluster::local::{Attachment, Blocks, Namespace};
use cluster::record::{Host, Net};

use super::*;
use crate::state::cache::{Cache, Raw};
use crate::state::local::{Local, NetLocal};
use crate::state::want::Need;
use crate::txn::Compare;

const PREFIX: &str = "/moor";
const A: &str = "aaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbb";

/// etcd as far as transactions need it.
#[derive(Default)]
struct Etcd {
    records: BTreeMap<Key, (Vec<u8>, i64, i64)>,
    revision: i64,
}

impl Etcd {
    fn commit(&mut self, txn: &Txn) -> bool {
        let holds = txn.compares.iter().all(|compare| {
            let have = self.records.get(compare.key());
            match compare {
                Compare::Absent(_) => have.is_none(),
                Compare::Unchanged(_, revision) => have.is_some_and(|have| have.2 == *revision),
                Compare::Value(_, value) => have.is_some_and(|have| have.0 == *value),
            }
        });
        if holds {
            self.revision += 1;
            for op in &txn.ops {
                match op {
                    Op::Put(key, value, _) => {
                        let created = self.records.get(key).map_or(self.revision, |have| have.1);
                        self.records.insert(key.clone(), (value.clone(), created, self.revision));
                    }
                    Op::Delete(key) => drop(self.records.remove(key)),
                }
            }
        }
        holds
    }

    fn cache(&self) -> Cache {
        let raw = |(key, (value, created, modified)): (&Key, &(Vec<u8>, i64, i64))| Raw {
            key: key.path(PREFIX).into_bytes(),
            value: value.clone(),
            created: *created,
            modified: *modified,
        };
        let mut cache = Cache::new(PREFIX);
        cache.replace(&self.records.iter().map(raw).collect::<Vec<_>>(), self.revision);
        cache
    }

    fn has(&self, text: &str) -> bool {
        self.records.keys().any(|key| key.to_string() == text)
    }
}

pub(crate) fn local(id: &str) -> Local {
    Local {
        id: id.to_owned(),
        boot: format!("boot of {id}"),
        host: Host {
            v: VERSION,
            name: "node".to_owned(),
            addresses: vec![format!("192.0.2.{}", id.len()).parse().unwrap()],
            mtu: 1500,
            agent: "1".to_owned(),
            protocol: 1,
        },
        port: 4789,
        encrypted_port: 4790,
        reclaim_after_s: 86_400,
        free_for: Duration::from_secs(600),
        lease: Some(7),
        alive_lease: None,
        closed: false,
        leaving: false,
        silent_since: BTreeMap::new(),
        utc: String::new(),
        nets: BTreeMap::new(),
    }
}

fn net(subnet: &str) -> Net {
    Net {
        v: VERSION,
        vni: Some(0),
        subnets: vec![cni::parse_cidr(subnet).unwrap()],
        gateways: vec!["10.9.0.1".parse().unwrap()],
        block_size: 8,
        mtu: Some(0),
        encrypted: false,
        multicast: false,
        internal: false,
    }
}

fn attachment(ip: &str) -> Attachment {
    let ip: IpAddr = ip.parse().unwrap();
    Attachment {
        v: VERSION,
        ips: vec![ip],
        mac: cluster::mac::of_address(ip).to_string(),
        names: vec!["web".to_owned()],
        netns: Namespace { path: "/run/netns/x".to_owned(), inode: 1 },
        veth: "veth0".to_owned(),
    }
}

/// Does steps until none is left, and returns how many there were.
fn run(etcd: &mut Etcd, local: &mut Local, needs: &[Need]) -> usize {
    for count in 0..50 {
        let cache = etcd.cache();
        let networks: Vec<String> = cache.nets().map(|(network, _)| network.to_owned()).collect();
        for network in networks {
            let copy = cache.net(&Key::Net(network.clone())).cloned();
            local.nets.entry(network.clone()).or_default().copy = copy;
            let view = View { cache: &cache, local, needs, now: Duration::ZERO, random: 1 };
            let blocks = blocks_file(&view, &network);
            local.nets.get_mut(&network).unwrap().blocks = blocks;
        }
        let view = View { cache: &cache, local, needs, now: Duration::from_secs(100), random: 1 };
        match next(&view) {
            None => return count,
            Some(Step::Txn(txn)) => {
                assert!(etcd.commit(&txn), "{txn:?}");
                if txn.ops.iter().any(|op| matches!(op, Op::Put(Key::Alive(_), ..))) {
                    local.alive_lease = local.lease;
                }
            }
            Some(step) => panic!("{step:?}"),
        }
    }
    panic!("no end");
}

fn joined() -> (Etcd, Local) {
    let (mut etcd, mut local) = (Etcd::default(), local(A));
    let need = [Need::Network("front".to_owned(), net("10.9.0.0/24"))];
    run(&mut etcd, &mut local, &need);
    (etcd, local)
}

#[test]
fn a_first_host_makes_the_cluster_the_network_and_claims_a_block() {
    let (etcd, mut local) = joined();
    for key in ["meta", "net/front", "vni/7143425"] {
        assert!(etcd.has(key), "{key}");
    }
    for key in ["host/", "alive/", "own/front/"] {
        assert!(etcd.has(&format!("{key}{A}")), "{key}");
    }
    let blocks = &local.nets["front"].blocks;
    assert_eq!((blocks.blocks.len(), blocks.own.len()), (1, 1));
    let mut etcd = etcd;
    assert_eq!(run(&mut etcd, &mut local, &[]), 0, "nothing is left to do");
}

/// O-088
#[test]
fn a_host_with_anothers_identity_writes_nothing() {
    let (mut etcd, _) = joined();
    let mut double = local(A);
    double.boot = "another".to_owned();
    let before = etcd.records.clone();
    let need = [Need::Network("back".to_owned(), net("10.9.1.0/24"))];
    assert_eq!(run(&mut etcd, &mut double, &need), 0);
    assert_eq!(etcd.records, before);
}

#[test]
fn another_port_than_the_clusters_is_refused() {
    let (mut etcd, _) = joined();
    let mut other = local(B);
    other.port = 4799;
    assert_eq!(run(&mut etcd, &mut other, &[]), 0);
    let cache = etcd.cache();
    let view = View { cache: &cache, local: &other, needs: &[], now: Duration::ZERO, random: 1 };
    assert_eq!(standing(&view), Standing::OtherPort(4789, 4790));
}

/// O-097
#[test]
fn what_etcd_has_not_heard_is_the_difference_to_the_files() {
    let (mut etcd, mut local) = joined();
    let ip = local.nets["front"].blocks.blocks[0];
    let Ok(ip) = ip.to_string().replace(".8", ".9").parse::<IpAddr>() else { panic!() };
    let text = ip.to_string();
    let front = local.nets.get_mut("front").unwrap();
    front.attachments.insert("c1@eth0".to_owned(), attachment(&text));
    front.leases.insert(ip);
    run(&mut etcd, &mut local, &[]);
    assert!(etcd.has(&format!("ep/front/{A}/c1@eth0")));
    local.nets.get_mut("front").unwrap().attachments.clear();
    // A newer release's record may be in the file.
    local.nets.get_mut("front").unwrap().unreadable.insert("c1@eth0".to_owned());
    run(&mut etcd, &mut local, &[]);
    assert!(etcd.has(&format!("ep/front/{A}/c1@eth0")));
    local.nets.get_mut("front").unwrap().unreadable.clear();
    local.nets.get_mut("front").unwrap().leases.clear();
    run(&mut etcd, &mut local, &[]);
    assert!(!etcd.has(&format!("ep/front/{A}/c1@eth0")));
}

/// O-013
#[test]
fn an_address_that_is_anothers_now_is_given_up_and_its_record_goes() {
    let (mut etcd, mut local) = joined();
    let first = local.nets["front"].blocks.blocks[0];
    let ip = cluster::block::Space::of(&net("10.9.0.0/24"))[0].usable(first).nth(2).unwrap();
    let front = local.nets.get_mut("front").unwrap();
    front.attachments.insert("c1@eth0".to_owned(), attachment(&ip.to_string()));
    front.leases.insert(ip);
    run(&mut etcd, &mut local, &[]);
    let other = cluster::record::Block { v: VERSION, host: B.to_owned() };
    let key = Key::Block { network: "front".to_owned(), first };
    assert!(etcd.commit(&Txn::default().put(key, &other)));
    run(&mut etcd, &mut local, &[]);
    assert!(!etcd.has(&format!("ep/front/{A}/c1@eth0")));
    assert!(!local.nets["front"].blocks.blocks.contains(&first));
}

/// O-004
#[test]
fn the_next_block_is_claimed_before_the_last_quarter_is_used() {
    let (mut etcd, mut local) = joined();
    let first = local.nets["front"].blocks.blocks[0];
    let usable: Vec<IpAddr> = cluster::block::Space::of(&net("10.9.0.0/24"))[0].usable(first).collect();
    // One is the host's own.
    local.nets.get_mut("front").unwrap().leases.extend(&usable[1..usable.len() - 2]);
    run(&mut etcd, &mut local, &[]);
    assert_eq!(local.nets["front"].blocks.blocks.len(), 1, "two of eight are free: a quarter");
    local.nets.get_mut("front").unwrap().leases.insert(usable[usable.len() - 2]);
    run(&mut etcd, &mut local, &[]);
    assert_eq!(local.nets["front"].blocks.blocks.len(), 2);
}

/// O-008
#[test]
fn no_block_is_claimed_ahead_of_need_that_limits_leave_nothing_of() {
    let (mut etcd, mut local) = joined();
    let front = local.nets.get_mut("front").unwrap();
    front.limits.start = Some("10.9.0.100".parse().unwrap());
    front.limits.end = Some("10.9.0.109".parse().unwrap());
    front.attachments.insert("c1@eth0".to_owned(), attachment("10.9.0.250"));
    run(&mut etcd, &mut local, &[]);
    let front = &local.nets["front"];
    let first = front.blocks.own[0];
    let of_use = ["10.9.0.96", "10.9.0.104"].map(|first| first.parse::<IpAddr>().unwrap());
    let claimed: Vec<_> = front.blocks.blocks.iter().collect();
    assert!(claimed.iter().any(|first| of_use.contains(first)), "{claimed:?}");
    assert!(claimed.len() <= 3, "{claimed:?}, own address {first}");
    assert!(claimed.iter().skip(1).all(|first| of_use.contains(first)), "{claimed:?}");
}

#[test]
fn a_removed_network_is_given_up_by_hosts_that_do_not_use_it_alone() {
    let (mut etcd, mut local) = joined();
    let removed = Txn::default().delete(Key::Net("front".to_owned()));
    let record = etcd.records[&Key::Net("front".to_owned())].clone();
    etcd.commit(&removed);
    let cache = etcd.cache();
    let step = |local: &Local, cache: &Cache| {
        let view = View { cache, local, needs: &[], now: Duration::from_secs(100), random: 1 };
        next(&view)
    };
    assert_eq!(step(&local, &cache), Some(Step::Abandon { network: "front".to_owned() }));
    let view = View { cache: &cache, local: &local, needs: &[], now: Duration::ZERO, random: 1 };
    let txn = release_all(&view, "front").unwrap();
    assert!(blocks_file(&view, "front").blocks.is_empty(), "nothing is given from here on");
    local.nets.get_mut("front").unwrap().leases.insert("10.9.0.4".parse().unwrap());
    let again = step(&local, &cache);
    let made = |step: &Option<Step>| matches!(step, Some(Step::Txn(txn)) if txn.ops.iter().any(|op| *op.key() == Key::Net("front".to_owned())));
    assert!(made(&again), "{again:?}");
    // Another host makes it again in time: nothing is deleted.
    etcd.records.insert(Key::Net("front".to_owned()), record);
    assert!(!etcd.commit(&txn));
    etcd.commit(&removed);
    assert!(etcd.commit(&txn));
    assert!(!etcd.records.keys().any(|key| key.network() == Some("front")));
}

#[test]
fn a_block_that_was_free_for_long_goes_back_but_never_the_first() {
    let (mut etcd, mut local) = joined();
    let any = [Need::Any("front".to_owned(), 0, Default::default())];
    let cache = etcd.cache();
    let view = View { cache: &cache, local: &local, needs: &any, now: Duration::ZERO, random: 1 };
    let Some(Step::Txn(txn)) = next(&view) else { panic!() };
    assert!(etcd.commit(&txn));
    run(&mut etcd, &mut local, &[]);
    let blocks = local.nets["front"].blocks.blocks.clone();
    assert_eq!(blocks.len(), 2);
    local.nets.get_mut("front").unwrap().free_since =
        blocks.iter().map(|first| (*first, Duration::ZERO)).collect();
    let cache = etcd.cache();
    let at = |seconds| View {
        cache: &cache,
        local: &local,
        needs: &[],
        now: Duration::from_secs(seconds),
        random: 1,
    };
    assert_eq!(next(&at(599)), None);
    let given = Step::GiveBack { network: "front".to_owned(), first: blocks[1] };
    assert_eq!(next(&at(600)), Some(given));
}

/// O-086: what belongs to a silent host goes only when its grace is over, all of it, bound to that.
#[test]
fn a_host_is_forgotten_only_after_its_grace() {
    let (mut etcd, _) = joined();
    let mut other = local(B);
    run(&mut etcd, &mut other, &[]);
    etcd.records.remove(&Key::Alive(A.to_owned()));
    let mut early = other.clone();
    assert_eq!(run(&mut etcd, &mut early, &[]), 0, "it does not know yet since when");
    other.silent_since.insert(A.to_owned(), Duration::ZERO);
    run(&mut etcd, &mut other, &[]);
    assert!(etcd.has(&format!("silent/{A}")) && etcd.has(&format!("grace/{A}")));
    assert!(etcd.has(&format!("own/front/{A}")));
    etcd.records.remove(&Key::Grace(A.to_owned()));
    run(&mut etcd, &mut other, &[]);
    assert!(!etcd.records.keys().any(|key| key.to_string().contains(A)), "nothing of it is left");
    assert!(etcd.has("net/front"));
}

/// O-085
#[test]
fn blocks_that_a_restored_etcd_has_forgotten_are_claimed_again() {
    let (mut etcd, mut local) = joined();
    let blocks = local.nets["front"].blocks.clone();
    for key in [Key::Net("front".to_owned()), Key::Vni(cluster::VNI_FIRST)] {
        etcd.records.remove(&key);
    }
    etcd.records.retain(|key, _| !matches!(key, Key::Block { .. } | Key::Own { .. }));
    local.nets.get_mut("front").unwrap().lost.extend(&blocks.blocks);
    run(&mut etcd, &mut local, &[]);
    assert_eq!(local.nets["front"].blocks, Blocks { ..blocks });
    assert!(etcd.has("net/front") && etcd.has("vni/7143425"));
}

/// O-085
#[test]
fn what_a_restored_etcd_lacks_of_others_is_believed_for_a_while() {
    let (etcd, local) = joined();
    let mut cache = etcd.cache();
    let first = local.nets["front"].blocks.blocks[0];
    let others = [Key::Host(A.to_owned()), Key::Net("front".to_owned())];
    let is_believed = |cache: &Cache, key: &Key| cache.believed().any(|(believed, _)| believed == key);
    cache.replace_restored(&[], 1, B);
    assert!(others.iter().all(|key| is_believed(&cache, key) && !cache.has(key)));
    // Nobody claims a block that its owner is about to claim again.
    assert_eq!(cache.carried_blocks("front").collect::<Vec<_>>(), [first]);
    let view = View { cache: &cache, local: &self::local(B), needs: &[], now: Duration::ZERO, random: 1 };
    assert_eq!(asks::holder(&view, "front", first), Holder::Nobody, "the network's record is not there yet");
    assert!(cache.drop_carried() && !others.iter().any(|key| is_believed(&cache, key)));
    // What was its own is in the files of the host, not in etcd's past.
    let mut own = etcd.cache();
    own.replace_restored(&[], 1, A);
    assert!(!is_believed(&own, &Key::Host(A.to_owned())));
}

#[test]
fn an_address_is_asked_of_its_holder_and_lent_once() {
    let (mut etcd, local) = joined();
    let mut other = self::local(B);
    run(&mut etcd, &mut other, &[]);
    let first = local.nets["front"].blocks.blocks[0];
    let ip = cluster::block::Space::of(&net("10.9.0.0/24"))[0].usable(first).nth(2).unwrap();
    let need = [Need::Address("front".to_owned(), ip)];
    let cache = etcd.cache();
    other.nets.insert("front".to_owned(), NetLocal { copy: Some(net("10.9.0.0/24")), ..NetLocal::default() });
    run(&mut etcd, &mut other, &need);
    drop(cache);
    let ask = Key::Ask { network: "front".to_owned(), address: Some(ip), host: B.to_owned() };
    assert!(etcd.records.contains_key(&ask));
    let cache = etcd.cache();
    let view = View { cache: &cache, local: &local, needs: &[], now: Duration::ZERO, random: 1 };
    let Some(Step::Answer { ask, revision }) = next(&view) else { panic!() };
    let txn = lend(&view, &ask, revision, ip).unwrap();
    assert!(etcd.commit(&txn));
    let cache = etcd.cache();
    let view = View { cache: &cache, local: &local, needs: &[], now: Duration::ZERO, random: 1 };
    assert!(blocks_file(&view, "front").lent.contains(&ip));
    assert_eq!(holder(&view, "front", ip), Holder::Host(B.to_owned()));
    let view = View { cache: &cache, local: &other, needs: &[], now: Duration::ZERO, random: 1 };
    assert!(blocks_file(&view, "front").borrowed.contains(&ip));
}
