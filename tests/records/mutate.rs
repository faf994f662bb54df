//! Mutated records: seeded, in batches, each against one start of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::harness::random::Random;
use crate::harness::{World, scale};

/// Damages the text of a record. Some results are still good records: then they must be loaded.
fn mutate(random: &mut Random, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    match random.below(14) {
        0 => bytes.truncate(random.below(good.len())),
        1 => {
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        2 => bytes = random.bytes(4000),
        3 => {
            let (at, junk) = (random.below(bytes.len()), random.bytes(64));
            bytes.splice(at..at, junk);
        }
        4 => {
            let at = random.below(bytes.len());
            let end = (at + 1 + random.below(200)).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => bytes.extend_from_slice(good),
        6 => bytes = vec![b'['; 1 + random.below(200_000)],
        7 => bytes.extend(vec![0; 1 + random.below(4096)]),
        8 => {
            let at = random.below(bytes.len());
            bytes[at..].fill(0);
        }
        9 => return swap_a_value(random, good, odd_value),
        10 => return swap_a_value(random, good, |_| Value::Null),
        11 => {
            let text = String::from_utf8(bytes).unwrap();
            let key = ["\"id\"", "\"status\"", "\"rev\"", "\"number\"", "\"notices\""][random.below(5)];
            bytes = text.replacen(key, &format!("{key}: 1, {key}"), 1).into_bytes();
        }
        12 => {
            let mut record: Value = serde_json::from_slice(good).unwrap();
            record.as_object_mut().unwrap().remove(*random.pick(&["id", "status", "type", "history"]));
            bytes = record.to_string().into_bytes();
        }
        _ => {
            let mut record: Value = serde_json::from_slice(good).unwrap();
            record["id"] = "deadbeef".into();
            bytes = record.to_string().into_bytes();
        }
    }
    bytes
}

/// Puts another value in the place of some field's.
fn swap_a_value(random: &mut Random, good: &[u8], value: fn(&mut Random) -> Value) -> Vec<u8> {
    let mut record: Value = serde_json::from_slice(good).unwrap();
    let keys: Vec<String> = record.as_object().unwrap().keys().cloned().collect();
    let key = random.pick(&keys).clone();
    record[key] = value(random);
    serde_json::to_vec_pretty(&record).unwrap()
}

fn odd_value(random: &mut Random) -> Value {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let odd = [
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!("x".repeat(100_000)),
        json!("\u{0}\u{1b}[2J"),
        json!([]),
        json!({}),
        json!([null]),
        json!({"a": {"b": 1}}),
        json!("completed"),
        json!("exploded"),
        json!(true),
        deep,
        json!("9999-99-99T99:99:99Z"),
        json!("../../etc/passwd"),
        json!(4_294_967_296u64),
        json!(i64::MIN),
    ];
    random.pick(&odd).clone()
}

/// The contents of the quarantine, and how often each is there.
fn quarantined(world: &World) -> BTreeMap<Vec<u8>, usize> {
    let mut kept = BTreeMap::new();
    for entry in fs::read_dir(world.octo_dir().join("quarantine")).into_iter().flatten() {
        *kept.entry(fs::read(entry.unwrap().path()).unwrap()).or_insert(0) += 1;
    }
    kept
}

/// The ids in `octo tasks --json --limit 0`.
fn listed(world: &World) -> BTreeMap<String, Value> {
    let all = world.octo(&["tasks", "--json", "--limit", "0"]).exits(0).json();
    let all = all.as_array().unwrap().clone();
    let by_id: BTreeMap<String, Value> =
        all.iter().map(|t| (t["id"].as_str().unwrap().to_owned(), without_moments(t))).collect();
    assert_eq!(by_id.len(), all.len(), "a task is listed twice");
    by_id
}

/// A start sees a running task anew: that moment in the history may differ, nothing else.
fn without_moments(task: &Value) -> Value {
    let mut task = task.clone();
    if task["status"] == "running" {
        task.as_object_mut().unwrap().remove("history");
    }
    task
}

#[test]
fn mutated_records_never_stop_a_start_and_are_kept_and_reported_once() {
    let world = World::new();
    let healthy: Vec<String> = ["true", "echo ok", "exit 3", "seq 5000"].iter().map(|c| world.bg(c)).collect();
    healthy.iter().for_each(|id| drop((world.ended(id), world.folded(id))));
    let running = world.bg("while [ ! -e go ]; do sleep 0.05; done; echo through");
    world.until(&running, "running");
    let before = listed(&world);
    let good = fs::read(world.record_path(&healthy[1])).unwrap();
    world.kill_daemon();

    let (batches, size) = (scale(5, 20), 100);
    let mut random = Random::new(2_000);
    let (mut bad_files, mut still_good) = (0, 0);
    for batch in 0..batches {
        let kept_before = quarantined(&world);
        let mut written = BTreeMap::new();
        for i in 0..size {
            let id = format!("e{:07x}", batch * size + i);
            let own = String::from_utf8(good.clone()).unwrap().replace(&healthy[1], &id);
            let bytes = mutate(&mut random, own.as_bytes());
            fs::write(world.record_path(&id), &bytes).unwrap();
            written.insert(id, bytes);
        }
        world.start();
        let problems: Vec<String> = problems(&world);
        let listed = listed(&world);
        for id in healthy.iter().chain([&running]) {
            assert_eq!(listed.get(id), before.get(id), "seed 2000, batch {batch}: a healthy task changed");
        }
        let mut expected = kept_before;
        for (id, bytes) in &written {
            let reports = problems.iter().filter(|p| p.contains(&format!("{id}.json"))).count();
            if listed.contains_key(id) {
                assert_eq!(reports, 0, "{id} is listed and reported: {problems:#?}");
                still_good += 1;
            } else if world.record_path(id).exists() {
                // Left where it is because a newer Octo wrote it, as its schema says.
                assert_eq!(reports, 1, "{id}: {problems:#?}");
                assert_eq!(&fs::read(world.record_path(id)).unwrap(), bytes, "{id} was changed");
                let schema = serde_json::from_slice::<Value>(bytes).unwrap()["schema"].as_u64();
                assert!(schema > Some(1), "{id} was left in its place: {problems:#?}");
                fs::remove_file(world.record_path(id)).unwrap();
            } else {
                assert_eq!(reports, 1, "{id} is to be reported exactly once: {problems:#?}");
                *expected.entry(bytes.clone()).or_insert(0) += 1;
                bad_files += 1;
            }
        }
        assert!(quarantined(&world) == expected, "batch {batch}: quarantine is not what was written, byte for byte");
        // Not again at the next start; and what was still a record goes, so that the next batch begins clean.
        for id in written.keys().filter(|id| listed.contains_key(*id)) {
            world.octo(&["task", id, "rm"]);
        }
        world.kill_daemon();
        for id in written.keys() {
            let _ = fs::remove_file(world.record_path(id));
        }
        world.start();
        let again = self::problems(&world);
        assert!(!again.iter().any(|p| written.keys().any(|id| p.contains(&id[..]))), "reported again: {again:#?}");
        world.kill_daemon();
    }
    fs::write(world.path("go"), "").unwrap();
    world.start();
    assert_eq!(world.ended(&running)["result"], "through\n");
    eprintln!("{} mutated records: {bad_files} quarantined and reported once, {still_good} still good", batches * size);
    assert!(bad_files > batches * size / 2, "the mutations are too tame: {bad_files}");
}

fn problems(world: &World) -> Vec<String> {
    let status = world.octo(&["status", "--json"]).exits(0).json();
    status["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_truncation_of_the_small_files_is_survived() {
    // index.jsonl, marks.json, workspace.json, env/*: caches and marks, cut and overwritten at random.
    let world = World::new();
    let ids: Vec<String> = (0..3).map(|i| world.bg(&format!("echo {i}"))).collect();
    ids.iter().for_each(|id| drop((world.ended(id), world.folded(id))));
    world.octo(&["task", &ids[2], "rm"]).exits(0);
    world.stop();
    let mut random = Random::new(7);
    let files: BTreeSet<String> = ["index.jsonl", "marks.json", "workspace.json"].map(str::to_owned).into();
    let originals: BTreeMap<String, Vec<u8>> =
        files.iter().filter_map(|f| Some((f.clone(), fs::read(world.octo_dir().join(f)).ok()?))).collect();
    assert!(originals.len() >= 2, "{originals:?}");
    for round in 0..scale(12, 60) {
        for (name, bytes) in &originals {
            let damaged = match random.below(4) {
                0 => bytes[..random.below(bytes.len())].to_vec(),
                1 => random.bytes(2000),
                2 => vec![0; random.below(5000)],
                _ => [&bytes[..], &bytes[..random.below(bytes.len())]].concat(),
            };
            fs::write(world.octo_dir().join(name), damaged).unwrap();
        }
        world.start();
        let listed = listed(&world);
        assert_eq!(listed.keys().collect::<BTreeSet<_>>(), ids[..2].iter().collect(), "round {round}");
        let id = world.bg("true");
        assert_eq!(world.ended(&id)["status"], "completed");
        world.folded(&id);
        world.octo(&["task", &id, "rm"]).exits(0);
        world.kill_daemon();
    }
}
