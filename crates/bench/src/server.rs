//! A server that answers at once and is never wrong, so that what is measured is the device's own part.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, bail, ensure};
use poste_protocol::{
    Cell, ConversationId, FromServer, ListPage, Mark, MarkResult, Marked, Outcome, Page, Pages, Request, Sent, Seq,
    Summary, Verdict, limits,
};

/// What it knows of the conversations.
#[derive(Debug, Default)]
pub(crate) struct Server {
    /// Where each log ends.
    heads: BTreeMap<ConversationId, Seq>,
    /// The pages that are still to be fetched, of one conversation.
    pages: VecDeque<(ConversationId, Vec<Cell>)>,
}

impl Server {
    /// A log that ends there.
    pub(crate) fn has(&mut self, conversation: ConversationId, head: Seq) {
        self.heads.insert(conversation, head);
    }

    /// A page that comes next.
    pub(crate) fn add_page(&mut self, conversation: ConversationId, cells: Vec<Cell>) {
        if let Some(last) = cells.last() {
            self.heads.insert(conversation.clone(), last.last());
        }
        self.pages.push_back((conversation, cells));
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, frame: &str) -> anyhow::Result<String> {
        let answer = match serde_json::from_str(frame)? {
            Request::List(list) => FromServer::List(ListPage {
                reference: list.reference,
                conversations: self.pages.front().map(|(id, _)| self.summary(id)).into_iter().collect(),
                before: 0,
                follows: false,
                next: None,
                receipts_off: false,
                spread_ms: 0,
            }),
            Request::Send(send) => {
                let mut verdicts = Vec::new();
                for submission in send.submissions {
                    let head = self.heads.entry(submission.envelope.conversation.clone()).or_insert(Seq::ZERO);
                    let seq = head.next();
                    *head = head.plus(submission.envelope.count());
                    let outcome = Outcome::Accepted { seq, at: seq.get(), repeat: false };
                    verdicts.push(Verdict { envelope: submission.envelope.id, outcome });
                }
                FromServer::Sent(Sent { reference: send.reference, verdicts, marks: taken(send.marks) })
            }
            Request::Sync(sync) => {
                let (conversation, cells) = self.pages.pop_front().context("nothing is left to fetch")?;
                let after = sync.ranges.first().and_then(|range| range.after).unwrap_or_default();
                let through = cells.last().map_or(after, Cell::last);
                let head = self.heads.get(&conversation).copied().unwrap_or(through);
                let more = through < head;
                let page = Page {
                    reference: None,
                    conversation,
                    after,
                    through,
                    cells,
                    floor: Seq::ZERO,
                    head,
                    more,
                    retry_after_ms: None,
                };
                FromServer::Pages(Pages {
                    reference: sync.reference,
                    pages: vec![page],
                    refused: Vec::new(),
                    follows: false,
                })
            }
            Request::Mark(mark) => FromServer::Marked(Marked { reference: mark.reference, results: taken(mark.marks) }),
            Request::Hello(_)
            | Request::Watch(_)
            | Request::Away(_)
            | Request::Typing(_)
            | Request::Push(_)
            | Request::Mute(_) => bail!("nobody is idle here, or asleep, and nobody looks"),
            Request::Marks(_) | Request::Receipts(_) => bail!("nobody asks here"),
            Request::Media(_) => bail!("nobody has files here"),
            Request::Members(_) => bail!("there are no groups here"),
            Request::Fetch(_) => bail!("nobody goes back here"),
        };
        let text = serde_json::to_string(&answer)?;
        ensure!(text.len() <= limits::FRAME_BYTES, "no frame has {} bytes", text.len());
        Ok(text)
    }

    fn summary(&self, id: &ConversationId) -> Summary {
        let head = self.heads.get(id).copied().unwrap_or(Seq::ZERO);
        Summary {
            conversation: id.clone(),
            peer: None,
            group: None,
            head,
            floor: Seq::ZERO,
            active_at: head.get(),
            marks: Vec::new(),
            unread: 0,
            last: None,
        }
    }
}

fn taken(marks: Vec<Mark>) -> Vec<MarkResult> {
    marks.into_iter().map(|mark| MarkResult { conversation: mark.conversation, error: None }).collect()
}
