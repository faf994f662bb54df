use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::agent::model::*;

const REQUEST: &str = include_str!("../golden/request-1.json");
const REQUEST_LEAST: &str = include_str!("../golden/request-1-least.json");
const REPLY: &str = include_str!("../golden/reply-1.json");
const REPLY_LEAST: &str = include_str!("../golden/reply-1-least.json");

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

/// A stored line is read as this value, and this value is written as that line.
fn is_golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(line: &str, value: &T) {
    let line = line.trim_end();
    assert_eq!(serde_json::from_str::<T>(line).unwrap(), *value);
    assert_eq!(serde_json::to_string(value).unwrap(), line);
}

fn full_request() -> Request {
    let parts = vec![
        OpaquePart::Thought { text: Some("A note.".into()), signature: Some("c2ln".into()) },
        OpaquePart::Block { data: json!({"type": "redacted_thinking", "data": "eA=="}) },
        OpaquePart::Call { call: "toolu_1".into(), signatures: vec!["Zw==".into()] },
    ];
    let said = Assistant {
        text: "I read it.".into(),
        calls: vec![ToolCall {
            id: "toolu_1".into(),
            name: "read_file".into(),
            arguments: json!({"path": "note.txt"}),
        }],
        opaque: Some(Opaque { provider: "anthropic".into(), parts }),
    };
    Request {
        v: Format,
        model: name("anthropic/claude-sonnet-4-5"),
        system: "Be brief.".into(),
        messages: vec![
            Message::user("Read the note."),
            said.into(),
            Message::tool_error("toolu_1", "no such file"),
            Message::system("A task has ended."),
        ],
        tools: vec![ToolSpec {
            name: "read_file".into(),
            description: "Reads a file.".into(),
            schema: json!({"type": "object", "properties": {"path": {"type": "string"}}}),
        }],
        max_output_tokens: Some(1000),
        tool_use: ToolUse::Must,
        temperature: Some(0.5),
        effort: Some(Effort::Low),
    }
}

#[test]
fn stored_requests_and_replies_are_read_and_written_as_ever() {
    is_golden(REQUEST, &full_request());
    is_golden(REQUEST_LEAST, &Request::new(name("demo/echo")));
    let calls = vec![ToolCall { id: "c1".into(), name: "shell".into(), arguments: json!("{broken") }];
    let usage = Tokens { input: 3, cached_read: 20, cached_write: 10, output: 7, reasoning: 2, estimated: true };
    let reply = Reply {
        v: Format,
        message: Assistant { text: "Done.".into(), calls, opaque: None },
        stop: Stop::ToolUse,
        usage,
        model: name("openai/gpt-5-2025-08-07"),
    };
    is_golden(REPLY, &reply);
    let least = Reply {
        v: Format,
        message: Assistant::default(),
        stop: Stop::EndTurn,
        usage: Tokens::default(),
        model: name("gemini/gemini-2.5-pro"),
    };
    is_golden(REPLY_LEAST, &least);
}

#[test]
fn the_digest_of_a_request_is_that_of_its_line() {
    let line = REQUEST.trim_end();
    let expected: String = Sha256::digest(line).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(full_request().digest(), expected);
    assert_eq!(serde_json::from_str::<Request>(line).unwrap().digest(), expected);
    let other = Request { max_output_tokens: Some(999), ..full_request() };
    assert_ne!(other.digest(), expected);
}

#[test]
fn a_newer_format_is_refused_in_words_and_unknown_fields_are_not() {
    for (v, fine) in [("1", true), ("2", false), ("0", false), ("-1", false), ("\"1\"", false)] {
        let line = REQUEST_LEAST.replace("\"v\":1", &format!("\"v\":{v},\"new\":{{}}"));
        assert_eq!(serde_json::from_str::<Request>(&line).is_ok(), fine, "{line}");
    }
    let newer = REPLY.replace("\"v\":1", "\"v\":2");
    let why = serde_json::from_str::<Reply>(&newer).unwrap_err().to_string();
    assert!(why.contains("format 2") && why.contains("newer Octo"), "{why}");
}

#[test]
fn a_reason_to_stop_that_is_unknown_is_kept() {
    let line = REPLY.replace("tool_use", "pause_turn");
    let reply: Reply = serde_json::from_str(&line).unwrap();
    assert_eq!(reply.stop, Stop::Other("pause_turn".into()));
    assert_eq!(serde_json::to_string(&reply).unwrap(), line.trim_end());
}

#[test]
fn tokens_are_counted_without_running_over() {
    let one = Tokens { input: 1, cached_read: 20, cached_write: 300, output: 4000, reasoning: 4, estimated: false };
    assert_eq!((one.prompt(), one.total()), (321, 4321));
    let two = one.checked_add(&Tokens { estimated: true, ..one }).unwrap();
    let sum = Tokens { input: 2, cached_read: 40, cached_write: 600, output: 8000, reasoning: 8, estimated: true };
    assert_eq!(two, sum);
    let huge = Tokens { output: u64::MAX, ..one };
    assert_eq!(huge.checked_add(&one), None);
    assert_eq!(huge.total(), u64::MAX);
}

#[test]
fn names_of_models_are_read_in_both_forms() {
    let pairs = [
        ("anthropic/claude-sonnet-4-5", Provider::Anthropic, "claude-sonnet-4-5"),
        ("openai:gpt-5", Provider::OpenAi, "gpt-5"),
        ("OpenAI/meta-llama/Llama-3", Provider::OpenAi, "meta-llama/Llama-3"),
        ("google/gemini-2.5-pro", Provider::Gemini, "gemini-2.5-pro"),
        ("ollama/llama3:8b", Provider::Ollama, "llama3:8b"),
        ("ollama:llama3:8b", Provider::Ollama, "llama3:8b"),
        (" demo/script:a/b.txt ", Provider::Demo, "script:a/b.txt"),
    ];
    for (text, provider, model) in pairs {
        let name: ModelName = text.parse().unwrap();
        assert_eq!((name.provider(), name.model()), (provider, model), "{text}");
        assert_eq!(name.to_string().parse::<ModelName>().unwrap(), name);
    }
}

#[test]
fn a_name_that_is_none_is_told_with_the_providers() {
    for text in ["gpt-5", "", "mistral/x", "dmr/ai/smollm"] {
        let why = text.parse::<ModelName>().unwrap_err();
        assert!(why.contains("anthropic, openai, gemini, ollama, demo"), "{why}");
    }
    for text in ["openai/", "gemini/../x", "openai/a b", "openai/a?b", "openai/a\nb", "openai//", "gemini/x#y"] {
        assert!(text.parse::<ModelName>().is_err(), "{text}");
    }
    assert!(format!("openai/{}", "x".repeat(201)).parse::<ModelName>().is_err());
}

#[test]
fn guesses_of_tokens_grow_with_what_is_said() {
    assert_eq!(estimate::tokens_of(""), 0);
    assert_eq!(estimate::tokens_of("abcd"), 1);
    assert_eq!(estimate::tokens_of("abcde"), 2);
    assert_eq!(estimate::tokens_of("日本"), 2);
    let mut request = Request::new(name("demo/echo"));
    let empty = estimate::prompt(&request);
    request.messages.push(Message::user("x".repeat(400)));
    let one = estimate::prompt(&request);
    assert!(one >= empty + 100, "{one}");
    request.tools = full_request().tools;
    assert!(estimate::prompt(&request) > one + 10);
}
