//! Things that are named like records and are none.

use super::*;
use std::os::unix::net::UnixListener;

fn mkfifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

#[test]
fn files_that_are_no_records_are_set_aside_and_told_of_once() {
    let world = World::new();
    save(&world.open(), &[write(&task(1)), write(&task(2)), write(&ended(3))]);
    let at = |name: &str| world.record(name);
    mkfifo(&at("b0000001"));
    fs::create_dir(at("b0000002")).unwrap();
    fs::write(at("b0000002").join("inside"), "kept").unwrap();
    symlink("/etc/passwd", at("b0000003")).unwrap();
    symlink(at("a0000001"), at("b0000004")).unwrap();
    fs::write(at("b0000005"), "").unwrap();
    fs::File::create(at("b0000006")).unwrap().set_len(1 << 30).unwrap();
    drop(UnixListener::bind(at("b0000007")).unwrap());
    fs::copy(at("a0000001"), at("b0000008")).unwrap();
    fs::write(at("notes"), "{}").unwrap();
    fs::write(world.tasks().join(format!("{}.json", "x".repeat(250))), "{}").unwrap();
    fs::write(world.tasks().join(std::ffi::OsStr::from_bytes(b"\xff\xfe.json")), "{}").unwrap();
    let ignored = ["README", "a0000001.run-1.log", "a0000001.json.bak", ".hidden.json", "A0000001"];
    ignored.iter().for_each(|name| fs::write(world.tasks().join(name), "x").unwrap());

    let (store, loaded) = world.boot();
    assert_eq!(ids(&loaded.live), BTreeSet::from([id(1), id(2)]));
    assert_eq!(loaded.ended, [Summary::of(&ended(3))]);
    assert_eq!(loaded.stray_folders, []);
    assert_eq!(loaded.problems.len(), 11, "{:#?}", loaded.problems);
    let why: BTreeMap<&str, &str> = loaded.problems.iter().map(|p| (p.file.as_str(), p.why.as_str())).collect();
    assert_eq!(why["tasks/b0000001.json"], "it is a FIFO");
    assert_eq!(why["tasks/b0000002.json"], "it is a folder");
    assert_eq!(why["tasks/b0000003.json"], "it is a symbolic link");
    assert_eq!(why["tasks/b0000005.json"], "it is empty");
    assert_eq!(why["tasks/b0000006.json"], "it is larger than 4194304 bytes");
    assert_eq!(why["tasks/b0000008.json"], "it says that it is the record of a0000001");
    for problem in &loaded.problems {
        assert!(problem.kept.starts_with(world.octo().join("quarantine")), "{problem}");
        assert!(problem.kept.symlink_metadata().is_ok(), "{problem}");
    }
    let kept = |name: &str| &loaded.problems.iter().find(|p| p.file.contains(name)).unwrap().kept;
    assert_eq!(fs::read_to_string(kept("b0000002").join("inside")).unwrap(), "kept");
    assert_eq!(fs::read_link(kept("b0000003")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(kept("b0000006")).unwrap().len(), 1 << 30);
    ignored.iter().for_each(|name| assert!(world.tasks().join(name).exists(), "{name}"));
    assert_eq!(world.boot().1.problems, []);
    // Once a bad file is out of the way, its name is free again.
    save(&store, &[write(&Task::new("b0000001".parse().unwrap(), 9, Stamp::default()))]);
}

#[test]
fn special_files_do_not_hang_or_mislead_a_single_read() {
    let world = World::new();
    let store = world.open();
    mkfifo(&world.record("b0000001"));
    symlink("/etc/passwd", world.record("b0000002")).unwrap();
    fs::create_dir(world.record("b0000003")).unwrap();
    for name in ["b0000001", "b0000002", "b0000003"] {
        assert!(matches!(store.read(name.parse().unwrap()), Err(ReadError::Bad { .. })), "{name}");
    }
}

#[test]
fn a_bad_record_beside_a_run_folder_leaves_a_stray_and_its_number_stays_used() {
    let world = World::new();
    let mut newest = task(40);
    let notice = json!({"rev": 1, "seq": 91, "kind": "question"});
    newest.notices = vec![serde_json::from_value::<Notice>(notice).unwrap()];
    assert_eq!(newest.notices[0].kind, NoticeKind::Question);
    save(&world.open(), &[write(&task(1)), write(&newest)]);
    fs::create_dir(world.tasks().join("a0000028")).unwrap();
    let bytes = fs::read(world.record("a0000028")).unwrap();
    fs::write(world.record("a0000028"), &bytes[..bytes.len() - 3]).unwrap();
    let (_, loaded) = world.boot();
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(loaded.stray_folders, [id(40)]);
    let used = Marks { numbers_used: 41, seq_used: 91, ..Marks::default() };
    assert_eq!(loaded.marks, used);
    let (_, again) = world.boot();
    assert_eq!((again.marks, again.stray_folders, again.problems.len()), (used, vec![id(40)], 0));
}

#[test]
fn absurd_numbers_neither_load_nor_count() {
    let world = World::new();
    for (n, (field, value)) in
        [("number", json!(u64::MAX)), ("rev", json!(1_u64 << 60)), ("run", json!(u32::MAX))].into_iter().enumerate()
    {
        let mut record = serde_json::to_value(task(u32::try_from(n).unwrap())).unwrap();
        record[field] = value;
        world.put(&format!("a000000{n}.json"), record.to_string());
    }
    save(&world.open(), &[write(&task(5))]);
    let (_, loaded) = world.boot();
    assert_eq!((loaded.problems.len(), loaded.marks.numbers_used), (3, 6));
}

#[test]
fn fields_that_come_twice_are_refused_known_or_not() {
    let text = serde_json::to_string(&task(1)).unwrap();
    let with = |more: &str| parse_record(id(1), format!("{},{more}}}", text.trim_end_matches('}')).as_bytes());
    assert!(text.ends_with("]}") && with("\"new\":1").is_ok());
    for more in ["\"new\":1,\"new\":1", "\"status\":\"running\"", "\"n\\u0065w\":1,\"x\":{},\"new\":2"] {
        assert!(with(more).is_err(), "{more}");
    }
}

#[test]
fn a_newer_record_is_shown_when_it_fits_and_never_touched() {
    let world = World::new();
    let mut fits = serde_json::to_value(task(1)).unwrap();
    fits["schema"] = json!(2);
    fits["galaxy"] = json!("far away");
    let mut strange = serde_json::to_value(task(2)).unwrap();
    strange["schema"] = json!(5_000_000_000_u64);
    strange["status"] = json!("dreaming");
    let (fits, strange) = (fits.to_string(), strange.to_string());
    world.put("a0000001.json", &fits);
    world.put("a0000002.json", &strange);
    fs::create_dir(world.tasks().join("a0000002")).unwrap();
    let (store, loaded) = world.boot();
    assert_eq!(ids(&loaded.live), BTreeSet::from([id(1)]));
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(loaded.problems[0].kept, world.record("a0000002"));
    assert!(loaded.problems[0].why.contains("newer Octo"), "{}", loaded.problems[0]);
    assert_eq!(loaded.stray_folders, [], "its run may be alive");
    let error = store.save(&[write(&loaded.live[0])], &[]).remove(0).unwrap_err();
    assert!(error.message.contains("newer Octo wrote it (schema 2, this one knows 1)"), "{error}");
    for write in [write(&task(2)), Write::Remove(id(2))] {
        assert!(store.save(&[write], &[]).remove(0).is_err());
    }
    assert_eq!(store.quarantine("a0000002.json", "x").kept, world.record("a0000002"));
    assert_eq!(fs::read_to_string(world.record("a0000001")).unwrap(), fits);
    assert_eq!(fs::read_to_string(world.record("a0000002")).unwrap(), strange);
}

#[test]
fn what_cannot_be_moved_stays_and_is_never_overwritten() {
    let world = World::new();
    drop(world.open());
    world.put("a0000001.json", "garbage");
    let store = world.open();
    // The folder goes away under its descriptor: every rename into it fails.
    fs::remove_dir(world.octo().join("quarantine")).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(loaded.problems[0].kept, world.record("a0000001"));
    assert!(store.save(&[write(&task(1)), write(&task(2))], &[])[0].is_err());
    assert!(store.read(id(2)).is_ok());
    assert_eq!(fs::read_to_string(world.record("a0000001")).unwrap(), "garbage");
}

#[test]
fn files_of_runs_can_be_set_aside_but_no_link_is_followed() {
    let world = World::new();
    let (store, _) = world.boot();
    let run = world.tasks().join("a0000001/run-1");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("claim.json"), "torn").unwrap();
    let problem = store.quarantine("a0000001/run-1/claim.json", "it does not parse");
    assert_eq!(fs::read_to_string(&problem.kept).unwrap(), "torn");
    assert!(!run.join("claim.json").exists());
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "mine").unwrap();
    symlink(&outside, world.tasks().join("a0000002")).unwrap();
    let absolute = outside.join("f");
    for name in ["a0000002/f", "../../outside/f", absolute.to_str().unwrap(), "..", ""] {
        store.quarantine(name, "x");
    }
    assert_eq!(fs::read_to_string(&absolute).unwrap(), "mine");
    assert_eq!(names(&world.octo().join("quarantine")).len(), 1);
}

#[test]
fn a_record_too_large_to_read_again_is_refused() {
    let world = World::new();
    let store = world.open();
    let mut large = task(1);
    large.prompt = "x".repeat(5 << 20);
    let error = store.save(&[write(&large)], &[]).remove(0).unwrap_err();
    assert!(error.message.contains("a record may have 4194304"), "{error}");
    assert_eq!(names(&world.tasks()), BTreeSet::new());
}

#[test]
fn files_of_older_records_are_used_again_unless_somebody_has_them_open() {
    use std::io::{Read as _, Seek as _};
    use std::os::unix::fs::MetadataExt as _;

    let world = World::new();
    let (store, _) = world.boot();
    let with = |n: u32, rev: u64| {
        let mut task = task(n);
        (task.rev, task.result) = (rev, format!("{n}.{rev} ").repeat(usize::try_from(200 * (rev % 7)).unwrap()));
        task
    };
    let inode = |n: u32| fs::metadata(world.tasks().join(format!("{}.json", id(n)))).unwrap().ino();
    save(&store, &[write(&with(1, 1)), write(&with(2, 1))]);
    let first = inode(1);
    let mut reader = fs::File::open(world.record("a0000001")).unwrap();
    let mut before = String::new();
    reader.read_to_string(&mut before).unwrap();
    fs::hard_link(world.record("a0000002"), world.dir.path().join("backup")).unwrap();
    let backup = fs::read(world.dir.path().join("backup")).unwrap();
    // Each save puts an older file aside; the reader's and the one with a second name are left alone.
    let mut seen = BTreeSet::new();
    for rev in 2..40 {
        save(&store, &[write(&with(1, rev)), write(&with(2, rev)), write(&with(3, rev))]);
        for n in 1..=3 {
            assert_eq!(store.read(id(n)).unwrap(), with(n, rev));
            assert!(inode(n) != first, "a file that is being read was used again");
            seen.insert(inode(n));
        }
    }
    assert!(seen.len() <= 12, "files are not used again: {}", seen.len());
    let mut after = String::new();
    reader.rewind().unwrap();
    reader.read_to_string(&mut after).unwrap();
    assert_eq!(before, after);
    assert_eq!(fs::read(world.dir.path().join("backup")).unwrap(), backup);
    assert_eq!(names(&world.tasks()).len(), 3, "nothing but records");
    // Somebody tidies up.
    fs::remove_dir_all(world.octo().join("spare")).unwrap();
    save(&store, &[write(&with(1, 40)), write(&with(4, 1))]);
    drop(store);
    let (_, loaded) = world.boot();
    assert_eq!(loaded.live, [with(1, 40), with(2, 39), with(3, 39), with(4, 1)]);
}
