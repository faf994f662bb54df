//! Plain questions: asked, answered, or told to have no answer.

use super::*;

#[tokio::test]
async fn a_question_is_asked_and_its_answer_returned() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.call(1, "escalate_question", json!({"question": "Which?", "choices": ["a", "b"]})).await;
    let asked = owner.asked(1).await;
    let expected = QuestionRequest {
        text: "Which?".into(),
        choices: vec!["a".into(), "b".into()],
        by: "claude".into(),
        ..Default::default()
    };
    assert_eq!(asked, [expected]);
    owner.end("q1", Ok("b"));
    assert_eq!(claude.result().await, ("b".to_owned(), false));
}

#[tokio::test]
async fn no_answer_cannot_be_taken_for_one() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    for (i, closed) in [Closed::NoAnswer, Closed::TaskEnded].into_iter().enumerate() {
        claude.escalate(1, "Which?").await;
        owner.asked(i + 1).await;
        owner.end(&format!("q{}", i + 1), Err(closed));
        let (text, is_error) = claude.result().await;
        assert!(is_error && text.starts_with("NO ANSWER: nobody answered"), "{text}");
    }
    *owner.refuses.lock().unwrap() = Some(Refused::new(RefusedCode::Conflict, "task a1 has ended"));
    claude.escalate(1, "Which?").await;
    let (text, is_error) = claude.result().await;
    assert!(is_error && text.starts_with("NO ANSWER: ") && text.contains("task a1 has ended"), "{text}");
}

#[tokio::test]
async fn a_malformed_question_is_told_to_the_model() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    for arguments in
        [json!({}), json!({"question": ""}), json!({"question": 7}), json!({"question": "x", "choices": "y"})]
    {
        claude.call(1, "escalate_question", arguments.clone()).await;
        let (text, is_error) = claude.result().await;
        assert!(is_error && text.starts_with("The question was not asked"), "{arguments}: {text}");
    }
    assert_eq!(owner.asked.borrow().len(), 0);
}

#[tokio::test]
async fn answers_find_their_questions_in_any_order() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    for id in 1..=3 {
        claude.escalate(id, &format!("question {id}")).await;
        owner.asked(usize::try_from(id).unwrap()).await;
    }
    for (id, answer) in [(3, "three"), (1, "one"), (2, "two")] {
        owner.end(&format!("q{id}"), Ok(answer));
        let message = claude.next().await;
        assert_eq!((&message["id"], &message["result"]["content"][0]["text"]), (&json!(id), &json!(answer)));
    }
}
