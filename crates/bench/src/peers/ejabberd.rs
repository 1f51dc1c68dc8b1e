//! ejabberd, a server that people run for chat, with an archive of all messages: an instance of our own below the folder of
//! the measurements, on a port of this machine. It is started without a node name, and so needs neither epmd nor a cookie
//! nor a user of its own, and knows nothing of one that the system runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::xmpp::{self, Phone};
use super::{Device, Server, Used};
use crate::processes;
use crate::report::Report;

/// How it is configured.
const CONFIGURATION: &str = include_str!("../../peers/ejabberd.yml");
/// Its hosts there.
const ARCHIVE: &str = "archive.localhost";
const OFFLINE: &str = "offline.localhost";
/// It must answer by then.
const STARTED: Duration = Duration::from_mins(3);
/// How often it is asked whether it does.
const LOOK: Duration = Duration::from_millis(50);
/// Where programs are that only administrators have on their path.
const ALSO: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// How it is installed.
const INSTALL: &str = "on Debian: `apt-get install ejabberd erlang-p1-sqlite3`";

/// Measures it.
pub(crate) async fn measure(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let program = Program::find()?;
    let version = program.version().unwrap_or_else(|| "of an unknown version".to_owned());
    let mut server = Ejabberd::start(program, folder.join("ejabberd")).await?;
    let mut pair = server.pair(ARCHIVE, true).await?;
    let what = "ejabberd with an archive";
    super::rates("ejabberd", what, &mut pair, &|| server.used(), report).await?;
    super::kills("ejabberd", what, &mut server, &mut pair, report).await?;
    drop(pair);
    let mut pair = server.pair(OFFLINE, false).await?;
    let what = "ejabberd without an archive";
    super::rates("ejabberd_offline", what, &mut pair, &|| server.used(), report).await?;
    super::kills("ejabberd_offline", what, &mut server, &mut pair, report).await?;
    report.note(format!(
        "ejabberd {version}: those parts of the package's configuration that a chat between two needs, and the archive, in \
         SQLite (crates/bench/peers/ejabberd.yml); XEP-0198 on both sides"
    ));
    Ok(())
}

/// What is installed.
struct Program {
    erl: PathBuf,
    libraries: PathBuf,
}

impl Program {
    fn find() -> anyhow::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(ALSO.map(PathBuf::from));
        let script = places.map(|place| place.join("ejabberdctl")).find(|file| file.is_file());
        let script = script.with_context(|| format!("it is not installed ({INSTALL})"))?;
        let text = std::fs::read_to_string(&script)?;
        let assigned = |name| {
            let value = assignment(&text, name).with_context(|| format!("{} sets no {name}", script.display()))?;
            anyhow::Ok(PathBuf::from(value))
        };
        let (erl, libraries) = (assigned("ERL")?, assigned("ERL_LIBS")?);
        ensure!(erl.is_file() && libraries.is_dir(), "{} is not that of the Debian package", script.display());
        Ok(Self { erl, libraries })
    }

    /// As its application file says.
    fn version(&self) -> Option<String> {
        let folders = std::fs::read_dir(&self.libraries).ok()?.flatten();
        let mut files = folders.map(|folder| folder.path().join("ebin/ejabberd.app"));
        version(&std::fs::read_to_string(files.find(|file| file.is_file())?).ok()?).map(str::to_owned)
    }
}

/// What a line of a shell script assigns to a name, if it is plain text.
fn assignment<'a>(script: &'a str, name: &str) -> Option<&'a str> {
    let value = script.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.contains('$')).then_some(value)
}

/// The version in an Erlang application file.
fn version(application: &str) -> Option<&str> {
    application.split_once("{vsn,")?.1.split('"').nth(1)
}

/// It runs. Dropped, it ends.
struct Ejabberd {
    program: Program,
    folder: PathBuf,
    port: u16,
    process: Child,
}

impl Drop for Ejabberd {
    fn drop(&mut self) {
        // Nothing of it is kept. An error means that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ejabberd {
    /// Starts a new one, with its files in this folder.
    async fn start(program: Program, folder: PathBuf) -> anyhow::Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        // Free until somebody else takes it.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::write(folder.join("ejabberd.yml"), configuration(&folder.to_string_lossy(), port))?;
        let process = spawn(&program, &folder)?;
        let mut server = Self { program, folder, port, process };
        server.answers().await?;
        Ok(server)
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTED;
        while !xmpp::answers(self.port, ARCHIVE).await {
            if self.process.try_wait()?.is_some() {
                bail!("it ended; {} says why; is erlang-p1-sqlite3 installed?", self.folder.join("output").display());
            }
            ensure!(Instant::now() < deadline, "it does not answer");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Two new users of a host, connected.
    async fn pair(&self, host: &str, archive: bool) -> anyhow::Result<[Phone; 2]> {
        let mut one = Phone::register(self.port, host, "alice", "bob", archive).await?;
        let mut other = Phone::register(self.port, host, "bob", "alice", archive).await?;
        one.connect().await?;
        other.connect().await?;
        Ok([one, other])
    }
}

impl Server for Ejabberd {
    fn used(&self) -> anyhow::Result<Used> {
        let pid = self.process.id();
        let used = processes::of(pid)?;
        Ok(Used { cpu: used.own + used.children, parts: None, resident: processes::resident(pid)? })
    }

    async fn kill(&mut self) -> anyhow::Result<bool> {
        self.process.kill()?;
        self.process.wait()?;
        self.process = spawn(&self.program, &self.folder)?;
        self.answers().await?;
        Ok(true)
    }
}

fn configuration(folder: &str, port: u16) -> String {
    CONFIGURATION.replace("{{folder}}", folder).replace("{{port}}", &port.to_string())
}

fn spawn(program: &Program, folder: &Path) -> anyhow::Result<Child> {
    let output = std::fs::File::options().create(true).append(true).open(folder.join("output"))?;
    let mut command = Command::new(&program.erl);
    command.arg("-noinput").args(["-mnesia", "dir"]).arg(format!("\"{}\"", folder.join("spool").display()));
    command.args(["-s", "ejabberd"]).current_dir(folder);
    command.env("ERL_LIBS", &program.libraries).env("HOME", folder);
    command.env("EJABBERD_CONFIG_PATH", folder.join("ejabberd.yml"));
    command.env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"));
    command.env("ERL_CRASH_DUMP", folder.join("crash.dump"));
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    command.spawn().context("erl does not start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_says_where_it_is() {
        let script =
            "#!/bin/bash\nERLANG_NODE=ejabberd@localhost\nERL=\"/usr/bin/erl\"\nERL_LIBS='/usr/lib/here'\nA=$B\n";
        assert_eq!(assignment(script, "ERL"), Some("/usr/bin/erl"));
        assert_eq!(assignment(script, "ERL_LIBS"), Some("/usr/lib/here"));
        assert_eq!(assignment(script, "A"), None, "a variable is no text");
        assert_eq!(assignment(script, "NONE"), None);
    }

    #[test]
    fn the_version_is_read() {
        assert_eq!(
            version("{application,ejabberd,[{description,\"x\"},{vsn,\"23.01\"},{modules,[]}]}."),
            Some("23.01")
        );
        assert_eq!(version("{application,ejabberd,[]}."), None);
    }

    #[test]
    fn every_place_of_the_configuration_is_filled() {
        let text = configuration("/a/folder", 5_222);
        assert!(!text.contains("{{") && text.contains("port: 5222") && text.contains("\"/a/folder/ejabberd.db\""));
        assert!(text.contains(ARCHIVE) && text.contains(OFFLINE));
    }
}
