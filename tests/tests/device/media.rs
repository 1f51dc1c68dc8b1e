//! A long file on its way through the deployed stack, while its device's process is killed and its network cut.
//!
//! `POSTE_MEGABYTES` says how long it is (200 unless it does), `POSTE_SEED` repeats a run's choices. What is printed at
//! the end is what `docs/SEMANTICS.md` is held against: bytes that were sent twice, and the device's largest memory.

use std::{
    fs,
    io::{BufWriter, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use poste_protocol::{Digest, MessageId, UserId};
use poste_tests::{DEADLINE, Deployment, Mortal, Order, Road, Told};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::MORTAL;

/// Megabytes of the file.
const MEGABYTES: u64 = 200;

/// How often a device's process is killed, and how often its network is cut, each way.
const KILLS: usize = 2;
const CUTS: usize = 1;

/// Bytes of parts that may be under way when a process ends or a connection is cut: they are sent again.
const UNDER_WAY: u64 = 2 * 5 * 1024 * 1024;

/// What a process of the device may take, in bytes.
const MEMORY: u64 = 64 << 20;

/// What heads, the socket and its frames take on the road beside the bytes of the file.
const AROUND: u64 = 4 << 20;

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(10);

/// How long nothing may move.
const STUCK: Duration = DEADLINE.saturating_mul(3);

/// What befalls the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Cut,
}

/// A device's process on the road.
struct Traveller<'a> {
    folder: &'a Path,
    stack: &'a Path,
    user: UserId,
    process: Option<Mortal>,
    memory: u64,
}

impl Traveller<'_> {
    /// Starts the process, and opens the account in it.
    fn start(&mut self) -> &mut Mortal {
        let mut process = Mortal::start_on(MORTAL, self.stack, self.folder, &self.user, "phone");
        assert_eq!(process.does(&Order::Open { network: true }), Told::Done);
        self.process.insert(process)
    }

    fn process(&mut self) -> &mut Mortal {
        self.process.as_mut().expect("it is started")
    }

    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            self.memory = self.memory.max(process.largest_memory());
            process.kill();
        }
    }
}

/// Waits until it is done, killing and cutting on the way wherever so many bytes have moved. A device that was killed is
/// given the order again.
async fn travels(
    road: &Road,
    traveller: &mut Traveller<'_>,
    mut blows: Vec<(u64, Blow)>,
    moved: impl Fn(&Road) -> u64,
    order: Option<&Order>,
    mut is_done: impl AsyncFnMut(&mut Mortal) -> bool,
) {
    let mut last = (0, Instant::now());
    while !is_done(traveller.process()).await {
        let now = moved(road);
        if now > last.0 {
            last = (now, Instant::now());
        }
        assert!(
            last.1.elapsed() < STUCK,
            "nothing has moved for {STUCK:?}: {now} bytes, {} blows to come",
            blows.len()
        );
        let Some((_, blow)) = blows.pop_if(|(place, _)| *place <= now) else { continue };
        match blow {
            Blow::Kill => {
                traveller.kill();
                traveller.start().order(order);
            }
            Blow::Cut => road.cut(),
        }
    }
    assert!(blows.is_empty(), "it was done before the end: {} blows are left", blows.len());
    traveller.kill();
}

/// At which bytes of so many what befalls a device; the last comes first.
fn blows(size: u64, chance: &mut StdRng) -> Vec<(u64, Blow)> {
    let mut kinds = [vec![Blow::Kill; KILLS], vec![Blow::Cut; CUTS]].concat();
    let mut places: Vec<u64> = kinds.iter().map(|_| chance.random_range(size / 20..size - size / 8)).collect();
    places.sort_unstable_by(|a, b| b.cmp(a));
    places.into_iter().map(|place| (place, kinds.remove(chance.random_range(0..kinds.len())))).collect()
}

/// M1, M2, M3, C6: a long file comes out as it went in; what was sent twice is what was under way, and no device ever
/// holds the file in memory.
#[tokio::test]
async fn a_long_file_survives_kills_and_cuts() {
    let seed = std::env::var("POSTE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    let megabytes = std::env::var("POSTE_MEGABYTES").ok().and_then(|mb| mb.parse().ok()).unwrap_or(MEGABYTES);
    println!("POSTE_SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let deployment = Deployment::here();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, size) = (folder.path().join("harbour.mp4"), megabytes * 1_000_000);
    let sum = write_file(&file, size, &mut chance);
    let authority = deployment.stack().endpoint.trim_start_matches("http://").to_owned();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let kept = ["alice", "bob"].map(|name| folder.path().join(name));
    for folder in &kept {
        fs::create_dir(folder).expect("a folder");
    }

    // Up.
    let road = Road::to(&authority).await;
    let stack = stack_on(&deployment, &authority, &road, folder.path());
    let mut phone = Traveller { folder: &kept[0], stack: &stack, user: alice.clone(), process: None, memory: 0 };
    let order = Order::WriteFile { to: bob.clone(), path: file.clone() };
    let Told::Wrote { id } = phone.start().does(&order) else { panic!("the file is written") };
    let began = Instant::now();
    travels(&road, &mut phone, blows(size, &mut chance), Road::up, None, async |process| {
        tokio::time::sleep(LOOK).await;
        matches!(process.does(&Order::Show), Told::Shown { outbox, .. } if !outbox.contains(&id))
    })
    .await;
    let (up, up_time) = (road.up(), began.elapsed());
    drop(road);

    // Down.
    let road = Road::to(&authority).await;
    let stack = stack_on(&deployment, &authority, &road, folder.path());
    let mut bobs = Traveller { folder: &kept[1], stack: &stack, user: bob.clone(), process: None, memory: 0 };
    has_come(bobs.start(), id).await;
    let conversation = poste_protocol::ConversationId::direct(&alice, &bob);
    let order = Order::Download { conversation, id };
    bobs.process().order([&order]);
    let began = Instant::now();
    let mut came = None;
    travels(&road, &mut bobs, blows(size, &mut chance), Road::down, Some(&order), async |process| {
        // The road is on this thread, too.
        tokio::time::sleep(LOOK).await;
        match process.hear_within(Duration::ZERO) {
            Some(Told::Saved { path }) => came = Some(path),
            Some(Told::Done) | None => {}
            // A download that was cut off is asked for again, as a person would.
            Some(Told::Refused { .. }) => process.order([&order]),
            Some(other) => panic!("{other:?}"),
        }
        came.is_some()
    })
    .await;
    let (down, down_time) = (road.down(), began.elapsed());

    let came = came.expect("it has come");
    assert_eq!(read_file(&came), (size, sum), "bytes are equal");
    // In thousandths.
    let again = |moved: u64| moved.saturating_sub(size) * 1_000 / size;
    println!(
        "{megabytes} MB, {KILLS} kills and {CUTS} cuts each way: of a thousand bytes {} were sent again up ({up_time:.1?}) and {} down \
         ({down_time:.1?}); largest memory {} MiB of the sender, {} MiB of the receiver",
        again(up),
        again(down),
        phone.memory >> 20,
        bobs.memory >> 20,
    );
    let blows = (KILLS + CUTS) as u64;
    assert!(up <= size + blows * UNDER_WAY + AROUND, "{up} bytes went up of a file of {size}");
    assert!(down <= size + blows * (UNDER_WAY / 2) + AROUND, "{down} bytes came down of a file of {size}");
    assert!(phone.memory.max(bobs.memory) < MEMORY, "{} and {} bytes", phone.memory, bobs.memory);
}

/// Waits until a message is on a device's screen.
async fn has_come(process: &mut Mortal, id: MessageId) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let Told::Shown { lists, .. } = process.does(&Order::Show) else { panic!("it shows") };
        if lists.values().flatten().any(|line| line.id == id) {
            return;
        }
        assert!(Instant::now() < deadline, "the message does not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A state file of the stack in which devices are led over the road.
fn stack_on(deployment: &Deployment, authority: &str, road: &Road, folder: &Path) -> std::path::PathBuf {
    let mut stack = deployment.stack().clone();
    stack.socket_url = stack.socket_url.replace(authority, road.address());
    let file = folder.join(format!("stack-{}.json", road.address().replace(':', "-")));
    fs::write(&file, serde_json::to_vec(&stack).expect("plain fields")).expect("written");
    file
}

/// Writes a file of random bytes, and gives their checksum.
fn write_file(path: &Path, size: u64, chance: &mut StdRng) -> Digest {
    let mut file = BufWriter::new(fs::File::create(path).expect("a file"));
    let mut left = size;
    let mut chunk = vec![0_u8; 1 << 20];
    while left > 0 {
        let now = usize::try_from(left.min(1 << 20)).expect("small");
        chance.fill(&mut chunk[..now]);
        file.write_all(&chunk[..now]).expect("written");
        left -= now as u64;
    }
    file.flush().expect("written");
    drop(file);
    read_file(path).1
}

/// How long a file is, and its checksum.
fn read_file(path: &Path) -> (u64, Digest) {
    let size = fs::metadata(path).expect("it is there").len();
    let mut file = fs::File::open(path).expect("it is there");
    let mut sums = Vec::new();
    for part in 1..=poste_protocol::part_count(size) {
        let (_, bytes) = poste_protocol::part_range(size, part);
        let mut part = vec![0; usize::try_from(bytes).expect("a part fits")];
        file.read_exact(&mut part).expect("readable");
        sums.push(Digest::of(&part));
    }
    (size, Digest::of_parts(&sums))
}
