//! The text that is being written: its characters as people count them, a cursor between two of them, and the rows
//! that it takes on the screen.

use poste_protocol::limits;
use ratatui::buffer::CellWidth;
use unicode_segmentation::UnicodeSegmentation;

use crate::harmless;

/// A body of more bytes fits no envelope.
const LIMIT: usize = limits::ENVELOPE_BYTES;

/// A text and a cursor. The cursor is never inside of a character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Editor {
    text: String,
    /// In bytes.
    cursor: usize,
}

/// Where a cursor goes, or up to where something is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Left,
    Right,
    WordLeft,
    WordRight,
    /// The beginning of the line.
    Start,
    /// The end of the line.
    End,
}

/// The text as rows of a given width, and the row and column of the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<String>,
    pub(crate) cursor: (usize, usize),
}

impl Editor {
    /// An editor with a text, the cursor at its end.
    pub(crate) fn with(text: &str) -> Self {
        let mut editor = Self::default();
        editor.insert(text);
        editor
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text; what is left is empty.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Inserts at the cursor. Line breaks become `\n`; other control characters but tabs are not taken. A text that
    /// would be too long is not inserted: then the answer is `false`.
    pub(crate) fn insert(&mut self, text: &str) -> bool {
        let text: String = text
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .chars()
            .filter(|c| !c.is_control() || "\n\t".contains(*c))
            .collect();
        if self.text.len() + text.len() > LIMIT {
            return false;
        }
        self.text.insert_str(self.cursor, &text);
        let after = self.cursor + text.len();
        // What was inserted may have become one character with what follows.
        self.cursor = self.boundary(after);
        true
    }

    pub(crate) fn go(&mut self, to: To) {
        self.cursor = self.target(to);
    }

    pub(crate) fn delete(&mut self, to: To) {
        let target = self.target(to);
        let (from, upto) = (target.min(self.cursor), target.max(self.cursor));
        self.text.replace_range(from..upto, "");
        self.cursor = self.boundary(from);
    }

    /// One row up or down on the screen. `false` if there is none.
    pub(crate) fn go_row(&mut self, up: bool, width: u16) -> bool {
        let places = self.places(width);
        let Some((_, row, column)) = places.iter().copied().find(|(at, ..)| *at == self.cursor) else { return false };
        let wanted = if up { row.checked_sub(1) } else { Some(row + 1) };
        let in_row = places.iter().filter(|(_, its, _)| Some(*its) == wanted);
        let Some((at, ..)) = in_row.filter(|(.., its)| *its <= column).max_by_key(|(.., its)| *its) else {
            return false;
        };
        self.cursor = *at;
        true
    }

    pub(crate) fn rows(&self, width: u16) -> Rows {
        let places = self.places(width);
        let mut rows = vec![String::new(); places.last().map_or(0, |(_, row, _)| *row) + 1];
        for ((_, row, _), piece) in places.iter().zip(self.text.graphemes(true)) {
            if piece != "\n" {
                rows[*row].push_str(&shown(piece));
            }
        }
        let cursor = places.iter().find(|(at, ..)| *at == self.cursor);
        Rows { rows, cursor: cursor.map_or((0, 0), |(_, row, column)| (*row, *column)) }
    }

    /// Byte, row and column of every place that the cursor can be at, the end included.
    fn places(&self, width: u16) -> Vec<(usize, usize, usize)> {
        let width = usize::from(width.max(1));
        let mut places = Vec::new();
        let (mut row, mut column) = (0, 0);
        for (at, piece) in self.text.grapheme_indices(true) {
            let wide = if piece == "\n" { 0 } else { usize::from(shown(piece).cell_width()) };
            if column + wide > width && column > 0 {
                (row, column) = (row + 1, 0);
            }
            places.push((at, row, column));
            column += wide;
            if piece == "\n" {
                (row, column) = (row + 1, 0);
            }
        }
        if column >= width {
            (row, column) = (row + 1, 0);
        }
        places.push((self.text.len(), row, column));
        places
    }

    /// The first place between two characters at or after a byte.
    fn boundary(&self, least: usize) -> usize {
        self.text.grapheme_indices(true).map(|(at, _)| at).find(|at| *at >= least).unwrap_or(self.text.len())
    }

    fn target(&self, to: To) -> usize {
        let (before, after) = self.text.split_at(self.cursor);
        let is_word = |word: &str| word.chars().any(char::is_alphanumeric);
        match to {
            To::Left => before.grapheme_indices(true).next_back().map_or(0, |(at, _)| at),
            To::Right => self.cursor + after.graphemes(true).next().map_or(0, str::len),
            To::WordLeft => before.split_word_bound_indices().rfind(|(_, word)| is_word(word)).map_or(0, |(at, _)| at),
            To::WordRight => {
                let word = after.split_word_bound_indices().find(|(_, word)| is_word(word));
                word.map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
            }
            To::Start => before.rfind('\n').map_or(0, |at| at + 1),
            To::End => after.find('\n').map_or(self.text.len(), |at| self.cursor + at),
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.boundary(self.cursor), self.cursor, "the cursor is inside of a character: {self:?}");
        assert!(self.text.len() <= LIMIT, "more than an envelope carries");
    }
}

/// A character of the text as it is shown.
fn shown(piece: &str) -> String {
    harmless::line(piece).replace('\t', harmless::TAB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_goes_by_characters_words_and_lines() {
        let mut editor = Editor::with("one two\n👩‍👩‍👧 e\u{301}nd");
        for (to, left) in
            [(To::Left, "d"), (To::WordLeft, "e\u{301}nd"), (To::Left, " e\u{301}nd"), (To::Left, "👩‍👩‍👧 e\u{301}nd")]
        {
            editor.go(to);
            assert_eq!(&editor.text[editor.cursor..], left, "{to:?}");
        }
        editor.go(To::Left);
        editor.go(To::Start);
        assert_eq!(editor.cursor, 0);
        editor.go(To::WordRight);
        assert_eq!(editor.cursor, 3);
        editor.go(To::End);
        assert_eq!(editor.cursor, 7);
    }

    #[test]
    fn deleting_takes_whole_characters() {
        let mut editor = Editor::with("a👩‍👩‍👧e\u{301}");
        editor.delete(To::Left);
        assert_eq!(editor.text(), "a👩‍👩‍👧");
        editor.delete(To::Left);
        assert_eq!(editor.text(), "a");
        editor.delete(To::Left);
        editor.delete(To::Left);
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn rows_are_cut_by_columns_not_by_bytes() {
        let editor = Editor::with("日本語ab\nc");
        assert_eq!(editor.rows(5), Rows { rows: vec!["日本".into(), "語ab".into(), "c".into()], cursor: (2, 1) });
        assert_eq!(Editor::with("abc").rows(3), Rows { rows: vec!["abc".into(), String::new()], cursor: (1, 0) });
        assert_eq!(Editor::default().rows(0), Rows { rows: vec![String::new()], cursor: (0, 0) });
    }

    #[test]
    fn up_and_down_keep_the_column_where_they_can() {
        let mut editor = Editor::with("long line\nx\nanother");
        assert!(editor.go_row(true, 20) && editor.go_row(true, 20));
        assert_eq!(editor.rows(20).cursor, (0, 1));
        assert!(!editor.go_row(true, 20), "there is no row above");
        assert!(editor.go_row(false, 20));
        assert_eq!(editor.rows(20).cursor, (1, 1));
    }

    #[test]
    fn what_is_pasted_cannot_steer_the_terminal() {
        let mut editor = Editor::default();
        assert!(editor.insert("a\r\nb\u{1b}[2J\u{7}\tc"));
        assert_eq!(editor.text(), "a\nb[2J\tc");
        assert!(!editor.insert(&"x".repeat(LIMIT)), "more than any envelope carries");
        assert_eq!(editor.text(), "a\nb[2J\tc");
    }
}
