//! Every row of the table keeps what the table promises.

use std::collections::HashSet;

use super::*;

fn example(tool: &Tool) -> Value {
    serde_json::from_str(tool.example).unwrap_or_else(|e| panic!("{}: {e}", tool.name))
}

#[test]
fn schemas_are_valid_and_take_the_example() {
    for tool in TOOLS {
        let schema = tool.schema();
        assert!(jsonschema::meta::is_valid(&schema), "{}: {schema}", tool.name);
        assert_eq!(schema["type"], "object", "{}", tool.name);
        let validator = jsonschema::validator_for(&schema).unwrap();
        let example = example(tool);
        assert!(validator.is_valid(&example), "{}: {example}", tool.name);
        for param in tool.params {
            let mut without = example.clone();
            without.as_object_mut().unwrap().remove(param.name);
            assert_eq!(validator.is_valid(&without), !param.required, "{} without {}", tool.name, param.name);
        }
        let mut more = example;
        more["no_such_argument"] = json!(1);
        assert!(!validator.is_valid(&more), "{}", tool.name);
    }
}

#[test]
fn a_call_is_read_into_its_type_and_back() {
    let mut seen = HashSet::new();
    for tool in TOOLS {
        assert!(seen.insert(tool.name), "{} twice", tool.name);
        let example = example(tool);
        let call = parse(tool.name, &example).unwrap_or_else(|e| panic!("{}: {e}", tool.name));
        assert_eq!(call.name(), tool.name);
        assert_eq!(call.arguments(), example, "{}", tool.name);
        assert_eq!(find(tool.name).unwrap().name, tool.name);
    }
}

/// Every optional parameter is read too: the type knows all of the schema's names.
#[test]
fn types_know_every_parameter() {
    let all = json!({"task_type": "agent", "prompt": "p", "agent_name": "a", "cwd": "c", "timeout": 0, "max_turns": 3});
    assert_eq!(parse("dispatch_background", &all).unwrap().arguments(), all);
    for tool in TOOLS.iter().filter(|t| t.name != "dispatch_background") {
        let example = example(tool);
        let given: HashSet<&str> = example.as_object().unwrap().keys().map(String::as_str).collect();
        let known: HashSet<&str> = tool.params.iter().map(|p| p.name).collect();
        assert_eq!(given, known, "the example of {} shows every parameter", tool.name);
    }
}

/// A value that no parameter of this kind takes.
fn wrong(kind: spec::Kind) -> Value {
    match kind {
        spec::Kind::Text | spec::Kind::Words | spec::Kind::Choice(_) => json!(7),
        spec::Kind::Number(_, most) => json!(most + 1),
        spec::Kind::Flag => json!("yes"),
        spec::Kind::Texts(_) | spec::Kind::Objects(..) => json!([]),
    }
}

#[test]
fn a_wrong_call_is_told_what_is_wrong_and_what_is_right() {
    for tool in TOOLS {
        for param in tool.params {
            let mut args = example(tool);
            args[param.name] = wrong(param.kind);
            let said = parse(tool.name, &args).unwrap_err().to_string();
            for needed in [tool.name, param.name, "must be", tool.example] {
                assert!(said.contains(needed), "{said} does not say {needed}");
            }
            assert!(!jsonschema::is_valid(&tool.schema(), &args), "{}: {args}", tool.name);
            if param.required {
                args.as_object_mut().unwrap().remove(param.name);
                let said = parse(tool.name, &args).unwrap_err().to_string();
                assert!(said.contains(&format!("`{}` is missing", param.name)), "{said}");
            } else {
                args[param.name] = Value::Null;
                let kept = spec::check(&args, tool.params).unwrap();
                assert!(!kept.contains_key(param.name), "null is not given");
            }
        }
        let mut args = example(tool);
        args["filePath"] = json!("x");
        let said = parse(tool.name, &args).unwrap_err().to_string();
        assert!(said.contains("`filePath`") && said.contains("it takes"), "{said}");
        let said = parse(tool.name, &json!(["x"])).unwrap_err().to_string();
        assert!(said.contains("one JSON object"), "{said}");
    }
}

#[test]
fn names_and_arguments_are_those_of_the_interface() {
    let table: Vec<String> = TOOLS.iter().map(|t| format!("{}{{{}}}", t.name, spec::names(t.params))).collect();
    insta::assert_snapshot!(table.join("\n"), @r"
    read_file{path, offset?, limit?}
    write_file{path, content}
    edit_file{path, old_string, new_string, replace_all?}
    list_files{path?, recursive?, pattern?}
    search_files{pattern, path?, glob?, context?}
    shell{command, cwd?, timeout?}
    think{thought}
    create_todos{descriptions}
    update_todos{updates}
    list_todos{}
    task_complete{summary}
    escalate_question{question, choices?}
    dispatch_background{task_type, command?, prompt?, agent_name?, cwd?, timeout?, max_turns?}
    run_background_agent{agent, task, expected_output?}
    list_background_agents{}
    view_background_agent{task_id}
    stop_background_agent{task_id}
    wait_background_agents{task_ids, timeout?}
    transfer_task{agent, task, expected_output}
    ");
    let said = parse("bash", &json!({})).unwrap_err().to_string();
    assert!(TOOLS.iter().all(|tool| said.contains(tool.name)), "{said}");
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    for (tool, args, words) in [
        ("dispatch_background", json!({"task_type": "process"}), "needs `command`"),
        ("dispatch_background", json!({"task_type": "agent"}), "needs `prompt`"),
        ("dispatch_background", json!({"task_type": "agent", "prompt": "p", "command": "rm"}), "leave it out"),
        ("dispatch_background", json!({"task_type": "process", "prompt": "p", "command": "ls"}), "leave them out"),
        ("edit_file", json!({"path": "a", "old_string": "x", "new_string": "x"}), "nothing would change"),
        ("wait_background_agents", json!({"task_ids": vec!["x"; 101]}), "1 to 100"),
        ("wait_background_agents", json!({"task_ids": ["x"], "timeout": 3601}), "from 1 to 3600"),
        (
            "update_todos",
            json!({"updates": [{"id": "todo_1", "status": "done"}]}),
            "in `updates`: `status` must be one of",
        ),
        ("update_todos", json!({"updates": ["todo_1"]}), "no object {id, status}"),
        ("write_file", json!({"path": "a", "content": "x".repeat((4 << 20) + 1)}), "use less"),
    ] {
        let said = parse(tool, &args).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    assert!(parse("read_file", &json!({"path": "a", "offset": 10.0})).is_ok());
    assert!(parse("list_todos", &Value::Null).is_ok() && parse("list_todos", &json!("")).is_ok());
}

#[test]
fn the_list_is_a_plain_value() {
    let mut world = World::new();
    assert!(world.ok("list_todos", json!({})).contains("create_todos"));
    let said = world.ok("create_todos", json!({"descriptions": ["one", "two"]}));
    assert!(said.contains("[ ] todo_1: one") && said.contains("2 items, 2 of them open"), "{said}");
    let said = world.ok("update_todos", json!({"updates": [{"id": "todo_2", "status": "completed"}]}));
    assert!(said.contains("[x] todo_2: two"), "{said}");
    let before = world.todos.clone();
    let updates =
        json!({"updates": [{"id": "todo_1", "status": "completed"}, {"id": "todo_9", "status": "completed"}]});
    let said = world.err("update_todos", updates);
    assert!(said.contains("no item `todo_9`") && said.contains("todo_1: one"), "{said}");
    assert_eq!(world.todos, before, "a wrong update changes nothing");
    let kept: Todos = serde_json::from_value(serde_json::to_value(&before).unwrap()).unwrap();
    assert_eq!(kept, before);
    let many = json!({"descriptions": vec!["x"; 100]});
    for _ in 0..9 {
        world.ok("create_todos", many.clone());
    }
    assert!(world.err("create_todos", many).contains("902 items"));
    assert_eq!(world.todos.items().len(), 902);
    assert_eq!(world.ok("think", json!({"thought": "hm"})), "Noted.");
}

#[test]
fn what_needs_more_than_this_process_is_left_to_the_loop() {
    let (world, mut todos) = (World::new(), Todos::default());
    let elsewhere: Vec<&str> = TOOLS
        .iter()
        .filter(|tool| !matches!(tool.set, Set::Filesystem | Set::Think | Set::Todo))
        .filter(|tool| {
            let call = parse(tool.name, &example(tool)).unwrap();
            here(&call, &world.folder, &mut todos, Limits::default()).is_none()
        })
        .map(|tool| tool.name)
        .collect();
    assert_eq!(elsewhere.len(), 10, "{elsewhere:?}");
}
