//! What a device in trouble was told to write, and what must hold of it whatever happened: the device's processes are
//! killed, or what it speaks to fails.

use std::collections::{BTreeMap, HashMap, HashSet};

use poste_client::{Client, Error, Message, OutboxEntry, State};
use poste_protocol::{Cell, ConversationId, MessageId, Seq};

use crate::{Line, Order, Told};

/// More than any test writes into one conversation.
const ALL: usize = 100_000;

/// What is known of a message that the device was ordered to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// `send` returned: it is there, for ever.
    Written,
    /// `send` gave an error, or the message was not there after the death in the midst of it: it is not there, for ever.
    Not,
    /// The device died before `send` returned: either, but the same from then on.
    Open,
}

/// The messages of one device, by the number that their bodies begin with.
#[derive(Debug, Default)]
pub struct Ledger {
    fates: BTreeMap<u64, Fate>,
    ids: HashMap<u64, MessageId>,
    /// Where the device has shown messages, own ones and others'.
    places: HashMap<MessageId, u64>,
    /// Messages whose `send` had not returned, and that are there all the same.
    pub half_written: usize,
    /// Those that are not there.
    pub not_written: usize,
    /// Messages that `send` refused.
    pub refused: usize,
}

/// A screen: each conversation's list.
pub type Lists = BTreeMap<ConversationId, Vec<Line>>;

/// What a device shows: each conversation's list, and what is in its outbox, looked at before: what leaves it meanwhile
/// has its place in the lists. Of each message is said whether it is the device's own.
///
/// # Errors
/// What the library says.
pub async fn screen(client: &Client, own: impl Fn(&Message) -> bool) -> Result<(Lists, Vec<OutboxEntry>), Error> {
    let outbox = client.outbox().await?;
    let mut lists = BTreeMap::new();
    for conversation in client.conversations().await? {
        let messages = client.history(conversation.id.clone(), None, ALL).await?;
        let lines = messages.into_iter().map(|message| Line {
            id: message.id,
            seq: message.seq.map(Seq::get),
            state: message.state,
            own: own(&message),
            label: label(&message.body).unwrap_or_default(),
        });
        lists.insert(conversation.id, lines.collect());
    }
    Ok((lists, outbox))
}

/// The number that a body begins with. None does with 0, and events have none.
pub fn label(body: &str) -> Option<u64> {
    body.split(' ').next()?.parse().ok()
}

/// The messages of an outbox.
pub fn waiting(outbox: &[OutboxEntry]) -> Vec<MessageId> {
    outbox.iter().flat_map(|entry| &entry.messages).map(|message| message.id).collect()
}

impl Ledger {
    /// The number of the next message.
    pub fn next(&self) -> u64 {
        self.fates.len() as u64 + 1
    }

    /// The device is about to do this.
    pub fn ordered(&mut self, order: &Order) {
        if let Order::Write { label, .. } = order {
            self.writes(*label);
        }
    }

    /// A message is about to be written.
    pub fn writes(&mut self, label: u64) {
        self.fates.insert(label, Fate::Open);
    }

    /// `send` has returned for it.
    pub fn wrote(&mut self, label: u64, id: MessageId) {
        self.fates.insert(label, Fate::Written);
        self.ids.insert(label, id);
    }

    /// The device has told what became of it.
    ///
    /// # Panics
    /// When it tells something else.
    pub fn told(&mut self, order: &Order, told: &Told) {
        let Order::Write { label, .. } = order else { return };
        match told {
            Told::Wrote { id } => self.wrote(*label, *id),
            Told::Refused { .. } => {
                self.fates.insert(*label, Fate::Not);
                self.refused += 1;
            }
            other => panic!("a message is written: {other:?}"),
        }
    }

    /// How many messages there are.
    pub fn written(&self) -> usize {
        self.fates.values().filter(|fate| **fate == Fate::Written).count()
    }

    /// C2, I9: everything that `send` returned for is on the screen, once, in the order of writing, with a place or in
    /// the outbox, which was looked at before; nothing that it refused is; no place ever changes.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_screen(&mut self, lists: &Lists, outbox: &[MessageId]) {
        let outbox: HashSet<_> = outbox.iter().collect();
        let mut shown = HashSet::new();
        let mut labels = HashSet::new();
        for line in lists.values().flatten() {
            assert!(shown.insert(line.id), "twice on the screen: {line:?}");
            if let Some(place) = line.seq {
                let before = self.places.insert(line.id, place).unwrap_or(place);
                assert_eq!(before, place, "a place does not change: {line:?}");
            }
            if line.own {
                labels.insert(line.label);
                assert!(line.state != State::Failed, "nobody refused it: {line:?}");
                assert_eq!(line.seq.is_none(), line.state == State::Pending, "{line:?}");
                assert!(line.seq.is_some() || outbox.contains(&line.id), "a place, or in the outbox: {line:?}");
                let id = *self.ids.entry(line.label).or_insert(line.id);
                assert_eq!(id, line.id, "the id that `send` gave: {line:?}");
            }
        }
        for list in lists.values() {
            let own: Vec<u64> = list.iter().filter(|line| line.own).map(|line| line.label).collect();
            assert!(own.is_sorted_by(|a, b| a < b), "in the order of writing, each once: {own:?}");
        }
        assert!(outbox.iter().all(|id| shown.contains(id)), "what is in the outbox is on the screen");
        for (label, fate) in &mut self.fates {
            match (*fate, labels.contains(label)) {
                (Fate::Written, there) => assert!(there, "message {label} is lost: `send` had returned"),
                (Fate::Not, there) => assert!(!there, "message {label} is there, and was refused or not there before"),
                (Fate::Open, true) => {
                    *fate = Fate::Written;
                    self.half_written += 1;
                }
                (Fate::Open, false) => {
                    *fate = Fate::Not;
                    self.not_written += 1;
                }
            }
        }
        assert!(labels.iter().all(|label| self.fates.contains_key(label)), "nobody ordered it");
    }

    /// I1, I2, I5: everything that was written is in the logs once, in the order of writing, where it was shown, and
    /// nothing else of this device is.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_logs(&self, logs: &BTreeMap<ConversationId, Vec<Cell>>, is_own: impl Fn(&Cell) -> bool) {
        let mut own: Vec<u64> = Vec::new();
        let mut places = HashMap::new();
        for cells in logs.values() {
            let mut of_this: Vec<u64> = Vec::new();
            for cell in cells {
                for (message, place) in cell.messages.iter().zip(cell.seq.get()..) {
                    assert!(places.insert(message.id, place).is_none(), "message {} is in the log twice", message.id);
                    if is_own(cell) {
                        of_this.push(label(&message.body).expect("bodies begin with a number"));
                    }
                }
            }
            assert!(of_this.is_sorted_by(|a, b| a < b), "I5: in the order of writing: {of_this:?}");
            own.extend(of_this);
        }
        own.sort_unstable();
        let written: Vec<u64> =
            self.fates.iter().filter(|(_, fate)| **fate == Fate::Written).map(|(label, _)| *label).collect();
        assert_eq!(own, written, "what was written is in the log, once, and nothing else is");
        for (id, place) in &self.places {
            assert_eq!(places.get(id), Some(place), "message {id} was shown at a place that it does not have");
        }
    }
}

/// A log as a list shows it.
pub fn as_shown(cells: &[Cell]) -> Vec<(u64, MessageId)> {
    let messages = |cell: &Cell| {
        let places = cell.seq.get()..;
        places.zip(&cell.messages).map(|(place, message)| (place, message.id)).collect::<Vec<_>>()
    };
    cells.iter().flat_map(messages).collect()
}
