//! The keys of team files: which are used, which are known and not used, and which nobody knows.

/// The keys of one kind of map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// What the map is, for a warning.
    pub(super) of: &'static str,
    /// What is used here.
    pub(super) used: &'static [&'static str],
    /// What changes nothing that matters to the agents' work, and is passed over in silence.
    pub(super) quiet: &'static [&'static str],
    /// What docker-agent knows and Octo does not use, with what that means.
    pub(super) unused: &'static [(&'static str, &'static str)],
}

pub(super) const TOP: Keys = Keys {
    of: "a team file",
    used: &["agents", "models", "providers", "mcps"],
    quiet: &["version", "metadata"],
    unused: &[
        ("rag", "retrieval is not there"),
        ("permissions", "what needs approval is up to OCTO_SHELL_POLICY: ask, allow or deny"),
        ("commands", "named prompts are not there"),
    ],
};

pub(super) const AGENT: Keys = Keys {
    of: "an agent",
    used: &[
        "model",
        "fallback",
        "description",
        "instruction",
        "sub_agents",
        "toolsets",
        "max_iterations",
        "add_date",
        "add_environment_info",
    ],
    quiet: &["welcome_message", "add_description_parameter", "num_history_items"],
    unused: &[
        ("handoffs", "agents give tasks to their `sub_agents`"),
        ("rag", "retrieval is not there"),
        ("code_mode_tools", "tools are called one by one"),
        ("commands", "named prompts are not there"),
        ("structured_output", "results are text"),
        ("skills", "skills are not loaded"),
        ("hooks", "no hooks are run"),
        ("add_prompt_files", "put what they say into `instruction`"),
    ],
};

pub(super) const MODEL: Keys = Keys {
    of: "a model",
    // `type` is what `provider` was called in the format's first version.
    used: &["provider", "type", "model", "base_url", "token_key", "max_tokens", "temperature", "top_p"],
    quiet: &["track_usage", "display_model"],
    unused: &[
        ("frequency_penalty", "the provider's default counts"),
        ("presence_penalty", "the provider's default counts"),
        ("parallel_tool_calls", "the provider's default counts"),
        ("provider_opts", "the provider's defaults count"),
        ("thinking_budget", "the provider's default counts"),
        ("routing", "every call goes to this model itself"),
    ],
};

pub(super) const PROVIDER: Keys = Keys {
    of: "a provider",
    used: &["base_url", "token_key"],
    quiet: &[],
    unused: &[("api_type", "it is spoken to as OpenAI's chat completions are")],
};

pub(super) const FALLBACK: Keys = Keys {
    of: "`fallback`",
    used: &["models"],
    quiet: &[],
    unused: &[("retries", "Octo's own retries count"), ("cooldown", "Octo's own retries count")],
};

/// Of every toolset.
pub(super) const TOOLSET: Keys = Keys {
    of: "a toolset",
    used: &["type", "tools", "instruction"],
    quiet: &["toon", "defer", "name"],
    unused: &[("model", "the agent's own model is used")],
};

/// Of toolsets of each kind, besides [`TOOLSET`].
pub(super) const TODO: Keys =
    Keys { of: "a toolset `todo`", used: &[], quiet: &[], unused: &[("shared", "each agent has a list of its own")] };

pub(super) const FILESYSTEM: Keys = Keys {
    of: "a toolset `filesystem`",
    used: &[],
    quiet: &["ignore_vcs"],
    unused: &[("post_edit", "nothing is run after an edit")],
};

pub(super) const SHELL: Keys = Keys { of: "a toolset `shell`", used: &["env"], quiet: &[], unused: &[] };

pub(super) const PLAIN: Keys = Keys { of: "this toolset", used: &[], quiet: &[], unused: &[] };

pub(super) const MCP: Keys = Keys {
    of: "a toolset `mcp`",
    used: &["name", "command", "args", "env", "ref", "remote"],
    quiet: &["version"],
    unused: &[("config", "the server's own defaults count")],
};

pub(super) const REMOTE: Keys =
    Keys { of: "`remote`", used: &["url", "transport_type", "headers"], quiet: &[], unused: &[] };

/// Toolsets that docker-agent knows and Octo has not, with what to do instead.
pub(super) const TOOLSETS_ELSEWHERE: &[(&str, &str)] = &[
    ("memory", "agents keep notes in files"),
    ("fetch", "an MCP server that fetches pages does the same"),
    ("script", "the toolset `shell` runs commands"),
    ("api", "an MCP server for that API does the same"),
    ("openapi", "an MCP server for that API does the same"),
    ("a2a", "agents of other programs are not called"),
    ("lsp", "the toolset `shell` runs the language's own tools"),
    ("rag", "retrieval is not there"),
    ("tasks", "the toolset `todo` keeps a list"),
    ("model_picker", "each agent has the model that the file gives it"),
];

/// The names that docker-agent's tools for files have, and what they are called here.
pub(super) const FILE_TOOLS: &[(&str, &str)] = &[
    ("read_multiple_files", "read_file"),
    ("list_directory", "list_files"),
    ("directory_tree", "list_files"),
    ("search_files_content", "search_files"),
    ("create_directory", "write_file"),
];
