//! What an agent is when it begins: from its task's record, the settings and its team.
//!
//! What decides how it goes on is fixed in its journal then ([`Setup`]). What merely serves it ([`Serves`]: where its
//! model is, its shell's variables, its MCP servers) is found anew whenever it is driven, as files and settings are then.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Settings;
use super::words;
use crate::agent::journal::Setup;
use crate::agent::model::{Format, ModelName, Models, Provider, ToolSpec};
use crate::agent::team::{Agent, Here, Kind, Mcp, Model, Reach, Team, Toolset};
use crate::agent::tools::policy::{Policy, Rule};
use crate::agent::tools::{Set, TOOLS};
use crate::config::{Config, Secret};
use crate::task::Task;

/// The most tokens of one reply when a team does not say.
const MAX_OUTPUT: u32 = 8192;

/// The largest team file, in bytes.
const TEAM_MAX: u64 = 1 << 20;

/// What serves an agent while it is driven.
#[derive(Debug, Clone, Default)]
pub(super) struct Serves {
    /// Variables of its shell commands.
    pub shell: BTreeMap<String, String>,
    /// Its MCP servers.
    pub mcp: Vec<Toolset>,
    /// What its settings differ in: where its model is, and the key.
    model: Option<Model>,
}

/// A team's file, read.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub team: Team,
}

/// The file of the team that a task or a request names; empty: the one of the settings.
pub(super) fn team_path(named: &str, config: &Config, workspace: &Path) -> Option<PathBuf> {
    if named.is_empty() { config.team.clone() } else { Some(workspace.join(named)) }
}

/// Reads a team's file.
///
/// # Errors
/// Why there is no team, for people.
pub(super) fn load(path: &Path) -> Result<Loaded, String> {
    let text = match std::fs::metadata(path) {
        Ok(meta) if meta.len() > TEAM_MAX => Err("it is larger than 1 MiB".to_owned()),
        Ok(_) => std::fs::read_to_string(path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let text = text.map_err(|why| format!("the team file {} cannot be read: {why}", path.display()))?;
    let team = Team::read(&text, Here { docker: has_docker() });
    let team = team.map_err(|error| format!("the team file {}: {error}", path.display()))?;
    Ok(Loaded { path: path.to_owned(), team })
}

/// Whether there is a Docker with its MCP gateway: looked for, not run.
fn has_docker() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let docker = std::env::split_paths(&path).any(|folder| folder.join("docker").is_file());
    let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().join(".docker/cli-plugins"));
    let shared = ["/usr/lib/docker", "/usr/libexec/docker", "/usr/local/lib/docker", "/usr/local/libexec/docker"];
    let mut plugins = shared.iter().map(|folder| Path::new(folder).join("cli-plugins")).chain(home);
    docker && plugins.any(|folder| folder.join("docker-mcp").exists())
}

/// The model of an agent: the task's own, else its team's, else the settings'.
///
/// # Errors
/// When there is none, or it makes no sense, or its key is missing: with what to set.
pub(super) fn model_of(named: &str, agent: Option<&Agent>, config: &Config) -> Result<ModelName, String> {
    let of_team = agent.and_then(|agent| agent.model.as_ref()).map(|model| model.name.as_str());
    let all = [Some(named), of_team, Some(config.model.as_str())];
    let Some(name) = all.into_iter().flatten().map(str::trim).find(|name| !name.is_empty()) else {
        return Err(words::NO_MODEL.to_owned());
    };
    name.parse().map_err(|why| format!("`{name}` is no model: {why}"))
}

/// Whether the model can be asked at all.
///
/// # Errors
/// With what to set.
pub(super) fn check_model(model: &ModelName, serves: &Serves, settings: &Settings) -> Result<(), String> {
    serves.models(settings).check(model).map_err(|error| error.message)
}

impl Serves {
    /// What a team, or `octo.toml`, says for an agent.
    pub(super) fn of(agent: Option<&Agent>, config: &Config) -> Serves {
        let mut serves = Serves { mcp: of_settings(&config.mcp), ..Serves::default() };
        let Some(agent) = agent else { return serves };
        serves.model.clone_from(&agent.model);
        for set in &agent.toolsets {
            match &set.kind {
                Kind::Shell { env } => serves.shell.extend(env.iter().map(|(k, v)| (k.clone(), v.clone()))),
                Kind::Mcp(_) => serves.mcp.push(set.clone()),
                Kind::Think | Kind::Todo | Kind::Filesystem | Kind::BackgroundAgents => {}
            }
        }
        serves
    }

    /// Who is asked. A team's model may be elsewhere than the settings say.
    pub(super) fn models(&self, settings: &Settings) -> Models {
        let Some(Model { name, base_url, token_key, .. }) = &self.model else { return settings.models.clone() };
        if base_url.is_none() && token_key.is_none() {
            return settings.models.clone();
        }
        let Ok(name) = name.parse::<ModelName>() else { return settings.models.clone() };
        let mut config = settings.config.clone();
        let key = token_key.as_ref().and_then(|name| std::env::var(name).ok()).map(Secret::new);
        let url = base_url.clone();
        match name.provider() {
            Provider::Anthropic => {
                config.anthropic_base_url = url.unwrap_or(config.anthropic_base_url);
                config.anthropic_api_key = key.unwrap_or(config.anthropic_api_key);
            }
            Provider::OpenAi => {
                config.openai_base_url = url.unwrap_or(config.openai_base_url);
                config.openai_api_key = key.unwrap_or(config.openai_api_key);
            }
            Provider::Gemini => config.gemini_api_key = key.unwrap_or(config.gemini_api_key),
            Provider::Ollama => config.ollama_host = url.unwrap_or(config.ollama_host),
            Provider::Demo => {}
        }
        Models::new(&config, &settings.workspace)
    }
}

/// `[mcp.NAME]` of `octo.toml`: `command`, `args` and `env`, or `url` and `headers`; `tools` names those that count.
fn of_settings(mcp: &Value) -> Vec<Toolset> {
    let Some(tables) = mcp.as_object() else { return Vec::new() };
    tables.iter().filter_map(|(name, table)| toolset(name, table)).collect()
}

fn toolset(name: &str, table: &Value) -> Option<Toolset> {
    let text = |key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
    let list = |key: &str| -> Option<Vec<String>> {
        Some(table.get(key)?.as_array()?.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
    };
    let map = |key: &str| -> BTreeMap<String, String> {
        let fields = table.get(key).and_then(Value::as_object).into_iter().flatten();
        fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    };
    let reach = match (text("command"), text("url")) {
        (Some(command), _) => Reach::Command { command, args: list("args").unwrap_or_default(), env: map("env") },
        (None, Some(url)) => {
            let transport = text("transport").unwrap_or_else(|| "streamable".to_owned());
            Reach::Remote { url, transport, headers: map("headers") }
        }
        (None, None) => return None,
    };
    let instruction = text("instruction").unwrap_or_default();
    let kind = Kind::Mcp(Mcp { name: name.to_owned(), reach });
    Some(Toolset { kind, tools: list("tools"), instruction, line: 0 })
}

/// What an agent is made of.
pub(super) struct Parts<'a> {
    /// Its task.
    pub task: &'a Task,
    /// Its team, and itself in it.
    pub team: Option<(&'a Loaded, &'a Agent)>,
    /// The settings.
    pub settings: &'a Settings,
    /// The tools of its MCP servers.
    pub mcp: Vec<ToolSpec>,
    /// How many agents stand above it, itself included.
    pub depth: usize,
    /// The date, for people.
    pub today: String,
}

/// Makes it.
///
/// # Errors
/// What to set, when it has no model.
pub(super) fn setup(parts: Parts<'_>) -> Result<Setup, String> {
    let Parts { task, team, settings, mcp, depth, today } = parts;
    let agent = team.map(|(_, agent)| agent);
    let model = model_of(&task.model, agent, &settings.config)?;
    let of_agent = agent.and_then(|agent| agent.model.as_ref());
    let fallback = agent.map(|a| a.fallback.iter().filter_map(|m| m.name.parse().ok()).collect()).unwrap_or_default();
    let folder = if task.cwd.is_empty() { settings.workspace.display().to_string() } else { task.cwd.clone() };
    let rule = Rule::from(settings.config.shell_policy);
    let chat = task.is_chat();
    let sub_agents: Vec<String> = match (chat, team) {
        // The supervisor agent may start every agent of the team.
        (true, Some((loaded, _))) => loaded.team.agents.iter().map(|agent| agent.name.clone()).collect(),
        (false, Some((_, agent))) => agent.sub_agents.clone(),
        (_, None) => Vec::new(),
    };
    let tools = tools(if chat { None } else { agent }, chat, !sub_agents.is_empty());
    let system = system(task, team, chat, &folder, &today, &sub_agents);
    let most = of_agent.and_then(|model| model.max_tokens).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    Ok(Setup {
        v: Format,
        run: task.run,
        agent: if chat { String::new() } else { agent.map(|agent| agent.name.clone()).unwrap_or_default() },
        team: team.map(|(loaded, _)| loaded.path.clone()),
        model,
        fallback,
        system,
        tools,
        sub_agents,
        mcp,
        policy: Policy { shell: rule, network: rule },
        folder,
        depth,
        max_output: most.unwrap_or(MAX_OUTPUT),
        temperature: of_agent.and_then(|model| model.temperature),
        effort: None,
        chat,
    })
}

/// Octo's own tools that an agent has, in the table's order.
fn tools(agent: Option<&Agent>, chat: bool, has_sub_agents: bool) -> Vec<String> {
    let has = |set: Set, name: &str| match set {
        Set::Always => !chat || name != "task_complete",
        Set::Supervisor => chat,
        Set::Delegation => has_sub_agents,
        Set::BackgroundAgents if chat => name != "run_background_agent" || has_sub_agents,
        Set::Filesystem if chat => matches!(name, "read_file" | "list_files" | "search_files"),
        Set::Think | Set::Todo | Set::Shell if chat => false,
        Set::Filesystem | Set::Shell | Set::Think | Set::Todo if agent.is_none() => true,
        Set::BackgroundAgents if agent.is_none() => false,
        Set::Filesystem | Set::Shell | Set::Think | Set::Todo | Set::BackgroundAgents => {
            let all = agent.map(|agent| agent.toolsets.as_slice()).unwrap_or_default();
            let sets = all.iter().filter(|toolset| set_of(&toolset.kind) == Some(set));
            sets.into_iter().any(|t| t.tools.as_ref().is_none_or(|names| names.iter().any(|n| n == name)))
        }
    };
    TOOLS.iter().filter(|tool| has(tool.set, tool.name)).map(|tool| tool.name.to_owned()).collect()
}

fn set_of(kind: &Kind) -> Option<Set> {
    match kind {
        Kind::Think => Some(Set::Think),
        Kind::Todo => Some(Set::Todo),
        Kind::Filesystem => Some(Set::Filesystem),
        Kind::Shell { .. } => Some(Set::Shell),
        Kind::BackgroundAgents => Some(Set::BackgroundAgents),
        Kind::Mcp(_) => None,
    }
}

/// Its instructions.
fn system(
    task: &Task,
    team: Option<(&Loaded, &Agent)>,
    chat: bool,
    folder: &str,
    today: &str,
    sub_agents: &[String],
) -> String {
    let mut text = String::new();
    if chat {
        let _ = write!(text, "{}", words::SUPERVISOR);
    } else {
        let name = team.map(|(_, agent)| agent.name.as_str()).filter(|name| *name != "root");
        let name = name.map(|name| format!(", `{name}`")).unwrap_or_default();
        let number = if task.number > 0 { format!("#{} ", task.number) } else { String::new() };
        let _ = write!(text, "You are an agent{name}, and work on task {number}{} in the background. ", task.id);
        text.push_str(words::WORKER);
    }
    let _ = write!(text, "\n\nYour folder is {folder}. Today is {today}.");
    if let Some((loaded, agent)) = team {
        let others: Vec<&Agent> = sub_agents.iter().filter_map(|name| loaded.team.agent(name)).collect();
        if !others.is_empty() {
            text.push_str("\n\nThe agents that you can start:");
        }
        for other in others {
            let about = if other.description.is_empty() { "(no description)" } else { other.description.trim() };
            let _ = write!(text, "\n- {}: {about}", other.name);
        }
        if !chat {
            let own = agent.toolsets.iter().map(|set| set.instruction.trim());
            for part in std::iter::once(agent.instruction.trim()).chain(own).filter(|part| !part.is_empty()) {
                let _ = write!(text, "\n\n{part}");
            }
            if agent.add_environment_info {
                let _ = write!(text, "\n\nThe system is {} on {}.", std::env::consts::OS, std::env::consts::ARCH);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{CHAT, Kind as TaskKind, Stamp};

    const TEAM: &str = "agents:\n  root: {model: demo/echo, instruction: Lead., sub_agents: [one], toolsets: [{type: \
                        background_agents}]}\n  one: {model: demo/tour, description: the first, toolsets: [{type: filesystem, tools: \
                        [read_file]}, {type: shell, env: {COLOUR: red}}]}\n";

    fn of(task: &Task, team: Option<(&Loaded, &Agent)>, config: &Config) -> Result<Setup, String> {
        let (settings, _) = Settings::new(config, Path::new("/work"));
        let today = "today".to_owned();
        setup(Parts { task, team, settings: &settings, mcp: Vec::new(), depth: 1, today })
    }

    fn task() -> Task {
        let mut task = Task::new("c4b1e09a".parse().unwrap(), 3, Stamp::default());
        task.kind = TaskKind::Agent;
        task
    }

    fn team() -> Loaded {
        Loaded { path: "/work/team.yaml".into(), team: Team::read(TEAM, Here::default()).unwrap() }
    }

    #[test]
    fn the_model_is_the_tasks_own_then_the_teams_then_the_settings() {
        let team = team();
        let agent = team.team.agent("one");
        let config = Config { model: "demo/spender".to_owned(), ..Config::default() };
        let name = |named: &str, agent, config: &Config| model_of(named, agent, config).map(|model| model.to_string());
        assert_eq!(name("demo/script", agent, &config).unwrap(), "demo/script");
        assert_eq!(name("", agent, &config).unwrap(), "demo/tour");
        assert_eq!(name("", None, &config).unwrap(), "demo/spender");
        assert!(name("", None, &Config::default()).unwrap_err().contains("OCTO_MODEL"));
    }

    #[test]
    fn tools_are_those_of_the_toolsets() {
        let config = Config { model: "demo/echo".to_owned(), ..Config::default() };
        let alone = of(&task(), None, &config).unwrap();
        for name in ["read_file", "write_file", "shell", "think", "create_todos", "task_complete", "escalate_question"]
        {
            assert!(alone.tools.iter().any(|tool| tool == name), "{name}");
        }
        assert!(!alone.tools.iter().any(|tool| tool.contains("background") || tool == "transfer_task"));
        let team = team();
        let one = of(&task(), Some((&team, team.team.agent("one").unwrap())), &config).unwrap();
        assert_eq!(one.tools, ["read_file", "shell", "task_complete", "escalate_question"]);
        let root = of(&task(), Some((&team, team.team.agent("root").unwrap())), &config).unwrap();
        assert!(
            root.tools.iter().any(|tool| tool == "run_background_agent") && !root.tools.iter().any(|t| t == "shell")
        );
        assert!(root.tools.iter().any(|tool| tool == "transfer_task"), "{:?}", root.tools);
        assert!(root.system.contains("Lead.") && root.system.contains("- one: the first"), "{}", root.system);
        assert_eq!(Serves::of(team.team.agent("one"), &config).shell["COLOUR"], "red");
    }

    #[test]
    fn the_supervisor_only_reads_and_dispatches() {
        let mut task = task();
        task.thread_id = format!("{CHAT}repl");
        let config = Config { model: "demo/echo".to_owned(), ..Config::default() };
        let setup = of(&task, None, &config).unwrap();
        assert!(setup.chat);
        for tool in ["shell", "write_file", "edit_file", "task_complete", "run_background_agent", "transfer_task"] {
            assert!(!setup.tools.iter().any(|name| name == tool), "{tool}");
        }
        for tool in ["read_file", "dispatch_background", "stop_background_agent", "escalate_question"] {
            assert!(setup.tools.iter().any(|name| name == tool), "{tool}");
        }
    }

    #[test]
    fn servers_of_the_settings_are_read() {
        let mcp = serde_json::json!({
            "files": {"command": "npx", "args": ["-y", "x"], "env": {"A": "b"}, "tools": ["look"]},
            "web": {"url": "https://example.org/mcp"}, "nothing": {}
        });
        let sets = of_settings(&mcp);
        assert_eq!(sets.len(), 2, "{sets:?}");
        assert_eq!(sets[0].tools.as_deref(), Some(&["look".to_owned()][..]));
    }
}
