//! Programs that we start: each leads a process group of its own, so that it ends together with all that it started.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// How long a group may take to end by itself after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long the kernel may take to remove a group that was killed.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// How often is looked whether something has ended.
const POLL: Duration = Duration::from_millis(20);

/// A running program and its process group; dropped, it is stopped with everything in the group.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    id: Pid,
    stopped: bool,
}

impl Group {
    /// Starts a program as the leader of a new process group.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().with_context(|| format!("cannot start {program}"))?;
        let id = Pid::from_child(&child);
        Ok(Self { child, id, stopped: false })
    }

    /// The process id of the leader, which is also the group's.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How the leader ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the leader has ended; what it left behind in its group is stopped.
    pub(crate) async fn finish(mut self) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the whole group: asks first, kills after a grace. Bounded; blocks meanwhile.
    pub(crate) fn stop(&mut self) {
        self.stop_within(STOP_GRACE);
    }

    /// The same with another grace.
    pub(crate) fn stop_within(&mut self, grace: Duration) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        // An error here means that nobody is left to signal.
        let _ = kill_process_group(self.id, Signal::TERM);
        if !self.gone_within(grace) {
            self.kill_all();
        }
    }

    /// Ends the whole group at once. Bounded; blocks meanwhile.
    pub(crate) fn kill(&mut self) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.kill_all();
        }
    }

    fn kill_all(&mut self) {
        // An error here means that nobody is left to signal.
        let _ = kill_process_group(self.id, Signal::KILL);
        if !self.gone_within(KILL_GRACE) {
            crate::say::error(&format!("process group {} does not end", self.pid()));
        }
    }

    /// Waits until nobody is left in the group.
    fn gone_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            // The leader has to be reaped, or it stays in its group as a zombie.
            let leader_ended = !matches!(self.child.try_wait(), Ok(None));
            if leader_ended && test_kill_process_group(self.id).is_err() {
                return true;
            }
            if leader_ended {
                // Whom it left behind has nobody to say good-bye to.
                let _ = kill_process_group(self.id, Signal::KILL);
                if only_the_dead(self.pid()) {
                    return true;
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether all that is left of a process group has ended and was only not reaped. In a container whose first process
/// does not look after orphans it stays like that. (`ps` with these options is the same on Linux and macOS.)
fn only_the_dead(group: u32) -> bool {
    let output = Command::new("ps").args(["-A", "-o", "pgid=", "-o", "stat="]).output();
    output.is_ok_and(|output| output.status.success() && all_dead(&String::from_utf8_lossy(&output.stdout), group))
}

/// Reads lines of `GROUP STATE`; a state that begins with Z is a process that has ended.
fn all_dead(processes: &str, group: u32) -> bool {
    processes
        .lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .filter(|(id, _)| *id == group.to_string())
        .all(|(_, state)| state.trim_start().starts_with('Z'))
}

/// Runs a program to its end and says whether it succeeded. Given up (dropped), it is stopped.
pub(crate) async fn run(command: &mut Command) -> anyhow::Result<ExitStatus> {
    Group::start(command)?.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_group_takes_its_grandchildren_along() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let mut group = Group::start(
            Command::new("sh")
                .arg("-c")
                .arg("trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > \"$0\"; sleep 60' \"$0\" & wait")
                .arg(&file),
        )
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::read_to_string(&file).unwrap_or_default().is_empty() {
            assert!(Instant::now() < deadline, "the grandchild never started");
            std::thread::sleep(POLL);
        }
        assert!(group.ended().unwrap().is_none());
        // Both ignore SIGTERM; killed at once, to spare the test the grace.
        group.kill();
        assert!(test_kill_process_group(group.id).is_err() || only_the_dead(group.pid()));
    }

    #[test]
    fn a_group_of_zombies_counts_as_gone() {
        let processes = " 1 Ss\n 7 Z\n70 S\n  7 Z+\n";
        assert!(all_dead(processes, 7));
        assert!(!all_dead(processes, 70));
        assert!(!all_dead("7 Z\n7 Sl\n", 7));
    }

    #[tokio::test]
    async fn a_program_that_cannot_start_is_named() {
        let error = run(&mut Command::new("poste-no-such-program")).await.unwrap_err();
        assert!(error.to_string().contains("poste-no-such-program"));
    }
}
