//! Who has a message, on the deployed stack.

use poste_protocol::{
    Code, ConversationId, Envelope, Event, FromServer, Mark, Outcome, Reference, Request, SendFrame, UserId,
};
use poste_tests::{Deployment, Device, bodies, seq, submission};

/// A group of so many, of whom nobody but the given ones has a device. Says how far its log is.
async fn group(
    device: &mut Device,
    deployment: &Deployment,
    members: &[&UserId],
    others: usize,
) -> (ConversationId, u64) {
    let group = ConversationId::group();
    let others = (0..others).map(|n| deployment.user(&format!("u{n}")));
    let members = members.iter().map(|user| (*user).clone()).chain(others).collect();
    let created = device.does(&group, Event::Created { title: "choir".into(), members });
    let seq = device.sends(&created).await.seq;
    (group, seq)
}

/// D3, O7: in a large group a mark reaches the user's own other devices and nobody else; who asks is told.
#[tokio::test]
async fn in_a_large_group_marks_are_asked_for() {
    let deployment = Deployment::here();
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut desk = deployment.device(&bob, "desk").await;
    let mut eves = deployment.device(&eve, "phone").await;
    let (group, _) = group(&mut phone, &deployment, &[&bob], 32).await;
    let hello = phone.says(&group, "hello");
    let place = phone.sends(&hello).await.seq;
    assert_eq!(bobs.marks(&group, Some(place), Some(place)).await, None);
    desk.hears_mark(&group, place, place).await;
    let told = phone.receipts(&group, place, None).await.expect("told");
    let told: Vec<_> = told.marks.iter().map(|mark| (&mark.user, mark.delivered.get(), mark.read.get())).collect();
    assert_eq!(told, [(&bob, place, place)]);
    assert_eq!(eves.receipts(&group, place, None).await.expect_err("refused").refusal.code, Code::NotMember);
    // What is sent after the mark has come: the mark never will.
    let later = bobs.says(&group, "read it");
    bobs.sends(&later).await;
    phone.hears(&later).await;
    phone.hello().await;
    assert_eq!(phone.heard_marks(&group), []);
}

/// D2, D3: in a small group everybody hears of marks, and who asks is told the same.
#[tokio::test]
async fn in_a_small_group_marks_come_by_themselves() {
    let deployment = Deployment::here();
    let [alice, bob] = ["alice", "bob"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (group, _) = group(&mut phone, &deployment, &[&bob], 30).await;
    assert_eq!(bobs.marks(&group, Some(1), None).await, None);
    phone.hears_mark(&group, 1, 0).await;
    let told = phone.receipts(&group, 1, None).await.expect("told").marks;
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0].user, told[0].delivered.get(), told[0].read.get()), (&bob, 1, 0));
}

/// D3: marks ride along with envelopes, with the permissions of `send`; one that is refused fails no envelope.
#[tokio::test]
async fn marks_ride_along_with_envelopes() {
    let deployment = Deployment::here();
    let [alice, bob] = ["alice", "bob"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (hi, _) = phone.tells(&bob, "hi").await;
    let conversation = hi.conversation;
    for (read, code) in [(1, None), (99, Some(Code::BadFrame))] {
        let answer = bobs.says(&conversation, "hello");
        let submission = submission(&Envelope { to: Some(alice.clone()), ..answer });
        let reference = Reference::new(format!("r{read}")).expect("short");
        let mark = Mark { conversation: conversation.clone(), delivered: None, read: Some(seq(read)) };
        let frame = Request::Send(SendFrame { reference, submissions: vec![submission], marks: vec![mark] });
        match bobs.ask_raw(&serde_json::to_string(&frame).expect("plain fields")).await {
            FromServer::Sent(sent) => {
                assert!(matches!(sent.verdicts[0].outcome, Outcome::Accepted { .. }), "{sent:?}");
                assert_eq!(sent.marks[0].error.as_ref().map(|no| no.code), code);
            }
            other => panic!("{other:?}"),
        }
    }
    phone.hears_mark(&conversation, 1, 1).await;
}

/// D4, O7: switched off, what is read reaches the own devices and nobody else, and nobody's is told; both in the list, by
/// asking, and in deliveries.
#[tokio::test]
async fn receipts_can_be_switched_off() {
    let deployment = Deployment::here();
    let [alice, bob] = ["alice", "bob"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut desk = deployment.device(&bob, "desk").await;
    let three = phone.writes_all(&bob, &bodies("message", 3));
    phone.sends(&three).await;
    let conversation = three.conversation;
    bobs.sets_receipts(false).await;
    assert!(bobs.list(None).await.receipts_off && !phone.list(None).await.receipts_off);
    assert_eq!(bobs.marks(&conversation, Some(2), Some(2)).await, None);
    desk.hears_mark(&conversation, 2, 2).await;
    phone.hears_mark(&conversation, 2, 0).await;
    assert_eq!(phone.marks(&conversation, Some(3), Some(3)).await, None);
    bobs.hears_mark(&conversation, 3, 0).await;
    for (device, expected) in [(&mut phone, [(3, 3), (2, 0)]), (&mut bobs, [(3, 0), (2, 2)])] {
        let asked = device.receipts(&conversation, 1, None).await.expect("told").marks;
        let asked: Vec<_> = asked.iter().map(|mark| (mark.delivered.get(), mark.read.get())).collect();
        assert_eq!(asked, expected, "alice's and bob's");
        let mut listed = device.list(None).await.conversations.remove(0).marks;
        listed.sort_by(|a, b| a.user.cmp(&b.user));
        let listed: Vec<_> = listed.iter().map(|mark| (mark.delivered.get(), mark.read.get())).collect();
        assert_eq!(listed, expected, "alice's and bob's");
    }
    bobs.sets_receipts(true).await;
    assert_eq!(bobs.marks(&conversation, Some(3), Some(3)).await, None);
    phone.hears_mark(&conversation, 3, 3).await;
}
