//! L7: whatever a clock on the wall does, messages are as old as they are.

use uuid::Uuid;

use super::{Rig, submissions};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

impl Rig {
    /// The device sleeps: nothing runs, and the clock of the waits stands still.
    fn sleep(&mut self, millis: u64) {
        self.now.wall += millis;
        self.now.since_boot += millis;
    }

    /// The device is switched off and on again.
    fn reboot(&mut self, off: u64) {
        self.close();
        self.now.wall += off;
        self.now.mono = 5;
        self.now.boot = Uuid::from_u128(self.now.boot.as_u128() + 1);
        self.now.since_boot = 30_000;
        self.restart();
    }

    /// Connects, and says how old the device says that its envelope is.
    fn age(&mut self) -> u64 {
        self.connect();
        submissions(&self.next("send"))[0]["age_ms"].as_u64().expect("an age")
    }
}

#[test]
fn a_clock_that_is_set_forward_by_weeks_makes_nothing_older() {
    let mut rig = Rig::new();
    rig.write("bob", "time travel");
    rig.wait(HOUR);
    rig.now.wall += 40 * DAY;
    rig.wait(HOUR);
    assert_eq!(rig.age(), 2 * HOUR);
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_younger() {
    let mut rig = Rig::new();
    rig.write("bob", "time travel");
    rig.wait(3 * HOUR);
    rig.now.wall -= 40 * DAY;
    rig.wait(HOUR);
    assert_eq!(rig.age(), 4 * HOUR);
}

#[test]
fn sleep_counts() {
    let mut rig = Rig::new();
    rig.write("bob", "good night");
    rig.sleep(8 * HOUR);
    assert_eq!(rig.age(), 8 * HOUR);
}

#[test]
fn while_it_was_off_the_wall_counts() {
    let mut rig = Rig::new();
    rig.write("bob", "see you");
    rig.reboot(5 * DAY);
    assert_eq!(rig.age(), 5 * DAY);
    // And again, with what was known before.
    let mut rig = Rig::new();
    rig.write("bob", "see you");
    rig.wait(DAY);
    rig.reboot(DAY);
    rig.wait(DAY);
    rig.reboot(DAY);
    assert_eq!(rig.age(), 4 * DAY);
}

#[test]
fn a_clock_that_forgot_the_time_while_it_was_off_counts_what_is_sure() {
    let mut rig = Rig::new();
    rig.write("bob", "flat battery");
    rig.wait(HOUR);
    // The hour before is not sure either: nothing was written in it.
    rig.now.wall = 0;
    rig.reboot(0);
    assert_eq!(rig.age(), 30_000);
}

/// The device runs with a wrong clock, is corrected by the network, and is switched off: neither counts.
#[test]
fn a_clock_that_was_corrected_before_the_device_was_switched_off_is_taken_as_corrected() {
    let mut rig = Rig::new();
    rig.now.wall -= 100 * DAY;
    rig.write("bob", "wrong clock");
    rig.wait(HOUR);
    rig.now.wall += 100 * DAY;
    rig.wait(HOUR);
    rig.reboot(HOUR);
    assert_eq!(rig.age(), 3 * HOUR);
}

#[test]
fn a_retried_message_is_as_old_as_its_retry() {
    let mut rig = Rig::new();
    let message = rig.write("bob", "late");
    rig.sleep(31 * DAY);
    rig.connect();
    let frame = rig.next("send");
    assert_eq!(submissions(&frame)[0]["age_ms"], 31 * DAY);
    rig.refuse(&frame, &serde_json::json!({"code": "expired", "message": "", "retryable": false}));
    let now = rig.now;
    let ((), outputs) = rig.engine().retry(now, message.id).unwrap();
    rig.take(outputs);
    assert_eq!(submissions(&rig.next("send"))[0]["age_ms"], 0);
}

#[test]
fn what_a_damaged_file_saves_is_as_old_as_before() {
    let mut rig = Rig::new();
    rig.now.wall += 300 * DAY;
    rig.write("bob", "old");
    rig.now.wall -= 300 * DAY;
    rig.wait(HOUR);
    rig.lose(true);
    assert_eq!(rig.age(), HOUR);
}
