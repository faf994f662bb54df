//! `octo tasks`: lists tasks.

use clap::Args;

use super::{Failure, World};
use crate::command::{ListQuery, Listing};
use crate::render::{self, ListLimits};
use crate::task::{Kind, Status, Task};

/// Rows that are shown unless the caller says how many.
const ROWS: usize = 20;

/// The options of `octo tasks`.
#[derive(Debug, Args)]
pub struct TasksArgs {
    /// Just tasks with this status
    #[arg(long, value_name = "S")]
    status: Option<Status>,
    /// Just tasks of this kind: process, agent
    #[arg(long, value_name = "K")]
    kind: Option<Kind>,
    /// So many at most; 0: all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Prints one JSON array of records
    #[arg(long)]
    json: bool,
}

/// Lists tasks: active ones first, then the newest ended.
pub(super) async fn run(world: &World, args: TasksArgs) -> Result<(), Failure> {
    let rows = args.limit.unwrap_or(ROWS);
    let query = ListQuery {
        status: args.status,
        kind: args.kind,
        // A program that names no limit gets the API's own default.
        limit: if args.json { args.limit } else { Some(rows) },
        cursor: None,
        // Who asks for all gets all.
        hidden: args.limit == Some(0),
    };
    let listing = world.client()?.list(&query).await?;
    if args.json {
        return world.print_json(&records(listing, args.limit));
    }
    let limits = ListLimits { rows, more: "`octo tasks --limit N` shows more (0: all), `--status S` narrows it down" };
    world.print(render::list(&listing, limits, &world.view()))
}

/// The records in the order of the list, cut to the limit.
fn records(listing: Listing, limit: Option<usize>) -> Vec<Task> {
    let mut all = listing.active;
    all.extend(listing.history);
    if let Some(limit) = limit.filter(|n| *n > 0) {
        all.truncate(limit);
    }
    all
}
