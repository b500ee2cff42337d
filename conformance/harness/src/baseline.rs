//! The deviations that a suite is known for: a list in `testdata/baseline`, chosen by what the suite says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::case::{Outcome, Verdict};
use crate::runner::Grounds;
use crate::world::World;

/// The lists that the harness brings along: name, text.
const OWN: [(&str, &str); 1] =
    [("reference-1.1.1", include_str!("../../../testdata/baseline/reference-1.1.1.txt"))];

/// How the reason of a race begins.
const SOMETIMES: &str = "sometimes";

/// The cases that a suite is known to fail, and why.
pub struct Baseline {
    /// What the list is called in reports.
    pub name: String,
    about: Vec<String>,
    known: BTreeMap<String, String>,
}

/// What a run's outcome means beside the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'b> {
    /// As it should be, or not run: nothing to say.
    Fine,
    /// Failed, and that is known, for this reason.
    Known(&'b str),
    /// Failed, and nobody knew.
    New,
    /// Passed, and the list says otherwise.
    Fixed,
}

/// What the suite's bridge says of itself. In a room: nobody knows yet what a suite does when it is started.
pub fn about(grounds: &Grounds) -> Result<Vec<String>> {
    Ok(grounds.run("about:")?.stdout.lines().map(str::to_owned).collect())
}

impl Baseline {
    /// The list to hold a run against: the file that is named, none for `none`, else the one of ours that was made
    /// for a suite which says the same of itself.
    pub fn choose(asked: Option<&Path>, grounds: &Grounds) -> Result<Option<Self>> {
        match asked {
            Some(path) if path.as_os_str() == "none" => Ok(None),
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                Self::read(&path.display().to_string(), &text).map(Some)
            }
            None => {
                let said = about(grounds)?;
                Ok(Self::own()?.into_iter().find(|own| !own.about.is_empty() && own.about == said))
            }
        }
    }

    /// Those that the harness brings along.
    pub fn own() -> Result<Vec<Self>> {
        OWN.into_iter().map(|(name, text)| Self::read(name, text)).collect()
    }

    /// The cases that it names.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// What cannot hold in a world, beside what the suite is known for anyway.
    pub fn of_world(world: World, known: Option<Self>) -> Result<Self> {
        let mut list = Self::read(&format!("the world {}", world.name()), world.exceptions())?;
        if let Some(known) = known {
            list.name = format!("{} in {}", known.name, list.name);
            list.known.extend(known.known);
        }
        Ok(list)
    }

    /// `about:` lines are what the suite's bridge says without a command; `#` begins a comment; all else is the name
    /// of a case and the reason. A reason that begins with `sometimes` is a race's: passing does not fix it.
    fn read(name: &str, text: &str) -> Result<Self> {
        let mut baseline = Self { name: name.to_owned(), about: vec![], known: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(said) = line.strip_prefix("about: ") {
                baseline.about.push(said.to_owned());
                continue;
            }
            let (case, reason) = line.split_once(' ').unwrap_or((line, ""));
            ensure!(!reason.trim().is_empty(), "{name}: {case} is known for no reason");
            let earlier = baseline.known.insert(case.to_owned(), reason.trim().to_owned());
            ensure!(earlier.is_none(), "{name}: {case} stands twice");
        }
        Ok(baseline)
    }

    /// What an outcome means beside this list.
    pub fn standing(&self, outcome: &Outcome) -> Standing<'_> {
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
    fn a_failure_is_known_or_new_and_a_pass_of_a_known_one_is_fixed() {
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
