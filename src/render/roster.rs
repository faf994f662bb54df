//! The agents of a team.

use unicode_width::UnicodeWidthStr;

use super::{Paint, View, fit, sanitize};
use crate::command::{Roster, RosterAgent};

/// The team, an agent a line, or how to get one; lines are ended.
#[must_use]
pub fn roster(roster: &Roster, view: &View) -> String {
    let mut out = String::new();
    let mut line = |paint: Option<Paint>, text: &str| {
        let text = view.width.map_or_else(|| text.to_owned(), |width| fit(text, width));
        out.push_str(&paint.map_or_else(|| text.clone(), |paint| view.paint(paint, &text)));
        out.push('\n');
    };
    let model = match sanitize::line(&roster.model) {
        none if none.is_empty() => {
            "no model is set: OCTO_MODEL, or --model; demo/tour needs neither key nor network".to_owned()
        }
        model => format!("model {model}"),
    };
    match (roster.team.as_str(), sanitize::line(&roster.problem)) {
        ("", _) => line(Some(Paint::Dim), &format!("no team (OCTO_TEAM): an agent works by itself · {model}")),
        (_, problem) if !problem.is_empty() => line(Some(Paint::Red), &problem),
        (team, _) => line(Some(Paint::Dim), &format!("team {} · {model}", sanitize::line(team))),
    }
    let width = roster.agents.iter().map(|a| sanitize::line(&a.name).width()).max().unwrap_or(0);
    for agent in &roster.agents {
        line(None, &row(agent, agent.name == roster.root, width));
    }
    out
}

fn row(agent: &RosterAgent, is_root: bool, width: usize) -> String {
    let name = sanitize::line(&agent.name);
    let mark = if is_root { '*' } else { ' ' };
    let mut out = format!("{mark} {name}{:1$}  {2}", "", width - name.width(), sanitize::line(&agent.description));
    if !agent.model.is_empty() {
        out.push_str(&format!(" ({})", sanitize::line(&agent.model)));
    }
    if !agent.sub_agents.is_empty() {
        out.push_str(&format!(" → {}", sanitize::line(&agent.sub_agents.join(", "))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_an_agent_a_line() {
        let agent = |name: &str, model: &str, subs: &[&str]| RosterAgent {
            name: name.to_owned(),
            model: model.to_owned(),
            description: format!("Does\x1b[2J {name}'s work"),
            sub_agents: subs.iter().map(|s| (*s).to_owned()).collect(),
        };
        let mut team = Roster {
            team: "/srv/team.yaml".to_owned(),
            root: "root".to_owned(),
            agents: vec![agent("root", "", &["coder", "writer"]), agent("coder", "x/y", &[]), agent("writer", "", &[])],
            model: "demo/tour".to_owned(),
            problem: String::new(),
        };
        let view = View { width: Some(60), colour: false, now: 0 };
        let none = roster(&Roster::default(), &View::plain(0));
        let whole = roster(&team, &view);
        team.agents.clear();
        team.problem = "the team file /srv/team.yaml: line 3: no".to_owned();
        insta::assert_snapshot!(format!("{whole}{}{none}", roster(&team, &view)), @"");
    }
}
