//! Envelopes as tests need them.

use poste_protocol::{ConversationId, Envelope, EnvelopeId, Message, MessageId, Number, Seq, Submission, UserId};

/// An envelope with these bodies, one message each.
pub fn envelope(
    conversation: &ConversationId,
    to: Option<&UserId>,
    number: u64,
    bodies: &[impl AsRef<str>],
) -> Envelope {
    Envelope {
        id: EnvelopeId::fresh(),
        conversation: conversation.clone(),
        to: to.cloned(),
        number: self::number(number),
        messages: bodies.iter().map(|body| Message::new(MessageId::fresh(), body.as_ref())).collect(),
    }
}

/// `count` bodies that tell which they are.
pub fn bodies(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{what} {i}")).collect()
}

/// The envelope that its device writes after this one: the next number, another id.
#[must_use]
pub fn next_after(envelope: &Envelope, body: &str) -> Envelope {
    self::envelope(&envelope.conversation, envelope.to.as_ref(), envelope.number.next().get(), &[body])
}

/// The first attempt to send it.
pub fn submission(envelope: &Envelope) -> Submission {
    Submission { envelope: envelope.clone(), age_ms: 0, attempt: 1, resolved: None }
}

/// A later attempt: what may differ between attempts differs.
pub fn resent(envelope: &Envelope) -> Submission {
    Submission { envelope: envelope.clone(), age_ms: 1_234, attempt: 2, resolved: None }
}

/// A sequence number.
///
/// # Panics
/// Beyond 2^53.
pub fn seq(n: u64) -> Seq {
    Seq::new(n).expect("within the range of sequence numbers")
}

/// An envelope's number.
///
/// # Panics
/// For 0, and beyond 2^53.
pub fn number(n: u64) -> Number {
    Number::new(n).expect("within the range of envelope numbers")
}
