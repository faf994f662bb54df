//! Waits: signs of life, and what ends them.

use super::*;

/// Twenty minutes by a clock on which a sign of life, every twenty seconds by rights, comes every ten milliseconds.
#[tokio::test]
async fn a_long_wait_shows_signs_of_life_and_ends_with_the_answer() {
    let owner = Owner::new();
    let mut claude = Caller::patient(&owner, SIGN_OF_LIFE / 2000).await;
    let arguments = json!({"tool_name": "Bash", "input": bash("make"), "tool_use_id": "t"});
    let params = json!({"name": "permission", "arguments": arguments, "_meta": {"progressToken": 2}});
    claude.send(json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params})).await;
    let mut last = 0.0;
    for _ in 0..60 {
        let sign = claude.next().await;
        assert_eq!((&sign["method"], &sign["params"]["progressToken"]), (&json!("notifications/progress"), &json!(2)));
        let progress = sign["params"]["progress"].as_f64().unwrap();
        assert!(progress > last, "{sign}");
        last = progress;
    }
    owner.end("q1", Ok("allow"));
    let answer = loop {
        let message = claude.next().await;
        if message["method"].is_null() {
            break message;
        }
    };
    assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("\"allow\""), "{answer}");
    assert_eq!(owner.asked.borrow().len(), 1, "it asked once");
}

#[tokio::test]
async fn who_asks_for_no_signs_gets_none() {
    let owner = Owner::new();
    let mut claude = Caller::patient(&owner, Duration::from_millis(1)).await;
    claude.escalate(1, "Which?").await;
    owner.waiting(1).await;
    let unheard = tokio::time::timeout(Duration::from_millis(100), claude.lines.next_line()).await;
    assert!(unheard.is_err(), "{unheard:?}");
    owner.end("q1", Ok("this"));
    assert_eq!(claude.result().await.0, "this");
}

#[tokio::test]
async fn a_cancelled_request_is_waited_for_no_longer() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.escalate(7, "Which?").await;
    owner.waiting(1).await;
    let params = json!({"requestId": 7, "reason": "interrupted"});
    claude.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).await;
    owner.waiting(0).await;
    owner.end("q1", Ok("too late"));
    // The next message is the answer to something else: the cancelled request gets none.
    assert_eq!(claude.ask("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_wait() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.escalate(1, "Which?").await;
    claude.permission(2, "Bash", &bash("make")).await;
    owner.waiting(2).await;
    assert_eq!(claude.leave().await, Ok(()));
    owner.waiting(0).await;
}
