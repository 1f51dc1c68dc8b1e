//! A device that speaks the wire and nothing more: where many are needed, or where the library's own part is not to be
//! measured.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use poste_protocol::{
    ConversationId, DeviceId, Envelope, EnvelopeId, Event, FromServer, Message, MessageId, Number, Outcome, Reference,
    Request, SendFrame, Sent, Seq, Submission, UserId,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::local::Local;

/// Frames that came and were not looked at; more than any measurement lets come.
const FRAMES: usize = 100_000;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connected device.
pub(crate) struct Device {
    user: UserId,
    up: SplitSink<Socket, tungstenite::Message>,
    down: mpsc::Receiver<(Instant, FromServer)>,
    reading: JoinHandle<()>,
    asked: u64,
    /// What was delivered while something else was waited for: a queue keeps no order.
    heard: HashMap<EnvelopeId, Instant>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Device {
    /// Connects a user's device.
    pub(crate) async fn connect(local: &Local, user: &UserId, device: &str) -> anyhow::Result<Self> {
        let device = DeviceId::new(device)?;
        let mut request = format!("{}?device={device}", local.stack().socket_url).into_client_request()?;
        let token = format!("Bearer {}", local.token(user).await?);
        request.headers_mut().insert(AUTHORIZATION, token.parse()?);
        let opening = tokio::time::timeout(PATIENCE, connect_async_with_config(request, None, true));
        let (socket, _) = opening.await.context("a handshake is not answered")??;
        let (up, mut from) = socket.split();
        let (frames, down) = mpsc::channel(FRAMES);
        // Beside everything else, so that the time of a frame is that of its coming.
        let reading = tokio::spawn(async move {
            while let Some(Ok(message)) = from.next().await {
                let came = Instant::now();
                let Ok(text) = message.to_text() else { continue };
                let Ok(frame) = serde_json::from_str(text) else { continue };
                if frames.send((came, frame)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { user: user.clone(), up, down, reading, asked: 0, heard: HashMap::new() })
    }

    /// Whose it is.
    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// A reference for the next request.
    pub(crate) fn reference(&mut self) -> anyhow::Result<Reference> {
        self.asked += 1;
        Reference::new(format!("r{}", self.asked)).map_err(anyhow::Error::msg)
    }

    /// Sends a request.
    pub(crate) async fn post(&mut self, request: &Request) -> anyhow::Result<()> {
        self.say(serde_json::to_string(request)?).await
    }

    /// Sends text as it is.
    pub(crate) async fn say(&mut self, text: String) -> anyhow::Result<()> {
        Ok(self.up.send(tungstenite::Message::text(text)).await?)
    }

    /// The next frame of the kind that is wanted, with the time at which it came. Others are passed over.
    pub(crate) async fn next<T>(&mut self, wanted: impl Fn(FromServer) -> Option<T>) -> anyhow::Result<(Instant, T)> {
        let search = async {
            while let Some((came, frame)) = self.down.recv().await {
                if let Some(found) = wanted(frame) {
                    return Ok((came, found));
                }
            }
            bail!("the connection of {} is lost", self.user)
        };
        tokio::time::timeout(PATIENCE, search).await.context("what was waited for does not come")?
    }

    /// Sends envelopes in one frame, until all are taken. Gives how long the answer took, and their places.
    pub(crate) async fn send(&mut self, envelopes: Vec<Envelope>) -> anyhow::Result<(Duration, Vec<Seq>)> {
        let submission = |envelope| Submission { envelope, age_ms: 0, attempt: 1, resolved: None };
        let submissions: Vec<Submission> = envelopes.into_iter().map(submission).collect();
        let reference = self.reference()?;
        let began = Instant::now();
        self.post(&Request::Send(SendFrame { reference: reference.clone(), submissions, marks: Vec::new() })).await?;
        let (came, sent) = self.next(|frame| answer_to(&reference, frame)).await?;
        let FromServer::Sent(Sent { verdicts, .. }) = sent else { bail!("refused: {sent:?}") };
        let place = |outcome| match outcome {
            Outcome::Accepted { seq, .. } => Ok(seq),
            Outcome::Refused { error } => bail!("refused: {error}"),
        };
        let places = verdicts.into_iter().map(|verdict| place(verdict.outcome)).collect::<anyhow::Result<_>>()?;
        Ok((came - began, places))
    }

    /// Waits for the delivery of an envelope. Of several deliveries the first counts.
    pub(crate) async fn hears(&mut self, envelope: EnvelopeId) -> anyhow::Result<Instant> {
        let delivered = |frame| match frame {
            FromServer::Delivery(delivery) => {
                let cells = delivery.items.into_iter().flat_map(|item| item.cells);
                Some(cells.map(|cell| cell.envelope).collect::<Vec<_>>())
            }
            _ => None,
        };
        loop {
            if let Some(came) = self.heard.remove(&envelope) {
                return Ok(came);
            }
            let (came, envelopes) = self.next(delivered).await?;
            for one in envelopes {
                self.heard.entry(one).or_insert(came);
            }
        }
    }
}

/// A frame, if it answers this request.
pub(crate) fn answer_to(reference: &Reference, frame: FromServer) -> Option<FromServer> {
    (frame.reference() == Some(reference)).then_some(frame)
}

/// An envelope to a user, with these bodies.
pub(crate) fn letter(from: &UserId, to: &UserId, number: u64, bodies: &[String]) -> anyhow::Result<Envelope> {
    Ok(Envelope {
        id: EnvelopeId::fresh(),
        conversation: ConversationId::direct(from, to),
        to: Some(to.clone()),
        number: Number::new(number)?,
        messages: bodies.iter().map(|body| Message::new(MessageId::fresh(), body)).collect(),
    })
}

/// An envelope to a group: words, or an event.
pub(crate) fn to_group(
    group: &ConversationId,
    number: u64,
    body: &str,
    event: Option<Event>,
) -> anyhow::Result<Envelope> {
    let message = Message { event, ..Message::new(MessageId::fresh(), body) };
    Ok(Envelope {
        id: EnvelopeId::fresh(),
        conversation: group.clone(),
        to: None,
        number: Number::new(number)?,
        messages: vec![message],
    })
}
