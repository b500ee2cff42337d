//! The intended differences: a list in `testdata/diff`, chosen by the version text of the other
//! suite.

use anyhow::{Context, Result, ensure};
use harness::baseline;
use harness::runner::Grounds;

use super::{MOMENTS, Request};

/// The lists that are built in: name, text.
const OWN: [(&str, &str); 1] =
    [("reference-1.1.1", include_str!("../../../testdata/diff/reference-1.1.1.txt"))];

/// A reason, and the places where it applies.
#[derive(Debug)]
pub struct Reason {
    /// Why the difference is intended.
    pub text: String,
    places: Vec<Place>,
}

/// Conflists, versions, moments and differences; a `*` matches anything.
#[derive(Debug)]
struct Place {
    file: String,
    versions: String,
    moments: String,
    difference: String,
}

/// The known differences to a suite.
#[derive(Debug, Default)]
pub struct Known {
    /// The reasons, in the list's order.
    pub reasons: Vec<Reason>,
    about: Vec<String>,
}

impl Known {
    /// The list made for a suite with this version text; empty if there is none.
    pub fn of(suite: &Grounds) -> Result<Self> {
        let about = baseline::about(suite)?;
        for (name, text) in OWN {
            let known = Self::read(name, text)?;
            if !known.about.is_empty() && known.about == about {
                return Ok(known);
            }
        }
        Ok(Self::default())
    }

    /// `about:` lines are what the suite's bridge prints without a command; `#` begins a comment. A
    /// reason starts in the first column; the places where it applies are indented below it:
    /// conflist, versions, moments, difference.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        let mut known = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            if let Some(about) = line.strip_prefix("about: ") {
                known.about.push(about.to_owned());
            } else if line.starts_with(' ') {
                let place = Place::read(line).with_context(|| format!("{name}: {line}"))?;
                let reason = known.reasons.last_mut();
                reason.with_context(|| format!("{name}: {line} is known for no reason"))?.places.push(place);
            } else {
                known.reasons.push(Reason { text: line.trim().to_owned(), places: vec![] });
            }
        }
        let empty = known.reasons.iter().find(|reason| reason.places.is_empty());
        ensure!(empty.is_none(), "{name}: {} holds nowhere", empty.map_or("", |reason| &reason.text));
        Ok(known)
    }

    /// The reason for a difference, if it is known: its index in the list.
    pub fn reason(&self, request: &Request, moment: &str, difference: &str) -> Option<usize> {
        self.reasons
            .iter()
            .position(|reason| reason.places.iter().any(|place| place.holds(request, moment, difference)))
    }

    /// The places that cover a request but matched no difference (request, moment, difference).
    pub fn idle(&self, asked: &[&Request], found: &[(&Request, &str, &str)]) -> Vec<String> {
        let mut idle = vec![];
        for place in self.reasons.iter().flat_map(|reason| &reason.places) {
            let seen = |(request, moment, difference): &(&Request, &str, &str)| {
                place.holds(request, moment, difference)
            };
            if asked.iter().any(|request| place.is_of(request)) && !found.iter().any(seen) {
                idle.push(format!(
                    "{} {} {} {}",
                    place.file, place.versions, place.moments, place.difference
                ));
            }
        }
        idle
    }
}

impl Place {
    fn read(line: &str) -> Result<Self> {
        let mut words = line.trim().splitn(4, ' ').map(str::to_owned);
        let mut next = || words.next().context("wanted: conflist, versions, moments, difference");
        let place = Self { file: next()?, versions: next()?, moments: next()?, difference: next()? };
        let known = |moment: &str| moment == "*" || MOMENTS.contains(&moment);
        ensure!(place.moments.split(',').all(known), "the moments are {MOMENTS:?}");
        Ok(place)
    }

    fn holds(&self, request: &Request, moment: &str, difference: &str) -> bool {
        self.is_of(request)
            && self.moments.split(',').any(|list| fits(list, moment))
            && fits(&self.difference, difference)
    }

    fn is_of(&self, request: &Request) -> bool {
        fits(&self.file, &request.file) && self.versions.split(',').any(|list| fits(list, &request.version))
    }
}

/// Whether a pattern matches a text: a `*` stands for any characters, also none.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    // The last star matches all that remains before the end.
    let mut ends = starts.filter(|at| fits(rest, &text[*at..]));
    rest.is_empty() || ends.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::{Known, OWN, fits};
    use crate::compare::Request;
    use harness::config::VERSIONS;
    use harness::stage::conflists;

    fn request(file: &str, version: &str) -> Request {
        Request { file: file.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, fit) in [
            ("*", "", true),
            ("host file *: only ours*", "host file /run/moor: only ours: 0600", true),
            ("host file *: only ours*", "host file /run/moor: only theirs: 0600", false),
            ("a*b", "a-b-b", true),
            ("a*b", "a-b-c", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
        }
    }

    #[test]
    fn a_difference_is_known_where_its_reason_holds_only() {
        let text = "about: x\n# c\nit is so\n    10-* 0.1.0,0.2.0 ADD,DEL host link eth0: *\nother\n    * * * result .dns: *\n";
        let known = Known::read("x", text).unwrap();
        assert_eq!(known.about, ["x"]);
        let asked = request("10-a", "0.2.0");
        assert_eq!(known.reason(&asked, "ADD", "host link eth0: mtu 1, theirs 2"), Some(0));
        assert_eq!(known.reason(&asked, "wrong", "host link eth0: mtu 1, theirs 2"), None);
        assert_eq!(known.reason(&request("20-a", "0.2.0"), "ADD", "host link eth0: mtu 1"), None);
        assert_eq!(known.reason(&request("10-a", "1.0.0"), "ADD", "host link eth0: mtu 1"), None);
        assert_eq!(known.reason(&request("20-a", "1.0.0"), "DEL", "result .dns: {}, theirs none"), Some(1));
        let idle = known.idle(&[&asked], &[(&asked, "DEL", "host link eth0: mtu 1")]);
        assert_eq!(idle, ["* * * result .dns: *"]);
        assert!(Known::read("x", "    * * * a\n").is_err());
        assert!(Known::read("x", "a reason\n").is_err());
        assert!(Known::read("x", "a reason\n    * * later a\n").is_err());
    }

    #[test]
    fn the_lists_speak_of_conflists_and_versions_that_there_are() {
        let files = conflists::load(std::path::Path::new("../testdata/net.d")).unwrap();
        for (name, text) in OWN {
            for place in Known::read(name, text).unwrap().reasons.iter().flat_map(|reason| &reason.places) {
                let asked =
                    |file: &String| VERSIONS.iter().any(|version| place.is_of(&request(file, version)));
                assert!(files.iter().any(|(file, _)| asked(file)), "{name}: {place:?}");
            }
        }
    }
}
