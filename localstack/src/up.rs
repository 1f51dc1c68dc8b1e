//! Bringing a stack up, keeping it up, and taking it down.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::deploy::{self, Deployed, Request};
use crate::emulator::{self, Addresses, Emulator, Flavour, Found as There, HandOver};
use crate::functions::{self, Binaries};
use crate::issuer::{AUDIENCE, Issuer, Reach};
use crate::keys::Keys;
use crate::package;
use crate::place::{Found, Occupied, Place, write_private};
use crate::provider::{self, Provider};
use crate::proxy::{Asked, CONTROL, Deed, Proxy, Rule};
use crate::python::Python;
use crate::say;
use crate::stack::{Credentials, Queues, Stack, Tables};
use crate::stop::StopSignal;
use crate::version::{Packaged, Version};
use crate::workspace::Workspace;

/// The region of the local stack. Any would do.
const REGION: &str = "us-east-1";
/// The API's stage.
const STAGE: &str = "prod";
/// Name of the CloudFormation stack, and the first part of the functions' names.
const STACK_NAME: &str = "poste-local";
/// Where the functions' code is uploaded to.
const BUCKET: &str = "poste-local-code";
/// A failed delivery is tried again soon, so that tests of it end soon. On AWS the template's own value holds.
const DELIVERY_VISIBILITY_SECONDS: u32 = 5;
/// As on AWS.
const DELIVERY_MAX_RECEIVES: u32 = 5;

/// So that retention is at work here, too. Tests make messages older than this.
const RETENTION_DAYS: u64 = 60;
/// The machine has a few cores, and each instance of a function is a process.
const DELIVERY_MAX_CONCURRENCY: u32 = 4;
/// More than the tests of anything else need, and few enough that a storm of devices is refused in part.
const SYNC_MAX_CONCURRENCY: u32 = 16;
/// More than on AWS: tests and measurements are faster than people.
const DEVICE_RATE_PER_MINUTE: u32 = 6_000;
const USER_RATE_PER_MINUTE: u32 = 9_000;
/// Shorter than on AWS, so that tests of it end soon.
const PUSH_GRACE_SECONDS: u32 = 4;
const PUSH_INTERVAL_SECONDS: u32 = 3;
/// A wake-up that a function died over comes again soon; longer than the function lives.
const PUSH_VISIBILITY_SECONDS: u32 = 30;
/// Of one instance of `notify`, and how many there are.
const PUSH_RATE: u32 = 20;
const PUSH_MAX_CONCURRENCY: u32 = 2;
/// How long a stack that is told to stop may take.
const DOWN_DEADLINE: Duration = Duration::from_secs(30);
/// How often is looked whether it has.
const DOWN_POLL: Duration = Duration::from_millis(50);

/// What kind of stack is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Which binaries are deployed.
    pub(crate) binaries: Binaries,
    /// `RUST_LOG` of the functions.
    pub(crate) log_level: String,
    /// An emulator that runs already, instead of one of our own.
    pub(crate) endpoint: Option<String>,
    /// Where sockets are there, with `{api}`, instead of the address derived.
    pub(crate) socket_url: Option<String>,
    /// Where callbacks are there, with `{api}`, instead of the address derived.
    pub(crate) callback_url: Option<String>,
    /// The issuer's host as functions see it.
    pub(crate) issuer_host: String,
    /// The interface that the issuer listens on.
    pub(crate) issuer_bind: IpAddr,
    /// Whether there is something that wakes devices. On AWS there is not, unless it is configured.
    pub(crate) push: bool,
    /// Puts a proxy between the functions and the emulator, with these rules to begin with.
    pub(crate) proxy: Option<Vec<Rule>>,
    /// How long queues hold what functions get from them, if it is not to be at once.
    pub(crate) hand_over: Option<HandOver>,
    /// Deploys this version first. That of now takes its place when it is asked for through the proxy.
    pub(crate) older: Option<Version>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            binaries: Binaries::Dev,
            log_level: "info".to_owned(),
            endpoint: None,
            socket_url: None,
            callback_url: None,
            issuer_host: Ipv4Addr::LOCALHOST.to_string(),
            issuer_bind: Ipv4Addr::LOCALHOST.into(),
            push: true,
            proxy: None,
            hand_over: None,
            older: None,
        }
    }
}

/// A running stack; dropped, it stops.
#[derive(Debug)]
pub(crate) struct Running {
    stack: Stack,
    site: Site,
    now: Version,
    older: Option<Version>,
    http: reqwest::Client,
    // In the order in which they go: the emulator with the functions, the issuer, the state file and the lock.
    emulator: Option<Emulator>,
    proxy: Option<Proxy>,
    issuer: Issuer,
    _provider: Provider,
    _occupied: Occupied,
}

/// Where versions are deployed to, one in place of the other.
#[derive(Debug)]
struct Site {
    workspace: Workspace,
    place: Place,
    python: Python,
    endpoint: String,
    addresses: Addresses,
    credentials: Credentials,
    /// Whether the next deployment makes the user who deploys, from then on.
    make_deployer: bool,
    parameters: BTreeMap<&'static str, String>,
}

impl Site {
    /// Deploys a version: makes the stack, or updates it to this one.
    async fn deploy(&mut self, version: &Version) -> anyhow::Result<Deployed> {
        let Packaged { template, artifacts } = version.packaged(BUCKET)?;
        let request = Request {
            endpoint: self.endpoint.clone(),
            region: REGION.to_owned(),
            credentials: self.credentials.clone(),
            make_deployer: self.make_deployer,
            stack_name: STACK_NAME.to_owned(),
            template,
            parameters: version.takes(self.parameters.clone()),
            bucket: BUCKET.to_owned(),
            artifacts,
            deadline_seconds: 0,
        };
        let deployed = deploy::run(&self.workspace, &self.python, request).await?;
        self.credentials = deployed.credentials.clone();
        self.make_deployer = false;
        Ok(deployed)
    }
}

/// The ports of the last run, which the next one has again if they are free: what a client has noted stays right, and a
/// token's issuer stays its issuer.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Ports {
    emulator: Option<u16>,
    issuer: Option<u16>,
}

impl Running {
    /// Brings a stack up.
    pub(crate) async fn start(workspace: &Workspace, place: &Place, options: &Options) -> anyhow::Result<Self> {
        // First of all: it is quick, and nothing may be touched that somebody else uses.
        let occupied = place.occupy()?;
        let template = std::fs::read_to_string(workspace.template())?;
        let names = package::functions(&template)?;
        let python = Python::ready(workspace).await?;
        let binaries =
            say::step("Building the functions", functions::binaries(workspace, &options.binaries, &names)).await?;

        let last: Ports = std::fs::read(place.ports_file())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let reach = Reach { bind: options.issuer_bind, host: options.issuer_host.clone(), port: last.issuer };
        let issuer = Issuer::start(Keys::kept(&place.keys())?, reach).await?;
        let provider = Provider::start(options.issuer_bind, &options.issuer_host).await?;
        let proxy = match &options.proxy {
            Some(rules) => Some(Proxy::start(rules.clone()).await?),
            None => None,
        };
        let way = proxy.as_ref().map(Proxy::url);
        let (emulator, endpoint, there) = if let Some(endpoint) = &options.endpoint {
            let endpoint = endpoint.trim_end_matches('/').to_owned();
            let (socket, callback) = (options.socket_url.clone(), options.callback_url.clone());
            let there = There::at(&http, &endpoint, STAGE, socket, callback).await?;
            (None, endpoint, there)
        } else {
            let start = Emulator::start(workspace, &python, place, &http, last.emulator, way, options.hand_over);
            let emulator = say::step("Starting the emulator", start).await?;
            let endpoint = emulator.endpoint();
            let mut addresses = Addresses::of(Flavour::MiniStack, &endpoint, STAGE)?;
            if let Some(way) = way {
                addresses.callback = Addresses::of(Flavour::MiniStack, way, STAGE)?.callback;
            }
            let credentials = emulator::root_credentials();
            (Some(emulator), endpoint, There { addresses, credentials, enforces: true })
        };
        let There { addresses, credentials, enforces } = there;
        if let Some(proxy) = &proxy {
            proxy.leads_to(&endpoint, provider.url());
        }
        let ports =
            Ports { emulator: emulator.as_ref().map(Emulator::port).or(last.emulator), issuer: Some(issuer.port()) };
        write_private(&place.ports_file(), &serde_json::to_vec(&ports)?)?;

        let mut site = Site {
            workspace: workspace.clone(),
            place: place.clone(),
            python,
            endpoint: endpoint.clone(),
            credentials,
            // Where keys are checked, the account's own must not do everything.
            make_deployer: enforces,
            parameters: parameters(&issuer, way.unwrap_or(provider.url()), &addresses, options),
            addresses,
        };
        let now = Version { template, binaries, older: false };
        let older = options.older.clone();
        let first = older.as_ref().unwrap_or(&now);
        let deployed = say::step("Deploying infra/template.yaml", site.deploy(first)).await?;

        let stack = Stack {
            pid: std::process::id(),
            emulator_pid: emulator.as_ref().map(Emulator::pid),
            endpoint,
            proxy: way.map(str::to_owned),
            enforces,
            push_provider: provider.url().to_owned(),
            ..describe(&deployed, first, &site, &issuer)?
        };
        stack.write(&place.state_file())?;
        Ok(Self { stack, site, now, older, http, emulator, proxy, issuer, _provider: provider, _occupied: occupied })
    }

    /// What the stack tells of itself.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Waits until the stack is told to stop; an error if it ends by itself.
    pub(crate) async fn until_stopped(&mut self, stop: &mut StopSignal) -> anyhow::Result<()> {
        tokio::select! {
            signal = stop.received() => say::line(&format!("\n{signal}: stopping")),
            error = self.attend() => return Err(error),
        }
        Ok(())
    }

    /// Looks after the stack as long as it runs: does what is asked for through the proxy, and says why it ended by
    /// itself, which it should not.
    pub(crate) async fn attend(&mut self) -> anyhow::Error {
        loop {
            let asked = async {
                match &mut self.proxy {
                    Some(proxy) => proxy.asked().await,
                    None => std::future::pending().await,
                }
            };
            let died = async {
                match &mut self.emulator {
                    Some(emulator) => emulator.died().await,
                    None => std::future::pending().await,
                }
            };
            let Asked { deed, done } = tokio::select! {
                asked = asked => asked,
                error = died => return error,
            };
            let ended = match deed {
                Deed::Restart => self.restart().await,
                Deed::Update | Deed::RollBack if self.older.is_none() => continue,
                Deed::Update => self.deploy(false).await,
                Deed::RollBack => self.deploy(true).await,
            };
            if let Err(error) = ended {
                return error;
            }
            // Who asked may not have waited.
            let _ = done.send(());
        }
    }

    /// Ends the emulator with all that it runs, and starts it again with what it held.
    async fn restart(&mut self) -> anyhow::Result<()> {
        let emulator = self.emulator.as_mut().context("the emulator is not ours to restart")?;
        emulator.restart(&self.http).await?;
        self.stack.emulator_pid = Some(emulator.pid());
        self.stack.write(&self.site.place.state_file())
    }

    /// Deploys the older version, or that of now, in place of the other.
    async fn deploy(&mut self, older: bool) -> anyhow::Result<()> {
        let version = self.older.as_ref().filter(|_| older).unwrap_or(&self.now);
        let deployed = self.site.deploy(version).await?;
        let before = self.stack.clone();
        self.stack = Stack {
            pid: before.pid,
            emulator_pid: before.emulator_pid,
            endpoint: before.endpoint,
            proxy: before.proxy,
            enforces: before.enforces,
            push_provider: before.push_provider,
            ..describe(&deployed, version, &self.site, &self.issuer)?
        };
        self.stack.write(&self.site.place.state_file())
    }

    /// Takes the stack down.
    pub(crate) fn stop(mut self) {
        let started = Instant::now();
        if let Some(emulator) = &mut self.emulator {
            emulator.stop();
        }
        drop(self);
        say::line(&format!("· The stack is stopped ({})", say::seconds(started.elapsed())));
    }
}

/// All that differs between AWS and the local stack.
fn parameters(issuer: &Issuer, push: &str, addresses: &Addresses, options: &Options) -> BTreeMap<&'static str, String> {
    let application = |kind| if options.push { provider::application(kind) } else { String::new() };
    BTreeMap::from([
        ("Stage", STAGE.to_owned()),
        ("Architecture", architecture().to_owned()),
        ("TokenIssuer", issuer.url().to_owned()),
        ("TokenAudience", AUDIENCE.to_owned()),
        ("TokenJwksUrl", issuer.jwks_url()),
        ("CallbackEndpoint", addresses.callback.clone()),
        ("RetentionDays", RETENTION_DAYS.to_string()),
        ("LogLevel", options.log_level.clone()),
        ("LogRetentionDays", "1".to_owned()),
        ("PointInTimeRecovery", "false".to_owned()),
        ("DeletionProtection", "false".to_owned()),
        ("DeviceRatePerMinute", DEVICE_RATE_PER_MINUTE.to_string()),
        ("UserRatePerMinute", USER_RATE_PER_MINUTE.to_string()),
        ("DeliveryVisibilitySeconds", DELIVERY_VISIBILITY_SECONDS.to_string()),
        ("DeliveryMaxReceives", DELIVERY_MAX_RECEIVES.to_string()),
        ("SyncMaxConcurrency", SYNC_MAX_CONCURRENCY.to_string()),
        ("DeliveryMaxConcurrency", DELIVERY_MAX_CONCURRENCY.to_string()),
        ("PushApnsArn", application("APNS")),
        ("PushApnsSandboxArn", application("APNS_SANDBOX")),
        ("PushFcmArn", application("GCM")),
        ("MediaEndpoint", addresses.store.clone()),
        ("PushEndpoint", push.to_owned()),
        ("PushGraceSeconds", PUSH_GRACE_SECONDS.to_string()),
        ("PushIntervalSeconds", PUSH_INTERVAL_SECONDS.to_string()),
        ("PushVisibilitySeconds", PUSH_VISIBILITY_SECONDS.to_string()),
        ("PushRate", PUSH_RATE.to_string()),
        ("PushMaxConcurrency", PUSH_MAX_CONCURRENCY.to_string()),
    ])
}

/// This machine, in Lambda's words.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

/// What a stack tells of itself after a deployment, as far as that decides it.
fn describe(deployed: &Deployed, version: &Version, site: &Site, issuer: &Issuer) -> anyhow::Result<Stack> {
    let Site { addresses, place, .. } = site;
    let output = |name| match deployed.output(name) {
        // What came later has no name in an older version.
        Err(_) if version.older => Ok(String::new()),
        output => output,
    };
    let api_id = output("SocketApiId")?;
    Ok(Stack {
        pid: 0,
        emulator_pid: None,
        endpoint: String::new(),
        proxy: None,
        enforces: false,
        region: REGION.to_owned(),
        admin: deployed.credentials.clone(),
        stack_name: STACK_NAME.to_owned(),
        socket_url: addresses.socket_url(&api_id),
        callback_endpoint: output("CallbackEndpoint")?,
        api_id,
        issuer: issuer.url().to_owned(),
        jwks_url: issuer.jwks_url(),
        audience: AUDIENCE.to_owned(),
        tables: Tables {
            heads: output("TableHeads")?,
            log: output("TableLog")?,
            lanes: output("TableLanes")?,
            members: output("TableMembers")?,
            conversations: output("TableConversations")?,
            marks: output("TableMarks")?,
            connections: output("TableConnections")?,
            presence: output("TablePresence")?,
            devices: output("TableDevices")?,
            push_tokens: output("TablePushTokens")?,
            media: output("TableMedia")?,
            quotas: output("TableQuotas")?,
        },
        queues: Queues {
            delivery: output("QueueDelivery")?,
            delivery_dead_letters: output("QueueDeliveryDeadLetters")?,
            push: output("QueuePush")?,
            push_dead_letters: output("QueuePushDeadLetters")?,
        },
        bucket: output("BucketMedia")?,
        // FunctionSend: poste-local-send
        functions: deployed
            .outputs
            .iter()
            .filter_map(|(output, name)| Some((output.strip_prefix("Function")?.to_lowercase(), name.clone())))
            .collect(),
        executables: version.binaries.clone(),
        delivery_visibility_seconds: DELIVERY_VISIBILITY_SECONDS,
        delivery_max_receives: DELIVERY_MAX_RECEIVES,
        push_provider: String::new(),
        push_grace_seconds: PUSH_GRACE_SECONDS,
        push_interval_seconds: PUSH_INTERVAL_SECONDS,
        push_rate: PUSH_RATE * PUSH_MAX_CONCURRENCY,
        retention_days: RETENTION_DAYS,
        logs: place.logs(),
    })
}

/// What a user is told of a stack that runs.
pub(crate) fn welcome(stack: &Stack, place: &Place) -> String {
    let emulator = stack
        .emulator_pid
        .map_or_else(|| "not ours".to_owned(), |pid| format!("MiniStack, process {pid}, IAM enforced"));
    let proxy = stack.proxy.as_ref().map(|url| format!("\n  proxy      {url}{CONTROL}")).unwrap_or_default();
    let Stack { socket_url, issuer, endpoint, push_provider, logs, .. } = stack;
    format!(
        "
Poste is up.

  socket     {socket_url}?device=DEVICE
  pushes     {push_provider}/pushes
  issuer     {issuer}   (POST /token {{\"user\":\"alice\",\"device\":\"phone\"}})
  AWS parts  {endpoint}   ({emulator}){proxy}
  functions  {functions}
  logs       {logs}
  state      {state}

Stop it with Ctrl-C, or with `cargo local down` from elsewhere.",
        functions = stack.functions.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        logs = logs.display(),
        state = place.state_file().display(),
    )
}

/// Stops the stack that runs in a place.
pub(crate) async fn down(place: &Place) -> anyhow::Result<()> {
    let stack = match place.look()? {
        Found::Nothing => {
            say::line("No stack is running.");
            return Ok(());
        }
        Found::Starting => anyhow::bail!("a stack is just being started or stopped; try again in a moment"),
        Found::Running(stack) => stack,
    };
    // Its lock is held, so the process that wrote the state is alive, and the number is still its own.
    let pid = i32::try_from(stack.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("the state file names no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .with_context(|| format!("cannot signal process {}", stack.pid))?;
    let gone = async {
        while place.look()? != Found::Nothing {
            tokio::time::sleep(DOWN_POLL).await;
        }
        Ok(())
    };
    let stopping = tokio::time::timeout(DOWN_DEADLINE, gone);
    say::step(&format!("Stopping the stack of process {}", stack.pid), async {
        stopping.await.with_context(|| format!("it still runs after {}", say::seconds(DOWN_DEADLINE)))?
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::tests::example;

    #[test]
    fn the_welcome_says_where_to_connect_and_how_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().to_owned()).unwrap();
        let text = welcome(&example(), &place);
        assert!(text.contains(&example().socket_url) && text.contains(&example().issuer));
        assert!(text.contains("cargo local down"));
        assert!(!text.contains(&example().admin.secret_access_key));
    }
}
