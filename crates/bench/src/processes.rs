//! CPU and memory of processes, from `/proc`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

/// Times are counted in these: `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that we know of.
const TICKS_PER_SECOND: u64 = 100;

/// What a process and its children have used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Processes {
    /// CPU of the process itself.
    pub(crate) own: Duration,
    /// CPU of its children, those that have ended included.
    pub(crate) children: Duration,
    /// Resident memory of each child that runs, in bytes.
    pub(crate) resident: Vec<u64>,
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    own: Duration,
    waited_for: Duration,
}

/// A process and its children.
pub(crate) fn of(pid: u32) -> anyhow::Result<Processes> {
    let Stat { own, waited_for, .. } = stat(pid)?;
    let mut processes = Processes { own, children: waited_for, resident: Vec::new() };
    for child in children(pid)? {
        // One that has ended meanwhile was waited for, or will be.
        let Ok(stat) = stat(child) else { continue };
        processes.children += stat.own + stat.waited_for;
        processes.resident.extend(resident(child).ok());
    }
    Ok(processes)
}

/// The children of a process that run.
pub(crate) fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("this system has no /proc")? {
        let Some(other) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if stat(other).is_ok_and(|stat| stat.parent == pid) {
            children.push(other);
        }
    }
    Ok(children)
}

/// Kills a process (SIGKILL). One that has ended meanwhile is dead, too.
pub(crate) fn kill(pid: u32) -> anyhow::Result<()> {
    let mut kill = Command::new("kill");
    kill.args(["-KILL", &pid.to_string()]).stderr(std::process::Stdio::null());
    let killed = kill.status().context("kill does not run")?.success();
    ensure!(killed || stat(pid).is_err(), "process {pid} cannot be killed");
    Ok(())
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without memory")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    read_stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// Fields 4 (parent), 14 and 15 (own time), 16 and 17 (that of children that were waited for), see proc(5).
fn read_stat(line: &str) -> anyhow::Result<Stat> {
    // The second field is the program's name, which may hold anything, in parentheses.
    let (_, rest) = line.rsplit_once(") ").context("not a line of stat")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    ensure!(fields.len() > 14, "a short line of stat");
    let ticks =
        |n: usize| Ok::<_, anyhow::Error>(Duration::from_millis(fields[n].parse::<u64>()? * 1_000 / TICKS_PER_SECOND));
    Ok(Stat { parent: fields[1].parse()?, own: ticks(11)? + ticks(12)?, waited_for: ticks(13)? + ticks(14)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_program_is_called() {
        let line = "42 (a) b) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 20 5 20 0 1 0 100 1000 10 0";
        let expected = Stat { parent: 7, own: Duration::from_secs(2), waited_for: Duration::from_millis(250) };
        assert_eq!(read_stat(line).ok(), Some(expected));
        assert!(read_stat("nonsense").is_err());
    }

    #[test]
    fn this_process_has_memory() {
        if fs::exists("/proc/self/stat").unwrap_or_default() {
            assert!(resident(std::process::id()).is_ok_and(|bytes| bytes > 100_000));
            assert!(of(std::process::id()).is_ok());
        }
    }

    #[test]
    fn a_child_is_found_and_killed() -> anyhow::Result<()> {
        if fs::exists("/proc/self/stat")? {
            let mut child = Command::new("sleep").arg("60").spawn()?;
            assert!(children(std::process::id())?.contains(&child.id()));
            kill(child.id())?;
            assert!(!child.wait()?.success());
            kill(child.id())?;
        }
        Ok(())
    }
}
