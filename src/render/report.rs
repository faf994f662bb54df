//! What `octo status` shows.

use super::{Paint, View, ago, count, sanitize, waiting};
use crate::bridge::Health;
use crate::command::StatusReport;
use crate::task::{Stamp, Status};

/// The daemon's state, its bridges, its settings and where each came from; lines are ended. `list` says where open
/// questions are seen.
#[must_use]
pub fn report(status: &StatusReport, list: &str, view: &View) -> String {
    let mut out = String::new();
    let mut field = |label: &str, value: &str| {
        out.push_str(&format!("{} {}\n", view.paint(Paint::Dim, &format!("{label:<10}")), value));
    };
    let since = stamp(&status.started_at).map(|at| format!(", started {}", ago(view.now - at))).unwrap_or_default();
    field("daemon", &format!("pid {}, version {}{since}", status.pid, sanitize::line(&status.version)));
    field("workspace", &sanitize::line(&status.workspace));
    let over = if status.slots_used > status.slots { " (answered tasks may go over the limit)" } else { "" };
    field("slots", &format!("{} of {} in use{over}", status.slots_used, status.slots));
    field("tasks", &counts(status));
    if status.open_questions > 0 {
        let told = format!("{}: {list}", waiting(status.open_questions));
        field("questions", &view.paint(Paint::Yellow, &told));
    }
    if !status.degraded.is_empty() {
        field("degraded", &view.paint(Paint::Red, &sanitize::line(&status.degraded)));
    }
    for problem in &status.problems {
        field("problem", &view.paint(Paint::Yellow, &sanitize::line(problem)));
    }
    for bridge in &status.bridges {
        let (line, problem) = bridge_line(bridge);
        field("bridge", &line);
        if !problem.is_empty() {
            field("", &view.paint(Paint::Yellow, &problem));
        }
    }
    settings(status, view, &mut out);
    out
}

fn counts(status: &StatusReport) -> String {
    let said: Vec<String> = Status::ALL
        .iter()
        .filter_map(|s| status.counts.get(s.word()).filter(|n| **n > 0).map(|n| format!("{n} {s}")))
        .collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// How a bridge is and what it still owes, and why it is not well.
fn bridge_line(bridge: &serde_json::Value) -> (String, String) {
    let Ok(health) = serde_json::from_value::<Health>(bridge.clone()) else {
        return (sanitize::line(&bridge.to_string()), String::new());
    };
    if health.name.is_empty() {
        return (sanitize::line(&bridge.to_string()), String::new());
    }
    let owed = match health.owed {
        0 => String::new(),
        n => format!(", {} not delivered", count(n, "notice")),
    };
    (
        format!("{}: {}{owed}", sanitize::line(&health.name), sanitize::line(&health.health)),
        sanitize::line(&health.problem),
    )
}

/// What somebody set. Defaults are many and dull: just where they can be seen.
fn settings(status: &StatusReport, view: &View, out: &mut String) {
    let (default, own): (Vec<_>, Vec<_>) = status.settings.iter().partition(|s| s.source == "default");
    let width = own.iter().map(|s| s.name.len()).max().unwrap_or(0);
    if status.settings.is_empty() {
        return;
    }
    let rest = match (own.len(), default.len()) {
        (_, 0) => String::new(),
        (0, _) => "all at their defaults; `octo status --json` lists them".to_owned(),
        (_, n) => format!("{n} more at their defaults; `octo status --json` lists all"),
    };
    let head = if own.is_empty() { format!("{:<10} {rest}", "settings") } else { "settings".to_owned() };
    out.push_str(&format!("{}\n", view.paint(Paint::Dim, &head)));
    for s in &own {
        let value = sanitize::line(&s.value);
        let value = if value.is_empty() { "-".to_owned() } else { value };
        let source = view.paint(Paint::Dim, &format!("({})", sanitize::line(&s.source)));
        out.push_str(&format!("  {:<width$}  {value}  {source}\n", sanitize::line(&s.name)));
    }
    if !own.is_empty() && !rest.is_empty() {
        out.push_str(&format!("  {}\n", view.paint(Paint::Dim, &rest)));
    }
}

fn stamp(text: &str) -> Option<i64> {
    serde_json::from_value::<Stamp>(serde_json::Value::String(text.to_owned())).ok()?.millis()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::NOW;
    use super::*;
    use crate::command::SettingInfo;

    #[test]
    fn status_shows_what_was_set_and_where() {
        let setting = |name: &str, value: &str, source: &str| SettingInfo {
            name: name.into(),
            value: value.into(),
            source: source.into(),
        };
        let status = StatusReport {
            open_questions: 2,
            pid: 4711,
            version: "0.1.0".into(),
            workspace: "/srv/work".into(),
            started_at: Stamp::from_millis(NOW - 65_000).to_string(),
            slots: 3,
            slots_used: 4,
            counts: [("running".to_owned(), 4), ("completed".to_owned(), 12), ("failed".to_owned(), 0)].into(),
            degraded: "no space left on device".into(),
            problems: vec!["1 record in quarantine".into()],
            settings: vec![
                setting("BG_MAX_CONCURRENT", "3", "default"),
                setting("ADDITIONAL_CLAUDE_ARGS", "--verbose\x1b[2J", ".env"),
                setting("OCTO_LOG", "", "default"),
            ],
            bridges: vec![
                serde_json::json!({"name": "telegram", "health": "polling", "owed": 0}),
                serde_json::json!({"name": "other", "health": "not reachable", "owed": 3, "problem": "429: too many\x1b[2J requests"}),
                serde_json::json!("odd"),
            ],
            notice_seq: 9,
        };
        insta::assert_snapshot!(report(&status, "`octo tasks` lists them", &View::plain(NOW)), @r#"
        daemon     pid 4711, version 0.1.0, started 1m ago
        workspace  /srv/work
        slots      4 of 3 in use (answered tasks may go over the limit)
        tasks      4 running, 12 completed
        questions  2 questions wait: `octo tasks` lists them
        degraded   no space left on device
        problem    1 record in quarantine
        bridge     telegram: polling
        bridge     other: not reachable, 3 notices not delivered
                   429: too many requests
        bridge     "odd"
        settings
          ADDITIONAL_CLAUDE_ARGS  --verbose  (.env)
          2 more at their defaults; `octo status --json` lists all
        "#);
        let dull = StatusReport { settings: status.settings[2..].to_vec(), ..status };
        let last = report(&dull, "", &View::plain(NOW)).lines().last().unwrap().to_owned();
        assert_eq!(last, "settings   all at their defaults; `octo status --json` lists them");
    }
}
