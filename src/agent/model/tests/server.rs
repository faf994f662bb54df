//! A server that says what a test wrote down, once for each request, and keeps the requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::{Router, routing};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::agent::model::{Model, ModelError, ModelName, Models, Reply, Request};
use crate::config::{Config, Secret};

/// The key that the tests use; no error may hold it.
pub(super) const KEY: &str = "gateway_0123456789-very-secret";

#[derive(Debug, Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// The connection dies after the body instead of closing well.
    dies: bool,
}

impl Answer {
    pub(super) fn status(status: u16, body: &str) -> Answer {
        Answer { status, headers: Vec::new(), body: body.to_owned(), dies: false }
    }

    /// A stream of server-sent events.
    pub(super) fn sse(body: &str) -> Answer {
        Answer::status(200, body).header("content-type", "text/event-stream")
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn and_dies(mut self) -> Answer {
        self.dies = true;
        self
    }
}

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

#[derive(Clone, Default)]
pub(super) struct Server {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub(super) base: String,
}

impl Server {
    pub(super) async fn with(answers: impl IntoIterator<Item = Answer>) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
        let server = Server { answers, base, ..Server::default() };
        let app = Router::new().fallback(routing::any(answer)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// All providers at this server.
    pub(super) fn config(&self) -> Config {
        Config {
            anthropic_api_key: Secret::new(KEY),
            anthropic_base_url: self.base.clone(),
            openai_api_key: Secret::new(KEY),
            openai_base_url: self.base.clone(),
            gemini_api_key: Secret::new(KEY),
            ollama_host: self.base.clone(),
            ..Config::default()
        }
    }

    pub(super) fn models(&self) -> Models {
        Models::with_gemini_at(&self.config(), &format!("{}/v1beta/", self.base))
    }

    /// Asks once; the reply, and the words as they came.
    pub(super) async fn ask(&self, request: &Request) -> (Result<Reply, ModelError>, String) {
        ask(&self.models(), request).await
    }
}

pub(super) async fn ask(model: &dyn Model, request: &Request) -> (Result<Reply, ModelError>, String) {
    let mut heard = String::new();
    let mut on_text = |text: &str| heard.push_str(text);
    let result = model.call(request, &mut on_text).await;
    if let Err(error) = &result {
        assert!(!format!("{error:?} {error}").contains("very-secret"), "{error:?}");
    }
    (result, heard)
}

pub(super) fn request(model: &str) -> Request {
    Request::new(model.parse::<ModelName>().unwrap())
}

async fn answer(State(server): State<Server>, request: HttpRequest) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap_or_default();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let path = parts.uri.to_string();
    server.asked.lock().unwrap().push(Asked { path, headers: parts.headers, body });
    let next = server.answers.lock().unwrap().pop_front();
    let answer = next.unwrap_or_else(|| Answer::status(599, "the test has no more answers"));
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    // In two pieces that split a word, and an event.
    let half = answer.body.floor_char_boundary(answer.body.len() / 2);
    let (first, second) = answer.body.split_at(half);
    let pieces = [first.to_owned(), second.to_owned()].map(|piece| Ok(Bytes::from(piece)));
    let death = stream::once(async {
        // What was given so far is sent while the stream has nothing ready.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("the test cuts the line"))
    });
    let body = stream::iter(pieces).chain(death.take(usize::from(answer.dies)));
    response.body(Body::from_stream(body)).unwrap()
}
