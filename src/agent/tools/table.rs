//! The table of tools.

use super::spec::Kind::{Choice, Flag, Number, Objects, Text, Texts, Words};
use super::spec::{Kind, Param};
use super::{Class, Set, Tool};

/// A parameter that a call must have.
const fn must(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, required: true, about }
}

/// A parameter that a call may have.
const fn may(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, required: false, about }
}

/// The longest that a command or a task may be given, in seconds: 30 days.
const LONGEST: u64 = 30 * 24 * 3600;

/// The largest number that every JSON reader keeps exactly.
const EXACT: u64 = (1 << 53) - 1;

const PATH: &str = "Path of the file, relative to the task's folder";
const TASK: &str = "Id of the task, as it was given when the task was started";

/// Every tool that Octo itself offers to an agent. (Those of MCP servers are the servers' own.)
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "read_file",
        about: "Reads a text file and numbers its lines. A long file is read in parts: with `offset` and `limit`.",
        class: Class::Read,
        set: Set::Filesystem,
        params: &[
            must("path", Words, PATH),
            may("offset", Number(1, EXACT), "First line to read, from 1 (default 1)"),
            may("limit", Number(1, 10_000), "How many lines to read (default 2000)"),
        ],
        example: r#"{"path": "src/main.rs", "offset": 1, "limit": 200}"#,
    },
    Tool {
        name: "write_file",
        about: "Creates a file, or replaces its whole content; makes missing folders. To change a part of a file use edit_file.",
        class: Class::WriteInside,
        set: Set::Filesystem,
        params: &[must("path", Words, PATH), must("content", Text, "The whole new content")],
        example: r##"{"path": "notes/plan.md", "content": "# Plan\n"}"##,
    },
    Tool {
        name: "edit_file",
        about: "Replaces a text in a file, and answers with the difference. `old_string` must be in the file exactly once, \
                unless `replace_all` is set: give enough of the lines around it. Leave out the line numbers of read_file.",
        class: Class::WriteInside,
        set: Set::Filesystem,
        params: &[
            must("path", Words, PATH),
            must("old_string", Text, "The text to replace, exactly as it is in the file"),
            must("new_string", Text, "The text to put in its place"),
            may("replace_all", Flag, "Replace it wherever it occurs (default false)"),
        ],
        example: r#"{"path": "src/main.rs", "old_string": "let n = 1;", "new_string": "let n = 2;", "replace_all": false}"#,
    },
    Tool {
        name: "list_files",
        about: "Lists the files of a folder, without those that .gitignore names.",
        class: Class::Read,
        set: Set::Filesystem,
        params: &[
            may("path", Words, "The folder, relative to the task's folder (default: that folder)"),
            may("recursive", Flag, "Also those in the folders below (default false)"),
            may("pattern", Words, "Only names that match this glob: `*.rs`, `src/**/*.ts` (relative to `path`)"),
        ],
        example: r#"{"path": "src", "recursive": true, "pattern": "*.rs"}"#,
    },
    Tool {
        name: "search_files",
        about: "Searches the lines of files for a regular expression, without files that .gitignore names.",
        class: Class::Read,
        set: Set::Filesystem,
        params: &[
            must("pattern", Words, "A regular expression (Rust syntax); `(?i)` before it ignores case"),
            may("path", Words, "A folder or a file, relative to the task's folder (default: that folder)"),
            may("glob", Words, "Only files that match this glob: `*.rs`, `src/**/*.ts` (relative to `path`)"),
            may("context", Number(0, 10), "How many lines to show before and after each match (default 0)"),
        ],
        example: r#"{"pattern": "fn main\\(", "path": "src", "glob": "*.rs", "context": 2}"#,
    },
    Tool {
        name: "shell",
        about: "Runs a shell command in the task's folder and answers with its output and exit code.",
        class: Class::Effect,
        set: Set::Shell,
        params: &[
            must("command", Words, "The command line, for `sh -c`"),
            may("cwd", Words, "The folder to run it in, relative to the task's folder (default: that folder)"),
            may("timeout", Number(1, LONGEST), "Seconds after which it is stopped (default 600)"),
        ],
        example: r#"{"command": "cargo test", "cwd": "server", "timeout": 900}"#,
    },
    Tool {
        name: "think",
        about: "Notes a thought, to reason in steps before acting. It changes nothing.",
        class: Class::Internal,
        set: Set::Think,
        params: &[must("thought", Words, "The thought")],
        example: r#"{"thought": "The test fails before the server listens; so the port is taken from the wrong place."}"#,
    },
    Tool {
        name: "create_todos",
        about: "Adds items to the list of what is to be done, and answers with their ids.",
        class: Class::Internal,
        set: Set::Todo,
        params: &[must("descriptions", Texts(100), "What is to be done: one text an item")],
        example: r#"{"descriptions": ["Find the failing test", "Mend it"]}"#,
    },
    Tool {
        name: "update_todos",
        about: "Sets the status of items of the list.",
        class: Class::Internal,
        set: Set::Todo,
        params: &[must(
            "updates",
            Objects(
                &[
                    must("id", Words, "Id of the item"),
                    must("status", Choice(&["pending", "in-progress", "completed"]), "Its new status"),
                ],
                100,
            ),
            "The items and their new status",
        )],
        example: r#"{"updates": [{"id": "todo_1", "status": "completed"}, {"id": "todo_2", "status": "in-progress"}]}"#,
    },
    Tool {
        name: "list_todos",
        about: "Shows the list of what is to be done, with ids and status.",
        class: Class::Internal,
        set: Set::Todo,
        params: &[],
        example: "{}",
    },
    Tool {
        name: "task_complete",
        about: "Ends this task. The summary is what its owner, or the agent that started it, gets to read.",
        class: Class::Internal,
        set: Set::Always,
        params: &[must("summary", Words, "What was done, and the result")],
        example: r#"{"summary": "The test failed for want of a port; it takes a free one now. All 214 tests pass."}"#,
    },
    Tool {
        name: "escalate_question",
        about: "Asks the owner, and waits for the answer: for what only they can decide.",
        class: Class::Internal,
        set: Set::Always,
        params: &[
            must("question", Words, "The question, with all that is needed to answer it"),
            may("choices", Texts(20), "The answers to choose from (default: any text)"),
        ],
        example: r#"{"question": "Drop support for Python 3.8?", "choices": ["yes", "no"]}"#,
    },
    Tool {
        name: "dispatch_background",
        about: "Starts a task in the background and answers at once with its id: a shell command (task_type \"process\") or an \
                agent (task_type \"agent\"). Use it for work that takes long or can be done at the same time.",
        class: Class::Effect,
        set: Set::Supervisor,
        params: &[
            must("task_type", Choice(&["process", "agent"]), "\"process\": a shell command; \"agent\": an agent"),
            may("command", Words, "For a process: the command line, for `sh -c`"),
            may("prompt", Words, "For an agent: the whole task, self-contained (it does not see this conversation)"),
            may("agent_name", Words, "For an agent: which one (default: the team's first)"),
            may("cwd", Words, "The folder to work in (default: the workspace)"),
            may("timeout", Number(0, LONGEST), "Seconds after which it is stopped (default 0: never)"),
            may("max_turns", Number(1, 10_000), "For an agent: after how many turns it ends (default 50)"),
        ],
        example: r#"{"task_type": "process", "command": "cargo test --workspace", "cwd": "server", "timeout": 3600}"#,
    },
    Tool {
        name: "run_background_agent",
        about: "Starts one of the sub-agents in the background and answers at once with the id of its task. Several run at the \
                same time; when one ends, its result is told.",
        class: Class::Internal,
        set: Set::BackgroundAgents,
        params: &[
            must("agent", Words, "Name of the sub-agent"),
            must("task", Words, "The whole task, self-contained (it does not see this conversation)"),
            may("expected_output", Words, "What its result should look like"),
        ],
        example: r#"{"agent": "code_analyst", "task": "List every caller of parse().", "expected_output": "file:line, one a line"}"#,
    },
    Tool {
        name: "list_background_agents",
        about: "Lists the background tasks that were started here, with status and running time.",
        class: Class::Read,
        set: Set::BackgroundAgents,
        params: &[],
        example: "{}",
    },
    Tool {
        name: "view_background_agent",
        about: "Shows a background task: its output so far, or its result.",
        class: Class::Read,
        set: Set::BackgroundAgents,
        params: &[must("task_id", Words, TASK)],
        example: r#"{"task_id": "c4b1e09a"}"#,
    },
    Tool {
        name: "stop_background_agent",
        about: "Stops a background task that was started here.",
        class: Class::Internal,
        set: Set::BackgroundAgents,
        params: &[must("task_id", Words, TASK)],
        example: r#"{"task_id": "c4b1e09a"}"#,
    },
    Tool {
        name: "wait_background_agents",
        about: "Waits until all of these background tasks have ended, or the time is over, and answers with their results.",
        class: Class::Read,
        set: Set::BackgroundAgents,
        params: &[
            must("task_ids", Texts(100), "Ids of the tasks"),
            may("timeout", Number(1, 3600), "Seconds to wait at most (default 300)"),
        ],
        example: r#"{"task_ids": ["c4b1e09a", "d00dfeed"], "timeout": 600}"#,
    },
    Tool {
        name: "transfer_task",
        about: "Gives a task to one of the sub-agents, waits until it has ended, and answers with its result.",
        class: Class::Internal,
        set: Set::Delegation,
        params: &[
            must("agent", Words, "Name of the sub-agent"),
            must("task", Words, "The whole task, self-contained (it does not see this conversation)"),
            must("expected_output", Text, "What its result should look like"),
        ],
        example: r#"{"agent": "code_analyst", "task": "Explain the cache.", "expected_output": "Half a page"}"#,
    },
];
