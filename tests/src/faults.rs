//! What goes wrong between the functions and the parts that they call: the proxy of the local stack, and the kill of what
//! runs there.

use std::{collections::BTreeMap, process::Command, time::Duration};

use poste_local::{CONTROL, RESTART, ROLL_BACK, Report, Rule, UPDATE, Wish};

use crate::{Deployment, memory::memory};

/// How long the emulator may take to write down what it holds and to start again, or a version to be deployed.
const DEED_DEADLINE: Duration = Duration::from_mins(2);

/// The proxy between the functions and the emulator.
pub struct Faults {
    url: String,
    http: reqwest::Client,
}

impl Faults {
    /// That of a stack.
    ///
    /// # Panics
    /// When it has none.
    pub fn of(deployment: &Deployment) -> Self {
        let url = deployment.stack().proxy.clone();
        let url = url.expect("a stack with a proxy: run `cargo local faults`, or `cargo local test --only faults`");
        let http = reqwest::Client::builder().no_proxy().timeout(DEED_DEADLINE).build().expect("an HTTP client");
        Self { url, http }
    }

    /// These rules hold from now on, by chance of this seed.
    ///
    /// # Panics
    /// When the proxy does not take them.
    pub async fn hold(&self, seed: u64, rules: Vec<Rule>) {
        let answer = self.http.put(format!("{}{CONTROL}", self.url)).json(&Wish { seed, rules }).send().await;
        answer.and_then(reqwest::Response::error_for_status).expect("the proxy takes rules");
    }

    /// No rules hold any more.
    pub async fn end(&self) {
        self.hold(0, Vec::new()).await;
    }

    /// How often each fault has struck so far, by `service`, `operation` and fault.
    ///
    /// # Panics
    /// When the proxy does not tell.
    pub async fn struck(&self) -> BTreeMap<[String; 3], u64> {
        let answer = self.http.get(format!("{}{CONTROL}", self.url)).send().await;
        let report: Report = answer.expect("the proxy answers").json().await.expect("a report");
        let of = |tally: poste_local::Tally| {
            let kind = [tally.service, tally.operation];
            tally.faults.into_iter().map(move |(fault, times)| {
                let [service, operation] = kind.clone();
                ([service, operation, fault], times)
            })
        };
        report.tallies.into_iter().flat_map(of).collect()
    }

    /// The emulator ends, with all connections and all functions, and starts again with what it held.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn restart(&self) {
        self.ask(RESTART).await;
    }

    /// The stack is updated to the version of now, where it began with an older one.
    ///
    /// # Panics
    /// When that fails, or there is no older one.
    pub async fn update(&self) {
        self.ask(UPDATE).await;
    }

    /// The older version is deployed again.
    ///
    /// # Panics
    /// When that fails, or there is none.
    pub async fn roll_back(&self) {
        self.ask(ROLL_BACK).await;
    }

    async fn ask(&self, deed: &str) {
        let answer = self.http.post(format!("{}{deed}", self.url)).send().await;
        answer.and_then(reqwest::Response::error_for_status).unwrap_or_else(|error| panic!("{deed} fails: {error}"));
    }
}

/// A function's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Which function it is, as the project calls it, where the system tells (only Linux does).
    pub function: String,
    /// Its memory, in bytes, where the system tells.
    pub memory: u64,
}

impl Deployment {
    /// The functions' processes, of an emulator of ours.
    ///
    /// # Panics
    /// When the emulator is not ours.
    pub fn processes(&self) -> Vec<Process> {
        // Read anew: after a restart it is another one.
        let emulator = Self::here().stack().emulator_pid.expect("an emulator of ours");
        let found = Command::new("pgrep").args(["-P", &emulator.to_string(), "-f", "bootstrap"]).output();
        let found = String::from_utf8(found.expect("pgrep runs").stdout).expect("numbers");
        found.lines().filter_map(|pid| pid.parse().ok()).map(|pid| self.process(pid)).collect()
    }

    fn process(&self, pid: u32) -> Process {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let name =
            environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"AWS_LAMBDA_FUNCTION_NAME="));
        let name = name.map(String::from_utf8_lossy).unwrap_or_default();
        let known = self.stack().functions.iter().find(|(_, deployed)| **deployed == *name);
        Process {
            pid,
            function: known.map_or_else(|| "unknown".to_owned(), |(name, _)| name.clone()),
            memory: memory(pid, "VmRSS"),
        }
    }
}

impl Process {
    /// Kills it (SIGKILL). `false` if it was gone before.
    pub fn kill(&self) -> bool {
        let mut kill = Command::new("kill");
        kill.args(["-KILL", &self.pid.to_string()]).stderr(std::process::Stdio::null());
        kill.status().is_ok_and(|status| status.success())
    }
}
