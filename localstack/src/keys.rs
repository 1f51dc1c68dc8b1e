//! The issuer's keys: made at the first start and kept, so that a token outlives a restart.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use crate::place::write_private;

/// The algorithms that the issuer signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with SHA-256, 2048 bits.
    #[serde(rename = "RS256")]
    Rs256,
}

impl SigningAlgorithm {
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
        }
    }

    /// The key's name in tokens and in the published set.
    fn key_id(self) -> &'static str {
        match self {
            Self::Es256 => "local-es256",
            Self::Rs256 => "local-rs256",
        }
    }
}

/// A private key.
pub(crate) struct Key {
    algorithm: SigningAlgorithm,
    key: EncodingKey,
}

impl Key {
    /// Reads a key from a folder, or makes one there.
    fn kept(folder: &Path, algorithm: SigningAlgorithm) -> anyhow::Result<Self> {
        let file = folder.join(format!("{}.pem", algorithm.key_id()));
        if let Ok(pem) = fs::read(&file) {
            return Self::from_pem(algorithm, &pem)
                .with_context(|| format!("{} holds no key; remove it", file.display()));
        }
        let pem = generate(algorithm)?;
        fs::create_dir_all(folder)?;
        write_private(&file, pem.as_bytes())?;
        Self::from_pem(algorithm, pem.as_bytes())
    }

    /// A key that is not published: what it signs is a forgery.
    fn unpublished(algorithm: SigningAlgorithm) -> anyhow::Result<Self> {
        Self::from_pem(algorithm, generate(algorithm)?.as_bytes())
    }

    fn from_pem(algorithm: SigningAlgorithm, pem: &[u8]) -> anyhow::Result<Self> {
        let key = match algorithm {
            SigningAlgorithm::Es256 => EncodingKey::from_ec_pem(pem),
            SigningAlgorithm::Rs256 => EncodingKey::from_rsa_pem(pem),
        }?;
        Ok(Self { algorithm, key })
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> anyhow::Result<String> {
        let mut header = Header::new(self.algorithm.algorithm());
        header.kid = Some(self.algorithm.key_id().to_owned());
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }

    /// The public half, as it is published.
    fn public(&self) -> anyhow::Result<Jwk> {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm.algorithm())?;
        jwk.common.key_id = Some(self.algorithm.key_id().to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(jwk)
    }
}

/// All keys of the issuer.
pub(crate) struct Keys {
    es256: Key,
    rs256: Key,
    forger: Key,
}

impl Keys {
    /// Reads or makes the keys in a folder.
    pub(crate) fn kept(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            es256: Key::kept(folder, SigningAlgorithm::Es256)?,
            rs256: Key::kept(folder, SigningAlgorithm::Rs256)?,
            forger: Key::unpublished(SigningAlgorithm::Es256)?,
        })
    }

    /// The key of an algorithm.
    pub(crate) fn of(&self, algorithm: SigningAlgorithm) -> &Key {
        match algorithm {
            SigningAlgorithm::Es256 => &self.es256,
            SigningAlgorithm::Rs256 => &self.rs256,
        }
    }

    /// A key that claims to be the published one of ES256 and is not.
    pub(crate) fn forger(&self) -> &Key {
        &self.forger
    }

    /// The published set.
    pub(crate) fn public(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::json!({ "keys": [self.es256.public()?, self.rs256.public()?] }))
    }
}

/// Makes a private key, as PEM (PKCS #8).
fn generate(algorithm: SigningAlgorithm) -> anyhow::Result<String> {
    let failed = |_| anyhow!("cannot make a key");
    let der = match algorithm {
        SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|pair| Ok(pair.to_pkcs8v1()?.as_ref().to_vec())),
        SigningAlgorithm::Rs256 => {
            RsaKeyPair::generate(KeySize::Rsa2048).and_then(|pair| Ok(AsDer::as_der(&pair)?.as_ref().to_vec()))
        }
    }
    .map_err(failed)?;
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    use super::*;

    fn verify(set: Value, token: &str) -> jsonwebtoken::errors::Result<Value> {
        let set: JwkSet = serde_json::from_value(set).unwrap();
        let header = jsonwebtoken::decode_header(token)?;
        let jwk = set.find(&header.kid.unwrap()).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&["poste"]);
        decode::<Value>(token, &DecodingKey::from_jwk(jwk)?, &validation).map(|data| data.claims)
    }

    #[test]
    fn published_keys_verify_what_the_kept_ones_sign_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let claims = json!({ "sub": "alice", "aud": "poste", "exp": 4_000_000_000_u64 });
        let first = Keys::kept(folder.path()).unwrap();
        let restarted = Keys::kept(folder.path()).unwrap();
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
            let token = first.of(algorithm).sign(&claims).unwrap();
            assert_eq!(verify(restarted.public().unwrap(), &token).unwrap(), claims);
        }
    }

    #[test]
    fn the_forger_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::kept(folder.path()).unwrap();
        let claims = json!({ "sub": "alice", "aud": "poste", "exp": 4_000_000_000_u64 });
        let token = keys.forger().sign(&claims).unwrap();
        assert!(verify(keys.public().unwrap(), &token).is_err());
    }
}
