//! The client against a small server that speaks the contract, dies and comes back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{Path as Segment, RawQuery, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;
use crate::command::EnvValue;
use crate::render::fixtures::task;
use crate::task::Status;

/// A workspace in a temporary folder, and a client of it that lives "inside a task": it waits for
/// daemons and never starts one.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".octo")).unwrap();
        World { dir }
    }

    fn workspace(&self) -> Workspace {
        Workspace { root: self.dir.path().to_owned(), octo: self.dir.path().join(".octo") }
    }

    fn client(&self) -> Client {
        Client::new(Door { workspace: self.workspace(), octod: "/nonexistent/octod".into(), inside_task: true }, "cli")
    }

    fn listen(&self) -> UnixListener {
        let path = self.dir.path().join(".octo/octo.sock");
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }

    fn serve(&self, app: Router) -> JoinHandle<()> {
        let listener = self.listen();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })
    }
}

fn name(s: &str) -> TaskRef {
    TaskRef(s.to_owned())
}

fn error(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": "m", "hint": "h"}}))).into_response()
}

/// Reads one request from a raw connection and drops it: a daemon that dies before it answers.
async fn die_on_request(listener: &UnixListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = vec![0; 65536];
    let n = stream.read(&mut seen).await.unwrap();
    seen.truncate(n);
    seen
}

#[tokio::test]
async fn a_start_that_was_cut_off_is_repeated_under_the_same_key() {
    let world = World::new();
    let listener = world.listen();
    let path = world.dir.path().to_owned();
    let server = tokio::spawn(async move {
        let first = die_on_request(&listener).await;
        let second = die_on_request(&listener).await;
        drop(listener);
        let key = |request: &[u8]| {
            let text = String::from_utf8_lossy(request).into_owned();
            let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert!(text.contains("x-octo-client: cli\r\n"));
            body["key"].as_str().unwrap().to_owned()
        };
        let expected = key(&first);
        assert_eq!(key(&second), expected);
        assert_eq!(expected.len(), 32);
        let app = Router::new().route(
            "/background-agents/start",
            post(move |Json(body): Json<Value>| async move {
                assert_eq!(body["key"], expected.as_str());
                let record = serde_json::to_value(task(1, Status::Dispatched)).unwrap();
                let mut answer = json!({"instanceId": record["id"]});
                answer.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
                (StatusCode::CREATED, Json(answer))
            }),
        );
        std::fs::remove_file(path.join(".octo/octo.sock")).unwrap();
        let listener = UnixListener::bind(path.join(".octo/octo.sock")).unwrap();
        axum::serve(listener, app).await.unwrap();
    });
    let env: crate::command::Env = [("A".to_owned(), EnvValue::Text("b".to_owned()))].into();
    let started =
        world.client().start(StartRequest { command: "true".into(), env: Some(env), ..Default::default() }).await;
    assert_eq!(started.unwrap().task.number, 1);
    server.abort();
}

#[tokio::test]
async fn what_may_not_be_repeated_says_that_it_cannot_know() {
    let world = World::new();
    let listener = world.listen();
    let server = tokio::spawn(async move { die_on_request(&listener).await });
    let refused = world.client().retry(&name("1")).await.unwrap_err();
    assert_eq!(refused.code, RefusedCode::Unavailable);
    assert!(refused.hint.contains("not known"), "{refused:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn refusals_arrive_as_they_were_meant() {
    let world = World::new();
    let app = Router::new()
        .route(
            "/background-agents/{id}",
            get(|Segment(id): Segment<String>| async move {
                assert_eq!(id, "a/b?c");
                error(StatusCode::CONFLICT, "ambiguous")
            }),
        )
        .route("/background-agents/{id}/stop", post(|| async { error(StatusCode::CONFLICT, "conflict") }));
    world.serve(app);
    let ambiguous = world.client().get(&name("a/b?c")).await.unwrap_err();
    assert_eq!(ambiguous, Refused::new(RefusedCode::Ambiguous, "m").hint("h"));
    assert_eq!(world.client().stop(&name("1")).await.unwrap_err().code, RefusedCode::Conflict);
}

#[tokio::test]
async fn without_a_daemon_a_client_that_only_connects_says_so_at_once() {
    let world = World::new();
    let refused = world.client().only_connect().status().await.unwrap_err();
    assert_eq!(refused.code, RefusedCode::Unavailable);
    assert!(refused.message.starts_with("no daemon runs for"), "{refused:?}");
    let short = world.client().patience(Patience::For(Duration::from_millis(30)));
    assert!(short.status().await.unwrap_err().hint.contains("inside a task"));
}

#[tokio::test]
async fn a_daemon_that_cannot_be_started_is_an_error_with_its_words() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let octod = world.dir.path().join("octod");
    let client = |octod: &Path| {
        Client::new(Door { workspace: world.workspace(), octod: octod.to_owned(), inside_task: false }, "cli")
    };
    assert!(client(&octod).ensure().await.unwrap_err().message.contains("octod: No such file"));
    // Its descendant keeps stderr open for a while, as a badly detached daemon would.
    std::fs::write(&octod, "#!/bin/sh\nsleep 5 &\necho 'error: disk on fire' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&octod, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = client(&octod).ensure().await.unwrap_err();
    assert_eq!(refused.message, "the daemon cannot be started: disk on fire");
    assert_eq!(refused.code.exit(), 3);
}

#[tokio::test]
async fn losing_the_race_to_start_the_daemon_is_just_connecting() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let octod = world.dir.path().join("octod");
    let started = world.dir.path().join("started");
    std::fs::write(&octod, format!("#!/bin/sh\necho \"$@\" >> {}\nexit 5\n", started.display())).unwrap();
    std::fs::set_permissions(&octod, std::fs::Permissions::from_mode(0o755)).unwrap();
    let client = Client::new(Door { workspace: world.workspace(), octod, inside_task: false }, "cli");
    let winner = async {
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.listen()
    };
    let (reached, _listener) = tokio::join!(client.ensure(), winner);
    reached.unwrap();
    let said = std::fs::read_to_string(&started).unwrap();
    assert_eq!(said, format!("--workspace {} --detach\n", world.dir.path().display()));
}

/// A followed log whose daemon dies twice: once between events, once in the middle of one.
#[tokio::test]
async fn a_followed_log_loses_and_repeats_nothing_over_restarts() {
    const LOG: &[u8] = b"one\ntwo\n\xff\x00three\nfour\n";
    let world = World::new();
    let requests = Arc::new(std::sync::Mutex::new(Vec::new()));
    let app = |round: usize| {
        let requests = requests.clone();
        Router::new().route(
            "/background-agents/{id}/logs",
            get(move |RawQuery(query): RawQuery| async move {
                let query = query.unwrap_or_default();
                let from =
                    query.split(['&', '?']).find_map(|p| p.strip_prefix("from=")).map_or(4, |n| n.parse().unwrap());
                requests.lock().unwrap().push(query);
                let event = |from: usize, to: usize| {
                    let data = json!({"from": from, "bytes": STANDARD.encode(&LOG[from..to])});
                    format!("event: log\ndata: {data}\n\n")
                };
                let text = match round {
                    0 => event(from, 8),
                    // Begins too early (which costs nothing), and is cut in the middle of an event.
                    1 => format!(": alive\n\n{}{}", event(from - 2, 12), &event(12, 20)[..20]),
                    _ => format!("{}event: end\ndata: {{\"status\":\"failed\"}}\n\n", event(from, LOG.len())),
                };
                ([("content-type", "text/event-stream"), ("x-octo-log-size", "24")], text)
            }),
        )
    };
    let mut server = world.serve(app(0));
    let mut log = world.client().logs(&name("1"), LogQuery { lines: Some(9), follow: true, from: None }).await.unwrap();
    let (mut seen, mut end, mut rounds) = (Vec::new(), None, 0);
    while let Some(event) = log.next().await.unwrap() {
        match event {
            LogEvent::Bytes(bytes) => {
                seen.extend_from_slice(&bytes);
                if rounds < 2 {
                    rounds += 1;
                    server.abort();
                    server = world.serve(app(rounds));
                }
            }
            LogEvent::End(status) => end = status,
        }
    }
    assert_eq!(seen, &LOG[4..]);
    assert_eq!((end, log.starts_at, log.size), (Some(Status::Failed), 4, 24));
    let asked = requests.lock().unwrap().clone();
    assert_eq!(asked, ["lines=9&follow=true", "from=8&follow=true", "from=12&follow=true"]);
}

#[tokio::test]
async fn a_plain_log_that_was_cut_goes_on_where_it_was() {
    let world = World::new();
    let listener = world.listen();
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (head, body) in [("content-length: 10\r\n", "12345"), ("content-length: 5\r\n", "67890")] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let n = stream.read(&mut seen).await.unwrap();
            asked.push(String::from_utf8_lossy(&seen[..n]).lines().next().unwrap().to_owned());
            let answer = format!("HTTP/1.1 200 OK\r\nx-octo-log-from: 7\r\nx-octo-log-size: 17\r\n{head}\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    let mut log = world.client().logs(&name("1"), LogQuery { from: Some(-10), ..LogQuery::default() }).await.unwrap();
    let mut seen = Vec::new();
    while let Some(LogEvent::Bytes(bytes)) = log.next().await.unwrap() {
        seen.extend_from_slice(&bytes);
    }
    assert_eq!(seen, b"1234567890");
    assert_eq!(
        server.await.unwrap(),
        ["GET /background-agents/1/logs?from=-10 HTTP/1.1", "GET /background-agents/1/logs?from=12 HTTP/1.1",]
    );
}

#[tokio::test]
async fn a_wait_tells_each_question_once_and_goes_on_over_restarts() {
    let world = World::new();
    let polls = Arc::new(AtomicU32::new(0));
    let app = || {
        let polls = polls.clone();
        Router::new().route(
            "/background-agents/{id}",
            get(move |Segment(id): Segment<String>, RawQuery(query): RawQuery| async move {
                let query = query.unwrap();
                match polls.fetch_add(1, Ordering::SeqCst) {
                    0 => assert_eq!((id.as_str(), query.as_str()), ("9", "wait=50")),
                    _ => assert_eq!((id.as_str(), query.as_str()), ("c4b1e009", "wait=50&seen=q1")),
                }
                match polls.load(Ordering::SeqCst) {
                    1 | 3 => Json(task(9, Status::Paused)).into_response(),
                    2 => error(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
                    _ => Json(task(9, Status::Completed)).into_response(),
                }
            }),
        )
    };
    world.serve(app());
    let mut asked = Vec::new();
    let waited =
        world.client().wait(&name("9"), None, |task, q| asked.push((task.number, q.id.clone()))).await.unwrap();
    let Waited::Ended(ended) = waited else { panic!("{waited:?}") };
    assert_eq!(ended.status, Status::Completed);
    assert_eq!(asked, [(9, "q1".to_owned())]);
}

#[tokio::test]
async fn a_wait_with_a_time_out_ends_also_without_a_daemon() {
    let world = World::new();
    let waited = world.client().wait(&name("9"), Some(Duration::ZERO), |_, _| ()).await.unwrap();
    assert!(matches!(waited, Waited::TimedOut));
}

#[tokio::test]
async fn the_notice_reader_learns_how_the_daemon_went() {
    let world = World::new();
    let wait = Duration::from_secs(1);
    assert!(matches!(world.client().await_notices(3, wait).await, Err(Trouble::Absent(_))));
    let listener = world.listen();
    let dead = tokio::spawn(async move { die_on_request(&listener).await });
    assert!(matches!(world.client().await_notices(3, wait).await, Err(Trouble::CutOff)));
    dead.await.unwrap();
    let app = Router::new().route(
        "/notices",
        get(|request: Request| async move {
            assert_eq!(request.uri().query(), Some("after=3&wait=1"));
            error(StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }),
    );
    world.serve(app);
    let stopped = world.client().await_notices(3, wait).await;
    assert!(matches!(stopped, Err(Trouble::Refused(r)) if r.code == RefusedCode::Unavailable));
}
