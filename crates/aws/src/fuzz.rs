//! What `cargo local fuzz` feeds with whatever may be stored and queued: items of tables, and messages of queues. Each
//! function panics where a promise does not hold. Compiled for fuzzing and for tests only; the tests replay the corpora
//! in `fuzz/corpus`.

use std::fmt::Debug;

use arbitrary::{Result, Unstructured};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use poste_domain::{
    Claim, LaneKey, Retention,
    lane::judge,
    ports::{Parcel, Slot, Wake},
};
use poste_protocol::{Author, ConversationId, EnvelopeId, Number, Seq};
use serde::{Serialize, de::DeserializeOwned};

use crate::{connections, devices, heads, item::Item, log, marks, members, presence, queue::escaped, uploads};

/// A message of either queue: it is none, or it says the same when it is queued and read again.
pub fn queue_messages(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(parcel) = same::<Parcel>(text)
        && let Some((_, cell)) = parcel.cell()
    {
        assert!(cell.last() >= cell.seq);
    }
    same::<Wake>(text);
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) -> Option<T> {
    let read: T = serde_json::from_str(text).ok()?;
    let queued = escaped(serde_json::to_string(&read).expect("plain fields"));
    let again: T = serde_json::from_str(&queued).unwrap_or_else(|error| panic!("{error}: {queued}"));
    assert_eq!(again, read);
    Some(read)
}

/// An item of a table: it is trouble, or it is read, and what is decided by it is decided.
pub fn stored_items(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let Ok((item, now_ms)) = whole(&mut bytes) else { return };
    read(&item, now_ms);
}

/// An item as every reader reads it.
pub(crate) fn read(item: &Item, now_ms: u64) {
    let conversation = ConversationId::new("c").expect("well formed");
    if let Ok(slot) = log::to_slot(item) {
        assert!(slot.last() >= slot.seq());
        if let Slot::Cell(cell) = &slot {
            cell.event();
        }
        let again = log::to_item(&conversation, &slot, None).expect("what was read can be written");
        assert_eq!(log::to_slot(&again).expect("and read"), slot);
    }
    if let Ok(head) = heads::to_head(item) {
        assert!(head.floor(now_ms) >= head.epochs.floor);
        for retention in [Retention::FOREVER, Retention::of(1), Retention::of(365 * 86_400_000)] {
            head.epochs.admit(retention, now_ms);
            assert!(head.next_epochs(retention, now_ms).floor >= head.epochs.floor);
        }
    }
    let claim = Claim { number: Number::FIRST, id: EnvelopeId(uuid::Uuid::nil()), count: 25 };
    heads::has_room(item).ok();
    heads::first_of(item, &claim).ok();
    let author = Author { user: "alice".parse().expect("well formed"), device: "phone".parse().expect("well formed") };
    let inside = heads::lane_in_head(item, &LaneKey::of(&author)).ok().flatten();
    for lane in [inside, heads::lane_outside(item).ok()].into_iter().flatten() {
        judge(&claim, Some(lane));
        lane.place();
    }
    if let Ok(member) = members::to_member(item) {
        let seen = &member.membership;
        let count = seen.seen_between(Seq::ZERO, Seq::LAST);
        assert!(count == 0 || seen.last_seen(Seq::LAST).is_some());
        seen.clone().opened(Seq::LAST).closed(Seq::LAST).end();
        member.role_now();
    }
    members::to_group(item).ok();
    members::to_belonging(item).ok();
    members::to_candidate(item).ok();
    for device in [None, Some(&author.device)] {
        if let Ok(marks) = marks::to_marks(author.user.clone(), device, item) {
            let told = marks.told.clone();
            assert!(told.read <= told.delivered && marks.own().read >= told.read);
            assert!(marks.unread().read.is_zero());
        }
    }
    presence::to_standing("presence.get", item).ok();
    devices::to_wakeable(item).ok();
    uploads::to_upload(item).ok();
    for value in item.values() {
        connections::to_connection("phone", value).ok();
    }
}

/// Names that readers ask for, and some that nobody asks for.
const NAMES: [&str; 47] = [
    "conversation",
    "user",
    "device",
    "seq",
    "id",
    "n",
    "at",
    "messages",
    "expires_at",
    "head",
    "active_at",
    "kept",
    "since",
    "floor",
    "ended",
    "roster",
    "lanes",
    "places",
    "k",
    "first",
    "intervals",
    "from",
    "to",
    "role",
    "version",
    "left_at",
    "left_title",
    "muted_until",
    "applied",
    "founded",
    "title",
    "members",
    "admins",
    "receipts",
    "read",
    "d:phone",
    "d:",
    "w:bob/phone",
    "until",
    "told_at",
    "told_here",
    "seen",
    "token",
    "endpoint",
    "platform",
    "style",
    "pushes",
];

/// Texts that mean something to some reader.
const TEXTS: [&str; 14] = [
    "",
    "c",
    "#",
    "alice",
    "phone",
    "admin",
    "member",
    "apns",
    "fcm",
    "alert",
    "[]",
    "{}",
    "null",
    r#"[{"id":"0199e5a0-0000-7000-8000-000000000002","body":"hi"}]"#,
];

/// Numbers at the edges.
const NUMBERS: [&str; 10] = [
    "0",
    "1",
    "2",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1.5",
    "1e3",
];

/// How deep maps and lists are in each other.
const DEPTH: u8 = 3;

fn whole(bytes: &mut Unstructured<'_>) -> Result<(Item, u64)> {
    let now_ms = bytes.arbitrary::<u64>()? >> 12;
    Ok((map(bytes, DEPTH)?, now_ms))
}

fn map(bytes: &mut Unstructured<'_>, depth: u8) -> Result<Item> {
    let mut item = Item::new();
    while !bytes.is_empty() && bytes.ratio(11, 12)? {
        let name = match bytes.int_in_range(0..=NAMES.len())? {
            // The lane of alice's phone.
            place if place == NAMES.len() => "6FPQm-y76ReKwijK".to_owned(),
            place => NAMES[place].to_owned(),
        };
        let value = value(bytes, depth)?;
        item.insert(name, value);
    }
    Ok(item)
}

fn value(bytes: &mut Unstructured<'_>, depth: u8) -> Result<AttributeValue> {
    Ok(match bytes.int_in_range(0..=10)? {
        0 => AttributeValue::S((*bytes.choose(&TEXTS)?).to_owned()),
        1 => AttributeValue::S(bytes.arbitrary::<&str>()?.to_owned()),
        2 => AttributeValue::N((*bytes.choose(&NUMBERS)?).to_owned()),
        3 => AttributeValue::N(bytes.arbitrary::<u64>()?.to_string()),
        4 => AttributeValue::N(bytes.arbitrary::<u8>()?.to_string()),
        5 => AttributeValue::Bool(bytes.arbitrary()?),
        6 => AttributeValue::B(Blob::new(bytes.arbitrary::<[u8; 16]>()?)),
        7 => AttributeValue::B(Blob::new(bytes.arbitrary::<&[u8]>()?)),
        8 => AttributeValue::Ns(vec![bytes.arbitrary::<u64>()?.to_string(), (*bytes.choose(&NUMBERS)?).to_owned()]),
        9 if depth > 0 => AttributeValue::M(map(bytes, depth - 1)?),
        10 if depth > 0 => {
            let mut list = Vec::new();
            while !bytes.is_empty() && bytes.ratio(3, 4)? {
                list.push(value(bytes, depth - 1)?);
            }
            AttributeValue::L(list)
        }
        _ => AttributeValue::Null(true),
    })
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_queued_does_no_harm() {
        replay::replay("queue_messages", queue_messages);
    }

    #[test]
    fn whatever_is_stored_does_no_harm() {
        replay::replay("stored_items", stored_items);
    }
}
