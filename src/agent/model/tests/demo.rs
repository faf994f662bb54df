use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{ask, request};
use crate::agent::model::demo::Demo;
use crate::agent::model::*;

fn models() -> Models {
    Models::new(&crate::config::Config::default(), Path::new("."))
}

fn tool(name: &str, argument: &str) -> ToolSpec {
    let schema = json!({"type": "object", "properties": {argument: {"type": "string"}}});
    ToolSpec { name: name.into(), description: String::new(), schema }
}

fn says(model: &str, words: &str) -> Request {
    let mut request = request(model);
    request.messages.push(Message::user(words));
    request
}

fn all_tools() -> Vec<ToolSpec> {
    vec![
        tool("list_files", "path"),
        tool("read_file", "path"),
        tool("escalate_question", "question"),
        tool("task_complete", "summary"),
    ]
}

/// Plays an agent's loop with tools that say what `results` says, until a turn calls none or `most` were played.
async fn drive(
    model: &dyn Model,
    request: &mut Request,
    results: &dyn Fn(&ToolCall) -> Message,
    most: usize,
) -> Vec<Reply> {
    let mut replies = Vec::new();
    for _ in 0..most {
        let (reply, words) = ask(model, request).await;
        let reply = reply.unwrap();
        assert_eq!(words, reply.message.text);
        assert!(reply.message.text.contains("demo, no real model"), "{}", reply.message.text);
        request.messages.push(reply.message.clone().into());
        request.messages.extend(reply.message.calls.iter().map(results));
        let is_last = reply.message.calls.is_empty();
        replies.push(reply);
        if is_last {
            break;
        }
    }
    replies
}

fn works(call: &ToolCall) -> Message {
    let text = match call.name.as_str() {
        "list_files" => "src/\nCargo.toml\nREADME.md\n",
        "read_file" => "Octo is a supervisor.",
        "escalate_question" => "at length",
        _ => "ok",
    };
    Message::tool_result(&call.id, text)
}

fn called(replies: &[Reply]) -> Vec<(String, Value)> {
    let calls = replies.iter().flat_map(|reply| &reply.message.calls);
    calls.map(|call| (call.name.clone(), call.arguments.clone())).collect()
}

#[tokio::test]
async fn the_tour_uses_its_tools_asks_and_completes() {
    let mut asked = says("demo/tour", "Fix the tests.");
    asked.tools = all_tools();
    let replies = drive(&models(), &mut asked, &works, 10).await;
    let calls = called(&replies);
    let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["list_files", "read_file", "escalate_question", "task_complete"]);
    assert_eq!(calls[0].1, json!({"path": "."}));
    assert_eq!(calls[1].1, json!({"path": "README.md"}));
    assert_eq!(calls[2].1["choices"], json!(["briefly", "at length"]));
    let summary = calls[3].1["summary"].as_str().unwrap();
    for part in ["demo", "3 lines", "`README.md` (21 bytes)", "at length", "OCTO_MODEL"] {
        assert!(summary.contains(part), "{summary}");
    }
    for reply in &replies {
        assert!(reply.usage.estimated && reply.usage.input > 0 && reply.usage.output > 0);
        assert_eq!(reply.stop, if reply.message.calls.is_empty() { Stop::EndTurn } else { Stop::ToolUse });
    }
    assert_eq!(replies.len(), 5);

    // A follow-up is a new tour, with ids of its own.
    asked.messages.push(Message::user("Once more."));
    let again = drive(&models(), &mut asked, &works, 10).await;
    assert_eq!(called(&again).len(), 4);
    let mut ids: Vec<String> =
        replies.iter().chain(&again).flat_map(|r| &r.message.calls).map(|call| call.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
}

#[tokio::test]
async fn the_tour_makes_do_with_less() {
    // No tools at all.
    let mut asked = says("demo/tour", "Hello.");
    assert_eq!(drive(&models(), &mut asked, &works, 10).await.len(), 1);
    // Tools that fail, and that name their argument otherwise.
    let mut asked = says("demo/tour", "Hello.");
    asked.tools = vec![tool("list_files", "folder"), tool("read_file", "file"), tool("task_complete", "summary")];
    let fails = |call: &ToolCall| Message::tool_error(&call.id, "not allowed");
    let calls = called(&drive(&models(), &mut asked, &fails, 10).await);
    assert_eq!(calls[0], ("list_files".into(), json!({"folder": "."})));
    assert_eq!(calls.len(), 2);
    assert!(calls[1].1["summary"].as_str().unwrap().contains("which failed"), "{calls:?}");
    // Tools that may not be called.
    let mut asked = says("demo/tour", "Hello.");
    (asked.tools, asked.tool_use) = (all_tools(), ToolUse::Never);
    assert_eq!(called(&drive(&models(), &mut asked, &works, 10).await), []);
}

#[tokio::test]
async fn the_same_request_has_the_same_reply() {
    for model in ["demo/tour", "demo/echo", "demo/spender"] {
        let mut asked = says(model, "Hello.");
        asked.tools = all_tools();
        let (one, two) = (ask(&models(), &asked).await.0, ask(&models(), &asked).await.0);
        assert_eq!(one.unwrap(), two.unwrap());
    }
}

#[tokio::test]
async fn the_echo_says_what_it_was_told() {
    let reply = ask(&models(), &says("demo/echo", "Grüß Gott")).await.0.unwrap();
    assert_eq!(reply.message.text, "[demo/echo: a demo, no real model] You said: Grüß Gott");
    assert_eq!(reply.stop, Stop::EndTurn);
    let nothing = ask(&models(), &request("demo/echo")).await.0.unwrap();
    assert!(nothing.message.text.ends_with("You said nothing."));
}

#[tokio::test]
async fn the_spender_is_never_done() {
    let mut asked = says("demo/spender", "Spend.");
    asked.tools = vec![tool("think", "thought")];
    let replies = drive(&models(), &mut asked, &works, 12).await;
    assert_eq!(replies.len(), 12);
    let used = replies.iter().fold(Tokens::default(), |sum, reply| sum.checked_add(&reply.usage).unwrap());
    // The default budget of an agent is passed within a dozen turns.
    assert!(used.total() > 50_000, "{used:?}");
    assert!(replies.iter().all(|reply| reply.usage.estimated));
}

#[tokio::test]
async fn demos_keep_to_the_most_tokens_they_may_use() {
    for model in ["demo/tour", "demo/echo", "demo/spender"] {
        for most in [0, 1, 5, 20] {
            let mut asked = says(model, &"ä日x ".repeat(100));
            asked.tools = all_tools();
            asked.max_output_tokens = Some(most);
            let reply = ask(&models(), &asked).await.0.unwrap();
            assert!(reply.usage.output <= u64::from(most), "{model} {most}: {reply:?}");
            assert!(estimate::output(&reply.message) <= u64::from(most), "{model} {most}: {reply:?}");
            assert_eq!(reply.stop, Stop::MaxTokens);
        }
    }
}

#[tokio::test]
async fn a_demo_that_does_not_exist_is_told_with_those_that_do() {
    let error = ask(&models(), &says("demo/nothing", "hi")).await.0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    for name in ["demo/tour", "demo/echo", "demo/spender", "demo/script"] {
        assert!(error.message.contains(name), "{}", error.message);
        assert!(models().check(&name.parse().unwrap()).is_ok());
    }
}

const SCRIPT: &str = "Do this:
script:
# a comment
say I look.
say Twice.
call list_files {\"path\": \".\"}
call think
---
say I saw {result:1} and {result}; {result:9} {resultx} {result
call escalate_question {\"question\": \"{result:2}?\", \"choices\": [\"{result}\"], \"n\": 1}
tokens 5000 1000
---
stop refusal
say No.
end of script
not a line of it";

#[tokio::test]
async fn a_script_is_played_step_by_step() {
    let mut asked = says("demo/script", SCRIPT);
    let result = |call: &ToolCall| Message::tool_result(&call.id, format!("<{}>", call.name));
    let replies = drive(&models(), &mut asked, &result, 10).await;
    let said = |at: usize| replies[at].message.text.strip_prefix("[demo/script: a demo, no real model] ").unwrap();
    assert_eq!(said(0), "I look.\nTwice.");
    assert_eq!(said(1), "I saw <list_files> and <think>; {result:9} {resultx} {result");
    let calls = called(&replies);
    assert_eq!(calls[..2], [("list_files".into(), json!({"path": "."})), ("think".into(), json!({}))]);
    assert_eq!(calls[2].1, json!({"question": "<think>?", "choices": ["<think>"], "n": 1}));
    assert_eq!((replies[1].usage.input, replies[1].usage.output), (5000, 1000));
    assert_eq!((said(2), &replies[2].stop), ("No.", &Stop::Refusal));
    asked.messages.push(Message::user("And now?"));
    let over = ask(&models(), &asked).await.0.unwrap();
    assert!(over.message.text.ends_with("The script is over."), "{}", over.message.text);
}

#[tokio::test]
async fn a_script_fails_as_often_as_it_says() {
    let model = models();
    let asked = says("demo/script", "fail overloaded 2\nsay Here.");
    for _ in 0..2 {
        assert_eq!(ask(&model, &asked).await.0.unwrap_err().kind, ErrorKind::Overloaded);
    }
    assert!(ask(&model, &asked).await.0.is_ok());

    let limited = says("demo/script", "fail rate_limited 1 3600\nsay Here.");
    let error = ask(&model, &limited).await.0.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::RateLimited { reset: Some(_) }), "{error:?}");
    assert_eq!(error.retry_after, Some(Duration::from_secs(3600)));

    let (error, words) = ask(&model, &says("demo/script", "fail cut\nsay one two three four")).await;
    assert_eq!((error.unwrap_err().kind, words.as_str()), (ErrorKind::Cut, "one two "));
    for kind in ["server", "network", "malformed", "refused", "overflow", "bad_key", "no_credit"] {
        assert!(ask(&model, &says("demo/script", &format!("fail {kind}\nsay x"))).await.0.is_err(), "{kind}");
    }
}

#[tokio::test]
async fn a_script_may_come_from_a_file_and_take_its_time() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("steps.txt"), "wait 0.03\nslow 10\nsay one two\n").unwrap();
    let demo = Demo::new(folder.path());
    let begun = Instant::now();
    let reply = ask(&demo, &says("demo/script:steps.txt", "whatever")).await.0.unwrap();
    assert!(reply.message.text.ends_with("one two"));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    for name in ["none.txt", "/dev/zero", "."] {
        let error = ask(&demo, &says(&format!("demo/script:{name}"), "whatever")).await.0.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains(&format!("`{name}`")), "{}", error.message);
    }
}

#[tokio::test]
async fn a_wrong_script_is_told_with_its_line() {
    let wrong =
        ["sing", "call", "call x {", "tokens 1", "tokens a b", "wait long", "slow x", "fail", "fail odd", "fail cut x"];
    for line in wrong {
        let error = ask(&models(), &says("demo/script", &format!("say a\n\n{line}"))).await.0.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{line}");
        assert!(error.message.contains("line 3"), "{}", error.message);
    }
}
