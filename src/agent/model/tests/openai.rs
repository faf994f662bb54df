use std::path::Path;

use serde_json::{Value, json};

use super::server::{Answer, KEY, Server, ask, request};
use crate::agent::model::*;
use crate::config::{Config, Secret};

const MODEL: &str = "openai/gpt-5-mini";

fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-5-mini-2025-08-07",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn tail(usage: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-5-mini-2025-08-07", "choices": [], "usage": usage})
}

fn frames(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

fn whole(chunks: &[Value]) -> Answer {
    Answer::sse(&format!("{}data: [DONE]\n\n", frames(chunks)))
}

fn hello() -> Vec<Value> {
    vec![
        chunk(json!({"role": "assistant", "content": ""}), None),
        chunk(json!({"content": "Hello "}), None),
        chunk(json!({"content": "you."}), None),
        chunk(json!({}), Some("stop")),
    ]
}

fn usage() -> Value {
    tail(json!({"prompt_tokens": 30, "completion_tokens": 9, "total_tokens": 39,
        "prompt_tokens_details": {"cached_tokens": 20}, "completion_tokens_details": {"reasoning_tokens": 4}}))
}

fn says(model: &str, words: &str) -> Request {
    let mut request = request(model);
    request.messages.push(Message::user(words));
    request
}

#[tokio::test]
async fn a_reply_with_two_calls_is_read_and_replayed() {
    let call = |index: u64, id: Option<&str>, name: Option<&str>, arguments: &str| {
        let mut call = json!({"index": index, "function": {"arguments": arguments}});
        if let (Some(id), Some(name)) = (id, name) {
            call["id"] = json!(id);
            call["function"]["name"] = json!(name);
        }
        chunk(json!({"tool_calls": [call]}), None)
    };
    let chunks = [
        chunk(json!({"role": "assistant", "reasoning_content": "Hm."}), None),
        chunk(json!({"content": "I look."}), None),
        call(0, Some("call_a"), Some("list_files"), ""),
        call(0, None, None, "{\"path\":"),
        call(0, None, None, "\".\"}"),
        call(1, Some("call_b"), Some("think"), "{broken"),
        chunk(json!({}), Some("tool_calls")),
        usage(),
    ];
    let server = Server::with([whole(&chunks), whole(&[hello(), vec![usage()]].concat())]).await;
    let mut first = says(MODEL, "Look.");
    first.system = "Be brief.".into();
    first.max_output_tokens = Some(50);
    first.temperature = Some(0.5);
    first.tool_use = ToolUse::Must;
    first.tools.push(ToolSpec {
        name: "think".into(),
        description: "Thinks.".into(),
        schema: json!({"type": "object"}),
    });
    let (reply, words) = server.ask(&first).await;
    let reply = reply.unwrap();
    assert_eq!((words.as_str(), reply.message.text.as_str()), ("I look.", "I look."));
    let calls = vec![
        ToolCall { id: "call_a".into(), name: "list_files".into(), arguments: json!({"path": "."}) },
        ToolCall { id: "call_b".into(), name: "think".into(), arguments: json!("{broken") },
    ];
    assert_eq!(reply.message.calls, calls);
    let used = Tokens { input: 10, cached_read: 20, output: 9, reasoning: 4, ..Tokens::default() };
    assert_eq!((reply.stop.clone(), reply.usage), (Stop::ToolUse, used));
    assert_eq!(reply.model.to_string(), "openai/gpt-5-mini-2025-08-07");

    let mut second = first.clone();
    second.messages.push(reply.message.into());
    second.messages.push(Message::tool_result("call_a", "a.txt"));
    second.messages.push(Message::tool_error("call_b", "no JSON"));
    second.messages.push(Message::system("Task 7 ended."));
    assert_eq!(server.ask(&second).await.0.unwrap().stop, Stop::EndTurn);

    let asked = server.asked();
    assert_eq!(asked[0].path, "/v1/chat/completions");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {KEY}"));
    let body = &asked[0].body;
    assert_eq!(body["model"], "gpt-5-mini");
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    assert_eq!((&body["max_completion_tokens"], &body["tool_choice"]), (&json!(50), &json!("required")));
    assert_eq!(
        asked[1].body["messages"],
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [
                {"type": "function", "id": "call_a", "function": {"name": "list_files", "arguments": "{\"path\":\".\"}"}},
                {"type": "function", "id": "call_b", "function": {"name": "think", "arguments": "{\"not_valid_json\":\"{broken\"}"}}]},
            {"role": "tool", "tool_call_id": "call_a", "content": "a.txt"},
            {"role": "tool", "tool_call_id": "call_b", "content": "[this tool call failed]\nno JSON"},
            {"role": "system", "content": "Task 7 ended."},
        ])
    );
}

#[tokio::test]
async fn ids_of_calls_are_never_used_twice_in_a_conversation() {
    // A server that sends no ids, and one that counts from 1.
    let call = |index: u64| json!({"index": index, "function": {"name": "think", "arguments": "{}"}});
    let chunks =
        |calls: &[Value]| vec![chunk(json!({"tool_calls": calls}), None), chunk(json!({}), Some("tool_calls"))];
    let one = chunks(&[call(0), call(1)]);
    let gap = chunks(&[json!({"index": 1, "id": "x", "function": {"name": "think", "arguments": "{\"a\":1}"}})]);
    let server = Server::with([whole(&one), whole(&one), whole(&one), whole(&gap)]).await;
    let mut asked = says(MODEL, "Think.");
    // The first reply is as if it had been taken out of the conversation since.
    let forgotten = server.ask(&asked).await.0.unwrap();
    let mut ids: Vec<String> = forgotten.message.calls.iter().map(|call| call.id.clone()).collect();
    for expected in [2, 2, 1] {
        let reply = server.ask(&asked).await.0.unwrap();
        assert_eq!(reply.message.calls.len(), expected);
        ids.extend(reply.message.calls.iter().map(|call| call.id.clone()));
        let results = reply.message.calls.clone();
        asked.messages.push(reply.message.into());
        asked.messages.extend(results.into_iter().map(|call| Message::tool_result(call.id, "ok")));
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "{ids:?}");
}

#[tokio::test]
async fn a_stream_without_its_end_is_no_reply() {
    let cuts = [
        Answer::sse(&frames(&hello())),
        Answer::sse(&frames(&hello()[..2])),
        Answer::sse(&frames(&hello()[..2])).and_dies(),
        // A proxy may end a stream well though its server was cut off.
        whole(&hello()[..3]),
    ];
    for cut in cuts {
        let server = Server::with([cut.clone()]).await;
        let error = server.ask(&says(MODEL, "hi")).await.0.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cut, "{cut:?}");
    }
}

#[tokio::test]
async fn a_usage_that_is_missing_is_guessed_and_marked() {
    for tails in [vec![], vec![tail(Value::Null)], vec![tail(json!({"prompt_tokens": 0, "completion_tokens": 0}))]] {
        let server = Server::with([whole(&[hello(), tails].concat())]).await;
        let usage = server.ask(&says(MODEL, &"word ".repeat(100))).await.0.unwrap().usage;
        assert!(usage.estimated && usage.output >= 2 && usage.input >= 125, "{usage:?}");
    }
    // One half is known.
    let server = Server::with([whole(&[hello(), vec![tail(json!({"prompt_tokens": 77}))]].concat())]).await;
    let usage = server.ask(&says(MODEL, "hi")).await.0.unwrap().usage;
    assert!(usage.estimated && usage.output >= 2 && usage.input == 77, "{usage:?}");
}

#[tokio::test]
async fn names_are_sent_as_they_were_written() {
    for model in ["qwen-max", "some-model-high", "deepseek::r1", "meta-llama/Llama-3.3"] {
        let server = Server::with([whole(&hello())]).await;
        server.ask(&says(&format!("openai/{model}"), "hi")).await.0.unwrap();
        let body = &server.asked()[0].body;
        assert_eq!(body["model"], model);
        assert_eq!(body.get("reasoning_effort"), None, "{body}");
    }
    let server = Server::with([whole(&hello())]).await;
    let asked = Request { effort: Some(Effort::High), ..says("openai/gpt-5", "hi") };
    server.ask(&asked).await.0.unwrap();
    assert_eq!(server.asked()[0].body["reasoning_effort"], "high");
}

#[tokio::test]
async fn failures_have_their_kinds() {
    let error =
        |code: &str, message: &str| json!({"error": {"message": message, "type": "t", "code": code}}).to_string();
    let cases = [
        (429, error("rate_limit_exceeded", "Slow."), ErrorKind::RateLimited { reset: None }),
        (429, error("insufficient_quota", "You exceeded your current quota"), ErrorKind::NoCredit),
        (400, error("context_length_exceeded", "This model's maximum context length is 1"), ErrorKind::ContextOverflow),
        (
            400,
            json!({"error": {"code": 400, "type": "exceed_context_size_error", "message": "too big"}}).to_string(),
            ErrorKind::ContextOverflow,
        ),
        (401, error("invalid_api_key", "Incorrect API key provided: sk-test-****cret"), ErrorKind::BadKey),
        (503, "busy".to_owned(), ErrorKind::Overloaded),
        (500, "{\"detail\": \"oops\"}".to_owned(), ErrorKind::Server(500)),
        (422, error("bad", "unknown field"), ErrorKind::Refused(422)),
    ];
    for (status, body, kind) in cases {
        let server = Server::with([Answer::status(status, &body)]).await;
        assert_eq!(server.ask(&says(MODEL, "hi")).await.0.unwrap_err().kind, kind, "{body}");
    }
    let midst = json!({"error": {"message": "The server had an error", "type": "server_error", "code": null}});
    let server = Server::with([whole(&[hello()[..2].to_vec(), vec![midst]].concat())]).await;
    let (reply, words) = server.ask(&says(MODEL, "hi")).await;
    assert_eq!((reply.unwrap_err().kind, words.as_str()), (ErrorKind::Server(500), "Hello "));
    let server = Server::with([Answer::sse("data: {\"choices\": [\n\n")]).await;
    assert_eq!(server.ask(&says(MODEL, "hi")).await.0.unwrap_err().kind, ErrorKind::Malformed);
}

#[tokio::test]
async fn without_a_key_the_error_says_which_to_set() {
    let models = Models::new(&Config::default(), Path::new("."));
    for (model, setting) in
        [(MODEL, "OPENAI_API_KEY"), ("anthropic/x", "ANTHROPIC_API_KEY"), ("gemini/x", "GEMINI_API_KEY")]
    {
        let error = ask(&models, &says(model, "hi")).await.0.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoKey);
        assert!(error.message.contains(setting) && error.message.contains("demo/"), "{}", error.message);
        assert_eq!(models.check(&model.parse().unwrap()).unwrap_err(), error);
    }
    assert!(models.check(&"ollama/x".parse().unwrap()).is_ok());
    assert!(models.check(&"demo/tour".parse().unwrap()).is_ok());
}

#[tokio::test]
async fn a_server_of_ones_own_needs_no_key() {
    let server = Server::with([whole(&hello())]).await;
    let config = Config { openai_api_key: Secret::default(), ..server.config() };
    let models = Models::new(&config, Path::new("."));
    assert!(ask(&models, &says("openai/local", "hi")).await.0.is_ok());
}

#[tokio::test]
async fn an_address_that_nobody_listens_at_is_told_without_its_password() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let openai_base_url = format!("http://me:very-secret@{address}/v1");
    let config = Config { openai_base_url, ..Config::default() };
    let error = ask(&Models::new(&config, Path::new(".")), &says(MODEL, "hi")).await.0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Network);
    assert!(error.message.contains(&format!("http://{address}:")), "{}", error.message);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::with([whole(&hello())]).await;
    let server = Server::with([Answer::status(307, "").header("location", &elsewhere.base)]).await;
    assert_eq!(server.ask(&says(MODEL, "hi")).await.0.unwrap_err().kind, ErrorKind::Refused(307));
    assert!(elsewhere.asked().is_empty());
}
