//! What keys and events do to the screen.

use poste_client::{Connection, Event, Seen, State as MessageState};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::world::{World, user};
use crate::screen::state::{Effect, Focus, Input, Over};

fn long(count: usize) -> World {
    let mut world = World::new(80, 24);
    for number in 1..=count {
        world.write("bob", false, &format!("number {number}"), MessageState::Received);
    }
    world.has_read("bob");
    world.opened(Some("bob"))
}

#[test]
fn what_is_typed_is_sent_and_gets_its_ticks() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.types("hello");
    world.key(KeyCode::Enter);
    assert_eq!(world.window(), ["hello"]);
    assert!(world.picture().contains('◷'));
    world.settles("bob", MessageState::Sent);
    world.run();
    assert!(world.picture().contains('✓'));
    assert_eq!(world.state.unsettled(), 0);
}

#[test]
fn the_last_own_message_is_written_anew() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.types("helo");
    world.key(KeyCode::Enter);
    world.settles("bob", MessageState::Sent);
    world.arrives("bob", "what?");
    world.run();
    world.key(KeyCode::F(6));
    world.key(KeyCode::Left);
    world.types("l");
    world.key(KeyCode::Enter);
    world.run();
    assert_eq!(world.window(), ["hello", "what?"]);
    assert!(world.picture().contains("hello (edited)"));

    world.key(KeyCode::F(6));
    world.types(" for ever");
    world.key(KeyCode::Esc);
    assert_eq!(world.state.open.as_ref().map(|open| open.editor.text()), Some(""));
    world.types("mine");
    world.key(KeyCode::F(6));
    assert!(world.picture().contains("send or clear first"));
    world.key(KeyCode::Enter);
    world.run();
    assert_eq!(world.window(), ["hello", "what?", "mine"]);
}

#[test]
fn what_is_being_written_anew_is_no_draft() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.types("helo");
    world.key(KeyCode::Enter);
    world.run();
    world.key(KeyCode::F(6));
    world.state.open_with(user("carol"));
    world.state.open_with(user("bob"));
    assert_eq!(world.state.open.as_ref().map(|open| open.editor.text()), Some(""));
}

#[test]
fn the_last_own_message_is_deleted_when_it_is_asked_for_twice() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.types("a secret");
    world.key(KeyCode::Enter);
    world.settles("bob", MessageState::Sent);
    world.run();
    world.key(KeyCode::F(7));
    world.key(KeyCode::Down);
    world.key(KeyCode::F(7));
    assert_eq!(world.window(), ["a secret"]);
    world.key(KeyCode::F(7));
    world.run();
    assert_eq!(world.window(), [""]);
    assert!(world.picture().contains("(deleted)"));
    world.key(KeyCode::F(7));
    assert!(world.picture().contains("nothing of yours here to delete"));
}

#[test]
fn an_empty_line_is_not_sent() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.types("  ");
    world.key(KeyCode::Enter);
    assert_eq!(world.done, []);
}

#[test]
fn a_message_of_several_lines_is_one() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.types("one");
    world.give(Input::Key(KeyEvent::new(KeyCode::Enter, KeyModifiers::ALT)));
    world.types("two");
    world.control('j');
    world.give(Input::Paste("three\r\nfour".into()));
    world.key(KeyCode::Enter);
    assert_eq!(world.window(), ["one\ntwo\nthree\nfour"]);
}

#[test]
fn what_was_not_sent_comes_back_to_be_changed() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.types("this is too big");
    world.key(KeyCode::Enter);
    assert_eq!(world.state.open.as_ref().map(|open| open.editor.text()), Some("this is too big"));
    assert!(world.picture().contains("not sent: the message is too big"));
}

#[test]
fn drafts_stay_with_their_conversations() {
    let mut world = World::new(80, 24);
    world.write("bob", false, "hi", MessageState::Received);
    world.write("carol", false, "hi", MessageState::Received);
    let mut world = world.opened(Some("bob"));
    world.types("for bob");
    world.give(Input::Key(KeyEvent::new(KeyCode::Up, KeyModifiers::ALT)));
    world.run();
    world.types("for carol");
    world.give(Input::Key(KeyEvent::new(KeyCode::Down, KeyModifiers::ALT)));
    world.run();
    let open = world.state.open.as_ref().expect("open");
    assert_eq!((open.peer.clone(), open.editor.text()), (Some(user("bob")), "for bob"));
}

#[test]
fn what_is_on_the_screen_is_read_and_what_is_not_is_not() {
    let mut world = World::new(80, 24);
    world.write("bob", false, "one", MessageState::Received);
    let mut world = world.opened(None);
    assert_eq!(world.done, [], "the list alone reads nothing");
    world.key(KeyCode::Enter);
    assert!(matches!(world.done[..], [Effect::MarkRead { upto, .. }] if upto.get() == 1), "{:?}", world.done);
    world.give(Input::Focus(false));
    world.arrives("bob", "two");
    world.run();
    assert_eq!(world.done.len(), 1, "nobody looks at the terminal");
    world.control('o');
    world.give(Input::Focus(true));
    world.run();
    assert_eq!(world.done.len(), 1, "the outbox covers it");
    world.key(KeyCode::Esc);
    assert_eq!(world.done.len(), 2);
    world.arrives("carol", "elsewhere");
    world.run();
    assert_eq!(world.done.len(), 2, "another conversation");
    assert_eq!(world.state.conversations[0].unread, 1);
}

#[test]
fn looking_back_keeps_its_place_and_reads_what_is_missing() {
    let mut world = long(1000);
    assert_eq!(world.window().len(), 100, "a page, not everything");
    assert_eq!(world.window().last(), Some(&"number 1000"));
    for _ in 0..120 {
        world.key(KeyCode::PageUp);
    }
    assert_eq!(world.window().first(), Some(&"number 1"));
    assert!(world.picture().contains("number 1 "), "{}", world.picture());
    assert!(world.window().len() <= 600, "what is far from the screen is let go: {}", world.window().len());
    world.arrives("bob", "number 1001");
    world.run();
    assert!(world.picture().contains("number 1 "), "what arrives moves nothing");
    for _ in 0..120 {
        world.key(KeyCode::PageDown);
    }
    assert_eq!(world.window().last(), Some(&"number 1001"));
    assert!(!world.state.open.as_ref().expect("open").window.is_behind());
}

/// O6: at the oldest message that is here, looking back asks the server for more, a page at a time.
#[test]
fn looking_back_asks_the_server_for_what_is_not_here() {
    let mut world = World::new(80, 24);
    for number in 1..=200 {
        world.write("bob", false, &format!("number {number}"), MessageState::Received);
    }
    world.has_read("bob");
    world.has_only("bob", 60);
    let mut world = world.opened(Some("bob"));
    let asked = |world: &World| world.done.iter().filter(|effect| matches!(effect, Effect::Older(_))).count();
    assert_eq!((asked(&world), world.window().len()), (0, 60), "nothing that nobody looks for");
    world.key(KeyCode::PageUp);
    assert_eq!((asked(&world), world.window().len()), (1, 90));
    for _ in 0..30 {
        world.key(KeyCode::PageUp);
    }
    assert_eq!(world.window().first(), Some(&"number 1"));
    assert!(world.picture().contains("number 1 "), "{}", world.picture());
    assert_eq!(asked(&world), 5, "140 messages in pages of 30");
}

#[test]
fn offline_the_server_is_asked_once_and_the_place_is_kept() {
    let mut world = World::new(80, 24);
    for number in 1..=100 {
        world.write("bob", false, &format!("number {number}"), MessageState::Received);
    }
    world.has_read("bob");
    world.has_only("bob", 20);
    let mut world = world.opened(Some("bob"));
    world.give(Input::Told(Event::Connection { state: Connection::Off }));
    for _ in 0..20 {
        world.key(KeyCode::PageUp);
    }
    let asked: Vec<_> = world.done.iter().filter(|effect| matches!(effect, Effect::Older(_))).cloned().collect();
    assert_eq!(asked.len(), 1);
    assert!(world.picture().contains("older messages come with the next connection"), "{}", world.picture());
    world.give(Input::Told(Event::Connection { state: Connection::Online }));
    let Effect::Older(id) = &asked[0] else { unreachable!("filtered") };
    world.fetches_older(id);
    world.run();
    let height = world.state.areas().messages.expect("there is room").height;
    let picture = world.picture();
    let first = (1..=100).find(|number| picture.contains(&format!("number {number} "))).expect("something is shown");
    assert!(first < 81 && first >= 81 - u64::from(height), "no further than a screen: {first} {picture}");
}

#[test]
fn a_conversation_opens_on_what_is_new() {
    for (read, new) in [(10, 5), (10, 80), (500, 700)] {
        let mut world = World::new(80, 24);
        for number in 1..=read {
            world.write("bob", false, &format!("old {number}"), MessageState::Received);
        }
        world.has_read("bob");
        for number in 1..=new {
            world.write("bob", false, &format!("new {number}"), MessageState::Received);
        }
        let mut world = world.opened(Some("bob"));
        let picture = world.picture();
        assert!(picture.contains("── new ──") && picture.contains("new 1 "), "{picture}");
        let read_now = world.state.conversations[0].read.get();
        assert_eq!(read_now == read + new, new < 20, "what is below the screen is not read");
        for _ in 0..new {
            world.key(KeyCode::PageDown);
        }
        assert_eq!(world.state.conversations[0].unread, 0);
        assert_eq!(world.window().last(), Some(&format!("new {new}").as_str()));
    }
}

#[test]
fn keys_that_are_faster_than_the_store_are_made_up_for() {
    let mut world = long(1000);
    for _ in 0..30 {
        world.give(Input::Key(KeyEvent::new(KeyCode::PageUp, KeyModifiers::NONE)));
    }
    world.run();
    let height = usize::from(world.state.areas().messages.expect("there is room").height);
    let first = 1000 - height + 1 - 30 * (height - 1);
    let picture = world.picture();
    // The dates take some lines, too.
    assert!((first..first + height).any(|number| picture.contains(&format!("number {number} "))), "{first} {picture}");
}

#[test]
fn the_newest_are_one_key_away() {
    let mut world = long(1000);
    for _ in 0..80 {
        world.key(KeyCode::PageUp);
    }
    world.give(Input::Key(KeyEvent::new(KeyCode::End, KeyModifiers::CONTROL)));
    world.run();
    assert_eq!(world.window().last(), Some(&"number 1000"));
    assert!(world.picture().contains("number 1000"));
}

#[test]
fn what_waits_can_be_gone_through_too() {
    let mut world = World::new(80, 24);
    for number in 0..250 {
        world.write("bob", true, &format!("waits {number}"), MessageState::Pending);
    }
    let mut world = world.opened(Some("bob"));
    for _ in 0..40 {
        world.key(KeyCode::PageUp);
    }
    assert_eq!(world.window().first(), Some(&"waits 0"));
}

#[test]
fn the_network_is_cut_and_comes_back() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.key(KeyCode::F(2));
    assert_eq!(world.state.connection, Connection::Off);
    assert!(world.picture().contains("offline: what you write is kept"));
    world.key(KeyCode::F(3));
    assert_eq!(world.state.connection, Connection::Online);
    world.control('t');
    assert_eq!(world.state.connection, Connection::Off);
    world.control('t');
    assert_eq!(world.state.connection, Connection::Online);
}

#[test]
fn what_failed_is_retried_or_dropped_in_the_outbox() {
    let mut world = World::new(80, 24);
    let first = world.write("bob", true, "first", MessageState::Failed).id;
    let second = world.write("bob", true, "second", MessageState::Failed).id;
    let mut world = world.opened(Some("bob"));
    assert!(world.picture().contains("2 failed"));
    world.control('o');
    world.key(KeyCode::Char('r'));
    assert_eq!(world.done, [Effect::Retry(first)]);
    world.key(KeyCode::Char('r'));
    assert_eq!(world.done.len(), 1, "it waits by now: there is nothing to retry");
    world.key(KeyCode::Down);
    world.key(KeyCode::Char('d'));
    assert!(world.picture().contains("Drop this message for good?"));
    world.key(KeyCode::Char('n'));
    assert_eq!(world.done.len(), 1, "not without a yes");
    world.key(KeyCode::Char('d'));
    world.key(KeyCode::Char('y'));
    assert_eq!(world.done[1..], [Effect::Drop(second)]);
    world.key(KeyCode::Esc);
    assert_eq!(world.window(), ["first"]);
}

#[test]
fn what_failed_here_is_retried_with_a_key() {
    let mut world = World::new(80, 24);
    let id = world.write("bob", true, "first", MessageState::Failed).id;
    let mut world = world.opened(Some("bob"));
    world.control('r');
    assert_eq!(world.done, [Effect::Retry(id)]);
    world.ticks();
    world.control('r');
    assert!(world.picture().contains("nothing has failed here"));
}

#[test]
fn a_conversation_begins_with_a_name() {
    let mut world = World::new(80, 24).opened(None);
    world.control('n');
    world.types("not a name");
    world.key(KeyCode::Enter);
    assert!(matches!(world.state.over, Some(Over::New { wrong: Some(_), .. })));
    world.control('u');
    world.types("carol");
    world.key(KeyCode::Enter);
    assert_eq!((world.state.focus, world.state.over.as_ref()), (Focus::Input, None));
    world.types("hi");
    world.key(KeyCode::Enter);
    assert_eq!(world.state.conversations[0].peer, Some(user("carol")));
}

#[test]
fn the_choice_stays_on_its_conversation_when_the_list_moves() {
    let mut world = World::new(80, 24);
    world.write("bob", false, "hi", MessageState::Received);
    world.write("carol", false, "hi", MessageState::Received);
    let mut world = world.opened(None);
    world.key(KeyCode::Down);
    world.arrives("dave", "new at the top");
    world.run();
    world.key(KeyCode::Enter);
    assert_eq!(world.state.open.as_ref().and_then(|open| open.peer.clone()), Some(user("bob")));
}

#[test]
fn events_that_were_missed_are_made_up_for() {
    let mut world = World::new(80, 24).opened(Some("bob"));
    world.write("bob", false, "unheard of", MessageState::Received);
    world.give(Input::Told(Event::Missed { count: 300 }));
    world.run();
    assert_eq!(world.window(), ["unheard of"]);
    assert_eq!(world.state.conversations.len(), 1);
}

#[test]
fn it_ends_by_keys() {
    for letter in ['c', 'q'] {
        let mut world = World::new(80, 24).opened(Some("bob"));
        world.control(letter);
        assert!(world.ended);
    }
}

#[test]
fn a_wider_screen_shows_more_and_stays_at_the_newest() {
    let mut world = long(50);
    world.give(Input::Resize(Size { width: 120, height: 50 }));
    world.run();
    let picture = world.picture();
    assert!(picture.contains("number 50") && picture.contains("number 10"), "{picture}");
}

#[test]
fn who_is_here_and_who_writes_is_shown_and_told() {
    let mut world = World::new(80, 24);
    world.write("bob", false, "one", MessageState::Received);
    let mut world = world.opened(None);
    world.key(KeyCode::Enter);
    let talk = world.state.open.as_ref().expect("open").id.clone();
    let seen = |online| Event::Presence { seen: Seen { user: user("bob"), online, last_seen: None } };
    let typing = |typing| Event::Typing { conversation: talk.clone(), user: user("bob"), typing };
    for (event, shown) in [(seen(true), "bob ●"), (typing(true), "bob writes …"), (typing(false), "bob ●")] {
        world.give(Input::Told(event));
        assert!(world.picture().contains(shown), "{shown}: {}", world.picture());
    }
    world.give(Input::Told(seen(false)));
    assert!(!world.picture().contains("bob ●"));
    let told = world.state.update(Input::Key(KeyEvent::new(KeyCode::Char('h'), KeyModifiers::NONE)));
    assert_eq!(told, [Effect::Typing(talk)]);
    let told = world.state.update(Input::Key(KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE)));
    assert!(told.is_empty(), "who deletes writes nothing");
}
