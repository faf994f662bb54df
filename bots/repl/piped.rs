//! Input that is no terminal: one command a line, answers for programs.

use std::cell::RefCell;
use std::io::BufRead;
use std::sync::Mutex;

use octo::chat::Ask;
use octo::cli::{self, Failure, World};
use octo::client::Client;
use octo::command::{Refused, RefusedCode};

use super::act::{self, Here, Style};
use super::talk::Voice;

/// Reads commands until `/quit` or the end of input, and leaves at once; tasks go on. The exit code is
/// that of the first command that failed.
pub(crate) fn run(runtime: &tokio::runtime::Runtime, world: &World) -> u8 {
    let client = match world.client() {
        Ok(client) => client,
        Err(refused) => return cli::report(world, &refused.into()),
    };
    let (mut code, voice) = (0, Voice::default());
    for line in std::io::stdin().lock().split(b'\n') {
        let result = line.map_err(unreadable).and_then(|line| turn(runtime, world, &client, &voice, &line));
        match result {
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => {
                let failed = cli::report(world, &failure);
                code = if code == 0 { failed } else { code };
                if matches!(failure, Failure::Quiet(_)) {
                    break; // nobody reads the answers any more
                }
            }
        }
    }
    code
}

/// Deals with one line; `false` ends the conversation.
fn turn(
    runtime: &tokio::runtime::Runtime,
    world: &World,
    client: &Client,
    voice: &Voice,
    line: &[u8],
) -> Result<bool, Failure> {
    let line = std::str::from_utf8(line)
        .map_err(|_| Refused::new(RefusedCode::BadRequest, "a line that is no UTF-8 was skipped"))?;
    match act::understand(line)? {
        Ask::Quit => Ok(false),
        ask => {
            let (known, offer, style) = (&Mutex::default(), &RefCell::default(), Style::Pipe);
            let here = Here { world, client, known, style, voice, offer };
            runtime.block_on(act::carry_out(here, ask)).map(|()| true)
        }
    }
}

fn unreadable(e: std::io::Error) -> Failure {
    Refused::new(RefusedCode::Internal, format!("standard input cannot be read: {e}")).into()
}
