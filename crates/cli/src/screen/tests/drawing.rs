//! How the screen looks in the situations that matter. A change shows in review.

use poste_client::{Connection, Event, State as MessageState};
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Color;

use super::world::World;
use crate::screen::state::Input;

fn all_ticks(width: u16, height: u16) -> World {
    let mut world = World::new(width, height);
    world.write("bob", false, "Are you coming tonight?", MessageState::Received);
    world.write("bob", true, "I am on the train", MessageState::Read);
    world.write("bob", true, "in half an hour", MessageState::Delivered);
    world.write("bob", true, "or a bit more", MessageState::Sent);
    world.write("bob", true, "there is a tunnel now", MessageState::Pending);
    world.write("carol", false, "hi", MessageState::Received);
    world.write("carol", false, "are you there?", MessageState::Received);
    world.write("dave", true, "lost?", MessageState::Pending);
    world
}

#[test]
fn list_with_unread() {
    insta::assert_snapshot!(all_ticks(80, 12).opened(None).picture());
}

#[test]
fn every_tick() {
    let world = all_ticks(80, 16).opened(Some("bob"));
    insta::assert_snapshot!(world.picture());
    let terminal = world.draw();
    let cells = terminal.backend().buffer().content();
    let colour = |sign| cells.iter().find(|cell| cell.symbol() == sign).map(|cell| cell.fg);
    assert_eq!((colour("✔"), colour("✓")), (Some(Color::Cyan), Some(Color::Reset)), "read ones are coloured, too");
}

#[test]
fn failed_message() {
    let mut world = World::new(80, 12);
    world.write("bob", true, "may I?", MessageState::Failed);
    world.write("bob", true, "behind it", MessageState::Pending);
    insta::assert_snapshot!(world.opened(Some("bob")).picture());
}

#[test]
fn offline() {
    let mut world = all_ticks(80, 14).opened(Some("bob"));
    world.key(KeyCode::F(2));
    world.types("later then");
    insta::assert_snapshot!(world.picture());
}

#[test]
fn connecting() {
    let mut world = all_ticks(80, 14).opened(Some("bob"));
    world.give(Input::Told(Event::Connection { state: Connection::Waiting }));
    insta::assert_snapshot!(world.picture());
}

#[test]
fn outbox() {
    let mut world = all_ticks(80, 12);
    world.write("erin", true, "may I?\nPlease.", MessageState::Failed);
    let mut world = world.opened(Some("bob"));
    world.control('o');
    world.key(KeyCode::End);
    insta::assert_snapshot!(world.picture());
}

#[test]
fn long_and_wide_text() {
    let mut world = World::new(64, 26);
    world.write(
        "bob",
        false,
        "The quick brown fox jumps over the lazy dog, and does so again.",
        MessageState::Received,
    );
    world.write("bob", true, "two lines\n\n\tand a tab", MessageState::Read);
    world.write("bob", false, "日本語のとても長いテキストは単語の間に空白がありません。", MessageState::Received);
    world.write("bob", false, "👩‍👩‍👧‍👦👍🏽🇨🇭 e\u{301}", MessageState::Received);
    world.write("bob", true, &"x".repeat(70), MessageState::Sent);
    world.write("bob", false, "\u{1b}[2J\u{1b}]0;owned\u{7} \u{202e}gpj.exe pay\u{200b}pal", MessageState::Received);
    insta::assert_snapshot!(world.opened(Some("bob")).picture());
}

#[test]
fn several_lines_are_written() {
    let mut world = all_ticks(64, 14).opened(Some("bob"));
    world.give(Input::Paste("line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\n".into()));
    insta::assert_snapshot!(world.picture());
}

#[test]
fn one_column() {
    insta::assert_snapshot!(all_ticks(40, 14).opened(Some("bob")).picture());
}

#[test]
fn tiny() {
    insta::assert_snapshot!("tiny_conversation", all_ticks(20, 6).opened(Some("bob")).picture());
    insta::assert_snapshot!("tiny_list", all_ticks(20, 6).opened(None).picture());
}

#[test]
fn one_cell_is_enough_not_to_panic() {
    for (width, height) in [(1, 1), (1, 2), (2, 1), (3, 3), (1, 40), (200, 1), (65, 2)] {
        for with in [None, Some("bob")] {
            let mut world = all_ticks(width, height).opened(with);
            world.draw();
            for key in [KeyCode::F(1), KeyCode::F(4), KeyCode::F(5), KeyCode::PageUp, KeyCode::Char('語')] {
                world.key(key);
                world.draw();
            }
        }
    }
}

#[test]
fn help() {
    let mut world = all_ticks(80, 20).opened(Some("bob"));
    world.key(KeyCode::F(1));
    insta::assert_snapshot!(world.picture());
}

#[test]
fn new_conversation() {
    let mut world = all_ticks(80, 12).opened(Some("bob"));
    world.control('n');
    world.types("not one");
    world.key(KeyCode::Enter);
    insta::assert_snapshot!(world.picture());
}
