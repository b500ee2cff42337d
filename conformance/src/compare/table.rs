//! The report: a line for each conflist and version, the known differences by their reasons, and
//! at the end, where also the last lines of a log have them, the new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::known::Known;
use super::{Compared, Difference, MOMENTS, Request, Row, state};

/// How many known differences are printed below their reason: all, or as examples of more.
const EXAMPLES: usize = 3;

/// The longest example, in characters.
const LONGEST: usize = 160;

/// A difference of a conflist, and where it occurred.
#[derive(Default)]
struct Seen {
    moments: BTreeSet<usize>,
    versions: BTreeSet<String>,
}

/// Prints everything; every known difference if `full`. True when there are no others, and no
/// comparison failed.
pub fn print(rows: &[Row], known: &Known, full: bool) -> bool {
    let (text, held) = report(rows, known, full);
    print!("{text}");
    held
}

fn report(rows: &[Row], known: &Known, full: bool) -> (String, bool) {
    let (mut text, mut news) = (String::new(), String::new());
    let (mut compared, mut as_known, mut differ, mut failed) = (0, 0, 0, 0);
    for rows in rows.chunk_by(|one, other| one.request.file == other.request.file) {
        let mut new = BTreeMap::<&str, Seen>::new();
        for Row { request, compared: outcome } in rows {
            let word = match outcome {
                Compared::Unsupported => "not compared: one of the suites does not support it".to_owned(),
                Compared::Trouble(trouble) => {
                    failed += 1;
                    format!("FAILED: {trouble}")
                }
                Compared::Differences(differences) => {
                    compared += 1;
                    let mut reasons = BTreeSet::new();
                    let mut unknown = 0;
                    for difference in differences {
                        match known.reason(request, &difference.moment, &difference.text) {
                            Some(reason) => drop(reasons.insert(reason)),
                            None => {
                                unknown += 1;
                                let seen = new.entry(&difference.text).or_default();
                                seen.moments.extend(place(difference));
                                seen.versions.insert(request.version.clone());
                            }
                        }
                    }
                    as_known += usize::from(unknown == 0 && !reasons.is_empty());
                    differ += usize::from(unknown > 0);
                    verdict(unknown, &reasons)
                }
            };
            writeln!(text, "{:<26}{:<7} {word}", request.file, request.version).ok();
        }
        let versions = rows.iter().filter(|row| matches!(row.compared, Compared::Differences(_))).count();
        if let Some(row) = rows.first().filter(|_| !new.is_empty()) {
            writeln!(news, "    {}", row.request.file).ok();
            unknown(&new, versions, &mut news);
        }
    }
    reasons(rows, known, full, &mut text);
    if !news.is_empty() {
        text += &format!("New differences:\n{news}");
    }
    let and_failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    writeln!(text, "{compared} compared, {as_known} differ as known, {differ} differ otherwise{and_failed}")
        .ok();
    (text, differ == 0 && failed == 0)
}

fn place(difference: &Difference) -> Option<usize> {
    MOMENTS.iter().position(|moment| *moment == difference.moment)
}

fn verdict(unknown: usize, reasons: &BTreeSet<usize>) -> String {
    let numbers: Vec<_> = reasons.iter().map(|reason| (reason + 1).to_string()).collect();
    match (unknown, numbers.is_empty()) {
        (0, true) => "equal".to_owned(),
        (0, false) => format!("differs as known: {}", numbers.join(" ")),
        (_, true) => format!("DIFFERS: {unknown} new"),
        (_, false) => format!("DIFFERS: {unknown} new; as known: {}", numbers.join(" ")),
    }
}

/// The new differences of a conflist in full: by group, moment and versions.
fn unknown(new: &BTreeMap<&str, Seen>, versions: usize, text: &mut String) {
    let mut groups = BTreeMap::<(&str, String), Vec<&str>>::new();
    for (difference, seen) in new {
        let moments: Vec<_> =
            seen.moments.iter().filter_map(|at| MOMENTS.get(*at)).map(|moment| moment_name(moment)).collect();
        let listed: Vec<_> = seen.versions.iter().map(String::as_str).collect();
        let versions = match listed.len() == versions {
            true => "every version".to_owned(),
            false => listed.join(", "),
        };
        let heading = format!("after {}, in {versions}", moments.join(" and "));
        groups.entry((state::group(difference), heading)).or_default().push(difference);
    }
    for ((group, heading), differences) in groups {
        writeln!(text, "      {group} {heading}").ok();
        for difference in differences {
            writeln!(text, "        {difference}").ok();
        }
    }
}

/// The printed name of one of the [`MOMENTS`].
pub fn moment_name(moment: &str) -> &'static str {
    match moment {
        "ADD" => "ADD",
        "DEL" => "DEL",
        _ => "a wrong ADD",
    }
}

/// The places of the list that matched nothing, though their requests were compared.
pub fn print_idle(rows: &[Row], known: &Known) {
    let asked = rows.iter().filter(|row| matches!(row.compared, Compared::Differences(_)));
    let idle = known.idle(&asked.map(|row| &row.request).collect::<Vec<_>>(), &found(rows));
    if !idle.is_empty() {
        println!("Known, and not seen:");
    }
    idle.iter().for_each(|place| println!("      {place}"));
}

fn found(rows: &[Row]) -> Vec<(&Request, &str, &str)> {
    let mut all = vec![];
    for row in rows {
        if let Compared::Differences(found) = &row.compared {
            all.extend(found.iter().map(|one| (&row.request, one.moment.as_str(), one.text.as_str())));
        }
    }
    all
}

/// The reasons that applied, with their differences.
fn reasons(rows: &[Row], known: &Known, full: bool, text: &mut String) {
    let found = found(rows);
    let mut given = BTreeMap::<usize, BTreeSet<&str>>::new();
    for (request, moment, difference) in &found {
        if let Some(reason) = known.reason(request, moment, difference) {
            given.entry(reason).or_default().insert(difference);
        }
    }
    if !given.is_empty() {
        writeln!(text, "Known differences:").ok();
    }
    for (reason, differences) in given {
        let why = known.reasons.get(reason).map_or("", |reason| &reason.text);
        writeln!(text, "{:>4}  {why}", reason + 1).ok();
        let mut groups = BTreeMap::<&str, usize>::new();
        differences.iter().for_each(|difference| *groups.entry(state::group(difference)).or_default() += 1);
        let counts: Vec<_> = groups.iter().map(|(group, count)| format!("{group} {count}")).collect();
        let all = full || differences.len() <= EXAMPLES;
        let such_as = if all { "" } else { ", such as" };
        writeln!(text, "      {}{such_as}", counts.join(", ")).ok();
        // Sorted, ours and theirs are apart: the examples are from both ends and the middle.
        let last = differences.len().saturating_sub(1);
        let example = |at: usize| all || at == 0 || at == last || at == last / 2;
        for (_, difference) in differences.iter().enumerate().filter(|(at, _)| example(*at)) {
            let shown: String = difference.chars().take(if full { usize::MAX } else { LONGEST }).collect();
            let cut = if shown.len() < difference.len() { "..." } else { "" };
            writeln!(text, "        {shown}{cut}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: &str, found: &[(&str, &str)]) -> Row {
        let differences =
            found.iter().map(|(moment, text)| Difference { moment: (*moment).into(), text: (*text).into() });
        Row {
            request: Request { file: "10-a.conflist".into(), version: version.into() },
            compared: Compared::Differences(differences.collect()),
        }
    }

    #[test]
    fn what_is_new_is_told_once_with_its_moments_and_versions() {
        let mtu = "container link eth0: mtu 1500, theirs 1450";
        let rows = [
            row("0.4.0", &[("ADD", mtu), ("DEL", mtu), ("ADD", "result .dns: {}, theirs none")]),
            row("1.0.0", &[("ADD", mtu), ("DEL", mtu)]),
        ];
        let (text, held) = report(&rows, &Known::default(), false);
        assert!(!held);
        assert_eq!(
            text,
            "10-a.conflist             0.4.0   DIFFERS: 3 new\n\
             10-a.conflist             1.0.0   DIFFERS: 2 new\n\
             New differences:\n    10-a.conflist\n      \
             links after ADD and DEL, in every version\n        \
             container link eth0: mtu 1500, theirs 1450\n      \
             result after ADD, in 0.4.0\n        \
             result .dns: {}, theirs none\n\
             2 compared, 0 differ as known, 2 differ otherwise\n"
        );
    }

    #[test]
    fn what_is_known_is_summed_up_in_the_end() {
        let rules: Vec<_> = (1..=4).map(|n| format!("host nft table ip nat: only theirs: {n}")).collect();
        let found: Vec<_> = rules.iter().map(|rule| ("ADD", rule.as_str())).collect();
        let list = "it is so\n    * * ADD host nft table ip nat: only theirs: *\n    * * DEL host link *\n";
        let (text, held) =
            report(&[row("1.0.0", &found), row("1.1.0", &[])], &Known::read("x", list).unwrap(), false);
        assert!(held);
        assert_eq!(
            text,
            "10-a.conflist             1.0.0   differs as known: 1\n\
             10-a.conflist             1.1.0   equal\n\
             Known differences:\n   1  it is so\n      packet rules 4, such as\n        \
             host nft table ip nat: only theirs: 1\n        \
             host nft table ip nat: only theirs: 2\n        \
             host nft table ip nat: only theirs: 4\n\
             2 compared, 1 differ as known, 0 differ otherwise\n"
        );
    }

    #[test]
    fn what_could_not_be_found_out_is_no_success() {
        let mut failed = row("1.0.0", &[]);
        failed.compared = Compared::Trouble("it died".into());
        assert!(!report(&[failed], &Known::default(), false).1);
    }
}
