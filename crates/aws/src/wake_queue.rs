//! The push queue: wake-ups in, now or after a delay; and out, with growing waits for what failed or found no token in
//! the bucket.
//!
//! The queue counts every receive, whatever came of it, and gives a message up after `PushMaxReceives` (50). So few of
//! them must be used up by what is no failure: a device that was pushed to a moment ago costs one for each push that it
//! still has to wait for, and a bucket that is empty waits as long as a failure does.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};
use futures::future;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use poste_domain::{
    Class, Trouble,
    ports::{Result, Wake, Wakes},
    wake::{Fate, Waking},
};
use uuid::Uuid;

use crate::{
    metrics::measured,
    queue::{escaped, hide, receives, response},
    trouble::trouble,
};

/// Messages that one `SendMessageBatch` takes. Ten wake-ups of a hundred users each are some 150 KB.
const BATCH: usize = 10;

/// The wait after the first failure; twice as long after each further one.
const FIRST_WAIT_S: u32 = 1;

/// The longest wait. With the queue's fifty receives, and all waits between them, a provider may be down for five to ten
/// hours before anything is dead.
const LONGEST_WAIT_S: u32 = 900;

/// The wait of what is no wake-up. It does not get better, and shall be with the dead letters soon.
const UNREADABLE_WAIT_MS: u64 = 1_000;

/// The push queue in SQS.
#[derive(Clone)]
pub struct WakeQueue {
    client: Client,
    url: String,
}

impl WakeQueue {
    /// On this queue.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    async fn send(&self, wakes: &[(Wake, u64)]) -> Vec<Result<()>> {
        let all = |trouble: &Trouble| wakes.iter().map(|_| Err(trouble.clone())).collect();
        let entries: std::result::Result<Vec<_>, Trouble> = (0..).zip(wakes).map(|(n, wake)| entry(n, wake)).collect();
        let sending = match entries {
            Ok(entries) => {
                self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await
            }
            Err(trouble) => return all(&trouble),
        };
        let sent = match sending {
            Ok(sent) => sent,
            Err(error) => return all(&trouble("wakes.queue", &error)),
        };
        let mut outcomes: Vec<Result<()>> = wakes.iter().map(|_| Ok(())).collect();
        for failed in sent.failed {
            let position: usize = failed.id.parse().unwrap_or(usize::MAX);
            let class = if failed.sender_fault { Class::Permanent } else { Class::Transient };
            if let Some(outcome) = outcomes.get_mut(position) {
                *outcome = Err(Trouble::new("wakes.queue", class, failed.code));
            }
        }
        outcomes
    }
}

fn entry(n: usize, (wake, delay_ms): &(Wake, u64)) -> Result<SendMessageBatchRequestEntry> {
    let body = serde_json::to_string(wake).map_err(|error| Trouble::broken("wakes.queue", error))?;
    SendMessageBatchRequestEntry::builder()
        .id(n.to_string())
        .message_body(escaped(body))
        .delay_seconds(i32::try_from(delay_ms.div_ceil(1_000)).unwrap_or(i32::MAX))
        // As in the delivery queue: a busy conversation does not hold up the others.
        .message_group_id(wake.conversation.as_str())
        .build()
        .map_err(|error| Trouble::broken("wakes.queue", error))
}

#[async_trait]
impl Wakes for WakeQueue {
    async fn queue(&self, wakes: &[(Wake, u64)]) -> Vec<Result<()>> {
        future::join_all(wakes.chunks(BATCH).map(|chunk| self.send(chunk))).await.concat()
    }
}

/// Runs the consumer of the push queue until the runtime ends it.
///
/// # Errors
/// Those of the runtime.
pub async fn serve(queue: WakeQueue, waking: Waking) -> std::result::Result<(), Error> {
    let waking = Arc::new(waking);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| {
        let (queue, waking) = (queue.clone(), waking.clone());
        async move { Ok::<_, Error>(response(measured(consume(&queue, &waking, event.payload.records)).await)) }
    }))
    .await
}

/// Wakes whom a batch is about. Returns what must come again, which is hidden for as long.
async fn consume(queue: &WakeQueue, waking: &Waking, messages: Vec<SqsMessage>) -> Vec<SqsMessage> {
    let (mut readable, mut wakes, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for message in messages {
        match serde_json::from_str::<Wake>(message.body.as_deref().unwrap_or_default()) {
            Ok(wake) => {
                readable.push(message);
                wakes.push(wake);
            }
            Err(error) => {
                tracing::error!(line = error.line(), column = error.column(), "a message that is no wake-up");
                again.push((message, Some(UNREADABLE_WAIT_MS)));
            }
        }
    }
    let fates = if wakes.is_empty() { Vec::new() } else { waking.wake(&wakes).await };
    for (message, fate) in readable.into_iter().zip(fates) {
        if let Fate::Again(after_ms) = fate {
            again.push((message, after_ms));
        }
    }
    let hiding = again.iter().map(|(message, after_ms)| {
        let wait = after_ms.map_or_else(|| wait_s(receives(message), Uuid::new_v4().as_u128()), seconds);
        hide(&queue.client, &queue.url, message, wait)
    });
    future::join_all(hiding).await;
    again.into_iter().map(|(message, _)| message).collect()
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1_000)).unwrap_or(u32::MAX).min(LONGEST_WAIT_S)
}

/// Seconds until a wake-up that was received so often is tried again: at least half of a ceiling that doubles, the rest
/// at random, so that what failed together does not come together.
fn wait_s(receives: u32, dice: u128) -> u32 {
    let doublings = receives.saturating_sub(1).min(16);
    let ceiling = FIRST_WAIT_S.saturating_mul(1 << doublings).min(LONGEST_WAIT_S);
    let rest = u128::from(ceiling / 2) + 1;
    ceiling - u32::try_from(dice % rest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_bounded_and_differ() {
        let waits: Vec<u32> = [1, 2, 3, 5, 11, 1000].map(|receives| wait_s(receives, 0)).to_vec();
        assert_eq!(waits, [1, 2, 4, 16, 900, 900]);
        let some: std::collections::BTreeSet<u32> = (0..1_000).map(|dice| wait_s(6, dice)).collect();
        assert_eq!(some, (16..=32).collect());
        // docs/OPERATIONS.md counts on it: ten hours at most, five at least, between the fifty receives.
        assert_eq!((1..50).map(|n| wait_s(n, 0)).sum::<u32>(), 1_023 + 39 * 900);
        let shortest = |n| (0..1_000).map(|dice| wait_s(n, dice)).min().unwrap_or_default();
        assert!((1..50).map(shortest).sum::<u32>() > 5 * 3_600 - 60);
    }

    #[test]
    fn the_largest_batch_is_within_the_queues_limit() {
        let user = poste_protocol::UserId::new("u".repeat(poste_protocol::limits::USER_ID)).expect("valid");
        let wake = Wake {
            envelope: Some(poste_protocol::EnvelopeId::fresh()),
            conversation: poste_protocol::ConversationId::new("c".repeat(64)).expect("valid"),
            seq: poste_protocol::Seq::ZERO,
            through: poste_protocol::Seq::ZERO,
            at_ms: u64::MAX,
            users: vec![user; poste_domain::wake::USERS],
            content: Some("\u{1}".repeat(120)),
        };
        assert!(serde_json::to_string(&wake).expect("JSON").len() * BATCH < 256 * 1024);
    }
}
