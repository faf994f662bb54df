//! From the tree to the team.

use std::collections::{BTreeMap, HashSet};

use super::keys::{AGENT, FALLBACK, Keys, MCP, TOP};
use super::models::Models;
use super::toolsets::toolset;
use super::yaml::{self, Field, Node, Yaml};
use super::{Agent, Here, Problem, Team, TeamError, Warning};

/// The longest name of an agent, in bytes.
const NAME_MAX: usize = 64;

/// What is read, and what is to be told about it.
pub(super) struct Reader {
    pub(super) here: Here,
    warnings: Vec<Warning>,
    /// What was told already and counts for the whole file.
    told: HashSet<String>,
}

pub(super) fn team(text: &str, here: Here) -> Result<Team, TeamError> {
    let top = yaml::parse(text).map_err(|wrong| TeamError {
        line: wrong.line,
        problem: Problem::Yaml(wrong.what),
        hint: "mend it there (indent with spaces, quote texts that hold `: ` or ` #`)".to_owned(),
    })?;
    let mut reader = Reader { here, warnings: Vec::new(), told: HashSet::new() };
    if top.is_null() {
        return Err(no_agents(top.line));
    }
    let fields = Fields::of(&top, "the file")?;
    reader.check(&fields, &[&TOP]);
    let models = Models::read(&mut reader, &fields)?;
    let mcps = match fields.get("mcps") {
        Some(node) => Fields::of(node, "`mcps`")?.each().map(|f| (f.key.clone(), f.value.clone())).collect(),
        None => BTreeMap::new(),
    };
    let Some(agents) = fields.get("agents") else { return Err(no_agents(top.line)) };
    let agents = Fields::of(agents, "`agents`")?;
    let names: Vec<&str> = agents.each().map(|f| f.key.as_str()).collect();
    let mut team = Team::default();
    for field in agents.each() {
        team.agents.push(agent(&mut reader, field, &models, &mcps, &names)?);
    }
    let Some(first) = team.agents.first() else { return Err(no_agents(agents.line)) };
    team.root = if team.agent("root").is_some() { "root".to_owned() } else { first.name.clone() };
    reader.warnings.sort_by_key(|w| w.line);
    team.warnings = reader.warnings;
    Ok(team)
}

fn no_agents(line: usize) -> TeamError {
    let hint = "give it at least `agents: {root: {model: anthropic/claude-sonnet-4-5, instruction: ...}}`".to_owned();
    TeamError { line, problem: Problem::NoAgents, hint }
}

fn agent(
    reader: &mut Reader,
    field: &Field,
    models: &Models,
    mcps: &BTreeMap<String, Node>,
    names: &[&str],
) -> Result<Agent, TeamError> {
    let name = field.key.clone();
    if name.trim() != name || name.is_empty() || name.len() > NAME_MAX || name.contains(|c: char| c.is_control()) {
        let hint = format!("use a short word of at most {NAME_MAX} bytes");
        return Err(TeamError { line: field.line, problem: Problem::Name(name), hint });
    }
    let what = format!("agent `{name}`");
    let fields = Fields::of(&field.value, &what)?;
    reader.check(&fields, &[&AGENT]);
    let mut agent = Agent {
        model: models.of_agent(reader, &fields)?,
        description: fields.text("description")?.unwrap_or_default(),
        instruction: fields.text("instruction")?.unwrap_or_default(),
        max_iterations: fields.number("max_iterations")?.filter(|n| *n > 0),
        add_date: fields.flag("add_date")?.unwrap_or_default(),
        add_environment_info: fields.flag("add_environment_info")?.unwrap_or_default(),
        name,
        ..Agent::default()
    };
    if let Some(node) = fields.get("fallback") {
        let fallback = Fields::of(node, "`fallback`")?;
        reader.check(&fallback, &[&FALLBACK]);
        for (model, line) in fallback.texts("models")? {
            agent.fallback.extend(models.named(reader, &model, line)?);
        }
    }
    for (named, line) in fields.texts("sub_agents")? {
        if names.contains(&named.as_str()) {
            if !agent.sub_agents.contains(&named) {
                agent.sub_agents.push(named);
            }
        } else if named.contains(['/', ':']) {
            let what =
                format!("the sub-agent `{named}` is in a registry, which Octo does not load from: it is left out");
            reader.warn(line, what);
        } else {
            return Err(unknown_sub_agent(&agent.name, named, line, names));
        }
    }
    if let Some(node) = fields.get("toolsets") {
        for item in list(node, "`toolsets`")? {
            agent.toolsets.extend(toolset(reader, item, mcps)?);
        }
    }
    Ok(agent)
}

fn unknown_sub_agent(agent: &str, named: String, line: usize, names: &[&str]) -> TeamError {
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != agent).collect();
    let hint = if others.is_empty() {
        "it is the only agent in this file: add that one, or leave `sub_agents` out".to_owned()
    } else {
        format!("available: {}", others.join(", "))
    };
    TeamError { line, problem: Problem::SubAgent { agent: agent.to_owned(), named }, hint }
}

impl Reader {
    /// Tells something about one line.
    pub(super) fn warn(&mut self, line: usize, what: impl Into<String>) {
        self.warnings.push(Warning { line, what: what.into() });
    }

    /// Tells something that counts for the whole file, where it is first seen.
    pub(super) fn warn_once(&mut self, line: usize, what: impl Into<String>) {
        let what = what.into();
        if self.told.insert(what.clone()) {
            self.warn(line, what);
        }
    }

    /// Tells which keys are not used. Keys of the first kind of map come before those of the others.
    pub(super) fn check(&mut self, fields: &Fields<'_>, kinds: &[&Keys]) {
        for field in fields.each() {
            let key = field.key.as_str();
            // Extensions, and what YAML authors keep their anchors under.
            if key.starts_with("x-") || kinds.iter().any(|k| k.used.contains(&key) || k.quiet.contains(&key)) {
                continue;
            }
            let known = kinds.iter().flat_map(|k| k.unused).find(|(name, _)| *name == key);
            let line = fields.line_of(field);
            match (known, kinds.last()) {
                (Some((_, why)), Some(kind)) => {
                    self.warn(line, format!("`{key}` of {} is not used: {why}", kind.of));
                }
                (None, Some(kind)) => {
                    self.warn(line, format!("`{key}` is no key of {} that Octo knows: it is left out", kind.of));
                }
                (_, None) => {}
            }
        }
    }
}

/// A map, asked for by key.
pub(super) struct Fields<'a> {
    fields: &'a [Field],
    pub(super) what: &'a str,
    pub(super) line: usize,
}

impl<'a> Fields<'a> {
    /// A node that must be a map; nothing is an empty one.
    pub(super) fn of(node: &'a Node, what: &'a str) -> Result<Fields<'a>, TeamError> {
        match &node.value {
            Yaml::Map(fields) => Ok(Fields { fields, what, line: node.line }),
            Yaml::Text { .. } if node.is_null() => Ok(Fields { fields: &[], what, line: node.line }),
            Yaml::Text { .. } | Yaml::List(_) => Err(kind_error(node.line, what, "a map (`key: value`)")),
        }
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &'a Field> + use<'a> {
        self.fields.iter()
    }

    /// The line to tell for a field: one that was merged has the map's.
    fn line_of(&self, field: &Field) -> usize {
        if field.line == 0 { self.line } else { field.line }
    }

    /// The value of a key, if it says something.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.fields.iter().find(|f| f.key == key).map(|f| &f.value).filter(|node| !node.is_null())
    }

    fn named(&self, key: &str) -> String {
        format!("`{key}` of {}", self.what)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, TeamError> {
        self.get(key).map(|node| text(node, &self.named(key))).transpose()
    }

    /// A text that is not quoted and reads as `what`.
    fn plain<T>(
        &self,
        key: &str,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, TeamError> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let value = match &node.value {
            Yaml::Text { text, quoted: false } => read(text),
            Yaml::Text { .. } | Yaml::List(_) | Yaml::Map(_) => None,
        };
        value.map(Some).ok_or_else(|| kind_error(node.line, &self.named(key), what))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, TeamError> {
        self.plain(key, "a whole number", |text| text.replace('_', "").parse().ok())
    }

    pub(super) fn fraction(&self, key: &str) -> Result<Option<f64>, TeamError> {
        self.plain(key, "a number", |text| text.parse().ok().filter(|n: &f64| n.is_finite()))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, TeamError> {
        self.plain(key, "true or false", |text| match text {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        })
    }

    /// A list of texts with their lines; nothing is an empty one.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<(String, usize)>, TeamError> {
        let Some(node) = self.get(key) else { return Ok(Vec::new()) };
        let what = self.named(key);
        list(node, &what)?.iter().map(|item| Ok((text(item, &format!("each entry of {what}"))?, item.line))).collect()
    }

    /// A map of texts; nothing is an empty one.
    pub(super) fn table(&self, key: &str) -> Result<BTreeMap<String, String>, TeamError> {
        let Some(node) = self.get(key) else { return Ok(BTreeMap::new()) };
        let what = self.named(key);
        let fields = Fields::of(node, &what)?;
        fields.each().map(|f| Ok((f.key.clone(), text(&f.value, &format!("`{}` in {what}", f.key))?))).collect()
    }
}

/// The definition that a toolset refers to, with the toolset's own keys over it.
pub(super) fn laid_over(definition: &Node, own: &Node) -> Node {
    let (Yaml::Map(below), Yaml::Map(above)) = (&definition.value, &own.value) else { return own.clone() };
    let above = above.iter().filter(|f| f.key != "ref");
    let mut fields: Vec<Field> = above.cloned().collect();
    let more: Vec<Field> = below.iter().filter(|f| fields.iter().all(|own| own.key != f.key)).cloned().collect();
    fields.extend(more);
    Node { line: own.line, value: Yaml::Map(fields) }
}

pub(super) fn list<'a>(node: &'a Node, what: &str) -> Result<&'a [Node], TeamError> {
    match &node.value {
        Yaml::List(items) => Ok(items),
        Yaml::Text { .. } | Yaml::Map(_) => Err(kind_error(node.line, what, "a list (`- entry`, or `[entry, entry]`)")),
    }
}

pub(super) fn text(node: &Node, what: &str) -> Result<String, TeamError> {
    match &node.value {
        Yaml::Text { text, .. } => Ok(text.clone()),
        Yaml::List(_) | Yaml::Map(_) => Err(kind_error(node.line, what, "a text")),
    }
}

pub(super) fn kind_error(line: usize, what: &str, right: &'static str) -> TeamError {
    let hint = format!("write {right} there, or leave it out");
    TeamError { line, problem: Problem::Kind(what.to_owned(), right), hint }
}

/// The keys of an MCP server, wherever it is described.
pub(super) const MCP_KEYS: &Keys = &MCP;
