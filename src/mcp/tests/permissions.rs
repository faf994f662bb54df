//! Permissions: only a plain yes allows, and only the very input that was shown; Claude's own questions come
//! the same way.

use super::*;

#[tokio::test]
async fn only_a_plain_yes_allows_and_with_the_very_input() {
    let input = json!({"z": 1, "command": "make", "a": {"y": [1.5, null], "b": "é"}});
    let allowed = json!({"behavior": "allow", "updatedInput": input}).to_string();
    for (end, allows) in [
        (Ok("allow"), true),
        (Ok("allow for this task"), true),
        (Ok("deny"), false),
        (Ok("yes"), false),
        (Ok("Allow"), false),
        (Ok(""), false),
        (Err(Closed::NoAnswer), false),
        (Err(Closed::TaskEnded), false),
    ] {
        let owner = Owner::new();
        let mut claude = Caller::inside(&owner).await;
        claude.permission(1, "Bash", &input).await;
        let asked = owner.asked(1).await.remove(0);
        assert_eq!((asked.text.as_str(), asked.by.as_str(), asked.choices.len()), ("", "claude", 0));
        let wanted = asked.action.unwrap();
        assert_eq!((wanted.tool.as_str(), wanted.folder.as_str(), &wanted.input), ("Bash", "/w", &input));
        owner.end("q1", end);
        let (text, is_error) = claude.result().await;
        assert!(!is_error);
        if allows {
            assert_eq!(text, allowed, "{end:?}");
        } else {
            let verdict: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(verdict["behavior"], "deny", "{end:?}");
            assert!(verdict["message"].is_string() && verdict.get("updatedInput").is_none(), "{text}");
        }
    }
}

#[tokio::test]
async fn an_approval_of_something_else_is_none() {
    let owner = Owner { twists: true, ..Owner::new() };
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "Bash", &bash("make")).await;
    owner.asked(1).await;
    owner.end("q1", Ok("allow"));
    let verdict = claude.verdict().await;
    assert_eq!(verdict["behavior"], "deny");
    assert!(verdict["message"].as_str().unwrap().contains("not what was asked for"), "{verdict}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_not_allowed() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    *owner.refuses.lock().unwrap() = Some(Refused::new(RefusedCode::TooLarge, "the input is too large"));
    claude.permission(1, "Bash", &bash("make")).await;
    let verdict = claude.verdict().await;
    assert_eq!(verdict["behavior"], "deny");
    assert!(verdict["message"].as_str().unwrap().contains("the input is too large"), "{verdict}");
    for arguments in [json!({}), json!({"tool_name": "Bash"}), json!({"tool_name": 1, "input": {}})] {
        claude.call(1, "permission", arguments).await;
        assert_eq!(claude.verdict().await["behavior"], "deny");
    }
}

#[tokio::test]
async fn what_was_allowed_for_the_task_is_not_waited_for() {
    let owner = Owner::new();
    owner.end("q1", Ok("allow"));
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "Bash", &bash("make")).await;
    assert_eq!(claude.verdict().await["behavior"], "allow");
}

fn databases(multi: bool) -> Value {
    json!({"questions": [
        {"question": "Which?", "header": "DB", "multiSelect": multi, "options": [
            {"label": "Postgres", "description": "a server"}, {"label": "SQLite", "description": "a file"}, {"label": "None, yet"}]},
        {"question": "Why?", "header": "Why", "options": []},
    ], "kept": true})
}

#[tokio::test]
async fn claudes_own_questions_are_asked_all_at_once() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "AskUserQuestion", &databases(false)).await;
    let asked = owner.asked(2).await;
    assert_eq!(asked[0].text, "Which?\n\nPostgres: a server\nSQLite: a file");
    assert_eq!(asked[0].choices, ["Postgres", "SQLite", "None, yet"]);
    assert_eq!((asked[1].text.as_str(), asked[1].choices.len()), ("Why?", 0));
    assert!(asked.iter().all(|q| q.free && q.action.is_none() && q.by == "claude"));
    owner.waiting(2).await;
    owner.end("q2", Ok("because"));
    owner.end("q1", Ok("SQLite"));
    let mut input = databases(false);
    input["answers"] = json!({"Which?": "SQLite", "Why?": "because"});
    assert_eq!(claude.verdict().await, json!({"behavior": "allow", "updatedInput": input}));
}

#[tokio::test]
async fn several_choices_become_labels() {
    for (said, answer) in [
        ("1, sqlite", "Postgres, SQLite"),
        ("None, yet", "None, yet"),
        ("2", "SQLite"),
        ("3,MySQL", "None, yet, MySQL"),
        ("9", "9"),
    ] {
        let owner = Owner::new();
        owner.end("q2", Ok("x"));
        let mut claude = Caller::inside(&owner).await;
        claude.permission(1, "AskUserQuestion", &databases(true)).await;
        let asked = owner.asked(1).await;
        assert!(asked[0].text.ends_with("Several may be chosen, with commas between them."), "{}", asked[0].text);
        owner.end("q1", Ok(said));
        assert_eq!(claude.verdict().await["updatedInput"]["answers"]["Which?"], answer, "{said}");
    }
}

#[tokio::test]
async fn a_question_of_claudes_own_without_an_answer_gets_none() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "AskUserQuestion", &databases(false)).await;
    owner.asked(2).await;
    owner.end("q1", Ok("SQLite"));
    owner.end("q2", Err(Closed::NoAnswer));
    let verdict = claude.verdict().await;
    assert_eq!(verdict["behavior"], "deny");
    let why = "Nobody answered: Why?. Answers were given only to: {\"Which?\":\"SQLite\"}";
    assert_eq!(verdict["message"], why);
    for input in [json!({}), json!({"questions": []}), json!({"questions": [{"header": "x"}]})] {
        claude.permission(1, "AskUserQuestion", &input).await;
        assert_eq!(claude.verdict().await["behavior"], "deny", "{input}");
    }
    assert_eq!(owner.asked.borrow().len(), 2);
}
