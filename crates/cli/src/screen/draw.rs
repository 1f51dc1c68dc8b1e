//! How the screen looks. Draws what the state says, and changes nothing.

use std::fmt::Write;

use poste_client::{Connection, Counters, OutboxState, State as MessageState};
use poste_protocol::UserId;
use ratatui::Frame;
use ratatui::buffer::{Buffer, CellWidth};
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use super::editor::Editor;
use super::keys::HELP;
use super::layout::{Areas, PROMPT, Paper, cut, input_width};
use super::state::{Focus, Open, Over, State};
use super::window::Measure;
use crate::{harmless, print, time};

const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws everything.
pub(crate) fn screen(state: &State, frame: &mut Frame<'_>) {
    let areas = Areas::of(state, frame.area());
    let buffer = frame.buffer_mut();
    let mut cursor = None;
    if let Some(area) = areas.status {
        status(state, area, buffer);
    }
    if let Some(Over::Outbox { chosen, dropping }) = &state.over {
        outbox(state, *chosen, dropping.is_some(), areas.body, buffer);
    } else {
        if let Some(area) = areas.list {
            list(state, area, buffer);
        }
        if let Some(area) = areas.divider {
            for y in area.top()..area.bottom() {
                put(area.x, y, 1, &Line::styled("│", FAINT), buffer);
            }
            if state.open.is_none() {
                let room = Rect { x: area.x + 2, width: areas.body.right().saturating_sub(area.x + 2), ..areas.body };
                put(room.x, room.y, room.width, &Line::styled(nothing_open(state), FAINT), buffer);
            }
        }
        if let Some(open) = &state.open {
            cursor = conversation(state, open, &areas, buffer);
        }
    }
    match &state.over {
        Some(Over::Help) => {
            let keys = HELP.iter().map(|(keys, what)| Line::raw(format!("{keys:<23} {what}"))).collect::<Vec<_>>();
            over(" Keys ", &keys, 68, areas.body, buffer);
        }
        Some(Over::New { editor, wrong }) => {
            let hint = match wrong {
                Some(wrong) => Line::styled(wrong.clone(), Style::new().fg(Color::Red)),
                None => Line::styled("Enter begins it, Esc does not", FAINT),
            };
            let inside = over(" With whom? ", &[Line::raw(""), hint], 68, areas.body, buffer);
            cursor = text(editor, Rect { height: inside.height.min(1), ..inside }, buffer);
        }
        Some(Over::Outbox { .. }) => cursor = None,
        None => {}
    }
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

fn nothing_open(state: &State) -> &'static str {
    if state.conversations.is_empty() {
        "Ctrl-N: begin a conversation"
    } else {
        "Enter: open; Ctrl-N: a new one; F1: help"
    }
}

/// Writes a line where there is room for it.
fn put(x: u16, y: u16, width: u16, line: &Line<'_>, buffer: &mut Buffer) {
    if buffer.area.contains(Position { x, y }) {
        buffer.set_line(x, y, line, width);
    }
}

fn name(peer: Option<&UserId>, id: &poste_protocol::ConversationId) -> String {
    peer.map_or_else(|| id.to_string(), UserId::to_string)
}

/// Whether the other one is writing, or here.
fn sign(state: &State, peer: Option<&UserId>, id: &poste_protocol::ConversationId) -> &'static str {
    if state.writing.iter().any(|(conversation, _)| conversation == id) {
        " writes …"
    } else if peer.is_some_and(|peer| state.here.contains(peer)) {
        " ●"
    } else {
        ""
    }
}

/// A line for each conversation: what is chosen, who, messages that wait, unread ones, the last activity.
fn list(state: &State, area: Rect, buffer: &mut Buffer) {
    let height = usize::from(area.height);
    // The chosen one is on the screen.
    let first = (state.chosen + 1).saturating_sub(height);
    if state.conversations.is_empty() {
        put(area.x, area.y, area.width, &Line::styled(cut("no conversations yet", area.width), FAINT), buffer);
    }
    let rows = state.conversations.iter().enumerate().skip(first).take(height);
    for (y, (index, conversation)) in (area.y..).zip(rows) {
        let unread = if conversation.unread > 0 { format!("({}) ", conversation.unread) } else { String::new() };
        let failed = state
            .waiting()
            .any(|(entry, message)| entry.conversation == conversation.id && message.state == MessageState::Failed);
        let waits = match conversation.unsettled {
            0 => "",
            _ if failed => "✗ ",
            _ => "◷ ",
        };
        let when =
            if conversation.active_at > 0 { time::last(conversation.active_at, state.now) } else { String::new() };
        let when = format!("{when:>6}");
        let taken = waits.cell_width() + unread.cell_width() + when.cell_width() + 2;
        let room = area.width.saturating_sub(taken).max(3.min(area.width));
        let peer = conversation.peer.as_ref();
        let who = cut(&format!("{}{}", name(peer, &conversation.id), sign(state, peer, &conversation.id)), room);
        let open = state.open.as_ref().is_some_and(|open| open.id == conversation.id);
        let mark = if open { "▸" } else { " " };
        let style = if conversation.unread > 0 || open { STRONG } else { Style::new() };
        let row = Line::from(vec![
            Span::styled(format!("{mark}{who:<width$} ", width = usize::from(room)), style),
            Span::styled(waits, FAINT),
            Span::styled(unread, style.fg(Color::Cyan)),
            Span::styled(when, FAINT),
        ]);
        put(area.x, y, area.width, &row, buffer);
        if index == state.chosen && state.focus == Focus::List {
            buffer.set_style(Rect { y, height: 1, ..area }, CHOSEN);
        }
    }
}

/// The open conversation. Says where the cursor is.
fn conversation(state: &State, open: &Open, areas: &Areas, buffer: &mut Buffer) -> Option<Position> {
    if let Some(area) = areas.title {
        let more = if open.window.is_behind() { "  ↓ newer below: Ctrl-End" } else { "" };
        let title =
            format!("{}{}{more}", name(open.peer.as_ref(), &open.id), sign(state, open.peer.as_ref(), &open.id));
        put(area.x, area.y, area.width, &Line::styled(cut(&title, area.width), STRONG), buffer);
    }
    if let Some(area) = areas.banner {
        let said = match state.connection {
            Connection::Off => "offline: what you write is kept; F3 restores".to_owned(),
            other => format!("{}; what you write is kept", print::connection(other)),
        };
        let style = Style::new().fg(Color::Black).bg(Color::Yellow);
        buffer.set_style(area, style);
        put(area.x, area.y, area.width, &Line::styled(cut(&said, area.width), style), buffer);
    }
    if let Some(area) = areas.messages {
        messages(state, open, area, buffer);
    }
    if let Some(area) = areas.rule {
        put(area.x, area.y, area.width, &Line::styled("─".repeat(usize::from(area.width)), FAINT), buffer);
    }
    let area = areas.input?;
    let width = PROMPT.cell_width().min(area.width.saturating_sub(1));
    put(area.x, area.y, width, &Line::styled(PROMPT, FAINT), buffer);
    let inside = Rect { x: area.x + width, width: area.width - width, ..area };
    let cursor = text(&open.editor, inside, buffer);
    cursor.filter(|_| state.focus == Focus::Input)
}

fn messages(state: &State, open: &Open, area: Rect, buffer: &mut Buffer) {
    let paper = Paper { me: &state.me, peer: open.peer.as_ref(), new_after: open.new_after, width: area.width };
    let lines = |messages: &[poste_client::Message], index| paper.lines(messages, index).len();
    let measure = Measure { lines: &lines, height: usize::from(area.height) };
    let (first, line) = open.window.first(&measure);
    let list = open.window.messages();
    let known = state.conversations.iter().find(|known| known.id == open.id);
    if let Some(preview) = known.and_then(|known| known.preview.as_ref()).filter(|_| list.is_empty()) {
        // The list tells it before there is a page.
        let told = format!("{} …", print::preview(preview));
        put(area.x, area.y, area.width, &Line::styled(cut(&told, area.width), FAINT), buffer);
    }
    let lines = (first..list.len()).flat_map(|index| paper.lines(list, index)).skip(line).take(measure.height);
    for (y, line) in (area.y..).zip(lines) {
        put(area.x, y, area.width, &line, buffer);
    }
}

/// A text that is being written, as much of it as there is room for around the cursor. Says where the cursor is.
fn text(editor: &Editor, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    if area.is_empty() {
        return None;
    }
    let rows = editor.rows(input_width(area.width + PROMPT.cell_width()));
    let (row, column) = rows.cursor;
    let first = (row + 1).saturating_sub(usize::from(area.height));
    for (y, row) in (area.y..area.bottom()).zip(rows.rows.iter().skip(first)) {
        put(area.x, y, area.width, &Line::raw(row.as_str()), buffer);
    }
    let offset = |places: usize, most: u16| u16::try_from(places).unwrap_or(u16::MAX).min(most.saturating_sub(1));
    Some(Position { x: area.x + offset(column, area.width), y: area.y + offset(row - first, area.height) })
}

/// What is going on: the connection, what waits, what was counted; or the notice of the moment.
fn status(state: &State, area: Rect, buffer: &mut Buffer) {
    let back = Style::new().add_modifier(Modifier::REVERSED);
    buffer.set_style(area, back);
    if let Some(notice) = &state.notice {
        let said = cut(&format!(" {}", harmless::line(&notice.text)), area.width);
        put(area.x, area.y, area.width, &Line::styled(said, back.add_modifier(Modifier::BOLD)), buffer);
        return;
    }
    let sign = if state.is_online() { "●" } else { "○" };
    let mut said = format!(" {sign} {}", print::connection(state.connection));
    let failed = state.waiting().filter(|(_, message)| message.state == MessageState::Failed).count();
    let counts = [(state.unsettled(), "not sent"), (failed as u64, "failed"), (unread(state), "unread")];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(said, " · {count} {what}");
    }
    let Counters { frames_sent, frames_received, resubmissions, .. } = state.counters;
    let _ = write!(said, " · ↑{frames_sent} ↓{frames_received} ↻{resubmissions}");
    let right = format!("{}/{} · F1 help ", state.me, state.device);
    let left = cut(&said, area.width);
    put(area.x, area.y, area.width, &Line::styled(left.as_str(), back), buffer);
    if left.cell_width() + right.cell_width() < area.width {
        let x = area.right() - right.cell_width();
        put(x, area.y, right.cell_width(), &Line::styled(right, back), buffer);
    }
}

fn unread(state: &State) -> u64 {
    state.conversations.iter().map(|conversation| conversation.unread).sum()
}

/// A view in the middle, over what is there. Says where its inside is.
fn over(title: &'static str, lines: &[Line<'_>], width: u16, body: Rect, buffer: &mut Buffer) -> Rect {
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(body.height);
    let width = width.min(body.width);
    let area = Rect { x: body.x + (body.width - width) / 2, y: body.y + (body.height - height) / 2, width, height };
    Clear.render(area, buffer);
    let block = Block::bordered().title(title);
    let inside = block.inner(area);
    block.render(area, buffer);
    for (y, line) in (inside.y..inside.bottom()).zip(lines) {
        put(inside.x, y, inside.width, line, buffer);
    }
    inside
}

/// The outbox: two lines for a message, what is being done with it and what it says.
fn outbox(state: &State, chosen: usize, dropping: bool, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let count = state.waiting().count();
    let title = if dropping {
        Line::styled("Drop this message for good? y: yes; any other key: no", STRONG.fg(Color::Red))
    } else if count == 0 {
        Line::styled("Outbox: empty. Everything is with the server. Esc: back", STRONG)
    } else {
        Line::styled(format!("Outbox: {count}. r: retry, d: drop, Enter: open, Esc: back"), STRONG)
    };
    put(area.x, area.y, area.width, &title, buffer);
    let fit = usize::from(area.height.saturating_sub(1)) / 2;
    let first = (chosen + 1).saturating_sub(fit);
    let mut y = area.y + 1;
    for (index, (entry, message)) in state.waiting().enumerate().skip(first).take(fit.max(1)) {
        let (what, style) = match entry.state {
            OutboxState::Queued => ("waiting".to_owned(), Style::new()),
            OutboxState::UnderWay => (format!("on its way, attempts: {}", entry.attempts), Style::new()),
            OutboxState::Failed => {
                let why = entry.failure.as_ref().map(print::failure).unwrap_or_default();
                (format!("refused after {} attempts: {why}", entry.attempts), Style::new().fg(Color::Red))
            }
        };
        let who = name(entry.peer.as_ref(), &entry.conversation);
        let when = message.written_at.map(|at| time::last(at, state.now)).unwrap_or_default();
        let head = cut(&format!("to {who}, {when}: {what}"), area.width);
        put(area.x, y, area.width, &Line::styled(head, style), buffer);
        if index == chosen && y < area.bottom() {
            buffer.set_style(Rect { y, height: 1, ..area }, CHOSEN);
        }
        let body = cut(&print::waiting(message).replace('\t', " "), area.width.saturating_sub(2));
        if y + 1 < area.bottom() {
            put(area.x + 2, y + 1, area.width.saturating_sub(2), &Line::raw(body), buffer);
        }
        y += 2;
    }
}
