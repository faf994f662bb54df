//! The store against a real file system: what was saved is there, what is bad is kept and told of once.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use octo::command::{Env, EnvValue};
use octo::store::{Difference, Loaded, Marks, Persist, ReadError, Store, Summary, Write, env_digest, parse_record};
use octo::task::{Kind, Notice, NoticeKind, Stamp, Status, Task, TaskId};
use octo::testkit::MemStore;
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "store/faults.rs"]
mod faults;
#[path = "store/index.rs"]
mod index;
#[path = "store/inject.rs"]
mod inject;
#[path = "store/kills.rs"]
mod kills;
#[path = "store/measure.rs"]
mod measure;
#[path = "store/mutants.rs"]
mod mutants;
#[path = "store/redo.rs"]
mod redo;
#[path = "store/special.rs"]
mod special;
#[path = "store/syncs.rs"]
mod syncs;

/// A workspace of its own.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        World { dir: tempfile::tempdir().unwrap() }
    }
    fn octo(&self) -> PathBuf {
        self.dir.path().join(".octo")
    }
    fn tasks(&self) -> PathBuf {
        self.octo().join("tasks")
    }
    fn open(&self) -> Store {
        Store::open(&self.octo()).unwrap()
    }
    /// What a fresh process would find.
    fn boot(&self) -> (Store, Loaded) {
        let store = self.open();
        let loaded = store.load().unwrap();
        (store, loaded)
    }
    fn record(&self, id: &str) -> PathBuf {
        self.tasks().join(format!("{id}.json"))
    }
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.tasks()).unwrap();
        fs::set_permissions(self.octo(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(self.tasks(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(self.tasks().join(name), bytes).unwrap();
    }
}

fn id(n: u32) -> TaskId {
    format!("a{n:07x}").parse().unwrap()
}

fn task(n: u32) -> Task {
    let mut task = Task::new(id(n), u64::from(n) + 1, Stamp::from_millis(1_763_632_800_000 + i64::from(n)));
    task.command = format!("echo {n}");
    task.cwd = "/work".to_owned();
    task
}

fn ended(n: u32) -> Task {
    let mut task = task(n);
    task.status = Status::Completed;
    task.completed_at = Stamp::from_millis(1_763_632_900_000);
    task.exit_code = Some(0);
    task.result = "done\n".repeat(20);
    task
}

fn write(task: &Task) -> Write {
    Write::Task(Box::new(task.clone()))
}

#[track_caller]
fn save(store: &Store, batch: &[Write]) {
    for result in store.save(batch, &[]) {
        result.unwrap();
    }
}

fn ids<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> BTreeSet<TaskId> {
    tasks.into_iter().map(|t| t.id).collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn env(name: &str) -> Env {
    let bytes = EnvValue::Bytes(vec![0xff, 0, 7]);
    BTreeMap::from([("A".to_owned(), EnvValue::Text(name.to_owned())), ("B".to_owned(), bytes)])
}

#[test]
fn what_was_saved_is_what_a_fresh_store_reads() {
    let world = World::new();
    let store = world.open();
    let batch: Vec<Task> = (1..=200).map(|n| if n % 3 == 0 { ended(n) } else { task(n) }).collect();
    save(&store, &batch.iter().map(write).collect::<Vec<_>>());
    let (fresh, loaded) = world.boot();
    assert_eq!(loaded.problems, []);
    let (old, live): (Vec<Task>, Vec<Task>) = batch.iter().cloned().partition(|t| t.status.is_ended());
    assert_eq!(loaded.live, live);
    assert_eq!(loaded.ended.len(), old.len());
    assert_eq!(loaded.marks, Marks { numbers_used: 201, seq_used: 0, ..Marks::default() });
    for task in &batch {
        assert_eq!(fresh.read(task.id).unwrap(), *task);
    }
    assert_eq!(fresh.read(id(999)), Err(ReadError::NotFound));
    let text = fs::read_to_string(world.record("a0000001")).unwrap();
    assert!(text.starts_with("{\n  \"schema\": 1,\n") && text.ends_with("}\n"), "{text}");
    assert_eq!(fs::metadata(world.record("a0000001")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(&world.tasks()).len(), 200, "nothing but records");
}

#[test]
fn an_ended_task_with_a_folder_is_live_and_a_folder_without_a_record_is_a_stray() {
    let world = World::new();
    save(&world.open(), &[write(&ended(1)), write(&ended(2)), write(&task(3))]);
    for name in ["a0000001", "a0000009"] {
        fs::create_dir(world.tasks().join(name)).unwrap();
    }
    let (_, loaded) = world.boot();
    assert_eq!(ids(&loaded.live), BTreeSet::from([id(1), id(3)]));
    assert_eq!(loaded.ended, [Summary::of(&ended(2))]);
    assert_eq!(loaded.stray_folders, [id(9)]);
}

#[test]
fn the_order_within_a_batch_holds_for_one_task_too() {
    let world = World::new();
    let store = world.open();
    let mut later = task(1);
    later.rev = 2;
    save(&store, &[write(&task(1)), write(&later), write(&task(2)), Write::Remove(id(2))]);
    let (fresh, loaded) = world.boot();
    assert_eq!(loaded.live, [later]);
    assert_eq!(fresh.read(id(2)), Err(ReadError::NotFound));
    save(&store, &[Write::Remove(id(2))]);
}

#[test]
fn marks_keep_the_number_of_the_newest_task_used_after_it_is_gone() {
    let world = World::new();
    let (store, _) = world.boot();
    let used = Marks { numbers_used: 7, seq_used: 40, ..Marks::default() };
    save(&store, &[write(&ended(7)), Write::Marks(used), Write::Remove(id(7))]);
    assert_eq!(world.boot().1.marks, used);
    save(&store, &[Write::Marks(Marks { numbers_used: 3, seq_used: 41, ..Marks::default() })]);
    assert_eq!(
        world.boot().1.marks,
        Marks { numbers_used: 7, seq_used: 41, ..Marks::default() },
        "marks never go down"
    );
    fs::write(world.octo().join("marks.json"), "{\"numbers_used\":").unwrap();
    let (_, loaded) = world.boot();
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(fs::read_to_string(&loaded.problems[0].kept).unwrap(), "{\"numbers_used\":");
    assert_eq!(world.boot().1.problems, []);
}

#[test]
fn environments_come_back_exactly_and_damaged_ones_not_at_all() {
    let world = World::new();
    let (store, _) = world.boot();
    let digest = env_digest(&env("x"));
    save(&store, &[Write::Env { digest: digest.clone(), env: env("x") }]);
    assert_eq!(world.open().env(&digest).unwrap(), env("x"));
    assert_eq!(store.env_digests(), std::slice::from_ref(&digest));
    let file = world.octo().join("env").join(&digest);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&file, "{}").unwrap();
    assert!(matches!(store.env(&digest), Err(ReadError::Bad { .. })));
    store.drop_env(&digest);
    assert_eq!(store.env(&digest), Err(ReadError::NotFound));
    save(&store, &[Write::Env { digest: digest.clone(), env: env("x") }]);
    assert_eq!(store.env(&digest).unwrap(), env("x"), "dropped ones are written again");
    fs::write(&file, "{}").unwrap();
    let (store, _) = world.boot();
    save(&store, &[Write::Env { digest: digest.clone(), env: env("x") }]);
    assert_eq!(store.env(&digest).unwrap(), env("x"), "damaged ones are mended");
    assert_eq!(store.env("../tasks/x"), Err(ReadError::NotFound));
}

#[test]
fn a_record_fails_with_its_environment_and_a_removal_with_its_marks() {
    let world = World::new();
    let (store, _) = world.boot();
    save(&store, &[write(&ended(5))]);
    // A folder of that name lets the rename fail.
    let digest = env_digest(&env("x"));
    fs::create_dir(world.octo().join("env").join(&digest)).unwrap();
    fs::create_dir(world.octo().join("marks.json")).unwrap();
    let mut needs = task(1);
    needs.env = digest.clone();
    let marks = Marks { numbers_used: 5, seq_used: 0, ..Marks::default() };
    let results = store.save(
        &[
            write(&needs),
            Write::Env { digest, env: env("x") },
            write(&task(2)),
            Write::Remove(id(5)),
            Write::Marks(marks),
        ],
        &[],
    );
    let failed: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(failed, [true, true, false, true, true]);
    assert!(results.iter().flat_map(|r| r.as_ref().err()).all(|e| !e.maybe_visible));
    assert_eq!(store.read(id(1)), Err(ReadError::NotFound));
    assert!(store.read(id(5)).is_ok());
    assert!(!world.tasks().join("a0000001").exists());
}

#[test]
fn the_ancestors_records_are_read() {
    let world = World::new();
    for name in ["0f3a91c2", "12345678"] {
        world.put(&format!("{name}.json"), fs::read(fixture(&format!("ancestor-{name}"))).unwrap());
    }
    let (store, loaded) = world.boot();
    assert_eq!(loaded.problems, []);
    // Neither has a number yet: both are handed over whole, so that the core can give them one.
    let by = |id: &str| loaded.live.iter().find(|t| t.id.as_str() == id).unwrap();
    let (pending, summarised) = (by("0f3a91c2"), by("12345678"));
    assert_eq!((pending.status, pending.number, pending.schema), (Status::Dispatched, 0, 1));
    assert_eq!(pending.env_overrides["CI"], "1");
    assert_eq!(pending.created_at.as_str(), "2025-11-20T10:00:00.123456+00:00");
    let summary = Summary::of(summarised);
    assert_eq!((&*summary.title, summary.completed_ms), ("Summarise the changes", 1_763_632_980_500));
    save(&store, &[write(pending)]);
    let was: Value = serde_json::from_slice(&fs::read(fixture("ancestor-0f3a91c2")).unwrap()).unwrap();
    let now: Value = serde_json::from_slice(&fs::read(world.record("0f3a91c2")).unwrap()).unwrap();
    for (field, value) in was.as_object().unwrap() {
        let expected = if field == "status" { json!("dispatched") } else { value.clone() };
        assert_eq!(now[field], expected, "{field}");
    }
}

#[test]
fn a_record_of_every_schema_so_far_is_read() {
    let world = World::new();
    world.put("c4b1e09a.json", fs::read(fixture("schema-1-c4b1e09a")).unwrap());
    let (_, loaded) = world.boot();
    assert_eq!(loaded.problems, []);
    assert_eq!((loaded.live[0].status, loaded.live[0].questions.len()), (Status::Paused, 1));
}

#[test]
fn unknown_fields_keep_their_exact_text_on_a_rewrite() {
    let world = World::new();
    let original = fs::read_to_string(fixture("unknown-fields-c0ffee01")).unwrap();
    world.put("c0ffee01.json", &original);
    let (store, _) = world.boot();
    save(&store, &[write(&store.read("c0ffee01".parse().unwrap()).unwrap())]);
    let rewritten = fs::read_to_string(world.record("c0ffee01")).unwrap();
    let compact = |text: &str, path: &[&str]| -> String {
        let mut at: Box<serde_json::value::RawValue> = serde_json::from_str(text).unwrap();
        for step in path {
            let next = match step.parse::<usize>() {
                Ok(n) => serde_json::from_str::<Vec<Box<serde_json::value::RawValue>>>(at.get()).unwrap().remove(n),
                Err(_) => serde_json::from_str::<BTreeMap<String, Box<serde_json::value::RawValue>>>(at.get())
                    .unwrap()
                    .remove(*step)
                    .unwrap_or_else(|| panic!("{path:?} is gone")),
            };
            at = next;
        }
        // Without the white space and an optional sign, the text of every number and string must be the same.
        at.get().chars().filter(|c| !c.is_whitespace()).collect::<String>().replace("e+", "e")
    };
    let paths: [&[&str]; 12] = [
        &["zebra"],
        &["empty"],
        &["nothing"],
        &["odd floats"],
        &["history", "0", "why"],
        &["usage", "cache"],
        &["usage", "cost_usd"],
        &["stop", "weight"],
        &["notices", "0", "sound"],
        &["budget", "usd"],
        &["budget", "cap"],
        &["history", "0", "at"],
    ];
    for path in paths {
        assert_eq!(compact(&rewritten, path), compact(&original, path), "{path:?}");
    }
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap()["aardvark"].clone();
    assert_eq!(value(&rewritten), value(&original));
}

#[test]
fn a_store_opens_only_what_is_ours_alone() {
    let world = World::new();
    drop(world.open());
    let made = names(&world.octo());
    for name in ["tasks", "env", "quarantine", "trash", "spare", "bots", "bin", ".gitignore"] {
        assert!(made.contains(name), "{name}");
    }
    assert_eq!(fs::read_to_string(world.octo().join(".gitignore")).unwrap(), "*\n");
    assert_eq!(fs::metadata(world.octo()).unwrap().permissions().mode() & 0o777, 0o700);
    for path in [world.octo(), world.tasks(), world.octo().join("bin")] {
        for open in [0o720, 0o702] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = Store::open(&world.octo()).unwrap_err();
            assert!(error.message.contains("other users may write"), "{error}");
            assert!(error.hint.contains("chmod go-w"), "{}", error.hint);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    drop(world.open());
    let link = world.dir.path().join("link");
    symlink(world.octo(), &link).unwrap();
    assert!(Store::open(&link).unwrap_err().message.contains("symbolic link"));
    fs::remove_dir(world.octo().join("env")).unwrap();
    symlink("/tmp", world.octo().join("env")).unwrap();
    assert!(Store::open(&world.octo()).unwrap_err().message.contains("symbolic link"));
}

#[test]
fn the_folder_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a folder away; the check itself is the same for everybody.
        return;
    }
    let world = World::new();
    drop(world.open());
    std::os::unix::fs::chown(world.octo(), Some(65534), None).unwrap();
    let error = Store::open(&world.octo()).unwrap_err();
    assert!(error.message.contains("belongs to another user"), "{error}");
}

#[test]
fn leftover_temps_of_ours_are_swept_and_nothing_else() {
    let world = World::new();
    drop(world.open());
    let env_temp = format!(".{}.1.2.tmp", "d".repeat(64));
    let ours =
        [("tasks", ".a0000001.4711.0.tmp"), ("", ".index.4711.3.tmp"), ("", ".marks.1.1.tmp"), ("env", &env_temp)];
    let others =
        [("tasks", ".a0000001.tmp"), ("tasks", "notes.tmp"), ("tasks", ".x.1.2.tmp"), ("", ".a0000001.1.2.tmp")];
    for (dir, name) in ours.iter().chain(&others) {
        fs::write(world.octo().join(dir).join(name), "x").unwrap();
    }
    let (_, loaded) = world.boot();
    assert_eq!(loaded.problems, []);
    for (dir, name) in ours {
        assert!(!world.octo().join(dir).join(name).exists(), "{name}");
    }
    for (dir, name) in others {
        assert!(world.octo().join(dir).join(name).exists(), "{name}");
    }
}

#[test]
fn a_store_that_was_deleted_says_so_and_is_not_made_anew() {
    let world = World::new();
    let (store, _) = world.boot();
    store.in_place().unwrap();
    let away = world.dir.path().join("away");
    fs::rename(world.octo(), &away).unwrap();
    assert!(store.in_place().unwrap_err().message.contains("moved or replaced"));
    fs::create_dir_all(world.tasks()).unwrap();
    assert!(store.in_place().unwrap_err().message.contains("moved or replaced"));
    fs::remove_dir_all(world.octo()).unwrap();
    fs::remove_dir_all(away).unwrap();
    assert!(store.in_place().unwrap_err().message.contains("was deleted"));
    let error = store.save(&[write(&task(1))], &[]).remove(0).unwrap_err();
    assert_eq!(error.to_string(), "tasks/a0000001.json cannot be saved: its folder was deleted");
    assert!(!world.octo().exists());
}

#[test]
fn the_store_in_memory_dies_and_comes_back_as_a_disk_would() {
    let store = MemStore::new();
    let driver: std::sync::Arc<dyn Persist> = std::sync::Arc::new(store.clone());
    store.fail_next(1);
    let results = driver.save(&[write(&task(1)), write(&task(2))], &[]);
    assert_eq!((results[0].is_err(), results[1].is_ok()), (true, true));
    store.fail_next(1);
    let group = [vec![id(3), id(4)]];
    assert!(driver.save(&[write(&task(3)), write(&task(4))], &group).iter().all(Result::is_err), "all or nothing");
    // One save is a frame of the journal and a file for each record.
    store.die_after(2);
    assert!(driver.save(&[write(&task(3))], &[])[0].is_ok());
    assert!(!store.is_dead());
    assert!(driver.save(&[write(&task(4))], &[])[0].is_err(), "it dies before the frame");
    assert!(store.is_dead() && driver.save(&[write(&task(6))], &[])[0].is_err());
    assert_eq!(ids(&store.boot().live), BTreeSet::from([id(2), id(3)]));
    store.die_after(2);
    assert!(driver.save(&[write(&task(4)), write(&task(5))], &[]).iter().all(Result::is_err));
    assert!(store.task(id(4)).is_some() && store.task(id(5)).is_none(), "it dies between two records");
    assert_eq!(ids(&store.boot().live), BTreeSet::from([2, 3, 4, 5].map(id)), "a start completes the frame");
    store.die_untold_after(2);
    assert!(driver.save(&[write(&task(7))], &[])[0].is_err());
    assert!(store.task(id(7)).is_some() && store.is_dead());
    assert!(!store.boot().live.is_empty());
    assert!(driver.save(&[Write::Remove(id(7)), write(&ended(8))], &[]).iter().all(Result::is_ok));
    assert_eq!(store.boot().ended, [Summary::of(&ended(8))]);
    assert!(!store.may_have_begun(id(8), 1));
    assert!(driver.save(&[Write::Launch { id: id(8), run: 1 }], &[])[0].is_ok());
    assert!(store.may_have_begun(id(8), 1));
    assert_eq!(ids(&store.boot().live).len(), 5, "a task whose run may have begun has a folder");
    store.remove_folder(id(8));
    assert_eq!(store.boot().ended.len(), 1);
}

#[test]
fn numbers_of_unknown_fields_keep_their_value_to_the_last_bit() {
    // Every 2^52th pattern of bits and some more: a parser that is off by one unit in the last place is caught.
    let bits = (0..2000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let floats: Vec<f64> = bits.map(f64::from_bits).filter(|f| f.is_finite()).collect();
    let text = serde_json::to_string(&task(1)).unwrap();
    let list: Vec<String> = floats.iter().map(|f| format!("{f:e}")).collect();
    let text = format!("{},\"new\":[{}]}}", text.trim_end_matches('}'), list.join(","));
    let world = World::new();
    let store = world.open();
    save(&store, &[write(&parse_record(id(1), text.as_bytes()).unwrap())]);
    let rewritten: BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(&fs::read_to_string(world.record("a0000001")).unwrap()).unwrap();
    let tokens: Vec<f64> =
        rewritten["new"].get().trim_matches(['[', ']']).split(',').map(|t| t.trim().parse().unwrap()).collect();
    assert_eq!(tokens, floats);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(format!("{name}.json"))
}
