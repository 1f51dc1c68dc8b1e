//! Who may connect, and for how long.

use poste_protocol::{Code, FromServer, Reference};
use poste_tests::{DEADLINE, Deployment, Refused, Showing, TokenWish, eventually, submission};
use serde_json::json;

/// How long a token counts after its end, for clocks that differ; for the handshake and for the open connection alike.
const LEEWAY_S: i64 = 30;

/// Section 5 of the design (auth): both algorithms, by header and by subprotocol, which is echoed.
#[tokio::test]
async fn good_tokens_are_taken() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    for algorithm in ["ES256", "RS256"] {
        let wish = TokenWish { algorithm: Some(algorithm), ..TokenWish::default() };
        let token = deployment.token(&alice, &wish).await;
        let showings = [
            (Showing::Bearer(token.clone()), None),
            (Showing::Authorization(format!("bearer  {token} ")), None),
            (Showing::Subprotocols(format!("poste.v1, bearer.{token}")), Some("poste.v1")),
            (Showing::Subprotocols(format!("bearer.{token},poste.v1")), Some("poste.v1")),
        ];
        for (showing, chosen) in showings {
            let opened = deployment.handshake(Some("phone"), &showing).await;
            let (_, subprotocol) = opened.unwrap_or_else(|refused| panic!("{algorithm}, {showing:?}: {refused:?}"));
            assert_eq!(subprotocol.as_deref(), chosen, "{algorithm}, {showing:?}");
            let mut device = deployment.device_offline(&alice, "phone");
            device.connect_with(&showing).await;
            let welcome = device.hello().await;
            assert_eq!((&welcome.user, welcome.device.as_str()), (&alice, "phone"));
        }
    }
}

/// Section 5 of the design (auth): a token may be bound to a device, which then rules.
#[tokio::test]
async fn a_bound_token_is_good_for_its_device_only() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let wish = TokenWish { bound_to: Some("phone"), ..TokenWish::default() };
    let showing = Showing::Bearer(deployment.token(&alice, &wish).await);
    for named in [Some("phone"), None] {
        deployment.handshake(named, &showing).await.unwrap_or_else(|refused| panic!("{named:?}: {refused:?}"));
    }
    let mut device = deployment.device_offline(&alice, "phone");
    device.connect_with(&showing).await;
    assert_eq!(device.hello().await.device.as_str(), "phone");
    is_refused("another device", deployment.handshake(Some("tablet"), &showing).await);
}

/// The issue's list: wrong, expired, foreign and missing tokens.
#[tokio::test]
async fn bad_tokens_are_refused() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let good = TokenWish::default;
    let wishes = [
        ("a foreign key", TokenWish { forged: true, ..good() }),
        ("a foreign key, RS256", TokenWish { forged: true, algorithm: Some("RS256"), ..good() }),
        ("a foreign issuer", TokenWish { issuer: Some("https://elsewhere.example"), ..good() }),
        ("a foreign audience", TokenWish { audience: Some("another-service"), ..good() }),
        ("expired just now", TokenWish { expires_in: Some(-LEEWAY_S - 1), ..good() }),
        ("expired a minute ago", TokenWish { expires_in: Some(-60), ..good() }),
        ("expired a year ago", TokenWish { expires_in: Some(-365 * 86_400), ..good() }),
    ];
    for (what, wish) in wishes {
        let token = deployment.token(&alice, &wish).await;
        is_refused(what, deployment.handshake(Some("phone"), &Showing::Bearer(token.clone())).await);
        let offered = Showing::Subprotocols(format!("poste.v1, bearer.{token}"));
        is_refused(what, deployment.handshake(Some("phone"), &offered).await);
    }

    let token = deployment.token(&alice, &good()).await;
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let mallory = deployment.token(&deployment.user("mallory"), &good()).await;
    let [_, others, _] = mallory.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let stack = deployment.stack();
    let claims_of_alice = json!({
        "iss": stack.issuer, "aud": stack.audience, "sub": alice, "iat": 1, "exp": 4_000_000_000_u64
    });
    let unsigned = |header| Deployment::unsigned_token(&header, &claims_of_alice, b"");
    let signed_with_nonsense = |header| Deployment::unsigned_token(&header, &claims_of_alice, &[7; 64]);
    let shown = [
        ("nothing", Showing::Nothing),
        ("an empty token", Showing::Authorization("Bearer ".to_owned())),
        ("no scheme", Showing::Authorization(token.clone())),
        ("another scheme", Showing::Authorization(format!("Basic {token}"))),
        ("garbage", Showing::Bearer("garbage".to_owned())),
        ("garbage in three parts", Showing::Bearer("a.b.c".to_owned())),
        ("a very long token", Showing::Bearer(format!("{token}{}", "A".repeat(9_000)))),
        ("no signature", Showing::Bearer(format!("{header}.{claims}."))),
        ("claims of another token", Showing::Bearer(format!("{header}.{others}.{signature}"))),
        ("a signature cut short", Showing::Bearer(token[..token.len() - 4].to_owned())),
        ("algorithm none", Showing::Bearer(unsigned(json!({ "alg": "none", "typ": "JWT" })))),
        ("algorithm None", Showing::Bearer(unsigned(json!({ "alg": "None", "typ": "JWT", "kid": "local-es256" })))),
        ("HS256", Showing::Bearer(signed_with_nonsense(json!({ "alg": "HS256", "kid": "local-rs256" })))),
        ("an unknown key", Showing::Bearer(signed_with_nonsense(json!({ "alg": "ES256", "kid": "unknown" })))),
        ("no key id", Showing::Bearer(signed_with_nonsense(json!({ "alg": "ES256" })))),
        ("a subprotocol without a token", Showing::Subprotocols("poste.v1".to_owned())),
    ];
    for (what, showing) in shown {
        is_refused(what, deployment.handshake(Some("phone"), &showing).await);
    }

    let showing = Showing::Bearer(token);
    is_refused("no device named", deployment.handshake(None, &showing).await);
    for device in ["", "a%20b", "a%2Fb", "%00", "a.b", &"x".repeat(65)] {
        is_refused(device, deployment.handshake(Some(device), &showing).await);
    }
}

fn is_refused<T>(what: &str, handshake: Result<T, Refused>) {
    match handshake {
        Ok(_) => panic!("{what} is let in"),
        Err(refused) => assert!([401, 403].contains(&refused.status), "{what}: {refused:?}"),
    }
}

/// C3, failure mode 7 of others (an expired token wedges the queue): a token that runs out on an open connection is
/// told as such, for every action; with a fresh one everything goes on.
#[tokio::test]
async fn a_token_that_runs_out_on_an_open_connection() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device_offline(&alice, "phone");
    let wish = TokenWish { expires_in: Some(4 - LEEWAY_S), ..TokenWish::default() };
    phone.connect_with(&Showing::Bearer(deployment.token(&alice, &wish).await)).await;
    let (_, first) = phone.tells(&bob, "in time").await;
    assert_eq!(first.seq, 1);
    let conversation = phone.with(&bob);

    let error = eventually("the token runs out", DEADLINE, async || {
        let answer = phone.ask_raw(r#"{"action":"hello","ref":"still here?"}"#).await;
        let FromServer::Error(error) = answer else { return None };
        Some(error)
    })
    .await;
    assert_eq!((error.refusal.code, error.refusal.retryable), (Code::TokenExpired, true));
    assert_eq!(error.reference.as_ref().map(Reference::as_str), Some("still here?"));

    let late = phone.writes(&bob, "too late for this token");
    let error = phone.send(vec![submission(&late)]).await.expect_err("refused as a whole");
    assert_eq!(error.refusal.code, Code::TokenExpired);
    let requests = [
        json!({ "action": "fetch", "ref": "r", "conversation": conversation, "after": 0 }),
        json!({ "action": "list", "ref": "r" }),
        json!({ "action": "mark", "ref": "r", "marks": [{ "conversation": conversation, "read": 1 }] }),
    ];
    for request in requests {
        match phone.ask_raw(&request.to_string()).await {
            FromServer::Error(error) => assert_eq!(error.refusal.code, Code::TokenExpired, "{request}"),
            other => panic!("{request} is answered with {other:?}"),
        }
    }

    phone.connect().await;
    let accepted = phone.sends(&late).await;
    assert_eq!((accepted.seq, accepted.repeat), (2, false), "nothing of it was stored before");
}
