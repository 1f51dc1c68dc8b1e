//! People whose application is of an older version: its client in the terminal, as processes of their own. One chats all
//! the time, one opens the application for each message.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use poste_client::ClientConfig;
use poste_protocol::{Author, ConversationId, DeviceId, MessageId, UserId};
use poste_tests::{DEADLINE, Deployment, Ledger, account, as_shown, eventually, label};
use rand::{RngExt, rngs::StdRng};
use serde::Deserialize;

use crate::{
    people::{LABELS, PATIENCE, People},
    upgrade::Watch,
};

/// The program's word for: it waits in the outbox.
const NOT_YET: i32 = 3;
/// More messages than anybody writes here.
const ALL: &str = "100000";

/// A person with an older application.
pub(crate) struct Older {
    program: PathBuf,
    home: PathBuf,
    stack: PathBuf,
    author: Author,
    ledger: Ledger,
    labels: u64,
}

/// What the program prints of a message.
#[derive(Debug, Deserialize)]
struct Printed {
    id: MessageId,
    user: UserId,
    device: DeviceId,
    body: String,
    seq: Option<u64>,
}

/// What it prints when it was online.
#[derive(Debug, Deserialize)]
struct Online {
    waiting: u64,
}

impl Older {
    /// The `n`th of them, with an account of the user in a folder below this one.
    pub(crate) async fn joins(program: &Path, deployment: &Deployment, folder: &Path, user: &UserId, n: u64) -> Self {
        let stack = PathBuf::from(std::env::var_os("POSTE_STACK").expect("the deployment was found by it"));
        let author = Author { user: user.clone(), device: DeviceId::new("older").expect("well formed") };
        let home = folder.join(user.as_str());
        let labels = LABELS * (100 + n);
        let older = Self { program: program.to_owned(), home, stack, author, ledger: Ledger::default(), labels };
        assert!(deployment.stack().proxy.is_some(), "a stack that can be updated");
        let output = older.runs(&["login"]).await;
        assert!(output.status.success(), "{output:?}");
        // So the group is known, from its beginning.
        eventually("it is online", PATIENCE, async || older.is_settled().await).await;
        older
    }

    /// What it was told to write, and not refused.
    pub(crate) fn written(&self) -> usize {
        self.ledger.written()
    }

    fn command(&self, words: &[&str]) -> Command {
        let Author { user, device } = &self.author;
        let mut command = Command::new(&self.program);
        command.args(["--json", "--user", user.as_str(), "--device", device.as_str(), "--home"]);
        command.arg(&self.home).arg("--stack").arg(&self.stack).args(words);
        command
    }

    /// Runs one command to its end.
    async fn runs(&self, words: &[&str]) -> Output {
        let mut command = self.command(words);
        let ran = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
        ran.await.expect("no panic").expect("the older program runs")
    }

    /// Takes the number of the next message.
    fn next(&mut self) -> u64 {
        let label = self.labels + self.ledger.next();
        self.ledger.writes(label);
        label
    }

    /// Chats until it is told to end; the application is open all the time.
    pub(crate) async fn chats(
        &mut self,
        with: &UserId,
        ends: &AtomicBool,
        pause: Duration,
        chance: &mut StdRng,
        watch: &Watch,
    ) {
        let chat = self.command(&["chat", "--with", with.as_str()]);
        let mut chat = Chat::opens(chat, self.author.clone(), watch.clone());
        while !ends.load(Ordering::Relaxed) {
            let label = self.next();
            chat.says(&format!("{label} from {}", self.author.user));
            let id = eventually("the chat shows what was written", DEADLINE, async || chat.shown(label)).await;
            self.ledger.wrote(label, id);
            tokio::time::sleep(pause.mul_f64(chance.random_range(0.2..1.8))).await;
        }
        chat.closes().await;
    }

    /// Opens the application for each message to a group, until it is told to end.
    pub(crate) async fn sends(
        &mut self,
        group: &ConversationId,
        ends: &AtomicBool,
        pause: Duration,
        chance: &mut StdRng,
        watch: &Watch,
    ) {
        while !ends.load(Ordering::Relaxed) {
            let label = self.next();
            let text = format!("{label} from {}", self.author.user);
            let output = self.runs(&["group", "send", group.as_str(), &text]).await;
            let code = output.status.code();
            assert!(code == Some(0) || code == Some(NOT_YET), "it is in the outbox at least: {output:?}");
            let printed: Printed = serde_json::from_slice(&output.stdout).expect("the message");
            self.ledger.wrote(label, printed.id);
            watch.note(printed.id, None, printed.seq.is_some(), true);
            tokio::time::sleep(pause.mul_f64(chance.random_range(0.2..1.8))).await;
        }
    }

    /// Connects, sends what waits, and fetches what was missed. Nothing, if not all of it could be done.
    async fn is_settled(&self) -> Option<()> {
        let output = self.runs(&["online"]).await;
        let online: Online = serde_json::from_slice(&output.stdout).ok()?;
        (output.status.success() && online.waiting == 0).then_some(())
    }

    /// Waits until nothing waits in its outbox.
    pub(crate) async fn comes_to_rest(&self) {
        eventually("the older outbox is empty", PATIENCE, async || self.is_settled().await).await;
    }

    /// Waits until it shows the log of each of its conversations, when everybody is at rest.
    pub(crate) async fn shows_everything(
        &self,
        deployment: &Deployment,
        with: Option<&UserId>,
        group: &ConversationId,
    ) {
        let mut reader = deployment.device(&self.author.user, "reader").await;
        let direct =
            with.map(|with| (ConversationId::direct(&self.author.user, with), vec!["show", "--with", with.as_str()]));
        let all = direct.into_iter().chain([(group.clone(), vec!["group", "show", group.as_str()])]);
        for (id, mut words) in all {
            words.extend(["--limit", ALL]);
            let log = as_shown(&reader.whole_log(&id).await);
            eventually("the older device shows the log", PATIENCE, async || {
                self.is_settled().await?;
                let shown = self.runs(&words).await.stdout;
                let shown: Vec<Printed> =
                    shown.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
                let shown: Vec<_> = shown.iter().filter_map(|message| Some((message.seq?, message.id))).collect();
                (shown == log).then_some(())
            })
            .await;
        }
    }

    /// Its application is updated to the library of now, with what is in its file.
    pub(crate) async fn updates(self, deployment: &Deployment, people: &mut People) {
        let Author { user, device } = &self.author;
        let mut config: ClientConfig = account(&deployment.stack().socket_url, &self.home, user, device.as_str());
        // As its `crates/cli` names it.
        config.path = self.home.join(format!("{user}@{device}")).join("account.db");
        assert!(config.path.exists(), "its file is {}", config.path.display());
        people.updates(self.author, config, self.ledger, self.labels).await;
    }
}

/// A chat that is open.
struct Chat {
    child: Child,
    input: ChildStdin,
    shown: Arc<Mutex<HashMap<u64, MessageId>>>,
}

impl Chat {
    fn opens(mut command: Command, author: Author, watch: Watch) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the older program runs");
        let input = child.stdin.take().expect("it has an input");
        let output = BufReader::new(child.stdout.take().expect("it has an output"));
        let shown = Arc::<Mutex<HashMap<_, _>>>::default();
        std::thread::spawn({
            let shown = shown.clone();
            move || {
                for line in output.lines().map_while(Result::ok) {
                    let Ok(message) = serde_json::from_str::<Printed>(&line) else { continue };
                    if message.user != author.user || message.device != author.device {
                        continue;
                    }
                    watch.note(message.id, Some(Instant::now()), message.seq.is_some(), true);
                    if let Some(label) = label(&message.body) {
                        shown.lock().expect("nobody panics with it").insert(label, message.id);
                    }
                }
            }
        });
        Self { child, input, shown }
    }

    fn says(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it listens");
    }

    fn shown(&self, label: u64) -> Option<MessageId> {
        self.shown.lock().expect("nobody panics with it").get(&label).copied()
    }

    async fn closes(mut self) {
        self.says("/quit");
        let status = eventually("the chat ends", DEADLINE, async || self.child.try_wait().expect("a child")).await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It has ended, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
