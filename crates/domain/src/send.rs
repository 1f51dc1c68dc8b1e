//! What one frame of `send` comes to. Envelopes and marks are taken side by side. A mark that is of a conversation in
//! which something was written shares its parcel, and so its message of the queue and the frames to live devices: who
//! answers a message has read it, and what tells of the one tells of the other.

use futures::future;
use poste_protocol::{Author, MarkResult, Outcome, Refusal, SendFrame, Verdict};

use crate::{
    Failure,
    append::{Append, Stored},
    marks::{Marking, Taken},
    ports::{Audience, News},
};

/// Takes what is in a frame. Every envelope gets a verdict of its own, and every mark a result; each says yes only when
/// it is stored and what is to be told of it is queued.
pub(crate) async fn take(
    append: &Append,
    marking: &Marking,
    author: &Author,
    frame: &SendFrame,
) -> (Vec<Verdict>, Vec<MarkResult>) {
    let storing = future::join_all(frame.submissions.iter().map(|submission| append.store(author, submission)));
    let (mut stored, taken) = marking.beside(author, &frame.marks, storing).await;
    let taken: Vec<_> = taken.into_iter().map(|taken| ride(&mut stored, taken)).collect();
    let outcomes = future::join_all(stored.into_iter().map(|stored| async {
        let Stored { outcome, parcel } = stored.map_err(Failure::into_refusal)?;
        append.publish(&parcel).await.map_err(Failure::into_refusal)?;
        Ok(outcome)
    }));
    let told = future::join_all(taken.into_iter().map(|riding| async {
        match riding {
            Riding::Alone(taken) => Ok(marking.tell(taken).await),
            Riding::With(position, taken) => Err((position, taken)),
        }
    }));
    let (outcomes, told): (Vec<Result<Outcome, Refusal>>, _) = future::join(outcomes, told).await;
    let of_riding = |(position, taken): (usize, Taken)| MarkResult {
        conversation: taken.conversation,
        error: outcomes[position].as_ref().err().cloned(),
    };
    let results = told.into_iter().map(|told| told.unwrap_or_else(of_riding)).collect();
    let verdicts = frame.submissions.iter().zip(outcomes).map(|(submission, outcome)| Verdict {
        envelope: submission.envelope.id,
        outcome: outcome.unwrap_or_else(|error| Outcome::Refused { error }),
    });
    (verdicts.collect(), results)
}

/// How the others hear of a mark.
enum Riding {
    /// By parcels of its own.
    Alone(Taken),
    /// By the parcel of this submission.
    With(usize, Taken),
}

/// Puts a mark into the parcel of what was written in its conversation, if everybody is to hear of it.
fn ride(stored: &mut [Result<Stored, Failure>], mut taken: Taken) -> Riding {
    let is_here = |stored: &Result<Stored, Failure>| {
        stored.as_ref().is_ok_and(|stored| stored.parcel.conversation == taken.conversation)
    };
    let Some(position) = stored.iter().position(is_here) else { return Riding::Alone(taken) };
    let (Ok(stored), Ok(news)) = (&mut stored[position], &mut taken.news) else { return Riding::Alone(taken) };
    match news.as_mut_slice() {
        // That nothing but `read` has moved is no news for who gets no read receipts, in whatever company.
        [parcel] if parcel.audience == Audience::Everyone && !parcel.only_read => {
            let News::Mark(mark) = &parcel.news else { return Riding::Alone(taken) };
            stored.parcel.marks.push(mark.clone());
            // As of the later event both may be told.
            stored.parcel.roster = stored.parcel.roster.max(parcel.roster);
            Riding::With(position, taken)
        }
        _ => Riding::Alone(taken),
    }
}
