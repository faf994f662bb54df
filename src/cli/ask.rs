//! `octo ask`: a process inside a task asks its owner, and waits for the answer.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Failure, TIMED_OUT, World};
use crate::client::Client;
use crate::command::{QuestionRequest, QuestionState, Refused, RefusedCode, TaskRef};
use crate::render::{duration, parse_duration, sanitize};
use crate::task::{Closed, Question};

/// What records say asked.
const BY: &str = "octo ask";

/// How long after the daemon's deadline this process waits for the daemon to say so.
const GRACE: Duration = Duration::from_secs(2);

/// The options of `octo ask`.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// An answer to choose from (may repeat) [default: any text is an answer]
    #[arg(long = "choice", value_name = "C")]
    choices: Vec<String>,
    /// Gives up after so long, with exit code 124
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    timeout: Option<u64>,
    /// The question; several words make one
    #[arg(required = true, value_name = "QUESTION")]
    question: Vec<String>,
}

/// Asks, waits, and prints the answer alone.
pub(super) async fn run(world: &World, args: AskArgs) -> Result<(), Failure> {
    let request = request(args)?;
    let (client, task) = world.own_task()?;
    let began = Instant::now();
    let limit = (request.timeout > 0).then(|| Duration::from_secs(request.timeout));
    let asked = match client.question(&task, request).await {
        Err(refused) if timed_out(&refused, limit.map(|limit| began + limit)) => return Err(no_daemon(world, limit)),
        Err(refused) if refused.code == RefusedCode::Conflict && has_ended(&client, &task).await => {
            return Err(no_answer(world, "the task has ended"));
        }
        asked => asked?,
    };
    let state = wait(world, &client, &task, asked, limit).await?;
    match (state.answer, state.question.closed) {
        (Some(answer), _) if world.terminal.is_one => world.print(format!("{}\n", sanitize::text(&answer.text))),
        (Some(answer), _) => world.print(format!("{}\n", answer.text)),
        (None, Some(Closed::TaskEnded)) => Err(no_answer(world, "the run that asked has ended")),
        (None, Some(Closed::NoAnswer) | None) => Err(no_answer(world, &within(limit))),
        (None, Some(Closed::Answered)) => {
            Err(Refused::new(RefusedCode::Internal, "the answer to this question is not for this process").into())
        }
    }
}

/// Waits for the question to be closed. The deadline is the daemon's; this clock counts when no daemon comes back.
async fn wait(
    world: &World,
    client: &Client,
    task: &TaskRef,
    asked: QuestionState,
    limit: Option<Duration>,
) -> Result<QuestionState, Failure> {
    if !asked.question.open {
        return Ok(asked);
    }
    let until = limit.map(|limit| Instant::now() + left(&asked.question).unwrap_or(limit).min(limit) + GRACE);
    match client.answer(task, &asked.question.id, until).await {
        Err(refused) if timed_out(&refused, until) => Err(no_daemon(world, limit)),
        state => Ok(state?),
    }
}

/// How long a question stays open by its own deadline.
fn left(question: &Question) -> Option<Duration> {
    let ms = question.deadline.millis()? - jiff::Timestamp::now().as_millisecond();
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

async fn has_ended(client: &Client, task: &TaskRef) -> bool {
    client.get(task).await.is_ok_and(|task| task.status.is_ended())
}

fn timed_out(refused: &Refused, until: Option<Instant>) -> bool {
    refused.code == RefusedCode::Unavailable && until.is_some_and(|until| Instant::now() >= until)
}

fn within(limit: Option<Duration>) -> String {
    let limit = limit.map(|l| duration(i64::try_from(l.as_millis()).unwrap_or(i64::MAX)));
    limit.map_or_else(|| "nobody answered in time".to_owned(), |limit| format!("nobody answered within {limit}"))
}

fn no_daemon(world: &World, limit: Option<Duration>) -> Failure {
    no_answer(world, &format!("{}, and no daemon runs", within(limit)))
}

/// Says why there is no answer; the exit code says that there is none.
fn no_answer(world: &World, why: &str) -> Failure {
    world.warn(&format!("error: no answer: {why}\nhint: no answer is neither yes nor no; `octo ask` asks again\n"));
    Failure::Quiet(TIMED_OUT)
}

fn request(args: AskArgs) -> Result<QuestionRequest, Refused> {
    let text = args.question.join(" ").trim().to_owned();
    if text.is_empty() {
        return Err(usage("the question is empty").hint("octo ask \"Delete the old logs?\""));
    }
    let mut seen = Vec::new();
    for choice in &args.choices {
        // As answers are compared: without spaces around them, in any case.
        let plain = choice.trim().to_lowercase();
        if plain.is_empty() {
            return Err(usage("--choice: an empty choice cannot be chosen").hint("octo ask --choice yes --choice no"));
        }
        if seen.contains(&plain) {
            let message = format!("--choice {}: this choice is there twice", choice.trim());
            return Err(usage(message).hint("choices differ in more than case and spaces around them"));
        }
        seen.push(plain);
    }
    if args.timeout == Some(0) {
        return Err(usage("--timeout 0: nobody can answer in no time").hint("leave --timeout out to wait for ever"));
    }
    let choices = args.choices.iter().map(|c| c.trim().to_owned()).collect();
    let timeout = args.timeout.unwrap_or(0);
    Ok(QuestionRequest { text, choices, timeout, by: BY.to_owned(), ..QuestionRequest::default() })
}

fn usage(message: impl Into<String>) -> Refused {
    Refused::new(RefusedCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(question: &[&str], choices: &[&str], timeout: Option<u64>) -> Result<QuestionRequest, String> {
        let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        request(AskArgs { choices: own(choices), timeout, question: own(question) }).map_err(|r| r.message)
    }

    #[test]
    fn words_are_one_question_and_choices_are_distinct() {
        let request = asked(&["Delete", "the  logs?"], &[" yes", "no"], Some(60)).unwrap();
        assert_eq!(request.text, "Delete the  logs?");
        assert_eq!((request.choices, request.timeout), (vec!["yes".to_owned(), "no".to_owned()], 60));
        assert!(request.key.is_empty() && !request.free, "the client makes the key, anew for every call");
        assert_eq!(asked(&[" "], &[], None).unwrap_err(), "the question is empty");
        assert!(asked(&["q"], &["yes", ""], None).unwrap_err().contains("empty choice"));
        assert!(asked(&["q"], &["Yes", "no", "yes "], None).unwrap_err().contains("twice"));
        assert!(asked(&["q"], &[], Some(0)).unwrap_err().contains("--timeout 0"));
    }
}
