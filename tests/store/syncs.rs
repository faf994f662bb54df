//! What a save asks of the disk, seen from outside: no sync too few, and none too many.

use super::*;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

const FOLDER: &str = "OCTO_TEST_COUNTED_STORE";

/// Not a test of its own: what the traced process does. A `pwrite64` marks where a save begins.
#[test]
#[ignore = "is run by the test below, as a process of its own"]
fn counted_saver() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let marks = fs::File::create(Path::new(&dir).join("marks")).unwrap();
    let store = Store::open(&Path::new(&dir).join(".octo")).unwrap();
    store.load().unwrap();
    for count in [1, 200] {
        marks.write_all_at(b"begin", 0).unwrap();
        save(&store, &(0..count).map(|n| write_live(&task(n))).collect::<Vec<_>>());
    }
    marks.write_all_at(b"begin", 0).unwrap();
    save(&store, &[Write::Remove(id(0))]);
}

#[test]
fn a_save_syncs_each_file_once_and_the_folder_once_after_the_renames() {
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
    let saves: Vec<Vec<&str>> = trace.split("pwrite64(").skip(1).map(|part| steps(part)).collect();
    assert_eq!(saves.len(), 3);
    assert_eq!(saves[0], ["sync file", "mkdir", "rename", "sync folder"]);
    assert_eq!(saves[2], ["unlink", "sync folder"]);
    let count = |step: &str| saves[1].iter().filter(|s| **s == step).count();
    assert_eq!((count("sync file"), count("rename"), count("sync folder")), (200, 200, 1));
    let last_file = saves[1].iter().rposition(|s| *s == "sync file");
    let first_rename = saves[1].iter().position(|s| *s == "rename");
    assert!(last_file < first_rename && saves[1].last() == Some(&"sync folder"));
}

fn steps(part: &str) -> Vec<&'static str> {
    let step = |line: &str| {
        let kinds = [
            (".tmp>", "fsync(", "sync file"),
            ("/tasks>", "fsync(", "sync folder"),
            ("", "fsync(", "sync of something else"),
            ("", "fdatasync(", "sync of something else"),
            ("", "mkdirat(", "mkdir"),
            ("", "renameat(", "rename"),
            ("", "unlinkat(", "unlink"),
        ];
        let fits = |(of, call, _): &&(&str, &str, &'static str)| line.contains(call) && line.contains(of);
        kinds.iter().find(fits).map(|(_, _, name)| *name)
    };
    part.lines().skip(1).filter_map(step).collect()
}
