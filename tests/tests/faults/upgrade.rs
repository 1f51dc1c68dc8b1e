//! An update of the deployed stack and its rollback, while people write: on the device library of now, and on that of the
//! older version. `cargo local upgrade` plays it: it alone has an older version, whose client `POSTE_OLDER` names.
//!
//! `POSTE_UPGRADE_SECONDS` says how long people write under each version, `POSTE_SEED` repeats the choices, and
//! `POSTE_UPGRADE_REPORT` names a file for the figures.

use std::{
    cell::Cell,
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use poste_client::{Client, Counters, Event};
use poste_protocol::{Author, MessageId};
use poste_tests::{Deployment, Faults};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::{
    ALONE, number,
    older::Older,
    people::{DEVICES, People},
    report, table,
};

/// How long people write under each version, unless `POSTE_UPGRADE_SECONDS` says otherwise.
const SECONDS: u64 = 20;
/// While a version takes the place of another, people write for so long and look whether it has.
const STEP: Duration = Duration::from_millis(500);
/// Between two messages of a device, about: longer than under faults, for the time without an acknowledgement is to be that
/// of the update and not that of a machine with too much to do.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two messages of a device with the older library, about.
const OLDER_PAUSE: Duration = Duration::from_millis(400);

/// What came of it.
#[derive(Debug, Serialize)]
struct Upgrade {
    seed: u64,
    seconds: u64,
    devices: usize,
    older_devices: usize,
    took_seconds: f64,
    messages: usize,
    of_older: usize,
    files: usize,
    late: usize,
    voids: u64,
    phases: Vec<Phase>,
}

/// What happened while certain functions were deployed.
#[derive(Debug, Serialize)]
struct Phase {
    functions: String,
    seconds: f64,
    /// Messages that were acknowledged.
    messages: usize,
    /// Of these, those of devices with the older library.
    of_older: usize,
    /// Requests that were answered with an error, of the server or of the gateway, of devices with the library of now.
    refused: u64,
    /// Envelopes that these sent again.
    again: u64,
    /// Connections that these made.
    connections: u64,
    /// The longest time between two acknowledgements, of all devices together.
    silence_ms: u64,
    /// The longest that a message waited for its own, from the device's disk on.
    wait_ms: u64,
}

/// When messages were written and acknowledged, as devices showed it.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    seen: Arc<Mutex<HashMap<MessageId, Seen>>>,
    /// A device told more than was listened to.
    missed: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    written: Option<Instant>,
    acknowledged: Option<Instant>,
    older: bool,
}

/// Where one phase ends and the next begins.
struct Border {
    functions: &'static str,
    at: Instant,
    counters: Counters,
}

impl Watch {
    /// A device shows a message of its own. The first time counts.
    pub(crate) fn note(&self, id: MessageId, written: Option<Instant>, acknowledged: bool, older: bool) {
        let mut all = self.seen.lock().expect("nobody panics with it");
        let seen = all.entry(id).or_insert(Seen { written, older, ..Seen::default() });
        if acknowledged {
            seen.acknowledged.get_or_insert_with(Instant::now);
        }
    }

    /// Listens to a device.
    fn listens(&self, client: &Client, author: &Author) -> JoinHandle<()> {
        let (mut events, author, watch) = (client.events(), author.clone(), self.clone());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::Added { message } | Event::Updated { message }
                        if message.user == author.user && message.device == author.device =>
                    {
                        watch.note(message.id, Some(Instant::now()), message.seq.is_some(), false);
                    }
                    Event::Missed { .. } => watch.missed.store(true, Ordering::Relaxed),
                    _ => {}
                }
            }
        })
    }

    /// Those that were acknowledged, in the order of that.
    fn acknowledged(&self) -> Vec<(Instant, Seen)> {
        assert!(!self.missed.load(Ordering::Relaxed), "everything that devices told was listened to");
        let all = self.seen.lock().expect("nobody panics with it");
        let mut all: Vec<_> = all.values().filter_map(|seen| Some((seen.acknowledged?, *seen))).collect();
        all.sort_unstable_by_key(|(at, _)| *at);
        all
    }
}

/// I1, I2, I4, I5, I9, D6, failures 1, 2, 8 and 9: while a version takes the place of an older one, and the older one its
/// place again, what was accepted is stored once, in the order of writing, and on all devices, also on those whose
/// application is older; and these go on with the library of now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_in_an_update() {
    let _alone = ALONE.lock().await;
    let Some(program) = std::env::var_os("POSTE_OLDER").map(PathBuf::from) else {
        println!("not played: there is no older version here; `cargo local upgrade` has one");
        return;
    };
    let seed = number("POSTE_SEED").unwrap_or_else(rand::random::<u64>);
    let seconds = number("POSTE_UPGRADE_SECONDS").unwrap_or(SECONDS);
    println!("POSTE_SEED={seed} POSTE_UPGRADE_SECONDS={seconds}");
    let time = Duration::from_secs(seconds);
    let began = Instant::now();
    let deployment = Deployment::here();
    let faults = Faults::of(&deployment);
    let mut chance = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let guests = ["dave", "erin"].map(|name| deployment.user(name));
    let mut people = People::gather(&deployment, folder.path(), &table::peace(false), &guests).await;
    let (group, alice) = (people.group().clone(), people.somebody().clone());
    let mut dave = Older::joins(&program, &deployment, folder.path(), &guests[0], 0).await;
    let mut erin = Older::joins(&program, &deployment, folder.path(), &guests[1], 1).await;

    let watch = Watch::default();
    let listeners: Vec<_> = people.clients().map(|(author, client)| watch.listens(client, author)).collect();
    let ends = AtomicBool::new(false);
    let [mut for_dave, mut for_erin] = std::array::from_fn(|_| StdRng::seed_from_u64(chance.random()));
    let scenes = async {
        let borders = Box::pin(plays(&mut people, &deployment, &faults, time, &mut chance)).await;
        ends.store(true, Ordering::Relaxed);
        borders
    };
    let (borders, (), ()) = futures::join!(
        scenes,
        dave.chats(&alice, &ends, OLDER_PAUSE, &mut for_dave, &watch),
        erin.sends(&group, &ends, OLDER_PAUSE, &mut for_erin, &watch)
    );

    // What waits in an older outbox has to be sent before the others can have everything.
    dave.comes_to_rest().await;
    erin.comes_to_rest().await;
    let mut late = people.come_to_rest().await;
    dave.shows_everything(&deployment, Some(&alice), &group).await;
    erin.shows_everything(&deployment, None, &group).await;
    let of_older = dave.written() + erin.written();
    dave.updates(&deployment, &mut people).await;
    erin.updates(&deployment, &mut people).await;
    late += people.come_to_rest().await;
    let voids = people.judge(&deployment).await;

    let phases = phases(&borders, &watch.acknowledged());
    for phase in &phases {
        println!("{phase:?}");
    }
    for phase in phases.iter().filter(|phase| !phase.functions.contains("place")) {
        assert!(phase.messages > phase.of_older && phase.of_older > 0, "both libraries work with {}", phase.functions);
    }
    let (messages, files) = (people.written(), people.files());
    println!("{messages} messages, {of_older} of them with the older library, {files} files; nothing lost");
    report(
        "POSTE_UPGRADE_REPORT",
        &Upgrade {
            seed,
            seconds,
            devices: DEVICES,
            older_devices: guests.len(),
            took_seconds: began.elapsed().as_secs_f64(),
            messages,
            of_older,
            files,
            late,
            voids,
            phases,
        },
    );
    people.leave().await;
    for listener in listeners {
        listener.await.expect("it ends with its client");
    }
}

/// All that is played; gives where phases begin. The last border is the end.
async fn plays(
    people: &mut People,
    deployment: &Deployment,
    faults: &Faults,
    time: Duration,
    chance: &mut StdRng,
) -> Vec<Border> {
    let peace = table::peace(false);
    let mut borders = vec![border("of the older version", people).await];
    people.live(deployment, faults, &peace, time, PAUSE, chance).await;
    borders.push(border("while those of this version take their place", people).await);
    during(faults.update(), people, deployment, faults, chance).await;
    borders.push(border("of this version", people).await);
    people.live(deployment, faults, &peace, time, PAUSE, chance).await;
    borders.push(border("while the older ones take their place", people).await);
    during(faults.roll_back(), people, deployment, faults, chance).await;
    borders.push(border("of the older version again", people).await);
    people.live(deployment, faults, &peace, time, PAUSE, chance).await;
    borders.push(border("", people).await);
    borders
}

/// People write and send files until something is done.
async fn during(
    deed: impl Future<Output = ()>,
    people: &mut People,
    deployment: &Deployment,
    faults: &Faults,
    chance: &mut StdRng,
) {
    let done = Cell::new(false);
    let deed = async {
        deed.await;
        done.set(true);
    };
    let writing = async {
        let mut files = true;
        while !done.get() {
            people.live(deployment, faults, &table::peace(files), STEP, PAUSE, chance).await;
            files = false;
        }
    };
    futures::join!(deed, writing);
}

async fn border(functions: &'static str, people: &People) -> Border {
    let mut counters = Counters::default();
    for (_, client) in people.clients() {
        counters += client.counters().await.expect("open");
    }
    Border { functions, at: Instant::now(), counters }
}

fn phases(borders: &[Border], acknowledged: &[(Instant, Seen)]) -> Vec<Phase> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).expect("not that long");
    let phase = |pair: &[Border]| {
        let (begin, end) = (&pair[0], &pair[1]);
        let within: Vec<_> = acknowledged.iter().filter(|(at, _)| (begin.at..end.at).contains(at)).collect();
        // Silence is of the phase in which it ends.
        let before = acknowledged.iter().rev().find(|(at, _)| *at < begin.at);
        let times = before.into_iter().chain(within.iter().copied()).map(|(at, _)| *at);
        let times: Vec<_> = times.chain((within.is_empty()).then_some(end.at)).collect();
        let silence = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        let wait = within.iter().filter_map(|(at, seen)| Some(*at - seen.written?)).max();
        Phase {
            functions: begin.functions.to_owned(),
            seconds: (end.at - begin.at).as_secs_f64(),
            messages: within.len(),
            of_older: within.iter().filter(|(_, seen)| seen.older).count(),
            refused: end.counters.refused - begin.counters.refused,
            again: end.counters.resubmissions - begin.counters.resubmissions,
            connections: end.counters.connections - begin.counters.connections,
            silence_ms: silence.map(milliseconds).unwrap_or_default(),
            wait_ms: wait.map(milliseconds).unwrap_or_default(),
        }
    };
    borders.windows(2).map(phase).collect()
}
