//! The HTTP client of agents: for models and for MCP servers.

use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(20);

/// A client that follows no redirect, which would carry keys and headers to wherever it points.
///
/// # Errors
/// When the system's TLS cannot be used at all.
pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    // Another part of the process may have installed it already, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = || {
        reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("octo/", env!("CARGO_PKG_VERSION")))
    };
    // Without any certificates on the system, servers on one's own machine can still be reached.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}
