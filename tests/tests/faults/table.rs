//! What may go wrong.

use poste_local::{Fault, Rule};

/// Of the calls that a rule is for, so many are struck: of a function's calls in a send, one or two.
const SHARE: f64 = 0.2;
/// Of pushes there are few: most are struck.
const MOST: f64 = 0.9;
/// Where everything goes wrong at once.
const SOME: f64 = 0.04;
/// In a long run.
const LITTLE: f64 = 0.002;

/// Services that functions call, as signatures name them.
const SERVICES: [&str; 5] = ["dynamodb", "sqs", "execute-api", "s3", "sns"];

/// What may happen to a call. Slow is beyond what the functions wait for, now and then.
const FAULTS: [Fault; 7] = [
    Fault::Slow { median_ms: 150.0, p99_ms: 3_000.0 },
    Fault::Throttled,
    Fault::Failed,
    Fault::Lost,
    Fault::Cut,
    Fault::Unanswered,
    Fault::Torn,
];

/// What happens besides what the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// A function's process is killed.
    Kill,
    /// The emulator ends, with all functions and connections, and starts again with what it held.
    Restart,
    /// All connections of the devices are cut.
    CutDevices,
    /// A device has no network for a while.
    Tunnel,
    /// What was delivered is queued again.
    Redeliver,
    /// A device's clock is set by months, forward or back, while its application is closed.
    SetClock,
}

/// Something that goes wrong while people write.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    /// For people.
    pub(crate) name: String,
    /// What happens to calls.
    pub(crate) rules: Vec<Rule>,
    /// What happens besides.
    pub(crate) blows: Vec<Blow>,
    /// Whether files are sent.
    pub(crate) files: bool,
    /// Whether somebody is away, and is to be woken.
    pub(crate) wakes: bool,
}

fn of_calls(service: Option<&str>, fault: Fault, share: f64) -> Rule {
    // Every one, or few are slow: others wait for them.
    let share = if matches!(fault, Fault::Slow { .. }) { 1.0_f64.min(share * 2.0) } else { share };
    Rule { service: service.map(str::to_owned), operation: None, share, fault }
}

fn of_service(service: &str, fault: Fault) -> Trouble {
    Trouble {
        name: format!("{service}: {}", words(fault)),
        rules: vec![of_calls(Some(service), fault, if service == "sns" { MOST } else { SHARE })],
        blows: Vec::new(),
        files: service == "s3",
        wakes: service == "sns",
    }
}

/// A fault in words.
fn words(fault: Fault) -> &'static str {
    match fault {
        Fault::Slow { .. } => "calls take 150 ms, one of a hundred 3 s",
        Fault::Throttled => "throttled",
        Fault::Failed => "5xx before the call takes effect",
        Fault::Lost => "5xx after the call took effect",
        Fault::Cut => "cut before the call takes effect",
        Fault::Unanswered => "cut after the call took effect",
        Fault::Torn => "cut in the midst of the answer",
    }
}

fn blow(name: &str, blows: &[Blow]) -> Trouble {
    Trouble { name: name.to_owned(), rules: Vec::new(), blows: blows.to_vec(), files: false, wakes: false }
}

/// What strikes otherwise than by the proxy.
fn blows() -> Vec<Trouble> {
    let some = FAULTS.map(|fault| of_calls(None, fault, SOME)).to_vec();
    let everything = [Blow::Kill, Blow::CutDevices, Blow::Tunnel, Blow::Redeliver];
    vec![
        blow("processes of functions are killed", &[Blow::Kill]),
        blow("the emulator ends and starts again with its state", &[Blow::Restart]),
        blow("connections of devices are cut", &[Blow::CutDevices]),
        blow("devices have no network for a while", &[Blow::Tunnel]),
        blow("queue messages that were delivered come again", &[Blow::Redeliver]),
        blow("clocks of devices are set by months", &[Blow::SetClock]),
        Trouble { files: true, rules: some, ..blow("all of it at once, each a little", &everything) },
    ]
}

/// What goes on in the background of a long run: of each fault a little.
pub(crate) fn drizzle() -> Trouble {
    let rules = FAULTS.map(|fault| of_calls(None, fault, LITTLE)).to_vec();
    Trouble { rules, files: true, ..blow("a little of everything", &[]) }
}

/// Nothing goes wrong, as far as the proxy is concerned. With or without files.
pub(crate) fn peace(files: bool) -> Trouble {
    Trouble { files, ..blow("nothing", &[]) }
}

/// Every service with every fault, and everything else.
pub(crate) fn all() -> Vec<Trouble> {
    let each = SERVICES.iter().flat_map(|service| FAULTS.map(|fault| of_service(service, fault)));
    each.chain(blows()).collect()
}

/// Every fault, of all services together, and everything else.
pub(crate) fn short() -> Vec<Trouble> {
    let each = FAULTS.map(|fault| Trouble {
        name: format!("all services: {}", words(fault)),
        rules: vec![of_calls(None, fault, SHARE / 2.0)],
        blows: Vec::new(),
        files: matches!(fault, Fault::Lost | Fault::Torn),
        wakes: fault == Fault::Unanswered,
    });
    each.into_iter().chain(blows()).collect()
}
