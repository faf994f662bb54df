//! `octo pair telegram`: lets a person talk to the bot, confirmed at this terminal.

use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::{FAILED, Failure, World};
use crate::bridge::{Candidate, PAIRING_LIFE};
use crate::client::Client;
use crate::command::{Refused, RefusedCode};
use crate::render::sanitize;

/// One wait for somebody to send the code.
const POLL: Duration = Duration::from_secs(30);

/// The bridges whose users are paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bridge {
    /// Your Telegram bot
    Telegram,
}

impl Bridge {
    fn word(self) -> &'static str {
        match self {
            Bridge::Telegram => "telegram",
        }
    }
}

/// Opens a pairing, shows who sent the code, and lets them in or not.
pub(super) async fn run(world: &World, bridge: Bridge) -> Result<(), Failure> {
    if !(std::io::stdin().is_terminal() && world.terminal.is_one) {
        return Err(Refused::new(
            RefusedCode::BadRequest,
            "pairing needs a terminal: it asks before it lets anybody in",
        )
        .hint("without a terminal, set TELEGRAM_ALLOWED_USERS to the user's numeric id")
        .into());
    }
    let client = world.client()?;
    // No such bridge is no such task.
    let unset =
        |r: Refused| if r.code == RefusedCode::NotFound { Refused { code: RefusedCode::Unsupported, ..r } } else { r };
    let code = client.open_pairing(bridge.word()).await.map_err(unset)?;
    let minutes = PAIRING_LIFE.as_secs() / 60;
    world.print(format!(
        "Code: {}\nSend it to your bot within {minutes} minutes; Ctrl-C ends the pairing.\n",
        sanitize::line(&code)
    ))?;
    let Some(user) = candidate(world, &client, bridge).await? else { return Err(Failure::Quiet(FAILED)) };
    let name = sanitize::line(&user.name);
    let name = if name.is_empty() { "Somebody without a name".to_owned() } else { name };
    world.print(format!("{name}, user {}, sent it. May this user command Octo here? [y/N] ", user.id))?;
    let yes = yes(&mut std::io::stdin().lock());
    client.decide_pairing(bridge.word(), yes).await?;
    if !yes {
        world.print("Nobody was let in.\n")?;
        return Err(Failure::Quiet(FAILED));
    }
    world.print(format!("User {} is let in: the bot answers from now on.\n", user.id))
}

/// Who sent the code; `None`, and told why, when nobody did.
async fn candidate(world: &World, client: &Client, bridge: Bridge) -> Result<Option<Candidate>, Failure> {
    let end = Instant::now() + PAIRING_LIFE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let (wait, asked) = (left.min(POLL), Instant::now());
        if let Some(user) = client.pairing_candidate(bridge.word(), wait).await? {
            return Ok(Some(user));
        }
        let (why, hint) = if left <= POLL {
            ("nobody sent the code in time", "`octo pair telegram` makes a new one")
        } else if asked.elapsed() < wait / 2 {
            (
                "the pairing ended",
                "too many wrong codes, another pairing, or a restart of the daemon ends one; try again",
            )
        } else {
            continue;
        };
        world.warn(&format!("error: {why}\nhint: {hint}\n"));
        return Ok(None);
    }
}

/// Reads the owner's decision: anything but a clear yes is a no.
fn yes(input: &mut impl BufRead) -> bool {
    let mut line = String::new();
    input.read_line(&mut line).is_ok() && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::yes;

    #[test]
    fn only_a_clear_yes_lets_somebody_in() {
        for (line, let_in) in
            [("y\n", true), (" YES \n", true), ("\n", false), ("", false), ("yeah\n", false), ("n\n", false)]
        {
            assert_eq!(yes(&mut line.as_bytes()), let_in, "{line:?}");
        }
        assert!(!yes(&mut &b"\xff\n"[..]));
    }
}
