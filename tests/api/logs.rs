//! Logs by offset.

use crate::harness::World;

#[test]
fn a_span_is_exactly_the_asked_for_bytes_before_and_after_the_fold() {
    let world = World::new();
    let id = world.bg("seq 20000; printf 'no newline'; while [ ! -e go ]; do sleep 0.02; done");
    let mut whole: Vec<u8> = (1..=20000).flat_map(|i| format!("{i}\n").into_bytes()).collect();
    whole.extend(b"no newline");
    crate::harness::wait_for("the output", || {
        world.get(&format!("/background-agents/{id}/logs")).body.len() == whole.len()
    });
    let check = || {
        let size = whole.len() as i64;
        for from in
            [0, 1, 5, 65_535, 65_536, 65_537, size - 1, size, size + 1, i64::MAX, -1, -7, -size, -size - 9, i64::MIN]
        {
            let begin = if from < 0 { size.saturating_add(from).max(0) } else { from.min(size) };
            let said = world.get(&format!("/background-agents/{id}/logs?from={from}"));
            assert!(
                said.status == 200 && said.body == whole[begin as usize..],
                "from={from}: {} bytes",
                said.body.len()
            );
            assert_eq!(said.header("x-octo-log-from"), begin.to_string(), "from={from}");
            assert_eq!(said.header("x-octo-log-size"), size.to_string());
        }
        for (lines, tail) in [(0, ""), (1, "no newline"), (2, "20000\nno newline"), (3, "19999\n20000\nno newline")] {
            let said = world.get(&format!("/background-agents/{id}/logs?lines={lines}"));
            assert_eq!(String::from_utf8_lossy(&said.body), tail, "lines={lines}");
        }
        let all = world.get(&format!("/background-agents/{id}/logs?lines={}", u64::MAX));
        assert!(all.body == whole);
    };
    check();
    std::fs::write(world.path("go"), "").unwrap();
    world.ended(&id);
    world.folded(&id);
    check();
    world.kill_daemon();
    world.start();
    check();
}

#[test]
fn a_log_that_lives_in_the_record_can_be_cut_anywhere() {
    let world = World::new();
    let id = world.bg("printf 'é\\n→\\n'");
    world.ended(&id);
    world.folded(&id);
    let whole = "é\n→\n".as_bytes();
    for from in 0..=whole.len() {
        let said = world.get(&format!("/background-agents/{id}/logs?from={from}"));
        assert_eq!(said.body, whole[from..], "from={from}");
    }
    assert_eq!(world.get(&format!("/background-agents/{id}/logs?lines=1")).body, "→\n".as_bytes());
}

#[test]
fn no_log_yet_is_an_empty_log() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "1")]);
    let first = world.bg("exec sleep 1000");
    world.until(&first, "running");
    let queued = world.bg("true");
    let said = world.get(&format!("/background-agents/{queued}/logs"));
    assert_eq!((said.status, said.body.len()), (200, 0));
    assert_eq!(world.get("/background-agents/77/logs").error(), "not_found");
}
