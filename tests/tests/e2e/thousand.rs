//! The big one: a thousand envelopes into one conversation, in bad weather.

use std::time::Instant;

use futures::future::join_all;
use poste_protocol::{Code, Envelope, EnvelopeId, FromServer, Outcome, UserId};
use poste_tests::{DEADLINE, Deployment, Device, Replica, bodies, eventually, resent, submission};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Envelopes of each of the four devices.
const ENVELOPES: usize = 250;
/// Every tenth frame is sent twice.
const TWICE: usize = 10;
/// One frame in so many is followed by a loss of the connection, with the answer.
const LOSS: u32 = 25;
/// One frame in so many goes out again through a second connection, late: after the device has gone on.
const LATE: u32 = 40;

/// What one device lived through.
#[derive(Debug, Default)]
struct Course {
    acknowledged: Vec<(EnvelopeId, u64)>,
    losses: usize,
    twice: usize,
    late: usize,
    repeats: usize,
    trouble: usize,
}

/// The "it must show": L1, L2, O1, O4, I1 to I5. Contiguous numbers, no loss, no duplicate, all devices equal,
/// each device's own order kept.
#[tokio::test]
async fn a_thousand_envelopes_in_bad_weather() {
    let seed = std::env::var("POSTE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("POSTE_SEED={seed}");
    let deployment = Deployment::here();
    let users = [deployment.user("alice"), deployment.user("bob")];
    let mut devices = Vec::new();
    for (user, name) in [(0, "phone"), (0, "tablet"), (1, "phone"), (1, "desk")] {
        devices.push(deployment.device(&users[user], name).await);
    }
    let conversation = devices[0].with(&users[1]);
    let started = Instant::now();
    let courses = join_all(devices.iter_mut().enumerate().map(async |(i, device)| {
        let mut chance = StdRng::seed_from_u64(seed.wrapping_add(i as u64));
        run(device, &users[1 - i / 2], &mut chance).await
    }))
    .await;
    let sending = started.elapsed();
    let reading = Instant::now();

    let mut replicas = Vec::new();
    let mut pages = 0;
    let mut delivered = Vec::new();
    for device in &mut devices {
        let mut replica = Replica::new(conversation.clone());
        let heard = device.heard(&conversation);
        delivered.push(heard.len());
        for cell in heard {
            replica.take(cell);
        }
        pages += replica.catch_up(device).await;
        replicas.push(replica);
    }
    let cells = replicas[0].cells();
    println!(
        "{} envelopes with {} messages in {sending:.1?}; {pages} pages to four devices in {:.1?}",
        cells.len(),
        cells.iter().map(|cell| cell.messages.len()).sum::<usize>(),
        reading.elapsed()
    );
    println!("came by itself: {delivered:?} cells (what a lost connection had missed came by pages)");
    for course in &courses {
        println!(
            "{} losses, {} sent twice, {} late, {} told as repeats, {} troubles",
            course.losses, course.twice, course.late, course.repeats, course.trouble
        );
    }

    assert_eq!(replicas[0].envelopes().len(), 4 * ENVELOPES, "no loss, no duplicate");
    replicas[0].is_contiguous();
    assert!(replicas.iter().all(|replica| *replica == replicas[0]), "all devices are equal");
    for (device, course) in devices.iter().zip(&courses) {
        let own = cells.iter().filter(|cell| cell.by == *device.author());
        let own: Vec<_> = own.map(|cell| (cell.envelope, cell.seq.get())).collect();
        assert_eq!(own, course.acknowledged, "in the device's own order, at the acknowledged numbers");
    }
    let stored = deployment.admin().log(&conversation).await;
    assert!(stored.iter().all(|slot| slot.envelope.is_some()), "nobody stalled, so there are no voids");
    assert_eq!(stored.len(), 4 * ENVELOPES);
    assert!(courses.iter().all(|course| course.losses > 0 && course.twice > 0), "the weather was bad: {courses:?}");
}

/// One device sends its envelopes, one after another, and loses its connection now and then.
async fn run(device: &mut Device, peer: &UserId, chance: &mut StdRng) -> Course {
    let mut course = Course::default();
    let mut earlier: Option<Envelope> = None;
    for i in 0..ENVELOPES {
        let envelope = device.writes_all(peer, &bodies(&format!("{i}"), 1 + chance.random_range(0..100) / 90));
        let frame = device.send_frame(vec![submission(&envelope)]);
        if chance.random_range(0..LOSS) == 0 {
            // Sent, and the connection is gone: nobody knows how far it came.
            device.post(&frame).await;
            device.drop_connection();
            device.connect().await;
            course.losses += 1;
        } else if i % TWICE == 0 {
            device.post(&frame).await;
            course.twice += 1;
        }
        let seq = until_acknowledged(device, &envelope, &mut course).await;
        course.acknowledged.push((envelope.id, seq));
        if chance.random_range(0..LATE) == 0
            && let Some(earlier) = earlier.replace(envelope)
        {
            // A frame that was under way all the time.
            let place = course.acknowledged.iter().find(|(id, _)| *id == earlier.id).map(|(_, seq)| *seq);
            match device.submit(resent(&earlier)).await {
                Ok(accepted) => assert_eq!((Some(accepted.seq), accepted.repeat), (place, true)),
                // Further back than is looked.
                Err(refusal) => assert_eq!(refusal.code, Code::LaneConflict),
            }
            course.late += 1;
        }
    }
    course
}

/// Sends until there is a verdict, as a device does.
async fn until_acknowledged(device: &mut Device, envelope: &Envelope, course: &mut Course) -> u64 {
    eventually("the envelope is acknowledged", DEADLINE, async || {
        let frame = device.send_frame(vec![resent(envelope)]);
        match device.ask(&frame).await {
            FromServer::Sent(sent) => match &sent.verdicts[0].outcome {
                Outcome::Accepted { seq, repeat, .. } => {
                    course.repeats += usize::from(*repeat);
                    Some(seq.get())
                }
                Outcome::Refused { error } if error.retryable => {
                    println!("trouble: {error}");
                    course.trouble += 1;
                    None
                }
                Outcome::Refused { error } => panic!("refused: {error:?}"),
            },
            other => panic!("send is answered with {other:?}"),
        }
    })
    .await
}
