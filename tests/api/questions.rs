//! Questions over the API: asked from inside a task, answered from outside, by the first who does.

use std::sync::Barrier;

use serde_json::{Value, json};

use crate::harness::{World, wait_for};

/// A task that asks with `curl` and prints what it was answered.
const ASKER: &str = r#"
me="http://octo/background-agents/$OCTO_TASK_ID"
call() { curl -s --max-time 400 --unix-socket "$OCTO_WORKSPACE/.octo/octo.sock" "$@"; }
ask() { until call "$me/questions" -d "{\"text\":\"$1\",\"key\":\"$1\"}" | grep -q '"question"'; do sleep 0.05; done; }
answer() { until out=$(call "$me/questions/$1?wait=30") && case $out in *'"open":false'*) true;; *) false;; esac; do sleep 0.05; done
  printf '%s\n' "$out" | sed 's/.*"answer":{"question":"[^"]*","text":"\([^"]*\)".*/\1/'; }
"#;

fn asks(world: &World, id: &str, open: usize) -> Value {
    wait_for("the questions", || {
        let task = world.task(id);
        task["questions"].as_array().is_some_and(|all| all.iter().filter(|q| q["open"] == true).count() == open)
    });
    world.task(id)
}

fn resume(world: &World, id: &str, body: &Value) -> (u16, Value) {
    let said = world.http("POST", &format!("/background-agents/{id}/resume"), body.to_string().as_bytes());
    (said.status, said.json())
}

#[test]
fn a_task_asks_pauses_and_goes_on_with_the_answer_over_kills_of_the_daemon() {
    let world = World::new();
    let id = world.bg(&format!("{ASKER}\nask first; answer q1; ask second; answer q2; echo done"));
    let task = asks(&world, &id, 1);
    assert_eq!((&task["status"], &task["paused_question"]), (&json!("paused"), &json!("first")));
    world.kill_daemon();
    world.start();
    assert_eq!(asks(&world, &id, 1)["paused_question"], "first");
    let (status, task) = resume(&world, &id, &json!({"answer": "one"}));
    assert_eq!((status, &task["answers"][0]["by"]), (200, &json!("api")));
    world.kill_daemon();
    world.start();
    asks(&world, &id, 1);
    assert_eq!(resume(&world, &id, &json!({"answer": "two", "question": "q2"})).0, 200);
    let task = world.ended(&id);
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &json!("one\ntwo\ndone\n")));
    let steps: Vec<&str> = task["history"].as_array().unwrap().iter().map(|h| h["status"].as_str().unwrap()).collect();
    assert_eq!(steps, ["dispatched", "running", "paused", "running", "paused", "running", "completed"]);
}

#[test]
fn a_hundred_races_have_one_winner_each_and_tell_the_loser() {
    let world = World::new();
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    for n in 1..=100 {
        let body = json!({"text": "which?", "key": format!("k{n}")}).to_string();
        let asked = world.http("POST", &format!("/background-agents/{id}/questions"), body.as_bytes()).json();
        let question = asked["question"]["id"].as_str().unwrap().to_owned();
        let barrier = Barrier::new(2);
        let (barrier, world, id, question) = (&barrier, &world, &id, &question);
        let said: Vec<(u16, Value)> = std::thread::scope(|scope| {
            let race = |name: &'static str| {
                scope.spawn(move || {
                    barrier.wait();
                    resume(world, id, &json!({"answer": name, "question": question}))
                })
            };
            let racers = [race("red"), race("blue")];
            racers.map(|racer| racer.join().unwrap()).into()
        });
        let won: Vec<&Value> = said.iter().filter(|(status, _)| *status == 200).map(|(_, task)| task).collect();
        let lost: Vec<&Value> = said.iter().filter(|(status, _)| *status == 409).map(|(_, told)| told).collect();
        assert_eq!((won.len(), lost.len()), (1, 1), "{said:?}");
        let answers = world.task(id)["answers"].as_array().unwrap().clone();
        let mine: Vec<_> = answers.iter().filter(|a| a["question"] == question.as_str()).collect();
        assert_eq!(mine.len(), 1);
        let message = lost[0]["error"]["message"].as_str().unwrap();
        assert!(message.ends_with(&format!(": {}", mine[0]["text"].as_str().unwrap())), "{message}");
    }
}

/// RELIABILITY of the hurdle: whatever a task does to look like somebody else's child, it answers nothing.
#[test]
fn a_task_answers_no_question_however_it_detaches() {
    let world = World::new();
    let other = world.bg("exec sleep 1000");
    world.until(&other, "running");
    let body = json!({"text": "May I?", "key": "k"}).to_string();
    assert_eq!(world.http("POST", &format!("/background-agents/{other}/questions"), body.as_bytes()).status, 201);
    let script = format!(
        "{ASKER}
        ask mine
        try() {{ call -o /dev/null -w '%{{http_code}}\\n' \"$@\"; }}
        try \"$me/resume\" -d '{{\"answer\":\"yes\"}}'
        try http://octo/background-agents/{other}/resume -d '{{\"answer\":\"yes\",\"question\":\"q1\"}}'
        try http://octo/background-agents/{other}/questions/q1
        try http://octo/background-agents/{other}/questions -d '{{\"text\":\"x\"}}'
        try 'http://octo/owed?bridge=telegram'; try http://octo/receipts -d '{{\"bridge\":\"telegram\",\"receipts\":[]}}'
        try -X POST http://octo/bridges/telegram/pairing; try http://octo/bridges/telegram/pairing
        try http://octo/bridges/telegram/pairing/decision -d '{{\"accept\":true}}'
        try -H 'x-octo-client: telegram:4711' \"$me/resume\" -d '{{\"answer\":\"yes\"}}'
        "
    );
    std::fs::write(world.path("try.sh"), script).unwrap();
    for how in [
        "sh try.sh >out",
        "setsid -w sh try.sh >out",
        // A double fork into a session of its own, whose parents are gone.
        "(setsid sh -c 'sh try.sh >out.tmp; mv out.tmp out' >/dev/null 2>&1 &) ; while [ ! -e out ]; do sleep 0.05; done",
        "env -i OCTO_TASK_ID=$OCTO_TASK_ID OCTO_WORKSPACE=$OCTO_WORKSPACE PATH=$PATH setsid -w nohup sh try.sh >out",
    ] {
        let _ = std::fs::remove_file(world.path("out"));
        let id = world.bg(how);
        world.ended(&id);
        let out = std::fs::read_to_string(world.path("out")).unwrap();
        assert_eq!(out.lines().collect::<Vec<_>>(), vec!["403"; 10], "{how}");
        assert_eq!(world.task(&id)["questions"][0]["closed"], "task_ended");
    }
    let task = world.task(&other);
    assert_eq!((&task["answers"], &task["questions"][0]["open"]), (&json!([]), &json!(true)));
}

#[test]
fn questions_are_kept_within_bounds() {
    let world = World::new();
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    let ask = |body: Value| {
        let said = world.http("POST", &format!("/background-agents/{id}/questions"), body.to_string().as_bytes());
        (said.status, said.json())
    };
    for bad in [
        json!({"text": " "}),
        json!({"text": "x", "choices": ["a", "A"]}),
        json!({"text": "x", "choices": ["a", " "]}),
        json!({"text": "x", "choices": vec!["x".repeat(3); 51]}),
        json!({"text": "x", "timeout": u64::MAX}),
        json!({"text": "x", "timeout": -1}),
        json!({"action": {"tool": "", "input": {}}}),
        json!({"action": {"tool": "Bash", "input": {}}, "choices": ["yes"]}),
        json!({"text": "x", "by": "a\nb"}),
    ] {
        assert_eq!(ask(bad.clone()).0, 400, "{bad}");
    }
    for long in [
        json!({"text": "x".repeat(20_000)}),
        json!({"text": "x", "key": "k".repeat(300)}),
        json!({"text": "x", "choices": ["c".repeat(600)]}),
    ] {
        assert_eq!(ask(long).0, 413);
    }
    let (status, asked) = ask(json!({"text": "go?", "key": "k", "choices": ["yes", "no"]}));
    assert_eq!((status, &asked["question"]["id"]), (201, &json!("q1")));
    let (status, told) = resume(&world, &id, &json!({"answer": "maybe"}));
    assert_eq!((status, &told["error"]["hint"]), (400, &json!("choose one of: yes, no")));
    assert_eq!(resume(&world, &id, &json!({"answer": ""})).0, 400);
    assert_eq!(resume(&world, &id, &json!({"answer": "yes", "question": "q7"})).0, 404);
    assert_eq!(resume(&world, &id, &json!({"answer": "YES"})).0, 200);
    let closed = world.get(&format!("/background-agents/{id}/questions/q1?wait=300")).json();
    assert_eq!((&closed["question"]["open"], &closed["answer"]["text"]), (&json!(false), &json!("yes")));
    assert_eq!(world.get(&format!("/background-agents/{id}/questions/q9")).status, 404);
    assert_eq!(world.status()["open_questions"], 0);
}

#[test]
fn a_permission_shows_what_octo_computed() {
    let world = World::new();
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    let input = json!({"command": "rm -rf build", "description": "lists files"});
    let body = json!({"key": "k", "by": "claude", "action": {"tool": "Bash", "input": input, "folder": "/srv"}});
    let asked = world.http("POST", &format!("/background-agents/{id}/questions"), body.to_string().as_bytes()).json();
    let action = &asked["question"]["action"];
    assert_eq!((&action["tool"], &action["folder"]), (&json!("Bash"), &json!("/srv")));
    assert!(action["what"].as_str().unwrap().contains("rm -rf build"), "{action}");
    assert_eq!(action["digest"], octo::action::digest("Bash", "/srv", &input));
    assert_eq!(asked["question"]["choices"], json!(["allow", "allow for this task", "deny"]));
    let (status, told) = resume(&world, &id, &json!({"answer": "allow"}));
    assert_eq!(status, 409, "{told}");
    assert!(told["error"]["hint"].as_str().unwrap().contains("q1 (permission: Bash)"), "{told}");
    let (status, task) = resume(&world, &id, &json!({"answer": "deny", "question": "q1"}));
    assert_eq!((status, &task["status"]), (200, &json!("running")));
}
