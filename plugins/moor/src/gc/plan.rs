//! What is left of dead attachments: a function of what was read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use runtime::AttachmentId;

use super::leftover::{Claimed, Key, Kind, Leftover};

/// What is known of the containers.
#[derive(Debug, Default)]
pub struct Alive {
    /// Everything could be looked at.
    pub is_whole: bool,
    /// Attachments that are there, or could not be looked at.
    pub attachments: Vec<Key>,
    /// Containers of processes.
    pub processes: HashSet<String>,
}

/// What would be removed.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The objects, by owner.
    pub leftovers: Vec<Leftover>,
    /// What GC of each network keeps.
    pub valid: BTreeMap<String, BTreeSet<AttachmentId>>,
    /// Owners whose objects bear no time: they may be of an ADD that runs.
    pub undated: BTreeSet<Key>,
}

/// Decides about each object. An attachment is dead if its record is, or if nothing shows that its
/// container is alive and everything of it is old.
pub fn plan(claims: &[Claimed], alive: &Alive, now: SystemTime, older_than: Duration) -> Plan {
    let age = |written: Option<SystemTime>| written.map(|at| now.duration_since(at).unwrap_or_default());
    let containers: HashSet<&str> = alive.attachments.iter().map(|key| key.container_id.as_str()).collect();
    let is_running = |id: &str| {
        // nerdctl puts the containerd namespace before the id.
        let bare = id.rsplit_once('-').map_or(id, |(_, bare)| bare);
        alive.processes.contains(id) || alive.processes.contains(bare)
    };
    // The age of the youngest object of a container.
    let mut youngest: HashMap<&str, Duration> = HashMap::new();
    for claim in claims {
        if let Some(age) = age(claim.written) {
            let known = youngest.entry(&claim.key.container_id).or_insert(age);
            *known = age.min(*known);
        }
    }
    let is_young = |id: &str| youngest.get(id).is_some_and(|age| *age < older_than);
    let records: HashMap<&Key, bool> = claims
        .iter()
        .filter(|claim| claim.kind == Kind::Record)
        .map(|claim| (&claim.key, claim.is_dead && age(claim.written).is_some_and(|age| age >= older_than)))
        .collect();
    let mut plan = Plan::default();
    for claim in claims {
        let id = claim.key.container_id.as_str();
        let is_left = match records.get(&claim.key) {
            Some(is_dead) => *is_dead,
            None if !alive.is_whole || containers.contains(id) || is_running(id) || is_young(id) => false,
            None if !claim.is_dead => false,
            None if youngest.contains_key(id) || older_than.is_zero() => true,
            None => {
                plan.undated.insert(claim.key.clone());
                false
            }
        };
        if is_left {
            let Claimed { key, kind, object, file, .. } = claim.clone();
            plan.leftovers.push(Leftover { key, kind, object, file });
        } else {
            plan.valid.entry(claim.key.network.clone()).or_default().insert(claim.key.id());
        }
    }
    for key in &alive.attachments {
        plan.valid.entry(key.network.clone()).or_default().insert(key.id());
    }
    plan.leftovers.sort();
    plan
}

impl Plan {
    /// The attachments of which something is left.
    pub fn dead(&self) -> BTreeSet<&Key> {
        self.leftovers.iter().map(|leftover| &leftover.key).collect()
    }

    /// Takes out what is left of these networks.
    pub fn leave(&mut self, is_left_alone: impl Fn(&Key) -> bool) {
        self.leftovers.retain(|leftover| !is_left_alone(&leftover.key));
        self.undated.retain(|key| !is_left_alone(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn claim(id: &str, kind: Kind, age: Option<u64>, is_dead: bool) -> Claimed {
        Claimed {
            key: Key::new("front", id, "eth0"),
            kind,
            object: "x".into(),
            file: None,
            written: age.map(|age| now() - Duration::from_secs(age)),
            is_dead,
        }
    }

    fn left(claims: &[Claimed], alive: &Alive) -> Vec<(String, Kind)> {
        let plan = plan(claims, alive, now(), Duration::from_secs(600));
        plan.leftovers.into_iter().map(|leftover| (leftover.key.container_id, leftover.kind)).collect()
    }

    fn whole() -> Alive {
        Alive { is_whole: true, ..Alive::default() }
    }

    #[test]
    fn everything_of_a_dead_record_is_left_and_nothing_of_a_living_one() {
        let of = |id: &str, is_dead| {
            [(Kind::Record, Some(HOUR)), (Kind::Lease, Some(HOUR)), (Kind::Element, None)]
                .map(|(kind, age)| claim(id, kind, age, is_dead || kind == Kind::Element))
        };
        let claims = [of("dead", true), of("alive", false)].concat();
        let kinds = [Kind::Record, Kind::Lease, Kind::Element].map(|kind| ("dead".to_owned(), kind));
        assert_eq!(left(&claims, &whole()), kinds);
    }

    #[test]
    fn young_unknown_and_running_containers_keep_everything() {
        let lease = |id: &str, age| claim(id, Kind::Lease, Some(age), true);
        assert_eq!(left(&[lease("a", HOUR)], &whole()).len(), 1);
        assert!(left(&[lease("a", 60)], &whole()).is_empty(), "young");
        assert!(left(&[lease("a", HOUR)], &Alive::default()).is_empty(), "not everything was seen");
        let processes = HashSet::from(["a".to_owned()]);
        let running = Alive { processes, ..whole() };
        assert!(left(&[lease("a", HOUR), lease("k8s-a", HOUR)], &running).is_empty());
        let attachments = vec![Key::new("back", "a", "eth1")];
        let elsewhere = Alive { attachments, ..whole() };
        assert!(left(&[lease("a", HOUR)], &elsewhere).is_empty(), "alive on another network");
        let young_record = [claim("a", Kind::Record, Some(60), true), lease("a", HOUR)];
        assert!(left(&young_record, &whole()).is_empty());
    }

    #[test]
    fn rules_of_an_add_that_may_still_run_stay() {
        let element = [claim("a", Kind::Element, None, true)];
        let plan_of = |older| plan(&element, &whole(), now(), Duration::from_secs(older));
        assert!(plan_of(600).leftovers.is_empty());
        assert_eq!(plan_of(600).undated.len(), 1);
        assert!(plan_of(600).valid["front"].contains(&Key::new("front", "a", "eth0").id()));
        assert_eq!(plan_of(0).leftovers.len(), 1);
        let young = [claim("a", Kind::Element, None, true), claim("a", Kind::Lease, Some(60), true)];
        assert!(left(&young, &whole()).is_empty(), "its lease is young");
    }
}
