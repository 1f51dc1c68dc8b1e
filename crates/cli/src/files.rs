//! Files of messages: sent, and saved.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use poste_client::{Client, Error, Event, Message, Target};
use poste_protocol::MessageId;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::account::{Account, Unavailable};
use crate::print;

/// How wide a bar of progress is.
const WIDTH: usize = 30;

/// So many names are tried for a file before it is given up.
const NAMES: u32 = 1_000;

/// Bytes of the name that a file is saved under, at most.
const NAME: usize = 200;

/// Writes a message, with a file or without.
pub(crate) async fn write(
    client: &Client,
    to: Target,
    file: Option<PathBuf>,
    kind: Option<String>,
    text: String,
) -> Result<Message, Error> {
    match file {
        Some(path) => client.send_file(to, path, text, kind).await,
        None => client.send(to, text).await,
    }
}

/// Saves the file of a message.
pub(crate) async fn download(
    account: &Account,
    id: MessageId,
    output: Option<PathBuf>,
    wait: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let message = find(account, id)?;
    let Some(attached) = message.file.clone() else { return Err(Error::Message { id, why: "has no file" }.into()) };
    let client = account.open(!account.settings.offline).await?;
    let found = fetch(&client, &message, Duration::from_secs(wait), json).await;
    client.close().await;
    let Some(here) = found? else {
        let said = format!("the file did not come within {wait} s; what came is kept, and the next time goes on");
        return Err(Unavailable::NoConnection(said).into());
    };
    let saved = save(&here, output.as_deref(), attached.file.name.as_deref())?;
    let said = json!({"id": id, "path": saved, "size": attached.file.size, "kind": attached.file.kind});
    print::one(&said, json, |_| saved.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn find(account: &Account, id: MessageId) -> anyhow::Result<Message> {
    let unknown = Error::Message { id, why: "is not known" };
    let Some(mut store) = account.read()? else { return Err(unknown.into()) };
    let tx = store.read()?;
    let own = tx.own(&account.settings.user, id)?.map(|(_, message, _)| message);
    let found = match own {
        Some(own) => Some(own),
        None => tx.received(id)?.map(|(_, message)| message),
    };
    Ok(found.ok_or(unknown)?)
}

/// Where it is on this device; nothing if no byte of it has come for so long.
async fn fetch(client: &Client, message: &Message, wait: Duration, json: bool) -> anyhow::Result<Option<PathBuf>> {
    let mut events = client.events();
    let mut until = Instant::now() + wait;
    let mut bar = Bar::new(json);
    let mut coming = std::pin::pin!(client.download(message.conversation.clone(), message.id));
    let found = loop {
        tokio::select! {
            found = &mut coming => break Some(found?),
            event = events.next() => match event {
                Some(Event::Progress { id, up: false, done, size, .. }) if id == message.id => {
                    until = Instant::now() + wait;
                    bar.show(done, size);
                }
                Some(_) => {}
                None => break None,
            },
            () = sleep_until(until) => break None,
        }
    };
    bar.end();
    Ok(found)
}

/// Copies a file to where it is wanted, whole or not at all. Nothing is overwritten unless it was named.
fn save(here: &Path, output: Option<&Path>, name: Option<&str>) -> anyhow::Result<PathBuf> {
    let name = safe(name.unwrap_or_default());
    let folder = match output {
        Some(path) if !path.is_dir() => {
            let draft = path.with_added_extension("part");
            fs::copy(here, &draft).with_context(|| draft.display().to_string())?;
            fs::rename(&draft, path).with_context(|| path.display().to_string())?;
            return Ok(path.to_owned());
        }
        Some(folder) => folder.to_owned(),
        None => PathBuf::new(),
    };
    let (mut file, path) = create(&folder, &name)?;
    let copied =
        File::open(here).and_then(|mut from| std::io::copy(&mut from, &mut file)).and_then(|_| file.sync_all());
    if let Err(wrong) = copied {
        let _ = fs::remove_file(&path);
        return Err(wrong).with_context(|| path.display().to_string());
    }
    Ok(path)
}

/// A new file of this name, or with a number if there is one.
fn create(folder: &Path, name: &str) -> anyhow::Result<(File, PathBuf)> {
    let (stem, ending) = name.rsplit_once('.').map_or((name, String::new()), |(stem, end)| (stem, format!(".{end}")));
    for number in 0..NAMES {
        let path = folder.join(if number == 0 { name.to_owned() } else { format!("{stem} ({number}){ending}") });
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(wrong) if wrong.kind() == ErrorKind::AlreadyExists => {}
            Err(wrong) => return Err(wrong).with_context(|| path.display().to_string()),
        }
    }
    anyhow::bail!("{} and {NAMES} like it are there already", folder.join(name).display())
}

/// A name that somebody else has given, made safe: it is one file, here, that is not hidden, and nothing of it cannot be
/// seen or means something to a system.
fn safe(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept = crate::harmless::line(last).replace(['<', '>', ':', '"', '|', '?', '*'], "_");
    let mut safe = String::new();
    for c in kept.trim_start_matches(['.', '-', ' ']).trim_end_matches(['.', ' ']).chars() {
        if safe.len() + c.len_utf8() > NAME {
            break;
        }
        safe.push(c);
    }
    if safe.is_empty() { "file".to_owned() } else { safe }
}

/// How far a file is, on the standard error: a bar in a terminal, a line at every quarter elsewhere, nothing for
/// programs.
pub(crate) struct Bar {
    terminal: bool,
    silent: bool,
    /// Quarters that were told; in a terminal, whether there is a bar.
    told: u64,
}

impl Bar {
    pub(crate) fn new(json: bool) -> Self {
        Self { terminal: std::io::stderr().is_terminal(), silent: json, told: 0 }
    }

    pub(crate) fn show(&mut self, done: u64, size: u64) {
        let percent = print::percent(done, size);
        let mut out = std::io::stderr().lock();
        // A terminal that is gone is noticed elsewhere.
        if self.silent {
        } else if self.terminal {
            self.told = 1;
            let full = usize::try_from(percent).unwrap_or(0) * WIDTH / 100;
            let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full));
            let _ = write!(out, "\r{bar} {percent:>3} % of {}\u{1b}[K", print::bytes(size));
        } else if percent / 25 > self.told {
            self.told = percent / 25;
            let _ = writeln!(out, "{percent} % of {}", print::bytes(size));
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&mut self) {
        if self.terminal && self.told > 0 {
            self.told = 0;
            let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_file_here_and_nothing_else() {
        for (given, saved) in [
            ("harbour.mp4", "harbour.mp4"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Windows\\system.ini", "system.ini"),
            (".bashrc", "bashrc"),
            ("-rf", "rf"),
            ("..", "file"),
            ("", "file"),
            ("a/", "file"),
            ("two\nlines\u{1b}[31m.txt", "two␊lines␛[31m.txt"),
            ("txt.\u{202e}gpj", "txt._U+202E_gpj"),
            ("CON: a?b*.txt", "CON_ a_b_.txt"),
        ] {
            assert_eq!(safe(given), saved, "{given:?}");
        }
        assert!(safe(&"ä".repeat(300)).len() <= NAME);
    }

    #[test]
    fn nothing_is_overwritten_unless_it_was_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let here = folder.path().join("cached");
        fs::write(&here, "new").expect("written");
        let to = folder.path().join("to");
        fs::create_dir(&to).expect("a folder");
        let first = save(&here, Some(&to), Some("a.txt")).expect("saved");
        let second = save(&here, Some(&to), Some("a.txt")).expect("saved");
        assert_eq!((first, second.clone()), (to.join("a.txt"), to.join("a (1).txt")));
        fs::write(&second, "old").expect("written");
        assert_eq!(save(&here, Some(&second), None).expect("saved"), second);
        assert_eq!(fs::read_to_string(&second).expect("text"), "new");
        assert_eq!(fs::read_dir(&to).expect("a folder").count(), 2, "nothing else is left");
    }
}
