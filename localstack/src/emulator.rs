//! Emulators. All that is specific to one is here, and in `emulator.py`, the launcher of the one that the local stack
//! starts by default: MiniStack. Another process of it, started by hand, and others are used where they are
//! (`--endpoint`): what differs between them is where sockets and callbacks are, and whose key deploys.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::child::Group;
use crate::place::Place;
use crate::python::Python;
use crate::say;
use crate::stack::Credentials;
use crate::workspace::Workspace;

/// How long the emulator may take from its start to its first answer. It takes 2 s on a machine with two idle cores.
const READY_DEADLINE: Duration = Duration::from_mins(1);
/// How often it is asked.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long one such question may take.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often is looked whether it still runs.
const ALIVE_POLL: Duration = Duration::from_millis(500);
/// Somebody may take a port between our choice and the emulator's start.
const PORT_ATTEMPTS: usize = 3;
/// What the emulator says then.
const PORT_TAKEN: [&str; 2] = ["already in use", "Address already in use"];
/// How long it may take to write down what it holds.
const SAVE_GRACE: Duration = Duration::from_secs(30);
/// How many of its last lines an error shows.
const LOG_LINES: usize = 20;

/// How long a queue holds a message before its function gets it: by a log-normal distribution, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandOver {
    /// Half of them longer.
    pub(crate) median_ms: f64,
    /// One of a hundred longer.
    pub(crate) p99_ms: f64,
}

/// A running emulator; dropped, it ends with the functions' processes.
#[derive(Debug)]
pub(crate) struct Emulator {
    command: Command,
    group: Group,
    port: u16,
    log: PathBuf,
}

impl Emulator {
    /// Starts the emulator and waits until it answers. `port` is taken if it is free. Its functions find it at `way`, if
    /// there is one, or at its own address, and get what is queued at once if no `hand_over` says otherwise.
    pub(crate) async fn start(
        workspace: &Workspace,
        python: &Python,
        place: &Place,
        http: &reqwest::Client,
        port: Option<u16>,
        way: Option<&str>,
        hand_over: Option<HandOver>,
    ) -> anyhow::Result<Self> {
        let mut wished = port;
        for attempt in 1.. {
            let port = free_port(wished.take())?;
            let mut emulator = Self::launch(workspace, python, place, port, way, hand_over)?;
            match emulator.ready(http).await {
                Ok(()) => return Ok(emulator),
                Err(error) => {
                    emulator.stop();
                    let said = say::tail(&emulator.log, LOG_LINES);
                    if attempt < PORT_ATTEMPTS && PORT_TAKEN.iter().any(|taken| said.contains(taken)) {
                        continue;
                    }
                    bail!("{error:#}. Its last lines ({}):\n{said}", emulator.log.display());
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    fn launch(
        workspace: &Workspace,
        python: &Python,
        place: &Place,
        port: u16,
        way: Option<&str>,
        hand_over: Option<HandOver>,
    ) -> anyhow::Result<Self> {
        let log = place.logs().join("emulator.log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let endpoint = endpoint(port);
        let mut command = Command::new(python.interpreter());
        command
            .arg(workspace.localstack("emulator.py"))
            .current_dir(place.scratch())
            // The functions inherit the emulator's environment: nothing of the user's may leak in, such as a proxy or
            // credentials of a real account.
            .env_clear()
            .envs(["PATH", "HOME", "LANG"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("PYTHONUNBUFFERED", "1")
            .env("TMPDIR", place.scratch())
            // Its default is all interfaces.
            .env("BIND_HOST", Ipv4Addr::LOCALHOST.to_string())
            .env("GATEWAY_PORT", port.to_string())
            // How the functions find it.
            .env("AWS_ENDPOINT_URL", way.unwrap_or(&endpoint))
            // Functions as processes, without containers.
            .env("LAMBDA_EXECUTOR", "local")
            // Each call of a function is checked against the policies of its role.
            .env("AUTH", "true")
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0")
            .env("LOG_LEVEL", "WARNING")
            .env("POSTE_FUNCTION_LOGS", place.logs())
            // Held open as long as we live; the launcher ends when it closes.
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file);
        if way.is_some() {
            // Then it may be restarted. What it holds it writes down when it is asked to end.
            command
                .env("PERSIST_STATE", "1")
                .env("S3_PERSIST", "1")
                .env("STATE_DIR", place.scratch().join("state"))
                .env("S3_DATA_DIR", place.scratch().join("objects"));
        }
        if let Some(HandOver { median_ms, p99_ms }) = hand_over {
            command.env("POSTE_QUEUE_HAND_OVER_MS", format!("{median_ms} {p99_ms}"));
        }
        let group = Group::start(&mut command).context("cannot start the emulator")?;
        Ok(Self { command, group, port, log })
    }

    /// Ends it with all connections and the functions' processes, and starts it again with what it held. Its process is
    /// another one afterwards.
    pub(crate) async fn restart(&mut self, http: &reqwest::Client) -> anyhow::Result<()> {
        self.group.stop_within(SAVE_GRACE);
        self.group = Group::start(&mut self.command).context("cannot start the emulator again")?;
        self.ready(http).await
    }

    async fn ready(&mut self, http: &reqwest::Client) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        let question = format!("{}/_ministack/ready", self.endpoint());
        loop {
            if let Some(status) = self.group.ended()? {
                bail!("the emulator ended while it was starting ({status})");
            }
            let answer = http.get(&question).timeout(READY_TIMEOUT).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the emulator does not answer after {}", say::seconds(READY_DEADLINE));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// The address of all its services.
    pub(crate) fn endpoint(&self) -> String {
        endpoint(self.port)
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The process id of its process, and the id of its process group.
    pub(crate) fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Waits until the emulator ends by itself, which it should not, and says so.
    pub(crate) async fn died(&mut self) -> anyhow::Error {
        loop {
            match self.group.ended() {
                Ok(None) => tokio::time::sleep(ALIVE_POLL).await,
                Ok(Some(status)) => {
                    return anyhow::anyhow!(
                        "the emulator has ended ({status}). Its last lines ({}):\n{}",
                        self.log.display(),
                        say::tail(&self.log, LOG_LINES)
                    );
                }
                Err(error) => return error.context("cannot look after the emulator"),
            }
        }
    }

    /// Ends it and the functions' processes, at once: they keep everything in memory, so there is nothing to finish.
    pub(crate) fn stop(&mut self) {
        self.group.kill();
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The key that the emulator takes for the account itself: no policy holds it, and its signature is not checked. Good
/// for making a user, with which everything else is done.
pub(crate) fn root_credentials() -> Credentials {
    Credentials { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned(), session_token: None }
}

/// The credentials for an emulator that is not ours: from the environment, or what LocalStack takes by default.
fn own_credentials() -> Credentials {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let or_test = |name| variable(name).unwrap_or_else(|| "test".to_owned());
    Credentials {
        access_key_id: or_test("AWS_ACCESS_KEY_ID"),
        secret_access_key: or_test("AWS_SECRET_ACCESS_KEY"),
        session_token: variable("AWS_SESSION_TOKEN"),
    }
}

/// How long an endpoint may take to say what it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// An emulator that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where everything is.
    pub(crate) addresses: Addresses,
    /// Whose key deploys.
    pub(crate) credentials: Credentials,
    /// Whether it checks keys and permissions.
    pub(crate) enforces: bool,
}

impl Found {
    /// Looks what is at an endpoint, unless both addresses are given: then there is nothing to ask.
    pub(crate) async fn at(
        http: &reqwest::Client,
        endpoint: &str,
        stage: &str,
        socket: Option<String>,
        callback: Option<String>,
    ) -> anyhow::Result<Self> {
        let credentials = own_credentials();
        if let (Some(socket), Some(callback)) = (&socket, &callback) {
            let addresses =
                Addresses { socket: socket.clone(), callback: callback.clone(), store: endpoint.to_owned() };
            return Ok(Self { addresses, credentials, enforces: false });
        }
        let (flavour, enforces) = probe(http, endpoint).await?;
        say::line(&format!("· Using the {flavour:?} at {endpoint}"));
        let addresses = Addresses::of(flavour, endpoint, stage)?.replaced(socket, callback);
        Ok(Self { addresses, credentials, enforces })
    }
}

/// Which emulator answers at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// MiniStack, ours or somebody else's.
    MiniStack,
    /// LocalStack.
    LocalStack,
}

/// The addresses of one API, in which `{api}` stands for its id, which is known after the deployment only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Where devices connect.
    pub(crate) socket: String,
    /// Where functions post to connections, as they see it. The template knows `{api}`, too.
    pub(crate) callback: String,
    /// Where devices put and get files.
    pub(crate) store: String,
}

impl Addresses {
    /// The addresses that an emulator at this endpoint has for a stage.
    pub(crate) fn of(flavour: Flavour, endpoint: &str, stage: &str) -> anyhow::Result<Self> {
        let (scheme, authority) = endpoint
            .split_once("://")
            .with_context(|| format!("`{endpoint}` is not an address such as http://127.0.0.1:4566"))?;
        let socket_scheme = match scheme {
            "http" => "ws",
            "https" => "wss",
            other => bail!("`{other}://` is neither http nor https"),
        };
        let authority = authority.trim_end_matches('/');
        ensure!(!authority.contains('/'), "`{endpoint}` has a path");
        let store = format!("{scheme}://{authority}");
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        Ok(match flavour {
            Flavour::MiniStack => Self {
                socket: format!("{socket_scheme}://{authority}/_aws/execute-api/{{api}}/{stage}"),
                callback: format!("{scheme}://{authority}/_aws/execute-api/{{api}}/{stage}"),
                store,
            },
            // From LocalStack's documentation; not tried, because its WebSocket API needs a paid plan. The options
            // --socket-url and --callback-url replace both. The name resolves to the emulator inside its functions'
            // containers as well as on the host.
            Flavour::LocalStack => {
                let host = "localhost.localstack.cloud";
                let port = if port.is_empty() { "4566" } else { port };
                Self {
                    socket: format!("{socket_scheme}://{{api}}.execute-api.{host}:{port}/{stage}"),
                    callback: format!("{scheme}://{host}:{port}/_aws/execute-api/{{api}}/{stage}"),
                    store,
                }
            }
        })
    }

    /// Puts addresses that the user gave in place of the derived ones.
    pub(crate) fn replaced(self, socket: Option<String>, callback: Option<String>) -> Self {
        Self { socket: socket.unwrap_or(self.socket), callback: callback.unwrap_or(self.callback), ..self }
    }

    /// The socket's address, once the API's id is known.
    pub(crate) fn socket_url(&self, api: &str) -> String {
        self.socket.replace("{api}", api)
    }
}

/// Asks an endpoint what it is, and whether it checks permissions.
async fn probe(http: &reqwest::Client, endpoint: &str) -> anyhow::Result<(Flavour, bool)> {
    #[derive(Default, Deserialize)]
    struct Health {
        #[serde(default)]
        auth: String,
    }
    let ask = |path: &str| {
        let request = http.get(format!("{endpoint}{path}")).timeout(PROBE_TIMEOUT);
        async move {
            let answer = request.send().await?;
            if !answer.status().is_success() {
                return Ok::<_, reqwest::Error>(None);
            }
            Ok(Some(answer.json::<Health>().await.unwrap_or_default()))
        }
    };
    // MiniStack answers LocalStack's question as well, so its own comes first.
    let nobody = || format!("nobody answers at {endpoint}");
    if let Some(health) = ask("/_ministack/health").await.with_context(nobody)? {
        return Ok((Flavour::MiniStack, health.auth == "enabled"));
    }
    if ask("/_localstack/health").await.with_context(nobody)?.is_some() {
        return Ok((Flavour::LocalStack, false));
    }
    bail!(
        "{endpoint} answers, but is neither LocalStack nor MiniStack. \
         Give --socket-url and --callback-url (with {{api}} for the API's id) if it is compatible."
    )
}

fn endpoint(port: u16) -> String {
    format!("http://{}:{port}", Ipv4Addr::LOCALHOST)
}

/// A port on the loopback that nobody listens on: the wished one if it is free.
pub(crate) fn free_port(wished: Option<u16>) -> anyhow::Result<u16> {
    let bind = |port| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    if let Some(port) = wished.filter(|port| bind(*port).is_ok()) {
        return Ok(port);
    }
    Ok(bind(0).and_then(|listener| listener.local_addr()).context("there is no free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_that_was_wished_for_is_given() {
        let port = free_port(None).unwrap();
        assert_eq!(free_port(Some(port)).unwrap(), port);
    }

    #[test]
    fn a_taken_port_is_avoided() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(Some(port)).unwrap(), port);
    }

    #[test]
    fn ministack_has_sockets_and_callbacks_under_its_own_address() {
        let addresses = Addresses::of(Flavour::MiniStack, "http://127.0.0.1:4000/", "prod").unwrap();
        assert_eq!(addresses.socket_url("a1"), "ws://127.0.0.1:4000/_aws/execute-api/a1/prod");
        assert_eq!(addresses.callback, "http://127.0.0.1:4000/_aws/execute-api/{api}/prod");
        assert_eq!(addresses.store, "http://127.0.0.1:4000");
    }

    #[test]
    fn localstack_names_the_api_in_the_host() {
        let addresses = Addresses::of(Flavour::LocalStack, "http://localhost:4566", "prod").unwrap();
        assert_eq!(addresses.socket_url("a1"), "ws://a1.execute-api.localhost.localstack.cloud:4566/prod");
        assert!(addresses.callback.contains("{api}"));
    }

    #[test]
    fn given_addresses_win() {
        let addresses = Addresses::of(Flavour::LocalStack, "https://localhost:4566", "prod")
            .unwrap()
            .replaced(Some("ws://here/{api}".into()), None);
        assert_eq!(addresses.socket_url("a1"), "ws://here/a1");
        assert!(addresses.callback.starts_with("https://"));
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for wrong in ["127.0.0.1:4566", "ftp://x", "http://x/path"] {
            assert!(Addresses::of(Flavour::MiniStack, wrong, "prod").is_err(), "{wrong}");
        }
    }
}
