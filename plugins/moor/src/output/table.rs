//! Tables: two spaces between the columns, no lines, headings in capitals.

use crate::context::Context;
use crate::failure::Failure;

use crate::escape::escaped;

use super::text::print;

/// A table that grows by rows.
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(heads: &[&'static str]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one cell for each heading. An empty cell is printed as `-`.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.heads.len(), "a cell for each heading");
        let clean = |cell: String| if cell.is_empty() { "-".into() } else { one_line(&cell) };
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// Prints headings and rows. No row is cut.
    pub fn print(&self, context: &Context) -> Result<(), Failure> {
        let widths = self.widths();
        let heads = line(self.heads.iter().copied(), &widths);
        let mut text = if context.colour { format!("\x1b[1m{heads}\x1b[0m") } else { heads };
        text.push('\n');
        for row in &self.rows {
            text += &line(row.iter().map(String::as_str), &widths);
            text.push('\n');
        }
        print(&text)
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(self.heads[column].len())
        };
        (0..self.heads.len()).map(width).collect()
    }
}

fn one_line(cell: &str) -> String {
    escaped(cell).replace('\n', "\\n")
}

fn line<'c>(cells: impl Iterator<Item = &'c str>, widths: &[usize]) -> String {
    let padded: Vec<_> = cells.zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    padded.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_is_not_padded() {
        let mut table = Table::new(&["NAME", "DRIVER"]);
        table.row(vec!["a-long-name".into(), "bridge".into()]);
        table.row(vec!["b".into(), String::new()]);
        assert_eq!(table.widths(), [11, 6]);
        assert_eq!(line(table.rows[1].iter().map(String::as_str), &table.widths()), "b            -");
    }

    #[test]
    fn a_cell_is_one_line_without_control_characters() {
        let mut table = Table::new(&["NAME"]);
        table.row(vec!["a\nb\x1b".into()]);
        assert_eq!(table.rows[0], ["a\\nb\\x1b"]);
    }
}
