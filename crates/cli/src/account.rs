//! Accounts on this device: a folder for each, with what is needed to connect and the client's file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use poste_client::store::Store;
use poste_client::{Client, ClientConfig, Error, StoreError};
use poste_protocol::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

use crate::args::Whose;
use crate::token::Issuer;

/// The device's name unless one is given.
const DEVICE: &str = "terminal";

/// What is kept of an account, beside its messages. No secret is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) socket: String,
    pub(crate) issuer: String,
    /// The network is cut until `poste online`.
    #[serde(default)]
    pub(crate) offline: bool,
}

/// An account and its folder.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) settings: Settings,
    folder: PathBuf,
}

/// Why a command cannot do its work.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// No account fits the command line.
    None(String),
    /// Several fit.
    Several(String),
    /// Another process has the account open.
    InUse(String),
    /// The server could not be reached in time.
    NoConnection(String),
}

impl Unavailable {
    /// For programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None(_) => "no_account",
            Self::Several(_) => "several_accounts",
            Self::InUse(_) => "in_use",
            Self::NoConnection(_) => "no_connection",
        }
    }
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::None(said) | Self::Several(said) | Self::InUse(said) | Self::NoConnection(said)) = self;
        f.write_str(said)
    }
}

impl std::error::Error for Unavailable {}

/// What is read of a local stack's `stack.json`.
#[derive(Deserialize)]
struct Stack {
    socket_url: String,
    issuer: String,
}

impl Account {
    /// The account that the command line means. With addresses it is made, or pointed to them.
    pub(crate) fn find(whose: &Whose) -> anyhow::Result<Self> {
        let home = home(whose)?;
        match addresses(whose)? {
            Some((socket, issuer)) => Self::set_up(&home, whose, socket, issuer),
            None => Self::existing(&home, whose),
        }
    }

    fn set_up(home: &Path, whose: &Whose, socket: String, issuer: String) -> anyhow::Result<Self> {
        let user = whose.user.clone().context("say who you are: --user NAME")?;
        let device = match &whose.device {
            Some(device) => device.clone(),
            None => DeviceId::new(DEVICE).context("the default device's name")?,
        };
        let folder = folder(home, &user, &device);
        let offline = Self::load(&folder).is_ok_and(|account| account.settings.offline);
        let account = Self { settings: Settings { user, device, socket, issuer, offline }, folder };
        account.save()?;
        Ok(account)
    }

    fn existing(home: &Path, whose: &Whose) -> anyhow::Result<Self> {
        let mut found: Vec<Self> = Vec::new();
        if let Ok(entries) = std::fs::read_dir(home) {
            for entry in entries {
                let path = entry?.path();
                if path.join("settings.json").exists() {
                    found.push(Self::load(&path)?);
                }
            }
        }
        found.retain(|account| {
            let Settings { user, device, .. } = &account.settings;
            whose.user.as_ref().is_none_or(|wanted| wanted == user)
                && whose.device.as_ref().is_none_or(|wanted| wanted == device)
        });
        if found.len() > 1 {
            let names: Vec<_> = found.iter().map(|a| format!("{}/{}", a.settings.user, a.settings.device)).collect();
            let said = format!("several accounts fit ({}): say which with --user and --device", names.join(", "));
            return Err(Unavailable::Several(said).into());
        }
        found.pop().ok_or_else(|| {
            let home = home.display();
            let said = format!("no such account in {home}: poste login --user NAME --stack target/local/stack.json");
            Unavailable::None(said).into()
        })
    }

    fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("settings.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let settings = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self { settings, folder: folder.to_owned() })
    }

    /// Writes the settings, whole or not at all.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let said = |path: &Path| path.display().to_string();
        std::fs::create_dir_all(&self.folder).with_context(|| said(&self.folder))?;
        let (path, draft) = (self.folder.join("settings.json"), self.folder.join("settings.json.new"));
        std::fs::write(&draft, serde_json::to_vec_pretty(&self.settings)?).with_context(|| said(&draft))?;
        std::fs::rename(&draft, &path).with_context(|| said(&path))
    }

    fn file(&self) -> PathBuf {
        self.folder.join("account.db")
    }

    pub(crate) fn issuer(&self) -> anyhow::Result<Issuer> {
        Issuer::new(&self.settings)
    }

    /// Opens the client, with or without the network.
    pub(crate) async fn open(&self, network: bool) -> anyhow::Result<Client> {
        let Settings { user, device, socket, .. } = &self.settings;
        let tokens = Arc::new(self.issuer()?);
        let mut config = ClientConfig::new(self.file(), socket, user.clone(), device.clone(), tokens);
        config.network = network;
        match Client::open(config).await {
            Err(Error::Store(StoreError::AlreadyOpen { .. })) => {
                let said =
                    format!("{user} on {device} is open in another terminal (chat or watch): use that one, or end it");
                Err(Unavailable::InUse(said).into())
            }
            opened => Ok(opened?),
        }
    }

    /// Opens the messages to read from, also while another terminal uses the account.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Store>> {
        if !self.file().exists() {
            return Ok(None);
        }
        Ok(Some(Store::open_to_read(&self.file())?))
    }
}

fn folder(home: &Path, user: &UserId, device: &DeviceId) -> PathBuf {
    // Neither id can hold a slash; the two names cannot be confused, for a device's holds no `@`.
    home.join(format!("{user}@{device}"))
}

fn home(whose: &Whose) -> anyhow::Result<PathBuf> {
    match &whose.home {
        Some(home) => Ok(home.clone()),
        None => Ok(std::env::home_dir().context("no home folder: give one with --home")?.join(".poste")),
    }
}

fn addresses(whose: &Whose) -> anyhow::Result<Option<(String, String)>> {
    if let Some(path) = &whose.stack {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: is the stack up? cargo local up", path.display()))?;
        let stack: Stack = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        return Ok(Some((stack.socket_url, stack.issuer)));
    }
    Ok(whose.socket.clone().zip(whose.issuer.clone()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    fn whose(home: &Path, words: &[&str]) -> Whose {
        let home = home.to_str().expect("a plain path");
        let line = ["poste", "--home", home].into_iter().chain(words.iter().copied()).chain(["outbox"]);
        Args::try_parse_from(line).expect("a valid command line").whose
    }

    #[test]
    fn an_account_is_set_up_once_and_found_again() {
        let home = tempfile::tempdir().expect("a folder");
        let missing = Account::find(&whose(home.path(), &[])).expect_err("there is none yet");
        assert!(missing.to_string().contains("poste login"), "it says what to do: {missing}");
        let addresses = ["--socket", "ws://h/p", "--issuer", "http://i"];
        let set_up = |user| Account::find(&whose(home.path(), &[&["--user", user], &addresses[..]].concat()));
        let mut alice = set_up("alice").expect("set up");
        alice.settings.offline = true;
        alice.save().expect("saved");
        let found = Account::find(&whose(home.path(), &[])).expect("the only one");
        assert_eq!((found.settings.user.as_str(), found.settings.offline), ("alice", true));
        assert!(set_up("alice").expect("again").settings.offline, "pointing it elsewhere does not bring it online");

        set_up("bob").expect("set up");
        let unclear = Account::find(&whose(home.path(), &[])).expect_err("two fit");
        assert!(unclear.to_string().contains("--user"), "{unclear}");
        let bob = Account::find(&whose(home.path(), &["--user", "bob"])).expect("found");
        assert_eq!(bob.settings.device.as_str(), "terminal");
    }

    #[test]
    fn the_stack_file_is_read_leniently() {
        let home = tempfile::tempdir().expect("a folder");
        let stack = home.path().join("stack.json");
        std::fs::write(&stack, r#"{"socket_url": "ws://s", "issuer": "http://i", "more": [1]}"#).expect("written");
        let words = ["--user", "alice", "--stack", stack.to_str().expect("a plain path")];
        let account = Account::find(&whose(home.path(), &words)).expect("set up");
        assert_eq!((account.settings.socket.as_str(), account.settings.issuer.as_str()), ("ws://s", "http://i"));
    }
}
