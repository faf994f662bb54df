//! `octo status`: how the daemon is; never starts one.

use super::{Failure, World};
use crate::client::Client;
use crate::command::{ListQuery, Refused, StatusReport};
use crate::render;
use crate::task::Status;

pub(super) async fn run(world: &World, json: bool) -> Result<(), Failure> {
    let client = world.client()?.only_connect();
    let status = client.status().await?;
    if json {
        return world.print_json(&status);
    }
    let questions = open_questions(&client, &status).await?;
    world.print(render::report(&status, questions, "`octo tasks` lists them", &world.view()))
}

/// How many questions are open. Those that nobody polls for leave their task running.
///
/// # Errors
/// The daemon's refusal, or `Unavailable`.
pub async fn open_questions(client: &Client, status: &StatusReport) -> Result<usize, Refused> {
    let mut open = 0;
    for with in [Status::Paused, Status::Running] {
        if status.counts.get(with.word()).is_none_or(|n| *n == 0) {
            continue;
        }
        let query = ListQuery { status: Some(with), ..ListQuery::default() };
        let listing = client.list(&query).await?;
        open += listing.active.iter().flat_map(|t| &t.questions).filter(|q| q.open).count();
    }
    Ok(open)
}
