//! The wire: connections, parameters in JSON, multipart or the address, faults, and the journal.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::methods::{METHODS, Outcome, Refusal};
use super::{Call, Fault, World, chat_of, methods, updates};

/// Serves until `stopped` is dropped.
pub(super) async fn serve(listener: std::net::TcpListener, world: Arc<World>, mut stopped: oneshot::Receiver<()>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let socket = Arc::new(stream.as_fd().try_clone_to_owned().unwrap());
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(|request| answer(Arc::clone(&world), Arc::clone(&socket), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let mut leaving = world.leaving.subscribe();
            tokio::select! {
                _ = connection => {}
                _ = leaving.changed() => {}
            }
        });
    }
}

type Reply = Response<Full<Bytes>>;

async fn answer(world: Arc<World>, socket: Arc<OwnedFd>, request: Request<Incoming>) -> Result<Reply, std::io::Error> {
    let at = Instant::now();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let kind = request.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let (bot, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let Some(method) = METHODS.iter().find(|m| m.eq_ignore_ascii_case(method)).copied() else {
        return Ok(json_reply(404, &json!({"ok": false, "error_code": 404, "description": "Not Found"})));
    };
    let params = params(&kind, &query, &body);
    let fault = {
        let mut inner = world.held();
        let known = bot.strip_prefix("bot").is_some_and(|token| token == inner.token);
        if known { inner.fault(method, chat_of(&params)) } else { Some(Fault::unauthorized()) }
    };
    let mut call = Call { at, method, params, done: false, status: 0, answer: Value::Null };
    let reply = match &fault {
        None | Some(Fault::DoneThenSilent | Fault::DoneThenReset) => {
            let outcome = carry_out(&world, method, &call.params).await;
            call.done = outcome.is_ok();
            let (status, answer) = in_json(outcome);
            let reply = json_reply(status, &answer);
            if fault.is_none() {
                (call.status, call.answer) = (status, answer);
            }
            fault.is_none().then_some(reply)
        }
        Some(Fault::Refuse(status, text, parameters)) => {
            let refusal = Refusal { status: *status, text: text.clone(), parameters: parameters.clone() };
            (call.status, call.answer) = in_json(Err(refusal));
            Some(json_reply(call.status, &call.answer))
        }
        Some(Fault::Html(status)) => {
            call.status = *status;
            let page = format!("<html>\r\n<head><title>{status} Bad Gateway</title></head>\r\n</html>\r\n");
            Some(reply(*status, "text/html", page.into_bytes()))
        }
        Some(Fault::Silent | Fault::Reset) => None,
    };
    world.held().calls.push(call);
    world.tell();
    match (reply, fault) {
        (Some(reply), _) => Ok(reply),
        (None, Some(Fault::Reset | Fault::DoneThenReset)) => {
            // The connection ends with a reset instead of an orderly close.
            rustix::net::sockopt::set_socket_linger(&*socket, Some(Duration::ZERO))?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        (None, _) => std::future::pending().await,
    }
}

async fn carry_out(world: &World, method: &str, params: &Value) -> Outcome {
    if method == "getUpdates" {
        return updates::get(world, params).await;
    }
    methods::carry_out(&mut world.held(), method, params)
}

fn in_json(outcome: Outcome) -> (u16, Value) {
    match outcome {
        Ok(result) => (200, json!({"ok": true, "result": result})),
        Err(Refusal { status, text, parameters }) => {
            let mut body = json!({"ok": false, "error_code": status, "description": text});
            if !parameters.is_null() {
                body["parameters"] = parameters;
            }
            (status, body)
        }
    }
}

fn json_reply(status: u16, body: &Value) -> Reply {
    reply(status, "application/json", body.to_string().into_bytes())
}

fn reply(status: u16, kind: &str, body: Vec<u8>) -> Reply {
    Response::builder().status(status).header("content-type", kind).body(Full::new(body.into())).unwrap()
}

/// The parameters, wherever they are.
fn params(kind: &str, query: &str, body: &[u8]) -> Value {
    if kind.starts_with("application/json") {
        return serde_json::from_slice(body).unwrap_or_else(|_| json!({}));
    }
    if let Some(boundary) = kind.split("boundary=").nth(1) {
        return multipart(boundary.trim_matches('"'), body);
    }
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    Value::Object(pairs.map(|(k, v)| (k.to_owned(), typed(v))).collect())
}

/// Fields that are text on the wire and something else in the API.
fn typed(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Object(_) | Value::Array(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn multipart(boundary: &str, body: &[u8]) -> Value {
    let mut fields = Map::new();
    let delimiter = format!("--{boundary}");
    let text = String::from_utf8_lossy(body);
    for part in text.split(delimiter.as_str()) {
        let Some((head, content)) = part.split_once("\r\n\r\n") else { continue };
        let content = content.strip_suffix("\r\n").unwrap_or(content);
        let of = |name: &str| {
            let at = head.find(&format!("{name}=\""))? + name.len() + 2;
            head[at..].split('"').next().map(str::to_owned)
        };
        let Some(name) = of(" name") else { continue };
        if let Some(file) = of("filename") {
            fields.insert(format!("{name}_name"), Value::String(file));
            fields.insert(name, Value::String(content.to_owned()));
        } else if name == "text" || name == "caption" {
            fields.insert(name, Value::String(content.to_owned()));
        } else {
            fields.insert(name, typed(content));
        }
    }
    Value::Object(fields)
}
