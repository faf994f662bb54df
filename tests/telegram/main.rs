//! The half of the Telegram bridge that talks to the Bot API, against a fake one that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod crashes;
mod fake;
mod files;
mod receiving;
mod secrets;
mod sending;
mod server;
mod world;

/// The modules under test belong to the daemon's program, not to the library.
#[allow(dead_code, reason = "the daemon uses more of them")]
#[path = "../../bots/telegram"]
mod bridge {
    pub(crate) mod api;
    pub(crate) mod backlog;
    pub(crate) mod condition;
    pub(crate) mod file;
    pub(crate) mod inbox;
    pub(crate) mod lock;
    pub(crate) mod plain;
    pub(crate) mod post;
    pub(crate) mod receive;
    pub(crate) mod request;
    pub(crate) mod sender;
    pub(crate) mod wait;
}
