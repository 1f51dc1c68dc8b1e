//! What a running local stack tells of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The variable that names the state file to programs that work on a running stack (the end-to-end tests).
pub(crate) const STACK_VARIABLE: &str = "POSTE_STACK";

/// A running local stack: all addresses and names that a client, a test or a curious person needs.
///
/// Written as JSON to `stack.json` in the stack's folder while it runs, and removed when it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Process id of the `cargo local` that runs the stack. `cargo local down` sends it SIGTERM.
    pub pid: u32,
    /// Process id of the emulator, unless it was not started by us (`--endpoint`).
    pub emulator_pid: Option<u32>,
    /// Address of all AWS services.
    pub endpoint: String,
    /// Address of the proxy between the functions and the emulator, if there is one: see `proxy.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Whether keys and permissions are checked there.
    pub enforces: bool,
    /// The region in which everything is.
    pub region: String,
    /// Credentials that may do everything: to look into tables from tests. They exist in the emulator only.
    pub admin: Credentials,
    /// Name of the CloudFormation stack.
    pub stack_name: String,
    /// Where devices connect; `?device=ID` is added by the client.
    pub socket_url: String,
    /// Where the functions post to connections, as they see it.
    pub callback_endpoint: String,
    /// The API's id.
    pub api_id: String,
    /// The `iss` of tokens, and the address under which the issuer answers `POST /token`.
    pub issuer: String,
    /// Where the issuer publishes its keys.
    pub jwks_url: String,
    /// The `aud` that tokens must have.
    pub audience: String,
    /// The names of the tables.
    pub tables: Tables,
    /// The queues.
    pub queues: Queues,
    /// The bucket of media.
    pub bucket: String,
    /// The names of the functions as deployed, by what the project calls them (`send`, `deliver`, ...).
    pub functions: BTreeMap<String, String>,
    /// The executables of the functions that were deployed, by the same names.
    pub executables: BTreeMap<String, PathBuf>,
    /// How long a failed delivery stays hidden before it is tried again, in seconds.
    pub delivery_visibility_seconds: u32,
    /// After that many attempts a delivery goes to the dead letters.
    pub delivery_max_receives: u32,
    /// What stands in for SNS's pushes: see `provider.rs`.
    pub push_provider: String,
    /// How long who seems to be connected may take to mark before being woken, in seconds.
    pub push_grace_seconds: u32,
    /// The shortest time between two pushes to a device that does not come, in seconds.
    pub push_interval_seconds: u32,
    /// Pushes a second, of all instances together.
    pub push_rate: u32,
    /// Messages are gone after so many days.
    pub retention_days: u64,
    /// Where the logs are: `NAME.log` of each function, `emulator.log`.
    pub logs: PathBuf,
}

/// An access key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// The session's token, for a temporary key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    /// Without the secrets: with `--endpoint` they may be the user's own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// The names of the tables, by what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// Counters of the conversations.
    pub heads: String,
    /// Cells and voids.
    pub log: String,
    /// Lanes that found no room in the head.
    pub lanes: String,
    /// Who is in a conversation.
    pub members: String,
    /// The mirror of `members`, by user.
    pub conversations: String,
    /// Watermarks.
    pub marks: String,
    /// Who is connected.
    pub connections: String,
    /// Who is here, and who watches them.
    pub presence: String,
    /// Where devices can be woken.
    pub devices: String,
    /// Whose each push token is.
    pub push_tokens: String,
    /// Uploads that were begun.
    pub media: String,
    /// What users have used up of what they may.
    pub quotas: String,
}

/// The addresses of the queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// What is to be fanned out.
    pub delivery: String,
    /// Deliveries that failed too often.
    pub delivery_dead_letters: String,
    /// Who may have to be woken.
    pub push: String,
    /// Wake-ups that failed too often.
    pub push_dead_letters: String,
}

impl Stack {
    /// Reads a state file.
    ///
    /// # Errors
    ///
    /// There is none, or it is not one of ours.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("no stack at {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not the state of a stack", file.display()))
    }

    /// Reads the state file that `POSTE_STACK` names, as `cargo local test` sets it for the end-to-end tests.
    ///
    /// # Errors
    ///
    /// The variable is not set, or names no state file.
    pub fn from_env() -> anyhow::Result<Self> {
        let file = std::env::var_os(STACK_VARIABLE).with_context(|| {
            format!("{STACK_VARIABLE} is not set: these tests need a running stack, run `cargo local test`")
        })?;
        Self::read(Path::new(&file))
    }

    /// Writes the state file: whole or not at all, and readable by its owner only.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        crate::place::write_private(file, &serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Stack {
        let text = |s: &str| s.to_owned();
        Stack {
            pid: 1,
            emulator_pid: Some(2),
            endpoint: text("http://127.0.0.1:1"),
            proxy: None,
            enforces: true,
            region: text("us-east-1"),
            admin: Credentials { access_key_id: text("key"), secret_access_key: text("secret"), session_token: None },
            stack_name: text("poste-local"),
            socket_url: text("ws://127.0.0.1:1/prod"),
            callback_endpoint: text("http://127.0.0.1:1/prod"),
            api_id: text("api"),
            issuer: text("http://127.0.0.1:2"),
            jwks_url: text("http://127.0.0.1:2/.well-known/jwks.json"),
            audience: text("poste"),
            tables: Tables {
                heads: text("h"),
                log: text("l"),
                lanes: text("n"),
                members: text("m"),
                conversations: text("c"),
                marks: text("k"),
                connections: text("o"),
                presence: text("p"),
                devices: text("v"),
                push_tokens: text("t"),
                media: text("u"),
                quotas: text("s"),
            },
            queues: Queues {
                delivery: text("q"),
                delivery_dead_letters: text("d"),
                push: text("p"),
                push_dead_letters: text("e"),
            },
            bucket: text("b"),
            functions: BTreeMap::from([(text("send"), text("poste-local-send"))]),
            executables: BTreeMap::from([(text("send"), PathBuf::from("target/debug/send"))]),
            delivery_visibility_seconds: 5,
            delivery_max_receives: 5,
            push_provider: text("http://127.0.0.1:3"),
            push_grace_seconds: 4,
            push_interval_seconds: 3,
            push_rate: 40,
            retention_days: 60,
            logs: PathBuf::from("logs"),
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stack.json");
        example().write(&file).unwrap();
        assert_eq!(Stack::read(&file).unwrap(), example());
    }

    #[test]
    fn debug_keeps_the_secret() {
        assert!(!format!("{:?}", example().admin).contains("secret"));
    }
}
