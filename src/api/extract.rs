//! What handlers take from a request, with refusals that read like all others.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use super::{BODY_MAX, Error, bad_input};
use crate::command::{Refused, TaskRef};

/// How long a client may take to send a body: it holds a connection meanwhile.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The task that a path names. What cannot be decoded names no task.
#[derive(Debug)]
pub(super) struct Named(pub(super) TaskRef);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match Path::<TaskRef>::from_request_parts(parts, state).await {
            Ok(Path(reference)) => Ok(Named(reference)),
            Err(_) => Err(Refused::no_such_task(parts.uri.path()).into()),
        }
    }
}

/// A body that was not read yet: first comes what the peer may do.
#[derive(Debug)]
pub(super) struct Unread(Request);

impl<S: Send + Sync> FromRequest<S> for Unread {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Unread(request))
    }
}

impl Unread {
    /// The whole body. One that is announced as too long is refused before it is read.
    pub(super) async fn read(self) -> Result<Bytes, Error> {
        let Unread(request) = self;
        let announced =
            request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|len| len > BODY_MAX as u64) {
            let limit = format!("it is longer than {BODY_MAX} bytes");
            return Err(bad_input("body", &limit, StatusCode::PAYLOAD_TOO_LARGE));
        }
        let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
        let body = body.map_err(|_| bad_input("body", &"it did not come in time", StatusCode::BAD_REQUEST))?;
        body.map_err(|e| bad_input("body", &e.body_text(), e.status()))
    }
}
