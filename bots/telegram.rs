//! The Telegram bridge: a client of the API like any other, whose other end is the Bot API.
//!
//! ```text
//! Bot API ──receive──> inbox ──gate──> Heard ──hands──> calls of the API (calls), posts (errand)
//!                                                                                    │
//! notices owed ──tell (card, quiet)──> posts, or the book until the next digest      ▼
//!                     book: which message is which task's, what waits for a tap    sender ──> Bot API
//!                       │   what was said to the agent and is not answered yet         ▲
//!                       └── talk: a worker for each user ──> answers, as they come ────┘
//! ```
//!
//! What is owed to a chat is in the tasks' records until it is sent; what came from a chat is in the inbox until it is
//! applied. The book can be lost: then a card is sent again instead of being edited.

// This file is a module by `#[path]`, so its own modules need theirs.
#[path = "telegram/api.rs"]
mod api;
#[path = "telegram/backlog.rs"]
mod backlog;
#[path = "telegram/book.rs"]
mod book;
#[path = "telegram/calls.rs"]
mod calls;
#[path = "telegram/card.rs"]
mod card;
#[path = "telegram/condition.rs"]
mod condition;
#[path = "telegram/errand.rs"]
mod errand;
#[path = "telegram/file.rs"]
mod file;
#[path = "telegram/gate.rs"]
mod gate;
#[path = "telegram/hands.rs"]
mod hands;
#[path = "telegram/inbox.rs"]
mod inbox;
#[path = "telegram/lock.rs"]
mod lock;
#[path = "telegram/markup.rs"]
mod markup;
#[path = "telegram/mask.rs"]
mod mask;
#[path = "telegram/plain.rs"]
mod plain;
#[path = "telegram/post.rs"]
mod post;
#[path = "telegram/pump.rs"]
mod pump;
#[path = "telegram/quiet.rs"]
mod quiet;
#[path = "telegram/receive.rs"]
mod receive;
#[path = "telegram/request.rs"]
mod request;
#[path = "telegram/run.rs"]
mod run;
#[path = "telegram/seal.rs"]
mod seal;
#[path = "telegram/sender.rs"]
mod sender;
#[path = "telegram/talk.rs"]
mod talk;
#[path = "telegram/tell.rs"]
mod tell;
#[path = "telegram/text.rs"]
mod text;
#[path = "telegram/wait.rs"]
mod wait;
#[path = "telegram/words.rs"]
mod words;

pub(crate) use run::{NAME, Setup, start};
