//! How a print-mode `claude` is given its way to ask: Octo's MCP server, and its permission handler.
//!
//! What is added only adds: where the command line, `ADDITIONAL_CLAUDE_ARGS` or claude's own settings say
//! something about the same thing, they stay alone. claude's rules (allow, deny, modes) decide first, and only
//! what it would have asked a person about comes to Octo.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::flags::Reading;
use crate::config::ClaudeBridge;

/// The name of the MCP server, for claude.
const SERVER: &str = "octo";
/// The tool for questions, as claude names it.
const QUESTIONS: &str = "mcp__octo__escalate_question";
/// The permission handler, as claude names it.
const HANDLER: &str = "mcp__octo__permission";

/// How long claude may wait for one call, in milliseconds: the longest that its timers know, some 24 days. This
/// holds for Octo's server alone, and there it also stands for what `MCP_TOOL_TIMEOUT` and the idle time-out say.
const WAIT_MS: u32 = i32::MAX.cast_unsigned();

/// Keeps the folder in which a shell command acts the one that claude was started in, which is the one that its
/// owner is shown. Without it a `cd` lasts from one command to the next, and nobody but claude knows where it is.
const KEEP_FOLDER: &str = "CLAUDE_BASH_MAINTAIN_PROJECT_WORKING_DIR";

/// Options of runs that are elsewhere, or have none of the user's servers: they ask nobody here.
const WITHOUT: [&str; 9] = [
    "--attach-serve",
    "--background",
    "--bg",
    "--cloud",
    "--environment",
    "--remote",
    "--safe-mode",
    "--sdk-url",
    "--teleport",
];

/// Settings by which somebody decides which MCP servers there may be. claude ends with an error when a permission
/// handler that it was given is among those that are not.
const POLICIES: [&str; 3] = ["\"allowedMcpServers\"", "\"deniedMcpServers\"", "\"allowManagedMcpServersOnly\""];

/// A file of claude's larger than this is not looked into.
const FILE_MAX: u64 = 32 * 1024 * 1024;

/// What is known of the task, and of claude's settings.
#[derive(Debug, Clone, Default)]
pub struct Bridge {
    /// How far it goes.
    pub reach: ClaudeBridge,
    /// The program whose `mcp` is the server.
    pub octo: PathBuf,
    /// Somebody has decided already whether a `cd` lasts from one shell command to the next.
    pub folder_is_set: bool,
    /// claude's settings files that may say which MCP servers there may be.
    pub settings: Vec<PathBuf>,
    /// Files that may name MCP servers for claude in `mcpServers`, or for some folder in `projects`.
    pub servers: Vec<PathBuf>,
    /// Files whose mere existence forbids further MCP servers.
    pub forbidding: Vec<PathBuf>,
}

/// What to add to a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) words: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) warning: Option<String>,
}

/// Whose the MCP server is that somebody configured under Octo's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Nobodys,
    Octos,
    Another,
}

impl Bridge {
    /// The bridge of the task that this process is part of; `None` outside of a task, and where there is none.
    pub(super) fn here() -> Option<Bridge> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        set("OCTO_TASK_ID")?;
        let word = set("OCTO_CLAUDE_BRIDGE").and_then(|word| word.to_str()?.parse().ok());
        let reach: ClaudeBridge = word.unwrap_or_default();
        let safe_mode = set("CLAUDE_CODE_SAFE_MODE").is_some_and(|v| v != "0" && v != "false");
        let octo = std::env::current_exe().ok()?.with_file_name("octo");
        let is_whole = octo.exists() && octo.with_file_name("octod").exists();
        if reach == ClaudeBridge::Off || safe_mode || !is_whole {
            return None;
        }
        let own = set("CLAUDE_CONFIG_DIR").map(PathBuf::from);
        let home = std::env::home_dir();
        let user = own.clone().or_else(|| Some(home.as_ref()?.join(".claude")));
        let cwd = std::env::current_dir().ok()?;
        let managed = Path::new("/etc/claude-code");
        let mut settings = vec![managed.join("managed-settings.json")];
        settings
            .extend(fs::read_dir(managed.join("managed-settings.d")).into_iter().flatten().flatten().map(|e| e.path()));
        settings
            .extend(user.iter().flat_map(|dir| ["settings.json", "remote-settings.json"].map(|name| dir.join(name))));
        settings.extend(["settings.json", "settings.local.json"].map(|name| cwd.join(".claude").join(name)));
        let mut servers: Vec<PathBuf> = own.or(home).map(|dir| dir.join(".claude.json")).into_iter().collect();
        servers.extend(cwd.ancestors().map(|dir| dir.join(".mcp.json")));
        let forbidding = vec![managed.join("managed-mcp.json")];
        Some(Bridge {
            reach,
            octo,
            folder_is_set: std::env::var_os(KEEP_FOLDER).is_some(),
            settings,
            servers,
            forbidding,
        })
    }

    /// What to add to a print-mode run that says what `reading` says.
    pub(super) fn additions(&self, reading: &Reading) -> Added {
        let mut added = Added::default();
        if self.reach == ClaudeBridge::Off || WITHOUT.iter().any(|name| reading.has(name)) || self.is_forbidden(reading)
        {
            return added;
        }
        let on_line = reading.values("--mcp-config").map(given_servers).max().unwrap_or(Whose::Nobodys);
        let in_files = self.servers.iter().filter_map(|path| read(path)).map(|text| servers(&text)).max();
        if on_line == Whose::Another || in_files == Some(Whose::Another) {
            let what = "claude has an MCP server named `octo` that is not Octo's: it stays, and this run cannot ask";
            added.warning = Some(what.to_owned());
            return added;
        }
        let handler = self.reach == ClaudeBridge::Full && leaves_prompts_open(reading);
        let named = reading.values("--permission-prompt-tool").any(|tool| tool == HANDLER);
        let Some(config) = self.config(handler || named) else { return added };
        if on_line == Whose::Nobodys {
            added.words.push(format!("--mcp-config={config}").into());
        }
        if handler {
            added.words.push(format!("--permission-prompt-tool={HANDLER}").into());
        }
        let allowed = ["--allowedTools", "--allowed-tools"].into_iter().flat_map(|name| reading.values(name));
        if !allowed.into_iter().any(|value| value == QUESTIONS) {
            added.words.push(format!("--allowedTools={QUESTIONS}").into());
        }
        if handler && !self.folder_is_set {
            added.env.push((KEEP_FOLDER.into(), "1".into()));
        }
        added
    }

    /// The server for claude. `alwaysLoad`: the first thing that the model is asked waits for it.
    fn config(&self, handler: bool) -> Option<Value> {
        // claude puts variables in the place of `${...}`, and knows no way to write it plainly.
        let octo = self.octo.to_str().filter(|path| !path.contains("${"))?;
        let reach = if handler { ClaudeBridge::Full } else { ClaudeBridge::Questions };
        let env = json!({"OCTO_CLAUDE_BRIDGE": reach.word()});
        let server = json!({"command": octo, "args": ["mcp"], "env": env, "alwaysLoad": true, "timeout": WAIT_MS});
        Some(json!({"mcpServers": {SERVER: server}}))
    }

    /// Somebody decides which MCP servers there may be.
    fn is_forbidden(&self, reading: &Reading) -> bool {
        let decides = |text: Vec<u8>| POLICIES.iter().any(|policy| holds(&text, policy));
        let given = reading.values("--settings").filter_map(|value| match value.to_str() {
            Some(text) if text.trim_start().starts_with('{') => Some(text.as_bytes().to_vec()),
            Some(_) | None => read(Path::new(value)),
        });
        let files = self.settings.iter().filter_map(|path| read(path));
        self.forbidding.iter().any(|path| path.exists()) || given.chain(files).any(decides)
    }
}

/// The command line leaves it open who is asked for permission, and something may be asked.
fn leaves_prompts_open(reading: &Reading) -> bool {
    let decided = ["--permission-prompt-tool", "--permission-prompts", "--dangerously-skip-permissions"];
    let mode = reading.values("--permission-mode").last();
    !decided.iter().any(|name| reading.has(name)) && mode.is_none_or(|m| m != "bypassPermissions" && m != "dontAsk")
}

/// Whose `octo` is in one value of `--mcp-config`: JSON, or the name of a file of it.
fn given_servers(value: &OsStr) -> Whose {
    match value.to_str() {
        Some(text) if text.trim_start().starts_with('{') => servers(text.as_bytes()),
        Some(_) | None => read(Path::new(value)).map_or(Whose::Nobodys, |text| servers(&text)),
    }
}

/// Whose `octo` is in a file of claude's: among its servers, or among those of the folder that claude runs in or
/// of one above.
fn servers(text: &[u8]) -> Whose {
    if !holds(text, "\"octo\"") {
        return Whose::Nobodys;
    }
    let Ok(file) = serde_json::from_slice::<Value>(text) else { return Whose::Nobodys };
    let cwd = std::env::current_dir().unwrap_or_default();
    let projects = file["projects"].as_object().into_iter().flatten();
    let here = projects.filter(|(folder, _)| cwd.starts_with(folder)).map(|(_, project)| project);
    here.chain([&file]).map(|place| whose(&place["mcpServers"][SERVER])).max().unwrap_or(Whose::Nobodys)
}

fn whose(server: &Value) -> Whose {
    if server.is_null() {
        return Whose::Nobodys;
    }
    let program = server["command"].as_str().and_then(|command| Path::new(command).file_name());
    let is_octo =
        program == Some(OsStr::new(SERVER)) && server["args"].as_array().is_some_and(|a| a.contains(&"mcp".into()));
    if is_octo { Whose::Octos } else { Whose::Another }
}

fn holds(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|part| part == word.as_bytes())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = fs::File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > FILE_MAX {
        return None;
    }
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
#[path = "bridge/tests.rs"]
mod tests;
