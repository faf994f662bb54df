//! YAML as a small tree that knows its lines.
//!
//! Aliases are copied and `<<` is merged, so that what comes out is plain; what goes in is bounded, and so is what
//! aliases can make of it.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// The longest text, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// The most values, counting each copy that an alias makes.
const NODES_MAX: usize = 100_000;

/// How deep values may lie in each other.
const DEPTH_MAX: usize = 64;

/// A value and the line at which it begins, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Yaml,
}

/// A value. What is not quoted may be a number, a truth value or nothing: whoever wants one says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    Text { text: String, quoted: bool },
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// A key with its line, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// Why a text is no YAML that can be used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) what: String,
}

impl Node {
    /// Nothing was said: an empty value, `null` or `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Yaml::Text { text, quoted: false } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// How many values it is.
    fn size(&self) -> usize {
        1 + match &self.value {
            Yaml::Text { .. } => 0,
            Yaml::List(items) => items.iter().map(Node::size).sum(),
            Yaml::Map(fields) => fields.iter().map(|f| f.value.size()).sum(),
        }
    }

    /// How deep values lie in it.
    fn depth(&self) -> usize {
        1 + match &self.value {
            Yaml::Text { .. } => 0,
            Yaml::List(items) => items.iter().map(Node::depth).max().unwrap_or_default(),
            Yaml::Map(fields) => fields.iter().map(|f| f.value.depth()).max().unwrap_or_default(),
        }
    }
}

/// Reads a text that holds one document; one without any is nothing.
pub(super) fn parse(text: &str) -> Result<Node, Wrong> {
    if text.len() > TEXT_MAX {
        return Err(Wrong { line: 1, what: format!("the file has {} bytes, more than {TEXT_MAX}", text.len()) });
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Wrong { line: e.marker().line(), what: e.info().to_owned() })?;
        builder.take(event, span.start.line())?;
    }
    Ok(builder.done.unwrap_or(Node { line: 1, value: Yaml::Text { text: String::new(), quoted: false } }))
}

/// A list or a map that is not complete yet.
struct Open {
    line: usize,
    anchor: usize,
    items: Vec<Node>,
    /// A map's fields, and the key that waits for its value.
    fields: Option<Vec<Field>>,
    key: Option<(String, usize, bool)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    done: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Wrong> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let quoted = style != ScalarStyle::Plain;
                self.put(Node { line, value: Yaml::Text { text: text.into_owned(), quoted } }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(line, anchor, None),
            Event::MappingStart(anchor, _) => self.begin(line, anchor, Some(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.put(node, 0),
                None => Err(Wrong { line, what: "an alias (`*name`) names something that is not complete".to_owned() }),
            },
            Event::DocumentStart(_) if self.done.is_some() => {
                Err(Wrong { line, what: "a second document begins here: a team file has one".to_owned() })
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, fields: Option<Vec<Field>>) -> Result<(), Wrong> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Wrong { line, what: format!("values lie more than {DEPTH_MAX} deep in each other") });
        }
        if let Some(Open { fields: Some(_), key: None, .. }) = self.open.last() {
            return Err(Wrong { line, what: "a key must be a text, not a list or a map".to_owned() });
        }
        self.open.push(Open { line, anchor, items: Vec::new(), fields, key: None });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Wrong> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = open.fields.map_or(Yaml::List(open.items), Yaml::Map);
        self.put(Node { line: open.line, value }, open.anchor)
    }

    /// Puts a complete value where it belongs.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Wrong> {
        self.nodes += if matches!(node.value, Yaml::Text { .. }) { 1 } else { node.size() };
        if self.nodes > NODES_MAX || self.open.len() + node.depth() > DEPTH_MAX {
            let what = format!("the values, with what aliases copy, are more than {NODES_MAX}, or too deep");
            return Err(Wrong { line: node.line, what });
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.done = Some(node);
            return Ok(());
        };
        let Some(fields) = &mut open.fields else {
            open.items.push(node);
            return Ok(());
        };
        match open.key.take() {
            None => {
                let Yaml::Text { text, quoted } = node.value else {
                    return Err(Wrong {
                        line: node.line,
                        what: "a key must be a text, not a list or a map".to_owned(),
                    });
                };
                open.key = Some((text, node.line, !quoted));
                Ok(())
            }
            Some((key, line, true)) if key == "<<" => merge(fields, node, line),
            Some((key, line, _)) => add(fields, key, line, node),
        }
    }
}

fn add(fields: &mut Vec<Field>, key: String, line: usize, value: Node) -> Result<(), Wrong> {
    match fields.iter_mut().find(|f| f.key == key) {
        // Line 0 marks what was merged: a key that is written wins, wherever it stands.
        Some(merged) if merged.line == 0 => *merged = Field { key, line, value },
        Some(first) => {
            return Err(Wrong { line, what: format!("`{key}` is here twice (first at line {})", first.line) });
        }
        None => fields.push(Field { key, line, value }),
    }
    Ok(())
}

/// Adds the fields of a map, or of several, that are not there yet.
fn merge(fields: &mut Vec<Field>, node: Node, line: usize) -> Result<(), Wrong> {
    let maps = match node.value {
        Yaml::List(maps) => maps,
        _ => vec![node],
    };
    for map in maps {
        let Yaml::Map(more) = map.value else {
            return Err(Wrong { line, what: "`<<` takes a map, or a list of maps".to_owned() });
        };
        for field in more {
            if fields.iter().all(|f| f.key != field.key) {
                fields.push(Field { line: 0, ..field });
            }
        }
    }
    Ok(())
}
