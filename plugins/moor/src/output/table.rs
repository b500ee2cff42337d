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
        let clean = |cell: String| if cell.is_empty() { "-".into() } else { one_line(cell) };
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// Prints headings and rows. No row is cut.
    pub fn print(&self, context: &Context) -> Result<(), Failure> {
        let widths = self.widths();
        let mut text = String::with_capacity((self.rows.len() + 2) * (widths.iter().sum::<usize>() + 16));
        if context.colour {
            text += "\x1b[1m";
        }
        line(&mut text, self.heads.iter().copied(), &widths);
        if context.colour {
            text += "\x1b[0m";
        }
        text.push('\n');
        for row in &self.rows {
            line(&mut text, row.iter().map(String::as_str), &widths);
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

fn one_line(cell: String) -> String {
    // Most cells are printed as they are, and a table can have hundreds of thousands.
    if cell.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return cell;
    }
    escaped(&cell).replace('\n', "\\n")
}

/// Appends the cells, each but the last padded to its column's width.
fn line<'c>(text: &mut String, cells: impl Iterator<Item = &'c str>, widths: &[usize]) {
    let mut padding = 0;
    for (cell, width) in cells.zip(widths) {
        text.extend(std::iter::repeat_n(' ', padding));
        text.push_str(cell);
        padding = width.saturating_sub(cell.chars().count()) + 2;
    }
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
        let mut text = String::new();
        line(&mut text, table.rows[1].iter().map(String::as_str), &table.widths());
        assert_eq!(text, "b            -");
    }

    #[test]
    fn a_cell_is_one_line_without_control_characters() {
        let mut table = Table::new(&["NAME"]);
        table.row(vec!["a\nb\x1b".into()]);
        assert_eq!(table.rows[0], ["a\\nb\\x1b"]);
    }
}
