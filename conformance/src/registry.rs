//! Everything that this executable runs in rooms: every case, and every other kind of job.

use harness::case::Case;
use harness::faults;
use harness::job::{Kind, Registry};

use crate::{clients, compare, demo, stress, upgrade};

/// Every case, in the order in which they are listed and run.
pub fn cases() -> Vec<Case> {
    let mut all = cases::all();
    all.extend_from_slice(bench::attachments::CASES);
    all
}

/// The cases, and the kinds of jobs.
pub fn registry() -> Registry {
    let kinds: [&[Kind]; 8] = [
        bench::attachments::JOBS,
        bench::dns::JOBS,
        faults::JOBS,
        clients::JOBS,
        compare::JOBS,
        demo::JOBS,
        stress::JOBS,
        upgrade::JOBS,
    ];
    Registry { cases: cases(), kinds: kinds.concat() }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use harness::baseline::Baseline;
    use harness::world::World;

    use super::cases;

    #[test]
    fn a_list_names_only_cases_that_there_are() {
        let known = cases();
        let worlds = World::value_variants().iter().map(|world| Baseline::of_world(*world, None).unwrap());
        for list in Baseline::own().unwrap().into_iter().chain(worlds) {
            for case in list.cases() {
                assert!(known.iter().any(|other| other.name == case), "{}: {case}", list.name);
            }
        }
    }
}
