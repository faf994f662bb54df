//! Every route answers as the document says.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Conn, World, wait_for};

/// The statuses that the document knows, by method and path.
pub(crate) fn documented(world: &World) -> BTreeMap<(String, String), Vec<u16>> {
    let document = world.get("/openapi.json").json();
    let mut routes = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys().map(|s| s.parse().unwrap()).collect();
            routes.insert((method.to_uppercase(), path.clone()), statuses);
        }
    }
    routes
}

#[test]
fn the_document_names_every_route_of_the_contract() {
    let world = World::new();
    world.start();
    let routes = documented(&world);
    for (method, path) in [
        ("GET", "/background-agents"),
        ("POST", "/background-agents/start"),
        ("GET", "/background-agents/{id}"),
        ("DELETE", "/background-agents/{id}"),
        ("GET", "/background-agents/{id}/logs"),
        ("POST", "/background-agents/{id}/stop"),
        ("POST", "/background-agents/{id}/retry"),
        ("POST", "/background-agents/{id}/raise"),
        ("POST", "/background-agents/{id}/resume"),
        ("POST", "/background-agents/{id}/questions"),
        ("GET", "/background-agents/{id}/questions/{question}"),
        ("GET", "/background-agent-ws"),
        ("GET", "/notices"),
        ("POST", "/shutdown"),
        ("POST", "/clear"),
        ("GET", "/status"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
    ] {
        assert!(routes.contains_key(&(method.to_owned(), path.to_owned())), "{method} {path} is not documented");
    }
}

#[test]
fn a_cursor_that_is_none_is_refused_not_taken_for_the_first_page() {
    let world = World::new();
    world.start();
    for cursor in ["x", "1", "1.x", "latest"] {
        let answer = world.get(&format!("/background-agents?cursor={cursor}"));
        assert_eq!(answer.status, 400, "{cursor}");
        assert_eq!(answer.json()["error"]["message"], format!("`{cursor}` is no cursor"));
    }
    for good in ["cursor=", "cursor=1795254339840.6"] {
        assert_eq!(world.get(&format!("/background-agents?{good}")).status, 200, "{good}");
    }
}

#[test]
fn every_route_answers_only_documented_statuses_with_typed_errors() {
    let world = World::new();
    let ended = world.bg("echo x");
    world.ended(&ended);
    let running = world.bg("exec sleep 1000");
    world.until(&running, "running");
    let bodies: [&[u8]; 9] = [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b"\"text\"",
        b"{\"command\":5}",
        b"{\"command\":\"true\",\"unknown\":[1]}",
        b"\xff\xfe\x00",
    ];
    let queries = [
        "",
        "?limit=-1",
        "?limit=0&status=completed",
        "?status=no&kind=no",
        "?wait=x",
        "?after=x",
        "?from=-5",
        "?lines=18446744073709551616",
        "?run=99",
        "?cursor=%00%ff",
        "?%",
        "?follow=maybe",
    ];
    let ids = [&ended[..], &running, "1", "77", "zz", "..", "%2e%2e%2f", "%00", "%ff", "é"];
    for ((method, path), statuses) in documented(&world) {
        if path == "/shutdown" {
            continue;
        }
        let with_ids: Vec<String> = if path.contains("{id}") {
            ids.iter().map(|id| path.replace("{id}", id)).collect()
        } else {
            vec![path.clone()]
        };
        for path in with_ids {
            for query in if method == "GET" { &queries[..] } else { &queries[..1] } {
                for body in if method == "POST" { &bodies[..] } else { &bodies[..1] } {
                    let said = world.http(&method, &format!("{path}{query}"), body);
                    let what = format!("{method} {path}{query} {}: {said:?}", String::from_utf8_lossy(body));
                    assert!(statuses.contains(&said.status), "not in {statuses:?}: {what}");
                    if said.status >= 400 {
                        assert_eq!(code_of(said.status, &said.error()), said.status, "{what}");
                    }
                }
            }
        }
    }
    assert_eq!(world.get("/healthz").body, b"ok\n");
}

/// The status that goes with an error's code.
fn code_of(status: u16, code: &str) -> u16 {
    match code {
        "bad_request" if status == 405 => 405,
        "bad_request" => 400,
        "forbidden" => 403,
        "not_found" => 404,
        "ambiguous" | "conflict" => 409,
        "too_large" => 413,
        "unsupported" => 501,
        "unavailable" => 503,
        "storage" => 507,
        other => panic!("`{other}` is no code of an error"),
    }
}

#[test]
fn unknown_routes_and_methods_are_told_as_such() {
    let world = World::new();
    world.start();
    for (method, path, status, code) in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/background-agents/x/y/z", 404, "not_found"),
        ("GET", "/background-agents/77", 404, "not_found"),
        ("PATCH", "/background-agents", 405, "bad_request"),
        ("POST", "/status", 405, "bad_request"),
        ("DELETE", "/background-agents/start", 405, "bad_request"),
    ] {
        let said = world.http(method, path, b"");
        assert_eq!((said.status, &said.error()[..]), (status, code), "{method} {path}");
    }
    let said = world.get("/background-agents/77").json();
    assert_eq!(said["error"]["message"], "no such task: 77");
    // A body over the limit, announced and then not sent: refused before it is read.
    let mut conn = Conn::open(&world.socket()).unwrap();
    conn.send(b"POST /background-agents/start HTTP/1.1\r\nhost: o\r\ncontent-length: 99999999999\r\n\r\n").unwrap();
    let said = conn.answer(false).unwrap();
    assert_eq!((said.status, &said.error()[..]), (413, "too_large"));
}

#[test]
fn metrics_and_status_agree() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "2")]);
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    let done = world.bg("true");
    world.ended(&done);
    wait_for("the slot", || world.status()["slots_used"] == 1);
    let metrics = String::from_utf8(world.get("/metrics").body).unwrap();
    for line in [
        "octo_slots 2",
        "octo_slots_used 1",
        "octo_tasks{status=\"running\"} 1",
        "octo_tasks{status=\"completed\"} 1",
        "octo_degraded 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    assert_eq!(world.status()["counts"], json!({"completed": 1, "running": 1}));
    assert_eq!(world.status()["degraded"], "");
}

#[test]
fn a_long_list_is_whole_and_says_the_same_as_its_pages() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "1")]);
    world.start();
    let ids = world.start_all(&vec!["exec sleep 1000".to_owned(); 300]);
    let listing = |query: &str| -> Value { world.get(&format!("/background-agents?{query}")).json() };
    let names = |tasks: &Value| -> Vec<String> {
        tasks.as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&listing("limit=0")["active"]), ids);
    ids.iter().rev().for_each(|id| drop(world.octo(&["task", id, "cancel"]).exits(0)));
    ids.iter().for_each(|id| drop(world.ended(id)));
    let all = listing("limit=0");
    assert_eq!((&all["active"], &all["next"], &all["total"]), (&json!([]), &Value::Null, &json!(300)));
    let (mut pages, mut query) = (vec![], "limit=100".to_owned());
    loop {
        let page = listing(&query);
        pages.extend(page["history"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=100&cursor={next}");
    }
    assert_eq!(all["history"], Value::Array(pages));
    assert_eq!(all["history"].as_array().unwrap().len(), 300);
}

#[test]
fn pages_of_history_hold_every_task_once() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "8")]);
    world.start();
    let ids = world.start_all(&(0..25).map(|_| "true".to_owned()).collect::<Vec<_>>());
    ids.iter().for_each(|id| drop(world.ended(id)));
    let (mut seen, mut cursor): (Vec<String>, Option<String>) = (vec![], None);
    for page in 0.. {
        assert!(page < 10);
        let query = cursor.as_ref().map(|c| format!("&cursor={c}")).unwrap_or_default();
        let listing: Value = world.get(&format!("/background-agents?limit=7{query}")).json();
        assert_eq!(listing["active"], json!([]));
        seen.extend(listing["history"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()));
        match listing["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    let (mut sorted, mut all) = (seen.clone(), ids.clone());
    sorted.sort();
    all.sort();
    assert_eq!(sorted, all);
}
