//! Tables as text.

use std::fmt::Write as _;

/// Columns under their headings, two spaces apart. Cells may hold names from outside: control
/// characters are escaped.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let heading = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading)
        .chain(rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()))
        .collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// The text without control characters; `-` if it is empty.
pub(super) fn clean(text: &str) -> String {
    if text.is_empty() {
        return "-".into();
    }
    let is_odd = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if is_odd(character) { '?' } else { character }).collect()
}

/// Items as one cell.
pub(super) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}
