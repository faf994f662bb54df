//! The protocol: revisions, methods, and which tools are offered to whom.

use super::*;

#[tokio::test]
async fn speaks_as_claude_expects_it() {
    let mut claude = Caller::of(asking(Owner::new(), true), SIGN_OF_LIFE);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "claude-code", "version": "2.1.329"},
        "io.modelcontextprotocol/clientCapabilities": {"roots": {"listChanged": true}},
    });
    for params in [json!({"_meta": meta}), json!({})] {
        assert_eq!(claude.ask("server/discover", params).await["error"]["code"], -32601);
    }
    claude.send(json!({"jsonrpc": "2.0", "method": "notifications/early"})).await;
    assert_eq!(claude.ask("tools/list", json!({})).await["error"]["code"], -32601, "nothing before the beginning");
    assert_eq!(claude.ask("ping", json!({})).await["result"], json!({}));
    let info = claude.initialize("2025-11-25").await;
    assert_eq!((&info["protocolVersion"], &info["serverInfo"]["name"]), (&json!("2025-11-25"), &json!("octo")));
    assert_eq!(info["capabilities"], json!({"tools": {}}));
    for method in ["server/discover", "prompts/list", "resources/list", "no/such", "completion/complete"] {
        assert_eq!(claude.ask(method, json!({})).await["error"]["code"], -32601, "{method}");
    }
    assert_eq!(claude.ask("server/discover", json!({"_meta": meta})).await["error"]["code"], -32601);
    assert_eq!(claude.ask("ping", json!({})).await["result"], json!({}));
    assert_eq!(claude.tools().await, ["escalate_question", "permission"]);
    assert_eq!(claude.leave().await, Ok(()));
}

#[tokio::test]
async fn speaks_older_revisions_and_offers_its_own_to_newer_ones() {
    for (asked, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2026-07-28", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
    ] {
        let mut caller = Caller::of(Offer::nothing(), SIGN_OF_LIFE);
        assert_eq!(caller.initialize(asked).await["protocolVersion"], answered, "{asked}");
    }
}

#[tokio::test]
async fn a_client_that_just_looks_in_does_no_harm() {
    assert_eq!(Caller::of(Offer::nothing(), SIGN_OF_LIFE).leave().await, Ok(()));
}

#[tokio::test]
async fn offers_just_what_is_meant_for_the_client() {
    let mut outside = Caller::of(Offer::nothing(), SIGN_OF_LIFE);
    outside.initialize("2025-11-25").await;
    assert_eq!(outside.tools().await, [""; 0]);
    let owner = Owner::new();
    let mut questions = Caller::of(asking(owner.clone(), false), SIGN_OF_LIFE);
    questions.initialize("2025-11-25").await;
    assert_eq!(questions.tools().await, ["escalate_question"]);
    for (caller, tool) in [(&mut outside, "escalate_question"), (&mut questions, "permission")] {
        caller.call(1, tool, json!({"question": "x", "tool_name": "Bash", "input": {}})).await;
        assert_eq!(caller.next().await["error"]["code"], -32602, "{tool}");
    }
    assert_eq!(owner.asked.borrow().len(), 0);
}
