//! Groups, on the deployed stack.

use poste_protocol::{Code, ConversationId, Event, Role, UserId};
use poste_tests::{Deployment, Device, seq, submission};

async fn created(device: &mut Device, members: &[&UserId]) -> ConversationId {
    let group = ConversationId::group();
    let members = members.iter().map(|user| (*user).clone()).collect();
    let event = device.does(&group, Event::Created { title: "climbing".into(), members });
    device.sends(&event).await;
    group
}

/// What a device can read of a group, from the start.
async fn read(device: &mut Device, group: &ConversationId) -> Vec<u64> {
    device.whole_log(group).await.iter().map(|cell| cell.seq.get()).collect()
}

/// L1, L4, L5: a group is created with an id of the device's own, is written to and added to; everybody hears of it and
/// finds it in their list.
#[tokio::test]
async fn a_group_is_created_and_added_to() {
    let deployment = Deployment::here();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut carols = deployment.device(&carol, "phone").await;
    let group = created(&mut phone, &[&bob]).await;
    let hello = phone.says(&group, "hello");
    assert_eq!(phone.sends(&hello).await.seq, 2);
    bobs.hears(&hello).await;
    let adds = phone.does(&group, Event::Added { users: vec![carol.clone()] });
    phone.sends(&adds).await;
    let heard = carols.hears(&adds).await;
    assert_eq!(heard.seq.get(), 3);
    let hi = carols.says(&group, "hi");
    carols.sends(&hi).await;
    bobs.hears(&hi).await;
    assert_eq!(read(&mut carols, &group).await, [3, 4], "nothing from before");
    assert_eq!(read(&mut bobs, &group).await, [1, 2, 3, 4]);
    let summary = carols.list(None).await.conversations.remove(0);
    let told = summary.group.expect("a group");
    assert_eq!((summary.head.get(), told.members, told.role, told.roster.get()), (4, 3, Role::Member, 3));
    let members = carols.members(&group, None).await.expect("members");
    assert_eq!((members.members.len(), members.roster.get(), members.title.as_str()), (3, 3, "climbing"));
    assert_eq!(phone.submit(submission(&adds)).await.expect("a repeat").seq, 3);
}

/// I6: who was removed hears nothing more on the connection that they have, reads nothing more, and can write nothing.
#[tokio::test]
async fn who_was_removed_hears_nothing_more() {
    let deployment = Deployment::here();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut carols = deployment.device(&carol, "phone").await;
    let group = created(&mut phone, &[&bob, &carol]).await;
    let warm = bobs.says(&group, "everybody is in");
    bobs.sends(&warm).await;
    carols.hears(&warm).await;
    let removes = phone.does(&group, Event::Removed { users: vec![bob.clone()] });
    let out = seq(phone.sends(&removes).await.seq);
    for n in 0..5 {
        let secret = phone.says(&group, &format!("secret {n}"));
        phone.sends(&secret).await;
        carols.hears(&secret).await;
    }
    phone.marks(&group, Some(8), Some(8)).await;
    carols.hears_mark(&group, 8, 8).await;
    bobs.hears(&removes).await;
    bobs.hello().await;
    let last = bobs.heard(&group).iter().map(|cell| cell.seq).max();
    assert_eq!(last, Some(out), "the removal is the last that he hears of");
    assert!(bobs.heard_marks(&group).iter().all(|mark| mark.delivered <= out));
    let late = bobs.says(&group, "am I still here?");
    assert_eq!(bobs.submit(submission(&late)).await.expect_err("refused").code, Code::NotMember);
    assert_eq!(read(&mut bobs, &group).await, [1, 2, 3]);
    let page = bobs.fetch(&group, seq(0), None).await.expect("a page");
    assert_eq!((page.head, page.through), (out, out));
    let summary = bobs.list(None).await.conversations.remove(0);
    assert_eq!(summary.head, out);
    assert!(summary.group.expect("a group").left);
    assert_eq!(bobs.members(&group, None).await.expect_err("refused").refusal.code, Code::NotMember);
}

/// O5: who comes back sees their times and nothing between.
#[tokio::test]
async fn who_comes_back_sees_their_times() {
    let deployment = Deployment::here();
    let [alice, bob] = ["alice", "bob"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let group = created(&mut phone, &[&bob]).await;
    let mut expected = vec![1];
    for round in 0..2 {
        let leaves = bobs.does(&group, Event::Left);
        expected.push(bobs.sends(&leaves).await.seq);
        let missed = phone.says(&group, &format!("missed {round}"));
        phone.sends(&missed).await;
        let adds = phone.does(&group, Event::Added { users: vec![bob.clone()] });
        expected.push(phone.sends(&adds).await.seq);
        let seen = phone.says(&group, &format!("seen {round}"));
        expected.push(phone.sends(&seen).await.seq);
    }
    assert_eq!(read(&mut bobs, &group).await, expected);
    assert_eq!(read(&mut phone, &group).await.len(), 9);
}

/// L5: who may do what, checked on the server for each event.
#[tokio::test]
async fn rights_are_checked_for_each_event() {
    let deployment = Deployment::here();
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut eves = deployment.device(&eve, "phone").await;
    let group = created(&mut phone, &[&bob]).await;
    let events = || {
        [
            Event::Titled { title: "mine".into() },
            Event::Added { users: vec![eve.clone()] },
            Event::Removed { users: vec![alice.clone()] },
            Event::Role { user: bob.clone(), role: Role::Admin },
        ]
    };
    for event in events() {
        let (as_member, as_stranger) = (bobs.does(&group, event.clone()), eves.does(&group, event));
        assert_eq!(bobs.submit(submission(&as_member)).await.expect_err("refused").code, Code::NotAllowed);
        assert_eq!(eves.submit(submission(&as_stranger)).await.expect_err("refused").code, Code::NotMember);
    }
    let again = eves.does(&group, Event::Created { title: "mine".into(), members: Vec::new() });
    assert_eq!(eves.submit(submission(&again)).await.expect_err("refused").code, Code::NotMember);
    assert_eq!(read(&mut phone, &group).await, [1]);
    let gives = phone.does(&group, Event::Role { user: bob.clone(), role: Role::Admin });
    phone.sends(&gives).await;
    for event in events() {
        let event = bobs.does(&group, event);
        bobs.sends(&event).await;
    }
    let leaves = phone.does(&group, Event::Left);
    assert_eq!(phone.submit(submission(&leaves)).await.expect_err("refused").code, Code::NotMember);
}

/// L4: a thousand members, added in steps; one message is written once and reaches the last of them.
#[tokio::test]
async fn a_thousand_members_are_added_in_steps() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let mut phone = deployment.device(&alice, "phone").await;
    let users: Vec<UserId> = (0..999).map(|n| deployment.user(&format!("u{n}"))).collect();
    let first: Vec<&UserId> = users[..99].iter().collect();
    let group = created(&mut phone, &first).await;
    for step in users[99..].chunks(100) {
        let adds = phone.does(&group, Event::Added { users: step.to_vec() });
        phone.sends(&adds).await;
    }
    let one_more = phone.does(&group, Event::Added { users: vec![deployment.user("one-more")] });
    assert_eq!(phone.submit(submission(&one_more)).await.expect_err("refused").code, Code::TooMany);
    let (mut members, mut after) = (Vec::new(), None);
    loop {
        let page = phone.members(&group, after).await.expect("members");
        members.extend(page.members.into_iter().map(|member| member.user));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(members.len(), 1_000);
    assert!(members.is_sorted());
    let mut last = deployment.device(users.last().expect("somebody"), "phone").await;
    let hello = phone.says(&group, "hello everybody");
    phone.sends(&hello).await;
    last.hears(&hello).await;
}

/// D1: a group of more members than one parcel is delivered to is told in parts, everybody once.
#[tokio::test]
async fn a_large_group_hears_once() {
    let deployment = Deployment::here();
    let users: Vec<UserId> = (0..250).map(|n| deployment.user(&format!("m{n:03}"))).collect();
    let mut phone = deployment.device(&users[0], "phone").await;
    let group = created(&mut phone, &users[1..100].iter().collect::<Vec<_>>()).await;
    for more in [&users[100..200], &users[200..]] {
        let adds = phone.does(&group, Event::Added { users: more.to_vec() });
        phone.sends(&adds).await;
    }
    let mut live = Vec::new();
    for user in users[1..].iter().step_by(31) {
        live.push(deployment.device(user, "phone").await);
    }
    let written: Vec<_> = (0..3).map(|n| phone.says(&group, &format!("for everybody {n}"))).collect();
    for envelope in &written {
        phone.sends(envelope).await;
    }
    for device in &mut live {
        for envelope in &written {
            device.hears(envelope).await;
        }
        device.hello().await;
        let told: Vec<u64> = device.heard(&group).iter().map(|cell| cell.seq.get()).filter(|seq| *seq > 3).collect();
        let mut once = told.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), told.len(), "{told:?}");
    }
}
