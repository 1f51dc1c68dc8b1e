//! `cargo local audit`: what the dependencies are held against (`deny.toml`).

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::workspace::{Workspace, cargo};
use crate::{child, say, tools};

/// How long one run may take. The longest part is to fetch the database of advisories.
const DEADLINE: Duration = Duration::from_mins(10);

/// Holds the dependencies against licences, duplicates and sources, and against advisories where their database can be
/// had. An error if anything is found.
pub(crate) async fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let deny = Deny { workspace, program: tools::DENY.program(workspace).await? };
    let held = deny.passes(&["check", "licenses", "bans", "sources"]).await?;
    if !deny.passes(&["fetch", "db"]).await? {
        say::error(
            "\nLEFT OUT: advisories. Their database cannot be fetched from here. Run `cargo local audit` where it can, \
             before a release at the latest.",
        );
        return if held { Ok(()) } else { bail!("licences, duplicates or sources are not as deny.toml wants them") };
    }
    let known = deny.passes(&["--offline", "check", "--disable-fetch", "advisories"]).await?;
    if held && known {
        return Ok(());
    }
    bail!("the dependencies are not as deny.toml wants them")
}

struct Deny<'a> {
    workspace: &'a Workspace,
    program: std::path::PathBuf,
}

impl Deny<'_> {
    async fn passes(&self, arguments: &[&str]) -> anyhow::Result<bool> {
        let mut command = Command::new(&self.program);
        command
            .args(["--workspace", "--locked"])
            .args(arguments)
            .current_dir(self.workspace.root())
            .env("CARGO", cargo())
            .stdin(Stdio::null());
        let status = tokio::time::timeout(DEADLINE, child::run(&mut command))
            .await
            .with_context(|| format!("it takes more than {}", say::seconds(DEADLINE)))??;
        Ok(status.success())
    }
}
