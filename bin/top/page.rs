//! What is shown, as lines of text of a width: words, and columns that fit.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::ctl::printable;

/// Between two columns.
const GAP: usize = 2;

/// What a column is not made narrower than.
const WIDTH_MIN: usize = 6;

/// What it is made narrower by.
const CUT: char = '…';

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Plain,
    /// It is above columns.
    Heading,
    /// Somebody should look.
    Bad,
}

/// A line as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) mark: Mark,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(mark: Mark, text: impl Into<String>) -> Self {
        Self { mark, text: text.into() }
    }
}

/// How a column gives way where there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Words; the widest are cut.
    Text(&'static str),
    /// Words that are not cut.
    Whole(&'static str),
    /// A number.
    Number(&'static str),
    /// A number that is left out.
    Spare(&'static str),
    /// Words that are left out.
    SpareText(&'static str),
}

impl Column {
    fn heading(self) -> &'static str {
        let (Self::Text(it)
        | Self::Whole(it)
        | Self::Number(it)
        | Self::Spare(it)
        | Self::SpareText(it)) = self;
        it
    }

    fn is_spare(self) -> bool {
        matches!(self, Self::Spare(_) | Self::SpareText(_))
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Number(_) | Self::Spare(_))
    }
}

/// Rows below headings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    columns: Vec<Column>,
    rows: Vec<(Mark, Vec<String>)>,
}

impl Grid {
    pub(super) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// # Panics
    /// If it has not a cell for each column.
    pub(super) fn add(&mut self, mark: Mark, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| printable(&cell)).collect();
        assert_eq!(cells.len(), self.columns.len());
        self.rows.push((mark, cells));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn lines(&self, width: usize) -> Vec<Line> {
        let columns = self.fit(width);
        let heading = |&(place, _): &(usize, usize)| self.columns[place].heading();
        let headings: Vec<&str> = columns.iter().map(heading).collect();
        let mut lines = vec![Line::new(Mark::Heading, self.line(&columns, &headings))];
        for (mark, cells) in &self.rows {
            let cells: Vec<&str> =
                columns.iter().map(|&(place, _)| cells[place].as_str()).collect();
            lines.push(Line::new(*mark, self.line(&columns, &cells)));
        }
        lines
    }

    /// Which columns there is room for, and how wide they are.
    fn fit(&self, width: usize) -> Vec<(usize, usize)> {
        let wish = |place: usize| {
            let cells = self.rows.iter().map(|(_, cells)| cells[place].width());
            cells.chain([self.columns[place].heading().width()]).max().unwrap_or_default()
        };
        let mut columns: Vec<_> = (0..self.columns.len()).map(|it| (it, wish(it))).collect();
        let total = |columns: &[(usize, usize)]| {
            columns.iter().map(|(_, width)| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        let is_spare = |&(place, _): &(usize, usize)| self.columns[place].is_spare();
        while total(&columns) > width {
            let Some(last) = columns.iter().rposition(is_spare) else { break };
            columns.remove(last);
        }
        while total(&columns) > width {
            let text =
                |(place, _): &&mut (usize, usize)| matches!(self.columns[*place], Column::Text(_));
            let widest = columns.iter_mut().filter(text).max_by_key(|(_, width)| *width);
            match widest {
                Some((_, width)) if *width > WIDTH_MIN => *width -= 1,
                _ => break,
            }
        }
        columns
    }

    fn line(&self, columns: &[(usize, usize)], cells: &[&str]) -> String {
        let mut line = String::new();
        for (&(place, width), cell) in columns.iter().zip(cells) {
            let cell = cut(cell, width);
            let space = " ".repeat(width.saturating_sub(cell.width()));
            let (before, after) = if self.columns[place].is_number() {
                (space.as_str(), "")
            } else {
                ("", space.as_str())
            };
            line.extend([before, &cell, after, &" ".repeat(GAP)]);
        }
        line.trim_end().to_owned()
    }
}

/// At most `width` wide.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 1);
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used > width {
            break;
        }
        kept.push(character);
    }
    kept.push(CUT);
    kept
}

/// Lines of whole words; those after the first begin with two spaces.
pub(super) fn wrapped(mark: Mark, text: &str, width: usize) -> Vec<Line> {
    let text = printable(text);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.trim().is_empty() && line.width() + 1 + word.width() > width {
            lines.push(Line::new(mark, std::mem::replace(&mut line, " ".to_owned())));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(Line::new(mark, line));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn columns_give_way_in_their_order() {
        let mut grid = Grid::new([
            Column::Text("NAME"),
            Column::Whole("WORD"),
            Column::Number("N"),
            Column::Spare("SPARE"),
        ]);
        grid.add(Mark::Plain, ["a-long-name", "whole", "5", "12"].map(str::to_owned));
        grid.add(Mark::Bad, ["été", "no\x1bt", "12", "3"].map(str::to_owned));
        let wide = [
            "NAME         WORD        N  SPARE",
            "a-long-name  whole       5     12",
            "été          no\\u{1b}t  12      3",
        ];
        assert_eq!(texts(&grid.lines(33)), wide);
        let narrow =
            ["NAME      WORD        N", "a-long-…  whole       5", "été       no\\u{1b}t  12"];
        assert_eq!(texts(&grid.lines(23)), narrow);
        // No narrower than this, and then the right end is not seen.
        let least = ["NAME    WORD        N", "a-lon…  whole       5", "été     no\\u{1b}t  12"];
        for width in [0, 1, 20, 21] {
            assert_eq!(texts(&grid.lines(width)), least, "{width}");
        }
    }

    #[test]
    fn words_are_wrapped_whole() {
        let lines = wrapped(Mark::Bad, "one two three seventeen", 9);
        assert_eq!(texts(&lines), ["one two", "  three", "  seventeen"]);
    }
}
