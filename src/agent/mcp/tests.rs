use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, Resource, ResourceContents};
use serde_json::{Map, Value, json};

use super::expand::{Forms, Secrets, expand};
use super::*;
use crate::agent::team::{Mcp, Reach};
use crate::agent::tools::policy::{Decision, Grants, Policy, Wanted, decide};
use crate::agent::tools::{RESULT_MAX, TOOLS};

fn named(name: &str) -> Mcp {
    Mcp { name: name.to_owned(), ..Mcp::default() }
}

fn program(command: &str, args: &[&str]) -> Mcp {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Mcp { name: String::new(), reach: Reach::Command { command: command.to_owned(), args, env: BTreeMap::new() } }
}

fn labels(servers: &[Mcp]) -> Vec<String> {
    names::labels(servers.iter())
}

#[test]
fn a_server_is_called_what_its_owner_calls_it_or_after_its_program_or_host() {
    let at = |url: &str| Mcp {
        name: String::new(),
        reach: Reach::Remote { url: url.to_owned(), transport: String::new(), headers: BTreeMap::new() },
    };
    for (server, label) in [
        (named("files"), "files"),
        (named(" My files! "), "My_files"),
        (named("a__b"), "a_b"),
        (named("__"), "server"),
        (named("größe"), "gr_e"),
        (named("a-very-long-name-of-a-server-that-nobody-reads"), "a-very-long-name-of-a-se"),
        (program("/usr/bin/gopls", &["mcp"]), "gopls"),
        (program("npx", &["-y", "@modelcontextprotocol/server-filesystem@1.2.3", "/tmp"]), "server-filesystem"),
        (program("uvx", &["mcp-server-git==2.0"]), "mcp-server-git"),
        (program("docker", &["run", "-i", "image"]), "docker"),
        (at("https://user:word@mcp.example.com:8080/sse?x=1"), "mcp_example_com_8080"),
        (at(""), "server"),
    ] {
        assert_eq!(labels(std::slice::from_ref(&server)), [label], "{server:?}");
    }
    let three = [named("x"), named("x"), named("x-2"), named("x")];
    assert_eq!(labels(&three), ["x", "x-2", "x-2-2", "x-3"]);
}

#[test]
fn names_are_safe_short_and_never_meet() {
    assert_eq!(names::tool("files", "look"), "files__look");
    assert_eq!(names::tool("files", "look.at"), "files__look_at_e07fcd46");
    let labels = labels(&[named("a"), named("a_"), named("_a"), named("a__"), named("a__b"), named(&"l".repeat(80))]);
    let long = "t".repeat(64);
    let tools = ["b", "_b", "__b", "b__c", "c", "", "é", "è", "b c", "b.c", &long, &format!("{long}u"), "shell"];
    let mut seen = BTreeMap::new();
    for label in &labels {
        for tool in tools {
            let name = names::tool(label, tool);
            let fits = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            assert!(fits, "{name}");
            assert!(TOOLS.iter().all(|own| own.name != name), "{name}");
            assert_eq!(names::tool(label, tool), name, "the same each time");
            if let Some(other) = seen.insert(name.clone(), (label, tool)) {
                panic!("{name} is {other:?} and {:?}", (label, tool));
            }
        }
    }
}

#[test]
fn variables_take_their_places_and_are_told_to_nobody() {
    let look_up = |name: &str| Some(format!("value-of-{name}")).filter(|_| name.starts_with('A'));
    let mut secrets = Secrets::default();
    let mut put = |text: &str, forms| expand(text, forms, &look_up, &mut secrets);
    for (text, forms, out) in [
        ("", Forms::All, ""),
        ("plain", Forms::All, "plain"),
        ("x ${env.A} y", Forms::All, "x value-of-A y"),
        ("${A_1}${ env.AB }", Forms::All, "value-of-A_1value-of-AB"),
        ("$A/$AB-", Forms::All, "value-of-A/value-of-AB-"),
        ("$A ${env.A}", Forms::Braces, "$A value-of-A"),
        ("$A ${A} ${B} ${env.A}", Forms::Env, "$A ${A} ${B} value-of-A"),
        ("5$ $1 $$ é$", Forms::All, "5$ $1 $$ é$"),
    ] {
        assert_eq!(put(text, forms).as_deref(), Ok(out), "{text}");
    }
    for (text, why) in [
        ("${env.MISSING}", "the variable MISSING is not set"),
        ("$MISSING", "the variable MISSING is not set"),
        ("${env.A", "`${env.A` has a `${` without its `}`"),
        ("${env.A || 'x'}", "`${env.A || 'x'}` is no variable: only `${env.NAME}` is understood"),
        ("${}", "`${}` is no variable: only `${env.NAME}` is understood"),
    ] {
        assert_eq!(put(text, Forms::All), Err(why.to_owned()));
    }
    assert_eq!(secrets.hide("a value-of-AB b value-of-A"), "a [hidden] b [hidden]");
}

fn told(result: CallToolResult) -> Result<String, String> {
    said::text(&result).map_err(|error| error.to_string())
}

#[test]
fn results_are_text_and_what_is_none_is_named() {
    let resource = ContentBlock::resource;
    let all = CallToolResult::success(vec![
        ContentBlock::text("one"),
        ContentBlock::image("aGVsbG8=", "image/png"),
        ContentBlock::audio("aGVsbA==", "audio/wav"),
        ContentBlock::ResourceLink(Resource::new("file:///a", "a file")),
        resource(ResourceContents::text("its text", "file:///b")),
        resource(ResourceContents::blob("aGVs", "file:///c")),
    ]);
    assert_eq!(
        told(all).unwrap(),
        "one\n[an image, image/png, 5 bytes, which cannot be shown here]\n[a sound, audio/wav, 4 bytes, which cannot be \
         shown here]\n[a resource: a file <file:///a>]\n[the resource <file:///b>]\nits text\n[the resource <file:///c>, of \
         no known type, 3 bytes, which cannot be shown here]"
    );
    let mut structured = CallToolResult::structured(json!({"n": 1}));
    structured.content.clear();
    assert_eq!(told(structured).unwrap(), r#"{"n":1}"#);
    assert_eq!(told(CallToolResult::success(Vec::new())).unwrap(), "(The tool answered without any text.)");
    let failed = CallToolResult::error(vec![ContentBlock::text("no such issue")]);
    assert_eq!(said::text(&failed), Err(CallError::Failed(ToolError::new("no such issue"))));
    assert_eq!(told(CallToolResult::error(Vec::new())).unwrap_err(), "The tool failed, and said nothing more.");
    for is_error in [false, true] {
        let long = vec![ContentBlock::text("line\n".repeat(RESULT_MAX))];
        let result = if is_error { CallToolResult::error(long) } else { CallToolResult::success(long) };
        let said = told(result).unwrap_or_else(|error| error);
        assert!(
            said.len() <= RESULT_MAX && said.contains("are not shown; the whole is in no file: ask"),
            "{}",
            said.len()
        );
    }
}

fn listed(name: &str, description: &str, schema: Value) -> rmcp::model::Tool {
    let Value::Object(schema) = schema else { panic!("an object") };
    rmcp::model::Tool::new(name.to_owned(), description.to_owned(), Arc::new(schema))
}

#[test]
fn tools_are_chosen_and_bounded() {
    let object = json!({"$schema": "x", "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let list = || {
        vec![
            listed("one", " First. ", object.clone()),
            listed("two", &"é".repeat(4096), json!({"type": "string"})),
            listed("one", "again", json!({})),
            listed("big", "", json!({"properties": {"a": {"description": "x".repeat(20_000)}}})),
        ]
    };
    let (tools, problems) = tool::choose("s", list(), None);
    let names: Vec<_> = tools.iter().map(|tool| tool.spec.name.as_str()).collect();
    assert_eq!(names, ["s__one", "s__two"]);
    assert_eq!(tools[0].spec.description, "First.");
    assert_eq!(
        tools[0].spec.schema,
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    );
    assert_eq!(tools[1].spec.schema, json!({"type": "object", "properties": {}}));
    assert!(tools[1].spec.description.len() <= 4096 && tools[1].spec.description.ends_with("é..."));
    assert_eq!(problems, ["the tool `s__big` is left out: its schema has 20055 bytes, more than 16384"]);
    let (tools, problems) = tool::choose("s", list(), Some(&["two".to_owned(), "three".to_owned()]));
    assert_eq!(tools.iter().map(|tool| tool.own.as_str()).collect::<Vec<_>>(), ["two"]);
    assert_eq!(problems, ["the MCP server `s` has no tool `three`: it is left out"]);
    let many = (0..200).map(|n| listed(&format!("t{n}"), "", json!({}))).collect();
    let (tools, problems) = tool::choose("s", many, None);
    assert_eq!((tools.len(), problems.len()), (128, 1));
    assert!(problems[0].contains("72 tools more than 128"), "{problems:?}");
}

#[test]
fn arguments_that_are_null_and_not_required_are_left_out() {
    let object = json!({"properties": {"a": {}, "b": {}}, "required": ["a"]});
    let (tools, _) = tool::choose("s", vec![listed("one", "", object)], None);
    let keeps = |given: Value| tools[0].arguments(&given).map(Value::Object);
    assert_eq!(keeps(json!({"a": null, "b": null, "c": 1})), Ok(json!({"a": null, "c": 1})));
    for nothing in [json!(null), json!(" "), json!({})] {
        assert_eq!(keeps(nothing), Ok(Value::Object(Map::new())));
    }
    assert!(keeps(json!([1])).unwrap_err().contains("must be one JSON object"));
}

/// Whatever its server says of it.
#[test]
fn every_tool_needs_approval_like_one_that_changes_anything() {
    let mut hinted = listed("look", "", json!({}));
    hinted.annotations = Some(rmcp::model::ToolAnnotations::new().read_only(true));
    let (tools, _) = tool::choose("s", vec![hinted], None);
    let (tool, input) = (tools[0].spec.name.as_str(), json!({}));
    let wanted = Wanted { tool, class: CLASS, input: &input, folder: "/w" };
    assert!(matches!(decide(&wanted, &Policy::default(), &Grants::default()), Decision::Ask(_)));
}
