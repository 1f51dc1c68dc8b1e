//! The delivery queue: parcels in, parcels out, with partial batch failures and growing waits.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::Client;
use futures::future;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use poste_domain::{
    Trouble,
    fanout::Fanout,
    ports::{Courier, Parcel, Result},
};

use crate::{metrics::measured, trouble::trouble};

/// The wait before a failed parcel comes again: this after the first failure, twice as long after each further one.
const FIRST_WAIT_S: u32 = 1;

/// The longest wait. Also keeps a parcel's tries within minutes: what a device needs it can fetch by then.
const LONGEST_WAIT_S: u32 = 60;

/// The delivery queue in SQS.
#[derive(Clone)]
pub struct DeliveryQueue {
    client: Client,
    url: String,
}

impl DeliveryQueue {
    /// On this queue.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }
}

/// How often a message has been received.
pub(crate) fn receives(message: &SqsMessage) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Lets a message come again after a wait. Best effort: without it the queue's own visibility timeout holds.
pub(crate) async fn hide(client: &Client, url: &str, message: &SqsMessage, seconds: u32) {
    let changed = client
        .change_message_visibility()
        .queue_url(url)
        .set_receipt_handle(message.receipt_handle.clone())
        .visibility_timeout(i32::try_from(seconds).unwrap_or(i32::MAX))
        .send()
        .await;
    if let Err(error) = changed {
        tracing::warn!(trouble = %trouble("queue.postpone", &error), "cannot postpone");
    }
}

/// What the queue is told: these come again, and end in the dead-letter queue after its limit.
pub(crate) fn response(again: Vec<SqsMessage>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = again
        .into_iter()
        .map(|message| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = message.message_id.unwrap_or_default();
            failure
        })
        .collect();
    response
}

/// The same JSON without the two characters that it may hold and a queue's message may not.
pub(crate) fn escaped(json: String) -> String {
    if json.contains(['\u{fffe}', '\u{ffff}']) {
        json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    } else {
        json
    }
}

/// Seconds until a message that was received so often is tried again.
fn wait_s(receives: u32) -> u32 {
    let doublings = receives.saturating_sub(1).min(16);
    FIRST_WAIT_S.saturating_mul(1 << doublings).min(LONGEST_WAIT_S)
}

#[async_trait]
impl Courier for DeliveryQueue {
    async fn publish(&self, parcel: &Parcel) -> Result<()> {
        let body = serde_json::to_string(parcel).map_err(|error| Trouble::broken("queue.publish", error))?;
        let body = escaped(body);
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            // A standard queue shares its consumers fairly among groups: a hot conversation starves no other.
            .message_group_id(parcel.conversation.as_str())
            .send()
            .await
            .map_err(|error| trouble("queue.publish", &error))?;
        Ok(())
    }
}

/// Runs the consumer of the delivery queue until the runtime ends it.
///
/// # Errors
/// Those of the runtime.
pub async fn serve(queue: DeliveryQueue, fanout: Fanout) -> std::result::Result<(), Error> {
    let fanout = Arc::new(fanout);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| {
        let (queue, fanout) = (queue.clone(), fanout.clone());
        async move { Ok::<_, Error>(measured(consume(&queue, &fanout, event.payload.records)).await) }
    }))
    .await
}

/// Delivers a batch. What failed is named and postponed.
async fn consume(queue: &DeliveryQueue, fanout: &Fanout, messages: Vec<SqsMessage>) -> SqsBatchResponse {
    let mut failed = Vec::new();
    let mut readable = Vec::new();
    let mut parcels = Vec::new();
    for message in messages {
        match serde_json::from_str::<Parcel>(message.body.as_deref().unwrap_or_default()) {
            Ok(parcel) => {
                readable.push(message);
                parcels.push(parcel);
            }
            Err(error) => {
                // The line and column, not the content.
                tracing::error!(line = error.line(), column = error.column(), "a message that is no parcel");
                failed.push(message);
            }
        }
    }
    let again = fanout.deliver(&parcels).await;
    failed.extend(readable.into_iter().enumerate().filter(|(i, _)| again.contains(i)).map(|(_, message)| message));
    future::join_all(failed.iter().map(|message| hide(&queue.client, &queue.url, message, wait_s(receives(message)))))
        .await;
    response(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_comes_through_the_queue() {
        let text: String = (0..=0x0010_ffff).filter_map(char::from_u32).collect();
        let json = escaped(serde_json::to_string(&text).expect("JSON"));
        // What SQS takes, by its documentation.
        let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
        assert!(json.chars().all(allowed));
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let waits: Vec<u32> = [0, 1, 2, 3, 7, 8, 1000].map(wait_s).to_vec();
        assert_eq!(waits, [1, 1, 2, 4, 60, 60, 60]);
    }
}
