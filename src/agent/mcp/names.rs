//! Names of servers and tools, as models see them: `server__tool`, of letters, digits, `_` and `-`, at most 64.
//!
//! A server's label has no two underscores in a row and none at its ends, so that the first `__` of a name always
//! ends the label: names of different servers never meet. A tool's own name is kept where it is possible; where it is
//! not, the rest of it is told by a digest of the whole. Nothing depends on what other tools there are.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::agent::team::{Mcp, Reach};

/// The longest name that every provider takes.
const NAME_MAX: usize = 64;
/// The longest label of a server.
const LABEL_MAX: usize = 24;
/// Hex digits of a digest.
const DIGEST: usize = 8;

/// Programs that run another one, which says more than they do.
const RUNNERS: [&str; 10] = ["npx", "uvx", "bunx", "pnpm", "npm", "uv", "pipx", "node", "python", "python3"];

/// One label for each server, in order, no two the same.
pub(super) fn labels<'a>(servers: impl Iterator<Item = &'a Mcp>) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut labels: Vec<String> = Vec::new();
    for server in servers {
        let label = label(server);
        let count = seen.entry(label.clone()).or_default();
        *count += 1;
        let mut next = if *count == 1 { label.clone() } else { format!("{label}-{count}") };
        // Somebody may have named another one so.
        while labels.contains(&next) {
            *count += 1;
            next = format!("{label}-{count}");
        }
        labels.push(next);
    }
    labels
}

fn label(server: &Mcp) -> String {
    let named = if server.name.trim().is_empty() { after_its_reach(&server.reach) } else { server.name.clone() };
    let mut label = String::new();
    for c in named.trim().chars().map(plain) {
        if c != '_' || !label.ends_with('_') {
            label.push(c);
        }
    }
    let short = label.trim_matches('_');
    let short = short[..short.len().min(LABEL_MAX)].trim_end_matches('_');
    if short.is_empty() { "server".to_owned() } else { short.to_owned() }
}

/// What to call a server that has no name.
fn after_its_reach(reach: &Reach) -> String {
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    match reach {
        Reach::Command { command, args, .. } => {
            let program = last(command);
            let words =
                args.iter().filter(|word| !word.starts_with('-') && !["exec", "run", "tool"].contains(&&***word));
            match words.clone().next().filter(|_| RUNNERS.contains(&program.as_str())) {
                // `@scope/name@1.2.3`, `name==1.2.3`
                Some(package) => last(package).split(['@', '=']).next().unwrap_or_default().to_owned(),
                None => program,
            }
        }
        Reach::Remote { url, .. } => {
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            host.rsplit('@').next().unwrap_or_default().to_owned()
        }
    }
}

/// The name of a server's tool. `label` is one of [`labels`].
pub(super) fn tool(label: &str, name: &str) -> String {
    let room = NAME_MAX - label.len() - 2;
    let mut own: String = name.chars().map(plain).collect();
    if own != name || own.len() > room || own.is_empty() {
        own.truncate(room - DIGEST - 1);
        let digest = Sha256::digest(name.as_bytes());
        let digest: String = digest.iter().take(DIGEST / 2).map(|byte| format!("{byte:02x}")).collect();
        own = format!("{own}_{digest}");
    }
    format!("{label}__{own}")
}

/// The character itself where every provider takes it in a name.
fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }
}
