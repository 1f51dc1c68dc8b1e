//! Where things are on the screen, and the lines that a message takes. Both are needed to draw, and to know how far
//! there is to scroll.

use poste_client::{Message, State as MessageState};
use poste_protocol::{Seq, UserId};
use ratatui::buffer::CellWidth;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

use super::state::{Focus, State};
use crate::{harmless, print, time};

/// From this width on, the list of conversations is beside the open one.
const BESIDE: u16 = 64;

/// Rows that the text being written takes at most.
const INPUT_ROWS: u16 = 6;

/// Columns of a time, with the space after it.
const TIME: u16 = 6;

/// Columns of the longest ticks, with the space before them.
const TICKS: u16 = 3;

/// Columns of a name, at most.
const NAME: u16 = 12;

/// With fewer columns for the text, time and name are above it and not beside.
const NARROW: u16 = 18;

/// The parts of the screen. A part that has no room is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Areas {
    pub(crate) list: Option<Rect>,
    pub(crate) divider: Option<Rect>,
    pub(crate) title: Option<Rect>,
    pub(crate) banner: Option<Rect>,
    pub(crate) messages: Option<Rect>,
    pub(crate) rule: Option<Rect>,
    pub(crate) input: Option<Rect>,
    pub(crate) status: Option<Rect>,
    /// Everything but the status: where views lie that cover the rest.
    pub(crate) body: Rect,
}

/// Takes rows off the top or the bottom of what is left, as long as `spare` rows remain.
struct Rest(Rect);

impl Rest {
    fn top(&mut self, rows: u16, spare: u16) -> Option<Rect> {
        let fits = rows > 0 && self.0.height >= rows.saturating_add(spare);
        fits.then(|| {
            let part = Rect { height: rows, ..self.0 };
            self.0.y += rows;
            self.0.height -= rows;
            part
        })
    }

    fn bottom(&mut self, rows: u16, spare: u16) -> Option<Rect> {
        let fits = rows > 0 && self.0.height >= rows.saturating_add(spare);
        fits.then(|| {
            self.0.height -= rows;
            Rect { y: self.0.y + self.0.height, height: rows, ..self.0 }
        })
    }
}

impl Areas {
    pub(crate) fn of(state: &State, screen: Rect) -> Self {
        let mut areas = Self::default();
        if screen.is_empty() {
            return areas;
        }
        let mut rest = Rest(screen);
        areas.status = rest.bottom(1, 1);
        areas.body = rest.0;
        if screen.width >= BESIDE {
            let width = (screen.width / 3).clamp(20, 32);
            areas.list = Some(Rect { width, ..rest.0 });
            areas.divider = Some(Rect { x: rest.0.x + width, width: 1, ..rest.0 });
            rest.0 = Rect { x: rest.0.x + width + 1, width: rest.0.width - width - 1, ..rest.0 };
        } else if state.focus == Focus::List || state.open.is_none() {
            areas.list = Some(rest.0);
            return areas;
        }
        let Some(open) = &state.open else { return areas };
        areas.title = rest.top(1, 3);
        let rows = open.editor.rows(input_width(rest.0.width)).rows.len();
        let rows = u16::try_from(rows).unwrap_or(INPUT_ROWS).clamp(1, INPUT_ROWS).min(rest.0.height / 2).max(1);
        areas.input = rest.bottom(rows, 0);
        areas.rule = rest.bottom(1, 3);
        if !state.is_online() {
            areas.banner = rest.top(1, 2);
        }
        areas.messages = (!rest.0.is_empty()).then_some(rest.0);
        areas
    }
}

/// What stands before the text that is being written.
pub(crate) const PROMPT: &str = "> ";

/// The columns that the text being written has of a part's.
pub(crate) fn input_width(width: u16) -> u16 {
    width.saturating_sub(PROMPT.cell_width()).max(1)
}

/// How messages of the open conversation are laid out.
pub(crate) struct Paper<'a> {
    pub(crate) me: &'a UserId,
    /// The other user of a direct conversation.
    pub(crate) peer: Option<&'a UserId>,
    /// What is beyond this was new when the conversation was opened.
    pub(crate) new_after: Option<Seq>,
    pub(crate) width: u16,
}

impl Paper<'_> {
    /// The lines of a message: the date where it changes, a rule where the new ones begin, the text with time, author and ticks, and why it failed.
    /// None for a message that is not there.
    pub(crate) fn lines(&self, messages: &[Message], index: usize) -> Vec<Line<'static>> {
        let Some(message) = messages.get(index) else { return Vec::new() };
        let width = self.width.max(1);
        let faint = Style::new().add_modifier(Modifier::DIM);
        let mut lines = Vec::new();
        let at = at(message);
        let before = index.checked_sub(1).and_then(|index| messages.get(index));
        if before.map(|before| time::day(self::at(before))) != Some(time::day(at)) {
            lines.push(Line::styled(cut(&format!("── {} ──", time::date(at)), width), faint));
        }
        if self.begins_the_new(before, message) {
            lines.push(Line::styled(cut("── new ──", width), Style::new().fg(Color::Cyan)));
        }
        let own = &message.user == self.me;
        let who = if own { "you" } else { message.user.as_str() };
        let (who_style, names) = (if own { Style::new() } else { Style::new().fg(Color::Yellow) }, self.names());
        let margin = TIME + names + 1;
        let beside = width >= margin + TICKS + NARROW;
        let name = cut(who, names);
        if !beside {
            let line = format!("{} {name}", time::short(at));
            lines.push(Line::styled(cut(&line, width), who_style.add_modifier(Modifier::DIM)));
        }
        let margin = if beside { margin } else { 0 };
        let room = width.saturating_sub(margin + TICKS).max(1);
        let text: Vec<String> = harmless::lines(&print::said(message)).flat_map(|line| wrap(&line, room)).collect();
        let last = text.len().saturating_sub(1);
        for (number, text) in text.into_iter().enumerate() {
            let mut spans = Vec::new();
            if beside && number == 0 {
                spans.push(Span::styled(format!("{} ", time::short(at)), faint));
                spans.push(Span::styled(format!("{name:<width$} ", width = usize::from(names)), who_style));
            } else {
                spans.push(Span::raw(" ".repeat(usize::from(margin))));
            }
            if number == last && own {
                let (ticks, style) = ticks(message.state);
                let gap = room.saturating_sub(text.cell_width()) + TICKS.saturating_sub(ticks.cell_width());
                spans.push(Span::raw(text));
                spans.push(Span::raw(" ".repeat(usize::from(gap))));
                spans.push(Span::styled(ticks, style));
            } else {
                spans.push(Span::raw(text));
            }
            lines.push(Line::from(spans));
        }
        let not_changed = message.waiting.as_ref().filter(|change| change.state == MessageState::Failed);
        let why = match (&message.failure, not_changed) {
            (Some(failure), _) => Some(format!("not sent: {}", print::failure(failure))),
            (None, Some(change)) => Some(print::change(change)),
            (None, None) => None,
        };
        if let Some(why) = why {
            let why = format!("{why}. Ctrl-R: again; Ctrl-O: outbox");
            let style = Style::new().fg(Color::Red);
            for line in wrap(&why, room) {
                lines.push(Line::styled(format!("{}{line}", " ".repeat(usize::from(margin))), style));
            }
        }
        lines
    }

    fn begins_the_new(&self, before: Option<&Message>, message: &Message) -> bool {
        let (Some(read), Some(seq)) = (self.new_after, message.seq) else { return false };
        // Without one before it in memory, only the very next one is known to be the first.
        seq > read && before.map_or(seq == read.next(), |before| before.seq <= Some(read))
    }

    /// Columns of names in this conversation.
    fn names(&self) -> u16 {
        let longest = self.peer.map_or(NAME, |peer| peer.as_str().cell_width());
        longest.clamp("you".cell_width(), NAME)
    }
}

/// When a message was stored, or written while it is not.
fn at(message: &Message) -> u64 {
    message.at.or(message.written_at).unwrap_or_default()
}

/// The state of an own message: a clock, one tick, two, two heavy ones, a cross.
pub(crate) fn ticks(state: MessageState) -> (&'static str, Style) {
    let style = Style::new();
    match state {
        MessageState::Pending => ("◷", style.add_modifier(Modifier::DIM)),
        MessageState::Sent => ("✓", style.add_modifier(Modifier::DIM)),
        MessageState::Delivered => ("✓✓", style.add_modifier(Modifier::DIM)),
        MessageState::Read => ("✔✔", style.fg(Color::Cyan).add_modifier(Modifier::BOLD)),
        MessageState::Failed => ("✗", style.fg(Color::Red).add_modifier(Modifier::BOLD)),
        MessageState::Received => ("", style),
    }
}

/// A harmless text, cut to a width; a cut is shown.
pub(crate) fn cut(text: &str, width: u16) -> String {
    if text.cell_width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut left = width.saturating_sub(1);
    for piece in text.graphemes(true) {
        let Some(rest) = left.checked_sub(piece.cell_width()) else { break };
        left = rest;
        shown.push_str(piece);
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// One line of harmless text in rows of a width: broken at spaces, and inside of words that are longer than a row.
pub(crate) fn wrap(text: &str, width: u16) -> Vec<String> {
    let width = usize::from(width.max(1));
    let mut rows = Vec::new();
    let (mut row, mut taken) = (String::new(), 0);
    // After the last space: its place in the row, and the columns before it.
    let mut word: Option<(usize, usize)> = None;
    for piece in text.graphemes(true) {
        let wide = usize::from(piece.cell_width());
        if piece == " " && taken + wide > width {
            rows.push(std::mem::take(&mut row));
            (taken, word) = (0, None);
            continue;
        }
        while taken + wide > width && !row.is_empty() {
            let (at, columns) = word.take().unwrap_or((row.len(), taken));
            let rest = row.split_off(at);
            taken -= columns;
            rows.push(std::mem::replace(&mut row, rest));
        }
        row.push_str(piece);
        taken += wide;
        if piece == " " {
            word = Some((row.len(), taken));
        }
    }
    rows.push(row);
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_at_spaces_and_in_long_words() {
        assert_eq!(wrap("the quick brown fox", 10), ["the quick ", "brown fox"]);
        assert_eq!(wrap("the quick brown", 9), ["the quick", "brown"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日本語テキスト", 5), ["日本", "語テ", "キス", "ト"]);
        assert_eq!(wrap("a 👩‍👩‍👧👩‍👩‍👧", 4), ["a ", "👩‍👩‍👧👩‍👩‍👧"]);
        assert_eq!(wrap("語", 1), ["語"], "what is wider than the row stands alone");
    }

    #[test]
    fn a_cut_is_shown() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "");
    }

    proptest! {
        #[test]
        fn rows_fit_and_nothing_is_lost(text in "([a-z]{1,12}| |日|👍🏽|e\u{301}){0,40}", width in 2_u16..30) {
            let text = harmless::line(&text);
            let rows = wrap(&text, width);
            for row in &rows {
                prop_assert!(row.cell_width() <= width, "{:?} in {}", row, width);
            }
            let visible = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(visible(&rows.concat()), visible(&text));
        }
    }
}
