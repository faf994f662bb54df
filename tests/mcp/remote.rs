//! MCP servers at an address: streamable HTTP on loopback.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use octo::agent::mcp::{CallError, QUIET, Servers};
use octo::agent::team::{Mcp, Reach};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::LONG;
use crate::server::of;
use crate::servers::Place;

const TOKEN: &str = "a-token-0123456789";

/// What the server has seen, and how it behaves.
#[derive(Default)]
struct Remote {
    /// The methods that it was asked, each with the `Authorization` that came with it.
    asked: Mutex<Vec<(String, String)>>,
    /// The next call of a tool is seen, and the connection dies.
    dies: Mutex<bool>,
    /// It knows no `initialize`.
    newer: bool,
}

async fn answer(State(remote): State<Arc<Remote>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let method = message["method"].as_str().unwrap_or_default().to_owned();
    let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
    remote.asked.lock().unwrap().push((method.clone(), authorization.clone()));
    if authorization != format!("Bearer {TOKEN}") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let info = json!({"name": "remote", "version": "1"});
    let result = match method.as_str() {
        "initialize" if !remote.newer => json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info,
        }),
        "server/discover" if remote.newer => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "serverInfo": info, "ttlMs": 0, "cacheScope": "private",
        }),
        "tools/list" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "tools": [{"name": "look", "description": "Looks.", "inputSchema": {"type": "object"}}],
        }),
        "tools/call" if std::mem::take(&mut *remote.dies.lock().unwrap()) => {
            let cut = futures_util::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("gone"))]);
            let head = [("content-type", "application/json"), ("content-length", "100")];
            return (head, axum::body::Body::from_stream(cut)).into_response();
        }
        "tools/call" => json!({"resultType": "complete", "content": [{"type": "text", "text": "seen"}]}),
        _ if message.get("id").is_none() => return StatusCode::ACCEPTED.into_response(),
        _ => {
            let error = json!({"code": -32601, "message": "method not found"});
            return axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": error})).into_response();
        }
    };
    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

async fn serve(remote: &Arc<Remote>) -> (String, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp?key=in-the-address-{TOKEN}", listener.local_addr().unwrap());
    let app = Router::new().route("/mcp", post(answer)).with_state(remote.clone());
    (url, tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }))
}

async fn connect(url: &str, authorization: &str) -> Servers {
    let dir = tempfile::tempdir().unwrap();
    let headers = BTreeMap::from([("Authorization".to_owned(), authorization.to_owned())]);
    let reach = Reach::Remote { url: url.to_owned(), transport: "streamable".to_owned(), headers };
    Place::new(dir.path()).connect(&[of(Mcp { name: "far".to_owned(), reach })]).await
}

fn methods(remote: &Remote) -> Vec<String> {
    remote.asked.lock().unwrap().iter().map(|(method, _)| method.clone()).filter(|m| !m.is_empty()).collect()
}

#[tokio::test]
async fn a_server_at_an_address_is_called_with_its_headers() {
    let remote = Arc::new(Remote::default());
    let (url, _serving) = serve(&remote).await;
    let servers = connect(&url, &format!("Bearer {TOKEN}")).await;
    assert_eq!(servers.problems(), [""; 0]);
    assert_eq!(servers.tools()[0].name, "far__look");
    assert_eq!(servers.call("far__look", &json!({}), LONG).await.as_deref(), Ok("seen"));
    assert_eq!(methods(&remote), ["initialize", "notifications/initialized", "tools/list", "tools/call"]);
}

#[tokio::test]
async fn a_server_without_the_old_beginning_is_spoken_to_in_the_new_way() {
    let remote = Arc::new(Remote { newer: true, ..Remote::default() });
    let (url, _serving) = serve(&remote).await;
    let servers = connect(&url, &format!("Bearer {TOKEN}")).await;
    assert_eq!(servers.problems(), [""; 0]);
    assert_eq!(servers.call("far__look", &json!({}), LONG).await.as_deref(), Ok("seen"));
    assert_eq!(methods(&remote), ["initialize", "server/discover", "tools/list", "tools/call"]);
}

/// The log of this process, as the daemon's filter would make it.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    struct Log;
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOG.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let filter = tracing_subscriber::EnvFilter::new("debug").add_directive(QUIET.parse().unwrap());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Log);
    tracing::subscriber::set_global_default(log.finish()).unwrap();
    tracing::debug!("it is written");
    &LOG
}

#[tokio::test]
async fn no_message_and_no_log_tells_the_address_or_a_header() {
    let log = log();
    let remote = Arc::new(Remote::default());
    let (url, serving) = serve(&remote).await;
    let wrong = connect(&url, "Bearer the-wrong-one-987").await;
    let port = url.split([':', '/']).nth(4).unwrap();
    serving.abort();
    let _ = serving.await;
    let gone = connect(&url, &format!("Bearer {TOKEN}")).await;
    for (servers, says) in [(wrong, "401"), (gone, "refused")] {
        let problem = servers.problems().join("");
        assert!(problem.starts_with("the MCP server `far` is off: ") && problem.contains(says), "{says}: {problem}");
        let told = [TOKEN, "the-wrong-one", "in-the-address", port].into_iter().find(|part| problem.contains(part));
        assert_eq!(told, None, "{problem}");
    }
    let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    assert!(log.contains("it is written"), "{log}");
    for part in [TOKEN, "the-wrong-one", "in-the-address"] {
        assert!(!log.contains(part), "{log}");
    }
}

#[tokio::test]
async fn a_call_whose_answer_is_cut_off_is_not_made_again() {
    let remote = Arc::new(Remote::default());
    let (url, serving) = serve(&remote).await;
    let servers = connect(&url, &format!("Bearer {TOKEN}")).await;
    *remote.dies.lock().unwrap() = true;
    let lost = servers.call("far__look", &json!({}), LONG).await.unwrap_err();
    assert!(matches!(lost, CallError::Unknown(_)), "{lost:?}");
    assert_eq!(methods(&remote).iter().filter(|method| *method == "tools/call").count(), 1);
    assert_eq!(servers.call("far__look", &json!({}), LONG).await.as_deref(), Ok("seen"), "the next one is made");
    // A server that is gone altogether never got the call.
    serving.abort();
    let _ = serving.await;
    let gone = loop {
        let gone = servers.call("far__look", &json!({}), Duration::from_secs(30)).await.unwrap_err();
        // A connection that was kept open may still take one call with it.
        if !matches!(gone, CallError::Unknown(_)) {
            break gone;
        }
    };
    assert!(matches!(gone, CallError::NotDone(_)), "{gone:?}");
}
