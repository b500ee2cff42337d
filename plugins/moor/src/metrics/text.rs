//! The text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

/// What kind of number a metric is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows.
    Counter,
}

/// Metrics as text, and each number for itself.
#[derive(Default)]
pub struct Text {
    text: String,
    samples: Vec<Sample>,
}

/// A number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: u128,
}

/// The values of a label, in the order of the metric's labels.
type Labels = Vec<String>;

/// The values of a metric by its labels: two of the same labels would be refused by a reader.
pub type Series = BTreeMap<Labels, u128>;

impl Text {
    /// Adds a metric with a value for each of these labels' values. Nothing is added without one.
    pub fn add(&mut self, name: &str, help: &str, kind: Kind, names: &[&str], series: &Series) {
        if series.is_empty() {
            return;
        }
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (values, value) in series {
            let pairs =
                names.iter().zip(values).map(|(label, value)| format!("{label}=\"{}\"", quoted(value)));
            let pairs = pairs.collect::<Vec<_>>().join(",");
            let labels = if pairs.is_empty() { pairs } else { format!("{{{pairs}}}") };
            let _ = writeln!(self.text, "{name}{labels} {value}");
            let labels = names.iter().map(|name| (*name).to_owned()).zip(values.iter().cloned()).collect();
            self.samples.push(Sample { name: name.to_owned(), labels, value: *value });
        }
    }

    /// Adds a gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: u128) {
        self.add(name, help, Kind::Gauge, &[], &Series::from([(Vec::new(), value)]));
    }

    /// The text, and the numbers.
    pub fn finish(self) -> (String, Vec<Sample>) {
        (self.text, self.samples)
    }
}

/// A value of a label: names from outside may hold anything.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_help_type_and_a_line_for_each_labels() {
        let mut text = Text::default();
        let series = Series::from([
            (vec!["front".to_owned(), "a\"b\\\n".to_owned()], 2),
            (vec!["back".to_owned(), String::new()], u128::from(u64::MAX) + 1),
        ]);
        text.add("moor_x", "What it is.", Kind::Gauge, &["network", "state"], &series);
        text.add("moor_none", "Nothing.", Kind::Counter, &["a"], &Series::new());
        text.gauge("moor_y", "Another.", 1);
        let expected = "# HELP moor_x What it is.\n# TYPE moor_x gauge\n\
            moor_x{network=\"back\",state=\"\"} 18446744073709551616\n\
            moor_x{network=\"front\",state=\"a\\\"b\\\\\\n\"} 2\n\
            # HELP moor_y Another.\n# TYPE moor_y gauge\nmoor_y 1\n";
        let (text, samples) = text.finish();
        assert_eq!((text.as_str(), samples.len()), (expected, 3));
    }
}
