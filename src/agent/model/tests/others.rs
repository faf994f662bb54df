//! Gemini and Ollama.

use serde_json::{Value, json};

use super::server::{Answer, KEY, Server, request};
use crate::agent::model::*;

fn says(model: &str, words: &str) -> Request {
    let mut request = request(model);
    request.messages.push(Message::user(words));
    request
}

fn gemini(frames: &[Value]) -> Answer {
    Answer::sse(&frames.iter().map(|frame| format!("data: {frame}\r\n\r\n")).collect::<String>())
}

fn part(parts: Value, finish: Option<&str>, usage: Value) -> Value {
    let mut frame = json!({"candidates": [{"content": {"role": "model", "parts": parts}}],
        "usageMetadata": usage, "modelVersion": "gemini-2.5-flash-001"});
    if let Some(finish) = finish {
        frame["candidates"][0]["finishReason"] = json!(finish);
    }
    frame
}

const GEMINI: &str = "gemini/gemini-2.5-flash";

#[tokio::test]
async fn gemini_is_read_and_its_signatures_go_back() {
    let usage = json!({"promptTokenCount": 30, "cachedContentTokenCount": 20, "candidatesTokenCount": 7,
        "thoughtsTokenCount": 5, "totalTokenCount": 42});
    let call = |name: &str| json!({"functionCall": {"name": name, "args": {"path": "."}}, "thoughtSignature": "c2ln"});
    let frames = [
        part(json!([{"text": "I look."}]), None, json!({"promptTokenCount": 30})),
        part(json!([call("list_files")]), None, json!({"promptTokenCount": 30})),
        part(json!([{"functionCall": {"name": "list_files", "args": {}}}]), Some("STOP"), usage),
    ];
    let end = gemini(&[part(
        json!([{"text": "Done."}]),
        Some("STOP"),
        json!({"promptTokenCount": 1, "candidatesTokenCount": 1}),
    )]);
    let server = Server::with([gemini(&frames), gemini(&frames), end, gemini(&frames)]).await;
    let mut asked = says(GEMINI, "Look.");
    asked.max_output_tokens = Some(99);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (reply, words) = server.ask(&asked).await;
        let reply = reply.unwrap();
        assert_eq!(words, "I look.");
        assert_eq!(reply.stop, Stop::ToolUse);
        let used = Tokens { input: 10, cached_read: 20, output: 12, reasoning: 5, ..Tokens::default() };
        assert_eq!(reply.usage, used);
        assert_eq!(reply.model.to_string(), "gemini/gemini-2.5-flash-001");
        let calls = reply.message.calls.clone();
        assert_eq!(calls[0].arguments, json!({"path": "."}));
        ids.extend(calls.iter().map(|call| call.id.clone()));
        asked.messages.push(reply.message.into());
        asked.messages.extend(calls.into_iter().map(|call| Message::tool_result(call.id, "a.txt")));
    }
    assert_eq!(server.ask(&asked).await.0.unwrap().stop, Stop::EndTurn);
    // As if the earlier turns had been taken out of the conversation since.
    let again = server.ask(&says(GEMINI, "Look.")).await.0.unwrap();
    ids.extend(again.message.calls.iter().map(|call| call.id.clone()));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "calls share an id");

    let asked = server.asked();
    assert_eq!(asked[0].path, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert_eq!(asked[0].headers["x-goog-api-key"], KEY);
    assert_eq!(asked[0].body["generationConfig"], json!({"maxOutputTokens": 99}));
    let contents = &asked[2].body["contents"];
    assert_eq!(
        contents[1],
        json!({"role": "model", "parts": [
            {"text": "I look."},
            {"functionCall": {"name": "list_files", "args": {"path": "."}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "list_files", "args": {}}},
        ]})
    );
    assert_eq!(contents[2]["role"], "user");
    assert_eq!(contents[2]["parts"][1]["functionResponse"]["name"], "list_files");
}

#[tokio::test]
async fn gemini_without_its_end_is_no_reply() {
    let half = [part(json!([{"text": "I lo"}]), None, json!({"promptTokenCount": 3}))];
    for answer in [gemini(&half), gemini(&half).and_dies()] {
        let server = Server::with([answer]).await;
        let (reply, words) = server.ask(&says(GEMINI, "hi")).await;
        assert_eq!((reply.unwrap_err().kind, words.as_str()), (ErrorKind::Cut, "I lo"));
    }
}

#[tokio::test]
async fn gemini_may_refuse() {
    let usage = json!({"promptTokenCount": 3});
    let safety = gemini(&[part(json!([{"text": "I"}]), Some("SAFETY"), usage.clone())]);
    let blocked = gemini(&[json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage})]);
    for answer in [safety, blocked] {
        let server = Server::with([answer]).await;
        assert_eq!(server.ask(&says(GEMINI, "hi")).await.0.unwrap().stop, Stop::Refusal);
    }
    let call = gemini(&[part(json!([]), Some("MALFORMED_FUNCTION_CALL"), json!({"promptTokenCount": 3}))]);
    let server = Server::with([call]).await;
    assert_eq!(server.ask(&says(GEMINI, "hi")).await.0.unwrap_err().kind, ErrorKind::Malformed);
}

#[tokio::test]
async fn gemini_fails_in_its_own_words() {
    let error = |code: u16, status: &str, message: &str, details: Value| {
        json!({"error": {"code": code, "status": status, "message": message, "details": details}}).to_string()
    };
    let key = error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", json!([]));
    let long = error(
        400,
        "INVALID_ARGUMENT",
        "The input token count (2) exceeds the maximum number of tokens allowed (1).",
        json!([]),
    );
    let delay = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]);
    let quota = error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric", delay);
    for (status, body, kind) in [(400, key, ErrorKind::BadKey), (400, long, ErrorKind::ContextOverflow)] {
        let server = Server::with([Answer::status(status, &body)]).await;
        assert_eq!(server.ask(&says(GEMINI, "hi")).await.0.unwrap_err().kind, kind, "{body}");
    }
    let server = Server::with([Answer::status(429, &quota)]).await;
    let error = server.ask(&says(GEMINI, "hi")).await.0.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::RateLimited { reset: Some(_) }), "{error:?}");
    assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(34)));
}

fn ollama(lines: &[Value]) -> Answer {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Answer::status(200, &body).header("content-type", "application/x-ndjson")
}

fn line(message: Value) -> Value {
    json!({"model": "llama3:8b", "message": message, "done": false})
}

const OLLAMA: &str = "ollama/llama3:8b";

#[tokio::test]
async fn ollama_is_read_and_gets_each_result_in_a_message_of_its_own() {
    let call = |path: &str| json!({"function": {"name": "list_files", "arguments": {"path": path}}});
    let lines = [
        line(json!({"role": "assistant", "content": "I "})),
        line(json!({"role": "assistant", "content": "look."})),
        line(json!({"role": "assistant", "content": "", "tool_calls": [call("a"), call("b")]})),
        json!({"model": "llama3:8b", "message": {"role": "assistant", "content": ""}, "done": true,
            "done_reason": "stop", "prompt_eval_count": 30, "eval_count": 9}),
    ];
    // An old server gives no reason.
    let end = ollama(&[line(json!({"content": "Done."})), json!({"model": "llama3:8b", "done": true})]);
    let server = Server::with([ollama(&lines), end]).await;
    let mut asked = says(OLLAMA, "Look.");
    asked.max_output_tokens = Some(64);
    let (reply, words) = server.ask(&asked).await;
    let reply = reply.unwrap();
    assert_eq!((words.as_str(), reply.stop.clone()), ("I look.", Stop::ToolUse));
    assert_eq!(reply.usage, Tokens { input: 30, output: 9, ..Tokens::default() });
    let calls = reply.message.calls.clone();
    assert_ne!(calls[0].id, calls[1].id);
    asked.messages.push(reply.message.into());
    asked.messages.extend(calls.iter().map(|call| Message::tool_result(&call.id, call.arguments["path"].to_string())));
    let reply = server.ask(&asked).await.0.unwrap();
    assert_eq!((reply.stop, reply.message.text.as_str()), (Stop::EndTurn, "Done."));
    assert!(reply.usage.estimated);

    let asked = server.asked();
    assert_eq!(asked[0].path, "/api/chat");
    assert_eq!(
        (&asked[0].body["model"], &asked[0].body["options"]),
        (&json!("llama3:8b"), &json!({"num_predict": 64}))
    );
    let messages = asked[1].body["messages"].as_array().unwrap();
    let results: Vec<&Value> = messages.iter().filter(|m| m["role"] == "tool").map(|m| &m["content"]).collect();
    assert_eq!(results, [&json!("\"a\""), &json!("\"b\"")]);
}

#[tokio::test]
async fn ollama_without_its_end_is_no_reply() {
    let half = [line(json!({"content": "I lo"}))];
    for answer in [ollama(&half), ollama(&half).and_dies()] {
        let server = Server::with([answer]).await;
        assert_eq!(server.ask(&says(OLLAMA, "hi")).await.0.unwrap_err().kind, ErrorKind::Cut);
    }
    let server = Server::with([Answer::status(404, "{\"error\":\"model 'x' not found\"}")]).await;
    let error = server.ask(&says(OLLAMA, "hi")).await.0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused(404));
    assert!(error.message.contains("not found"), "{}", error.message);
}
