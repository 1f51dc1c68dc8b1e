//! That permissions are enforced while all the other tests run.

use poste_tests::Deployment;

/// Q2: the stack refuses whoever it does not know: the other tests ran against enforced permissions.
#[tokio::test]
async fn an_unknown_key_reads_nothing() {
    let deployment = Deployment::here();
    if !deployment.stack().enforces {
        println!("not played: this emulator checks no keys");
        return;
    }
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (hi, _) = phone.tells(&bob, "hi").await;
    let stack = deployment.stack();
    assert_eq!(deployment.admin().log(&hi.conversation).await.len(), 1, "the admin's key reads it");
    for (key, secret) in [("AKIAUNKNOWNUNKNOWN00", "unknown"), (&*stack.admin.access_key_id, "not its secret")] {
        let found = deployment.admin().as_another(key, secret).try_log(&hi.conversation).await;
        let refused = found.expect_err("an unknown key is refused");
        let known =
            ["AccessDenied", "InvalidClientTokenId", "UnrecognizedClient", "SignatureDoesNotMatch", "InvalidSignature"];
        assert!(known.iter().any(|code| refused.contains(code)), "{refused}");
    }
}
