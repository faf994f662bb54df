//! `/agents`: the agents of the team, and what agents are at work.

use octo::cli::{Failure, World};
use octo::client::Client;
use octo::command::{ListQuery, Listing};
use octo::render::{self, ListLimits};
use octo::task::Kind;

/// Rows of the list of tasks.
const ROWS: usize = 12;

/// Shows them.
pub(crate) async fn show(world: &World, client: &Client) -> Result<(), Failure> {
    let roster = client.agents().await?;
    let query = ListQuery { kind: Some(Kind::Agent), limit: Some(ROWS), ..ListQuery::default() };
    let listing: Listing = client.list(&query).await?;
    let view = world.view();
    let mut out = render::roster(&roster, &view);
    if !(listing.active.is_empty() && listing.history.is_empty()) {
        let limits = ListLimits { rows: ROWS, more: "/tasks lists all" };
        out.push_str(&render::list(&listing, limits, &view));
    }
    world.print(out)
}
