//! The known deviations of a suite: a list in `testdata/baseline`, selected by the text that the
//! suite's bridge prints about itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::case::{Outcome, Verdict};
use crate::runner::Grounds;
use crate::world::World;

/// The harness's own lists: name, text.
const OWN: [(&str, &str); 1] =
    [("reference-1.1.1", include_str!("../../../testdata/baseline/reference-1.1.1.txt"))];

/// Prefix of the reason of a race.
const SOMETIMES: &str = "sometimes";

/// The cases that a suite is known to fail, with reasons.
pub struct Baseline {
    /// The name of the list in reports.
    pub name: String,
    about: Vec<String>,
    known: BTreeMap<String, String>,
}

/// An outcome compared with the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'b> {
    /// As expected, or not run: nothing to report.
    Fine,
    /// Failed as listed, for this reason.
    Known(&'b str),
    /// Failed, and is not listed.
    New,
    /// Passed, although it is listed.
    Fixed,
}

impl<'b> Standing<'b> {
    /// Compares an outcome with a list. Without one, a failure is new.
    pub fn of(baseline: Option<&'b Baseline>, outcome: &Outcome) -> Self {
        match baseline {
            Some(baseline) => baseline.standing(outcome),
            None if outcome.verdict.is_failure() => Self::New,
            None => Self::Fine,
        }
    }
}

/// The text that the suite's bridge prints about itself. It runs in a room, because an unknown
/// suite may do anything when started.
pub fn about(grounds: &Grounds) -> Result<Vec<String>> {
    Ok(grounds.run("about:")?.stdout.lines().map(str::to_owned).collect())
}

impl Baseline {
    /// Selects the list to compare a run with: the file that is given, no list for `none`,
    /// otherwise the harness's own list for a suite with the same text about itself.
    pub fn choose(asked: Option<&Path>, grounds: &Grounds) -> Result<Option<Self>> {
        match asked {
            Some(path) if path.as_os_str() == "none" => Ok(None),
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                Self::read(&path.display().to_string(), &text).map(Some)
            }
            None => {
                let text = about(grounds)?;
                Ok(Self::own()?.into_iter().find(|own| !own.about.is_empty() && own.about == text))
            }
        }
    }

    /// The harness's own lists.
    pub fn own() -> Result<Vec<Self>> {
        OWN.into_iter().map(|(name, text)| Self::read(name, text)).collect()
    }

    /// The cases in the list.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// The cases that cannot pass in a world, together with the suite's known deviations.
    pub fn of_world(world: World, known: Option<Self>) -> Result<Self> {
        let mut list = Self::read(&format!("the world {}", world.name()), world.exceptions())?;
        if let Some(known) = known {
            list.name = format!("{} in {}", known.name, list.name);
            list.known.extend(known.known);
        }
        Ok(list)
    }

    /// `about:` lines are the text that the suite's bridge prints without a command; `#` begins a
    /// comment; every other line is a case's name and the reason. A reason that begins with
    /// `sometimes` marks a race: a pass does not make it fixed.
    fn read(name: &str, text: &str) -> Result<Self> {
        let mut baseline = Self { name: name.to_owned(), about: vec![], known: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(text) = line.strip_prefix("about: ") {
                baseline.about.push(text.to_owned());
                continue;
            }
            let (case, reason) = line.split_once(' ').unwrap_or((line, ""));
            ensure!(!reason.trim().is_empty(), "{name}: {case} is listed without a reason");
            let earlier = baseline.known.insert(case.to_owned(), reason.trim().to_owned());
            ensure!(earlier.is_none(), "{name}: {case} is listed twice");
        }
        Ok(baseline)
    }

    /// Compares an outcome with this list.
    fn standing(&self, outcome: &Outcome) -> Standing<'_> {
        match (&outcome.verdict, self.known.get(&outcome.name)) {
            (Verdict::Failed(_), Some(reason)) => Standing::Known(reason),
            (Verdict::Failed(_), None) => Standing::New,
            (Verdict::Passed, Some(reason)) if !reason.starts_with(SOMETIMES) => Standing::Fixed,
            _ => Standing::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Baseline, Standing};
    use crate::case::{Outcome, Verdict};

    #[test]
    fn a_failure_is_known_or_new_and_a_pass_of_a_listed_case_is_fixed() {
        let baseline =
            Baseline::read("x", "about: a\nabout: b\n# why\na/b it is so\na/r sometimes it is so\n").unwrap();
        assert_eq!(baseline.about, ["a", "b"]);
        let outcome = |name: &str, verdict| Outcome {
            name: name.to_owned(),
            clauses: &[],
            verdict,
            took: std::time::Duration::ZERO,
            in_vm: false,
        };
        let failed = || Verdict::Failed(String::new());
        assert_eq!(baseline.standing(&outcome("a/b", failed())), Standing::Known("it is so"));
        assert_eq!(baseline.standing(&outcome("a/c", failed())), Standing::New);
        assert_eq!(baseline.standing(&outcome("a/b", Verdict::Passed)), Standing::Fixed);
        assert_eq!(baseline.standing(&outcome("a/b", Verdict::NotRun(String::new()))), Standing::Fine);
        assert_eq!(baseline.standing(&outcome("a/r", Verdict::Passed)), Standing::Fine);
        assert!(matches!(baseline.standing(&outcome("a/r", failed())), Standing::Known(_)));
        assert!(Baseline::read("x", "a/b\n").is_err());
    }
}
