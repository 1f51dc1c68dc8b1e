//! How things look in the terminal, for people and as JSON.

use std::fmt::Write;

use poste_client::{
    Attached, Change, ChangeKind, Connection, Conversation, Failure, Member, Message, OutboxEntry, OutboxState,
    Preview, Seen, State, WaitingChange,
};
use poste_protocol::{Event as GroupEvent, PushStatus, Role, UserId};
use serde::Serialize;

use crate::{harmless, time};

/// A message's state as a sign: a clock, one tick, two, read, failed.
pub(crate) fn tick(state: State) -> &'static str {
    match state {
        State::Pending => "◷",
        State::Sent => "✓",
        State::Delivered => "✓✓",
        State::Read => "✓✓ read",
        State::Failed => "✗ failed",
        State::Received => "",
    }
}

/// The state in a word.
pub(crate) fn word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Sent => "sent",
        State::Delivered => "delivered",
        State::Read => "read",
        State::Failed => "failed",
        State::Received => "received",
    }
}

/// The sign and the word, neither twice.
pub(crate) fn state(state: State) -> String {
    let sign = tick(state).split(' ').next().unwrap_or_default();
    format!("{sign} {}", word(state))
}

/// One line for a message.
pub(crate) fn message(message: &Message, me: &UserId) -> String {
    let time = message.at.or(message.written_at).map(time::of_day).unwrap_or_default();
    let who = if &message.user == me { "you" } else { message.user.as_str() };
    let seq = message.seq.map_or("    -".to_owned(), |seq| format!("{seq:>5}"));
    let mut line = format!("{seq}  {time:8}  {who:>10}  {}", body(message));
    let sign = tick(message.state);
    if !sign.is_empty() {
        line = format!("{line}  {sign}");
    }
    if let Some(failure) = &message.failure {
        line = format!("{line} ({})", self::failure(failure));
    }
    if let Some(change) = &message.waiting {
        line = format!("{line}  {}", self::change(change));
    }
    line
}

/// What a message says, as it was written.
pub(crate) fn said(message: &Message) -> String {
    if let Some(happened) = &message.event {
        return event(happened);
    }
    let text = match message.edited_at {
        _ if message.deleted => "(deleted)".to_owned(),
        Some(_) => format!("{} (edited)", message.body),
        None => message.body.clone(),
    };
    match &message.file {
        Some(attached) if text.is_empty() => file(attached, message.state),
        Some(attached) => format!("{} {text}", file(attached, message.state)),
        None => text,
    }
}

/// A file in brackets: its name, length and kind, and how far it is.
pub(crate) fn file(attached: &Attached, state: State) -> String {
    let Attached { file, uploaded, here } = attached;
    let name = harmless::line(file.name.as_deref().unwrap_or("a file"));
    let line = format!("[{name}, {}, {}", bytes(file.size), harmless::line(&file.kind));
    match uploaded {
        Some(_) if state == State::Failed => format!("{line}, not sent]"),
        Some(sent) => format!("{line}, {} % sent]", percent(*sent, file.size)),
        None if *here && state == State::Received => format!("{line}, here]"),
        None => format!("{line}]"),
    }
}

/// A length for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // In tenths of a unit, which is as exact as a person wants it.
    let (mut tenths, mut unit) = (count.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// How much of it, in full percents.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100).min(100)
}

/// The same in one line, harmless.
pub(crate) fn body(message: &Message) -> String {
    harmless::line(&said(message))
}

/// An own change that is not acknowledged.
pub(crate) fn change(change: &WaitingChange) -> String {
    let what = if change.kind == ChangeKind::Edit { "edit" } else { "delete" };
    match &change.failure {
        Some(failure) => format!("✗ {what} failed ({})", self::failure(failure)),
        None => format!("◷ {what}"),
    }
}

/// What happened to a group, in words that follow the author's name.
pub(crate) fn event(event: &GroupEvent) -> String {
    let names = |users: &[UserId]| users.iter().map(UserId::as_str).collect::<Vec<_>>().join(", ");
    match event {
        GroupEvent::Created { title, members } if members.is_empty() => format!("* created \"{title}\""),
        GroupEvent::Created { title, members } => format!("* created \"{title}\" with {}", names(members)),
        GroupEvent::Titled { title } => format!("* called it \"{title}\""),
        GroupEvent::Added { users } => format!("* added {}", names(users)),
        GroupEvent::Removed { users } => format!("* removed {}", names(users)),
        GroupEvent::Left => "* left".to_owned(),
        GroupEvent::Role { user, role: Role::Admin } => format!("* made {user} an admin"),
        GroupEvent::Role { user, role: Role::Member } => format!("* made {user} a member"),
        GroupEvent::Unknown => "* did something that this version does not know".to_owned(),
    }
}

/// One line for a member of a group.
pub(crate) fn member(member: &Member) -> String {
    match member.role {
        Role::Admin => format!("{}  admin", member.user),
        Role::Member => member.user.to_string(),
    }
}

/// How a conversation is called: by its peer, its title, or its id.
pub(crate) fn name(conversation: &Conversation) -> String {
    let title = conversation.group.as_ref().and_then(|group| group.title.clone());
    let name = conversation.peer.as_ref().map(ToString::to_string).or(title);
    name.map_or_else(|| conversation.id.to_string(), |name| harmless::line(&name))
}

/// Why something was refused: the code of the wire, and the server's words.
pub(crate) fn failure(failure: &Failure) -> String {
    let code = serde_json::to_string(&failure.code).unwrap_or_default();
    format!("{}: {}", code.trim_matches('"'), harmless::line(&failure.message))
}

/// A list of values: JSON, one a line, or as `line` says.
pub(crate) fn list<T: Serialize>(values: &[T], json: bool, line: impl Fn(&T) -> String) -> anyhow::Result<()> {
    for value in values {
        one(value, json, &line)?;
    }
    Ok(())
}

/// One value: JSON, or as `line` says.
pub(crate) fn one<T: Serialize>(value: &T, json: bool, line: impl Fn(&T) -> String) -> anyhow::Result<()> {
    text(&if json { as_json(value)? } else { line(value) })
}

/// JSON for one line, harmless in a terminal.
pub(crate) fn as_json<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(harmless::json(&serde_json::to_string(value)?))
}

/// One line on the standard output.
pub(crate) fn text(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// Something for a person to know, on the standard error. Programs have the values and the exit code.
pub(crate) fn note(json: bool, said: &str) {
    if !json {
        eprintln!("{said}");
    }
}

/// An error, on the standard error.
pub(crate) fn error(json: bool, kind: &str, said: &str) {
    if json {
        let said = serde_json::json!({"error": {"kind": kind, "message": said}});
        eprintln!("{}", harmless::json(&said.to_string()));
    } else {
        eprintln!("poste: {}", harmless::line(said));
    }
}

/// Whether the trouble is that whoever read our output has had enough.
pub(crate) fn nobody_reads(wrong: &anyhow::Error) -> bool {
    let cause = wrong.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// One line for a conversation.
pub(crate) fn conversation(conversation: &Conversation) -> String {
    let name = name(conversation);
    let mut line = format!("{name:<20}  up to {}", conversation.cursor);
    if conversation.head > conversation.cursor {
        line = format!("{line} of {}", conversation.head);
    }
    if conversation.unread > 0 {
        line = format!("{line}, {} unread", conversation.unread);
    }
    match &conversation.group {
        Some(group) if group.left => line = format!("{line}, left"),
        Some(_) => line = format!("{line}, {}", conversation.id),
        None => {}
    }
    if conversation.unsettled > 0 {
        line = format!("{line}, {} not sent", conversation.unsettled);
    }
    if conversation.muted_until.is_some_and(|until| until > time::now()) {
        line = format!("{line}, muted");
    }
    if let Some(preview) = &conversation.preview {
        line = format!("{line}, last {}", self::preview(preview));
    }
    line
}

/// The last message of a conversation of which no page is here yet, in one line, harmless.
pub(crate) fn preview(preview: &Preview) -> String {
    let said = match &preview.event {
        Some(happened) => event(happened),
        None if preview.deleted => "(deleted)".to_owned(),
        None => match &preview.file {
            Some(file) => format!("[{file}] {}", preview.body),
            None => preview.body.clone(),
        },
    };
    format!("{}: {}", preview.user, harmless::line(&said))
}

/// An entry of the outbox, and its messages.
pub(crate) fn outbox(entry: &OutboxEntry) -> String {
    let name = entry.peer.as_ref().map_or(entry.conversation.as_str(), UserId::as_str);
    let what = match entry.state {
        OutboxState::Queued => "waiting".to_owned(),
        OutboxState::UnderWay => format!("on its way, attempts so far: {}", entry.attempts),
        OutboxState::Failed => match &entry.failure {
            Some(failure) => format!("refused ({}): poste retry ID, or poste drop ID", self::failure(failure)),
            None => "refused".to_owned(),
        },
    };
    let mut text = format!("to {name}: {what}");
    for message in &entry.messages {
        let _ = write!(text, "\n  {}  {}", message.id, waiting(message));
    }
    text
}

/// One line for whether somebody is here.
pub(crate) fn seen(seen: &Seen) -> String {
    match seen.last_seen {
        _ if seen.online => format!("{} is here", seen.user),
        Some(at) => format!("{} is not here; last seen {}", seen.user, time::of_day(at)),
        None => format!("{} is not here", seen.user),
    }
}

/// What waits in the outbox, in one line: a message, or what changes one.
pub(crate) fn waiting(message: &Message) -> String {
    match message.change {
        Some(Change { kind: ChangeKind::Delete, message }) => format!("deletes {message}"),
        Some(Change { kind: ChangeKind::Edit, .. }) => format!("edit: {}", harmless::line(&message.body)),
        None => body(message),
    }
}

/// Whether this device is woken, in words.
pub(crate) fn push(status: Option<PushStatus>) -> &'static str {
    match status {
        Some(PushStatus::Registered) => "this device is woken",
        Some(PushStatus::Renew) => "this device is not woken: its token is dead, and a new one is wanted (poste push)",
        Some(PushStatus::Off) => "this device is not woken: the server wakes nobody on its platform",
        Some(PushStatus::None | PushStatus::Unknown) | None => "this device is not woken",
    }
}

/// The connection in words.
pub(crate) fn connection(state: Connection) -> &'static str {
    match state {
        Connection::Off => "offline",
        Connection::Waiting => "no connection; trying again",
        Connection::Connecting => "connecting",
        Connection::Online => "online",
        Connection::Replaced => "this device is connected from somewhere else; trying again later (F3: now)",
        Connection::SignInRefused => "the server refuses the sign-in; trying again (poste login)",
    }
}

#[cfg(test)]
mod tests {
    use poste_protocol::{ConversationId, DeviceId, MessageId, Seq};

    use super::*;

    #[test]
    fn a_state_is_a_sign_and_a_word() {
        let all = [State::Pending, State::Sent, State::Delivered, State::Read, State::Failed].map(state);
        assert_eq!(all, ["◷ pending", "✓ sent", "✓✓ delivered", "✓✓ read", "✗ failed"]);
    }

    #[test]
    fn a_message_is_one_harmless_line() {
        let bob = UserId::new("bob").expect("a valid name");
        let line = message(
            &Message {
                id: MessageId::fresh(),
                conversation: ConversationId::direct(&bob, &bob),
                user: bob.clone(),
                device: DeviceId::new("laptop").expect("a valid name"),
                body: "two\nlines and \u{1b}[31mred".into(),
                event: None,
                file: None,
                written_at: None,
                state: State::Delivered,
                seq: Some(Seq::ZERO.next()),
                at: Some(3_723_000),
                failure: None,
                edited_at: None,
                deleted: false,
                waiting: None,
                change: None,
            },
            &bob,
        );
        assert_eq!(line, "    1  01:02:03         you  two␊lines and ␛[31mred  ✓✓");
    }

    #[test]
    fn a_waiting_change_is_told_with_its_reason() {
        let id = MessageId::fresh();
        let waits = WaitingChange { id, kind: ChangeKind::Edit, state: State::Pending, failure: None };
        assert_eq!(change(&waits), "◷ edit");
        let failure = Some(Failure { code: poste_protocol::Code::NoTarget, message: "it is gone".into() });
        let failed = WaitingChange { kind: ChangeKind::Delete, state: State::Failed, failure, ..waits };
        assert_eq!(change(&failed), "✗ delete failed (no_target: it is gone)");
    }

    #[test]
    fn a_preview_is_one_harmless_line() {
        let preview = |body: &str, deleted| Preview {
            seq: Seq::ZERO.next(),
            user: UserId::new("bob").expect("valid"),
            at: 0,
            body: body.to_owned(),
            event: None,
            file: None,
            deleted,
        };
        let line = super::preview(&preview("one\ntwo \u{1b}[2J", false));
        assert!(line.starts_with("bob: one") && !line.contains(['\n', '\u{1b}']), "{line:?}");
        assert_eq!(super::preview(&preview("", true)), "bob: (deleted)");
        let left = Preview { event: Some(GroupEvent::Left), ..preview("", false) };
        assert_eq!(super::preview(&left), "bob: * left");
        let shown = Preview { file: Some("harbour.mp4".to_owned()), ..preview("look", false) };
        assert_eq!(super::preview(&shown), "bob: [harbour.mp4] look");
    }
}
