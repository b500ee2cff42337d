//! What is wrong in a file, and where: a sentence, the place with its line, and how to mend it.

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

use crate::output::escaped;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, but hardly as it is meant.
    Warning,
    /// It cannot work.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// One word for scripts and for looking it up.
    pub code: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Where in the file; `None` when it is about the file as a whole.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// A sentence.
    pub text: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The first byte of the range.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
    /// The line, or the part of a long one around the place.
    #[serde(skip)]
    shown: String,
    /// Where the range begins in `shown`, and how long it is, in bytes.
    #[serde(skip)]
    marked: Range<usize>,
}

/// A text whose lines are looked up.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

/// The most bytes of a line that are shown on each side of a place.
const SHOWN_MAX: usize = 60;

impl Source {
    /// The place of a range of bytes. A range beyond the end is the end.
    pub fn place(&self, range: Range<usize>) -> Place {
        let text = &self.text;
        let start = boundary(text, range.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let end = boundary(text, range.end).clamp(start, line_end);
        let from = boundary(text, line_start.max(start.saturating_sub(SHOWN_MAX)));
        let to = boundary(text, line_end.min(end.max(start + 1).saturating_add(SHOWN_MAX)));
        let to = to.min(boundary(text, start.saturating_add(2 * SHOWN_MAX))).max(start);
        Place {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            start,
            end: range.end.min(text.len()),
            shown: text[from..to].trim_end().to_owned(),
            marked: start - from..end.min(to) - from,
        }
    }
}

/// The last boundary of a character that is not behind `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl Diagnostic {
    /// The text for people, of four lines, or of two when it has no place.
    pub fn render(&self, colour: bool) -> String {
        let (word, code) = match self.severity {
            Severity::Error => ("error", 31),
            Severity::Warning => ("warning", 33),
        };
        let word = if colour { format!("\x1b[1;{code}m{word}\x1b[0m") } else { word.to_owned() };
        let mut out = format!("{word}[{}]: {}\n", self.code, one_line(&self.text));
        let file = self.file.display().to_string();
        let file = one_line(&file);
        match &self.place {
            None => out += &format!("  --> {file}{}\n", self.note(" (")),
            Some(place) => {
                let marked =
                    place.marked.start.min(place.shown.len())..place.marked.end.min(place.shown.len());
                let margin = one_line(&place.shown[..marked.start]).chars().count();
                let carets = one_line(&place.shown[marked]).chars().count().max(1);
                let number = format!("{:>2}", place.line);
                let indent = " ".repeat(number.len() + 4 + margin);
                out += &format!("  --> {file}:{}:{}\n", place.line, place.column);
                out += &format!("   | {number} | {}\n", one_line(&place.shown));
                out += &format!("   |{indent}{}{}\n", "^".repeat(carets), self.note(" "));
            }
        }
        out
    }

    fn note(&self, before: &str) -> String {
        let after = if before.ends_with('(') { ")" } else { "" };
        self.fix.as_ref().map(|fix| format!("{before}{}{after}", one_line(fix))).unwrap_or_default()
    }
}

/// Text of a file without control characters; a tab takes one column.
fn one_line(text: &str) -> String {
    escaped(&text.replace('\t', " ")).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, range: Range<usize>) -> Diagnostic {
        let source = Source { file: "/etc/a.conflist".into(), text: text.into() };
        let place = Some(source.place(range));
        let (text, fix) = ("wrong".to_owned(), Some("so".to_owned()));
        Diagnostic { severity: Severity::Error, code: "L001", file: source.file, place, text, fix }
    }

    #[test]
    fn a_diagnostic_shows_its_line_and_marks_the_place() {
        let text = "{\n\t\"é\": \"wert\"\n}";
        let start = text.find("\"wert").unwrap_or_default();
        let shown = at(text, start..start + 6).render(false);
        let lines = [
            "error[L001]: wrong",
            "  --> /etc/a.conflist:2:7",
            "   |  2 |  \"é\": \"wert\"",
            "   |            ^^^^^^ so",
            "",
        ];
        assert_eq!(shown, lines.join("\n"));
    }

    #[test]
    fn an_empty_range_and_the_end_of_the_text_have_one_caret() {
        for (range, place) in [(3..3, ":1:4"), (7..9, ":1:8"), (100..200, ":1:8")] {
            let shown = at("{\"a\":1}", range).render(false);
            assert!(shown.contains(place) && shown.contains("^ so"), "{shown}");
            assert!(!shown.contains("^^"), "{shown}");
        }
    }

    #[test]
    fn a_long_line_is_cut_and_control_characters_are_escaped() {
        let text = format!("{}\x1b[31m{}", "a".repeat(10_000), "é".repeat(10_000));
        let shown = at(&text, 10_001..10_005).render(false);
        assert!(shown.contains("a\\x1b[31mé") && shown.len() < 600, "{shown}");
    }

    #[test]
    fn json_has_the_range_in_bytes() {
        let value = serde_json::to_value(at("{\"a\":\n1}", 6..7)).unwrap_or_default();
        let fields = ["line", "column", "start", "end"].map(|key| value[key].as_u64());
        assert_eq!(fields, [Some(2), Some(1), Some(6), Some(7)]);
        assert_eq!(value["severity"], "error");
    }
}
