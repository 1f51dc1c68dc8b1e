//! O9: how far devices are behind, and how long messages wait on them, is in the functions' logs.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use poste_domain::MEASURED;
use poste_sim::scene::{SECOND, Scene, aged};
use serde_json::{Value, json};

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic under the lock").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The metrics that some work leaves in the log, without what every line has; in the form of the functions.
fn metrics(work: impl FnOnce()) -> Vec<Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).without_time();
    tracing::subscriber::with_default(subscriber.with_writer(move || writer.clone()).finish(), work);
    let text = String::from_utf8(lines.0.lock().expect("no panic under the lock").clone()).expect("text");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let metric = |mut line: Value| {
        let fields = line.as_object_mut().expect("an object");
        fields.retain(|name, _| !["level", "target", "message"].contains(&name.as_str()));
        line
    };
    // As in the functions: what is only measured is no line.
    lines.filter(|line| line.get("metric").is_some() && line["target"] != MEASURED).map(metric).collect()
}

#[test]
fn how_far_a_device_is_behind_is_told_when_it_connects_and_when_it_catches_up() {
    let scene = Scene::default();
    let (alice, bob, carol) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.device("carol", "phone"));
    let (with_bob, with_carol) = (scene.direct("alice", "bob"), scene.direct("alice", "carol"));
    for body in ["one", "two", "three"] {
        bob.sends(&bob.writes(&with_bob, [body])).accepted();
    }
    scene.passes(60 * SECOND);
    carol.sends(&carol.writes(&with_carol, ["hello"])).accepted();
    alice.marks(&with_bob, Some(1), None).expect("taken");
    // Another device of hers has everything: that is no merit of this one.
    scene.device("alice", "tablet").marks(&with_bob, Some(3), Some(3)).expect("taken");
    scene.passes(SECOND);

    let listed = metrics(|| drop(alice.lists()));
    let backlog = |conversations: u64, behind_in: u64, behind: u64| {
        json!({"metric": "backlog", "user": "alice", "device": "phone", "conversations": conversations,
            "behind_in": behind_in, "behind": behind})
    };
    assert_eq!(listed, [backlog(2, 2, 3)]);

    let wanted = [(&with_bob, Some(1)), (&with_carol, Some(0))];
    let synced = metrics(|| drop(alice.syncs(&wanted, 4).expect("pages")));
    assert_eq!(
        synced,
        [json!({"metric": "missed", "user": "alice", "device": "phone", "behind_in": 2, "behind": 3,
        "oldest_ms": 61_000})]
    );

    alice.marks(&with_bob, Some(3), None).expect("taken");
    alice.marks(&with_carol, Some(1), None).expect("taken");
    assert_eq!(metrics(|| drop(alice.lists())), [backlog(2, 0, 0)]);
    let nothing = metrics(|| drop(alice.syncs(&[(&with_bob, Some(3)), (&with_carol, None)], 4).expect("pages")));
    assert_eq!(nothing, [] as [Value; 0], "nothing was missed, and who enters at the end has missed nothing");
}

#[test]
fn what_has_waited_long_on_its_device_is_told_when_it_comes() {
    let scene = Scene::default();
    let (alice, chat) = (scene.device("alice", "phone"), scene.direct("alice", "bob"));
    let prompt = aged(&alice.writes(&chat, ["prompt"]), 10 * SECOND);
    assert_eq!(metrics(|| drop(alice.sends(&prompt))), [] as [Value; 0]);
    let late = aged(&alice.writes(&chat, ["late"]), Duration::from_mins(90));
    assert_eq!(
        metrics(|| drop(alice.sends(&late))),
        [
            json!({"metric": "waited", "user": "alice", "device": "phone", "envelopes": 1, "oldest_ms": 5_400_000, "attempts": 1})
        ]
    );
}
