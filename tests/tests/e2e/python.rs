//! C7: the device library from another language. `python.py` is an application in Python: it uses the interface that
//! `UniFFI` writes from the shared library, as an application in Kotlin or Swift does.

use std::{path::PathBuf, process::Command};

use poste_client::{Event, State, Target};
use poste_protocol::ConversationId;
use poste_tests::{DEADLINE, Deployment, open};
use uniffi::{GenerateOptions, TargetLanguage};

/// The shared library, which cargo puts beside the tests.
fn library() -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a file");
    let name = format!("{}poste_bindings{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    tests.with_file_name(name)
}

/// C1, C2, C5, C7, D2: a message from Python arrives and is acknowledged, delivered and read; the answer arrives there.
#[tokio::test]
async fn a_message_goes_from_python_to_rust_and_back() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let conversation = ConversationId::direct(&alice, &bob);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain name").to_owned();
    let name = library();
    let options = GenerateOptions {
        languages: vec![TargetLanguage::Python, TargetLanguage::Kotlin, TargetLanguage::Swift],
        source: name.to_str().expect("a plain name").into(),
        out_dir: path.clone().into(),
        ..GenerateOptions::default()
    };
    uniffi::generate(options).expect("the bindings are written");
    for written in ["poste_bindings.py", "poste_bindings.swift", "uniffi/poste_bindings/poste_bindings.kt"] {
        assert!(folder.path().join(written).exists(), "{written}");
    }
    std::fs::copy(&name, folder.path().join(name.file_name().expect("a name"))).expect("the library is there");

    let client = open(&deployment, &folder.path().join("bob"), &bob, "laptop", true).await;
    let mut events = client.events();
    let mut python = Command::new("python3");
    python
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/python.py"))
        .env("PYTHONPATH", &path)
        .env("ACCOUNT", folder.path().join("alice/account.db"))
        .env("SOCKET_URL", &deployment.stack().socket_url)
        .env("ISSUER", &deployment.stack().issuer)
        .env("USER_ID", alice.as_str())
        .env("PEER", bob.as_str())
        .env("SECONDS", (DEADLINE.as_secs() * 3).to_string());
    let application = tokio::task::spawn_blocking(move || python.output().expect("python3 runs"));

    let conversing = async {
        loop {
            match events.next().await.expect("the client is open") {
                Event::Added { message } if message.body == "from Python" => {
                    let seq = message.seq.expect("it is in the log");
                    assert_eq!((message.state, &message.user), (State::Received, &alice));
                    client.mark_read(conversation.clone(), seq).await.expect("known");
                    client.send(Target::User(alice.clone()), "to Python").await.expect("it is on the disk");
                }
                Event::Updated { message } if message.body == "to Python" && message.state == State::Read => {
                    client.send(Target::User(alice.clone()), "goodbye").await.expect("it is on the disk");
                    return;
                }
                _ => {}
            }
        }
    };
    let conversed = tokio::time::timeout(DEADLINE * 3, conversing).await;
    let application = application.await.expect("it ends");
    let said = [application.stdout, application.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(application.status.success() && conversed.is_ok(), "{}", said.concat());
    client.close().await;
}
