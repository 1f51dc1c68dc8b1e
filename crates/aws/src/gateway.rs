//! The functions behind the WebSocket: an event of API Gateway in, a frame out.

use std::sync::Arc;

use aws_lambda_events::{
    encodings::Body,
    event::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use poste_domain::{MEASURED, routes::Caller};
use poste_protocol::{Author, Code, FromServer};
use tracing::Instrument as _;

use crate::metrics::measured;

/// What the gateway hands to a function. Without `Debug`: it holds the frame, and perhaps the token.
#[derive(Clone)]
pub struct Event {
    /// Which route the frame took, or `$connect` or `$disconnect`.
    pub route: String,
    /// Who speaks.
    pub caller: Caller,
    /// The frame; empty for `$connect` and `$disconnect`.
    pub text: String,
    /// The subprotocols that a connecting client offers.
    pub subprotocols: Vec<String>,
}

/// What a function answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A frame for the device.
    Frame(Box<FromServer>),
    /// The connection may open, with this subprotocol if one was offered.
    Open(Option<&'static str>),
    /// Nothing to say.
    Nothing,
    /// The connection must not open: its device has a newer one.
    Superseded,
    /// The connection must not open: a part did not answer.
    Unavailable,
}

impl Reply {
    /// The same, with a no measured.
    fn noted(self) -> Self {
        let (refused, failed) = match &self {
            Self::Frame(frame) => match &**frame {
                FromServer::Error(error) if matches!(error.refusal.code, Code::Busy | Code::Unavailable) => (0, 1),
                FromServer::Error(_) => (1, 0),
                _ => (0, 0),
            },
            Self::Unavailable => (0, 1),
            Self::Open(_) | Self::Nothing | Self::Superseded => (0, 0),
        };
        tracing::info!(target: MEASURED, metric = "request", refused, failed);
        self
    }
}

/// Runs a function behind the gateway until the runtime ends it.
///
/// # Errors
/// Those of the runtime.
pub async fn serve<F, R>(handle: F) -> Result<(), Error>
where
    F: Fn(Event) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send,
{
    let handle = Arc::new(handle);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<ApiGatewayWebsocketProxyRequest>| {
        let handle = handle.clone();
        async move {
            let event = read(event.payload)?;
            let span = tracing::info_span!("frame", route = event.route, connection = event.caller.connection);
            let reply = measured(async { handle(event).await.noted() }).instrument(span).await;
            Ok::<_, Error>(write(reply))
        }
    }))
    .await
}

/// What the gateway's event says.
///
/// # Errors
/// It lacks a caller only if a route has no authorizer: a defect of the deployment.
pub fn read(request: ApiGatewayWebsocketProxyRequest) -> Result<Event, Error> {
    let context = request.request_context;
    let field = |name: &str| context.authorizer.fields.get(name);
    let text = |name: &str| field(name).and_then(|v| v.as_str()).map(str::to_owned).ok_or("no caller in the event");
    // API Gateway hands numbers of the context on as text, some emulators as numbers.
    let expires = field("expires").and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()));
    let caller = Caller {
        author: Author { user: text("user")?.try_into()?, device: text("device")?.try_into()? },
        connection: context.connection_id.ok_or("no connection id in the event")?,
        connected_at_ms: u64::try_from(context.connected_at).unwrap_or_default(),
        token_expires_at_ms: expires.ok_or("no expiry in the event")?.saturating_mul(1000),
    };
    let subprotocols = request
        .headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    // A frame may name `$connect` as its action: what came as a message is none of the gateway's own events.
    let route = match (context.event_type.as_deref(), context.route_key.ok_or("no route in the event")?) {
        (Some("CONNECT"), _) => "$connect".to_owned(),
        (Some("DISCONNECT"), _) => "$disconnect".to_owned(),
        (_, route) if route.starts_with('$') => "$default".to_owned(),
        (_, route) => route,
    };
    Ok(Event { route, caller, text: request.body.unwrap_or_default(), subprotocols })
}

fn write(reply: Reply) -> ApiGatewayProxyResponse {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = 200;
    match reply {
        Reply::Frame(frame) => {
            let text = serde_json::to_string(&frame).expect("a frame has only plain fields");
            response.body = Some(Body::Text(text));
        }
        Reply::Open(subprotocol) => {
            if let Some(name) = subprotocol {
                let value = name.parse().expect("a subprotocol's name is a header value");
                response.headers.insert("Sec-WebSocket-Protocol", value);
            }
        }
        Reply::Nothing => {}
        Reply::Superseded => response.status_code = 409,
        Reply::Unavailable => response.status_code = 503,
    }
    response
}
