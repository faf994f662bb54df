//! What a save asks of the disk, seen from outside: no sync too few, and none too many.

use super::*;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

const FOLDER: &str = "OCTO_TEST_COUNTED_STORE";

/// Not a test of its own: what the traced process does. The word `begin` marks where a save begins.
#[test]
#[ignore = "is run by the test below, as a process of its own"]
fn counted_saver() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let marks = fs::File::create(Path::new(&dir).join("marks")).unwrap();
    let store = Store::open(&Path::new(&dir).join(".octo")).unwrap();
    store.load().unwrap();
    for count in [1, 200] {
        marks.write_all_at(b"begin", 0).unwrap();
        save(&store, &(0..count).map(|n| write(&task(n))).collect::<Vec<_>>());
    }
    marks.write_all_at(b"begin", 0).unwrap();
    save(&store, &[Write::Remove(id(0))]);
}

#[test]
fn a_save_is_one_frame_and_one_sync_before_anything_is_put_in_its_place() {
    if !inject::strace_works() {
        return;
    }
    let world = World::new();
    let trace = world.dir.path().join("trace");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,renameat,mkdirat,unlinkat,pwrite64", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "syncs::counted_saver", "--ignored", "--test-threads=1"])
        .env(FOLDER, world.dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let trace = fs::read_to_string(trace).unwrap();
    let saves: Vec<Vec<&str>> = trace.split("\"begin\"").skip(1).map(|part| steps(part)).collect();
    assert_eq!(saves.len(), 3);
    assert_eq!(saves[0].split_at(saves[0].len() - 4).1, ["frame", "sync", "rename", "applied"]);
    assert_eq!(saves[2], ["frame", "sync", "unlink", "applied"]);
    let count = |step: &str| saves[1].iter().filter(|s| **s == step).count();
    assert_eq!((count("frame"), count("sync"), count("rename"), count("applied")), (1, 1, 200, 1));
    // The folders in which several threads write are made once.
    let steps: Vec<&str> = saves[1].iter().copied().skip_while(|step| *step == "mkdir").collect();
    assert!(steps.starts_with(&["frame", "sync", "rename"]) && steps.last() == Some(&"applied"), "{steps:?}");
}

fn steps(part: &str) -> Vec<&'static str> {
    let step = |line: &str| {
        let kinds = [
            ("/journal-", "\"applied", "applied"),
            ("/journal-", "pwrite64(", "frame"),
            ("/journal-", "fdatasync(", "sync"),
            ("", "sync(", "sync of something else"),
            ("", "mkdirat(", "mkdir"),
            ("", "renameat(", "rename"),
            ("", "unlinkat(", "unlink"),
        ];
        let fits = |(of, call, _): &&(&str, &str, &'static str)| line.contains(call) && line.contains(of);
        kinds.iter().find(fits).map(|(_, _, name)| *name)
    };
    part.lines().skip(1).filter_map(step).collect()
}
