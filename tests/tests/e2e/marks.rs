//! Delivered and read.

use poste_protocol::{Code, MemberMark};
use poste_tests::{Deployment, Device, bodies};

/// The marks of a conversation as the list shows them: user, delivered, read.
async fn listed(device: &mut Device, of: &MemberMark) -> Option<(u64, u64)> {
    let page = device.list(None).await;
    let marks = page.conversations.iter().flat_map(|summary| &summary.marks);
    marks.filter(|mark| mark.user == of.user).map(|mark| (mark.delivered.get(), mark.read.get())).next()
}

/// D2, D3, O7: a mark reaches the other user's devices and the own other ones, and is in the summaries.
#[tokio::test]
async fn marks_reach_everyone_who_needs_them() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut tablet = deployment.device(&alice, "tablet").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut desk = deployment.device(&bob, "desk").await;
    let five = phone.writes_all(&bob, &bodies("message", 5));
    phone.sends(&five).await;
    let conversation = five.conversation.clone();

    assert_eq!(bobs.marks(&conversation, Some(5), None).await, None);
    for device in [&mut phone, &mut tablet, &mut desk] {
        let mark = device.hears_mark(&conversation, 5, 0).await;
        assert_eq!(mark.user, bob);
    }
    assert_eq!(desk.marks(&conversation, None, Some(3)).await, None);
    for device in [&mut phone, &mut tablet, &mut bobs] {
        let mark = device.hears_mark(&conversation, 5, 3).await;
        assert_eq!((&mark.user, listed(device, &mark).await), (&bob, Some((5, 3))));
    }
    assert!(bobs.heard_marks(&conversation).iter().all(|mark| mark.device.as_str() != "phone"), "not its own");
    assert!(desk.heard_marks(&conversation).iter().all(|mark| mark.device.as_str() != "desk"), "not its own");
}

/// D3, I8: marks only move forward, never pass the head, and what is read is delivered.
#[tokio::test]
async fn marks_only_move_forward() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let ten = phone.writes_all(&bob, &bodies("message", 10));
    phone.sends(&ten).await;
    let conversation = ten.conversation.clone();
    let bob_mark = MemberMark {
        user: bob.clone(),
        device: bobs.author().device.clone(),
        delivered: poste_tests::seq(0),
        read: poste_tests::seq(0),
    };

    // What is asked, what comes of it, and what stands afterwards: delivered, read.
    let steps = [
        ((Some(4), None), None, (4, 0)),
        ((Some(2), None), None, (4, 0)),
        ((Some(4), None), None, (4, 0)),
        ((None, Some(2)), None, (4, 2)),
        ((None, Some(1)), None, (4, 2)),
        ((Some(11), None), Some(Code::BadFrame), (4, 2)),
        ((None, Some(11)), Some(Code::BadFrame), (4, 2)),
        ((Some(5), Some(1_000_000)), Some(Code::BadFrame), (4, 2)),
        ((None, None), Some(Code::BadFrame), (4, 2)),
        ((Some(1), Some(7)), None, (7, 7)),
        ((Some(9), Some(3)), None, (9, 7)),
        ((Some(0), Some(0)), None, (9, 7)),
        ((Some(10), Some(10)), None, (10, 10)),
    ];
    for ((delivered, read), code, stands) in steps {
        let what = format!("delivered {delivered:?}, read {read:?}");
        assert_eq!(bobs.marks(&conversation, delivered, read).await, code, "{what}");
        assert_eq!(listed(&mut phone, &bob_mark).await, Some(stands), "after {what}");
    }
    phone.hears_mark(&conversation, 10, 10).await;
    let heard = phone.heard_marks(&conversation);
    assert!(heard.iter().all(|mark| mark.read <= mark.delivered), "what is read is delivered: {heard:?}");
    assert!(heard.iter().all(|mark| mark.user == bob));
}

/// D3: the mark of a user is that of the furthest device; `read` is the person's, whichever device says it.
#[tokio::test]
async fn a_users_mark_is_that_of_the_furthest_device() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut desk = deployment.device(&bob, "desk").await;
    let ten = phone.writes_all(&bob, &bodies("message", 10));
    phone.sends(&ten).await;
    let conversation = ten.conversation.clone();
    assert_eq!(bobs.marks(&conversation, Some(8), None).await, None);
    let mark = phone.hears_mark(&conversation, 8, 0).await;
    assert_eq!(desk.marks(&conversation, Some(3), None).await, None);
    assert_eq!(listed(&mut phone, &mark).await, Some((8, 0)), "the slower device does not move the user back");
    assert_eq!(desk.marks(&conversation, Some(3), Some(2)).await, None);
    phone.hears_mark(&conversation, 8, 2).await;
    assert_eq!(desk.marks(&conversation, None, Some(9)).await, None);
    phone.hears_mark(&conversation, 9, 9).await;
    assert_eq!(listed(&mut bobs, &mark).await, Some((9, 9)));
}
