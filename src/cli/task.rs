//! `octo task ID ...`: shows one task, or does something with it.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::logs::{LogsArgs, print_logs};
use super::{Failure, World, resume, wait};
use crate::client::{Client, LogEvent, LogQuery, Vigil, new_key};
use crate::command::{FollowupRequest, Refused, ResumeRequest, TaskRef};
use crate::render::{self, Tail, Tongue, parse_duration};
use crate::task::Task;

/// Lines of output that the details show.
const TAIL_LINES: usize = 12;

/// Bytes of output that are read for that: enough for so many usual lines.
const TAIL_BYTES: i64 = 8 * 1024;

/// `octo task ID ...`.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// The task: its id, a prefix of it, or its number
    #[arg(value_name = "ID")]
    id: String,
    /// Prints the record as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    act: Option<Act>,
}

/// What to do with the task.
#[derive(Debug, Subcommand)]
enum Act {
    /// Stops it, with everything that it started
    Cancel,
    /// Runs an ended task again
    Retry,
    /// Lets an agent go on that used up its budget
    Raise {
        /// How many tokens are added [default: the original budget again]
        #[arg(value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
        tokens: Option<u64>,
    },
    /// Starts a new task that knows what this one did; prints its id
    Followup {
        /// What is to be done next
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "TEXT")]
        text: Vec<String>,
    },
    /// Removes an ended task and its output
    Rm,
    /// Prints its output
    Logs(LogsArgs),
    /// Answers its open question
    Resume {
        /// The question, when several are open or it is a permission: q1, q2, ...
        #[arg(long, value_name = "QID")]
        question: Option<String>,
        /// The answer: a choice, its number, or any text where the question takes it
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ANSWER")]
        answer: Vec<String>,
    },
    /// Waits for its end; exits 0 when it completed
    Wait {
        /// Gives up after so long, with exit code 124
        #[arg(long, value_name = "DUR", value_parser = parse_duration)]
        timeout: Option<u64>,
        /// What another process knew of this wait
        #[arg(long, hide = true, conflicts_with = "timeout")]
        goes_on: Option<Vigil>,
    },
}

pub(super) async fn run(world: &World, args: TaskArgs) -> Result<(), Failure> {
    let client = world.client()?;
    let task = TaskRef(args.id);
    match args.act {
        None if args.json => world.print_json(&client.get(&task).await?),
        None => show(world, &client, &task, Tongue::Shell).await.map(drop),
        Some(Act::Cancel) => Ok(client.stop(&task).await?),
        Some(Act::Retry) => Ok(client.retry(&task).await?),
        Some(Act::Raise { tokens }) => Ok(client.raise(&task, tokens).await.map(drop)?),
        Some(Act::Followup { text }) => {
            let request = FollowupRequest { text: text.join(" "), key: new_key() };
            let started = client.follow_up(&task, request).await?;
            world.print(format!("{}\n", started.instance_id))
        }
        Some(Act::Rm) => Ok(client.remove(&task).await?),
        Some(Act::Logs(args)) => print_logs(world, &client, &task, args).await,
        Some(Act::Resume { question, answer }) => {
            let request = ResumeRequest { answer: answer.join(" "), question, key: new_key() };
            let told = resume::answer(&client, &task, request).await?;
            world.print(format!("{told}\n"))
        }
        Some(Act::Wait { timeout, goes_on }) => {
            let vigil = goes_on.unwrap_or_else(|| Vigil::new(timeout.map(Duration::from_secs)));
            wait::run(world, &task, vigil).await
        }
    }
}

/// Shows a task and the end of its output, and returns the record.
///
/// # Errors
/// The daemon's refusal, or that standard output cannot be written.
pub async fn show(world: &World, client: &Client, task: &TaskRef, tongue: Tongue) -> Result<Task, Failure> {
    let record = client.get(task).await?;
    let tail = tail(client, &TaskRef(record.id.to_string())).await?;
    let tz = jiff::tz::TimeZone::system();
    world.print(render::details(&record, Some(&tail), tongue, &world.view(), &tz))?;
    Ok(record)
}

/// The end of a task's output.
async fn tail(client: &Client, task: &TaskRef) -> Result<Tail, Refused> {
    let mut log = client.logs(task, LogQuery { from: Some(-TAIL_BYTES), ..LogQuery::default() }).await?;
    let mut bytes = Vec::new();
    while let Some(event) = log.next().await? {
        if let LogEvent::Bytes(piece) = event {
            bytes.extend_from_slice(&piece);
        }
    }
    let mut from = log.starts_at;
    // What begins in the middle of a line is left out, unless it is all there is.
    if from > 0
        && let Some(end) = bytes[..bytes.len().saturating_sub(1)].iter().position(|b| *b == b'\n')
    {
        bytes.drain(..=end);
        from += end as u64 + 1;
    }
    Ok(Tail { bytes, from, lines: TAIL_LINES })
}
