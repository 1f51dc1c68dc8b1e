//! Addresses in S3 that are signed for one request each.
//!
//! They are signed with the signer of the SDK, and not by its client's operations for putting and getting: with these
//! comes code for every checksum that there is, a fifth of the function.

use std::time::{Duration, SystemTime};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials as _, SharedCredentialsProvider},
};
use aws_sigv4::{
    http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use poste_domain::{Trouble, ports::Result};
use poste_protocol::Link;

/// How long an address can be used: long enough for a part on a slow line. Shorter, if the function's credentials end
/// before.
const LIFETIME: Duration = Duration::from_mins(15);

/// The header of a length.
pub(crate) const LENGTH: &str = "content-length";

/// A request that an address is for.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) key: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

/// Signs addresses, without a call.
pub struct Links {
    /// The bucket, as devices reach it.
    bucket: String,
    region: String,
    credentials: SharedCredentialsProvider,
}

impl Links {
    /// For the bucket at this address, in this region, with the rights of whose credentials these are.
    pub fn new(bucket: String, region: String, credentials: SharedCredentialsProvider) -> Self {
        Self { bucket, region, credentials }
    }

    /// Where the request can be made, with all of its headers and as nothing else.
    pub(crate) async fn link(&self, request: &Request<'_>) -> Result<Link> {
        let credentials = self.credentials.provide_credentials().await.map_err(broken)?;
        // Whoever makes the request knows its length.
        let told = request.headers.iter().filter(|(name, _)| *name != LENGTH);
        Ok(Link {
            url: self.signed(request, credentials, SystemTime::now(), LIFETIME)?,
            headers: told.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            expires_s: LIFETIME.as_secs(),
        })
    }

    fn signed(
        &self,
        request: &Request<'_>,
        credentials: Credentials,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String> {
        let path: Vec<String> = request.key.split('/').map(spelled).collect();
        let mut url = format!("{}/{}", self.bucket, path.join("/"));
        extend(&mut url, request.query.iter().copied());

        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(lifetime);
        // S3's own ways.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(now)
            .settings(settings)
            .build()
            .map_err(broken)?
            .into();
        let (headers, body) = (request.headers.iter().copied(), SignableBody::UnsignedPayload);
        let signable = SignableRequest::new(request.method, url.as_str(), headers, body).map_err(broken)?;
        let (signature, _) = sign(signable, &params).map_err(broken)?.into_parts();
        extend(&mut url, signature.params().iter().map(|(name, value)| (*name, &**value)));
        Ok(url)
    }
}

fn broken(error: impl std::fmt::Display) -> Trouble {
    Trouble::broken("files.sign", error)
}

/// Adds to what is asked for.
fn extend<'a>(url: &mut String, query: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in query {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.extend([&*spelled(name), "=", &*spelled(value)]);
    }
}

/// As URLs (RFC 3986) and headers (RFC 5987) spell what may mean something else there.
pub(crate) fn spelled(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// What Amazon S3's API reference signs in "Authenticating Requests: Using Query Parameters".
    #[test]
    fn the_example_of_the_reference_is_signed_as_there() {
        let credentials =
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None, None, "test");
        let links = Links::new(
            "https://examplebucket.s3.amazonaws.com".to_owned(),
            "us-east-1".to_owned(),
            SharedCredentialsProvider::new(credentials.clone()),
        );
        let request = Request { method: "GET", key: "test.txt", query: &[], headers: &[] };
        let may_24_2013 = UNIX_EPOCH + Duration::from_hours(24 * 15_849);
        let url = links.signed(&request, credentials, may_24_2013, Duration::from_hours(24)).expect("a signed address");
        let signature = "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(url.ends_with(signature), "{url}");
    }

    #[test]
    fn what_means_something_elsewhere_is_spelled() {
        assert_eq!(spelled("a b\"\r\n;é/+~"), "a%20b%22%0D%0A%3B%C3%A9%2F%2B~");
    }
}
