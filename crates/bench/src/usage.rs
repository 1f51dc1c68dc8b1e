//! What the emulator counts of what a deployment would be billed for (`localstack/emulator.py`, `count_usage`), by the
//! names that the project has for functions and tables.

use std::collections::{BTreeMap, HashMap};

use crate::prices::Counted;

/// Memory of each function in `infra/template.yaml`, in GB.
const MEMORY_GB: f64 = 0.25;

/// The functions that a queue feeds. For each batch AWS receives and deletes, which is billed; the emulator's own poller
/// does not ask itself.
const BEHIND_QUEUES: [&str; 2] = ["deliver", "notify"];

/// Operations that put something into a queue.
const SENDING: [&str; 2] = ["SendMessage", "SendMessageBatch"];

/// One count: of what, by which function, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// `call`, `write`, `read`, `invoke`, `ms` or `frame`.
    pub(crate) what: String,
    /// The function; of a frame its direction.
    pub(crate) who: String,
    /// The operation or the table, if there is one.
    pub(crate) which: String,
}

/// Counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Usage(BTreeMap<Kind, f64>);

impl Usage {
    /// Of what the emulator tells, with names as deployed and what the project calls them.
    pub(crate) fn read(told: &BTreeMap<String, f64>, names: &HashMap<&str, &str>) -> Self {
        let known = |name: &str| (*names.get(name).unwrap_or(&name)).to_owned();
        let mut counts = BTreeMap::new();
        for (words, count) in told {
            let mut words = words.splitn(3, ' ').map(known);
            let mut next = || words.next().unwrap_or_default();
            let kind = Kind { what: next(), who: next(), which: next() };
            *counts.entry(kind).or_default() += count;
        }
        Self(counts)
    }

    /// What has come since.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().map(|(kind, count)| (kind.clone(), count - before.0.get(kind).unwrap_or(&0.0)));
        Self(grown.filter(|(_, count)| *count > 0.0).collect())
    }

    /// The sum of what is chosen.
    pub(crate) fn sum(&self, is_wanted: impl Fn(&Kind) -> bool) -> f64 {
        self.0.iter().filter(|(kind, _)| is_wanted(kind)).map(|(_, count)| count).sum()
    }

    /// All of one kind.
    pub(crate) fn all(&self, what: &str) -> f64 {
        self.sum(|kind| kind.what == what)
    }

    /// Requests to tables: every operation but those of queues and sockets.
    pub(crate) fn table_calls(&self) -> f64 {
        let is_table = |kind: &Kind| kind.which.ends_with("Item") || kind.which == "Query" || kind.which == "Scan";
        self.sum(|kind| kind.what == "call" && kind.who != OTHER && is_table(kind))
    }

    /// Frames that functions posted to connections.
    pub(crate) fn posts(&self) -> f64 {
        self.sum(|kind| kind.what == "call" && kind.which.starts_with("POST"))
    }

    /// What is paid for. What is no function's is the measurement's own.
    pub(crate) fn counted(&self) -> Counted {
        let ours = |what: &'static str| self.sum(|kind| kind.what == what && kind.who != OTHER);
        let calls =
            |is: &dyn Fn(&str) -> bool| self.sum(|kind| kind.what == "call" && kind.who != OTHER && is(&kind.which));
        let batches = self.sum(|kind| kind.what == "invoke" && BEHIND_QUEUES.contains(&kind.who.as_str()));
        let sent = calls(&|operation| SENDING.contains(&operation));
        Counted {
            frames: self.all("frame"),
            write_units: ours("write"),
            read_units: ours("read"),
            queue_requests: sent + calls(&|operation| operation == "ChangeMessageVisibility") + 2.0 * batches,
            fair_requests: calls(&|operation| operation == "SendMessage"),
            invocations: ours("invoke"),
            gb_seconds: ours("ms") / 1_000.0 * MEMORY_GB,
        }
    }

    /// One line for each count, divided by so many messages, for who wants to know where it goes.
    pub(crate) fn lines(&self, messages: f64) -> Vec<String> {
        let shown = self.0.iter().filter(|(kind, _)| kind.who != OTHER);
        shown.map(|(Kind { what, who, which }, n)| format!("{:>9.3}  {what} {who} {which}", n / messages)).collect()
    }
}

/// Whoever is no function.
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(counts: &[(&str, f64)]) -> Usage {
        let told = counts.iter().map(|(words, count)| ((*words).to_owned(), *count)).collect();
        Usage::read(&told, &HashMap::from([("local-send", "send"), ("Heads-1", "heads")]))
    }

    #[test]
    fn names_are_the_projects_and_differences_count() {
        let before = usage(&[("write local-send Heads-1", 1.0), ("frame in", 5.0)]);
        let after = usage(&[("write local-send Heads-1", 3.0), ("frame in", 5.0), ("frame out", 2.0)]);
        let grown = after.since(&before);
        assert_eq!(grown.lines(2.0), ["    1.000  frame out ", "    1.000  write send heads"]);
    }

    #[test]
    fn what_the_queues_poller_does_is_billed_and_what_we_look_at_is_not() {
        let counted = usage(&[
            ("call local-send SendMessage", 10.0),
            ("call other Query", 7.0),
            ("read other Heads-1", 9.0),
            ("invoke deliver", 4.0),
            ("ms deliver", 2_000.0),
        ])
        .counted();
        let expected = Counted {
            queue_requests: 18.0,
            fair_requests: 10.0,
            invocations: 4.0,
            gb_seconds: 0.5,
            ..Counted::default()
        };
        assert_eq!(counted, expected);
    }

    #[test]
    fn calls_of_tables_are_told_from_the_rest() {
        let some = usage(&[
            ("call send UpdateItem", 2.0),
            ("call deliver BatchGetItem", 1.0),
            ("call deliver Query", 1.0),
            ("call send SendMessage", 5.0),
            ("call deliver POST @connections", 9.0),
        ]);
        assert!((some.table_calls() - 4.0).abs() < 1e-9 && (some.posts() - 9.0).abs() < 1e-9);
    }
}
