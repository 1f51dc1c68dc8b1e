//! The functions' binaries: built natively with cargo, or taken as `cargo lambda build` left them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::child::Group;
use crate::say;
use crate::workspace::{Workspace, cargo};

/// The packages of the functions.
const PACKAGES: [&str; 5] = ["poste-connect", "poste-send", "poste-sync", "poste-push", "poste-media"];

/// Which binaries are deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binaries {
    /// Built now, for this machine, with the dev profile. The whole workspace's binaries: cargo chooses the features of
    /// a dependency for the packages that it is called with, and would compile most of them again for another choice.
    Dev,
    /// The same, together with the tests of these names, which want further features: what runs next is built then.
    DevWith(Vec<String>),
    /// Built now, for this machine, with the profile that goes to AWS. Slow to build, small and fast.
    Release,
    /// What `cargo lambda build` wrote to `target/lambda`: for an emulator that runs functions in containers.
    Prebuilt,
}

/// Gives the binary of each of the functions named.
pub(crate) async fn binaries(
    workspace: &Workspace,
    which: &Binaries,
    names: &[String],
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let built = match which {
        Binaries::Dev => build(workspace, "dev", &["--workspace", "--bins"]).await?,
        Binaries::DevWith(tests) => {
            let tests = tests.iter().flat_map(|name| ["--test", name]);
            build(workspace, "dev", &["--workspace", "--bins"].into_iter().chain(tests).collect::<Vec<_>>()).await?
        }
        Binaries::Release => build(workspace, "lambda", &functions_only()).await?,
        Binaries::Prebuilt => names
            .iter()
            .map(|name| (name.clone(), workspace.target().join("lambda").join(name).join("bootstrap")))
            .collect(),
    };
    select(&built, names)
}

/// Picks the binaries that the template asks for.
fn select(built: &BTreeMap<String, PathBuf>, names: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    names
        .iter()
        .map(|name| {
            let file = built.get(name).with_context(|| {
                format!("the template names a function `{name}`, and no package has a binary of that name")
            })?;
            ensure!(file.exists(), "there is no {}: run `cargo lambda build --profile lambda` first", file.display());
            Ok((name.clone(), file.clone()))
        })
        .collect()
}

/// Cargo's words for the functions and nothing else: what is optimised is slow to build.
fn functions_only() -> Vec<&'static str> {
    PACKAGES.into_iter().flat_map(|package| ["--package", package]).chain(["--bins"]).collect()
}

async fn build(workspace: &Workspace, profile: &str, what: &[&str]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut command = Command::new(cargo());
    command.args(["build", "--locked", "--profile", profile]).args(what);
    command
        // cargo itself says where it put what; its progress and messages go to the user.
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace.root())
        .env("CARGO_TARGET_DIR", workspace.target())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if say::watched() {
        // It hides its bar when standard output is no terminal.
        command.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", "80");
    }
    let mut group = Group::start(&mut command)?;
    let output = group.child().stdout.take().context("cargo has no output")?;
    // Read beside the waiting: a full pipe would hold up cargo.
    let messages = tokio::task::spawn_blocking(move || std::io::read_to_string(output));
    let status = group.finish().await?;
    ensure!(status.success(), "the functions do not build");
    Ok(executables(&messages.await??))
}

/// The binaries, by name, that a build reports in its JSON messages.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Message<'a> {
        reason: &'a str,
        target: Option<Target>,
        profile: Option<Profile>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        // The tests of a binary bear its name.
        .filter(|message| message.target.as_ref().is_some_and(|target| target.kind.iter().any(|kind| kind == "bin")))
        .filter(|message| message.profile.as_ref().is_some_and(|profile| !profile.test))
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .collect()
}

/// A name for the content of a binary, so that what has not changed is not deployed again.
pub(crate) fn content_key(name: &str, binary: &Path) -> anyhow::Result<String> {
    let content = std::fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let name_of_content = URL_SAFE_NO_PAD.encode(digest.as_ref());
    Ok(format!("{name}-{name_of_content}.zip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_read_from_what_cargo_says() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"serde","kind":["lib"]},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"name":"send","kind":["bin"]},"profile":{"test":false},"executable":"/t/send"}
{"reason":"compiler-artifact","target":{"name":"send","kind":["bin"]},"profile":{"test":true},"executable":"/t/send-1f"}
{"reason":"compiler-artifact","target":{"name":"e2e","kind":["test"]},"profile":{"test":true},"executable":"/t/e2e-2a"}
{"reason":"build-finished","success":true}
not json
"#;
        let built = executables(messages);
        assert_eq!(built, BTreeMap::from([("send".to_owned(), PathBuf::from("/t/send"))]));
    }

    #[test]
    fn a_missing_binary_is_named() {
        let names = ["send".to_owned(), "sync".to_owned()];
        let folder = tempfile::tempdir().unwrap();
        let send = folder.path().join("send");
        let mut built = BTreeMap::from([("send".to_owned(), send.clone())]);
        assert!(select(&built, &names[..1]).unwrap_err().to_string().contains("there is no"));
        std::fs::write(send, "").unwrap();
        assert_eq!(select(&built, &names[..1]).unwrap().len(), 1);
        assert!(select(&built, &names).unwrap_err().to_string().contains("`sync`"));
        built.insert("unused".to_owned(), PathBuf::from("x"));
        assert_eq!(select(&built, &names[..1]).unwrap().len(), 1);
    }

    #[test]
    fn the_key_follows_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("send");
        std::fs::write(&file, "a").unwrap();
        let first = content_key("send", &file).unwrap();
        assert!(first.starts_with("send-"));
        std::fs::write(&file, "b").unwrap();
        assert_ne!(content_key("send", &file).unwrap(), first);
    }
}
