//! Things that are no files, or no files of this version, under the names of records.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::harness::{World, wait_within};

#[test]
fn what_is_no_regular_file_neither_hangs_a_start_nor_is_touched() {
    let world = World::new();
    let healthy = world.bg("echo ok");
    world.ended(&healthy);
    world.folded(&healthy);
    world.stop();
    let at = |id: &str| world.record_path(id);
    let target = world.beside("target");
    fs::write(&target, "precious").unwrap();
    nix::unistd::mkfifo(&at("f1f00000"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at("f01de000")).unwrap();
    fs::write(at("f01de000").join("inside"), "kept").unwrap();
    symlink("/etc/passwd", at("a1100001")).unwrap();
    symlink("/nonexistent/nowhere", at("a1100002")).unwrap();
    symlink(at("a1100003"), at("a1100003")).unwrap();
    symlink(&target, at("a1100004")).unwrap();
    let _socket = UnixListener::bind(at("b0c0e700")).unwrap();
    fs::write(at("e0000000"), "").unwrap();
    let sparse = fs::File::create(at("b1600000")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    let newer = json!({"schema": 2, "id": "fe000000", "status": "hibernating", "number": 77, "new": {"x": 1}});
    fs::write(at("fe000000"), newer.to_string()).unwrap();
    for name in ["no-id.json", "UPPER123.json", "é.json", "123456789.json", ".json"] {
        fs::write(world.tasks_dir().join(name), "{}").unwrap();
    }
    fs::write(world.tasks_dir().join("README"), "not Octo's").unwrap();

    let bad =
        ["f1f00000", "f01de000", "a1100001", "a1100002", "a1100003", "a1100004", "b0c0e700", "e0000000", "b1600000"];
    let began = std::time::Instant::now();
    let pid = world.start();
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "the start took {:?}", began.elapsed());
    let status = world.status();
    let problems: Vec<&str> = status["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    for id in bad.iter().chain(&["fe000000"]) {
        let about = problems.iter().filter(|p| p.contains(&format!("{id}.json"))).count();
        assert_eq!(about, 1, "{id}: {problems:#?}");
    }
    assert_eq!(world.octo(&["task", &healthy, "logs"]).exits(0).out, b"ok\n");
    assert!(crate::harness::process::kib(pid, "status", "VmRSS") < 100 * 1024, "the sparse file was read");
    // Nothing behind a link was read or changed, nothing lost.
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert!(!world.octo_dir().join("octod.log").exists() || !world.log().contains("root:"));
    assert_eq!(fs::read_to_string(at("fe000000")).unwrap(), newer.to_string(), "a newer record is left alone");
    assert_eq!(fs::read_to_string(world.tasks_dir().join("README")).unwrap(), "not Octo's");
    let kept: Vec<String> = fs::read_dir(world.octo_dir().join("quarantine"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for id in bad {
        assert!(kept.iter().any(|k| k.starts_with(&format!("{id}.json"))), "{id} is not kept: {kept:#?}");
    }
    let folder = kept.iter().find(|k| k.starts_with("f01de000")).unwrap();
    assert_eq!(fs::read_to_string(world.octo_dir().join("quarantine").join(folder).join("inside")).unwrap(), "kept");
    // Work goes on, with a number that the newer record has not used.
    let next = world.bg("echo next");
    let task = world.ended(&next);
    assert!(task["number"].as_u64().unwrap() > 1 && task["number"] != 77, "{task:#}");
    for verb in [&["cancel"][..], &["retry"], &["rm"]] {
        let out = world.octo(&[&["task", "fe000000"], verb].concat());
        assert!(out.code != 0 && out.err.starts_with("error:"), "{out:?}");
    }
    assert_eq!(fs::read_to_string(at("fe000000")).unwrap(), newer.to_string());
    // The next start has only the newer one to report.
    world.kill_daemon();
    world.start();
    let status = world.status();
    let problems: Vec<&str> = status["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert!(problems.len() == 1 && problems[0].contains("fe000000.json"), "{problems:#?}");
}

#[test]
fn a_newer_record_that_fits_is_shown_and_never_changed() {
    let world = World::new();
    let id = world.bg("echo new");
    world.ended(&id);
    world.folded(&id);
    world.stop();
    let mut record: Value = serde_json::from_slice(&fs::read(world.record_path(&id)).unwrap()).unwrap();
    record["schema"] = json!(99);
    record["hologram"] = json!([1]);
    let text = serde_json::to_string(&record).unwrap();
    fs::write(world.record_path(&id), &text).unwrap();
    world.start();
    assert_eq!(world.octo(&["task", &id, "--json"]).exits(0).json()["hologram"], json!([1]));
    for verb in ["retry", "rm"] {
        let out = world.octo(&["task", &id, verb]);
        assert!(out.code != 0 && out.err.contains("newer"), "{verb}: {out:?}");
    }
    world.stop();
    assert_eq!(fs::read_to_string(world.record_path(&id)).unwrap(), text);
}

#[test]
fn claims_and_exits_that_cannot_be_read_are_kept_too() {
    let world = World::new();
    let broken = world.bg("sleep 1000");
    world.until(&broken, "running");
    let torn = world.bg("sleep 1000");
    world.until(&torn, "running");
    world.kill_daemon();
    // One run with a claim of rubbish and a dead shim, one with half an exit record.
    for id in [&broken, &torn] {
        world.signal_processes(id, rustix::process::Signal::KILL);
        wait_within(crate::harness::LONG, "the run to be dead", || world.processes(id).is_empty());
    }
    let run = |id: &str, file: &str| world.tasks_dir().join(id).join("run-1").join(file);
    fs::remove_file(run(&broken, "claim.json")).unwrap();
    fs::write(run(&broken, "claim.json"), "\0\0rubbish").unwrap();
    fs::write(run(&torn, "exit.json"), "{\"code\": 0, \"at\"").unwrap();
    world.start();
    for id in [&broken, &torn] {
        assert_eq!(world.ended(id)["status"], "interrupted", "{id}");
        world.folded(id);
    }
    let kept: Vec<Vec<u8>> = fs::read_dir(world.octo_dir().join("quarantine"))
        .unwrap()
        .map(|e| fs::read(e.unwrap().path()).unwrap())
        .collect();
    for bytes in [&b"\0\0rubbish"[..], b"{\"code\": 0, \"at\""] {
        assert!(kept.iter().any(|k| k == bytes), "not kept: {}", String::from_utf8_lossy(bytes));
    }
}
