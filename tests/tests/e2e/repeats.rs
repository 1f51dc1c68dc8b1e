//! The same envelope again: at once, later, after a lost answer, after later envelopes.

use poste_protocol::{Code, Envelope, FromServer, limits};
use poste_tests::{Accepted, DEADLINE, Deployment, Device, eventually, next_after, resent, submission};

/// Rounds of what depends on who is first.
const ROUNDS: usize = 20;

/// One copy in the log, at the acknowledged place; what was heard of it is one message.
async fn is_once(deployment: &Deployment, hearer: &mut Device, envelope: &Envelope, accepted: Accepted) {
    assert_eq!(deployment.admin().copies(envelope).await, [accepted.seq], "one copy, at its number");
    let cell = hearer.hears(envelope).await;
    assert_eq!((cell.seq.get(), cell.at), (accepted.seq, accepted.at));
    let copies = hearer.heard(&envelope.conversation).into_iter().filter(|c| c.envelope == envelope.id);
    assert!(copies.into_iter().all(|copy| copy == cell), "every copy that is delivered is the same");
}

/// L2, failure 2: a repeat at the same moment, before the first one is answered, is one envelope.
#[tokio::test]
async fn twice_in_the_same_moment() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut one = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    for round in 0..ROUNDS {
        let envelope = one.writes(&bob, &format!("round {round}"));
        let first = one.send_frame(vec![submission(&envelope)]);
        let second = one.send_frame(vec![resent(&envelope)]);
        one.post(&first).await;
        let b = only_verdict(one.ask(&second).await);
        let a = only_verdict(one.ask(&first).await);
        assert_eq!((a.seq, a.at), (b.seq, b.at), "round {round}: the same place and time");
        assert!(a.repeat || b.repeat, "round {round}: one of them is a repeat");
        is_once(&deployment, &mut bobs, &envelope, a).await;
    }
}

fn only_verdict(answer: FromServer) -> Accepted {
    match answer {
        FromServer::Sent(sent) => match sent.verdicts[0].outcome {
            poste_protocol::Outcome::Accepted { seq, at, repeat } => Accepted { seq: seq.get(), at, repeat },
            poste_protocol::Outcome::Refused { ref error } => panic!("refused: {error}"),
        },
        other => panic!("send is answered with {other:?}"),
    }
}

/// L2, failure 9: a repeat later, also over another connection, is a success with the same number.
#[tokio::test]
async fn twice_later_is_a_success() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (envelope, first) = phone.tells(&bob, "once").await;
    for _ in 0..3 {
        let again = phone.submit(resent(&envelope)).await.expect("a repeat is a success");
        assert_eq!(again, Accepted { repeat: true, ..first });
    }
    phone.connect().await;
    let again = phone.submit(resent(&envelope)).await.expect("a repeat is a success");
    assert_eq!(again, Accepted { repeat: true, ..first });
    is_once(&deployment, &mut bobs, &envelope, first).await;
    let (_, next) = phone.tells(&bob, "twice").await;
    assert_eq!(next.seq, 2, "repeats take no numbers");
}

/// L2, C2, failures 2 and 9: the connection is cut right after the send; the retry finds what was stored, or stores it.
#[tokio::test]
async fn again_after_a_lost_answer() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut repeats = 0;
    for round in 1..=10 {
        let envelope = phone.writes(&bob, &format!("round {round}"));
        let frame = phone.send_frame(vec![submission(&envelope)]);
        phone.post(&frame).await;
        if round % 2 == 0 {
            // The server has it for sure, and the device knows nothing of that.
            eventually("the envelope is stored", DEADLINE, async || {
                (!deployment.admin().copies(&envelope).await.is_empty()).then_some(())
            })
            .await;
        }
        phone.drop_connection();
        phone.connect().await;
        let accepted = phone.submit(resent(&envelope)).await.expect("the retry is a success");
        assert_eq!(accepted.seq, round, "no number is lost or given twice");
        repeats += u64::from(accepted.repeat);
        is_once(&deployment, &mut bobs, &envelope, accepted).await;
    }
    assert!(repeats >= 5, "what was stored is told as a repeat: {repeats}");
}

/// L2, L6, failure 2: a frame that comes after later envelopes of its device is a repeat, and stores nothing.
#[tokio::test]
async fn a_late_frame_is_a_repeat() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut sent = Vec::new();
    for i in 0..6 {
        sent.push(phone.tells(&bob, &format!("{i}")).await);
        bobs.tells(&alice, &format!("between {i}")).await;
    }
    for (envelope, first) in &sent {
        let late = phone.submit(resent(envelope)).await.expect("a late frame is a success");
        assert_eq!(late, Accepted { repeat: true, ..*first });
    }
    for (envelope, first) in &sent {
        is_once(&deployment, &mut bobs, envelope, *first).await;
    }
    assert_eq!(deployment.admin().log(&sent[0].0.conversation).await.len(), 12, "nothing was added");
}

/// L2, L6: even beyond the bounded look back nothing is stored twice; the device is told to find out by itself.
#[tokio::test]
async fn a_very_late_frame_stores_nothing() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (first, _) = phone.tells(&bob, "the first").await;
    let mut last = first.clone();
    for i in 0..210 {
        last = phone.writes(&bob, &format!("{i}"));
        phone.sends(&last).await;
    }
    let refusal = phone.submit(resent(&first)).await.expect_err("too far back to be found");
    assert_eq!(refusal.code, Code::LaneConflict);
    let lane = refusal.lane.expect("a conflict tells where the lane stands");
    assert_eq!((lane.number, lane.seq.get()), (last.number, 211));
    assert_eq!(deployment.admin().copies(&first).await, [1]);
}

/// L2: the id decides what an envelope is; the bytes of the first attempt are what is stored.
#[tokio::test]
async fn the_first_attempt_is_what_is_stored() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (envelope, first) = phone.tells(&bob, "as it was").await;
    let mut altered = envelope.clone();
    altered.messages = next_after(&envelope, "otherwise").messages;
    let again = phone.submit(submission(&altered)).await.expect("a repeat");
    assert_eq!(again, Accepted { repeat: true, ..first });
    assert_eq!(phone.whole_log(&envelope.conversation).await[0].messages, envelope.messages);
    assert!(envelope.bytes() < limits::ENVELOPE_BYTES);
}

/// L2, O4: a repeat with more messages than the first attempt had would take the numbers of others: it is none.
#[tokio::test]
async fn a_repeat_of_another_size_is_a_conflict() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (envelope, _) = phone.tells(&bob, "one").await;
    let (next, _) = bobs.tells(&alice, "two").await;
    let mut larger = envelope.clone();
    larger.messages.extend(next_after(&envelope, "one more").messages);
    for number in [1, 2] {
        larger.number = poste_tests::number(number);
        let refusal = phone.submit(submission(&larger)).await.expect_err("not the same envelope");
        assert_eq!(refusal.code, Code::LaneConflict, "with number {number}");
    }
    let log = phone.whole_log(&envelope.conversation).await;
    assert_eq!(log.iter().map(|cell| cell.envelope).collect::<Vec<_>>(), [envelope.id, next.id]);
    assert_eq!(deployment.admin().head(&envelope.conversation).await.map(|(head, _)| head), Some(2));
}
