//! JSON Web Tokens: signature, issuer, audience and expiry, by the issuer's published keys.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};
use serde::Deserialize;

/// What a clock may be off between the issuer and us, in seconds. A connection lives as much longer than its token.
pub(crate) const LEEWAY_S: u64 = 30;

/// Tokens are refused beyond this length before anything is computed over them.
const LONGEST_TOKEN: usize = 8 * 1024;

/// What we read from a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// When it runs out, in Unix seconds.
    pub exp: u64,
    /// The device that the token is bound to, if it is.
    #[serde(default)]
    pub device: Option<String>,
}

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not a token of a kind that we take.
    #[error("not a token: {0}")]
    Malformed(String),
    /// Signed with a key that the issuer does not publish.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// Signature, issuer, audience or time do not hold.
    #[error("{0}")]
    Invalid(String),
}

/// Holds tokens against an issuer and an audience.
#[derive(Debug, Clone)]
pub struct Verifier {
    issuer: String,
    audience: String,
}

impl Verifier {
    /// Takes tokens of this issuer for this audience.
    pub fn new(issuer: String, audience: String) -> Self {
        Self { issuer, audience }
    }

    /// The id of the key that a token says it is signed with.
    ///
    /// # Errors
    /// [`Rejected::Malformed`], also for algorithms other than RS256 and ES256.
    pub fn key_id(token: &str) -> Result<String, Rejected> {
        if token.len() > LONGEST_TOKEN {
            return Err(Rejected::Malformed("too long".to_owned()));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| Rejected::Malformed(error.to_string()))?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(Rejected::Malformed(format!("algorithm {:?}", header.alg)));
        }
        header.kid.ok_or_else(|| Rejected::Malformed("no key id".to_owned()))
    }

    /// The claims of a good token.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn verify(&self, token: &str, keys: &JwkSet) -> Result<Claims, Rejected> {
        let invalid = |error: jsonwebtoken::errors::Error| Rejected::Invalid(error.to_string());
        let key = keys.find(&Self::key_id(token)?).ok_or(Rejected::UnknownKey)?;
        // The key, not the token, says which algorithm holds.
        let algorithm = match &key.algorithm {
            jsonwebtoken::jwk::AlgorithmParameters::RSA(_) => Algorithm::RS256,
            jsonwebtoken::jwk::AlgorithmParameters::EllipticCurve(_) => Algorithm::ES256,
            _ => return Err(Rejected::UnknownKey),
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_S;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        let key = DecodingKey::from_jwk(key).map_err(invalid)?;
        decode::<Claims>(token, &key, &validation).map(|data| data.claims).map_err(invalid)
    }
}
