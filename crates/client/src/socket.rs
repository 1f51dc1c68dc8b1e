//! One WebSocket from handshake to end.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use poste_protocol::DeviceId;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::engine::{Input, Lost};
use crate::{ClientConfig, Error, TokenError, TokenProvider};

/// The subprotocol of this version of the wire.
const SUBPROTOCOL: &str = "poste.v1";

/// Longer messages than the gateway ever passes on are not from it.
const MESSAGE_LIMIT: usize = 128 * 1024;

/// Whom to call, and with what.
pub(crate) struct Dial {
    address: Uri,
    tokens: Arc<dyn TokenProvider>,
}

impl Dial {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, Error> {
        let address = address(&config.socket_url, &config.device)?;
        Ok(Self { address, tokens: Arc::clone(&config.tokens) })
    }

    fn request(&self, token: &str) -> Result<Request<()>, SocketError> {
        let mut request = self.address.clone().into_client_request()?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        Ok(request)
    }
}

/// The socket's address with the device. A device id needs no escaping.
fn address(socket_url: &str, device: &DeviceId) -> Result<Uri, Error> {
    let wrong = |why: &str| Error::Address(format!("{socket_url}: {why}"));
    let joined = format!("{socket_url}{}device={device}", if socket_url.contains('?') { '&' } else { '?' });
    let uri: Uri = joined.parse().map_err(|_| wrong("not a URL"))?;
    match uri.scheme_str() {
        Some("ws" | "wss") => Ok(uri),
        _ => Err(wrong("it must begin with ws:// or wss://")),
    }
}

/// Connects, passes frames both ways, and reports the end. Ends by itself when `to_send` is dropped.
pub(crate) async fn run(
    dial: Arc<Dial>,
    fresh_token: bool,
    mut to_send: UnboundedReceiver<String>,
    report: impl Fn(Input),
) {
    let lost = tokio::select! {
        lost = converse(&dial, fresh_token, &report) => lost,
        () = closed(&mut to_send) => return,
    };
    let socket = match lost {
        Ok(socket) => socket,
        Err(lost) => return report(Input::Disconnected(lost)),
    };
    let (mut sink, mut stream) = socket.split();
    loop {
        tokio::select! {
            frame = to_send.recv() => {
                let Some(text) = frame else {
                    let _ = sink.close().await;
                    return;
                };
                if sink.send(Message::text(text)).await.is_err() {
                    return report(Input::Disconnected(Lost::Closed));
                }
            },
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => report(Input::Frame(text.as_str().to_owned())),
                // Pings are answered by the library; anything binary is not ours.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return report(Input::Disconnected(Lost::Closed)),
            },
        }
    }
}

/// Ends when the engine has dropped the sending side. Nothing is sent before the handshake is reported.
async fn closed(to_send: &mut UnboundedReceiver<String>) {
    while to_send.recv().await.is_some() {}
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn converse(dial: &Dial, fresh_token: bool, report: &impl Fn(Input)) -> Result<Socket, Lost> {
    let token = dial.tokens.token(fresh_token).await.map_err(|wrong| {
        tracing::warn!(%wrong, "no token");
        match wrong {
            TokenError::Refused(_) => Lost::SignIn,
            TokenError::Unavailable(_) => Lost::Closed,
        }
    })?;
    let request = dial.request(&token).map_err(|wrong| {
        tracing::warn!(%wrong, "the handshake could not be written");
        Lost::SignIn
    })?;
    let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE_LIMIT)).max_frame_size(Some(MESSAGE_LIMIT));
    // Without Nagle's algorithm: frames are small, and each is wanted at once.
    match tokio_tungstenite::connect_async_with_config(request, Some(limits), true).await {
        Ok((socket, _)) => {
            report(Input::Connected);
            Ok(socket)
        }
        Err(SocketError::Http(answer))
            if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
        {
            Err(Lost::Unauthorized)
        }
        Err(wrong) => {
            tracing::info!(%wrong, "no connection");
            Err(Lost::Closed)
        }
    }
}

#[cfg(test)]
mod tests;
