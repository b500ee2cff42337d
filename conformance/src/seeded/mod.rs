//! The suite tests itself: plugins with one defect each, and the case that must fail.

mod addresses;
mod company;
mod defect;
mod devices;
mod files;
pub mod hoard;
mod hosts;
mod leases;
mod links;
mod names;
mod networks;
mod order;
mod packets;
mod rates;
mod records;
mod routed;
mod rules;
mod sources;
mod tool;
mod tuning;
mod verbs;
mod walls;
pub mod wrapper;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use harness::case::Case;
use harness::runner::Grounds;

use crate::compare;
use defect::Defect;

/// The prefix of a comparison of two suites, instead of a case.
const DIFF: &str = "diff/";

/// A temporary directory that is deleted when dropped.
struct Workshop(PathBuf);

impl Drop for Workshop {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Runs each defect's case, which is one of the `known`, with and without the defect. True when
/// every case fails, and only with the defect.
pub fn run(grounds: &Grounds, filter: &str, known: &[Case]) -> Result<bool> {
    let defects: Vec<&Defect> = defect::all().filter(|defect| defect.name.contains(filter)).collect();
    if defects.is_empty() {
        bail!("no defect matches {filter:?}");
    }
    for defect in &defects {
        let is_there = defect.case.starts_with(DIFF) || known.iter().any(|case| case.name == defect.case);
        ensure!(is_there, "there is no case {}", defect.case);
    }
    // A case that fails mostly waits for what does not come.
    let grounds = &Grounds { jobs: grounds.jobs * 2, ..grounds.clone() };
    let workshop = Workshop(std::env::temp_dir().join(format!("conformance-seeded-{}", std::process::id())));
    let mut sound: Vec<&str> = defects.iter().map(|defect| defect.case).collect();
    sound.sort_unstable();
    sound.dedup();
    let broken: Vec<(&str, String)> = grounds
        .parallel(&sound, |case| Ok((*case, trouble(grounds, &grounds.suite, case)?)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter_map(|(case, trouble)| Some((case, trouble?)))
        .collect();
    let caught = grounds.parallel(&defects, |defect| {
        let dir = workshop.0.join(defect.name);
        wrapper::suite(&dir, &grounds.suite, &grounds.exe, defect)
            .with_context(|| format!("create {}", dir.display()))?;
        trouble(grounds, &dir, defect.case)
    });
    let mut count = 0;
    for (defect, caught) in defects.iter().zip(caught) {
        let label = format!("{} in {}", defect.name, defect.plugin);
        if let Some((_, why)) = broken.iter().find(|(case, _)| *case == defect.case) {
            println!("UNPROVED {label}: {} fails without the defect too: {why}", defect.case);
            continue;
        }
        match caught? {
            Some(why) => {
                count += 1;
                println!("caught   {label}, by {}: {why}", defect.case);
            }
            None => println!("MISSED   {label}: {} passes with the defect", defect.case),
        }
    }
    println!("{count} of {} seeded defects are caught", defects.len());
    Ok(count == defects.len())
}

/// Why the suite fails the case, on one line. `diff/<conflist>` is its comparison with the
/// unmodified suite.
fn trouble(grounds: &Grounds, suite: &Path, case: &str) -> Result<Option<String>> {
    let suite = Grounds { suite: suite.to_owned(), ..grounds.clone() };
    let trouble = match case.strip_prefix(DIFF) {
        Some(file) => compare::first(&Grounds { reference: grounds.suite.clone(), ..suite }, file)?,
        None => suite.run(&format!("case:{case}"))?.trouble,
    };
    let brief = |text: String| -> String {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").chars().take(120).collect()
    };
    Ok(trouble.map(brief))
}
