//! `octo task ID resume` and the REPL's `/task ID resume`: answers a question of a task.

use crate::client::Client;
use crate::command::{Refused, ResumeRequest, TaskRef};
use crate::render::{fit, name_of, sanitize, subject};
use crate::task::Task;

/// The columns of a question that the confirmation shows.
const SHOWN: usize = 100;

/// Gives an answer, and says what was answered to what. The request carries its key.
///
/// # Errors
/// The daemon's refusal: somebody was quicker, or it is not clear which question is meant.
pub async fn answer(client: &Client, task: &TaskRef, request: ResumeRequest) -> Result<String, Refused> {
    let key = request.key.clone();
    let (said, question) = (request.answer.clone(), request.question.clone());
    let record = client.resume(task, request).await?;
    Ok(told(&record, &key, &said, question.as_deref()))
}

fn told(task: &Task, key: &str, said: &str, question: Option<&str>) -> String {
    let name = name_of(task);
    // By its key: another question may have been answered meanwhile.
    let given = task.answers.iter().rev().find(|a| a.key == key);
    let text = sanitize::line(given.map_or(said, |a| &a.text));
    let id = given.map(|a| a.question.as_str()).or(question);
    match id.and_then(|id| task.questions.iter().find(|q| q.id == id)) {
        Some(q) => format!("{name}: answered {text} to {}: {}", sanitize::line(&q.id), fit(&subject(q), SHOWN)),
        None => format!("{name}: answered {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Answer, Question, Stamp};

    #[test]
    fn it_says_what_was_answered_to_what() {
        let mut task = Task::new("c4b1e09a".parse().unwrap(), 12, Stamp::default());
        let question = |id: &str, text: &str| Question { id: id.into(), text: text.into(), ..Question::default() };
        task.questions = vec![question("q1", "Delete\x1b[2J a?"), question("q2", "Delete b?")];
        let answer = |q: &str, key: &str, text: &str| Answer {
            question: q.into(),
            key: key.into(),
            text: text.into(),
            ..Answer::default()
        };
        task.answers = vec![answer("q1", "mine", "yes"), answer("q2", "other", "no")];
        assert_eq!(told(&task, "mine", "1", None), "#12 c4b1e09a: answered yes to q1: Delete a?");
        task.answers.clear();
        assert_eq!(told(&task, "mine", "1", Some("q2")), "#12 c4b1e09a: answered 1 to q2: Delete b?");
        assert_eq!(told(&task, "mine", "1", None), "#12 c4b1e09a: answered 1");
    }
}
