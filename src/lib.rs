//! Octo: a supervisor daemon for background work that nothing can lose. This page is the map of the house.
//!
//! ```text
//!  REPL   CLI   scripts   Telegram   `octo ask`, `claude` inside a task
//!    \     |      |          |            |
//!     `----+------+----------+---- one door: HTTP API on `.octo/octo.sock`        [api], [client]
//!                           |
//!                     supervisor: ONE thread owns all state                       [supervisor]
//!            core (pure: input, now -> effects)    engine, driver (run the effects)
//!                |                 |                        |
//!            store              executors           waiters, doorbell (broadcast)
//!     .octo/journal-<n>, then   process | agents: the hub                         [store], [exec], [agent]
//!     .octo/tasks/<id>.json        |        |
//!                               nursery: forks shims                              [run], [shim]
//!                                  |
//!                     one shim per run: holds the child, outlives the daemon
//! ```
//!
//! # Who owns what
//!
//! * [`task`] is the record, field for field, and every step its life may take ([`task::Status::next`]).
//! * [`command`] is the vocabulary that all surfaces share: requests, answers, refusals.
//! * [`supervisor::core`] decides, without IO and without a clock; what nobody waits for it leaves to quiet moments
//!   (`core/leisure.rs`). [`supervisor::engine`] saves what was decided, then carries out what depended on it.
//!   [`supervisor`] gives it a thread and an inbox, and hands a record to whoever waits for it the moment it is
//!   saved (`waiters.rs`).
//! * [`store`] is the only writer of records: atomic, durable, many in one sync. Each save is a frame of the
//!   commit log (`journal.rs`), and what the record files do not show yet after a power cut is done again at a
//!   start (`redo.rs`). It knows no policy.
//! * [`run`] is the model of processes and locks: what a run leaves on disk and what that means. **Read its
//!   page first**: everything else stands on it. [`shim`] is the small program that holds one run. Shims are forked
//!   by a nursery, a shim loaded beforehand (`run/nursery.rs` is the daemon's half of it, `shim/nursery.rs` the
//!   other), and the folders of ended runs are used again for new ones (`run/spare.rs`).
//! * [`exec`] joins the two: it launches runs and looks at them. [`watch`] tells when to look: the supervisor's
//!   thread sleeps in its `epoll`, and there is no thread for watching.
//! * [`api`] translates HTTP into requests and back. [`client`] is its other end; every surface uses it, so that
//!   none can do more than the API allows. [`ancestry`] tells a task from its owner.
//! * [`cli`], [`chat`] and [`render`] are what people see; the REPL is in `bots/repl.rs`, outside the library.
//! * [`claude`] wraps `claude` inside tasks and reads what it reports; [`mcp`] is how such a `claude` asks, and how
//!   other programs of the owner start tasks; [`action`] is what an owner is shown of an action, and the digest that an
//!   approval is bound to.
//! * Questions are decided in `core/questions.rs`: one arbiter, whose answer is on disk before anybody is told; what
//!   is owed to bridges is in `core/notices.rs`. The
//!   Telegram bridge is in `bots/telegram.rs`, outside the library; what it shares with the daemon beside the API is
//!   in [`bridge`].
//! * [`agent`] is agents: a pure step loop over a journal, and the hub where they live in the daemon. To the core they
//!   are tasks without facts on disk (`core/agents.rs`): it launches them, parks them while they wait, and keeps their
//!   budgets (`core/budget.rs`). A conversation with the supervisor agent is such a task, too, which needs no slot.
//! * [`config`], [`workspace`], [`trust`] and [`doctor`]: settings, the `.octo/` folder and its lock, what came
//!   with a clone, and what may be wrong with the surroundings.
//!
//! # Three programs
//!
//! `octo` is the lean client, `octod` the daemon, `octo-shim` holds one running command each. (An `octo` that has
//! nothing to do but wait for a task's end becomes an `octo-shim --wait`, `client/wait/deputy.rs` and `shim/wait.rs`,
//! which is gone soonest when the end has come.) They share this
//! library, and each links only what it uses. The daemon's own life is in `src/bin/octod/`: `run.rs` from its lock
//! to its leaving, and `changes.rs`, where the crate `notify` tells that its socket was deleted or its settings
//! files changed. (Logs are followed by an inotify instance on the API's own thread, `src/api/tail.rs`.)
//!
//! # The promises
//!
//! Each has tests that fail when it is broken (in brackets).
//!
//! 1. No accepted task vanishes, and no run starts twice (`tests/engine.rs`, `survive`, `crash_points`, `keys`); no act
//!    of an agent is done twice or lost (`agent_resume`, `agents`).
//! 2. A task that runs when the daemon dies goes on, and its true exit status and whole output are there
//!    afterwards (`survive`, `shim`).
//! 3. Every end and every question is told at least once: a notice is part of the save that raises it, and is owed
//!    to each bridge until its receipt is saved (`engine`, `survive`, `phone`, `telegram`).
//! 4. An answer is applied once, to the question it was given for; late ones hear who answered and when (`engine`,
//!    `api`, `ask`, `phone`).
//! 5. A cancelled task leaves no process behind (`trees`, `shim`).
//! 6. No input, file or output stops the daemon from starting or running (`records`, `faults`, `hostile`).
//! 7. No secret of Octo's own reaches a task, a file or a message (`lifecycle`, `phone`).
//!
//! # Where to add what
//!
//! A tool of agents is a row in [`agent::tools::TOOLS`]. A setting is a row in [`config::VARS`], a REPL command a row in [`chat::COMMANDS`], a route a handler in
//! `src/api/` and its page in `src/api/openapi.rs`, an executor an implementation of [`exec::Executor`]. A push bridge
//! is a client that reads `GET /owed` and leaves receipts, started in `src/bin/octod/run.rs`.

pub mod action;
pub mod agent;
pub mod ancestry;
pub mod api;
mod bounded;
pub mod bridge;
pub mod chat;
pub mod claude;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod doctor;
pub mod exec;
mod followup;
mod lease;
pub mod mcp;
pub mod render;
pub mod run;
mod sabotage;
pub mod shim;
pub mod store;
pub mod supervisor;
pub mod task;
#[doc(hidden)]
pub mod testkit;
pub mod trust;
pub mod watch;
pub mod workspace;
