//! A device in a process of its own, so that it can be killed: the library behind two pipes. It reads orders and does
//! one after another; what it has done it tells before it does the next. `mortal FOLDER USER DEVICE`, with the stack's
//! state file in `POSTE_STACK`.

use std::{
    fs,
    io::{Write, stdin, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use poste_client::{Client, ClientConfig, Error, OutboxState, Target};
use poste_local::Stack;
use poste_protocol::{Seq, UserId, limits};
use poste_tests::{Order, Told, account, screen, waiting};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().expect("mortal FOLDER USER DEVICE");
    let (folder, user, name) = (PathBuf::from(argument()), argument(), argument());
    let user = UserId::new(user).expect("a user's id");
    let stack = Stack::from_env().expect("the state of a stack");
    let config = account(&stack.socket_url, &folder, &user, &name);
    // Its default is to end the process; caught, the write fails instead.
    let _over_the_limit = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).expect("signals can be caught");
    let mut device = Device { config, folder, client: None };
    for line in stdin().lines() {
        let order = line.expect("orders are text");
        let order: Order = serde_json::from_str(&order).expect("orders are JSON");
        if matches!(order, Order::Open { .. } | Order::Close) {
            tell(&Told::Begun);
        }
        tell(&device.obey(order).await.unwrap_or_else(|wrong| refused(&wrong)));
    }
}

/// Into the pipe, where it stays whatever happens to us.
fn tell(told: &Told) {
    let mut line = serde_json::to_vec(told).expect("what is told has only plain fields");
    line.push(b'\n');
    let mut pipe = stdout().lock();
    pipe.write_all(&line).and_then(|()| pipe.flush()).expect("somebody listens");
}

fn refused(wrong: &Error) -> Told {
    Told::Refused { store: matches!(wrong, Error::Store(_)), why: wrong.to_string() }
}

struct Device {
    config: ClientConfig,
    folder: PathBuf,
    client: Option<Client>,
}

impl Device {
    async fn obey(&mut self, order: Order) -> Result<Told, Error> {
        match order {
            Order::Open { network } => {
                let config = ClientConfig { network, ..self.config.clone() };
                self.client = Some(Client::open(config).await?);
            }
            Order::Write { to, label, bytes } => {
                let body = format!("{label} {}", "x".repeat(bytes));
                let message = self.client().send(Target::User(to), body).await?;
                return Ok(Told::Wrote { id: message.id });
            }
            Order::WriteFile { to, path } => {
                let message = self.client().send_file(Target::User(to), path, "0 a file", None).await?;
                return Ok(Told::Wrote { id: message.id });
            }
            Order::Download { conversation, id } => {
                return Ok(Told::Saved { path: self.client().download(conversation, id).await? });
            }
            Order::Read => {
                for conversation in self.client().conversations().await? {
                    let end = Seq::new(limits::INTEGER).expect("the largest number");
                    self.client().mark_read(conversation.id, end).await?;
                }
            }
            Order::Network { on } => self.client().set_network(on).await?,
            Order::Show => return self.show().await,
            Order::Pause { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Order::FillDisk { room } => limit(Some(room.map_or(0, |room| largest(&self.folder) + room))),
            Order::FreeDisk => limit(None),
            Order::Close => {
                if let Some(client) = self.client.take() {
                    client.close().await;
                }
            }
        }
        Ok(Told::Done)
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("the account is open")
    }

    async fn show(&self) -> Result<Told, Error> {
        let (lists, outbox) = screen(self.client(), |message| message.user == self.config.user).await?;
        Ok(Told::Shown {
            lists,
            under_way: outbox.iter().filter(|entry| entry.state == OutboxState::UnderWay).count(),
            outbox: waiting(&outbox),
            frames: self.client().counters().await?.frames_sent,
        })
    }
}

/// How long the longest file of a folder is.
fn largest(folder: &Path) -> u64 {
    let lengths = fs::read_dir(folder).into_iter().flatten().filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
    lengths.max().unwrap_or_default()
}

/// Lets this process's files grow to that length and no further.
fn limit(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).expect("the soft limit can be changed");
}
