//! Deploying the template, through `deploy.py` and the AWS SDK for Python (the file says why).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::child::Group;
use crate::python::Python;
use crate::say;
use crate::stack::Credentials;
use crate::workspace::Workspace;

/// How long a stack may take to be created or updated. MiniStack takes a second; LocalStack pulls images first.
const STACK_DEADLINE: Duration = Duration::from_mins(5);
/// The deployment as a whole: uploads besides.
const DEADLINE: Duration = Duration::from_mins(7);

/// What is to be deployed, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Request {
    /// The address of the AWS services.
    pub(crate) endpoint: String,
    /// The region.
    pub(crate) region: String,
    /// Who deploys, or makes the user who does.
    pub(crate) credentials: Credentials,
    /// Whether a user is to be made who deploys.
    pub(crate) make_deployer: bool,
    /// Name of the CloudFormation stack.
    pub(crate) stack_name: String,
    /// The packaged template.
    pub(crate) template: String,
    /// Its parameters.
    pub(crate) parameters: BTreeMap<&'static str, String>,
    /// Where the functions' code goes.
    pub(crate) bucket: String,
    /// The functions' code.
    pub(crate) artifacts: Vec<Artifact>,
    /// How long creating or updating the stack may take. Filled in by [`run`].
    pub(crate) deadline_seconds: u64,
}

/// The code of a function.
#[derive(Debug, Serialize)]
pub(crate) struct Artifact {
    /// The object's key, which names the content.
    pub(crate) key: String,
    /// The binary.
    pub(crate) executable: PathBuf,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Deployed {
    /// The outputs of the stack.
    pub(crate) outputs: BTreeMap<String, String>,
    /// Who deployed.
    pub(crate) credentials: Credentials,
}

impl Deployed {
    /// One output of the stack.
    pub(crate) fn output(&self, name: &str) -> anyhow::Result<String> {
        self.outputs.get(name).cloned().with_context(|| format!("the template has no output `{name}`"))
    }
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Progress { text: String },
    Done(Deployed),
    Failed { text: String },
}

/// Deploys.
pub(crate) async fn run(workspace: &Workspace, python: &Python, mut request: Request) -> anyhow::Result<Deployed> {
    request.deadline_seconds = STACK_DEADLINE.as_secs();
    let mut group = Group::start(
        Command::new(python.interpreter())
            .arg(workspace.localstack("deploy.py"))
            // Only what the request says may count, and no configuration of the user's.
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_CA_BUNDLE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    )?;
    let mut input = group.child().stdin.take().context("deploy.py has no input")?;
    let output = group.child().stdout.take().context("deploy.py has no output")?;
    let request = serde_json::to_vec(&request)?;
    let talk = tokio::task::spawn_blocking(move || {
        input.write_all(&request).context("deploy.py does not listen")?;
        drop(input);
        read_events(BufReader::new(output))
    });
    let result = tokio::time::timeout(DEADLINE, talk)
        .await
        .with_context(|| format!("the deployment takes more than {}", say::seconds(DEADLINE)))??;
    group.stop();
    result
}

fn read_events(output: impl BufRead) -> anyhow::Result<Deployed> {
    for line in output.lines() {
        let line = line?;
        let event =
            serde_json::from_str(&line).with_context(|| format!("deploy.py said what nobody understands: {line}"))?;
        match event {
            Event::Progress { text } => say::line(&format!("    {text}")),
            Event::Done(deployed) => return Ok(deployed),
            Event::Failed { text } => bail!("the template cannot be deployed: {text}"),
        }
    }
    bail!("deploy.py ended without a word (its errors are above)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_decides() {
        let done = r#"{"event":"progress","text":"3 resources"}
{"event":"done","outputs":{"A":"b"},"credentials":{"access_key_id":"k","secret_access_key":"s"}}
"#;
        let deployed = read_events(done.as_bytes()).unwrap();
        assert_eq!(deployed.output("A").unwrap(), "b");
        assert!(deployed.output("B").unwrap_err().to_string().contains("`B`"));
        assert_eq!(deployed.credentials.access_key_id, "k");
    }

    #[test]
    fn a_failure_says_why() {
        let failed = r#"{"event":"failed","text":"the stack is ROLLBACK_COMPLETE"}"#;
        assert!(read_events(failed.as_bytes()).unwrap_err().to_string().contains("ROLLBACK_COMPLETE"));
    }

    #[test]
    fn silence_and_nonsense_are_errors() {
        assert!(read_events(&b""[..]).is_err());
        assert!(read_events(&b"Traceback\n"[..]).is_err());
    }
}
