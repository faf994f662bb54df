use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Answer, KEY, Server, ask, request};
use crate::agent::model::*;

const MODEL: &str = "anthropic/claude-sonnet-4-5";

fn events(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn start(usage: Value) -> Value {
    let message = json!({"id": "m1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929",
        "content": [], "stop_reason": null, "usage": usage});
    json!({"type": "message_start", "message": message})
}

fn block(index: u64, block: Value, deltas: &[Value]) -> Vec<Value> {
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": block})];
    events.extend(deltas.iter().map(|d| json!({"type": "content_block_delta", "index": index, "delta": d})));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

fn text(index: u64, words: &[&str]) -> Vec<Value> {
    let deltas: Vec<Value> = words.iter().map(|w| json!({"type": "text_delta", "text": w})).collect();
    block(index, json!({"type": "text", "text": ""}), &deltas)
}

fn end(reason: &str, usage: Value) -> Vec<Value> {
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage});
    vec![delta, json!({"type": "message_stop"})]
}

/// A whole reply in words.
fn hello() -> Answer {
    let parts = [
        vec![start(json!({"input_tokens": 10, "output_tokens": 1}))],
        text(0, &["Hello ", "you."]),
        end("end_turn", json!({"output_tokens": 5})),
    ];
    Answer::sse(&events(&parts.concat()))
}

fn says(words: &str) -> Request {
    let mut request = request(MODEL);
    request.messages.push(Message::user(words));
    request
}

#[tokio::test]
async fn a_reply_with_thoughts_and_a_tool_call_is_read_and_replayed() {
    let parts = [
        vec![start(json!({"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 20,
            "output_tokens": 1}))],
        vec![json!({"type": "ping"})],
        block(
            0,
            json!({"type": "thinking", "thinking": "", "signature": ""}),
            &[
                json!({"type": "thinking_delta", "thinking": "Let me "}),
                json!({"type": "thinking_delta", "thinking": "look."}),
                json!({"type": "signature_delta", "signature": "c2ln"}),
            ],
        ),
        block(1, json!({"type": "redacted_thinking", "data": "b64"}), &[]),
        text(2, &["I look ", "around. ü"]),
        block(
            3,
            json!({"type": "tool_use", "id": "toolu_1", "name": "list_files", "input": {}}),
            &[
                json!({"type": "input_json_delta", "partial_json": "{\"path\": "}),
                json!({"type": "input_json_delta", "partial_json": "\".\"}"}),
            ],
        ),
        block(4, json!({"type": "tool_use", "id": "toolu_2", "name": "think", "input": {}}), &[]),
        end("tool_use", json!({"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 12}})),
    ];
    let server = Server::with([Answer::sse(&events(&parts.concat())), hello()]).await;
    let mut first = says("Look around.");
    first.system = "Be brief.".into();
    first.max_output_tokens = Some(777);
    first.tools.push(ToolSpec {
        name: "list_files".into(),
        description: "Lists.".into(),
        schema: json!({"type": "object", "properties": {"path": {"type": "string"}}}),
    });
    let (reply, words) = server.ask(&first).await;
    let reply = reply.unwrap();
    assert_eq!(words, "I look around. ü");
    assert_eq!(reply.message.text, words);
    assert_eq!(reply.stop, Stop::ToolUse);
    assert_eq!(reply.model.to_string(), "anthropic/claude-sonnet-4-5-20250929");
    let usage = Tokens { input: 10, cached_read: 20, cached_write: 3, output: 40, reasoning: 12, estimated: false };
    assert_eq!(reply.usage, usage);
    let calls = vec![
        ToolCall { id: "toolu_1".into(), name: "list_files".into(), arguments: json!({"path": "."}) },
        ToolCall { id: "toolu_2".into(), name: "think".into(), arguments: json!({}) },
    ];
    assert_eq!(reply.message.calls, calls);
    let parts = vec![
        OpaquePart::Thought { text: Some("Let me look.".into()), signature: Some("c2ln".into()) },
        OpaquePart::Block { data: json!({"type": "redacted_thinking", "data": "b64"}) },
    ];
    assert_eq!(reply.message.opaque, Some(Opaque { provider: "anthropic".into(), parts }));

    // As after a restart: through its stored form.
    let stored = serde_json::to_string(&Message::from(reply.message)).unwrap();
    let mut second = first.clone();
    second.messages.push(serde_json::from_str(&stored).unwrap());
    second.messages.push(Message::tool_result("toolu_1", "a.txt"));
    second.messages.push(Message::tool_error("toolu_2", "no such tool"));
    let (reply, _) = server.ask(&second).await;
    assert_eq!(reply.unwrap().stop, Stop::EndTurn);

    let asked = server.asked();
    assert_eq!(asked[0].path, "/v1/messages");
    assert_eq!(asked[0].headers["x-api-key"], KEY);
    let cache = json!({"type": "ephemeral"});
    let body = &asked[0].body;
    assert_eq!(
        (&body["model"], &body["max_tokens"], &body["stream"]),
        (&json!("claude-sonnet-4-5"), &json!(777), &json!(true))
    );
    assert_eq!(body["system"], json!([{"type": "text", "text": "Be brief.", "cache_control": cache}]));
    assert_eq!(body["tools"][0]["input_schema"]["type"], "object");
    let body = &asked[1].body;
    assert_eq!(
        body["messages"][1],
        json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Let me look.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "b64"},
            {"type": "text", "text": "I look around. ü"},
            {"type": "tool_use", "id": "toolu_1", "name": "list_files", "input": {"path": "."}},
            {"type": "tool_use", "id": "toolu_2", "name": "think", "input": {}},
        ]})
    );
    assert_eq!(
        body["messages"][2],
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such tool", "is_error": true, "cache_control": cache},
        ]})
    );
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn messages_that_anthropic_would_refuse_are_not_sent_so() {
    let server = Server::with([hello()]).await;
    let mut asked = says("");
    asked.messages.push(Assistant::default().into());
    let foreign = Opaque {
        provider: "gemini".into(),
        parts: vec![OpaquePart::Thought { text: Some("mine".into()), signature: Some("x".into()) }],
    };
    let calls = vec![ToolCall { id: "call#ls#7".into(), name: "ls".into(), arguments: json!("{broken") }];
    asked.messages.push(Assistant { text: " ".into(), calls, opaque: Some(foreign) }.into());
    asked.messages.push(Message::tool_error("call#ls#7", ""));
    asked.messages.push(Message::system("Task 7 ended."));
    let (reply, _) = server.ask(&asked).await;
    reply.unwrap();
    assert_eq!(
        server.asked()[0].body["messages"],
        json!([
            {"role": "user", "content": "(nothing)"},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_ls_7", "name": "ls", "input": {"not_valid_json": "{broken"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_ls_7", "content": "(nothing)", "is_error": true}]},
            {"role": "user", "content": "[a message of Octo itself]\nTask 7 ended."},
        ])
    );
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_the_server_says() {
    let limited = Answer::status(429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow."}}"#);
    let server = Server::with([limited.clone().header("retry-after-ms", "60"), hello()]).await;
    let retry = Retry::new(server.models());
    let begun = std::time::Instant::now();
    let (reply, words) = ask(&retry, &says("hi")).await;
    assert_eq!((reply.unwrap().message.text.as_str(), words.as_str()), ("Hello you.", "Hello you."));
    assert!(begun.elapsed() >= Duration::from_millis(60));
    assert_eq!(server.asked().len(), 2);

    let server = Server::with([limited.header("retry-after", "7200"), hello()]).await;
    let before = jiff::Timestamp::now();
    let (retry, request) = (Retry::new(server.models()), says("hi"));
    let (reply, _) = tokio::time::timeout(Duration::from_secs(30), ask(&retry, &request)).await.unwrap();
    let error = reply.unwrap_err();
    let ErrorKind::RateLimited { reset: Some(reset) } = error.kind else { panic!("{error:?}") };
    assert!((7195..=7205).contains(&reset.duration_since(before).as_secs()), "{reset}");
    assert_eq!(error.retry_after, Some(Duration::from_secs(7200)));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn failures_have_their_kinds() {
    let error =
        |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
    let cases = [
        (529, error("overloaded_error", "Overloaded"), ErrorKind::Overloaded),
        (500, error("api_error", "Internal"), ErrorKind::Server(500)),
        (502, "<html>bad gateway</html>".to_owned(), ErrorKind::Server(502)),
        (401, error("authentication_error", &format!("invalid x-api-key {KEY}")), ErrorKind::BadKey),
        (403, error("permission_error", "not yours"), ErrorKind::Refused(403)),
        (404, error("not_found_error", "model: x"), ErrorKind::Refused(404)),
        (400, error("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"), ErrorKind::ContextOverflow),
        (413, error("request_too_large", "too large"), ErrorKind::ContextOverflow),
        (400, error("invalid_request_error", "Your credit balance is too low"), ErrorKind::NoCredit),
        (400, error("invalid_request_error", &format!("key {KEY} and sk-ant-api03-other")), ErrorKind::Refused(400)),
        (302, String::new(), ErrorKind::Refused(302)),
    ];
    for (status, body, kind) in cases {
        let server = Server::with([Answer::status(status, &body)]).await;
        let (reply, _) = server.ask(&says("hi")).await;
        let error = reply.unwrap_err();
        assert_eq!(error.kind, kind, "{body}");
        assert!(!error.message.contains("html") && !error.message.contains("api03"), "{}", error.message);
        if kind == ErrorKind::BadKey {
            assert!(error.message.contains("ANTHROPIC_API_KEY"), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn a_stream_without_its_end_is_no_reply() {
    let begun = [vec![start(json!({"input_tokens": 10}))], text(0, &["Hello ", "you."])].concat();
    // Closed well, but before `message_stop`; with a stop reason; and cut in the midst of a frame.
    let almost = [begun.clone(), end("end_turn", json!({"output_tokens": 5}))[..1].to_vec()].concat();
    let cuts = [
        Answer::sse(&events(&begun)),
        Answer::sse(&events(&almost)),
        Answer::sse(&events(&begun)).and_dies(),
        Answer::sse(events(&begun).trim_end()).and_dies(),
    ];
    for cut in cuts {
        let server = Server::with([cut, hello()]).await;
        let retry = Retry::new(server.models()).policy(Policy { first: Duration::from_millis(1), ..Policy::default() });
        let (reply, words) = ask(&retry, &says("hi")).await;
        assert_eq!(reply.unwrap().message.text, "Hello you.");
        assert!(words.ends_with(&format!("{BEGUN_AGAIN}Hello you.")), "{words}");
        assert_eq!(server.asked().len(), 2);
    }
    let server = Server::with([Answer::sse(&events(&begun))]).await;
    assert_eq!(server.ask(&says("hi")).await.0.unwrap_err().kind, ErrorKind::Cut);
}

#[tokio::test]
async fn an_error_in_the_midst_of_a_stream_is_one() {
    let begun = [vec![start(json!({"input_tokens": 10}))], text(0, &["Hello "])].concat();
    let cases = [
        ("overloaded_error", ErrorKind::Overloaded),
        ("api_error", ErrorKind::Server(500)),
        ("new_error", ErrorKind::Server(500)),
    ];
    for (kind, expected) in cases {
        let error = json!({"type": "error", "error": {"type": kind, "message": "sorry"}});
        let server = Server::with([Answer::sse(&events(&[begun.clone(), vec![error]].concat()))]).await;
        let (reply, words) = server.ask(&says("hi")).await;
        assert_eq!(reply.unwrap_err().kind, expected, "{kind}");
        assert_eq!(words, "Hello ");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_as_such() {
    let broken = "event: message_start\ndata: {\"type\": \"message_start\", \"mess\n\n";
    for body in [broken, "<html>a page</html>", ""] {
        let server = Server::with([Answer::sse(body)]).await;
        let error = server.ask(&says("hi")).await.0.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{body}: {error}");
    }
}

#[tokio::test]
async fn a_usage_that_is_missing_is_guessed_and_marked() {
    for usage in [Value::Null, json!({"input_tokens": 0, "output_tokens": 0})] {
        let parts = [vec![start(usage.clone())], text(0, &["Hello you."]), end("end_turn", usage)].concat();
        let server = Server::with([Answer::sse(&events(&parts))]).await;
        let asked = says(&"word ".repeat(100));
        let usage = server.ask(&asked).await.0.unwrap().usage;
        assert!(usage.estimated && usage.output >= 2 && usage.input >= 125, "{usage:?}");
    }
}

#[tokio::test]
async fn a_call_that_was_cut_off_by_the_limit_is_left_out() {
    let whole = block(
        0,
        json!({"type": "tool_use", "id": "toolu_1", "name": "a", "input": {}}),
        &[json!({"type": "input_json_delta", "partial_json": "{\"x\": 1}"})],
    );
    let half = block(
        1,
        json!({"type": "tool_use", "id": "toolu_2", "name": "b", "input": {}}),
        &[json!({"type": "input_json_delta", "partial_json": "{\"x\": \"unfin"})],
    );
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    for (reason, calls) in [("max_tokens", 1), ("tool_use", 2)] {
        let parts = [vec![start(usage.clone())], whole.clone(), half.clone(), end(reason, usage.clone())].concat();
        let server = Server::with([Answer::sse(&events(&parts))]).await;
        let reply = server.ask(&says("hi")).await.0.unwrap();
        assert_eq!(reply.message.calls.len(), calls, "{reason}");
        if calls == 2 {
            assert_eq!(reply.message.calls[1].arguments, json!("{\"x\": \"unfin"));
        } else {
            assert_eq!(reply.stop, Stop::MaxTokens);
        }
    }
}

#[tokio::test]
async fn reasons_to_stop_are_translated() {
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let cases = [
        ("end_turn", Stop::EndTurn),
        ("stop_sequence", Stop::EndTurn),
        ("max_tokens", Stop::MaxTokens),
        ("model_context_window_exceeded", Stop::MaxTokens),
        ("refusal", Stop::Refusal),
        // Without a call there is nothing to wait for.
        ("tool_use", Stop::EndTurn),
        ("pause_turn", Stop::Other("pause_turn".into())),
    ];
    for (reason, stop) in cases {
        let parts = [vec![start(usage.clone())], text(0, &["x"]), end(reason, usage.clone())].concat();
        let server = Server::with([Answer::sse(&events(&parts))]).await;
        assert_eq!(server.ask(&says("hi")).await.0.unwrap().stop, stop);
    }
}
