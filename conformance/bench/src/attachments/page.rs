//! The page: the numbers of a run as bars for a browser, in one self-contained file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The height of bars and the width of their labels, in pixels.
const BAR: f64 = 14.0;
const LABEL: f64 = 190.0;
const WIDTH: f64 = 520.0;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;\
    background:#fff;color:#222}h2{margin-top:2em}svg text{font:12px system-ui,sans-serif;fill:currentColor}\
    td,th{padding:.15em .8em .15em 0;text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}\
    .missed{color:#b00020;font-weight:bold}@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}\
    .missed{color:#ff8a80}}";

/// Colours of the contenders, legible on light and dark.
const COLOURS: [(&str, &str); 5] = [
    ("ours", "#1b7f5c"),
    ("moor-plugins", "#3f6fd1"),
    ("earlier build", "#7a5ab8"),
    ("reference", "#c77d1b"),
    ("floor", OTHER),
];
/// The colour of everybody else.
const OTHER: &str = "#8a8f98";

/// Writes the page of a run's JSON document.
pub fn write(path: &Path, document: &Value) -> Result<()> {
    fs::write(path, of(document)).with_context(|| format!("write {}", path.display()))
}

fn of(document: &Value) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>What an attachment costs</title>\
         <style>{STYLE}</style><h1>What an attachment costs</h1><p>{}</p><p>Medians in ms of one run, all contenders in \
         turns; the line ends at the 99th percentile. Read the ratios: machines are noisy.</p>",
        escaped(text(&document["machine"]))
    );
    for list in ["scenarios", "scale"] {
        document[list].as_array().into_iter().flatten().for_each(|value| scenario(&mut page, value));
    }
    document["compared"].as_array().into_iter().flatten().for_each(|value| comparison(&mut page, value));
    table(&mut page, &document["budgets"]);
    page.push_str("</html>\n");
    page
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A bar: its label, colour, median and 99th percentile.
type Row<'a> = (String, &'a str, f64, f64);

/// One scenario: a bar for each verb and contender.
fn scenario(page: &mut String, scenario: &Value) {
    let series: Vec<&Value> = scenario["series"].as_array().into_iter().flatten().collect();
    let rows = ["ADD", "CHECK", "DEL"]
        .iter()
        .flat_map(|verb| COLOURS.iter().map(move |(name, colour)| (*verb, *name, *colour)));
    let rows = rows.filter_map(|(verb, name, colour)| {
        let found = series.iter().find(|series| series["verb"] == verb && series["contender"] == name)?;
        Some((
            format!("{verb} {name}"),
            colour,
            number(&found["wallMs"]["median"]),
            number(&found["wallMs"]["p99"]),
        ))
    });
    plot(page, text(&scenario["name"]), &rows.collect::<Vec<_>>());
}

/// One operation: a bar for each contender.
fn comparison(page: &mut String, compared: &Value) {
    let rows = compared["series"].as_array().into_iter().flatten().map(|series| {
        let name = text(&series["contender"]);
        let colour = COLOURS.iter().find(|(known, _)| *known == name).map_or(OTHER, |(_, colour)| colour);
        (name.to_owned(), colour, number(&series["median"]), number(&series["p99"]))
    });
    let title = format!("{}, {}", text(&compared["name"]), text(&compared["unit"]));
    plot(page, &title, &rows.collect::<Vec<_>>());
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// Bars on one scale.
fn plot(page: &mut String, title: &str, rows: &[Row<'_>]) {
    let largest = rows.iter().map(|(.., median, _)| *median).fold(0.0, f64::max);
    if largest <= 0.0 {
        return;
    }
    let height = BAR * 1.4 * rows.len() as f64;
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<h2>{}</h2><svg role=\"img\" aria-label=\"{0}\" width=\"100%\" viewBox=\"0 0 {} {height:.0}\">",
        escaped(title),
        LABEL + WIDTH + 70.0
    );
    for (place, (label, colour, median, p99)) in rows.iter().enumerate() {
        let top = place as f64 * BAR * 1.4;
        let long = median / largest * WIDTH;
        let tail = (p99 / largest * WIDTH).clamp(long, WIDTH);
        let _ = write!(
            page,
            "<text x=\"0\" y=\"{base:.1}\">{}</text><rect x=\"{LABEL}\" y=\"{top:.1}\" width=\"{long:.1}\" \
             height=\"{BAR}\" fill=\"{colour}\"/><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" \
             stroke=\"{colour}\"/><text x=\"{:.1}\" y=\"{base:.1}\">{:.2}</text>",
            escaped(label),
            LABEL + long,
            LABEL + tail,
            LABEL + tail + 6.0,
            median,
            base = top + BAR * 0.8,
            middle = top + BAR / 2.0,
        );
    }
    page.push_str("</svg>");
}

/// The budgets, each with its verdict.
fn table(page: &mut String, budgets: &Value) {
    page.push_str("<h2>Budgets</h2><table><tr><th>what<th>is<th>noise<th>at most<th>");
    for budget in budgets.as_array().into_iter().flatten() {
        let number =
            |key: &str| budget[key].as_f64().map_or_else(|| "-".into(), |value| format!("{value:.3}"));
        let outcome = text(&budget["outcome"]);
        let _ = write!(
            page,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"{outcome}\">{outcome}",
            escaped(text(&budget["what"])),
            number("value"),
            number("noise"),
            number("atMost"),
        );
    }
    page.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share_of_the_slowest() {
        let series = |name: &str, ms: f64| json!({"contender": name, "verb": "ADD", "wallMs": {"median": ms, "p99": ms}});
        let page = of(&json!({
            "machine": "a < b",
            "compared": [{"name": "VERSION of dns", "unit": "ms", "series": [{"contender": "ours", "median": 2.0, "p99": 3.0}]}],
            "scenarios": [{"name": "x", "series": [series("ours", 1.0), series("reference", 4.0)]}],
            "budgets": [{"what": "w", "outcome": "missed", "value": 2.0, "noise": 0.1, "atMost": 1.0}],
        }));
        assert!(page.contains("a &lt; b") && page.contains("class=\"missed\""), "{page}");
        assert!(page.contains("width=\"130.0\"") && page.contains("width=\"520.0\""), "{page}");
        assert!(page.contains("<h2>VERSION of dns, ms</h2>") && page.contains(">2.00</text>"), "{page}");
    }
}
