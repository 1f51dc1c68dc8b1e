//! Pieces of what calls the tables: the real ports and the real SDK, whose requests are answered on the spot. What the
//! network and the table take is not in it, and everything else is.

use std::sync::Arc;

use anyhow::{anyhow, ensure};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use poste_aws::LogTable;
use poste_domain::ports::{Log, Slot};
use poste_protocol::{Cell, ConversationId, Seq};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Piece;
use crate::account::conversation;
use crate::functions::{cells, runtime};

/// Cells of an answer.
const FOUND: u32 = 100;

/// Gives every request the same answer.
#[derive(Debug)]
struct Answer(Arc<str>);

impl HttpConnector for Answer {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = StatusCode::try_from(200).expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(&*self.0))))
    }
}

/// The log, whose requests are all answered with this.
fn log(answer: &Value) -> LogTable {
    let connector = SharedHttpConnector::new(Answer(answer.to_string().into()));
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("a", "b", None, None, "measured"))
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    LogTable::new(aws_sdk_dynamodb::Client::from_conf(config), "log".to_owned())
}

/// An item as the table tells it.
fn item(conversation: &ConversationId, cell: &Cell) -> anyhow::Result<Value> {
    let number = |number: u64| json!({ "N": number.to_string() });
    Ok(json!({
        "conversation": { "S": conversation },
        "seq": number(cell.seq.get()),
        "id": { "B": base64::encode(cell.envelope.0.as_bytes()) },
        "n": number(cell.number.get()),
        "user": { "S": cell.by.user },
        "device": { "S": cell.by.device },
        "at": number(cell.at),
        "messages": { "S": serde_json::to_string(&cell.messages)? },
    }))
}

/// Putting a cell.
pub(crate) struct Putting {
    runtime: Runtime,
    log: LogTable,
    conversation: ConversationId,
    slot: Slot,
}

impl Putting {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let cell = cells(1, 1)?.remove(0);
        let (log, conversation) = (log(&json!({})), conversation(0)?);
        Ok(Self { runtime: runtime()?, log, conversation, slot: Slot::Cell(cell) })
    }
}

impl Piece for Putting {
    fn act(&mut self) -> anyhow::Result<()> {
        let put = self.runtime.block_on(self.log.put(&self.conversation, &self.slot, None));
        let there = put.map_err(|trouble| anyhow!("{trouble}"))?;
        ensure!(there.is_none(), "{there:?}");
        Ok(())
    }
}

/// Reading cells.
pub(crate) struct Looking {
    runtime: Runtime,
    log: LogTable,
    conversation: ConversationId,
}

impl Looking {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let conversation = conversation(0)?;
        let cells = cells(1, FOUND.into())?;
        let items: Vec<Value> = cells.iter().map(|cell| item(&conversation, cell)).collect::<anyhow::Result<_>>()?;
        let log = log(&json!({ "Items": items, "Count": FOUND, "ScannedCount": FOUND }));
        Ok(Self { runtime: runtime()?, log, conversation })
    }
}

impl Piece for Looking {
    fn act(&mut self) -> anyhow::Result<()> {
        let found = self.runtime.block_on(self.log.after(&self.conversation, Seq::ZERO, FOUND));
        let slots = found.map_err(|trouble| anyhow!("{trouble}"))?.slots;
        ensure!(slots.len() == FOUND as usize, "{} slots", slots.len());
        Ok(())
    }
}
