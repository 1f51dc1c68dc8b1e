//! What the figures are figures of. What the system does not tell is left out.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// This machine, with the disk that the files are on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: Option<String>,
    kernel: Option<String>,
    disk: Option<String>,
}

impl Machine {
    pub(crate) fn here(folder: &Path) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, NonZero::get),
            processor: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| processor(&text)),
            kernel: kernel(),
            disk: fs::read_to_string("/proc/self/mountinfo").ok().and_then(|text| disk(&text, folder)),
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let known = |what: &Option<String>| what.clone().unwrap_or_else(|| "unknown".to_owned());
        let (processor, kernel, disk) = (known(&self.processor), known(&self.kernel), known(&self.disk));
        write!(f, "{} cores ({processor}), {kernel}, disk: {disk}", self.cores)
    }
}

fn kernel() -> Option<String> {
    let output = Command::new("uname").arg("-srm").output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The file system of a folder, what it is on, and whether that turns.
fn disk(mountinfo: &str, folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let place: Vec<&str> = place.split(' ').collect();
        let what: Vec<&str> = what.split(' ').collect();
        Some((*place.get(4)?, *place.get(2)?, *what.first()?, *what.get(1)?))
    });
    // The innermost; of those mounted over each other the last.
    let inside = mounts.filter(|(point, ..)| folder.starts_with(point));
    let (_, number, kind, source) = inside.max_by_key(|(point, ..)| point.len())?;
    let block = format!("/sys/dev/block/{number}");
    let turns = ["queue/rotational", "../queue/rotational"]
        .iter()
        .find_map(|file| fs::read_to_string(Path::new(&block).join(file)).ok());
    let turns = match turns.as_deref().map(str::trim) {
        Some("0") => ", not rotational",
        Some("1") => ", rotational as far as the system knows",
        _ => "",
    };
    Some(format!("{kind} on {source}{turns}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_is_the_disk() {
        let text = "22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:5 / /proc rw shared:1 - proc proc rw\nnonsense\n";
        let root = disk(text, Path::new("/")).unwrap_or_default();
        assert!(root.starts_with("ext4 on /dev/vda"), "{root}");
        if Path::new("/proc/self").exists() {
            assert_eq!(disk(text, Path::new("/proc")).as_deref(), Some("proc on proc"));
        }
        assert_eq!(disk("", Path::new("/")), None);
    }

    #[test]
    fn the_processor_has_a_name() {
        let text = "processor\t: 0\nmodel name\t: A Fast One\n";
        assert_eq!(processor(text).as_deref(), Some("A Fast One"));
        assert_eq!(processor(""), None);
    }
}
