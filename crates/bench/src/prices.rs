//! What counted operations cost: pure arithmetic on the price list in `prices.json`, which names its sources and date.

use std::sync::LazyLock;

use serde::Deserialize;

/// The price list, in dollars.
#[derive(Debug, Deserialize)]
pub(crate) struct Prices {
    /// Where it holds.
    pub(crate) region: String,
    /// When it was read.
    pub(crate) date: String,
    frame: f64,
    write_unit: f64,
    read_unit: f64,
    queue_request: f64,
    fair_request: f64,
    invocation: f64,
    gb_second: f64,
}

/// The list in the repository.
pub(crate) static PRICES: LazyLock<Prices> =
    LazyLock::new(|| serde_json::from_str(include_str!("../prices.json")).expect("a test reads it"));

/// What was counted. Of whatever it was counted for: one message, or a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counted {
    /// Messages on sockets, either way, in units of 32 KB.
    pub(crate) frames: f64,
    pub(crate) write_units: f64,
    pub(crate) read_units: f64,
    /// Requests of queues: sending, receiving and deleting.
    pub(crate) queue_requests: f64,
    /// Those of them that put something into a fair queue.
    pub(crate) fair_requests: f64,
    pub(crate) invocations: f64,
    /// Memory of functions times the time that they ran.
    pub(crate) gb_seconds: f64,
}

impl Counted {
    /// The least that one message costs on these parts, whoever writes the functions: sent, acknowledged and delivered;
    /// placed and written; the other side's connections read; through a queue; two functions. And a receipt that rides
    /// along is a write.
    pub(crate) const FLOOR: Self = Self {
        frames: 3.0,
        write_units: 3.0,
        read_units: 1.0,
        queue_requests: 3.0,
        fair_requests: 1.0,
        invocations: 2.0,
        gb_seconds: 0.0,
    };

    /// The same for a message of `bytes` in a cell that holds as many as there is room for: a unit of a write for each
    /// KB, and a share of all that is done once for the cell.
    pub(crate) fn floor_in_cells_of(messages: f64, bytes: f64) -> Self {
        let cell = (messages * bytes / 1024.0).ceil();
        let once = Self { write_units: 1.0 + cell, ..Self::FLOOR };
        once.for_each_of(messages)
    }

    /// The share of each of so many messages.
    pub(crate) fn for_each_of(self, messages: f64) -> Self {
        Self {
            frames: self.frames / messages,
            write_units: self.write_units / messages,
            read_units: self.read_units / messages,
            queue_requests: self.queue_requests / messages,
            fair_requests: self.fair_requests / messages,
            invocations: self.invocations / messages,
            gb_seconds: self.gb_seconds / messages,
        }
    }

    /// Dollars for a million times this, by what is paid for, dearest part of the list first.
    pub(crate) fn dollars_per_million(&self, prices: &Prices) -> [(&'static str, f64); 5] {
        [
            ("frames", self.frames * prices.frame),
            ("writes", self.write_units * prices.write_unit),
            ("reads", self.read_units * prices.read_unit),
            ("queues", self.queue_requests * prices.queue_request + self.fair_requests * prices.fair_request),
            ("functions", self.invocations * prices.invocation + self.gb_seconds * 1e6 * prices.gb_second),
        ]
    }

    /// The sum of these.
    pub(crate) fn dollars(&self, prices: &Prices) -> f64 {
        self.dollars_per_million(prices).iter().map(|(_, dollars)| dollars).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_list_can_be_read() {
        assert_eq!(PRICES.region, "us-east-1");
        assert!(close(PRICES.frame, 1.0) && close(PRICES.write_unit, 0.625));
    }

    #[test]
    fn dollars_are_counts_times_prices() {
        let counted = Counted {
            frames: 3.0,
            write_units: 2.0,
            read_units: 1.0,
            queue_requests: 3.0,
            fair_requests: 1.0,
            invocations: 2.0,
            gb_seconds: 0.25 * 0.020,
        };
        let [frames, writes, reads, queues, functions] =
            counted.dollars_per_million(&PRICES).map(|(_, dollars)| dollars);
        assert!(close(frames, 3.0) && close(writes, 1.25) && close(reads, 0.125) && close(queues, 1.3));
        assert!(close(functions, 0.4 + 0.005 * 13.333_4), "{functions}");
        assert!(close(counted.dollars(&PRICES), 3.0 + 1.25 + 0.125 + 1.3 + 0.4 + 0.066_667), "{counted:?}");
        assert!(close(counted.for_each_of(2.0).dollars(&PRICES) * 2.0, counted.dollars(&PRICES)));
    }

    #[test]
    fn many_messages_in_a_cell_share_what_is_done_once() {
        let floor = Counted::floor_in_cells_of(25.0, 200.0);
        assert!(close(floor.write_units, (1.0 + 5.0) / 25.0) && close(floor.frames, 3.0 / 25.0), "{floor:?}");
    }
}
