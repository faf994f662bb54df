//! Which agents there are.

use super::{Hub, setup};
use crate::command::{Roster, RosterAgent};

impl Hub {
    /// The team of the settings, as its file is now. It reads the disk.
    #[must_use]
    pub fn roster(&self) -> Roster {
        let settings = self.inner.now_settings();
        let model = settings.config.model.clone();
        let Some(path) = setup::team_path("", &settings.config, &self.inner.workspace) else {
            return Roster { model, ..Roster::default() };
        };
        let team = path.display().to_string();
        let loaded = match setup::load(&path) {
            Ok(loaded) => loaded,
            Err(problem) => return Roster { team, model, problem, ..Roster::default() },
        };
        let of = |agent: crate::agent::team::Agent| RosterAgent {
            name: agent.name,
            model: agent.model.map(|model| model.name).unwrap_or_default(),
            description: agent.description,
            sub_agents: agent.sub_agents,
        };
        let agents = loaded.team.agents.into_iter().map(of).collect();
        Roster { team, root: loaded.team.root, agents, model, problem: String::new() }
    }
}
