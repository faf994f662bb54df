//! `/agents`: the agents of the team, and what agents are at work.

use octo::cli::{Failure, World};
use octo::client::Client;
use octo::command::ListQuery;
use octo::render::{self, ListLimits};
use octo::task::Kind;

/// Rows of the list of tasks.
const ROWS: usize = 12;

/// Shows them.
pub(crate) async fn show(world: &World, client: &Client) -> Result<(), Failure> {
    let query = ListQuery { kind: Some(Kind::Agent), limit: Some(ROWS), ..ListQuery::default() };
    let listing = client.list(&query).await?;
    let more = "/tasks lists all";
    world.print(render::list(&listing, ListLimits { rows: ROWS, more }, &world.view()))
}
