//! What a group's log says of who was in when: the rule of replaying, and nothing of how it is stored.

use std::collections::BTreeMap;

use poste_domain::{Membership, ports::Slot};
use poste_protocol::{Event, MessageId, Role, Seq, UserId};

/// A group as its log has made it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// When each user was in.
    pub(crate) times: BTreeMap<UserId, Membership>,
    /// Who is in.
    pub(crate) roles: BTreeMap<UserId, Role>,
    /// The last event.
    pub(crate) last: Seq,
    /// What should not be in the log.
    pub(crate) wrongs: Vec<String>,
}

impl History {
    pub(crate) fn of(log: &[Slot]) -> Self {
        let mut history = Self::default();
        let mut authors: BTreeMap<MessageId, (&UserId, Seq)> = BTreeMap::new();
        for slot in log {
            let Slot::Cell(cell) = slot else { continue };
            let (by, seq) = (&cell.by.user, cell.seq);
            let role = history.roles.get(by).copied();
            let nobody_is = !history.roles.values().any(|role| *role == Role::Admin);
            let as_admin = role == Some(Role::Admin) || role.is_some() && nobody_is;
            let Some(event) = cell.event() else {
                authors.extend(cell.messages.iter().map(|message| (message.id, (by, seq))));
                for deleted in cell.messages.iter().filter_map(|message| message.deletes) {
                    let Some((author, at)) = authors.get(&deleted.id) else { continue };
                    if *author != by && !(as_admin && history.sees(by, *at)) {
                        history.wrongs.push(format!("{by} deleted at {seq}, as {role:?}, what {author} wrote at {at}"));
                    }
                }
                if role.is_none() {
                    history.wrongs.push(format!("{by} wrote at {seq} and was not in"));
                }
                continue;
            };
            let allowed = match event {
                Event::Created { .. } => history.last == Seq::ZERO,
                Event::Left => role.is_some(),
                _ => as_admin,
            };
            if !allowed {
                history.wrongs.push(format!("{by} did {event:?} at {seq} as {role:?}"));
            }
            for user in event.concerns(by) {
                let before = history.roles.get(&user).copied();
                let after = event.role_after(by, &user, before);
                let times = history.times.remove(&user).unwrap_or_else(|| Membership::new(Vec::new()));
                let times = if after.is_some() { times.opened(seq) } else { times.closed(seq) };
                if !times.intervals().is_empty() {
                    history.times.insert(user.clone(), times);
                }
                match after {
                    Some(role) => history.roles.insert(user, role),
                    None => history.roles.remove(&user),
                };
            }
            history.last = seq;
        }
        history
    }

    pub(crate) fn sees(&self, user: &UserId, seq: Seq) -> bool {
        self.times.get(user).is_some_and(|times| times.sees(seq))
    }
}
