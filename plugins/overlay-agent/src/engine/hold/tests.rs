use super::*;
use crate::remote::{Contact, Report};

/// Pauses between attempts, in seconds, while all fail.
fn pauses(is_full: bool) -> Vec<f64> {
    let mut hold: Option<Hold> = None;
    let mut now = Duration::from_secs(100);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let next = Hold::after(hold.as_ref(), "no", is_full, now, 0);
        pauses.push((next.until(false) - now).as_secs_f64());
        assert_eq!(next.since, Duration::from_secs(100));
        assert!(next.until(true) <= now + AWAITED);
        now = next.until(false);
        hold = Some(next);
    }
    pauses
}

#[test]
fn refused_requests_are_repeated_once_a_minute_at_last_and_sooner_for_somebody_who_waits() {
    assert_eq!(pauses(false), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
    assert_eq!(pauses(true), [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]);
}

const TTL: u64 = 3;

/// An agent in a directory of its own that has read an empty etcd.
fn engine(dir: &std::path::Path) -> Engine {
    let settings = br#"{"endpoints": ["https://192.0.2.1:2379"], "hostTtlS": 3, "hostAddress": "192.0.2.9"}"#;
    let settings =
        cluster::settings::Settings::parse(std::path::Path::new("/cluster.json"), Some(settings)).unwrap();
    let at = |name: &str| dir.join(name);
    let files = crate::files::Files { state: at("state"), run: at("run"), ledgers: at("ledgers") };
    files.make().unwrap();
    let local = crate::steps::tests::local("aaaaaaaaaaaaaaaa");
    let mut engine = Engine::new(&settings, files, local, Duration::ZERO).unwrap();
    engine.report(Report::Whole(Vec::new(), 1, Vec::new(), contact()), Duration::ZERO);
    engine
}

fn contact() -> Contact {
    Contact { cluster: "7".into(), member: "https://192.0.2.1:2379".into() }
}

fn trouble(text: &str, is_refusal: bool, is_full: bool) -> Trouble {
    Trouble { text: text.into(), is_refusal, is_full }
}

/// Lets this many seconds pass, with an etcd that refuses transactions so; the times, in
/// milliseconds, at which the lease was kept alive, and at which a transaction was tried.
fn seconds(engine: &mut Engine, from: u64, count: u64, refuses: Option<&Trouble>) -> (Vec<u64>, Vec<u64>) {
    let (mut kept, mut tried) = (Vec::new(), Vec::new());
    let mut revision = 1000 + i64::try_from(from).unwrap();
    for millis in (from * 1000..(from + count) * 1000).step_by(20) {
        let now = Duration::from_millis(millis);
        let Some(job) = engine.next_job(now) else { continue };
        revision += 1;
        let outcome = match &job {
            Job::Grant(_) => Ok(Outcome::Granted(5)),
            Job::KeepAlive(_) => {
                kept.push(millis);
                Ok(Outcome::Kept(true))
            }
            Job::Txn(..) => {
                tried.push(millis);
                refuses.cloned().map_or(Ok(Outcome::Committed(revision)), Err)
            }
            Job::Newest => Ok(Outcome::Newest(0)),
            Job::Space => {
                let is_full = refuses.is_some_and(|trouble| trouble.is_full);
                Ok(Outcome::Space(crate::etcd::Status { is_full, ..Default::default() }))
            }
        };
        engine.report(Report::Done(job, outcome.map(|outcome| (outcome, contact()))), now);
    }
    (kept, tried)
}

fn longest_gap(times: &[u64]) -> u64 {
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

fn status(engine: &Engine, now: u64) -> cluster::control::Status {
    let mut status = engine.with_view(Duration::from_secs(now), |view| engine.status(view));
    // The address of the test's host is on no link.
    status.faults.retain(|fault| fault.starts_with("etcd"));
    status
}

/// O-075: a host that may not write stays alive for others, and writes as soon as it may.
#[test]
fn the_lease_is_kept_alive_while_etcd_refuses_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(dir.path());
    let (_, joined) = seconds(&mut engine, 0, 10, None);
    assert!(!joined.is_empty());
    assert!(status(&engine, 10).faults.is_empty());
    // Something to write.
    engine.local.host.name = "another".into();
    let refused = trouble("etcd: refused (permission denied)", true, false);
    let (kept, tried) = seconds(&mut engine, 10, 300, Some(&refused));
    assert!(longest_gap(&kept) < TTL * 1000, "{kept:?}");
    assert!(tried.len() < 16 && longest_gap(&tried) < 76_000, "{tried:?}");
    assert_eq!(status(&engine, 310).faults, std::slice::from_ref(&refused.text));
    assert!(status(&engine, 310).away.is_some() && status(&engine, 310).away_s >= 290);
    assert!(engine.wants_other_credentials());
    // Other credentials are tried at once.
    engine.try_again(Duration::from_secs(310));
    let (_, tried) = seconds(&mut engine, 310, 2, None);
    assert!(tried[0] < 310_100, "{tried:?}");
    assert!(status(&engine, 312).faults.is_empty() && status(&engine, 312).away.is_none());
}

/// Without space the lease goes on, puts are tried again, and STATUS says why.
#[test]
fn the_lease_is_kept_alive_while_etcd_has_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(dir.path());
    seconds(&mut engine, 0, 10, None);
    engine.local.host.name = "another".into();
    let full = trouble("etcd: no space (space exceeded)", false, true);
    let (kept, tried) = seconds(&mut engine, 10, 100, Some(&full));
    assert!(longest_gap(&kept) < TTL * 1000, "{kept:?}");
    assert!(longest_gap(&tried) < 6500, "{tried:?}");
    let told = status(&engine, 110);
    assert!(told.away.is_some_and(|why| why.contains("no space")) && told.faults.is_empty());
    let (_, tried) = seconds(&mut engine, 110, 8, None);
    assert!(!tried.is_empty() && status(&engine, 118).away.is_none());
}
