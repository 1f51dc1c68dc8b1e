//! What `cargo local fuzz` feeds with whatever comes from outside: frames and names. Each function panics where a promise
//! does not hold. Compiled for fuzzing and for tests only; the tests replay the corpora in `fuzz/corpus`.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Away, ConversationId, DeviceId, Digest, EnvelopeId, ErrorFrame, Fetch, FromServer, Hello, List, MarkFrame,
    MarksFrame, MediaFile, MediaFrame, MediaId, MediaWish, MembersFrame, Message, MuteFrame, Platform, ProviderToken,
    PushFrame, PushStyle, ReceiptsFrame, Reference, Request, SendFrame, SyncFrame, Typing, UserId, Watch, limits,
    parse, part_count, part_range,
};

/// A frame of a device, read as each action reads it: it is refused with an error that fits in a frame, or it is read,
/// and says the same when it is written and read again.
pub fn device_frames(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    macro_rules! each {
        ($($frame:ty),+) => { $(same::<$frame>(text);)+ };
    }
    each!(Request, Hello, Fetch, SyncFrame, List, MarkFrame, Watch, Away, Typing, MembersFrame);
    each!(PushFrame, MuteFrame, MarksFrame, ReceiptsFrame);
    if let Some(frame) = same::<SendFrame>(text) {
        for envelope in frame.submissions.into_iter().map(|submission| submission.envelope) {
            if envelope.check().is_ok() {
                assert!(envelope.bytes() <= limits::ENVELOPE_BYTES && envelope.count() > 0);
                envelope.messages.into_iter().for_each(message);
            }
        }
    }
    if let Some(frame) = same::<MediaFrame>(text)
        && let MediaWish::Begin { file, .. } = frame.wish
        && file.check().is_ok()
    {
        let last = part_count(file.size);
        assert!((1..=limits::MEDIA_PARTS).contains(&last));
        let (from, bytes) = part_range(file.size, last);
        assert_eq!(from + bytes, file.size);
    }
}

/// What was accepted of a message.
fn message(message: Message) {
    if let Some(event) = &message.event {
        let by = UserId::new("somebody").expect("well formed");
        for user in event.concerns(&by) {
            event.role_after(&by, &user, None);
        }
    }
    let left = message.redacted();
    assert!(left.body.is_empty() && left.media.is_none() && left.deleted);
}

/// A frame of the server, read as a device reads it.
pub fn server_frames(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(frame) = serde_json::from_str::<FromServer>(text) else { return };
    assert_eq!(written_and_read(&frame), frame);
    frame.reference();
    let cells = match frame {
        FromServer::Page(page) => page.cells,
        FromServer::Pages(pages) => pages.pages.into_iter().flat_map(|page| page.cells).collect(),
        FromServer::Delivery(delivery) => delivery.items.into_iter().flat_map(|item| item.cells).collect(),
        _ => Vec::new(),
    };
    for cell in cells {
        assert!(cell.numbered().count() == cell.messages.len() && cell.last() >= cell.seq);
        cell.event();
    }
}

/// Ids, references, push tokens, checksums and media types: what is taken is what it was, within its bounds, and harmless
/// wherever it is written.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    macro_rules! each {
        ($($id:ty),+) => { $(
            if let Some(id) = unchanged::<$id>(text) {
                assert!(plain(id.as_str()) && id.as_str() == text && !text.contains(['/', '#', '"', '\\']));
            }
        )+ };
    }
    each!(UserId, DeviceId, ConversationId);
    if let Ok(id) = ConversationId::new(text) {
        assert!(!(id.is_group() && id.is_direct()));
    }
    if let Some((one, other)) = text.split_once(' ')
        && let (Ok(one), Ok(other)) = (UserId::new(one), UserId::new(other))
    {
        let direct = ConversationId::direct(&one, &other);
        assert!(direct.is_direct() && direct == ConversationId::direct(&other, &one));
    }
    assert_eq!(unchanged::<EnvelopeId>(text).map(|id| id.0), unchanged::<MediaId>(text).map(|id| id.0));
    if let Ok(reference) = Reference::new(text) {
        assert_eq!(written_and_read(&reference), reference);
    }
    if let Ok(token) = ProviderToken::new(text) {
        assert!(plain(token.as_str()) && token.as_str().len() <= limits::PUSH_TOKEN);
        assert_eq!(written_and_read(&token), token);
        assert_eq!(format!("{token:?}"), format!("ProviderToken({} characters)", text.len()), "it is not shown");
    }
    if let Ok(sum) = text.parse::<Digest>() {
        assert_eq!((sum.to_string().as_str(), sum.to_string().parse()), (text, Ok(sum)), "one form only");
    }
    let kind = MediaFile { size: 1, sha256: Digest::of(b""), kind: text.to_owned() };
    if kind.check().is_ok() {
        assert!(plain(text) && text.len() <= limits::MEDIA_KIND && !text.contains(['"', ';', ',']));
    }
    assert_eq!(
        text.parse().ok().map(Platform::as_str),
        Platform::ALL.map(Platform::as_str).into_iter().find(|&p| p == text)
    );
    if let Ok(style) = text.parse::<PushStyle>() {
        assert_eq!(style.as_str(), text);
    }
}

/// A frame, if it is one; it says the same when it is written and read again.
fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) -> Option<T> {
    match parse::<T>(text) {
        Ok(frame) => {
            assert_eq!(written_and_read(&frame), frame);
            Some(frame)
        }
        Err(error) => {
            assert!(is_told(error), "an error that fits in no frame");
            None
        }
    }
}

/// Whether a refusal can be told in a frame, and is understood.
fn is_told(error: ErrorFrame) -> bool {
    let frame = FromServer::Error(error);
    serde_json::to_string(&frame).expect("plain fields").len() <= limits::FRAME_BYTES
        && written_and_read(&frame) == frame
}

fn written_and_read<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("plain fields");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A name, if it is one; it reads as it is shown, and the same in JSON.
fn unchanged<T: FromStr + Display + Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) -> Option<T> {
    let id: T = text.parse().ok()?;
    assert_eq!(id.to_string().parse().ok().as_ref(), Some(&id));
    assert_eq!(written_and_read(&id), id);
    Some(id)
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_may_send_does_no_harm() {
        replay::replay("device_frames", device_frames);
    }

    #[test]
    fn what_a_server_may_send_does_no_harm() {
        replay::replay("server_frames", server_frames);
    }

    #[test]
    fn whatever_is_taken_for_a_name_is_one() {
        replay::replay("names", names);
    }
}
