use std::cell::RefCell;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn action(tool: &str, input: Value) -> Action {
    with_file(tool, input, None)
}

fn with_file(tool: &str, input: Value, present: Option<&str>) -> Action {
    let request = ActionRequest { tool: tool.into(), input, folder: "/w".into() };
    describe(&request, |_| present.map(str::to_owned))
}

fn parts(action: &Action) -> (&str, &str) {
    (&action.format, &action.what)
}

#[test]
fn a_command_is_shown_as_it_is_typed() {
    let input = json!({"command": "rm -rf ./x\necho done", "description": "Harmless", "timeout": 5});
    assert_eq!(parts(&action("Bash", input)), (COMMAND, "rm -rf ./x\necho done"));
}

#[test]
fn what_changes_how_a_command_runs_is_shown_too() {
    let input = json!({"command": "make", "run_in_background": true, "dangerously\nDisableSandbox": true});
    let what = "make\n# run_in_background: true\n# dangerously\\nDisableSandbox: true";
    assert_eq!(parts(&action("Bash", input)), (COMMAND, what));
}

#[test]
fn an_edit_is_a_diff_under_its_path() {
    let input = json!({"file_path": "/w/a.txt", "old_string": "one\ntwo\nthree", "new_string": "one\n2\nthree"});
    let what = "--- /w/a.txt\n+++ /w/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\\ No newline at end of file\n";
    assert_eq!(parts(&action("Edit", input.clone())), (DIFF, what));
    let mut all = input;
    all["replace_all"] = true.into();
    assert!(action("Edit", all).what.contains("+++ /w/a.txt\n# wherever it occurs:\n@@"));
}

#[test]
fn several_edits_are_several_diffs() {
    let edit = |old: &str, new: &str| json!({"old_string": old, "new_string": new});
    let input = json!({"file_path": "a", "edits": [edit("x\n", "y\n"), edit("", "new\n")]});
    let what = "--- a\n+++ a\n@@ -1 +1 @@\n-x\n+y\n@@ -0,0 +1 @@\n+new\n";
    assert_eq!(parts(&action("MultiEdit", input)), (DIFF, what));
}

#[test]
fn a_write_is_compared_with_what_is_there() {
    let input = json!({"file_path": "sub/n.txt", "content": "one\nthree\n"});
    let asked = RefCell::new(Vec::new());
    let request = ActionRequest { tool: "Write".into(), input: input.clone(), folder: "/w".into() };
    let shown = describe(&request, |path| {
        asked.borrow_mut().push(path.to_owned());
        Some("one\ntwo\n".to_owned())
    });
    assert_eq!(shown.what, "--- sub/n.txt\n+++ sub/n.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n");
    assert_eq!(asked.into_inner(), [Path::new("/w/sub/n.txt")]);
    let new = "--- (no text to compare with)\n+++ sub/n.txt\n@@ -0,0 +1,2 @@\n+one\n+three\n";
    assert_eq!(parts(&action("Write", input.clone())), (DIFF, new));
    assert!(with_file("Write", input, Some("one\nthree\n")).what.ends_with("\n# no change\n"));
}

#[test]
fn every_other_tool_and_every_odd_input_is_shown_as_json() {
    let fetch = json!({"url": "https://example.com", "prompt": "x"});
    let pretty = "{\n  \"url\": \"https://example.com\",\n  \"prompt\": \"x\"\n}";
    assert_eq!(parts(&action("WebFetch", fetch)), (JSON, pretty));
    for (tool, input) in [
        ("Bash", json!({"command": 7})),
        ("Bash", json!(null)),
        ("Edit", json!({"file_path": "a", "old_string": "x"})),
        ("MultiEdit", json!({"file_path": "a", "edits": [{"old_string": "x"}]})),
        ("MultiEdit", json!({"file_path": "a", "edits": {}})),
        ("Write", json!({"file_path": "a"})),
        ("Write", json!([1])),
        ("", json!({})),
    ] {
        let shown = action(tool, input.clone());
        assert_eq!(parts(&shown), (JSON, serde_json::to_string_pretty(&input).unwrap().as_str()), "{tool}");
    }
}

#[test]
fn a_path_cannot_pass_for_lines_of_a_diff() {
    let input = json!({"file_path": "a\n+++ b\u{1b}[2J", "content": "x"});
    assert!(action("Write", input).what.contains("\n+++ a\\n+++ b\\u{1b}[2J\n@@"));
}

#[test]
fn too_long_a_text_says_how_much_is_missing() {
    let long = format!("first {}é last", "é".repeat(ACTION_MAX));
    let shown = action("Bash", json!({"command": long})).what;
    assert!(shown.len() <= ACTION_MAX, "{}", shown.len());
    assert!(shown.len() > ACTION_MAX - 100, "{}", shown.len());
    let (head, rest) = shown.split_once("\n[... ").unwrap();
    let (missing, tail) = rest.split_once(" bytes are not shown ...]\n").unwrap();
    assert_eq!(head.len() + tail.len() + missing.parse::<usize>().unwrap(), long.len());
    assert!(head.starts_with("first ") && tail.ends_with(" last"));
    let named = action(&"T".repeat(9999), json!({}));
    assert!(named.tool.len() <= TOOL_MAX && named.tool.contains("bytes are not shown"));
}

#[test]
fn a_large_and_twisted_file_costs_little_time() {
    let line = |i: usize, n: usize| format!("{}\n", i * 7919 % n);
    let old: String = (0..30_000).map(|i| line(i, 1009)).collect();
    let new: String = (0..30_000).map(|i| line(i + 13, 997)).collect();
    assert!(old.len() < COMPARED_MAX && new.len() < COMPARED_MAX);
    let began = std::time::Instant::now();
    let input = json!({"file_path": "a", "content": new});
    assert!(with_file("Write", input, Some(&old)).what.len() <= ACTION_MAX);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn only_texts_of_some_size_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("text"), "hé\n").unwrap();
    std::fs::write(at("binary"), b"\xff\xfe").unwrap();
    std::fs::write(at("largest"), "x".repeat(COMPARED_MAX)).unwrap();
    std::fs::write(at("larger"), "x".repeat(COMPARED_MAX + 1)).unwrap();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(read_text(&at("text")).as_deref(), Some("hé\n"));
    assert_eq!(read_text(&at("largest")).map(|t| t.len()), Some(COMPARED_MAX));
    for name in ["binary", "larger", "pipe", "missing", "."] {
        assert_eq!(read_text(&at(name)), None, "{name}");
    }
    assert_eq!(read_text(Path::new("/dev/zero")), None);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The same value, each object's keys the other way round.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(reversed).collect::<Vec<_>>().into(),
        Value::Object(fields) => Value::Object(fields.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect()),
        other => other.clone(),
    }
}

/// The same value but for one leaf, chosen by `at`.
fn changed(value: &Value, at: usize) -> Value {
    match value {
        Value::Null => json!(false),
        Value::Bool(b) => json!(!b),
        Value::Number(n) => json!(n.to_string()),
        Value::String(s) => json!(format!("{s} ")),
        Value::Array(items) if items.is_empty() => json!([null]),
        Value::Array(items) => {
            let mut items = items.clone();
            let i = at % items.len();
            items[i] = changed(&items[i], at / 7);
            items.into()
        }
        Value::Object(fields) if fields.is_empty() => json!({"": null}),
        Value::Object(fields) => {
            let mut fields = fields.clone();
            let i = at % fields.len();
            if let Some(field) = fields.values_mut().nth(i) {
                *field = changed(field, at / 7);
            }
            Value::Object(fields)
        }
    }
}

proptest! {
    #[test]
    fn the_order_of_keys_makes_no_difference(input in values(), tool in ".{0,8}", folder in ".{0,8}") {
        prop_assert_eq!(digest(&tool, &folder, &input), digest(&tool, &folder, &reversed(&input)));
    }

    #[test]
    fn a_trip_through_json_makes_no_difference(input in values()) {
        let there_and_back: Value = serde_json::from_str(&input.to_string()).unwrap();
        prop_assert_eq!(digest("T", "/", &there_and_back), digest("T", "/", &input));
    }

    #[test]
    fn every_other_change_does(input in values(), at in any::<usize>(), tool in ".{0,8}", folder in ".{0,8}", more in ".{1,3}") {
        let own = digest(&tool, &folder, &input);
        prop_assert_ne!(&own, &digest(&tool, &folder, &changed(&input, at)));
        prop_assert_ne!(&own, &digest(&format!("{tool}{more}"), &folder, &input));
        prop_assert_ne!(&own, &digest(&tool, &format!("{folder}{more}"), &input));
        prop_assert_ne!(&own, &digest(&tool, &folder, &json!([input])));
    }

    #[test]
    fn different_actions_have_different_digests(a in values(), b in values(), words in prop::collection::vec("[a-c\",]{0,3}", 4)) {
        let one = (&words[0], &words[1], &a);
        let two = (&words[2], &words[3], &b);
        let same = one.0 == two.0 && one.1 == two.1 && a == b;
        prop_assert_eq!(digest(one.0, one.1, one.2) == digest(two.0, two.1, two.2), same);
    }

    #[test]
    fn whatever_the_input_the_text_is_bounded(tool in prop_oneof![Just("Bash"), Just("Edit"), Just("Write"), Just("MultiEdit"), Just("X")], input in values()) {
        prop_assert!(action(tool, input).what.len() <= ACTION_MAX);
    }
}

#[test]
fn the_digest_is_what_it_was() {
    let input = json!({"b": [1, 2.5, null], "a": {"d": "\u{e9}\n", "c": true}});
    let text = "octo action 1\n[\"Bash\",\"/w\",{\"a\":{\"c\":true,\"d\":\"\u{e9}\\n\"},\"b\":[1,2.5,null]}]";
    let expected: String = Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest("Bash", "/w", &input), expected);
}
