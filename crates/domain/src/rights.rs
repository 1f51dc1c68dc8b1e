//! Who may do what in a group. Pure: it decides by what is noted of the group and of its author.

use poste_protocol::{Code, Event, Refusal, Role, limits};

use crate::{membership::not_member, ports::Group};

/// Whether the author, with this role or not in, may do this to the group.
///
/// Where nobody is an admin any more, everybody who is in may do what an admin may: a group without rights for anybody
/// could never be mended.
pub(crate) fn permit(event: &Event, group: &Group, role: Option<Role>) -> Result<(), Refusal> {
    if matches!(event, Event::Created { .. }) {
        return match (group.founded, role) {
            (false, _) => Ok(()),
            (true, Some(_)) => Err(not_allowed("there is this group already")),
            // It does not tell a stranger that there is one.
            (true, None) => Err(not_member()),
        };
    }
    let role = role.filter(|_| group.founded).ok_or_else(not_member)?;
    match event {
        Event::Left => Ok(()),
        _ if moderates(group, Some(role)) => Ok(()),
        _ => Err(not_allowed("only an admin may do that")),
    }
}

/// Whether a user with this role or not in may delete what others wrote.
pub(crate) fn moderates(group: &Group, role: Option<Role>) -> bool {
    role.is_some_and(|role| role == Role::Admin || group.admins == 0)
}

/// Whether a group of so many takes so many more.
pub(crate) fn room(group: &Group, more: u64) -> Result<(), Refusal> {
    if group.members.saturating_add(more) > limits::GROUP_MEMBERS {
        return Err(Refusal::new(Code::TooMany, "a group has at most 1,000 members"));
    }
    Ok(())
}

fn not_allowed(message: &str) -> Refusal {
    Refusal::new(Code::NotAllowed, message)
}

#[cfg(test)]
mod tests {
    use poste_protocol::{Seq, UserId};

    use super::*;

    /// L5: every event against every role.
    #[test]
    fn rights_by_role() {
        let user = UserId::new("ann").expect("valid");
        let events = [
            Event::Titled { title: "t".into() },
            Event::Added { users: vec![user.clone()] },
            Event::Removed { users: vec![user.clone()] },
            Event::Role { user, role: Role::Admin },
        ];
        let group = |admins| Group { applied: Seq::ZERO, founded: true, title: "t".into(), members: 2, admins };
        let code = |event: &Event, admins, role| permit(event, &group(admins), role).map_err(|refusal| refusal.code);
        for event in &events {
            assert_eq!(code(event, 1, Some(Role::Admin)), Ok(()));
            assert_eq!(code(event, 1, Some(Role::Member)), Err(Code::NotAllowed));
            assert_eq!(code(event, 0, Some(Role::Member)), Ok(()), "nobody else could");
            assert_eq!(code(event, 1, None), Err(Code::NotMember));
            assert_eq!(code(event, 0, None), Err(Code::NotMember));
        }
        assert_eq!(code(&Event::Left, 1, Some(Role::Member)), Ok(()));
        assert_eq!(code(&Event::Left, 1, None), Err(Code::NotMember));
        let created = Event::Created { title: "t".into(), members: Vec::new() };
        assert_eq!(code(&created, 1, None), Err(Code::NotMember));
        assert_eq!(code(&created, 1, Some(Role::Admin)), Err(Code::NotAllowed));
        assert_eq!(permit(&created, &Group::default(), None), Ok(()));
        assert_eq!(permit(&Event::Left, &Group::default(), None).map_err(|r| r.code), Err(Code::NotMember));
    }
}
