//! Whatever is typed and whatever happens, in any order and with answers that come late: no panic, everything in its
//! range, and a window that is a run of the store's list without gaps.

use poste_client::{Connection, Event, State as MessageState};
use proptest::prelude::*;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::world::World;
use crate::screen::state::{Input, Over};

const PEERS: [&str; 3] = ["bob", "carol", "alice"];

#[derive(Debug, Clone)]
enum Happens {
    Key(KeyCode, KeyModifiers),
    Paste(String),
    Resize(u16, u16),
    Focus(bool),
    Arrives(usize, String),
    Settles(usize),
    Fails(usize),
    Connection(Connection),
    Missed,
    Tick,
    /// Some of what was asked for is answered.
    Answers(usize),
}

fn keys() -> impl Strategy<Value = KeyCode> {
    use KeyCode::{
        BackTab, Backspace, Char, Delete, Down, End, Enter, Esc, F, Home, Left, PageDown, PageUp, Right, Tab, Up,
    };
    prop_oneof![
        3 => prop::sample::select(vec![
            Up, Down, Left, Right, Home, End, PageUp, PageDown, Enter, Esc, Tab, BackTab, Backspace, Delete,
            F(1), F(2), F(3), F(4), F(5), F(10), F(12),
        ]),
        1 => prop::sample::select("abcdefhjklnopqrtuwy?日👍\u{301}\u{202e}\u{200d}".chars().collect::<Vec<_>>())
            .prop_map(Char),
        1 => any::<char>().prop_map(Char),
    ]
}

fn modifiers() -> impl Strategy<Value = KeyModifiers> {
    prop_oneof![
        6 => Just(KeyModifiers::NONE),
        2 => Just(KeyModifiers::CONTROL),
        1 => Just(KeyModifiers::ALT),
        1 => any::<u8>().prop_map(KeyModifiers::from_bits_truncate),
    ]
}

fn bodies() -> impl Strategy<Value = String> {
    "([a-z]{1,9} |日本語|👩‍👩‍👧|\n|\t|\u{1b}\\[2J|\u{202e}|\u{301}){1,30}"
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        12 => (keys(), modifiers()).prop_map(|(key, modifiers)| Happens::Key(key, modifiers)),
        1 => bodies().prop_map(Happens::Paste),
        1 => (1_u16..130, 1_u16..50).prop_map(|(width, height)| Happens::Resize(width, height)),
        1 => (1_u16..12, 1_u16..8).prop_map(|(width, height)| Happens::Resize(width, height)),
        1 => any::<bool>().prop_map(Happens::Focus),
        3 => (0..PEERS.len(), bodies()).prop_map(|(peer, body)| Happens::Arrives(peer, body)),
        1 => (0..PEERS.len()).prop_map(Happens::Settles),
        1 => (0..PEERS.len()).prop_map(Happens::Fails),
        1 => prop::sample::select(vec![
            Connection::Off, Connection::Waiting, Connection::Connecting, Connection::Online, Connection::SignInRefused,
        ]).prop_map(Happens::Connection),
        1 => Just(Happens::Missed),
        1 => Just(Happens::Tick),
        6 => (1_usize..6).prop_map(Happens::Answers),
    ]
}

fn happen(world: &mut World, what: Happens) {
    match what {
        Happens::Key(code, modifiers) => world.give(Input::Key(KeyEvent::new(code, modifiers))),
        Happens::Paste(text) => world.give(Input::Paste(text)),
        Happens::Resize(width, height) => world.give(Input::Resize(Size { width, height })),
        Happens::Focus(on) => world.give(Input::Focus(on)),
        Happens::Arrives(peer, body) => world.arrives(PEERS[peer], &body),
        Happens::Settles(peer) => world.settles(PEERS[peer], MessageState::Delivered),
        Happens::Fails(peer) => {
            world.write(PEERS[peer], true, "refused", MessageState::Failed);
        }
        Happens::Connection(state) => world.give(Input::Told(Event::Connection { state })),
        Happens::Missed => world.give(Input::Told(Event::Missed { count: 3 })),
        Happens::Tick => world.give(Input::Tick(world.state.now + 1000)),
        Happens::Answers(count) => {
            for _ in 0..count {
                world.step();
            }
        }
    }
}

fn check(world: &mut World) {
    let state = &mut world.state;
    assert!(state.chosen == 0 || state.chosen < state.conversations.len(), "the choice is not in the list");
    if let Some(Over::Outbox { chosen, .. }) = state.over {
        assert!(chosen == 0 || chosen < state.waiting().count(), "the choice is not in the outbox");
    }
    state.with_window(|window, measure| window.check(measure));
    if let Some(open) = &state.open {
        open.editor.check();
    }
    let terminal = world.draw();
    for cell in terminal.backend().buffer().content() {
        assert!(
            !cell.symbol().chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{:?} is on the screen",
            cell.symbol()
        );
    }
}

/// With everything answered, the window is a run of the list, and reaches its end unless the screen looks back.
fn check_settled(world: &mut World) {
    world.give(Input::Told(Event::Missed { count: 1 }));
    world.run();
    world.ticks();
    check(world);
    let Some(open) = &world.state.open else { return };
    let all = world.history(&open.id, None, usize::MAX);
    let shown = open.window.messages();
    let Some(first) = shown.first() else {
        assert_eq!(all, [], "nothing is shown of a list that is not empty");
        return;
    };
    let at = all.iter().position(|message| message.id == first.id).expect("what is shown is in the store");
    assert!(all[at..].starts_with(shown), "the window has a gap");
    if !open.window.is_behind() {
        assert_eq!(at + shown.len(), all.len(), "the newest are missing");
    }
}

proptest! {
    // Every step is drawn: a case takes a tenth of a second, and `PROPTEST_CASES` does not count here.
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_the_screen(past in 0_usize..700, read in 0_usize..700, all in prop::collection::vec(happens(), 1..120)) {
        let mut world = World::new(80, 24);
        for number in 0..past {
            world.write("bob", number % 5 == 0, &format!("number {number}"), MessageState::Received);
            if number == read {
                world.has_read("bob");
            }
        }
        let mut world = world.opened(Some("bob"));
        for what in all {
            happen(&mut world, what);
            check(&mut world);
        }
        check_settled(&mut world);
    }

    #[test]
    fn scrolling_never_loses_the_thread(past in 0_usize..1200, pages in prop::collection::vec((any::<bool>(), 1_usize..40), 1..6)) {
        let mut world = World::new(70, 20);
        for number in 0..past {
            world.write("bob", number % 5 == 0, &format!("number {number}"), MessageState::Sent);
        }
        let mut world = world.opened(Some("bob"));
        for (up, times) in pages {
            for _ in 0..times {
                world.key(if up { KeyCode::PageUp } else { KeyCode::PageDown });
            }
            check(&mut world);
            check_settled(&mut world);
        }
    }
}
