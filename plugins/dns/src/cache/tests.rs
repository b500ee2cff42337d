//! The cache against a model, its bounds, and every way in which answers are kept apart.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::record::tests::network;
use crate::wire::{Received, TCP_MAX, UDP_PLAIN, flag, kind, read, u16_at};

/// A query, with these bits of the second header word, and with EDNS: whether with DO.
fn question(name: &str, kind: u16, flags: u16, edns: Option<bool>) -> Vec<u8> {
    let mut packet = vec![0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    put_u16(&mut packet, 2, flags);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&kind::IN.to_be_bytes());
    if let Some(dnssec) = edns {
        packet.extend_from_slice(&crate::wire::opt_record(crate::wire::Rcode::NoError, dnssec));
    }
    packet
}

fn plain(name: &str) -> Vec<u8> {
    question(name, kind::A, flag::RD, None)
}

/// An answer with that many addresses, which begin with `mark`.
fn answer(question: &[u8], mark: u8, ttl: u32, count: u16) -> Vec<u8> {
    let Received::Query(query) = read(question) else { panic!("not a query") };
    let mut message = question[..HEADER + query.question().len()].to_vec();
    put_u16(&mut message, 2, flag::QR | flag::RA | flag::RD);
    put_u16(&mut message, 6, count);
    put_u16(&mut message, 10, 0);
    for _ in 0..count {
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&[0, 4, mark, 0, 0, 1]);
    }
    message
}

/// A cache with a clock and two networks.
struct Bench {
    cache: Cache,
    zone: Zone,
    now: Duration,
}

/// Who queries: the network, its container with own servers, the servers.
type Who<'a> = (&'a str, Option<&'a str>, &'a [&'a str]);

impl Bench {
    fn new() -> Self {
        let mut zone = Zone::default();
        for name in ["one", "two"] {
            zone.put_network(record::Network { name: name.into(), ..network() });
        }
        Self { cache: Cache::default(), zone, now: Duration::from_secs(1000) }
    }

    fn with<T>(
        &mut self,
        (name, owner, servers): Who<'_>,
        run: impl FnOnce(&mut Cache, &Scope<'_>, Duration) -> T,
    ) -> T {
        let slot = self.zone.slot(name).unwrap();
        let network = self.zone.network(slot).unwrap().record();
        let servers: Vec<SocketAddr> = servers.iter().map(|server| server.parse().unwrap()).collect();
        run(&mut self.cache, &Scope { slot, network, owner, servers: &servers }, self.now)
    }

    fn find(&mut self, who: Who<'_>, question: &[u8], limit: usize) -> Option<Vec<u8>> {
        let Received::Query(query) = read(question) else { panic!("not a query") };
        self.with(who, |cache, scope, now| {
            let mut buffer = vec![0; TCP_MAX];
            let length = cache.find(scope, &query, limit, &mut buffer, now)?;
            Some(buffer[..length].to_vec())
        })
    }

    fn expect(&mut self, who: Who<'_>, question: &[u8]) -> Option<Pending> {
        let Received::Query(query) = read(question) else { panic!("not a query") };
        self.with(who, |cache, scope, _| cache.expect(scope, &query))
    }

    fn fill(&mut self, who: Who<'_>, question: &[u8], answer: &[u8]) {
        assert_eq!(self.find(who, question, TCP_MAX), None, "it is kept already");
        let Some(pending) = self.expect(who, question) else { return };
        self.cache.end(&pending);
        self.cache.keep(pending, answer, self.now);
    }

    fn has(&mut self, who: Who<'_>, question: &[u8]) -> bool {
        self.find(who, question, TCP_MAX).is_some()
    }

    fn figures(&self, network: &str) -> Figures {
        self.cache.figures(self.zone.slot(network).unwrap())
    }
}

const SERVERS: &[&str] = &["192.0.2.1:53", "[2001:db8::1]:53"];
const ONE: Who<'_> = ("one", None, SERVERS);

/// D-111: the id and the spelling are the client's, the TTL what is left.
#[test]
fn a_kept_answer_counts_down_and_answers_as_it_is_asked() {
    let mut bench = Bench::new();
    let first = plain("www.a.test");
    bench.fill(ONE, &first, &answer(&first, 192, 10, 2));
    let mut again = plain("wWw.A.tesT");
    again[1] = 77;
    for (age, ttl) in [(0, 10), (1, 9), (9, 1)] {
        bench.now = Duration::from_secs(1000 + age) + Duration::from_millis(999);
        let found = bench.find(ONE, &again, TCP_MAX).unwrap();
        let mut wanted = answer(&again, 192, ttl, 2);
        wanted[1] = 77;
        assert_eq!(found, wanted, "after {age} s");
    }
    bench.now = Duration::from_secs(1010);
    assert!(!bench.has(ONE, &again), "past its time");
    assert_eq!(bench.figures("one"), Figures { answers: 0, bytes: 0, hits: 3, misses: 2 });
    // A clock that goes back makes no answer live longer than it may.
    bench.fill(ONE, &first, &answer(&first, 192, 10, 2));
    bench.now = Duration::from_secs(5);
    let found = bench.find(ONE, &first, TCP_MAX).unwrap();
    assert_eq!(found, answer(&first, 192, 10, 2));
}

/// D-112: every way in which an answer is not shared.
#[test]
fn answers_are_kept_apart() {
    let mut bench = Bench::new();
    let www = plain("www.a.test");
    bench.fill(ONE, &www, &answer(&www, 192, 60, 1));
    assert!(bench.has(ONE, &www));
    let reversed: Vec<&str> = SERVERS.iter().rev().copied().collect();
    for (who, why) in [
        (("two", None, SERVERS), "another network"),
        (("one", Some("c1"), SERVERS), "a container with servers of its own"),
        (("one", None, &SERVERS[..1]), "fewer servers"),
        (("one", None, &reversed[..]), "another first server"),
        (("one", None, &["192.0.2.1:54", SERVERS[1]]), "another port"),
        (("one", None, &[SERVERS[0], "[2001:db8::1%3]:53"]), "another link"),
    ] {
        assert!(!bench.has(who, &www), "{why}");
    }
    for (other, why) in [
        (plain("www.a.tes"), "another name"),
        (plain("www.a-test"), "another name"),
        (question("www.a.test", kind::AAAA, flag::RD, None), "another type"),
        (question("www.a.test", kind::A, 0, None), "RD"),
        (question("www.a.test", kind::A, flag::RD | flag::CD, None), "CD"),
        (question("www.a.test", kind::A, flag::RD | flag::AD, None), "AD"),
        (question("www.a.test", kind::A, flag::RD, Some(false)), "EDNS"),
        (question("www.a.test", kind::A, flag::RD, Some(true)), "DO"),
    ] {
        assert!(!bench.has(ONE, &other), "{why}");
    }
    let mine = ("one", Some("c1"), SERVERS);
    bench.fill(mine, &www, &answer(&www, 193, 60, 1));
    assert!(!bench.has(("one", Some("c2"), SERVERS), &www), "another container with the same servers");
    assert_eq!(bench.find(ONE, &www, TCP_MAX).unwrap(), answer(&www, 192, 60, 1));
    // Types are numbers: HTTPS (65) is no spelling of 97.
    let https = question("www.a.test", 65, flag::RD, None);
    let mut none = answer(&https, 0, 60, 0);
    none.extend_from_slice(&[0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 60, 0, 3, 0, 1, 0]);
    put_u16(&mut none, 6, 1);
    bench.fill(ONE, &https, &none);
    assert!(bench.has(ONE, &https) && !bench.has(ONE, &question("www.a.test", 97, flag::RD, None)));
}

/// D-112: an answer is truncated for a client that does not take it.
#[test]
fn a_small_client_gets_a_truncated_answer() {
    let mut bench = Bench::new();
    let www = plain("www.a.test");
    let whole = answer(&www, 192, 60, 60);
    bench.fill(ONE, &www, &whole);
    let short = bench.find(ONE, &www, UDP_PLAIN).unwrap();
    assert_eq!(short.len(), www.len());
    assert_eq!((u16_at(&short, 2).unwrap() & flag::TC, u16_at(&short, 6)), (flag::TC, Some(0)));
    assert_eq!(bench.find(ONE, &www, whole.len()).unwrap(), whole);
}

/// D-112: what the records change is not kept, nor what was on its way when they changed.
#[test]
fn changed_records_drop_what_they_must() {
    let mut bench = Bench::new();
    let (www, ftp) = (plain("www.a.test"), plain("ftp.a.test"));
    let change = |bench: &mut Bench, record: record::Network| {
        bench.zone.put_network(record);
        let Bench { cache, zone, .. } = bench;
        cache.follow(zone);
    };
    let one = || record::Network { name: "one".into(), ..network() };
    let two = ("two", None, SERVERS);
    bench.fill(two, &www, &answer(&www, 7, 60, 1));
    for changed in [
        record::Network { upstreams: Some(vec![SERVERS[0].parse().unwrap()]), ..one() },
        record::Network { cache: 0, ..one() },
    ] {
        bench.fill(ONE, &www, &answer(&www, 192, 60, 1));
        assert!(!bench.has(ONE, &ftp));
        let late = bench.expect(ONE, &ftp).unwrap();
        change(&mut bench, changed);
        change(&mut bench, one());
        assert!(!bench.has(ONE, &www), "its servers or its cache changed");
        bench.cache.end(&late);
        bench.cache.keep(late, &answer(&ftp, 192, 60, 1), bench.now);
        assert!(!bench.has(ONE, &ftp), "it was on its way");
    }
    assert!(bench.has(two, &www), "another network's answers stay");
    bench.fill(ONE, &www, &answer(&www, 192, 60, 1));
    change(&mut bench, one());
    assert!(bench.has(ONE, &www), "nothing changed");
    // Another network may get the number of a removed one.
    let late = bench.expect(ONE, &ftp).unwrap();
    bench.zone.remove_network("one");
    change(&mut bench, record::Network { name: "new".into(), ..network() });
    bench.cache.keep(late, &answer(&ftp, 192, 60, 1), bench.now);
    let new = ("new", None, SERVERS);
    assert!(!bench.has(new, &www) && !bench.has(new, &ftp));
    assert!(bench.has(two, &www));
    // A smaller cache keeps what fits.
    let names: Vec<Vec<u8>> = (0..5).map(|n| plain(&format!("n{n}.test"))).collect();
    names.iter().for_each(|name| bench.fill(new, name, &answer(name, 1, 60, 1)));
    change(&mut bench, record::Network { name: "new".into(), cache: 2, ..network() });
    assert_eq!(names.iter().filter(|name| bench.has(new, name)).count(), 2);
    bench.fill(new, &www, &answer(&www, 1, 60, 1));
    assert_eq!(bench.figures("new").answers, 2);
}

/// D-114: RFC 5452, section 5.
#[test]
fn only_the_first_of_identical_pending_queries_fills_the_cache() {
    let mut bench = Bench::new();
    let www = plain("www.a.test");
    assert!(!bench.has(ONE, &www));
    let first = bench.expect(ONE, &www).unwrap();
    assert!(bench.expect(ONE, &plain("WWW.a.test")).is_none());
    assert!(bench.expect(("one", Some("c1"), SERVERS), &www).is_some(), "another scope");
    bench.cache.end(&first);
    assert!(bench.expect(ONE, &www).is_some(), "it failed, and is asked again");
}

/// D-115: the answer that was not used for longest goes first, and only for its own network's.
#[test]
fn a_network_evicts_its_own_answers_only() {
    let mut bench = Bench::new();
    let (www, two) = (plain("www.a.test"), ("two", None, SERVERS));
    bench.fill(ONE, &www, &answer(&www, 192, 60, 1));
    bench.fill(two, &www, &answer(&www, 7, 60, 1));
    for n in 0..5000 {
        let name = plain(&format!("n{n}.random.test"));
        bench.fill(ONE, &name, &answer(&name, 1, 60, 1));
        assert!(bench.has(ONE, &www), "used after {n} others");
        assert!(bench.figures("one").answers <= 512 && bench.figures("one").bytes <= NETWORK_BYTES);
    }
    assert!(!bench.has(ONE, &plain("n0.random.test")) && bench.has(ONE, &plain("n4999.random.test")));
    assert!(bench.has(two, &www) && bench.figures("two").answers == 1);
    assert_eq!(bench.cache.bytes, bench.figures("one").bytes + bench.figures("two").bytes);
    let long = plain("long.test");
    bench.fill(ONE, &long, &answer(&long, 1, 60, 1100));
    assert!(!bench.has(ONE, &long), "too long");
}

/// D-115: among many networks each keeps its part of the whole.
#[test]
fn many_networks_share_four_megabytes_equally() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..40).map(|n| format!("net{n}")).collect();
    for (nth, name) in names.iter().enumerate() {
        bench.zone.put_network(record::Network { name: name.clone(), ..network() });
        let who = (name.as_str(), None, SERVERS);
        for n in 0..40 {
            let question = plain(&format!("n{n}.test"));
            bench.fill(who, &question, &answer(&question, 1, 60, 900));
            assert!(bench.cache.bytes <= TOTAL_BYTES, "network {nth}");
        }
        let part = TOTAL_BYTES / (nth + 1).max(16);
        assert!(bench.figures(name).bytes > part - (20 << 10), "network {nth} gets its part");
    }
    let last = TOTAL_BYTES / names.len() - (20 << 10);
    assert!(names.iter().all(|name| bench.figures(name).bytes > last), "the others keep theirs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// D-114, D-115: the cache holds no more than it may, and gives out only what was kept for
    /// exactly that query, within its time.
    #[test]
    fn nothing_but_the_latest_answer_to_the_query_is_found(
        steps in prop::collection::vec((0..2usize, 0..3usize, 0..30u8, 0..4usize, 1..200u16, 0..40u32, 0..9u64), 1..400),
    ) {
        let mut bench = Bench::new();
        let mut model: HashMap<_, (Vec<u8>, Duration)> = HashMap::new();
        for (nth, (network, owner, name, bits, count, ttl, wait)) in steps.into_iter().enumerate() {
            bench.now += Duration::from_secs(wait);
            let who = (["one", "two"][network], [None, Some("c1"), Some("c2")][owner], SERVERS);
            let edns = [None, None, Some(false), Some(true)][bits];
            let flags = [flag::RD, 0, flag::RD, flag::RD][bits];
            let question = question(&format!("n{name}.test"), kind::A, flags, edns);
            let key = (network, owner, name, bits);
            match (bench.find(who, &question, TCP_MAX), model.get(&key)) {
                (Some(found), Some((kept, until))) => {
                    prop_assert!(bench.now < *until, "past its time");
                    let left = u32::try_from((*until - bench.now).as_secs()).unwrap();
                    let at = found.len() - 10;
                    prop_assert_eq!(&found[at..at + 4], &left.to_be_bytes()[..]);
                    prop_assert_eq!(&found[at + 4..], &kept[at + 4..]);
                    prop_assert_eq!(found.len(), kept.len());
                }
                (Some(_), None) => prop_assert!(false, "nothing was kept"),
                (None, _) => {
                    let mark = u8::try_from(nth % 250).unwrap();
                    let message = answer(&question, mark, ttl, count);
                    let pending = bench.expect(who, &question).unwrap();
                    bench.cache.end(&pending);
                    bench.cache.keep(pending, &message, bench.now);
                    if ttl > 0 {
                        model.insert(key, (message, bench.now + Duration::from_secs(ttl.into())));
                    }
                }
            }
            let of = [bench.figures("one"), bench.figures("two")];
            prop_assert!(of.iter().all(|of| of.bytes <= NETWORK_BYTES && of.answers <= 512));
            prop_assert_eq!(bench.cache.bytes, of[0].bytes + of[1].bytes);
        }
    }

    /// D-114
    #[test]
    fn random_answers_break_no_invariant(
        name in "[a-z]{1,9}\\.test",
        ttl in 0..5000u32,
        count in 0..40u16,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut message = answer(&plain(&name), 1, ttl, count);
        for (at, value) in changes {
            let at = at.index(message.len());
            message[at] = value;
        }
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        fuzz::answer(&message);
    }
}
