//! The budgets: read from the one file that holds them, and compared with the measurements.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::compared::ComparedBudget;
use super::contender::{FLOOR, MULTICALL, OURS, REFERENCE, START, TOOL, identity};
use super::count::Counts;
use super::data_path::{Costs, DataPath, MANY, Rules};
use super::growth::Growth;
use super::measure::Measured;
use super::together::Together;
use crate::stats::{Ratio, ratio};

/// The file, beside the conflists.
pub const FILE: &str = "budgets.json";

/// The limits for this suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budgets {
    /// For the reader of the file.
    #[serde(rename = "about")]
    _about: Vec<String>,
    /// Ratios of times, from one run.
    pub ratios: Vec<RatioBudget>,
    /// An ADD or DEL among many attachments, relative to one alone, minus the growth of the
    /// kernel's own work.
    pub growth: f64,
    /// That many concurrent ADDs, relative to the reference's.
    pub together: TogetherBudget,
    /// Connections through the rules.
    pub data_path: DataPathBudget,
    /// Single operations.
    pub compared: Vec<ComparedBudget>,
    /// A repeated name of the outside, relative to dnsmasq: `conformance dns` measures it.
    pub repeated_name: f64,
    /// Peak resident memory of any process, KiB.
    pub peak_kib: u64,
    /// Of one plugin's own executable.
    pub executable_bytes: u64,
    /// Of the executable that holds them all.
    pub multicall_bytes: u64,
    /// Of the tool.
    pub tool_bytes: u64,
    /// Counts, which noise cannot change.
    pub counts: Vec<CountBudget>,
}

/// A budget for a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RatioBudget {
    scenario: String,
    verb: String,
    of: Of,
    to: To,
    at_most: f64,
    /// Of the plugins as one executable, not of one each.
    #[serde(default)]
    one_file: bool,
}

/// Which time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Of {
    Wall,
    Cpu,
}

/// The divisor.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum To {
    Reference,
    Floor,
    FloorAndTwoStarts,
}

/// A budget for concurrent attachments.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TogetherBudget {
    attachments: usize,
    at_most: f64,
}

/// A budget for connections: times relative to others.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataPathBudget {
    /// Through the last of many ports of ours, relative to one port.
    last_to_one: f64,
    /// The same, relative to one port of the reference's rules.
    last_to_reference: f64,
    /// Out through masquerade, relative to that of the reference's rules.
    masquerade_to_reference: f64,
}

/// A budget for counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CountBudget {
    /// The scenario's name.
    pub scenario: String,
    /// The verb.
    pub verb: String,
    system_calls: u64,
    child_processes: u64,
}

/// A budget with its measurement.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// What was measured.
    pub what: String,
    /// The verdict.
    pub outcome: Outcome,
    /// The measured value; none if it could not be measured.
    pub value: Option<f64>,
    /// The noise of the value; counts have none.
    pub noise: f64,
    /// The budget.
    pub at_most: f64,
}

/// The verdict on a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Met.
    Met,
    /// Missed, but by less than the noise.
    WithinNoise,
    /// Missed.
    Missed,
    /// Not measured.
    NotMeasured,
}

impl Budgets {
    /// Reads the file beside the directory of conflists.
    pub fn read(net_d: &Path) -> Result<Self> {
        let path = net_d.parent().unwrap_or(net_d).join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
    }

    /// The budgets for times of a scenario.
    pub fn times(&self, scenario: &str, measured: &Measured) -> Vec<Verdict> {
        let own = self.ratios.iter().filter(|budget| budget.scenario == scenario);
        own.map(|budget| budget.judge(measured)).collect()
    }

    /// The budgets for counts of a scenario.
    pub fn counts(&self, scenario: &str, measured: &Measured) -> Vec<Verdict> {
        let own = self.counts.iter().filter(|budget| budget.scenario == scenario);
        own.flat_map(|budget| {
            let found = measured.find(OURS, &budget.verb).and_then(|series| series.counts);
            budget.judge(found.as_ref())
        })
        .collect()
    }

    /// The budget for the memory of any process, of the plugins alone and in one executable.
    pub fn memory(&self, scenarios: &[(&str, Measured)]) -> Vec<Verdict> {
        let peak = |contender: &str| {
            let series = scenarios.iter().flat_map(|(_, measured)| &measured.series);
            let own = series.filter(|series| series.contender == contender);
            own.filter_map(|series| Some(series.counts?.peak_kib)).max()
        };
        let verdict = |contender: &str| {
            let what = format!("peak memory of any process, KiB: {contender}");
            Some(Verdict::count(what, Some(peak(contender)?), self.peak_kib))
        };
        [OURS, MULTICALL].into_iter().filter_map(verdict).collect()
    }

    /// The budgets for the executables in a suite.
    pub fn files(&self, suite: &Path, names: &[&str]) -> Result<Vec<Verdict>> {
        let mut verdicts = vec![];
        let all = identity(&suite.join(MULTICALL)).ok();
        let mut seen = vec![];
        for name in names.iter().chain(&[MULTICALL, TOOL]) {
            let path = suite.join(name);
            if !path.is_file() {
                continue;
            }
            let file = identity(&path)?;
            let shared = names.iter().filter(|other| identity(&suite.join(other)).is_ok_and(|o| o == file));
            let multicall = all == Some(file) || shared.count() > 1;
            if seen.contains(&file) {
                continue;
            }
            seen.push(file);
            let (kind, most) = if multicall {
                ("all plugins in one", self.multicall_bytes)
            } else if *name == TOOL {
                (TOOL, self.tool_bytes)
            } else {
                (*name, self.executable_bytes)
            };
            verdicts.push(Verdict::count(format!("executable, bytes: {kind}"), Some(file.2), most));
        }
        Ok(verdicts)
    }

    /// The budget for growth, for every measured point.
    pub fn growth(&self, growth: &[Growth]) -> Vec<Verdict> {
        growth
            .iter()
            .map(|point| {
                let what = format!("{} {}, to the same at 1", point.point, point.verb);
                Verdict::ratio(what, point.beyond_the_kernel, self.growth)
            })
            .collect()
    }

    /// The budgets for connections.
    pub fn data_path(&self, paths: &[DataPath]) -> Vec<Verdict> {
        let budget = &self.data_path;
        let of = |rules: Rules| paths.iter().find(|path| path.rules == rules);
        let (Some(one), Some(last)) = (of(Rules::Ours(1)), of(Rules::Ours(MANY))) else { return vec![] };
        let mut verdicts = vec![];
        let mut judge = |what: String, ours: Option<&Costs>, base: Option<&Costs>, at_most: f64| {
            let both = ours.zip(base);
            for (part, of) in [
                ("connection", (|costs| &costs.connection) as fn(&Costs) -> &Vec<f64>),
                ("echo", |costs| &costs.echo),
            ] {
                let value = both.and_then(|(ours, base)| ratio(of(ours), of(base)));
                verdicts.push(Verdict::ratio(format!("{what}: {part}"), value, at_most));
            }
        };
        let what = |base: &str| format!("through the last of {MANY} ports, to {base}");
        judge(what("one of ours"), Some(&last.inward), Some(&one.inward), budget.last_to_one);
        for rules in [Rules::Iptables(1), Rules::Nftables(1)] {
            let base = of(rules);
            let inward = base.map(|base| &base.inward);
            judge(what(&rules.name()), Some(&last.inward), inward, budget.last_to_reference);
            let outward = base.and_then(|base| base.outward.as_ref());
            let what = format!("out through masquerade, to {}", rules.name());
            judge(what, one.outward.as_ref(), outward, budget.masquerade_to_reference);
        }
        verdicts
    }

    /// The budget for concurrent attachments.
    pub fn together(&self, all: &[Together]) -> Vec<Verdict> {
        let budget = &self.together;
        let what = format!("{} ADDs at once, wall, to the reference", budget.attachments);
        let of = |contender: &str| {
            all.iter().find(|row| row.attachments == budget.attachments && row.contender == contender)
        };
        let (ours, theirs) = (of(OURS), of(REFERENCE));
        let value = ours.zip(theirs).and_then(|(ours, theirs)| ratio(&ours.add_ms, &theirs.add_ms));
        let mut verdicts = vec![Verdict::ratio(what, value, budget.at_most)];
        verdicts.extend(ours.map(|ours| {
            Verdict::count(
                format!("{} ADDs and DELs at once: failures", budget.attachments),
                Some(ours.failures),
                0,
            )
        }));
        verdicts
    }
}

impl RatioBudget {
    fn judge(&self, measured: &Measured) -> Verdict {
        let series = |contender: &str, verb: &str| {
            let series = measured.find(contender, verb)?;
            Some(match self.of {
                Of::Wall => series.wall(),
                Of::Cpu => series.cpu(),
            })
        };
        let (base, named) = match self.to {
            To::Reference => (series(REFERENCE, &self.verb), "the reference"),
            To::Floor => (series(FLOOR, &self.verb), "the kernel's own work"),
            To::FloorAndTwoStarts => {
                let both = series(FLOOR, &self.verb).zip(series(START, "VERSION"));
                let sum = both.map(|(floor, start)| {
                    floor.iter().zip(start).map(|(floor, start)| floor + 2.0 * start).collect()
                });
                (sum, "the kernel's own work and two process starts")
            }
        };
        let of = match self.of {
            Of::Wall => "wall",
            Of::Cpu => "CPU",
        };
        let contender = if self.one_file { MULTICALL } else { OURS };
        let of = if self.one_file { format!("{MULTICALL}, {of}") } else { of.to_owned() };
        let what = format!("{} {}, {of}, to {named}", self.scenario, self.verb);
        let value = series(contender, &self.verb).zip(base).and_then(|(ours, base)| ratio(&ours, &base));
        Verdict::ratio(what, value, self.at_most)
    }
}

impl CountBudget {
    fn judge(&self, counts: Option<&Counts>) -> Vec<Verdict> {
        let what = |of: &str| format!("{} {}: {of}", self.scenario, self.verb);
        vec![
            Verdict::count(what("system calls"), counts.map(|c| c.system_calls), self.system_calls),
            Verdict::count(what("child processes"), counts.map(|c| c.child_processes), self.child_processes),
        ]
    }
}

impl Verdict {
    /// The verdict on a ratio; none was not measured.
    pub fn ratio(what: String, ratio: Option<Ratio>, at_most: f64) -> Self {
        let outcome = match ratio {
            None => Outcome::NotMeasured,
            Some(ratio) if ratio.value <= at_most => Outcome::Met,
            Some(ratio) if ratio.value - ratio.noise <= at_most => Outcome::WithinNoise,
            Some(_) => Outcome::Missed,
        };
        let noise = ratio.map_or(0.0, |ratio| ratio.noise);
        Self { what, outcome, value: ratio.map(|ratio| ratio.value), noise, at_most }
    }

    /// The verdict on a count, which is small enough for a double to hold exactly.
    pub fn count(what: String, count: Option<u64>, at_most: u64) -> Self {
        let ratio = count.map(|count| Ratio { value: count as f64, noise: 0.0 });
        Self::ratio(what, ratio, at_most as f64)
    }

    /// The verdict as one line of text.
    pub fn line(&self) -> String {
        let word = match self.outcome {
            Outcome::Met => "met",
            Outcome::WithinNoise => "missed, within its noise",
            Outcome::Missed => "MISSED",
            Outcome::NotMeasured => return format!("not measured  {} (at most {})", self.what, self.at_most),
        };
        let value = self.value.unwrap_or_default();
        let shown = if self.noise > 0.0 || value.fract() != 0.0 {
            format!("{value:.3} +- {:.3}", self.noise)
        } else {
            format!("{value}")
        };
        format!("{word:<12}  {}: {shown} (at most {})", self.what, self.at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(value: f64, noise: f64) -> Outcome {
        Verdict::ratio(String::new(), Some(Ratio { value, noise }), 1.0).outcome
    }

    #[test]
    fn only_a_miss_beyond_the_noise_is_one() {
        assert_eq!(outcome(1.0, 0.0), Outcome::Met);
        assert_eq!(outcome(1.2, 0.3), Outcome::WithinNoise);
        assert_eq!(outcome(1.4, 0.3), Outcome::Missed);
        assert_eq!(Verdict::ratio(String::new(), None, 1.0).outcome, Outcome::NotMeasured);
    }

    #[test]
    fn one_system_call_more_than_allowed_is_a_miss() {
        assert_eq!(Verdict::count(String::new(), Some(101), 100).outcome, Outcome::Missed);
        assert_eq!(Verdict::count(String::new(), Some(100), 100).outcome, Outcome::Met);
    }
}
