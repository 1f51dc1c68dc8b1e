//! Frames from the server: read, matched with what was asked, and passed on. A frame that cannot be read is ignored.

use poste_protocol::FromServer;

use super::Rules;
use super::session::Asked;
use super::turn::Turn;
use crate::StoreError;

impl Rules {
    pub(super) fn on_frame(&mut self, turn: &mut Turn<'_>, text: &str) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some(session) = self.session_mut() else { return Ok(()) };
        session.active = now;
        self.counters.frames_received += 1;
        let frame: FromServer = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(_) if is_gateway_error(text) => {
                self.counters.refused += 1;
                tracing::info!("the gateway reported an error");
                return self.on_nameless_error(turn);
            }
            Err(wrong) => {
                self.counters.bad_frames += 1;
                // The error's category and place only: its text may quote the frame.
                tracing::warn!(category = ?wrong.classify(), column = wrong.column(), "a frame could not be read");
                return Ok(());
            }
        };
        let asked = self.asked(&frame);
        if asked.is_some() && !matches!(frame, FromServer::Error(_)) {
            self.failures = 0;
            if let Some(session) = self.session_mut() {
                session.answered = true;
            }
        }
        self.on_answer(turn, frame, asked)
    }

    /// The request that a frame answers, if it is still waited for; it is not any more.
    fn asked(&mut self, frame: &FromServer) -> Option<Asked> {
        let number: u64 = frame.reference()?.as_str().parse().ok()?;
        self.session_mut()?.requests.remove(&number)
    }
}

/// What API Gateway sends when an integration fails: no `type`, but a `message`.
fn is_gateway_error(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text)
        .is_ok_and(|value| value.get("type").is_none() && value.get("message").is_some())
}
