//! From the delivery queue to live connections.
//!
//! A parcel that comes here is in the log already; what is lost here is fetched later. Whoever cannot be reached holds
//! up nobody: posts go out side by side, and only parcels of which a post failed come back to the queue.
//!
//! A parcel for a large group goes back to the queue in parts, which several functions deliver side by side: how many
//! are in a group decides how many parts there are, and not how long one function is at it.
//!
//! Beside the posts, and in nobody's way, wake-ups are queued for who may not hear them. A parcel whose wake-up could
//! not be queued comes again: devices take a second post of it for the repeat that it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use poste_protocol::{Author, Delivery, DeliveryItem, DeviceId, FromServer, MemberMark, Seq, UserId, limits};

use crate::{
    Member, Membership, Trouble,
    cache::Cache,
    ports::{Audience, Callback, Clock, Connection, Connections, Courier, Members, News, Parcel, Part, Posted},
    roster::Rosters,
    wake::Alarms,
    way,
};

/// Users of whom a function remembers whether they get read receipts, and for how long, in milliseconds.
const CACHE_ENTRIES: usize = 10_000;
const CACHE_MS: u64 = 5_000;

/// Posts under way at once.
const POSTS_AT_ONCE: usize = 64;

/// Members that one parcel is delivered to: their connections are one read.
const PART: usize = 100;

/// A connection does not exist for the gateway before its registration has been answered, which it gives at most 29 s:
/// a young connection that is "gone" may still be about to open, and stays registered. Its device fetches when it is
/// open, so nothing is missed.
pub const SETTLING_MS: u64 = 30_000;

/// Bytes of a frame that its items do not fill: `{"type":"delivery","items":[]}` with room.
const FRAME_OVERHEAD: usize = 64;

/// Bytes that an item takes beside its news: the conversation's id and the names of the fields, with room.
const ITEM_OVERHEAD: usize = 64 + limits::CONVERSATION_ID;

/// Delivers parcels.
pub struct Fanout {
    connections: Arc<dyn Connections>,
    callback: Arc<dyn Callback>,
    courier: Arc<dyn Courier>,
    rosters: Rosters,
    members: Arc<dyn Members>,
    /// Whether users get read receipts.
    receipts: Cache<UserId, bool>,
    clock: Arc<dyn Clock>,
    alarms: Option<Alarms>,
    part: usize,
}

impl Fanout {
    /// On these ports.
    pub fn new(
        members: Arc<dyn Members>,
        connections: Arc<dyn Connections>,
        callback: Arc<dyn Callback>,
        courier: Arc<dyn Courier>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (rosters, receipts) = (Rosters::new(members.clone(), clock.clone()), Cache::new(CACHE_ENTRIES, CACHE_MS));
        Self { connections, callback, courier, rosters, members, receipts, clock, alarms: None, part: PART }
    }

    /// The same with parts of so many members.
    #[must_use]
    pub fn in_parts_of(self, part: usize) -> Self {
        Self { part: part.max(1), ..self }
    }

    /// The same with wake-ups for who may not hear it.
    #[must_use]
    pub fn with(self, alarms: Option<Alarms>) -> Self {
        Self { alarms, ..self }
    }

    /// Posts each parcel to every live device that may see it, but the one it comes from. Parcels for one connection
    /// share frames. Returns the positions of those that must come again.
    pub async fn deliver(&self, parcels: &[Parcel]) -> BTreeSet<usize> {
        let mut failed = BTreeSet::new();
        let mut audience: BTreeMap<UserId, Vec<Heard>> = BTreeMap::new();
        for (position, parcel) in parcels.iter().enumerate() {
            match self.hearers(parcel).await {
                Ok(users) if parcel.audience == Audience::Everyone && users.len() > self.part => {
                    if let Err(trouble) = self.split(parcel, users).await {
                        tracing::warn!(%trouble, "cannot queue the parts of a parcel");
                        failed.insert(position);
                    }
                }
                Ok(users) => {
                    for (user, is_in) in users {
                        audience.entry(user).or_default().push(Heard { position, is_in });
                    }
                }
                Err(trouble) => {
                    tracing::warn!(%trouble, "cannot find the members");
                    failed.insert(position);
                }
            }
        }
        if audience.is_empty() {
            return failed;
        }
        let users: Vec<UserId> = audience.keys().cloned().collect();
        let connections = match self.connections.of(&users).await {
            Ok(connections) => connections,
            Err(trouble) => {
                tracing::warn!(%trouble, "cannot find the connections");
                failed.extend(audience.into_values().flatten().map(|heard| heard.position));
                return failed;
            }
        };
        let without_receipts = match self.without_receipts(parcels, &audience).await {
            Ok(users) => users,
            Err(trouble) => {
                tracing::warn!(%trouble, "cannot find who gets no read receipts");
                // Nobody gets any for now; marks come again.
                let marks = parcels.iter().enumerate().filter(|(_, parcel)| parcel.marks_of_it().next().is_some());
                failed.extend(marks.map(|(position, _)| position));
                users.into_iter().collect()
            }
        };
        let now = self.clock.now_ms();
        let live: Vec<_> = connections.into_iter().filter(|(_, _, connection)| connection.until_ms > now).collect();
        let connected: BTreeSet<UserId> = live.iter().map(|(user, ..)| user.clone()).collect();
        let (unposted, unqueued) = futures::join!(
            self.post_all(parcels, &audience, &without_receipts, live),
            self.set_alarms(parcels, &audience, &connected, now)
        );
        failed.extend(unposted);
        failed.extend(unqueued);
        failed
    }

    /// Queues a parcel in parts. Should one fail, it comes again as a whole: devices know repeats.
    async fn split(&self, parcel: &Parcel, users: Vec<(UserId, bool)>) -> Result<(), Trouble> {
        let mut users: Vec<_> = users.into_iter().map(|(user, _)| user).collect();
        users.sort();
        let parts = Part::of(&users, self.part).into_iter().map(|part| async move {
            self.courier.publish(&Parcel { audience: Audience::Part(part), ..parcel.clone() }).await
        });
        futures::future::try_join_all(parts).await.map(|_| ())
    }

    /// Posts to every live connection what its user may hear. Returns the positions of what could not be posted.
    async fn post_all(
        &self,
        parcels: &[Parcel],
        audience: &BTreeMap<UserId, Vec<Heard>>,
        without_receipts: &BTreeSet<UserId>,
        live: Vec<(UserId, DeviceId, Connection)>,
    ) -> BTreeSet<usize> {
        let posts = live.into_iter().flat_map(|(user, device, connection)| {
            let author = Author { user, device };
            let heard = audience.get(&author.user).map(Vec::as_slice).unwrap_or_default();
            let unread = without_receipts.contains(&author.user);
            let is_news = |parcel: &Parcel| {
                parcel.from != author && !(unread && parcel.only_read && parcel.from.user != author.user)
            };
            let heard = heard.iter().copied().filter(|heard| is_news(&parcels[heard.position]));
            frames(parcels, heard, unread.then_some(&author.user))
                .into_iter()
                .map(move |frame| (author.clone(), connection.clone(), frame))
        });
        let (mut failed, mut posts_of) = (BTreeSet::new(), vec![(0, 0); parcels.len()]);
        let outcomes = stream::iter(posts)
            .map(|(author, connection, frame)| async move {
                let posted = self.post(&author, &connection, &frame.text).await;
                (frame.positions, posted)
            })
            .buffer_unordered(POSTS_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (positions, posted) in outcomes {
            for position in &positions {
                let (posts, failures) = &mut posts_of[*position];
                *(if posted.is_ok() { posts } else { failures }) += 1;
            }
            if let Err(trouble) = posted {
                tracing::warn!(%trouble, "cannot post");
                failed.extend(positions);
            }
        }
        for (parcel, (posts, failures)) in parcels.iter().zip(posts_of) {
            if let Some((_, cell)) = parcel.cell() {
                way::delivered(parcel, posts, failures, self.clock.now_ms().saturating_sub(cell.at));
            }
        }
        failed
    }

    /// Queues wake-ups for what was written. Returns the positions of what could not be queued.
    async fn set_alarms(
        &self,
        parcels: &[Parcel],
        audience: &BTreeMap<UserId, Vec<Heard>>,
        connected: &BTreeSet<UserId>,
        now: u64,
    ) -> BTreeSet<usize> {
        let Some(alarms) = &self.alarms else { return BTreeSet::new() };
        let mut heard: BTreeMap<usize, Vec<UserId>> = BTreeMap::new();
        for (user, parcels) in audience {
            for Heard { position, .. } in parcels {
                heard.entry(*position).or_default().push(user.clone());
            }
        }
        alarms.set(parcels, &heard, connected, now).await
    }

    /// Who hears of a parcel, and whether they are still in.
    async fn hearers(&self, parcel: &Parcel) -> Result<Vec<(UserId, bool)>, Trouble> {
        if parcel.audience == Audience::Own {
            // What somebody has done themselves they may know, and nobody has to be looked up for it.
            return Ok(vec![(parcel.from.user.clone(), true)]);
        }
        let roster = self.rosters.of(&parcel.conversation, parcel.roster).await?;
        let is_meant = |user: &UserId| match &parcel.audience {
            Audience::Everyone => true,
            Audience::Part(part) => part.holds(user),
            Audience::Own => *user == parcel.from.user,
            Audience::Others => *user != parcel.from.user,
        };
        let hears = |(user, member): &&(UserId, Member)| is_meant(user) && may_hear(&member.membership, &parcel.news);
        let hearer = |(user, member): &(UserId, Member)| (user.clone(), member.membership.is_open());
        Ok(roster.members.iter().filter(hears).map(hearer).collect())
    }

    /// Those of the hearers who get no read receipts, as far as that makes a difference.
    async fn without_receipts(
        &self,
        parcels: &[Parcel],
        audience: &BTreeMap<UserId, Vec<Heard>>,
    ) -> Result<BTreeSet<UserId>, Trouble> {
        let differs = |user: &UserId, parcel: &Parcel| {
            parcel.marks_of_it().any(|mark| mark.read > Seq::ZERO && mark.user != *user)
        };
        let concerned =
            |(user, heard): &(&UserId, &Vec<Heard>)| heard.iter().any(|heard| differs(user, &parcels[heard.position]));
        let (mut without, mut unknown) = (BTreeSet::new(), Vec::new());
        let now = self.clock.now_ms();
        for (user, _) in audience.iter().filter(concerned) {
            match self.receipts.get(user, now) {
                Some(true) => {}
                Some(false) => drop(without.insert(user.clone())),
                None => unknown.push(user.clone()),
            }
        }
        if !unknown.is_empty() {
            let found: BTreeSet<_> = self.members.without_receipts(&unknown).await?.into_iter().collect();
            for user in unknown {
                let off = found.contains(&user);
                self.receipts.put(user.clone(), !off, now);
                if off {
                    without.insert(user);
                }
            }
        }
        Ok(without)
    }

    async fn post(&self, author: &Author, connection: &Connection, frame: &str) -> Result<(), Trouble> {
        match self.callback.post(&connection.id, frame).await? {
            Posted::Taken => {}
            Posted::Gone if self.clock.now_ms().saturating_sub(connection.since_ms) < SETTLING_MS => {}
            Posted::Gone => self.connections.remove(author, &connection.id).await?,
        }
        Ok(())
    }
}

/// Whether a member is told: of what was written in their intervals, and of marks while they are in.
fn may_hear(membership: &Membership, news: &News) -> bool {
    match news {
        News::Cell(cell) => membership.sees(cell.seq),
        News::Mark(_) => membership.is_open(),
    }
}

/// A parcel that somebody hears of.
#[derive(Debug, Clone, Copy)]
struct Heard {
    position: usize,
    /// Whether they are still in. Who is not may be told what was written before, and of nobody how far they are.
    is_in: bool,
}

/// A frame, and the parcels that are in it.
struct Frame {
    text: String,
    positions: Vec<usize>,
}

/// Joins parcels into frames of at most 32 KiB: by conversation, cells ascending, each once. Of others' marks a user
/// who gets no read receipts is not told what was read.
fn frames(parcels: &[Parcel], heard: impl Iterator<Item = Heard>, unread: Option<&UserId>) -> Vec<Frame> {
    let mut sorted: Vec<Heard> = heard.collect();
    sorted.sort_by_key(|heard| {
        let parcel = &parcels[heard.position];
        let seq = match &parcel.news {
            News::Cell(cell) => Some(cell.seq),
            News::Mark(_) => None,
        };
        (&parcel.conversation, seq.is_none(), seq)
    });
    let mut frames = Vec::new();
    let mut items: Vec<DeliveryItem> = Vec::new();
    let mut held: Vec<usize> = Vec::new();
    let mut bytes = FRAME_OVERHEAD;
    for Heard { position, is_in } in sorted {
        let Parcel { conversation, news, marks, .. } = &parcels[position];
        let size = ITEM_OVERHEAD + length(news) + marks.iter().map(length).sum::<usize>();
        if bytes + size > limits::FRAME_BYTES && !items.is_empty() {
            frames.push(close(&mut items, &mut held));
            bytes = FRAME_OVERHEAD;
        }
        bytes += size;
        held.push(position);
        if items.last().is_none_or(|item| item.conversation != *conversation) {
            items.push(DeliveryItem { conversation: conversation.clone(), cells: Vec::new(), marks: Vec::new() });
        }
        let Some(item) = items.last_mut() else { continue };
        match news {
            News::Cell(cell) if item.cells.last().is_some_and(|last| last.seq == cell.seq) => {}
            News::Cell(cell) => item.cells.push(cell.clone()),
            News::Mark(_) => {}
        }
        for mark in parcels[position].marks_of_it().filter(|_| is_in) {
            let hidden = unread.is_some_and(|user| *user != mark.user);
            let mark = MemberMark { read: if hidden { Seq::ZERO } else { mark.read }, ..mark.clone() };
            // Of several marks of one device, one says it all.
            match item.marks.iter_mut().find(|m| m.user == mark.user && m.device == mark.device) {
                Some(known) => {
                    known.delivered = known.delivered.max(mark.delivered);
                    known.read = known.read.max(mark.read);
                }
                None => item.marks.push(mark),
            }
        }
    }
    if !items.is_empty() {
        frames.push(close(&mut items, &mut held));
    }
    frames
}

fn close(items: &mut Vec<DeliveryItem>, held: &mut Vec<usize>) -> Frame {
    let delivery = FromServer::Delivery(Delivery { items: std::mem::take(items) });
    let text = serde_json::to_string(&delivery).expect("a delivery has only plain fields");
    Frame { text, positions: std::mem::take(held) }
}

/// What something takes in a frame, at most.
fn length(news: &impl serde::Serialize) -> usize {
    serde_json::to_string(news).map_or(usize::MAX / 4, |json| json.len())
}

#[cfg(test)]
mod tests {
    use poste_protocol::{Cell, ConversationId, DeviceId, EnvelopeId, Message, MessageId, Number};
    use uuid::Uuid;

    use super::*;

    fn author(user: &str) -> Author {
        Author { user: UserId::new(user).expect("valid"), device: DeviceId::new("phone").expect("valid") }
    }

    fn cell(conversation: &str, seq: u64, bytes: usize) -> Parcel {
        let message = Message::new(MessageId(Uuid::from_u128(9)), "x".repeat(bytes));
        let cell = Cell {
            seq: Seq::ZERO.plus(seq),
            envelope: EnvelopeId(Uuid::from_u128(u128::from(seq))),
            number: Number::FIRST,
            by: author("alice"),
            at: 5,
            messages: vec![message],
        };
        let conversation = ConversationId::new(conversation).expect("valid");
        Parcel::of(&author("alice"), &conversation, Seq::ZERO, News::Cell(cell))
    }

    fn mark(conversation: &str, delivered: u64) -> Parcel {
        let Author { user, device } = author("bob");
        let mark = MemberMark { user, device, delivered: Seq::ZERO.plus(delivered), read: Seq::ZERO };
        let conversation = ConversationId::new(conversation).expect("valid");
        Parcel::of(&author("bob"), &conversation, Seq::ZERO, News::Mark(mark))
    }

    fn all(parcels: &[Parcel]) -> impl Iterator<Item = Heard> {
        (0..parcels.len()).map(|position| Heard { position, is_in: true })
    }

    #[test]
    fn everybody_is_in_exactly_one_part_whoever_comes() {
        let users: Vec<UserId> = (0..25).map(|n| UserId::new(format!("u{n:02}")).expect("valid")).collect();
        let parts = Part::of(&users, 10);
        let held = |part: &Part| users.iter().filter(|user| part.holds(user)).count();
        assert_eq!(parts.iter().map(held).collect::<Vec<_>>(), [10, 10, 5]);
        for new in ["a", "u09a", "u10", "u19", "zoe"] {
            let new = UserId::new(new).expect("valid");
            assert_eq!(parts.iter().filter(|part| part.holds(&new)).count(), 1, "{new}");
        }
    }

    fn items(frame: &Frame) -> Vec<DeliveryItem> {
        match serde_json::from_str(&frame.text).expect("a frame") {
            FromServer::Delivery(delivery) => delivery.items,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parcels_for_one_connection_share_a_frame_in_the_logs_order() {
        let parcels =
            [cell("b", 2, 10), mark("a", 1), cell("a", 7, 10), cell("b", 1, 10), mark("a", 3), cell("b", 2, 10)];
        let frames = frames(&parcels, all(&parcels), None);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].positions.len(), parcels.len());
        let items = items(&frames[0]);
        let seqs: Vec<Vec<u64>> = items.iter().map(|i| i.cells.iter().map(|c| c.seq.get()).collect()).collect();
        assert_eq!(seqs, [vec![7], vec![1, 2]], "conversations apart, ascending, each cell once");
        assert_eq!(items[0].marks.len(), 1);
        assert_eq!(items[0].marks[0].delivered.get(), 3);
    }

    #[test]
    fn what_rides_along_is_for_who_is_in() {
        let News::Mark(riding) = mark("a", 6).news else { panic!("a mark") };
        let riding = MemberMark { read: Seq::ZERO.plus(5), ..riding };
        let parcels = [Parcel { marks: vec![riding.clone()], ..cell("a", 7, 10) }];
        let told = |is_in, unread: Option<&UserId>| {
            let frames = frames(&parcels, std::iter::once(Heard { position: 0, is_in }), unread);
            let [item] = items(&frames[0]).try_into().expect("one conversation");
            assert_eq!(item.cells.len(), 1, "what was written is told in any case");
            item.marks
        };
        assert_eq!(told(true, None), std::slice::from_ref(&riding));
        assert_eq!(told(false, None), []);
        let hidden = MemberMark { read: Seq::ZERO, ..riding };
        assert_eq!(told(true, Some(&author("alice").user)), [hidden], "to who gets no read receipts");
    }

    #[test]
    fn frames_stay_under_their_limit() {
        let parcels: Vec<Parcel> = (1..=20).map(|n| cell("a", n, 5_000)).collect();
        let frames = frames(&parcels, all(&parcels), None);
        assert!(frames.len() >= 4);
        assert!(frames.iter().all(|f| f.text.len() <= limits::FRAME_BYTES));
        let all: Vec<u64> = frames.iter().flat_map(items).flat_map(|i| i.cells).map(|c| c.seq.get()).collect();
        assert_eq!(all, (1..=20).collect::<Vec<_>>());
    }
}
