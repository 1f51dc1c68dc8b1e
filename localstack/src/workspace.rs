//! Where things are: the workspace's sources and its target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::place::Place;

/// The workspace that this program belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    end_to_end: Vec<String>,
    without_stack: Vec<String>,
}

/// The package of the end-to-end tests.
const END_TO_END: &str = "poste-tests";

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
            packages: Vec<Package>,
        }
        #[derive(Deserialize)]
        struct Package {
            name: String,
            targets: Vec<Target>,
        }
        #[derive(Deserialize)]
        struct Target {
            name: String,
            kind: Vec<String>,
        }
        // Set by `cargo run`; otherwise cargo looks from where we are.
        let from = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(from)
            .output()
            .context("cannot run cargo")?;
        ensure!(output.status.success(), "`cargo metadata` failed:\n{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` says")?;
        let tests = |needs_stack: bool| {
            let packages = metadata.packages.iter().filter(move |package| (package.name == END_TO_END) == needs_stack);
            let targets = packages.flat_map(|package| &package.targets);
            targets.filter(|target| target.kind.iter().any(|kind| kind == "test")).map(|target| target.name.clone())
        };
        let (end_to_end, without_stack): (Vec<_>, Vec<_>) = (tests(true).collect(), tests(false).collect());
        // Cargo would run both.
        let both = end_to_end.iter().find(|name| without_stack.contains(name));
        ensure!(both.is_none(), "tests with and without a stack have one name: {both:?}");
        let (root, target) = (metadata.workspace_root, metadata.target_directory);
        let workspace = Self { root, target, end_to_end, without_stack };
        ensure!(
            workspace.template().exists(),
            "run `cargo local` inside the Poste workspace: there is no {}",
            workspace.template().display()
        );
        Ok(workspace)
    }

    /// Another checkout of this project, which is built into the same folder: what both depend on is built once.
    pub(crate) fn checkout(&self, root: PathBuf) -> Self {
        Self { root, ..self.clone() }
    }

    /// The folder of the workspace's manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The template that AWS and the local stack both deploy.
    pub(crate) fn template(&self) -> PathBuf {
        self.root.join("infra/template.yaml")
    }

    /// A file of the crate of the local stack.
    pub(crate) fn localstack(&self, file: &str) -> PathBuf {
        self.root.join("localstack").join(file)
    }

    /// The names of the end-to-end tests' targets.
    pub(crate) fn end_to_end(&self) -> &[String] {
        &self.end_to_end
    }

    /// The names of the targets of all other tests in folders of their own.
    pub(crate) fn without_stack(&self) -> &[String] {
        &self.without_stack
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where everything of the local stack is kept.
    pub(crate) fn state(&self) -> PathBuf {
        self.target.join("local")
    }

    /// The place of the stack of `up` and `demo`.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        Place::new(self.state())
    }

    /// The place of the stack of `test`, a different one: it runs beside the other.
    pub(crate) fn test_place(&self) -> anyhow::Result<Place> {
        Place::new(self.state().join("test"))
    }

    /// The place of the stack of `upgrade`.
    pub(crate) fn upgrade_place(&self) -> anyhow::Result<Place> {
        Place::new(self.state().join("upgrade"))
    }

    /// The place of the stack of `bench`.
    pub(crate) fn bench_place(&self) -> anyhow::Result<Place> {
        Place::new(self.state().join("bench"))
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
