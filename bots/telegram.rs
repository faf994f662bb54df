//! The Telegram bridge: a client of the API like any other, whose other end is the Bot API.
//!
//! This half decides and does no IO but calls of the API:
//!
//! ```text
//! update ──gate──> Heard ──hands──> calls of the API (calls), posts (errand)
//! notices owed ──tell (card, quiet)──> posts (errand), or the book until the next digest
//!                     book: which message is which task's, what waits for a tap
//! ```

// This file is a module by `#[path]`, so its own modules need theirs.
#[path = "telegram/book.rs"]
mod book;
#[path = "telegram/calls.rs"]
mod calls;
#[path = "telegram/card.rs"]
mod card;
#[path = "telegram/errand.rs"]
mod errand;
#[path = "telegram/gate.rs"]
mod gate;
#[path = "telegram/hands.rs"]
mod hands;
#[path = "telegram/mask.rs"]
mod mask;
#[path = "telegram/post.rs"]
mod post;
#[path = "telegram/quiet.rs"]
mod quiet;
#[path = "telegram/seal.rs"]
mod seal;
#[path = "telegram/tell.rs"]
mod tell;
#[path = "telegram/text.rs"]
mod text;
#[path = "telegram/words.rs"]
mod words;
