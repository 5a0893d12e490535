//! Tables as aligned text and as Markdown.

/// Where a column's cells are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of cells under a header.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub columns: Vec<(String, Align)>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows; names of columns of text, then of columns of numbers.
    pub fn new<S: Into<String>>(
        text: impl IntoIterator<Item = S>,
        numbers: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let text = text.into_iter().map(|name| (name.into(), Align::Left));
        let numbers = numbers.into_iter().map(|name| (name.into(), Align::Right));
        Self { columns: text.chain(numbers).collect(), rows: Vec::new() }
    }

    /// Lines of aligned columns, two spaces between them and none at line ends.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let cells = |row: &[String]| self.padded(row, &widths).join("  ").trim_end().to_owned() + "\n";
        std::iter::once(self.header()).chain(self.rows.iter().cloned()).map(|row| cells(&row)).collect()
    }

    /// A table of GitHub's Markdown, aligned so that it can be read as text too.
    pub fn markdown(&self) -> String {
        let escaped = |row: &[String]| -> Vec<String> { row.iter().map(|cell| cell.replace('|', "\\|")).collect() };
        let table = Self {
            columns: self.columns.iter().map(|(name, align)| (name.replace('|', "\\|"), *align)).collect(),
            rows: self.rows.iter().map(|row| escaped(row)).collect(),
        };
        let widths = table.widths();
        let rule = table.columns.iter().zip(&widths).map(|((_, align), width)| match align {
            Align::Left => "-".repeat(*width.max(&3)),
            Align::Right => "-".repeat(*width.max(&3) - 1) + ":",
        });
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = [line(table.padded(&table.header(), &widths)), line(rule.collect())];
        head.into_iter().chain(table.rows.iter().map(|row| line(table.padded(row, &widths)))).collect()
    }

    fn header(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Characters of the widest cell of each column.
    fn widths(&self) -> Vec<usize> {
        let width = |(i, (name, _)): (usize, &(String, Align))| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).chain([name]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// `widths` are [`Self::widths`], which many rows share.
    fn padded(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let cells = row.iter().zip(&self.columns).zip(widths);
        cells
            .map(|((cell, (_, align)), width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let rows = [["a|b", "1.5"], ["ünïcode", "20"]].map(|row| row.map(str::to_owned).to_vec()).to_vec();
        Table { rows, ..Table::new(["class"], ["n"]) }
    }

    #[test]
    fn text_is_aligned_by_characters_without_spaces_at_line_ends() {
        assert_eq!(table().text(), "class      n\na|b      1.5\nünïcode   20\n");
    }

    #[test]
    fn markdown_has_a_rule_that_aligns_numbers_and_no_stray_bars() {
        assert_eq!(table().markdown(), "| class   |   n |\n| ------- | --: |\n| a\\|b    | 1.5 |\n| ünïcode |  20 |\n");
    }
}
