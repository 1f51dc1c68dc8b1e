//! The authorizer of `$connect`: who is this? What it finds out is in every later event of the connection.

use std::sync::Arc;

use aws_lambda_events::event::{
    apigw::{
        ApiGatewayCustomAuthorizerPolicy, ApiGatewayCustomAuthorizerRequestTypeRequest,
        ApiGatewayCustomAuthorizerResponse,
    },
    iam::{IamPolicyEffect, IamPolicyStatement},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use poste_aws::{metrics::measured, start_log, variable};
use poste_connect::{Admission, Keys, Showing, Verifier};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    start_log();
    let verifier = Arc::new(Verifier::new(variable("TOKEN_ISSUER")?, variable("TOKEN_AUDIENCE")?));
    let keys = Arc::new(Keys::new(variable("TOKEN_JWKS_URL")?)?);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<ApiGatewayCustomAuthorizerRequestTypeRequest>| {
        let (verifier, keys) = (verifier.clone(), keys.clone());
        async move { measured(authorize(&verifier, &keys, event.payload)).await }
    }))
    .await
}

async fn authorize(
    verifier: &Verifier,
    keys: &Keys,
    request: ApiGatewayCustomAuthorizerRequestTypeRequest,
) -> Result<ApiGatewayCustomAuthorizerResponse, Error> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let showing = Showing {
        authorization: header("authorization"),
        subprotocols: header("sec-websocket-protocol"),
        device: request.query_string_parameters.first("device").map(str::to_owned),
    };
    let (effect, principal, context) = match Admission::check(&showing, verifier, keys).await? {
        Ok(Admission { author, expires }) => {
            let context = json!({ "user": author.user, "device": author.device, "expires": expires });
            (IamPolicyEffect::Allow, author.user.to_string(), context)
        }
        Err(rejected) => {
            tracing::info!(reason = %rejected, "refused a connection");
            (IamPolicyEffect::Deny, "nobody".to_owned(), json!({}))
        }
    };
    let mut statement = IamPolicyStatement::default();
    statement.action = vec!["execute-api:Invoke".to_owned()];
    statement.effect = effect;
    statement.resource = request.method_arn.into_iter().collect();
    let mut policy = ApiGatewayCustomAuthorizerPolicy::default();
    policy.version = Some("2012-10-17".to_owned());
    policy.statement = vec![statement];
    let mut response = ApiGatewayCustomAuthorizerResponse::default();
    response.principal_id = Some(principal);
    response.policy_document = policy;
    response.context = context;
    Ok(response)
}
