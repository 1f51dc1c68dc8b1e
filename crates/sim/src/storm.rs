//! A run: devices write, move, die and come back in bad weather; then it clears up, and everything must be there.

use std::{sync::Arc, time::Duration};

use poste_domain::{
    Interval, Membership, Retention,
    append::Settings,
    ports::Slot,
    presence::{LEASE_MS, RENEW_MS},
};
use poste_protocol::{Author, ConversationId, DeviceId, Platform, ProviderToken, PushStyle, PushToken, Seq, UserId};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    check::{self, Violation},
    device::{Deed, Device, Fate},
    memory::World,
    mutation::Mutation,
    network::Network,
    weather::{Odds, Weather},
};

/// How long the bad weather lasts.
const STORM: Duration = Duration::from_mins(2);

/// How long after it everything may take to arrive: many backoffs and every grace.
const AFTERMATH: Duration = Duration::from_mins(30);

/// A day, in milliseconds.
const DAY: u64 = 86_400_000;

/// How often it is looked whether everything has arrived.
const LOOK: Duration = Duration::from_secs(5);

/// What a run was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Messages that were written.
    pub messages: usize,
    /// Slots in the logs.
    pub slots: usize,
    /// Voids among them.
    pub voids: usize,
    /// Slots that the store has removed.
    pub removed: usize,
    /// Envelopes that were refused as expired.
    pub expired: usize,
    /// Frames that were posted to devices.
    pub posts: usize,
    /// Pushes that the provider took.
    pub pushes: usize,
}

/// A run, by its seed.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// Decides everything.
    pub seed: u64,
    /// A rule to break.
    pub mutation: Option<Mutation>,
    /// Whether what happens is written down, for a violation.
    pub chronicle: bool,
}

impl From<u64> for Storm {
    fn from(seed: u64) -> Self {
        Self { seed, mutation: None, chronicle: false }
    }
}

impl Storm {
    /// Plays it. The same seed plays the same.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    ///
    /// # Panics
    /// When no runtime can be made.
    pub fn play(self) -> Result<Report, Violation> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime of one thread");
        runtime.block_on(self.run())
    }

    async fn run(self) -> Result<Report, Violation> {
        let mut dice = StdRng::seed_from_u64(self.seed);
        // Lanes inside the head, outside, and both.
        let lanes_in_head = [10, 2, 0][dice.random_range(0..3)];
        let world = World::new(Weather::new(dice.random(), Odds::STORM), lanes_in_head).with(self.mutation);
        let world = Arc::new(world);
        if self.chronicle {
            world.chronicle.begin();
        }
        let outcome = self.run_in(&world, dice).await;
        outcome.map_err(|violation| Violation { told: world.chronicle.lines(), ..violation })
    }

    async fn run_in(self, world: &Arc<World>, mut dice: StdRng) -> Result<Report, Violation> {
        let settings = Settings {
            acceptance_ms: [30 * DAY, 30 * DAY, 20_000][dice.random_range(0..3)],
            retention: Retention::of([0, 0, 60_000, 100_000][dice.random_range(0..4)]),
        };
        let network = Arc::new(Network::new(world.clone(), dice.random(), settings));
        tokio::spawn(network.clone().deliver());
        tokio::spawn(network.clone().remove());
        tokio::spawn(network.clone().notify());
        // Erin has a device that can be woken, and never comes.
        let users = ["alice", "bob", "carol", "dave", check::AWAY].map(|name| UserId::new(name).expect("a valid name"));
        // Small worlds are quick, and their stories short; some faults show in them sooner, others in large ones.
        let names = [(0, "phone"), (1, "phone"), (0, "tablet"), (2, "phone"), (1, "laptop"), (3, "phone")];
        let names = &names[..dice.random_range(2..=names.len())];
        // Dave is a guest of alice and bob, twice, and sees what was written in those times.
        let (left, back) = (dice.random_range(3..15), dice.random_range(16..25));
        let interval = |from, to| Interval { from: Seq::ZERO.plus(from), to: Some(Seq::ZERO.plus(to)) };
        let guest = Membership::new(vec![interval(2, left), interval(back, back + 9)]);
        world.admit(&ConversationId::direct(&users[0], &users[1]), &users[3], guest);
        world.switch_receipts_off(&UserId::new(check::DISCREET).expect("a valid name"));
        for (user, device) in names.iter().chain(&[(4, "phone")]) {
            let device = DeviceId::new(*device).expect("a valid name");
            let author = Author { user: users[*user].clone(), device };
            let token = ProviderToken::new(format!("{}-{}", author.user, author.device)).expect("a valid token");
            let token = PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert };
            network.register(&author, &token).await;
        }
        let devices: Vec<Device> = names
            .iter()
            .map(|(user, device)| {
                let device = DeviceId::new(*device).expect("a valid name");
                Device::start(network.clone(), Author { user: users[*user].clone(), device }, dice.random())
            })
            .collect();

        // Nobody writes to who is not there, but to Erin.
        let here = names.iter().map(|(user, _)| user + 1).max().unwrap_or_default();
        let mut fates = fates(&mut dice, &[&users[..here], &users[4..]].concat(), names);
        fates.sort_by_key(|(at, ..)| *at);
        let began = tokio::time::Instant::now();
        for (at, device, fate) in fates {
            tokio::time::sleep_until(began + at).await;
            devices[device].befall(fate);
        }
        tokio::time::sleep_until(began + STORM).await;

        network.clear_up();
        for device in &devices {
            device.befall(Fate::Network(true));
        }
        // Whatever is still on its way arrives, of devices' earlier lives, too.
        tokio::time::sleep(STORM).await;
        self.come_to_rest(&network, &devices, false).await?;
        // A mark's news may be lost like any frame; the next connection brings them.
        for device in &devices {
            device.befall(Fate::Break);
        }
        tokio::time::sleep(STORM).await;
        self.come_to_rest(&network, &devices, true).await?;
        check::check(&network, &devices)?;
        self.look_at_each_other(&network, &devices).await?;

        let logs = users.iter().enumerate().flat_map(|(i, a)| users[i..].iter().map(move |b| (a, b)));
        let ids = logs.map(|(a, b)| ConversationId::direct(a, b)).chain(world.groups());
        let slots: Vec<_> = ids.flat_map(|id| world.log_of(&id)).collect();
        Ok(Report {
            messages: devices.iter().map(|d| d.written.lock().expect("no panic under the lock").len()).sum(),
            slots: slots.len(),
            voids: slots.iter().filter(|slot| matches!(slot, Slot::Void(_))).count(),
            removed: world.removed(),
            expired: network.expired().len(),
            posts: world.posts().len(),
            pushes: world.pushes().len(),
        })
    }

    /// Everybody looks, and sees everybody. Then some put it away, and nobody sees them any more.
    async fn look_at_each_other(&self, network: &Network, devices: &[Device]) -> Result<(), Violation> {
        for device in devices {
            device.befall(Fate::Look(true));
            device.befall(Fate::Type(devices[0].me.user.clone()));
        }
        tokio::time::sleep(Duration::from_millis(RENEW_MS) + LOOK).await;
        check::everybody_is_seen(network, devices)?;
        check::nobody_is_seen_who_is_gone(network, devices)?;
        for device in devices.iter().filter(|device| device.me.user == devices[0].me.user) {
            device.befall(Fate::Look(false));
        }
        tokio::time::sleep(Duration::from_millis(LEASE_MS) + LOOK).await;
        check::nobody_is_seen_who_is_gone(network, devices)
    }

    async fn come_to_rest(&self, network: &Network, devices: &[Device], connected_anew: bool) -> Result<(), Violation> {
        let until = tokio::time::Instant::now() + AFTERMATH;
        while let Some(what) = check::unrest(network, devices, connected_anew) {
            if tokio::time::Instant::now() > until {
                return Err(Violation { invariant: "liveness", what, told: Vec::new() });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

fn others(dice: &mut StdRng, users: &[UserId], user: usize) -> UserId {
    let others: Vec<&UserId> = users.iter().filter(|other| **other != users[user]).collect();
    others[dice.random_range(0..others.len())].clone()
}

/// What befalls which device when. Some come late, when there is something already.
fn fates(dice: &mut StdRng, users: &[UserId], names: &[(usize, &str)]) -> Vec<(Duration, usize, Fate)> {
    let mut fates = Vec::new();
    // A long burst fills several envelopes and pages.
    let burst = if dice.random_bool(0.25) { 30 } else { 4 };
    let end = u64::try_from(STORM.as_millis()).unwrap_or(u64::MAX);
    for (device, (user, name)) in names.iter().enumerate() {
        for n in 0..dice.random_range(3..20) {
            // Bursts: several messages at once, so that envelopes hold more than one.
            let at = Duration::from_millis(dice.random_range(0..end));
            let to = others(dice, users, *user);
            for i in 0..[1, 1, 1, 3, burst][dice.random_range(0..5)] {
                fates.push((at, device, Fate::Write(to.clone(), format!("{name} {n}.{i}"))));
            }
        }
        let users: Vec<UserId> = users.to_vec();
        if *user == 0 || dice.random_bool(0.3) {
            let members = users.iter().filter(|_| dice.random_bool(0.5)).cloned().collect();
            fates.push((Duration::from_millis(dice.random_range(0..end / 3)), device, Fate::Create(members)));
        }
        for _ in 0..dice.random_range(5..30) {
            let other = &users[dice.random_range(0..users.len())];
            let (group, deed) = (dice.random_range(0..1_000), Deed::any(dice.random_range(0..1_000), other));
            fates.push((Duration::from_millis(dice.random_range(0..end)), device, Fate::InGroup(group, deed)));
        }
        if dice.random_bool(0.2) {
            fates.push((Duration::ZERO, device, Fate::Network(false)));
            fates.push((Duration::from_millis(dice.random_range(0..end)), device, Fate::Network(true)));
        }
        let mut at = 0;
        loop {
            at += dice.random_range(500..30_000);
            if at >= end {
                break;
            }
            let fate = match dice.random_range(0..20) {
                0..3 => Fate::Network(false),
                3..6 => Fate::Network(true),
                6..8 => Fate::Break,
                8 => Fate::Kill,
                9 => Fate::Backup,
                10 => Fate::RollBack,
                11..14 => Fate::Older,
                14..17 => Fate::Look(true),
                17 => Fate::Look(false),
                18 => Fate::Type(others(dice, &users, *user)),
                _ => Fate::Clock(dice.random_range(-86_400_000..86_400_000)),
            };
            fates.push((Duration::from_millis(at), device, fate));
        }
        for n in 0..dice.random_range(0..15) {
            let at = Duration::from_millis(dice.random_range(0..end));
            let which = dice.random_range(0..1_000);
            let deletes = dice.random_bool(0.3);
            let fate = if deletes { Fate::Delete(which) } else { Fate::Edit(which, format!("{name} edits {n}")) };
            // Some at once with others, and some right after each other.
            for copy in 0..[1, 1, 2][dice.random_range(0..3)] {
                fates.push((at + Duration::from_millis(copy * 30), device, fate.clone()));
            }
        }
    }
    fates
}
