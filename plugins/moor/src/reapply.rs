//! `moor reapply`: makes the packet rules and routes on record again, which somebody has flushed.

use clap::Args;
use host::{piece, rules};
use netlink::Netlink;
use serde::Serialize;

use crate::context::{Context, require_root};
use crate::failure::{Exit, Failure};
use crate::output::{Note, document, notes, print};

/// Nothing to choose: everything that is missing is made again.
#[derive(Args)]
pub struct ReapplyArgs {}

/// What was missing, and is there again.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// Attachments with rules on record.
    records: usize,
    /// The owners of what was missing: `moor/<network>/<interface>/<container id>`.
    owners: Vec<String>,
    elements: usize,
    chains: usize,
    /// Links that got `route_localnet` back.
    route_localnet: usize,
    /// Sources that are in firewalld's zones again.
    firewalld_sources: usize,
    /// Routes of the host to containers.
    routes: Vec<String>,
}

/// Runs the command.
pub fn run(context: &Context) -> Result<Exit, Failure> {
    require_root("packet rules can be changed by root only")?;
    let (outcome, missing) = reapply()?;
    if context.json {
        document("reapply", &[outcome], &missing)?;
    } else {
        notes(&missing);
        print(&(outcome.sentence() + "\n"))?;
    }
    Ok(if missing.is_empty() { Exit::Done } else { Exit::Found })
}

/// Makes everything again; the notes are what could not be made.
fn reapply() -> Result<(Outcome, Vec<Note>), Failure> {
    let failed = |error: sys::Error| Failure::refused(format!("make packet rules again: {error:#}"));
    let mut missing = Vec::new();
    let routes = Netlink::open().and_then(|host| piece::restore_host_routes(&host)).unwrap_or_else(|error| {
        missing.push(Note::new("routes", format!("routes to containers: {error:#}")));
        Vec::new()
    });
    let reapplied = rules::open().and_then(|nft| rules::reapply(&nft)).map_err(failed)?;
    let of = |text: &str| Note::new("not-made", text);
    missing.extend(reapplied.unreadable.iter().map(|error| of(&format!("{error:#}: not made again"))));
    let restored = reapplied.restored;
    missing.extend(restored.conflicts.iter().map(|conflict| of(&format!("not made again: {conflict}"))));
    let elsewhere = reapplied.elsewhere.iter().filter(|label| restored.owners.contains(*label));
    missing.extend(elsewhere.map(|label| {
        of(&format!("ports of {label} are in iptables: not made again; another ADD makes them"))
    }));
    let outcome = Outcome {
        records: reapplied.recorded,
        owners: restored.owners.into_iter().collect(),
        elements: restored.elements,
        chains: restored.chains,
        route_localnet: reapplied.localnet,
        firewalld_sources: reapplied.sources,
        routes: routes.iter().map(ToString::to_string).collect(),
    };
    Ok((outcome, missing))
}

impl Outcome {
    fn sentence(&self) -> String {
        let rules = self.elements + self.chains + self.route_localnet + self.firewalld_sources;
        if rules + self.routes.len() == 0 {
            return format!("{} records of packet rules: everything is there", self.records);
        }
        let mut text = format!(
            "{} records of packet rules: made {} elements of {} attachments and {} chains again",
            self.records,
            self.elements,
            self.owners.len(),
            self.chains
        );
        for (count, what) in [
            (self.route_localnet, "links with route_localnet"),
            (self.firewalld_sources, "sources of firewalld"),
            (self.routes.len(), "routes"),
        ] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn nothing_missing_is_one_short_sentence() {
        let outcome = Outcome { records: 2, ..Outcome::default() };
        assert_eq!(outcome.sentence(), "2 records of packet rules: everything is there");
        let outcome = Outcome { records: 2, chains: 1, routes: vec!["10.0.0.1/32".into()], ..outcome };
        assert_eq!(
            outcome.sentence(),
            "2 records of packet rules: made 0 elements of 0 attachments and 1 chains again, 1 routes"
        );
    }
}
