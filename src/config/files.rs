//! The settings files of a workspace: reads them if they are there, honest files, and trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde_json::{Map, Value};
use toml_edit::{DocumentMut, Item, TableLike};

use super::{VARS, dotenv};
use crate::trust::Trust;
use crate::workspace::Workspace;

/// The file of variables.
pub(crate) const DOTENV: &str = ".env";
/// The file of sections.
pub(crate) const OCTO_TOML: &str = "octo.toml";

/// No honest settings file is longer; a longer one is not read into memory.
const SIZE_MAX: u64 = 1 << 20;

/// Sections of `octo.toml` whose keys are free.
const FREE: [&str; 3] = ["prices", "notify", "mcp"];

/// What `octo.toml` says.
#[derive(Debug, Default)]
pub(super) struct Toml {
    /// The values of rows of [`VARS`], by `section.key`.
    pub(super) values: BTreeMap<&'static str, String>,
    pub(super) prices: Value,
    pub(super) notify: Value,
    pub(super) mcp: Value,
}

/// A settings file's bytes and the user it belongs to; `None` when there is none.
///
/// # Errors
/// When it is no regular file (a pipe would hang the start), too long, or cannot be read.
pub(crate) fn read_settings_file(path: &Path) -> io::Result<Option<(Vec<u8>, u32)>> {
    let file = match File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(Some((bytes, meta.uid())))
}

/// The text of a settings file that may be used.
fn usable(ws: &Workspace, trust: &Trust, name: &str, warnings: &mut Vec<String>) -> Option<String> {
    let path = ws.root.join(name);
    let (bytes, owner) = match read_settings_file(&path) {
        Ok(found) => found?,
        Err(e) => {
            warnings.push(format!("{name} is not used: {e}"));
            return None;
        }
    };
    if let Err(why) = trust.permits(ws, &path, &bytes, owner) {
        warnings.push(format!("{name} is not used: {why}; look at it, then run `octo trust`"));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) => {
            warnings.push(format!("{name} holds bytes that are no UTF-8; they were read as `\u{fffd}`"));
            Some(String::from_utf8_lossy(e.as_bytes()).into_owned())
        }
    }
}

/// The entries of `.env`.
pub(super) fn dotenv(ws: &Workspace, trust: &Trust, warnings: &mut Vec<String>) -> dotenv::Entries {
    let Some(text) = usable(ws, trust, DOTENV, warnings) else { return dotenv::Entries::new() };
    let mut complaints = Vec::new();
    let entries = dotenv::parse(&text, &mut complaints);
    // The line itself is not shown: it may hold a key.
    warnings.extend(complaints.iter().map(|(line, why)| format!("{DOTENV}:{line} {why}; the line is left out")));
    let mut unknown: Vec<_> = entries.iter().filter(|(name, _)| is_ours_but_unknown(name)).collect();
    unknown.sort_by_key(|(_, (_, line))| *line);
    warnings.extend(unknown.iter().map(|(name, (_, line))| format!("{DOTENV}:{line} there is no setting {name}")));
    entries
}

/// A `.env` is shared with other programs: only names that look like ours are called mistakes.
fn is_ours_but_unknown(name: &str) -> bool {
    name.starts_with("OCTO_") && name != "OCTO_WORKSPACE" && !VARS.iter().any(|v| v.name == name)
}

/// The contents of `octo.toml`.
pub(super) fn toml(ws: &Workspace, trust: &Trust, warnings: &mut Vec<String>) -> Toml {
    let Some(text) = usable(ws, trust, OCTO_TOML, warnings) else { return Toml::default() };
    match text.parse::<DocumentMut>() {
        Ok(document) => sections(&document, warnings),
        Err(e) => {
            let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            warnings.push(format!("{OCTO_TOML}:{line} is not used: {}", e.message().replace('\n', ", ")));
            Toml::default()
        }
    }
}

fn sections(document: &DocumentMut, warnings: &mut Vec<String>) -> Toml {
    let mut toml = Toml::default();
    for (section, item) in document.iter() {
        let Some(table) = item.as_table_like() else {
            warnings.push(format!("{OCTO_TOML}: `{section}` stands outside of any section and is left out"));
            continue;
        };
        match section {
            "prices" => toml.prices = table_json(table),
            "notify" => toml.notify = table_json(table),
            "mcp" => toml.mcp = table_json(table),
            _ => {}
        }
        for (key, item) in table.iter() {
            let path = format!("{section}.{key}");
            let known = VARS.iter().filter_map(|v| v.toml).find(|t| *t == path);
            match (known, plain(item)) {
                (Some(name), Some(text)) => drop(toml.values.insert(name, text)),
                (Some(_), None) => warnings.push(format!("{OCTO_TOML}: `{path}` is no plain value; it is left out")),
                (None, _) if FREE.contains(&section) => {}
                (None, _) => warnings.push(format!("{OCTO_TOML}: there is no setting `{path}`; it is left out")),
            }
        }
    }
    toml
}

/// The text form of a value, as the environment would have it; lists are joined by commas.
fn plain(item: &Item) -> Option<String> {
    let scalar = |v: &toml_edit::Value| match v {
        toml_edit::Value::String(s) => Some(s.value().clone()),
        toml_edit::Value::Integer(n) => Some(n.value().to_string()),
        _ => None,
    };
    match item.as_value()? {
        toml_edit::Value::Array(list) => {
            let words: Option<Vec<String>> = list.iter().map(scalar).collect();
            Some(words?.join(","))
        }
        value => scalar(value),
    }
}

fn table_json(table: &dyn TableLike) -> Value {
    Value::Object(table.iter().map(|(k, item)| (k.to_owned(), item_json(item))).collect::<Map<_, _>>())
}

fn item_json(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => value_json(value),
        Item::Table(table) => table_json(table),
        Item::ArrayOfTables(tables) => Value::Array(tables.iter().map(|t| table_json(t)).collect()),
    }
}

fn value_json(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(s) => Value::from(s.value().as_str()),
        toml_edit::Value::Integer(n) => Value::from(*n.value()),
        toml_edit::Value::Float(f) => Value::from(*f.value()),
        toml_edit::Value::Boolean(b) => Value::from(*b.value()),
        toml_edit::Value::Datetime(at) => Value::from(at.value().to_string()),
        toml_edit::Value::Array(list) => Value::Array(list.iter().map(value_json).collect()),
        toml_edit::Value::InlineTable(table) => table_json(table),
    }
}

/// The team file that the text of an `octo.toml` names, trusted or not: `octo trust` must look at both.
pub(crate) fn team_of_toml(text: &[u8]) -> Option<PathBuf> {
    let document: DocumentMut = std::str::from_utf8(text).ok()?.parse().ok()?;
    let team = document.get("agents")?.as_table_like()?.get("team")?.as_str()?;
    (!team.is_empty()).then(|| PathBuf::from(team))
}
