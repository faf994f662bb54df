//! Which tools a file gives to an agent.

use std::collections::BTreeMap;

use super::keys::{FILE_TOOLS, FILESYSTEM, Keys, PLAIN, REMOTE, SHELL, TODO, TOOLSET, TOOLSETS_ELSEWHERE};
use super::read::{Fields, MCP_KEYS, Reader, laid_over, text};
use super::yaml::{Node, Yaml};
use super::{Kind, Mcp, Problem, Reach, TeamError, Toolset};
use crate::agent::tools::{Set, TOOLS};

/// What a reference to a server of Docker's catalogue begins with.
const DOCKER: &str = "docker:";

/// Reads a toolset; `None`: it cannot run here, and that was told.
pub(super) fn toolset(
    reader: &mut Reader,
    item: &Node,
    mcps: &BTreeMap<String, Node>,
) -> Result<Option<Toolset>, TeamError> {
    // A bare word is a toolset without more to say about it.
    if matches!(item.value, Yaml::Text { .. }) {
        return of_type(reader, &text(item, "a toolset")?, &bare(item), mcps);
    }
    let Some(kind) = Fields::of(item, "a toolset")?.text("type")? else {
        let hint = "add one: think, todo, filesystem, shell, mcp or background_agents".to_owned();
        return Err(TeamError { line: item.line, problem: Problem::Missing("a toolset".to_owned(), "type"), hint });
    };
    of_type(reader, &kind, item, mcps)
}

fn bare(item: &Node) -> Node {
    Node { line: item.line, value: Yaml::Map(Vec::new()) }
}

fn of_type(
    reader: &mut Reader,
    kind: &str,
    item: &Node,
    mcps: &BTreeMap<String, Node>,
) -> Result<Option<Toolset>, TeamError> {
    let what = format!("toolset `{kind}`");
    let fields = Fields::of(item, &what)?;
    let keys: &Keys = match kind {
        "todo" => &TODO,
        "filesystem" => &FILESYSTEM,
        "shell" => &SHELL,
        "think" | "background_agents" => &PLAIN,
        "mcp" => return mcp(reader, item, mcps),
        // Every agent can ask its owner.
        "user_prompt" => return Ok(None),
        other => {
            let known = TOOLSETS_ELSEWHERE.iter().find(|(name, _)| *name == other);
            let why = known.map_or("Octo does not know it", |(_, instead)| instead);
            reader.warn_once(item.line, format!("the toolset `{other}` is off: {why}"));
            return Ok(None);
        }
    };
    reader.check(&fields, &[&TOOLSET, keys]);
    let (kind, set) = match kind {
        "todo" => (Kind::Todo, Set::Todo),
        "filesystem" => (Kind::Filesystem, Set::Filesystem),
        "shell" => (Kind::Shell { env: fields.table("env")? }, Set::Shell),
        "background_agents" => (Kind::BackgroundAgents, Set::BackgroundAgents),
        _ => (Kind::Think, Set::Think),
    };
    let tools = chosen(reader, &fields, set)?;
    Ok(Some(finished(kind, tools, &fields)?))
}

fn finished(kind: Kind, tools: Option<Vec<String>>, fields: &Fields<'_>) -> Result<Toolset, TeamError> {
    let instruction = fields.text("instruction")?.unwrap_or_default();
    Ok(Toolset { kind, tools, instruction, line: fields.line })
}

/// The tools of a set that the file chooses, by the names that they have here.
fn chosen(reader: &mut Reader, fields: &Fields<'_>, set: Set) -> Result<Option<Vec<String>>, TeamError> {
    if fields.get("tools").is_none() {
        return Ok(None);
    }
    let mut chosen = Vec::new();
    for (name, line) in fields.texts("tools")? {
        let here = FILE_TOOLS.iter().find(|(other, _)| *other == name).map_or(name.as_str(), |(_, here)| here);
        if TOOLS.iter().any(|tool| tool.set == set && tool.name == here) {
            if !chosen.iter().any(|c| c == here) {
                chosen.push(here.to_owned());
            }
        } else {
            reader.warn(line, format!("{} has no tool `{name}`: it is left out", fields.what));
        }
    }
    Ok(Some(chosen))
}

fn mcp(reader: &mut Reader, item: &Node, mcps: &BTreeMap<String, Node>) -> Result<Option<Toolset>, TeamError> {
    let reference = Fields::of(item, "a toolset")?.text("ref")?;
    let described = reference.as_ref().and_then(|r| mcps.get(r)).map(|definition| laid_over(definition, item));
    let fields = Fields::of(described.as_ref().unwrap_or(item), "toolset `mcp`")?;
    reader.check(&fields, &[&TOOLSET, MCP_KEYS]);
    let Some(reach) = reach(reader, &fields)? else { return Ok(None) };
    let by_reach = match &reach {
        Reach::Command { .. } => fields.text("ref")?.map(|r| r.trim_start_matches(DOCKER).to_owned()),
        Reach::Remote { .. } => None,
    };
    let name = fields.text("name")?.or(reference.filter(|_| described.is_some())).or(by_reach).unwrap_or_default();
    let tools = match fields.get("tools") {
        Some(_) => Some(fields.texts("tools")?.into_iter().map(|(name, _)| name).collect()),
        None => None,
    };
    finished(Kind::Mcp(Mcp { name, reach }), tools, &fields).map(Some)
}

/// How a server is reached; `None`: not from here, and that was told.
fn reach(reader: &mut Reader, fields: &Fields<'_>) -> Result<Option<Reach>, TeamError> {
    let (command, remote, reference) = (fields.text("command")?, fields.get("remote"), fields.text("ref")?);
    if let Some(command) = command {
        let args = fields.texts("args")?.into_iter().map(|(arg, _)| arg).collect();
        return Ok(Some(Reach::Command { command, args, env: fields.table("env")? }));
    }
    if let Some(node) = remote {
        let remote = Fields::of(node, "`remote` of a toolset `mcp`")?;
        reader.check(&remote, &[&REMOTE]);
        let Some(url) = remote.text("url")? else {
            let hint = "add the server's address".to_owned();
            return Err(TeamError { line: node.line, problem: Problem::Missing(remote.what.to_owned(), "url"), hint });
        };
        let transport = remote.text("transport_type")?.unwrap_or_else(|| "streamable".to_owned());
        return Ok(Some(Reach::Remote { url, transport, headers: remote.table("headers")? }));
    }
    let Some(reference) = reference else {
        let hint = "add one of `command`, `remote: {url: ...}` and `ref: docker:...`".to_owned();
        return Err(TeamError {
            line: fields.line,
            problem: Problem::Missing(fields.what.to_owned(), "command"),
            hint,
        });
    };
    let Some(server) = reference.strip_prefix(DOCKER).map(str::trim).filter(|server| !server.is_empty()) else {
        reader.warn(fields.line, format!("the MCP server `{reference}` is off: Octo cannot load that reference"));
        return Ok(None);
    };
    if !reader.here.docker {
        let what =
            format!("the MCP server `{reference}` is off: it needs Docker with its MCP gateway, which is not here");
        reader.warn_once(fields.line, what);
        return Ok(None);
    }
    let args = ["mcp", "gateway", "run", "--servers", server].map(str::to_owned).to_vec();
    Ok(Some(Reach::Command { command: "docker".to_owned(), args, env: fields.table("env")? }))
}
