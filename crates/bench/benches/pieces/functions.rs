//! Pieces of the functions, on the rules' ports in memory where they need any.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{anyhow, ensure};
use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use poste_aws::gateway;
use poste_domain::append::{Append, Settings};
use poste_domain::fanout::Fanout;
use poste_domain::lane::{Standing, judge};
use poste_domain::ports::{Clock, Connection, Connections, News, Parcel};
use poste_domain::read::Read;
use poste_domain::{Claim, Failure, Lane, Retention};
use poste_protocol::{
    Author, Cell, ConversationId, Delivery, DeliveryItem, DeviceId, Envelope, EnvelopeId, Fetch, FromServer, Number,
    Outcome, Reference, Request, SendFrame, Seq, Submission, UserId, parse,
};
use poste_sim::{Weather, World};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::Piece;
use crate::account::{cell, conversation, me, message, peer};

/// Lanes that fit into a head, as in the table.
const LANES_IN_HEAD: usize = 10;
/// Messages of the log that is read.
const LOGGED: u64 = 500;
/// Parcels that are joined.
const JOINED: u64 = 10;
/// Members of the group.
const MEMBERS: u64 = 100;
/// Cells of a delivery.
const DELIVERED: u64 = 25;
/// How long connections are good for.
const HOUR_MS: u64 = 3_600_000;

/// One thread, which never waits: the ports answer at once.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn world() -> Arc<World> {
    Arc::new(World::new(Weather::none(), LANES_IN_HEAD))
}

fn failed(failure: Failure) -> anyhow::Error {
    anyhow!("{}", failure.into_refusal())
}

fn reference() -> anyhow::Result<Reference> {
    Reference::new("r1").map_err(anyhow::Error::msg)
}

/// An envelope of ours with one message, to the peer of conversation 0.
fn submission(number: u64) -> anyhow::Result<Submission> {
    let envelope = Envelope {
        id: EnvelopeId::fresh(),
        conversation: conversation(0)?,
        to: Some(peer(0)?),
        number: Number::new(number)?,
        messages: vec![message(number)],
    };
    Ok(Submission { envelope, age_ms: 0, attempt: 1, resolved: None })
}

fn send_frame() -> anyhow::Result<String> {
    let frame = SendFrame { reference: reference()?, submissions: vec![submission(1)?], marks: Vec::new() };
    Ok(serde_json::to_string(&Request::Send(frame))?)
}

/// Reading the gateway's event.
pub(crate) struct Gateway {
    text: String,
}

impl Gateway {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let Author { user, device } = me()?;
        let event = json!({
            "requestContext": {
                "routeKey": "send",
                "eventType": "MESSAGE",
                "messageId": "G1wIfcmYIAMCJRw=",
                "extendedRequestId": "G1wIfH2QoAMFuGg=",
                "requestTime": "29/Nov/2026:23:00:00 +0000",
                "messageDirection": "IN",
                "stage": "prod",
                "connectedAt": 1_796_000_000_000_u64,
                "requestTimeEpoch": 1_796_000_001_000_u64,
                "identity": { "sourceIp": "192.0.2.1", "userAgent": null },
                "requestId": "G1wIfH2QoAMFuGg=",
                "domainName": "abcdefghij.execute-api.us-east-1.amazonaws.com",
                "connectionId": "G1wIfcmYIAMCJRw=",
                "apiId": "abcdefghij",
                "authorizer": {
                    "principalId": user,
                    "user": user,
                    "device": device,
                    "expires": "1796003600",
                    "integrationLatency": 9,
                },
            },
            "body": send_frame()?,
            "isBase64Encoded": false,
        });
        Ok(Self { text: event.to_string() })
    }
}

impl Piece for Gateway {
    fn act(&mut self) -> anyhow::Result<()> {
        let request: ApiGatewayWebsocketProxyRequest = serde_json::from_str(&self.text)?;
        black_box(gateway::read(request).map_err(|error| anyhow!("{error}"))?);
        Ok(())
    }
}

/// Reading a frame.
pub(crate) struct Parse {
    text: String,
}

impl Parse {
    pub(crate) fn make() -> anyhow::Result<Self> {
        Ok(Self { text: send_frame()? })
    }
}

impl Piece for Parse {
    fn act(&mut self) -> anyhow::Result<()> {
        black_box(parse::<SendFrame>(&self.text).map_err(|error| anyhow!("{}", error.refusal))?);
        Ok(())
    }
}

/// Judging claims of all kinds, as many of each.
pub(crate) struct Judge {
    pairs: Vec<(Claim, Option<Lane>)>,
}

impl Judge {
    pub(crate) fn make() -> Self {
        let claim = |number: u64, id: u128, count| {
            let number = Number::new(number).unwrap_or(Number::FIRST);
            Claim { number, id: EnvelopeId(Uuid::from_u128(id)), count }
        };
        let lane = Lane::taken(&claim(5, 50, 1), Seq::ZERO.plus(9));
        let kinds = [
            (claim(1, 10, 1), None),
            (claim(6, 60, 1), Some(lane)),
            (claim(5, 50, 1), Some(lane)),
            (claim(4, 40, 1), Some(lane)),
            (claim(5, 51, 1), Some(lane)),
        ];
        Self { pairs: kinds.into_iter().cycle().take(1_000).collect() }
    }
}

impl Piece for Judge {
    fn act(&mut self) -> anyhow::Result<()> {
        let is_new =
            |(claim, lane): &&(Claim, Option<Lane>)| judge(black_box(claim), black_box(*lane)) == Standing::New;
        let new = self.pairs.iter().filter(is_new).count();
        ensure!(new == 400, "{new} of them are new");
        Ok(())
    }
}

/// Appending, one envelope after the other.
pub(crate) struct Appending {
    runtime: Runtime,
    append: Append,
    me: Author,
    written: u64,
    next: Option<Submission>,
}

impl Appending {
    fn on(world: &Arc<World>) -> anyhow::Result<Self> {
        let w = || world.clone();
        let append = Append::new(w(), w(), w(), w(), w(), w(), Settings::default());
        Ok(Self { runtime: runtime()?, append, me: me()?, written: 0, next: None })
    }

    pub(crate) fn make() -> anyhow::Result<Self> {
        Self::on(&world())
    }
}

impl Piece for Appending {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.next = Some(submission(self.written + 1)?);
        Ok(())
    }

    fn act(&mut self) -> anyhow::Result<()> {
        let Some(next) = self.next.take() else { return Ok(()) };
        let outcome = self.runtime.block_on(self.append.append(&self.me, &next)).map_err(failed)?;
        self.written += 1;
        let is_next = matches!(&outcome, Outcome::Accepted { seq, repeat: false, .. } if seq.get() == self.written);
        ensure!(is_next, "{outcome:?}");
        Ok(())
    }
}

/// Reading a log from its beginning.
pub(crate) struct Paging {
    runtime: Runtime,
    read: Read,
    me: Author,
    conversation: ConversationId,
}

impl Paging {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let world = world();
        let mut writing = Appending::on(&world)?;
        for _ in 0..LOGGED {
            writing.prepare()?;
            writing.act()?;
        }
        let w = || world.clone();
        let read = Read::new(w(), w(), w(), w(), w(), Retention::FOREVER);
        Ok(Self { runtime: runtime()?, read, me: me()?, conversation: conversation(0)? })
    }
}

impl Piece for Paging {
    fn act(&mut self) -> anyhow::Result<()> {
        let limit = u32::try_from(LOGGED).ok();
        let mut fetch = Fetch {
            reference: reference()?,
            conversation: self.conversation.clone(),
            after: None,
            before: None,
            limit,
        };
        let mut read = 0;
        fetch.after = Some(Seq::ZERO);
        loop {
            let page = self.runtime.block_on(self.read.page(&self.me, &fetch)).map_err(failed)?;
            read += page.cells.len() as u64;
            fetch.after = Some(page.through);
            if !page.more {
                break;
            }
        }
        ensure!(read == LOGGED, "{read} cells");
        Ok(())
    }
}

/// Delivering to whoever is connected.
struct Delivering {
    runtime: Runtime,
    fanout: Fanout,
    parcels: Vec<Parcel>,
    sockets: Vec<UnboundedReceiver<String>>,
    /// How many frames the last time has posted.
    frames: usize,
}

impl Delivering {
    /// Members of a conversation, each with one device that is connected, and parcels from the first of them.
    fn of(conversation: &ConversationId, members: &[Author], parcels: u64) -> anyhow::Result<Self> {
        let (world, runtime) = (world(), runtime()?);
        let users: Vec<UserId> = members.iter().map(|member| member.user.clone()).collect();
        world.admit_all(conversation, &users);
        let mut sockets = Vec::new();
        for (n, member) in members.iter().enumerate() {
            let (since_ms, id) = (world.now_ms(), format!("connection-{n}"));
            sockets.push(world.open(&id));
            let connection = Connection { id, since_ms, until_ms: since_ms + HOUR_MS };
            runtime.block_on(world.register(member, &connection)).map_err(|trouble| anyhow!("{trouble}"))?;
        }
        let from = members.first().cloned().map_or_else(me, Ok)?;
        let parcels = (1..=parcels)
            .map(|place| {
                let cell = cell(Seq::new(place)?, from.clone(), Number::new(place)?, vec![message(place)]);
                Ok(Parcel::of(&from, conversation, Seq::ZERO, News::Cell(cell)))
            })
            .collect::<anyhow::Result<_>>()?;
        let w = || world.clone();
        let fanout = Fanout::new(w(), w(), w(), w(), w());
        Ok(Self { runtime, fanout, parcels, sockets, frames: 0 })
    }
}

impl Piece for Delivering {
    /// Takes the frames of the last time off the sockets: one for everybody but the author.
    fn prepare(&mut self) -> anyhow::Result<()> {
        let mut posted = 0;
        for socket in &mut self.sockets {
            while socket.try_recv().is_ok() {
                posted += 1;
            }
        }
        ensure!(posted == self.frames, "{posted} frames, and not {}", self.frames);
        Ok(())
    }

    fn act(&mut self) -> anyhow::Result<()> {
        let failed = self.runtime.block_on(self.fanout.deliver(&self.parcels));
        ensure!(failed.is_empty(), "{failed:?} come again");
        self.frames = self.sockets.len() - 1;
        Ok(())
    }
}

/// Joining parcels for one device.
pub(crate) struct Joining(Delivering);

impl Joining {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let members = [me()?, Author { user: peer(0)?, device: DeviceId::new("laptop")? }];
        Ok(Self(Delivering::of(&conversation(0)?, &members, JOINED)?))
    }
}

/// Delivering to a group.
pub(crate) struct Spreading(Delivering);

impl Spreading {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let member = |n| Ok(Author { user: peer(n)?, device: DeviceId::new("phone")? });
        let members = (0..MEMBERS).map(member).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self(Delivering::of(&ConversationId::group(), &members, 1)?))
    }
}

macro_rules! deliver {
    ($($piece:ty),+) => {
        $(impl Piece for $piece {
            fn prepare(&mut self) -> anyhow::Result<()> {
                self.0.prepare()
            }

            fn act(&mut self) -> anyhow::Result<()> {
                self.0.act()
            }
        })+
    };
}

deliver!(Joining, Spreading);

/// Cells of the peer of conversation 0, from a number on.
pub(crate) fn cells(first: u64, count: u64) -> anyhow::Result<Vec<Cell>> {
    let theirs = Author { user: peer(0)?, device: DeviceId::new("laptop")? };
    (first..first + count)
        .map(|place| Ok(cell(Seq::new(place)?, theirs.clone(), Number::new(place)?, vec![message(place)])))
        .collect()
}

/// A delivery of such cells.
pub(crate) fn delivery(first: u64) -> anyhow::Result<FromServer> {
    let (conversation, cells) = (conversation(0)?, cells(first, DELIVERED)?);
    Ok(FromServer::Delivery(Delivery { items: vec![DeliveryItem { conversation, cells, marks: Vec::new() }] }))
}

/// Writing a frame out.
pub(crate) struct Writing {
    frame: FromServer,
}

impl Writing {
    pub(crate) fn make() -> anyhow::Result<Self> {
        Ok(Self { frame: delivery(1)? })
    }
}

impl Piece for Writing {
    fn act(&mut self) -> anyhow::Result<()> {
        black_box(serde_json::to_string(&self.frame)?);
        Ok(())
    }
}
