//! The Telegram bridge of the daemon.

#![allow(dead_code, reason = "its parts are joined in a later step")]

// This file is a module by `#[path]`, so its own modules need theirs.
#[path = "telegram/api.rs"]
mod api;
#[path = "telegram/backlog.rs"]
mod backlog;
#[path = "telegram/condition.rs"]
mod condition;
#[path = "telegram/file.rs"]
mod file;
#[path = "telegram/inbox.rs"]
mod inbox;
#[path = "telegram/lock.rs"]
mod lock;
#[path = "telegram/plain.rs"]
mod plain;
#[path = "telegram/post.rs"]
mod post;
#[path = "telegram/receive.rs"]
mod receive;
#[path = "telegram/request.rs"]
mod request;
#[path = "telegram/sender.rs"]
mod sender;
#[path = "telegram/wait.rs"]
mod wait;
