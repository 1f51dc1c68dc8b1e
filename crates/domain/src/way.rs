//! Lines of the log that follow a message, each with the id of its envelope: the device made it, every attempt and every
//! copy of the message has it, and so has the device's own log. Of this module's target, so that they can be left out
//! by themselves (`LogLevel`: `info,poste_domain::way=off`).

use poste_protocol::{Author, Outcome, PushId, Submission};

use crate::ports::{Parcel, Wake};

/// `send` has decided about an envelope.
pub(crate) fn judged(author: &Author, submission: &Submission, outcome: &Outcome) {
    let Author { user, device } = author;
    let Submission { envelope, attempt, age_ms, .. } = submission;
    let (id, conversation, messages) = (envelope.id, &envelope.conversation, envelope.messages.len());
    match outcome {
        Outcome::Accepted { seq, repeat, .. } => {
            tracing::info!(
                envelope = %id, %conversation, %seq, messages, repeat, %user, %device, attempt, age_ms, "stored"
            );
        }
        Outcome::Refused { error } => {
            let code = error.code;
            tracing::info!(
                envelope = %id, %conversation, messages, ?code, %user, %device, attempt, age_ms, "not stored"
            );
        }
    }
}

/// `deliver` has posted a message to so many connections, and could not to so many.
pub(crate) fn delivered(parcel: &Parcel, posts: usize, failed: usize, age_ms: u64) {
    let Some((conversation, cell)) = parcel.cell() else { return };
    tracing::info!(
        metric = "delivery", envelope = %cell.envelope, %conversation, seq = %cell.seq, posts, failed, age_ms, "delivered"
    );
}

/// `notify` has pushed to a device because of a message. The device tells of the push when it comes.
pub(crate) fn pushed(to: &Author, wake: &Wake, push: &PushId) {
    let (Author { user, device }, Wake { envelope, conversation, seq, .. }) = (to, wake);
    let envelope = envelope.map(|id| id.to_string());
    tracing::info!(envelope, %conversation, %seq, %user, %device, %push, "pushed");
}
