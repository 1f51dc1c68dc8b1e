//! Where things are at an emulator: the addresses of sockets and callbacks differ between emulators, and only here.

use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// How long an endpoint may take to say what it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which emulator answers at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// MiniStack, ours or somebody else's.
    MiniStack,
    /// LocalStack.
    LocalStack,
}

/// The addresses of one API, in which `{api}` stands for its id, which is known after the deployment only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Where devices connect.
    pub(crate) socket: String,
    /// Where functions post to connections, as they see it. The template knows `{api}`, too.
    pub(crate) callback: String,
    /// Where devices put and get files.
    pub(crate) store: String,
}

impl Addresses {
    /// The addresses that an emulator at this endpoint has for a stage.
    pub(crate) fn of(flavour: Flavour, endpoint: &str, stage: &str) -> anyhow::Result<Self> {
        let (scheme, authority) = endpoint
            .split_once("://")
            .with_context(|| format!("`{endpoint}` is not an address such as http://127.0.0.1:4566"))?;
        let socket_scheme = match scheme {
            "http" => "ws",
            "https" => "wss",
            other => bail!("`{other}://` is neither http nor https"),
        };
        let authority = authority.trim_end_matches('/');
        ensure!(!authority.contains('/'), "`{endpoint}` has a path");
        let store = format!("{scheme}://{authority}");
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        Ok(match flavour {
            Flavour::MiniStack => Self {
                socket: format!("{socket_scheme}://{authority}/_aws/execute-api/{{api}}/{stage}"),
                callback: format!("{scheme}://{authority}/_aws/execute-api/{{api}}/{stage}"),
                store,
            },
            // From LocalStack's documentation; not tried, because its WebSocket API needs a paid plan. The options
            // --socket-url and --callback-url replace both. The name resolves to the emulator inside its functions'
            // containers as well as on the host.
            Flavour::LocalStack => {
                let host = "localhost.localstack.cloud";
                let port = if port.is_empty() { "4566" } else { port };
                Self {
                    socket: format!("{socket_scheme}://{{api}}.execute-api.{host}:{port}/{stage}"),
                    callback: format!("{scheme}://{host}:{port}/_aws/execute-api/{{api}}/{stage}"),
                    store,
                }
            }
        })
    }

    /// Puts addresses that the user gave in place of the derived ones.
    pub(crate) fn replaced(self, socket: Option<String>, callback: Option<String>) -> Self {
        Self { socket: socket.unwrap_or(self.socket), callback: callback.unwrap_or(self.callback), ..self }
    }

    /// The socket's address, once the API's id is known.
    pub(crate) fn socket_url(&self, api: &str) -> String {
        self.socket.replace("{api}", api)
    }
}

/// Asks an endpoint what it is.
pub(crate) async fn probe(http: &reqwest::Client, endpoint: &str) -> anyhow::Result<Flavour> {
    let ask = |path: &str| {
        let request = http.get(format!("{endpoint}{path}")).timeout(PROBE_TIMEOUT);
        async move { Ok::<_, reqwest::Error>(request.send().await?.status().is_success()) }
    };
    // MiniStack answers LocalStack's question as well, so its own comes first.
    let nobody = || format!("nobody answers at {endpoint}");
    if ask("/_ministack/health").await.with_context(nobody)? {
        return Ok(Flavour::MiniStack);
    }
    if ask("/_localstack/health").await.with_context(nobody)? {
        return Ok(Flavour::LocalStack);
    }
    bail!(
        "{endpoint} answers, but is neither LocalStack nor MiniStack. \
         Give --socket-url and --callback-url (with {{api}} for the API's id) if it is compatible."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ministack_has_sockets_and_callbacks_under_its_own_address() {
        let addresses = Addresses::of(Flavour::MiniStack, "http://127.0.0.1:4000/", "prod").unwrap();
        assert_eq!(addresses.socket_url("a1"), "ws://127.0.0.1:4000/_aws/execute-api/a1/prod");
        assert_eq!(addresses.callback, "http://127.0.0.1:4000/_aws/execute-api/{api}/prod");
        assert_eq!(addresses.store, "http://127.0.0.1:4000");
    }

    #[test]
    fn localstack_names_the_api_in_the_host() {
        let addresses = Addresses::of(Flavour::LocalStack, "http://localhost:4566", "prod").unwrap();
        assert_eq!(addresses.socket_url("a1"), "ws://a1.execute-api.localhost.localstack.cloud:4566/prod");
        assert!(addresses.callback.contains("{api}"));
    }

    #[test]
    fn given_addresses_win() {
        let addresses = Addresses::of(Flavour::LocalStack, "https://localhost:4566", "prod")
            .unwrap()
            .replaced(Some("ws://here/{api}".into()), None);
        assert_eq!(addresses.socket_url("a1"), "ws://here/a1");
        assert!(addresses.callback.starts_with("https://"));
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for wrong in ["127.0.0.1:4566", "ftp://x", "http://x/path"] {
            assert!(Addresses::of(Flavour::MiniStack, wrong, "prod").is_err(), "{wrong}");
        }
    }
}
