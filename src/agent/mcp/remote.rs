//! A server at an address: streamable HTTP.

use std::collections::HashMap;
use std::error::Error as StdError;

use reqwest::header::{HeaderName, HeaderValue};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};

use crate::agent::http;

/// Where it is.
#[derive(Clone)]
pub(super) struct Address {
    url: String,
    headers: HashMap<HeaderName, HeaderValue>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address and the headers may hold a key.
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

impl Address {
    /// # Errors
    /// What is wrong with the address or a header.
    pub(super) fn new(url: String, headers: impl IntoIterator<Item = (String, String)>) -> Result<Address, String> {
        let is_http = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http {
            return Err("its `url` is no address that begins with http:// or https://".to_owned());
        }
        let read = |(name, value): (String, String)| {
            let header = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(value.trim()).ok());
            let (key, mut value) = header.ok_or_else(|| format!("its header `{name}` is none that HTTP knows"))?;
            value.set_sensitive(true);
            Ok((key, value))
        };
        let headers = headers.into_iter().map(read).collect::<Result<_, String>>()?;
        Ok(Address { url, headers })
    }

    pub(super) fn transport(&self) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
        let client = http::client().map_err(|error| format!("there is no HTTP client: {}", root_cause(&error)))?;
        // A call that a server refuses with 404, since it has forgotten the session, is sent again in a new one: by
        // MCP's rules nothing was done with it. Nothing else is sent twice.
        let config =
            StreamableHttpClientTransportConfig::with_uri(self.url.as_str()).custom_headers(self.headers.clone());
        Ok(StreamableHttpClientTransport::with_client(client, config))
    }
}

/// Tells whether the request never left: there was no connection.
pub(super) fn never_left(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect))
}

/// What is behind an error, without the address.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    for cause in causes(error) {
        if let Some(Fault::AuthRequired(_)) = cause.downcast_ref() {
            return "it wants a login: give it a header `Authorization`".to_owned();
        }
        if let Some(error) = cause.downcast_ref::<reqwest::Error>()
            && let Some(status) = error.status()
        {
            return format!("it answered {status}");
        }
    }
    let last = causes(error).last().unwrap_or(error);
    match last.downcast_ref::<reqwest::Error>() {
        // An error of the client itself would quote the address.
        Some(_) => "the request failed".to_owned(),
        None => super::link::short(&last.to_string()),
    }
}

type Fault = StreamableHttpError<reqwest::Error>;

/// The error and what is behind it, step by step.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref() {
        // It does not name its source.
        Some(Fault::Client(client)) => Some(client as &(dyn StdError + 'static)),
        Some(_) | None => error.source(),
    })
}
