//! The stack that is measured: tokens, devices with the library, what the emulator counts, what processes use.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use poste_client::{Client, ClientConfig, TokenError, TokenProvider};
use poste_local::Stack;
use poste_protocol::{DeviceId, UserId};
use reqwest::Url;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::processes::{self, Processes};
use crate::usage::Usage;

/// How long a question to the stack may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing was asked of the stack for so long: what was to be done is done.
const QUIET: Duration = Duration::from_millis(1_500);
/// It must be quiet by then.
const PATIENCE: Duration = Duration::from_mins(2);

/// The key that the emulator takes for the account itself, and whose signature it does not look at.
const ROOT: &str = "test";

/// A stack on this machine.
#[derive(Clone)]
pub(crate) struct Local {
    stack: Arc<Stack>,
    http: reqwest::Client,
}

impl Local {
    /// The one that a state file tells of.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        Self::of(Stack::read(file)?)
    }

    /// The one that tells this of itself.
    pub(crate) fn of(stack: Stack) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { stack: Arc::new(stack), http })
    }

    /// What it tells of itself.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// A user that nobody else has.
    pub(crate) fn user(name: &str) -> anyhow::Result<UserId> {
        Ok(UserId::new(format!("{name}-{}", Uuid::now_v7()))?)
    }

    /// A token of the stack's issuer.
    pub(crate) async fn token(&self, user: &UserId) -> anyhow::Result<String> {
        let request = self.http.post(format!("{}/token", self.stack.issuer)).json(&json!({ "user": user }));
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        Ok(answer["token"].as_str().context("an answer without a token")?.to_owned())
    }

    /// A device with the library, its file in a folder of its own inside this one.
    pub(crate) async fn client(&self, folder: &Path, user: &UserId) -> anyhow::Result<Client> {
        let tokens = Arc::new(Issued { local: self.clone(), user: user.clone() });
        let path = folder.join(user.as_str()).join("account.db");
        let device = DeviceId::new("phone")?;
        let config = ClientConfig::new(path, &self.stack.socket_url, user.clone(), device, tokens);
        Ok(Client::open(config).await?)
    }

    /// Asks the emulator for something without an SDK, and says how long that took.
    pub(crate) async fn ask(&self, target: &str, question: &Value) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let request = self
            .http
            .post(&self.stack.endpoint)
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", authorization("dynamodb"))
            .body(question.to_string());
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{target}: {text}");
        Ok(began.elapsed())
    }

    /// Asks the emulator for something by a form. Gives what it says.
    pub(crate) async fn form(&self, service: &str, fields: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut form = Url::parse(&self.stack.endpoint)?;
        form.query_pairs_mut().extend_pairs(fields);
        let request = self
            .http
            .post(&self.stack.endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", authorization(service))
            .body(form.query().unwrap_or_default().to_owned());
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{text}");
        Ok(text)
    }

    /// The environment that a function is deployed with.
    pub(crate) async fn function(&self, deployed: &str) -> anyhow::Result<Value> {
        let url = format!("{}/2015-03-31/functions/{deployed}/configuration", self.stack.endpoint);
        let request = self.http.get(url).header("authorization", authorization("lambda"));
        let mut answer: Value = request.send().await?.error_for_status()?.json().await?;
        Ok(answer["Environment"]["Variables"].take())
    }

    /// What the emulator has counted so far.
    pub(crate) async fn usage(&self) -> anyhow::Result<Usage> {
        let answer = self.http.get(format!("{}/_poste/usage", self.stack.endpoint)).send().await?;
        let told: BTreeMap<String, f64> = answer.error_for_status()?.json().await?;
        Ok(Usage::read(&told, &self.names()))
    }

    /// What the project calls what is deployed.
    fn names(&self) -> HashMap<&str, &str> {
        let Stack { tables, functions, .. } = &*self.stack;
        let functions = functions.iter().map(|(name, deployed)| (deployed.as_str(), name.as_str()));
        let tables = [
            (&tables.heads, "heads"),
            (&tables.log, "log"),
            (&tables.lanes, "lanes"),
            (&tables.members, "members"),
            (&tables.conversations, "conversations"),
            (&tables.marks, "marks"),
            (&tables.connections, "connections"),
            (&tables.presence, "presence"),
            (&tables.devices, "devices"),
        ];
        functions.chain(tables.map(|(deployed, name)| (deployed.as_str(), name))).collect()
    }

    /// What is counted while something is done, until the stack is quiet again.
    pub(crate) async fn counted<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Usage)> {
        let before = self.usage().await?;
        let done = work.await?;
        self.settle().await?;
        Ok((done, self.usage().await?.since(&before)))
    }

    /// Waits until nothing is asked of the stack any more.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let quiet = async {
            let mut last = self.usage().await?;
            loop {
                tokio::time::sleep(QUIET).await;
                let now = self.usage().await?;
                if now == last {
                    return Ok(());
                }
                last = now;
            }
        };
        tokio::time::timeout(PATIENCE, quiet).await.context("the stack does not come to rest")?
    }

    /// What the emulator's process and the functions' processes have used so far.
    pub(crate) fn processes(&self) -> anyhow::Result<Processes> {
        let emulator = self.emulator()?;
        let processes = processes::of(emulator)?;
        ensure!(processes.own > Duration::ZERO, "no process {emulator}");
        Ok(processes)
    }

    /// Kills the processes of all functions (SIGKILL). Gives how many there were.
    pub(crate) fn kill_functions(&self) -> anyhow::Result<usize> {
        let functions = processes::children(self.emulator()?)?;
        for function in &functions {
            processes::kill(*function)?;
        }
        Ok(functions.len())
    }

    /// The emulator's process, whose children are the functions.
    fn emulator(&self) -> anyhow::Result<u32> {
        self.stack.emulator_pid.context("the emulator is not ours")
    }
}

/// Enough of a signature for the account itself.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ROOT}/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

/// Tokens of the stack's issuer.
struct Issued {
    local: Local,
    user: UserId,
}

#[async_trait]
impl TokenProvider for Issued {
    async fn token(&self, _: bool) -> Result<String, TokenError> {
        self.local.token(&self.user).await.map_err(|error| TokenError::Unavailable(error.to_string()))
    }
}
