//! Messages that waited too long on their device.

use poste_protocol::{Code, limits};
use poste_tests::{Accepted, Deployment, next_after, submission};

/// The acceptance window, in milliseconds.
const WINDOW_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// L6, L7: what waited longer than the window is refused with its own code and not stored; what was stored before is a
/// repeat however late.
#[tokio::test]
async fn what_waited_too_long_has_expired_unless_it_was_stored() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let aged = |envelope: &_, age_ms| {
        let mut submission = submission(envelope);
        submission.age_ms = age_ms;
        submission
    };
    let first = phone.writes(&bob, "in time, just");
    let accepted = phone.submit(aged(&first, WINDOW_MS)).await.expect("within the window");
    assert_eq!((accepted.seq, accepted.repeat), (1, false));

    let second = next_after(&first, "too late");
    for age in [WINDOW_MS + 1, WINDOW_MS * 12, limits::INTEGER, u64::MAX] {
        let refusal = phone.submit(aged(&second, age)).await.expect_err("expired");
        assert_eq!((refusal.code, refusal.retryable), (Code::Expired, false), "age {age}");
        let again = phone.submit(aged(&first, age)).await.expect("a repeat is a success");
        assert_eq!(again, Accepted { repeat: true, ..accepted }, "age {age}");
    }
    assert_eq!(deployment.admin().copies(&second).await, [0_u64; 0], "what has expired is not stored");

    let refusal = phone.submit(submission(&second)).await.expect_err("a verdict stands, whatever age it comes with");
    assert_eq!(refusal.code, Code::Expired);

    // The person sends it again by hand: in another envelope, which is young.
    let mut again = next_after(&second, "too late");
    again.messages.clone_from(&second.messages);
    assert_eq!(phone.sends(&again).await.seq, 2);
    let late = phone.submit(aged(&first, WINDOW_MS + 1)).await.expect("a late frame is a repeat, however old");
    assert_eq!(late, Accepted { repeat: true, ..accepted });
    let mut unknown = next_after(&first, "never stored");
    unknown.number = first.number;
    let refusal = phone.submit(aged(&unknown, WINDOW_MS + 1)).await.expect_err("a conflict");
    assert_eq!(refusal.code, Code::LaneConflict, "the device must find out by itself");
}
