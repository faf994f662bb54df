//! Claude commands: the wrapper that stands before the real `claude`, and the reading of its result.
//!
//! ```text
//!  task's shell --claude -p ...--> .octo/bin/claude (a link to `octo`) --exec--> the real claude
//!                                   adds ADDITIONAL_CLAUDE_ARGS,                     |
//!                                   a session id, and a way to ask                    v
//!  supervisor <--Judgement-- judge <--ClaudeOutcome-- read_result <--------------- out.log
//! ```
//!
//! * [`wrapper()`] and [`run_wrapper`] run inside a task, before every `claude` that it starts by name, at
//!   any depth of scripts and pipes. The wrapper replaces itself by the real program (`exec`), so that the
//!   process number, the signals, the exit code and the streams are claude's own. It knows nothing but its
//!   environment, and whether claude's own settings leave it room ([`Bridge`]): no daemon is asked. A `claude` named with a path (`./claude`,
//!   `/usr/bin/claude`) never comes by here.
//! * [`is_single_claude`] tells whether a task's whole command is one print-mode `claude` that writes JSON
//!   into the log, [`read_result`] finds the result event there and [`judge`] says how the task ended. The
//!   judgement is only asked for such commands: in doubt a command is none, and its exit code decides.
//!
//! What claude's options look like is one table, `claude/flags.rs`, taken from the program's own
//! (version 2.1.329): which options take a value decides what is a prompt and what is an option.

mod bridge;
mod extra;
mod find;
mod flags;
mod followup;
mod result;
mod shell;
mod single;
mod wrapper;

pub use bridge::Bridge;
pub use followup::follow_up;
pub use result::{ClaudeOutcome, Judgement, ResultEvent, Spent, judge, over_budget_in_words, read_result};
pub use single::{ClaudeCommand, is_single_claude, is_single_claude_with};
pub use wrapper::{BUDGET, Exec, NoClaude, WrapperEnv, called_as_claude, run_wrapper, wrapper};
