//! Who may connect: the token and the device that a connection shows.

use poste_protocol::{Author, DeviceId, UserId, discreet};

use crate::{Keys, KeysError, Rejected, Verifier, token::LEEWAY_S};

/// The subprotocol of Poste. Browsers, which cannot set headers, offer it together with `bearer.TOKEN`.
pub const SUBPROTOCOL: &str = "poste.v1";

/// What a connecting client shows.
#[derive(Clone, Default)]
pub struct Showing {
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Sec-WebSocket-Protocol` header.
    pub subprotocols: Option<String>,
    /// The query string's `device`.
    pub device: Option<String>,
}

discreet!(Showing { device } hides { authorization, subprotocols });

impl Showing {
    /// The token, from the header or, for browsers, the list of subprotocols.
    fn token(&self) -> Option<&str> {
        let header = self.authorization.as_deref().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        header.or_else(|| self.subprotocols.as_deref()?.split(',').find_map(|name| name.trim().strip_prefix("bearer.")))
    }
}

/// Who a connection speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// User and device.
    pub author: Author,
    /// Until when the token counts, in Unix seconds.
    pub expires: u64,
}

impl Admission {
    /// Holds what is shown against the issuer's keys.
    ///
    /// # Errors
    /// When the keys cannot be had. A token that is not good is an answer: `Ok(Err(..))`.
    pub async fn check(
        showing: &Showing,
        verifier: &Verifier,
        keys: &Keys,
    ) -> Result<Result<Self, Rejected>, KeysError> {
        let Some(token) = showing.token() else {
            return Ok(Err(Rejected::Malformed("no token shown".to_owned())));
        };
        let key_id = match Verifier::key_id(token) {
            Ok(key_id) => key_id,
            Err(rejected) => return Ok(Err(rejected)),
        };
        let keys = keys.with(&key_id).await?;
        Ok(verifier.verify(token, &keys).and_then(|claims| {
            let bad = |error: poste_protocol::InvalidId| Rejected::Invalid(error.to_string());
            // The token's device rules; without one the device names itself. It can only be one of its user's.
            let device = match (claims.device, showing.device.clone()) {
                (Some(bound), Some(named)) if bound != named => {
                    return Err(Rejected::Invalid("the token is for another device".to_owned()));
                }
                (Some(device), _) | (None, Some(device)) => device,
                (None, None) => return Err(Rejected::Invalid("no device named".to_owned())),
            };
            let author =
                Author { user: UserId::new(claims.sub).map_err(bad)?, device: DeviceId::new(device).map_err(bad)? };
            Ok(Self { author, expires: claims.exp.saturating_add(LEEWAY_S) })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_the_header_or_the_subprotocols() {
        let header = |value: &str| Showing { authorization: Some(value.to_owned()), ..Showing::default() };
        assert_eq!(header("Bearer abc").token(), Some("abc"));
        assert_eq!(header("bearer  abc ").token(), Some("abc"));
        assert_eq!(header("Basic abc").token(), None);
        assert_eq!(header("abc").token(), None);
        let offered = |value: &str| Showing { subprotocols: Some(value.to_owned()), ..Showing::default() };
        assert_eq!(offered("poste.v1, bearer.a.b.c").token(), Some("a.b.c"));
        assert_eq!(offered("poste.v1").token(), None);
        assert_eq!(Showing::default().token(), None);
    }
}
