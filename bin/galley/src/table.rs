//! Aligned tables that fit the terminal. One column gives way when there is
//! not enough room; in a pipe nothing is cut.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::print::style::{self, Paint};

/// Between two columns.
const GAP: usize = 2;
/// No column is cut to fewer cells.
const NARROWEST: usize = 8;

/// One cell: a text of one line and its style.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

/// A plain cell.
pub(crate) fn cell(text: impl ToString) -> Cell {
    painted(text, style::PLAIN)
}

/// A cell in a style.
pub(crate) fn painted(text: impl ToString, paint: Paint) -> Cell {
    // A line break in a message must not break the table.
    let text = text.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Cell { text, paint }
}

/// A state's word in its colour.
pub(crate) fn state(word: &str) -> Cell {
    painted(word, style::of_state(word))
}

/// Rows under headings. Headings that begin with `>` are right-aligned, those
/// that begin with `~` give way first when the terminal is narrow.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: as many cells as headings.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.headings.len(), "a row has a cell under every heading");
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, at most `width` columns wide where that is possible.
    pub(crate) fn render(&self, width: Option<usize>) -> String {
        let names: Vec<&str> = self.headings.iter().map(|name| name.trim_start_matches(['>', '~'])).collect();
        let mut widths: Vec<usize> = names.iter().map(|name| name.width()).collect();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                widths[column] = widths[column].max(cell.text.width());
            }
        }
        if let Some(width) = width {
            self.shrink(&mut widths, width);
        }
        let mut text = String::new();
        let headings = names.iter().map(|name| painted(name, style::DIM)).collect::<Vec<_>>();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let cut = shorten(&cell.text, widths[column]);
                let pad = " ".repeat(widths[column] - cut.width());
                let shown = cell.paint.on(&cut);
                let last = column + 1 == row.len();
                if self.headings[column].starts_with('>') {
                    line.push_str(&pad);
                    line.push_str(&shown);
                } else {
                    line.push_str(&shown);
                    if !last {
                        line.push_str(&pad);
                    }
                }
                if !last {
                    line.push_str(&" ".repeat(GAP));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn shrink(&self, widths: &mut [usize], width: usize) {
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let giving: Vec<usize> = (0..widths.len()).filter(|i| self.headings[*i].starts_with('~')).collect();
        while total(widths) > width {
            // The widest of those that give way, one cell at a time.
            let widest = giving.iter().copied().filter(|i| widths[*i] > NARROWEST).max_by_key(|i| widths[*i]);
            let Some(widest) = widest else { return };
            widths[widest] -= 1;
        }
    }
}

/// The text in at most `width` cells, with an ellipsis where it was cut.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let cells = c.width().unwrap_or(0);
        if used + cells + 1 > width {
            break;
        }
        used += cells;
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// Cells a text takes on the screen: colours take none.
fn cells(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().width()
}

/// The text broken at spaces into lines of at most `width` cells. Line breaks
/// stay; a word that is too long is cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let gap = usize::from(!line.is_empty());
            if cells(&line) + gap + cells(word) <= width {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(word);
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for c in word.chars() {
                if line.width() + c.width().unwrap_or(0) > width {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(c);
            }
        }
        lines.push(line);
    }
    lines
}

/// Lines in a box with a title, `width` cells wide.
pub(crate) fn boxed(title: &str, lines: &[String], width: usize) -> String {
    let inner = width.saturating_sub(4);
    let title = shorten(title, inner.saturating_sub(2));
    let rule = "─".repeat(inner.saturating_sub(title.width()).saturating_sub(1));
    let mut text = format!("┌─ {} {rule}┐\n", style::STRONG.on(&title));
    for line in lines {
        let pad = " ".repeat(inner.saturating_sub(line.width()));
        text.push_str(&format!("│ {line}{pad} │\n"));
    }
    text.push_str(&format!("└{}┘\n", "─".repeat(inner + 2)));
    text
}

#[cfg(test)]
mod tests {
    use super::{Table, boxed, cell, shorten, wrap};
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn columns_align_and_the_soft_one_gives_way() {
        let mut table = Table::new(&["NAME", ">N", "~WHY"]);
        table.row(vec![cell("a"), cell(1), cell("because it is a very long reason\nof two lines")]);
        table.row(vec![cell("longer"), cell(100), cell("短い理由")]);
        let text = anstream::adapter::strip_str(&table.render(Some(40))).to_string();
        assert_eq!(
            text,
            "NAME      N  WHY\n\
             a         1  because it is a very long …\n\
             longer  100  短い理由\n"
        );
        assert!(text.lines().all(|line| line.width() <= 40));
        let whole = table.render(None);
        assert!(whole.contains("of two lines"), "nothing is cut in a pipe");
    }

    #[test]
    fn text_is_cut_and_wrapped_by_cells() {
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("短い理由", 5), "短い…");
        assert_eq!(wrap("one two three\n\nfour", 7), ["one two", "three", "", "four"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    }

    #[test]
    fn a_box_is_as_wide_as_asked() {
        let text = anstream::adapter::strip_str(&boxed("x", &["hello".into()], 30)).to_string();
        assert!(text.lines().all(|line| line.width() == 30), "{text}");
    }
}
