//! Settings: one table, four sources, and a start that no bad value can stop.
//!
//! [`VARS`] is the whole truth about settings: what they are called, what they do, how they are read.
//! [`Config::load`] asks for each row in turn the real environment, `.env`, `octo.toml` and the default.
//! `.env.example`, the README's table and `octo status` are generated from the same rows. Nothing is ever
//! put into the process's environment: a key that is known only from a file cannot leak into a task.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::command::SettingInfo;
use crate::trust::Trust;
use crate::workspace::Workspace;

mod docs;
mod dotenv;
mod files;
mod seen;
#[cfg(test)]
mod tests;
mod value;
mod vars;

pub use docs::{env_example, octo_toml, readme_table};
pub use seen::Seen;
pub use value::{ClaudeBridge, QuietHours, Secret, ShellPolicy, TelegramRun};
pub use vars::{Secrecy, VARS, Var};

pub(crate) use files::{DOTENV, OCTO_TOML, read_settings_file, team_of_toml};

/// The settings in force.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// How many tasks run at once.
    pub max_concurrent: usize,
    /// Tokens that one agent may use.
    pub per_agent_budget: u64,
    /// Tokens that all agents together may use in 24 hours.
    pub global_budget: u64,
    /// Words added to every print-mode `claude` command, as a shell would split them.
    pub claude_args: String,
    /// How far `claude` commands are wired to Octo's questions.
    pub claude_bridge: ClaudeBridge,
    /// The model of agents; empty: none was chosen.
    pub model: String,
    /// The team file; `None`: no team.
    pub team: Option<PathBuf>,
    /// What agents' shell calls need.
    pub shell_policy: ShellPolicy,
    /// The key of Anthropic's API.
    pub anthropic_api_key: Secret,
    /// Where Anthropic's API is; empty: its own address.
    pub anthropic_base_url: String,
    /// The key of OpenAI's API, or of one that speaks like it.
    pub openai_api_key: Secret,
    /// Where that API is; empty: its own address.
    pub openai_base_url: String,
    /// The key of Google's Gemini API.
    pub gemini_api_key: Secret,
    /// Where Ollama listens; empty: its default.
    pub ollama_host: String,
    /// The Telegram bot's token; empty: no Telegram.
    pub telegram_token: Secret,
    /// The Telegram users that may talk to the bot; empty: nobody but who was paired.
    pub telegram_allowed_users: Vec<i64>,
    /// Where the Telegram Bot API is; empty: its own address.
    pub telegram_api_url: String,
    /// What a command typed on Telegram needs before it runs.
    pub telegram_run: TelegramRun,
    /// Where the panel listens; always a loopback address. `None`: the panel is off.
    pub panel_addr: Option<SocketAddr>,
    /// When push notices wait; `None`: never.
    pub quiet_hours: Option<QuietHours>,
    /// When an open question is told again, seconds after it was asked.
    pub reminders: Vec<u64>,
    /// How many bytes one task may write to its log.
    pub log_quota: u64,
    /// What the daemon writes to its own log, as a `tracing` filter.
    pub octo_log: String,
    /// `[prices]` of `octo.toml`: an object, or null.
    pub prices: Value,
    /// `[notify]` of `octo.toml`: an object, or null.
    pub notify: Value,
    /// `[mcp]` of `octo.toml`: an object, or null.
    pub mcp: Value,
    /// Every setting, its value as it may be shown, and where it came from; in the table's order.
    pub settings: Vec<SettingInfo>,
    /// What was wrong, in words: bad values with the file and the fallback, files that were not used.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the settings: the real environment `env` wins over `.env`, that over `octo.toml`, that over
    /// the default. It never fails: a value that makes no sense is named in [`Config::warnings`] and its
    /// default is used; a file that is not trusted, or cannot be read, is named there and left out.
    ///
    /// A variable that is set to nothing overrides a text setting, and counts as not set elsewhere.
    #[must_use]
    pub fn load(env: &HashMap<String, String>, ws: &Workspace, trust: &Trust) -> Config {
        let mut config = Config::default();
        let mut warnings = Vec::new();
        let dotenv = files::dotenv(ws, trust, &mut warnings);
        let toml = files::toml(ws, trust, &mut warnings);
        for var in VARS {
            let from_env = env.get(var.name).map(|v| (v.clone(), "environment", var.name.to_owned()));
            let from_dotenv = || dotenv.get(var.name).map(|(v, line)| (v.clone(), DOTENV, format!("{DOTENV}:{line}")));
            let from_toml = || {
                let key = var.toml?;
                toml.values.get(key).map(|v| (v.clone(), OCTO_TOML, format!("{OCTO_TOML}: {key}")))
            };
            let says_something = |found: &(String, &str, String)| var.may_be_empty || !found.0.trim().is_empty();
            let found = from_env.filter(says_something);
            let found = found.or_else(|| from_dotenv().filter(says_something));
            let found = found.or_else(|| from_toml().filter(says_something));
            config.apply(var, found, &mut warnings);
        }
        (config.prices, config.notify, config.mcp) = (toml.prices, toml.notify, toml.mcp);
        config.team = config.team.map(|t| ws.root.join(t));
        config.warnings = warnings;
        config
    }

    /// `found`: the text, the source, and where exactly, for a warning.
    fn apply(&mut self, var: &Var, found: Option<(String, &str, String)>, warnings: &mut Vec<String>) {
        let mut taken = (var.default.to_owned(), "default");
        let mut accepted = false;
        if let Some((text, source, place)) = found {
            match (var.set)(self, text.trim()) {
                Ok(()) => {
                    taken = (text.trim().to_owned(), source);
                    accepted = true;
                }
                Err(why) => {
                    let what = if var.secrecy == Secrecy::Open {
                        format!(" `{}`", excerpt(&var.shown(text.trim())))
                    } else {
                        String::new()
                    };
                    let instead = if var.default.is_empty() { "it is not set" } else { var.default };
                    warnings.push(format!("{}{what} ({place}) {why}; used instead: {instead}", var.name));
                }
            }
        }
        if !accepted && (var.set)(self, var.default).is_err() {
            // The contract test walks every row and applies its default: this cannot be reached.
            warnings.push(format!("{}: the built-in default `{}` is not valid", var.name, var.default));
        }
        let shown = var.shown(&taken.0);
        self.settings.push(SettingInfo { name: var.name.to_owned(), value: shown, source: taken.1.to_owned() });
    }
}

/// A value as a warning quotes it: short, and without control characters.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// Picks the variables that are settings out of a process's environment (`std::env::vars_os()`), whatever
/// bytes the others hold.
#[must_use]
pub fn settings_of(vars: impl IntoIterator<Item = (OsString, OsString)>) -> HashMap<String, String> {
    let known = |name: &OsString| VARS.iter().find(|v| name == v.name);
    vars.into_iter()
        .filter_map(|(name, value)| known(&name).map(|v| (v.name.to_owned(), value.to_string_lossy().into_owned())))
        .collect()
}

/// The variables that are removed from every task's environment: Octo's own secrets. The keys of model
/// providers are not among them: what the caller's environment holds passes to its tasks, as in any shell.
pub fn secret_names() -> impl Iterator<Item = &'static str> {
    VARS.iter().filter(|v| v.secrecy == Secrecy::Own).map(|v| v.name)
}
