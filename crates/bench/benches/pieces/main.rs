//! Single pieces of the functions and of the device library, each held still by itself: how long it takes, by criterion,
//! and how many instructions it is, where valgrind counts them.
//!
//! `cargo bench --package poste-bench --bench pieces` is criterion, with criterion's own options. `cargo local bench
//! pieces` has both, in the report of all measurements: see `crates/bench/src/pieces.rs`, which runs this program under
//! callgrind as `--piece NAME --times N`.

#[path = "../../src/account.rs"]
mod account;
mod device;
mod functions;
#[path = "../../src/server.rs"]
mod server;
mod tables;

use std::time::{Duration, Instant};

use anyhow::Context;
use criterion::Criterion;

/// How long criterion warms up, and measures.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(3);
/// How often criterion looks at the clock.
const SAMPLES: usize = 50;
/// How often a piece is played before it is made anew: what it leaves behind stays small.
const ROUND: u64 = 500;
/// Times before the first that counts: whatever is made once is made then.
const BEFORE: u64 = 3;

/// What is measured.
trait Piece {
    /// Gets ready for the next time. Not measured.
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Measured.
    fn act(&mut self) -> anyhow::Result<()>;
}

/// How a piece is made.
type Make = fn() -> anyhow::Result<Box<dyn Piece>>;

/// All pieces: what they are called in reports, what they are, and how they are made.
const PIECES: [(&str, &str, Make); 13] = [
    ("gateway_event", "an event of the gateway is read, with a frame in it", || {
        Ok(Box::new(functions::Gateway::make()?))
    }),
    ("parse_send", "a `send` frame with one message is read", || Ok(Box::new(functions::Parse::make()?))),
    ("judge_1000", "1,000 claims are held against their lanes", || Ok(Box::new(functions::Judge::make()))),
    ("append", "an envelope is appended, over ports in memory", || Ok(Box::new(functions::Appending::make()?))),
    ("page_500", "500 messages are read in pages, over ports in memory", || Ok(Box::new(functions::Paging::make()?))),
    ("join_10", "10 parcels are joined into a frame and posted, over ports in memory", || {
        Ok(Box::new(functions::Joining::make()?))
    }),
    ("fanout_100", "a parcel is posted to 100 members, over ports in memory", || {
        Ok(Box::new(functions::Spreading::make()?))
    }),
    ("write_delivery_25", "a delivery of 25 cells is written out", || Ok(Box::new(functions::Writing::make()?))),
    ("log_put", "a cell is put into the table: item, request, signature, answer", || {
        Ok(Box::new(tables::Putting::make()?))
    }),
    ("log_page_100", "100 cells are read from the table: request, signature, answer, items", || {
        Ok(Box::new(tables::Looking::make()?))
    }),
    ("device_send", "a device writes a message and forms its envelope and frame", || {
        Ok(Box::new(device::Sending::make()?))
    }),
    ("device_delivery_25", "a device takes in a delivery of 25 cells", || Ok(Box::new(device::Taking::make()?))),
    ("device_list_500", "a device lists 500 conversations", || Ok(Box::new(device::Listing::make()?))),
];

/// A piece, made anew from time to time.
struct Played {
    make: Make,
    piece: Box<dyn Piece>,
    times: u64,
}

impl Played {
    fn new(make: Make) -> anyhow::Result<Self> {
        Ok(Self { make, piece: make()?, times: 0 })
    }

    fn play(&mut self, act: impl FnOnce(&mut dyn Piece) -> anyhow::Result<()>) -> anyhow::Result<Duration> {
        if self.times == ROUND {
            *self = Self::new(self.make)?;
        }
        self.times += 1;
        self.piece.prepare()?;
        let began = Instant::now();
        act(&mut *self.piece)?;
        Ok(began.elapsed())
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    if arguments.iter().any(|argument| argument == "--pieces") {
        println!("{}", std::env::current_exe()?.display());
        for (name, what, _) in PIECES {
            println!("{name}\t{what}");
        }
    } else if let Some(wanted) = value("--piece") {
        let (.., make) = PIECES.iter().find(|(name, ..)| name == wanted).context("there is no such piece")?;
        let times: u64 = value("--times").context("how often?")?.parse()?;
        let mut played = Played::new(*make)?;
        for _ in 0..BEFORE {
            played.play(|piece| piece.act())?;
        }
        for _ in 0..times {
            played.play(act_of_a_piece)?;
        }
    } else {
        let criterion = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED).sample_size(SAMPLES);
        let mut criterion = criterion.configure_from_args();
        for (name, _, make) in PIECES {
            let mut played = Played::new(make).with_context(|| format!("making {name}"))?;
            criterion.bench_function(name, |bencher| {
                bencher.iter_custom(|times| {
                    let times =
                        (0..times).map(|_| played.play(|piece| piece.act()).expect("a piece works, every time"));
                    times.sum()
                });
            });
        }
        criterion.final_summary();
    }
    Ok(())
}

/// What callgrind counts: from here, until this returns. It knows it by its name.
#[inline(never)]
fn act_of_a_piece(piece: &mut dyn Piece) -> anyhow::Result<()> {
    piece.act()
}
