//! Calls of tools with their arguments, as types.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::todos::Status;
use super::{TOOLS, Tool, ToolError, find, spec};

/// Makes the types of arguments, [`Call`] and the reader that goes by the tool's name.
macro_rules! calls {
    ($($(#[$doc:meta])* $variant:ident = $name:literal { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $variant { $($(#[$fdoc])* #[serde(default, skip_serializing_if = "unset")] pub $field: $type,)* }
        )+

        /// A call of one of Octo's tools.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Call { $($(#[$doc])* $variant($variant),)+ }

        impl Call {
            /// The tool's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Call::$variant(_) => $name,)+ }
            }

            /// The arguments, without those that were not given.
            #[must_use]
            pub fn arguments(&self) -> Value {
                match self { $(Call::$variant(args) => serde_json::to_value(args).unwrap_or_default(),)+ }
            }

            fn read(name: &str, args: Map<String, Value>) -> Option<Result<Call, serde_json::Error>> {
                match name { $($name => Some(typed(args).map(Call::$variant)),)+ _ => None }
            }
        }
    };
}

fn typed<T: DeserializeOwned>(args: Map<String, Value>) -> Result<T, serde_json::Error> {
    serde_json::from_value(Value::Object(args))
}

/// Tells whether an argument was not given: only those that may be left out are null.
fn unset<T: Serialize>(value: &T) -> bool {
    serde_json::to_value(value).is_ok_and(|v| v.is_null())
}

calls! {
    /// Reads a file.
    ReadFile = "read_file" {
        /// The file.
        path: String,
        /// The first line, from 1.
        offset: Option<u64>,
        /// How many lines.
        limit: Option<u64>,
    }
    /// Creates or replaces a file.
    WriteFile = "write_file" {
        /// The file.
        path: String,
        /// Its new content.
        content: String,
    }
    /// Replaces a text in a file.
    EditFile = "edit_file" {
        /// The file.
        path: String,
        /// What is replaced.
        old_string: String,
        /// By what.
        new_string: String,
        /// Wherever it occurs.
        replace_all: Option<bool>,
    }
    /// Lists files.
    ListFiles = "list_files" {
        /// The folder.
        path: Option<String>,
        /// Those below it, too.
        recursive: Option<bool>,
        /// A glob.
        pattern: Option<String>,
    }
    /// Searches files.
    SearchFiles = "search_files" {
        /// A regular expression.
        pattern: String,
        /// A folder or a file.
        path: Option<String>,
        /// A glob.
        glob: Option<String>,
        /// Lines around each match.
        context: Option<u64>,
    }
    /// Runs a command.
    Shell = "shell" {
        /// For `sh -c`.
        command: String,
        /// The folder.
        cwd: Option<String>,
        /// In seconds.
        timeout: Option<u64>,
    }
    /// Notes a thought.
    Think = "think" {
        /// The thought.
        thought: String,
    }
    /// Adds to the list.
    CreateTodos = "create_todos" {
        /// One text an item.
        descriptions: Vec<String>,
    }
    /// Changes the list.
    UpdateTodos = "update_todos" {
        /// The items.
        updates: Vec<TodoUpdate>,
    }
    /// Shows the list.
    ListTodos = "list_todos" {}
    /// Ends the task.
    TaskComplete = "task_complete" {
        /// What was done.
        summary: String,
    }
    /// Asks the owner.
    EscalateQuestion = "escalate_question" {
        /// The question.
        question: String,
        /// The answers offered.
        choices: Option<Vec<String>>,
    }
    /// Starts a task of any kind.
    DispatchBackground = "dispatch_background" {
        /// A command or an agent.
        task_type: TaskType,
        /// For a process.
        command: Option<String>,
        /// For an agent.
        prompt: Option<String>,
        /// For an agent.
        agent_name: Option<String>,
        /// The folder.
        cwd: Option<String>,
        /// In seconds; 0: none.
        timeout: Option<u64>,
        /// For an agent.
        max_turns: Option<u64>,
    }
    /// Starts a sub-agent.
    RunBackgroundAgent = "run_background_agent" {
        /// Its name.
        agent: String,
        /// Its task.
        task: String,
        /// What its result should look like.
        expected_output: Option<String>,
    }
    /// Lists background tasks.
    ListBackgroundAgents = "list_background_agents" {}
    /// Shows one.
    ViewBackgroundAgent = "view_background_agent" {
        /// Its id.
        task_id: String,
    }
    /// Stops one.
    StopBackgroundAgent = "stop_background_agent" {
        /// Its id.
        task_id: String,
    }
    /// Waits for some.
    WaitBackgroundAgents = "wait_background_agents" {
        /// Their ids.
        task_ids: Vec<String>,
        /// In seconds.
        timeout: Option<u64>,
    }
    /// Gives a task to a sub-agent and waits.
    TransferTask = "transfer_task" {
        /// Its name.
        agent: String,
        /// The task.
        task: String,
        /// What its result should look like.
        expected_output: String,
    }
}

/// The kinds of tasks that can be dispatched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// A shell command.
    #[default]
    Process,
    /// An agent.
    Agent,
}

/// A new status for one item of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TodoUpdate {
    /// The item.
    pub id: String,
    /// Its status.
    pub status: Status,
}

/// Reads a model's call of one of Octo's tools.
///
/// # Errors
/// When there is no such tool, or an argument is wrong: in words that tell the model what would be right.
pub fn parse(name: &str, args: &Value) -> Result<Call, ToolError> {
    let Some(tool) = find(name) else {
        let all: Vec<_> = TOOLS.iter().map(|t| t.name).collect();
        return Err(ToolError::new(format!("there is no tool `{name}`; there are: {}", all.join(", "))));
    };
    let wrong = |why: &dyn std::fmt::Display| ToolError::new(format!("{name}: {why}. {}", usage(tool)));
    let args = spec::check(args, tool.params).map_err(|e| wrong(&e))?;
    let call = match Call::read(name, args) {
        Some(read) => read.map_err(|e| wrong(&e))?,
        None => return Err(wrong(&"this tool cannot be called")),
    };
    match &call {
        Call::DispatchBackground(args) => dispatch_makes_sense(args).map_err(|e| wrong(&e))?,
        Call::EditFile(args) if args.old_string == args.new_string => {
            return Err(wrong(&"`old_string` and `new_string` are the same, so nothing would change"));
        }
        _ => {}
    }
    Ok(call)
}

fn usage(tool: &Tool) -> String {
    format!("Call it again, for example with {}", tool.example)
}

fn dispatch_makes_sense(args: &DispatchBackground) -> Result<(), &'static str> {
    match args.task_type {
        TaskType::Process if args.command.is_none() => Err("a process needs `command`"),
        TaskType::Process if args.prompt.is_some() || args.agent_name.is_some() || args.max_turns.is_some() => {
            Err("`prompt`, `agent_name` and `max_turns` are for agents: leave them out, or use task_type \"agent\"")
        }
        TaskType::Agent if args.prompt.is_none() => Err("an agent needs `prompt`"),
        TaskType::Agent if args.command.is_some() => {
            Err("`command` is for processes: leave it out, or use task_type \"process\"")
        }
        TaskType::Process | TaskType::Agent => Ok(()),
    }
}
