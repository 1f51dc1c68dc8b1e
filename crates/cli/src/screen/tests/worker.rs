//! What the screen wants done is done to a real client. It has no network.

use clap::Parser;
use poste_client::{Connection, Target};
use poste_protocol::{ConversationId, MessageId, Seq};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::world::user;
use crate::account::Account;
use crate::args::{Args, Whose};
use crate::screen::state::{Answer, Effect, Input};
use crate::screen::window::Read;
use crate::screen::worker;

fn alice(home: &std::path::Path) -> Whose {
    let home = home.to_str().expect("a plain path");
    let addresses = ["--socket", "ws://127.0.0.1:9/none", "--issuer", "http://127.0.0.1:9"];
    let line = ["poste", "--home", home, "--user", "alice"].into_iter().chain(addresses).chain(["offline"]);
    Args::try_parse_from(line).expect("a valid command line").whose
}

#[tokio::test]
async fn effects_are_carried_out_in_order_and_answered() {
    let home = tempfile::tempdir().expect("a folder");
    let whose = alice(home.path());
    let account = Account::find(&whose).expect("set up");
    let client = account.open(false).await.expect("opened");
    let (ask, effects) = mpsc::unbounded_channel();
    let (tell, mut answers) = mpsc::unbounded_channel();
    let working = tokio::spawn(worker::run(account, client.clone(), effects, tell));

    let conversation = ConversationId::direct(&user("alice"), &user("bob"));
    let send = |body: &str| Effect::Send {
        conversation: conversation.clone(),
        to: Target::User(user("bob")),
        body: body.into(),
    };
    let unknown = MessageId(Uuid::nil());
    let read = Read::Newest { limit: 10 };
    let wanted = [
        send("one"),
        send("two"),
        send(""),
        Effect::Read { conversation: conversation.clone(), read },
        Effect::MarkRead { conversation: conversation.clone(), upto: Seq::ZERO },
        Effect::Retry(unknown),
        Effect::ReadConversations,
        Effect::ReadOutbox,
        Effect::ReadCounters,
        Effect::Network(false),
    ];
    for effect in wanted {
        ask.send(effect).expect("somebody works");
    }
    drop(ask);
    working.await.expect("it ends when there is no more to do");

    let mut next = || match answers.try_recv() {
        Ok(Ok(Input::Answer(answer))) => answer,
        other => panic!("not an answer: {other:?}"),
    };
    assert!(matches!(next(), Answer::NotSent { body, .. } if body.is_empty()));
    let Answer::Page { messages, read: of, .. } = next() else { panic!("not a page") };
    let bodies: Vec<_> = messages.iter().map(|message| message.body.as_str()).collect();
    assert_eq!((bodies, of), (vec!["one", "two"], read));
    assert!(matches!(next(), Answer::NotDone(why) if why.contains("is not known")));
    assert!(matches!(next(), Answer::Conversations(list) if list.len() == 1));
    assert!(matches!(next(), Answer::Outbox(outbox) if outbox[0].messages.len() == 2));
    assert!(matches!(next(), Answer::Counters(_)));
    assert_eq!(client.connection().await.expect("open"), Connection::Off);
    client.close().await;
    assert!(Account::find(&whose).expect("found").settings.offline, "a cut network stays cut");
}
