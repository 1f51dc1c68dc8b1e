//! What keys do.

use poste_client::{Connection, OutboxState};
use poste_protocol::UserId;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::editor::{Editor, To};
use super::layout::input_width;
use super::state::{Effect, Focus, Over, State};

/// The keys, as the help shows them.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("Enter", "send; in the list: open"),
    ("Alt-Enter, Ctrl-J", "a new line"),
    ("Tab, Esc", "between the list and the text"),
    ("Alt-Up, Alt-Down", "the conversation before, after"),
    ("Up, Down, PgUp, PgDn", "scroll"),
    ("Ctrl-Home, Ctrl-End", "oldest in memory, newest"),
    ("Ctrl-N, F5", "a new conversation"),
    ("F2, F3, Ctrl-T", "cut the network, restore it, either"),
    ("Ctrl-O, F4", "the outbox: retry, drop"),
    ("Ctrl-R", "retry what failed here"),
    ("F6, F7 twice", "edit, delete your last message here"),
    ("Ctrl-A, Ctrl-E", "beginning, end of the line"),
    ("Ctrl-W, Ctrl-U, Ctrl-K", "delete a word, to the start, to the end"),
    ("Ctrl-L", "draw the screen anew"),
    ("F1", "this help"),
    ("↑ ↓ ↻ below", "frames sent, received; envelopes repeated"),
    ("Ctrl-C, Ctrl-Q", "end; what waits goes later"),
];

/// What went in is too long to be sent.
const TOO_LONG: &str = "too long: no message carries that much";

impl State {
    pub(super) fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let deleting = self.deleting.take();
        match key.code {
            KeyCode::F(6) if self.over.is_none() => self.edit_last(),
            KeyCode::F(7) if self.over.is_none() => self.delete_last(deleting),
            KeyCode::Char('c' | 'q') if control => self.effects.push(Effect::End),
            KeyCode::Char('l') if control => self.effects.push(Effect::Redraw),
            KeyCode::F(10) => self.effects.push(Effect::End),
            KeyCode::F(1) => self.toggle(&Over::Help),
            KeyCode::F(2) => self.set_network(false),
            KeyCode::F(3) => self.set_network(true),
            KeyCode::Char('t') if control => self.set_network(self.connection == Connection::Off),
            KeyCode::F(4) => self.toggle(&Over::Outbox { chosen: 0, dropping: None }),
            KeyCode::Char('o') if control => self.toggle(&Over::Outbox { chosen: 0, dropping: None }),
            KeyCode::F(5) => self.toggle(&Over::New { editor: Editor::default(), wrong: None }),
            KeyCode::Char('n') if control => self.toggle(&Over::New { editor: Editor::default(), wrong: None }),
            _ => match self.over.take() {
                Some(Over::Help) => {
                    // Any other key closes it, and does nothing else.
                }
                Some(Over::Outbox { chosen, dropping }) => self.outbox_key(key, chosen, dropping),
                Some(Over::New { editor, .. }) => self.new_key(key, editor),
                None => self.plain_key(key, control, alt),
            },
        }
    }

    pub(super) fn paste(&mut self, text: &str) {
        let fits = match (&mut self.over, &mut self.open) {
            (Some(Over::New { editor, .. }), _) => editor.insert(text.trim()),
            (None, Some(open)) => {
                self.focus = Focus::Input;
                open.editor.insert(text)
            }
            _ => true,
        };
        if !fits {
            self.say(TOO_LONG);
        }
    }

    /// Opens a view over the conversations, or closes it if it is open.
    fn toggle(&mut self, over: &Over) {
        let same = self.over.as_ref().is_some_and(|open| std::mem::discriminant(open) == std::mem::discriminant(over));
        self.over = (!same).then(|| over.clone());
    }

    fn outbox_key(&mut self, key: KeyEvent, mut chosen: usize, dropping: Option<poste_protocol::MessageId>) {
        let here = self
            .waiting()
            .nth(chosen)
            .map(|(entry, message)| (message.id, entry.state, entry.conversation.clone(), entry.peer.clone()));
        let mut next = None;
        match (key.code, here) {
            (KeyCode::Esc | KeyCode::Char('q'), _) if dropping.is_none() => return,
            (KeyCode::Char('y' | 'd'), Some((id, ..))) if dropping == Some(id) => self.effects.push(Effect::Drop(id)),
            // Asked whether to drop, everything else means no.
            _ if dropping.is_some() => {}
            (KeyCode::Up | KeyCode::Char('k'), _) => chosen = chosen.saturating_sub(1),
            (KeyCode::Down | KeyCode::Char('j'), _) => chosen += 1,
            (KeyCode::PageUp, _) => chosen = chosen.saturating_sub(10),
            (KeyCode::PageDown, _) => chosen += 10,
            (KeyCode::Home, _) => chosen = 0,
            (KeyCode::End, _) => chosen = usize::MAX,
            (KeyCode::Char('r'), Some((id, OutboxState::Failed, ..))) => self.effects.push(Effect::Retry(id)),
            (KeyCode::Char('r'), Some(_)) => self.say("it has not failed; it goes by itself"),
            (KeyCode::Char('d'), Some((id, ..))) => next = Some(id),
            (KeyCode::Enter, Some((_, _, conversation, peer))) => return self.open(conversation, peer),
            _ => {}
        }
        self.over = Some(Over::Outbox { chosen, dropping: next });
    }

    fn new_key(&mut self, key: KeyEvent, mut editor: Editor) {
        let mut wrong = None;
        match key.code {
            KeyCode::Esc => return,
            KeyCode::Enter => match UserId::new(editor.text().trim()) {
                Ok(user) => return self.open_with(user),
                Err(invalid) => wrong = Some(invalid.to_string()),
            },
            _ => {
                edit(&mut editor, key);
            }
        }
        self.over = Some(Over::New { editor, wrong });
    }

    fn plain_key(&mut self, key: KeyEvent, control: bool, alt: bool) {
        let page = self.areas().messages.map_or(1, |area| usize::from(area.height).saturating_sub(1).max(1));
        match key.code {
            KeyCode::Up if alt => self.step(false),
            KeyCode::Down if alt => self.step(true),
            KeyCode::PageUp => self.scroll_up(page),
            KeyCode::PageDown => self.scroll_down(page),
            KeyCode::Home if control => {
                self.with_window(|window, _| window.go_to_top());
            }
            KeyCode::End if control => {
                self.with_window(|window, _| window.go_to_bottom());
            }
            KeyCode::Char('r') if control => self.retry_here(),
            KeyCode::Tab | KeyCode::BackTab if self.open.is_some() => {
                self.focus = if self.focus == Focus::List { Focus::Input } else { Focus::List };
            }
            _ if self.focus == Focus::List || self.open.is_none() => self.list_key(key),
            _ => self.input_key(key, control, alt),
        }
    }

    fn list_key(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.chosen += 1,
            KeyCode::Home => self.chosen = 0,
            KeyCode::End => self.chosen = usize::MAX,
            KeyCode::Enter | KeyCode::Right => self.open_chosen(),
            KeyCode::Esc if self.open.is_some() => self.focus = Focus::Input,
            KeyCode::Char('n') => self.over = Some(Over::New { editor: Editor::default(), wrong: None }),
            KeyCode::Char('o') => self.over = Some(Over::Outbox { chosen: 0, dropping: None }),
            KeyCode::Char('?') => self.over = Some(Over::Help),
            KeyCode::Char('q') => self.effects.push(Effect::End),
            _ => {}
        }
    }

    fn input_key(&mut self, key: KeyEvent, control: bool, alt: bool) {
        let width = self.areas().input.map_or(80, |area| input_width(area.width));
        if key.code == KeyCode::Esc && self.leave_edit() {
            return;
        }
        let Some(open) = &mut self.open else { return };
        let fits = match key.code {
            KeyCode::Esc => {
                self.focus = Focus::List;
                true
            }
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => open.editor.insert("\n"),
            KeyCode::Char('j') if control => open.editor.insert("\n"),
            KeyCode::Enter => {
                self.send();
                true
            }
            KeyCode::Up => {
                if !open.editor.go_row(true, width) {
                    self.scroll_up(1);
                }
                true
            }
            KeyCode::Down => {
                if !open.editor.go_row(false, width) {
                    self.scroll_down(1);
                }
                true
            }
            _ => {
                let before = open.editor.text().len();
                let fits = edit(&mut open.editor, key);
                if open.editor.text().len() > before {
                    self.effects.push(Effect::Typing(open.id.clone()));
                }
                fits
            }
        };
        if !fits {
            self.say(TOO_LONG);
        }
    }

    /// Opens the conversation before or after the open one.
    fn step(&mut self, down: bool) {
        self.chosen = if down { self.chosen.saturating_add(1) } else { self.chosen.saturating_sub(1) };
        self.chosen = self.chosen.min(self.conversations.len().saturating_sub(1));
        self.open_chosen();
    }

    fn scroll_up(&mut self, lines: usize) {
        self.with_window(|window, measure| window.up(lines, measure));
    }

    fn scroll_down(&mut self, lines: usize) {
        self.with_window(|window, measure| window.down(lines, measure));
    }
}

/// What a key does to a text. `false` if what it inserts does not fit.
fn edit(editor: &mut Editor, key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Left if control || alt => editor.go(To::WordLeft),
        KeyCode::Right if control || alt => editor.go(To::WordRight),
        KeyCode::Char('b') if alt => editor.go(To::WordLeft),
        KeyCode::Char('f') if alt => editor.go(To::WordRight),
        KeyCode::Left => editor.go(To::Left),
        KeyCode::Right => editor.go(To::Right),
        KeyCode::Home => editor.go(To::Start),
        KeyCode::End => editor.go(To::End),
        KeyCode::Char('a') if control => editor.go(To::Start),
        KeyCode::Char('e') if control => editor.go(To::End),
        KeyCode::Backspace if control || alt => editor.delete(To::WordLeft),
        KeyCode::Char('w') if control => editor.delete(To::WordLeft),
        KeyCode::Char('u') if control => editor.delete(To::Start),
        KeyCode::Char('k') if control => editor.delete(To::End),
        KeyCode::Backspace => editor.delete(To::Left),
        KeyCode::Char('h') if control => editor.delete(To::Left),
        KeyCode::Delete => editor.delete(To::Right),
        KeyCode::Char('d') if control => editor.delete(To::Right),
        KeyCode::Char(c) if !control && !alt => return editor.insert(c.encode_utf8(&mut [0; 4])),
        _ => {}
    }
    true
}
