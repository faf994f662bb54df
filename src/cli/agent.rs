//! `octo agent`: starts an agent task.

use std::path::{Path, PathBuf};

use clap::Args;

use super::start::{Options, dollars, usage};
use super::{Failure, World};
use crate::command::{Refused, StartRequest};
use crate::task::Kind;

/// The options of `octo agent`.
#[derive(Debug, Clone, Default, Args)]
pub struct AgentArgs {
    #[command(flatten)]
    options: Options,
    /// The agent of the team [default: root]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The file that describes the team [default: the one of the settings]
    #[arg(long, value_name = "FILE")]
    team: Option<PathBuf>,
    /// The model, as PROVIDER/MODEL [default: the agent's own, else OCTO_MODEL]
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// Stops it, until you raise that, when so many tokens are used
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    budget_tokens: Option<u64>,
    /// The same in US dollars
    #[arg(long, value_name = "X", value_parser = dollars)]
    budget_usd: Option<f64>,
    /// How many turns it may take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_turns: Option<u32>,
    /// What it is to do, in plain words
    #[arg(trailing_var_arg = true, required = true, value_name = "PROMPT")]
    prompt: Vec<String>,
}

/// Starts the task and tells its id.
pub(super) async fn run(world: &World, args: AgentArgs) -> Result<(), Failure> {
    let client = world.client()?.ahead();
    let prompt = args.prompt.join(" ");
    if prompt.trim().is_empty() {
        return Err(usage("there is nothing to do in the prompt".to_owned())
            .hint("octo agent 'run all the tests and fix any failures'")
            .into());
    }
    let request = StartRequest {
        kind: Kind::Agent,
        agent_id: args.agent.unwrap_or_default(),
        prompt,
        model: args.model.unwrap_or_default(),
        team: args.team.as_deref().map(|file| team(world, file)).transpose()?.unwrap_or_default(),
        budget_tokens: args.budget_tokens,
        budget_usd: args.budget_usd,
        max_turns: args.max_turns,
        ..args.options.request(world)?
    };
    let started = client.start(request).await?;
    args.options.tell(world, vec![started], false).await
}

/// A team file as the daemon finds it, wherever that runs.
fn team(world: &World, file: &Path) -> Result<String, Refused> {
    let whole = world.cwd()?.join(file);
    whole.into_os_string().into_string().map_err(|_| {
        usage(format!("--team {}: a name that is no UTF-8", file.display())).hint("give the file another name")
    })
}
