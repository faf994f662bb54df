//! The table of settings: one row each, with everything there is to know about it.

use std::path::PathBuf;

use super::Config;
use super::value::{self, Secret};

/// Who may see a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Everybody.
    Open,
    /// A key of somebody else's service: shown as `set`; passes to tasks when the caller's environment holds it.
    Key,
    /// Octo's own secret: shown as `set`, and removed from every task's environment.
    Own,
}

/// One setting.
pub struct Var {
    /// The environment variable, and its name everywhere.
    pub name: &'static str,
    /// `section.key` in `octo.toml`; secrets have none, since that file is meant to be shared.
    pub toml: Option<&'static str>,
    /// The value when nobody sets it; may be empty.
    pub default: &'static str,
    /// A value to show in examples where the default is empty.
    pub example: &'static str,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    /// Who may see it.
    pub secrecy: Secrecy,
    /// Whether an empty value overrides (text) or counts as not set (numbers, choices).
    pub(super) may_be_empty: bool,
    /// Reads a value into its field; the error completes the sentence "NAME `value` ...".
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Var {
    /// The value as it may be shown.
    pub(super) fn shown(&self, text: &str) -> String {
        match self.secrecy {
            Secrecy::Key | Secrecy::Own if text.is_empty() => String::new(),
            Secrecy::Key | Secrecy::Own => "set".to_owned(),
            Secrecy::Open => value::without_credentials(text),
        }
    }

    const fn open(name: &'static str, set: fn(&mut Config, &str) -> Result<(), String>) -> Var {
        Var { name, toml: None, default: "", example: "", help: "", secrecy: Secrecy::Open, may_be_empty: true, set }
    }

    const fn toml(mut self, key: &'static str) -> Var {
        self.toml = Some(key);
        self
    }

    /// Has a default, so that an empty value means "as if not set".
    const fn default(mut self, default: &'static str) -> Var {
        self.default = default;
        self.may_be_empty = false;
        self
    }

    const fn example(mut self, example: &'static str) -> Var {
        self.example = example;
        self
    }

    const fn help(mut self, help: &'static str) -> Var {
        self.help = help;
        self
    }

    const fn secret(mut self, secrecy: Secrecy) -> Var {
        self.secrecy = secrecy;
        self
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

/// Every setting.
pub const VARS: &[Var] = &[
    Var::open("BG_MAX_CONCURRENT", |c, t| value::count(t, 1, 10_000).map(|n| c.max_concurrent = n as usize))
        .toml("background_agents.max_agents")
        .default("3")
        .help("How many tasks run at once; the others wait in the queue."),
    Var::open("ADDITIONAL_CLAUDE_ARGS", |c, t| value::shell_words(t).map(|t| c.claude_args = t))
        .toml("claude.additional_args")
        .example("--model sonnet")
        .help("Options added to every `claude -p` (`--print`) that a task runs, at any depth of scripts and pipes."),
    Var::open("OCTO_CLAUDE_BRIDGE", |c, t| value::choice(t).map(|b| c.claude_bridge = b))
        .toml("claude.bridge")
        .default("full")
        .help(
            "How far `claude` tasks are wired to you: `off`, `questions` (they can ask), or `full` (their requests \
             for permission come to you as well).",
        ),
    Var::open("OCTO_MODEL", |c, t| value::model(t).map(|m| c.model = m))
        .toml("agents.model")
        .example("anthropic/claude-sonnet-4-5")
        .help("The model of agents, as `provider/model`; `demo/...` needs no key."),
    Var::open("OCTO_TEAM", |c, t| {
        c.team = (!t.is_empty()).then(|| PathBuf::from(t));
        Ok(())
    })
    .toml("agents.team")
    .example("team.yaml")
    .help("The YAML file that describes a team of agents; relative to the workspace."),
    Var::open("OCTO_SHELL_POLICY", |c, t| value::choice(t).map(|p| c.shell_policy = p))
        .toml("agents.shell_policy")
        .default("ask")
        .help("What a shell command of an agent needs: `ask` (your approval), `allow` (nothing), `deny`."),
    Var::open("OCTO_AGENT_BUDGET", |c, t| value::count(t, 1, u64::MAX).map(|n| c.per_agent_budget = n))
        .toml("background_agents.per_agent_budget")
        .default("50000")
        .help("Tokens that one agent may use before it is stopped."),
    Var::open("OCTO_GLOBAL_BUDGET", |c, t| value::count(t, 1, u64::MAX).map(|n| c.global_budget = n))
        .toml("background_agents.global_budget")
        .default("200000")
        .help("Tokens that all agents together may use in 24 hours."),
    Var::open("ANTHROPIC_API_KEY", |c, t| value::secret(t).map(|()| c.anthropic_api_key = secret(t)))
        .secret(Secrecy::Key)
        .help("The key for models of Anthropic."),
    Var::open("ANTHROPIC_BASE_URL", |c, t| value::url(t).map(|u| c.anthropic_base_url = u))
        .toml("models.anthropic_base_url")
        .example("https://api.anthropic.com")
        .help("Where Anthropic's API is, if not at its own address."),
    Var::open("OPENAI_API_KEY", |c, t| value::secret(t).map(|()| c.openai_api_key = secret(t)))
        .secret(Secrecy::Key)
        .help("The key for models of OpenAI, or of a server that speaks the same protocol."),
    Var::open("OPENAI_BASE_URL", |c, t| value::url(t).map(|u| c.openai_base_url = u))
        .toml("models.openai_base_url")
        .example("https://api.openai.com/v1")
        .help("Where that API is, if not at OpenAI's own address."),
    Var::open("GEMINI_API_KEY", |c, t| value::secret(t).map(|()| c.gemini_api_key = secret(t)))
        .secret(Secrecy::Key)
        .help("The key for Google's Gemini models."),
    Var::open("OLLAMA_HOST", |c, t| value::line(t).map(|h| c.ollama_host = h))
        .toml("models.ollama_host")
        .example("127.0.0.1:11434")
        .help("Where Ollama listens, for models that run on your own machine."),
    Var::open("TELEGRAM_BOT_TOKEN", |c, t| value::secret(t).map(|()| c.telegram_token = secret(t)))
        .secret(Secrecy::Own)
        .help("The token of your Telegram bot; without one there is no Telegram."),
    Var::open("TELEGRAM_ALLOWED_USERS", |c, t| value::user_ids(t).map(|u| c.telegram_allowed_users = u))
        .toml("telegram.allowed_users")
        .example("4711,4712")
        .help("Numeric ids of the Telegram users who may talk to the bot, beside those you paired; others get nothing."),
    Var::open("TELEGRAM_API_URL", |c, t| value::url(t).map(|u| c.telegram_api_url = u))
        .toml("telegram.api_url")
        .example("https://api.telegram.org")
        .help("Where the Telegram Bot API is, if not at its own address."),
    Var::open("TELEGRAM_RUN", |c, t| value::choice(t).map(|r| c.telegram_run = r))
        .toml("telegram.run")
        .default("ask")
        .help("What a command typed on Telegram needs: `off` (none runs), `ask` (a tap on its card), `on` (nothing)."),
    Var::open("OCTO_PANEL_ADDR", |c, t| value::loopback(t).map(|a| c.panel_addr = a))
        .toml("panel.addr")
        .example("127.0.0.1:4747")
        .help("Where the web panel listens: a loopback address with a port, or a port alone. Empty: no panel."),
    Var::open("OCTO_QUIET_HOURS", |c, t| value::quiet_hours(t).map(|q| c.quiet_hours = q))
        .toml("notify.quiet_hours")
        .example("22:00-07:00")
        .help("When notices to your phone wait, in local time."),
    Var::open("OCTO_REMIND", |c, t| value::reminders(t).map(|r| c.reminders = r))
        .toml("notify.remind")
        .default("10m,1h,6h")
        .help("When an open question is told again: times since it was asked, or `off`."),
    Var::open("OCTO_LOG_QUOTA", |c, t| value::size(t).map(|n| c.log_quota = n))
        .toml("logs.quota")
        .default("4GiB")
        .help("How much one task may print before it is stopped: bytes, or a number with KiB, MiB, GiB or TiB."),
    Var::open("OCTO_LOG", |c, t| value::filter(t).map(|f| c.octo_log = f))
        .toml("logs.filter")
        .default("info")
        .help("What the daemon writes to its own log: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `octo=debug`."),
];
