//! The part of a conversation that is in memory, and the part of it that is on the screen.
//!
//! The store has the list; the window is a run of it without gaps. It follows the newest messages, or ends at a place
//! of the log while older ones are looked at. What is missing is read in pages, one at a time, and what is far from
//! the screen is let go. All this counts in lines: how many a message takes, the caller says.

use poste_client::Message;
use poste_protocol::{MessageId, Seq, UserId};

/// Messages that are read at a time.
pub(crate) const PAGE: usize = 100;

/// Messages that are kept, but for those on the screen and those that have no place in the log.
const MOST: usize = 400;

/// Messages without a place in the log have nothing to be paged by. So many are gone through, no more.
const MOST_WAITING: usize = 5_000;

/// What is read of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// The newest, those that wait included.
    Newest { limit: usize },
    /// A page before a place.
    Older { before: Seq },
    /// Everything after one place up to another.
    Newer { after: Seq, upto: Seq },
}

impl Read {
    /// The arguments of `Client::history`.
    pub(crate) fn arguments(self) -> (Option<Seq>, usize) {
        match self {
            Self::Newest { limit } => (None, limit),
            Self::Older { before } => (Some(before), PAGE),
            Self::Newer { after, upto } => {
                // No number has two messages: as many messages as numbers are all of them.
                (Some(upto.next()), usize::try_from(upto.get().saturating_sub(after.get())).unwrap_or(PAGE))
            }
        }
    }
}

/// Which line is the first on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    /// The one that leaves the newest message last.
    Bottom,
    /// A line of a message.
    From { user: UserId, id: MessageId, line: usize },
}

/// How many lines messages take, by their index; how many fit on the screen.
pub(crate) struct Measure<'a> {
    pub(crate) lines: &'a dyn Fn(&[Message], usize) -> usize,
    pub(crate) height: usize,
}

/// How far the store is, as the conversation's summary says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    /// As far back as here the store has the log; before it, if it is not 0, the server has more.
    pub(crate) oldest: Seq,
    pub(crate) cursor: Seq,
    pub(crate) unsettled: usize,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Window {
    messages: Vec<Message>,
    view: View,
    /// The store may have more before the first.
    older: bool,
    /// Where the window ends; nothing when it follows the newest.
    end: Option<Seq>,
    /// What is being read.
    asked: Option<Read>,
    /// The newest are to be read again.
    due: bool,
    /// How many were added since they were read.
    added: usize,
    /// Everything up to here was read when the window was opened: what is beyond it is looked at first.
    begin: Option<Seq>,
    /// Lines that are still to be scrolled up when older messages are there.
    owed: usize,
    /// The person looks for older messages.
    looks_back: bool,
    /// The server has older ones than the store.
    more_on_server: bool,
    /// Where the store began when older ones were last asked of the server.
    fetched_before: Option<Seq>,
}

impl Window {
    /// An empty window that follows the newest messages; with `begin`, it is first on what was not read.
    pub(crate) fn new(begin: Option<Seq>) -> Self {
        Self {
            messages: Vec::new(),
            view: View::Bottom,
            older: false,
            end: None,
            asked: None,
            due: true,
            added: 0,
            begin,
            owed: 0,
            looks_back: false,
            more_on_server: false,
            fetched_before: None,
        }
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Whether there are newer messages below the screen.
    pub(crate) fn is_behind(&self) -> bool {
        self.view != View::Bottom || self.end.is_some()
    }

    /// Something in the list has changed; `added` says how many came in.
    pub(crate) fn changed(&mut self, added: usize) {
        self.due = true;
        self.added += added;
    }

    /// There may be more in the store than when its end was found.
    pub(crate) fn look_again(&mut self) {
        self.older = true;
    }

    /// A message that is in the window has changed in place.
    pub(crate) fn replace(&mut self, message: &Message) {
        let is_it = |known: &&mut Message| known.id == message.id && known.user == message.user;
        if let Some(known) = self.messages.iter_mut().find(is_it)
            && known.seq == message.seq
        {
            known.clone_from(message);
        }
    }

    /// Message and line that are first on the screen.
    pub(crate) fn first(&self, measure: &Measure<'_>) -> (usize, usize) {
        let bottom = self.bottom(measure);
        match &self.view {
            View::Bottom => bottom,
            View::From { user, id, line } => self.find(user, id).map_or(bottom, |index| {
                let lines = (measure.lines)(&self.messages, index);
                (index, (*line).min(lines.saturating_sub(1))).min(bottom)
            }),
        }
    }

    /// The last message of which a line is on the screen.
    pub(crate) fn last(&self, measure: &Measure<'_>) -> Option<usize> {
        let (mut index, line) = self.first(measure);
        let mut end = (measure.lines)(&self.messages, index).saturating_sub(line);
        while end < measure.height && index + 1 < self.messages.len() {
            index += 1;
            end += (measure.lines)(&self.messages, index);
        }
        (index < self.messages.len()).then_some(index)
    }

    fn bottom(&self, measure: &Measure<'_>) -> (usize, usize) {
        let mut left = measure.height;
        for index in (0..self.messages.len()).rev() {
            let lines = (measure.lines)(&self.messages, index);
            if lines >= left {
                return (index, lines - left);
            }
            left -= lines;
        }
        (0, 0)
    }

    fn find(&self, user: &UserId, id: &MessageId) -> Option<usize> {
        self.messages.iter().position(|message| message.id == *id && message.user == *user)
    }

    fn view_from(&mut self, index: usize, line: usize) {
        self.view = match self.messages.get(index) {
            Some(message) => View::From { user: message.user.clone(), id: message.id, line },
            None => View::Bottom,
        };
    }

    pub(crate) fn up(&mut self, lines: usize, measure: &Measure<'_>) {
        self.looks_back = true;
        self.scroll_up(lines, measure);
    }

    fn scroll_up(&mut self, mut lines: usize, measure: &Measure<'_>) {
        let (mut index, mut line) = self.first(measure);
        while lines > line && index > 0 {
            lines -= line;
            index -= 1;
            line = (measure.lines)(&self.messages, index);
        }
        if self.asked.is_some() || self.older {
            self.owed = self.owed.saturating_add(lines.saturating_sub(line));
        } else if self.more_on_server {
            // That may take long. A screen's height is not too far to find oneself then.
            self.owed = self.owed.saturating_add(lines.saturating_sub(line)).min(measure.height);
        }
        self.view_from(index, line.saturating_sub(lines));
    }

    pub(crate) fn down(&mut self, lines: usize, measure: &Measure<'_>) {
        (self.owed, self.looks_back) = (0, false);
        let (mut index, mut line) = self.first(measure);
        line += lines;
        while index < self.messages.len() {
            let its = (measure.lines)(&self.messages, index);
            if line < its {
                break;
            }
            line -= its;
            index += 1;
        }
        let (index, line) = (index, line).min(self.bottom(measure));
        self.view_from(index, line);
    }

    /// To the oldest message in memory.
    pub(crate) fn go_to_top(&mut self) {
        self.looks_back = true;
        self.view_from(0, 0);
    }

    /// To the newest message.
    pub(crate) fn go_to_bottom(&mut self) {
        self.view = View::Bottom;
        (self.begin, self.owed, self.looks_back) = (None, 0, false);
        if self.end.is_some() {
            // What is in between is not kept: the newest are read anew, and nothing older with them.
            self.messages.clear();
            (self.end, self.asked, self.due, self.older) = (None, None, true, false);
        }
    }

    /// Takes in what was read. What was not asked for is not taken.
    pub(crate) fn take(&mut self, read: Read, messages: Vec<Message>) {
        if self.asked != Some(read) {
            return;
        }
        self.asked = None;
        let count = messages.len();
        match read {
            Read::Newest { limit } => {
                self.older = count >= limit;
                self.end = None;
                self.messages = messages;
                if let View::From { user, id, .. } = &self.view
                    && self.find(user, id).is_none()
                {
                    self.view_from(0, 0);
                }
            }
            Read::Older { .. } => {
                self.older = count >= PAGE;
                let mut all: Vec<Message> =
                    messages.into_iter().filter(|message| self.find(&message.user, &message.id).is_none()).collect();
                all.append(&mut self.messages);
                self.messages = all;
            }
            Read::Newer { after, upto } => {
                self.end = Some(upto);
                self.messages.extend(messages.into_iter().filter(|message| message.seq > Some(after)));
            }
        }
        if let Some(begin) = self.begin.take()
            && let Some(first) = self.messages.iter().position(|message| message.seq > Some(begin))
        {
            self.view_from(first, 0);
        }
    }

    /// What was asked for could not be read. It is asked for again when something changes.
    pub(crate) fn failed(&mut self) {
        self.asked = None;
        self.older = false;
    }

    /// Brings the view and what is kept in order, after any change. Says what is to be read.
    pub(crate) fn settle(&mut self, measure: &Measure<'_>, stand: Stand) -> Option<Read> {
        self.more_on_server = !stand.oldest.is_zero();
        if self.owed > 0 && self.asked.is_none() {
            let owed = std::mem::take(&mut self.owed);
            self.scroll_up(owed, measure);
        }
        if self.view != View::Bottom && self.end.is_none() && self.first(measure) >= self.bottom(measure) {
            self.view = View::Bottom;
        }
        self.let_go(measure, stand);
        if self.asked.is_none() {
            self.asked = self.wanted(measure, stand);
            return self.asked;
        }
        None
    }

    /// Whether older messages are to be asked of the server now: the person looks for them, and the store has no more.
    /// Once for each place at which the store begins.
    pub(crate) fn wants_older(&mut self, measure: &Measure<'_>, stand: Stand) -> bool {
        let wants = (self.looks_back || self.owed > 0)
            && self.more_on_server
            && !self.older
            && self.asked.is_none()
            && self.fetched_before != Some(stand.oldest)
            && self.first(measure).0 < PAGE / 2;
        if wants {
            (self.looks_back, self.fetched_before) = (false, Some(stand.oldest));
        }
        wants
    }

    fn let_go(&mut self, measure: &Measure<'_>, stand: Stand) {
        if self.messages.len() <= MOST || self.asked.is_some() {
            return;
        }
        let first = self.first(measure).0;
        let last = self.last(measure).unwrap_or(first);
        let end = self.messages[MOST - 1].seq.filter(|seq| *seq <= stand.cursor);
        match end {
            Some(end) if last + PAGE / 2 < MOST => {
                self.messages.truncate(MOST);
                self.end = Some(end);
            }
            _ => {
                let far = (self.messages.len() - MOST).min(first.saturating_sub(PAGE / 2));
                self.messages.drain(..far);
                self.older |= far > 0;
            }
        }
    }

    fn wanted(&mut self, measure: &Measure<'_>, stand: Stand) -> Option<Read> {
        let count = self.messages.len();
        if let Some(begin) = self.begin
            && begin.plus(PAGE as u64) < stand.cursor
        {
            let upto = begin.plus(PAGE as u64);
            (self.end, self.older, self.due) = (Some(begin), true, false);
            return Some(Read::Newer { after: begin, upto });
        }
        if std::mem::take(&mut self.due) && self.end.is_none() {
            let added = std::mem::take(&mut self.added);
            let least = PAGE.max(measure.height);
            // Looking back, what is on the screen must stay in the window.
            return Some(Read::Newest { limit: if self.is_behind() { least.max(count + added) } else { least } });
        }
        let first = self.first(measure).0;
        if self.older && first < PAGE / 2 {
            match self.messages.first().map(|message| message.seq) {
                Some(Some(before)) => return Some(Read::Older { before }),
                Some(None) if count < MOST_WAITING => return Some(Read::Newest { limit: count + PAGE }),
                _ => {}
            }
        }
        let end = self.end?;
        if self.last(measure).unwrap_or(count) + PAGE / 2 < count {
            return None;
        }
        let upto = end.plus(PAGE as u64);
        if upto < stand.cursor {
            return Some(Read::Newer { after: end, upto });
        }
        // The rest of the log, what waits behind it, and enough before it that the screen finds its place again.
        Some(Read::Newest { limit: 3 * PAGE + measure.height + stand.unsettled })
    }

    #[cfg(test)]
    pub(super) fn check(&self, measure: &Measure<'_>) {
        let (index, line) = self.first(measure);
        assert!(index < self.messages.len() || (index, line) == (0, 0), "the first message is not in the window");
        let lines = if self.messages.is_empty() { 1 } else { (measure.lines)(&self.messages, index) };
        assert!(line < lines, "the first line is not of its message");
        if let View::From { user, id, .. } = &self.view {
            assert!(self.find(user, id).is_some(), "the view is on a message that is not in the window");
        }
        if self.end.is_some() {
            assert!(self.messages.len() <= MOST + 2 * PAGE, "more than is needed: {}", self.messages.len());
        }
    }
}
