//! Cargo's further tools that some commands need. Each is installed into the target folder when it is first needed, in
//! the version that is named here, and disturbs nothing else.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::workspace::{Workspace, cargo};
use crate::{child, say};

/// How long building one may take.
const DEADLINE: Duration = Duration::from_mins(45);

/// A tool of crates.io.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// The name of its package, and of its program.
    pub(crate) name: &'static str,
    /// Exactly this version.
    pub(crate) version: &'static str,
}

/// Fuzzing.
pub(crate) const FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };

/// What dependencies are held against.
pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };

impl Tool {
    /// Its program; built first, if it is not there in this version.
    pub(crate) async fn program(self, workspace: &Workspace) -> anyhow::Result<PathBuf> {
        let folder = workspace.target().join("tools").join(format!("{}-{}", self.name, self.version));
        let program = folder.join("bin").join(self.name);
        if program.exists() {
            return Ok(program);
        }
        say::line(&format!("Building {} {} into {}, once", self.name, self.version, folder.display()));
        let mut install = Command::new(cargo());
        install
            .args(["install", "--locked", "--version", self.version, self.name, "--root"])
            .arg(&folder)
            // The configuration of this workspace is for its own crates.
            .current_dir(std::env::temp_dir())
            .env("CARGO_TARGET_DIR", workspace.target().join("tools/build"))
            .stdin(Stdio::null());
        let status = tokio::time::timeout(DEADLINE, child::run(&mut install))
            .await
            .with_context(|| format!("building {} takes more than {}", self.name, say::seconds(DEADLINE)))??;
        ensure!(status.success(), "{} cannot be installed: it takes the package registry", self.name);
        Ok(program)
    }
}
