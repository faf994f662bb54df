//! The index is believed exactly as long as nothing was saved since.

use super::*;

/// Ten ended tasks, all in the index.
fn indexed() -> World {
    let world = World::new();
    save(&world.open(), &(0..10).map(|n| write(&ended(n))).collect::<Vec<_>>());
    drop(world.boot());
    world
}

fn of(loaded: &Loaded, n: u32) -> Summary {
    loaded.ended.iter().find(|s| s.id == id(n)).unwrap().clone()
}

#[test]
fn records_with_a_line_are_not_opened_and_the_background_pass_finds_edits() {
    let world = indexed();
    let mut edited = ended(4);
    edited.exit_code = Some(9);
    fs::write(world.record("a0000004"), serde_json::to_vec(&edited).unwrap()).unwrap();
    fs::write(world.record("a0000005"), "garbage").unwrap();
    fs::remove_file(world.record("a0000006")).unwrap();
    let (store, loaded) = world.boot();
    assert_eq!(loaded.problems, []);
    assert_eq!((loaded.ended.len(), of(&loaded, 4).exit_code), (9, Some(0)));
    let found = store.verify(&loaded.ended);
    assert_eq!(found.len(), 2);
    assert!(found.contains(&Difference::Changed(Box::new(edited.clone()))));
    let Some(Difference::Bad(bad, problem)) = found.iter().find(|d| matches!(d, Difference::Bad(..))) else {
        panic!("{found:?}")
    };
    assert_eq!((*bad, fs::read_to_string(&problem.kept).unwrap().as_str()), (id(5), "garbage"));
    fs::remove_file(world.record("a0000007")).unwrap();
    assert_eq!(store.verify(&[Summary::of(&ended(7))]), [Difference::Missing(id(7))]);
    store.note_ended(&Summary::of(&edited));
    assert_eq!(of(&world.boot().1, 4).exit_code, Some(9));
}

#[test]
fn a_saved_change_takes_the_line_back_even_when_the_daemon_dies_at_once() {
    let world = indexed();
    let (store, _) = world.boot();
    let mut again = ended(4);
    again.status = Status::Failed;
    save(&store, &[write(&again)]);
    drop(store);
    let (store, loaded) = world.boot();
    assert_eq!(of(&loaded, 4).status, Status::Failed);
    // Also when the line comes from a rewrite or an append of the start itself.
    again.name = "renamed".into();
    save(&store, &[write(&again)]);
    assert_eq!(&*of(&world.boot().1, 4).title, "renamed");
    assert_eq!(world.boot().1.ended.len(), 10);
}

#[test]
fn lines_are_used_again_after_note_ended_and_the_last_one_wins() {
    let world = indexed();
    let (store, _) = world.boot();
    let mut later = ended(4);
    for code in [1, 2, 3] {
        later.exit_code = Some(code);
        save(&store, &[write(&later)]);
        store.note_ended(&Summary::of(&later));
    }
    // Proof that the line is used: the record would say something else.
    fs::write(world.record("a0000004"), serde_json::to_vec(&ended(4)).unwrap()).unwrap();
    assert_eq!(of(&world.boot().1, 4).exit_code, Some(3));
}

#[test]
fn a_folder_makes_the_record_count_and_a_removed_task_stays_away() {
    let world = indexed();
    let (store, _) = world.boot();
    fs::create_dir(world.tasks().join("a0000003")).unwrap();
    save(&store, &[Write::Remove(id(9))]);
    let (store, loaded) = world.boot();
    assert_eq!(ids(&loaded.live), BTreeSet::from([id(3)]));
    assert_eq!(loaded.ended.len(), 8);
    assert_eq!(loaded.marks.numbers_used, 10, "known from the line of the removed task");
    // A removed id that comes back is not described by its old line.
    let mut back = ended(9);
    back.exit_code = Some(5);
    save(&store, &[write(&back)]);
    assert_eq!(of(&world.boot().1, 9).exit_code, Some(5));
}

/// The journal of an agent stays in its folder: that is no reason to read 100,000 records at each start.
#[test]
fn the_folder_of_an_agent_does_not_make_its_record_count() {
    let world = World::new();
    let agents: Vec<Task> = (0..3).map(|n| Task { kind: Kind::Agent, ..ended(n) }).collect();
    let store = world.open();
    save(&store, &agents.iter().map(write).collect::<Vec<_>>());
    agents.iter().for_each(|task| fs::create_dir(world.tasks().join(task.id.as_str())).unwrap());
    drop(store);
    let (store, loaded) = world.boot();
    assert_eq!(loaded.live.len(), 3, "nothing says yet that they are put away");
    agents[..2].iter().for_each(|task| store.note_ended(&Summary::of(task)));
    drop(store);
    let (store, loaded) = world.boot();
    assert_eq!((ids(&loaded.live), loaded.ended.len()), (BTreeSet::from([id(2)]), 2));
    // Before it changes, its line goes.
    let again = Task { status: Status::Dispatched, ..agents[0].clone() };
    save(&store, &[write(&again)]);
    drop(store);
    let ended = Task { status: Status::Completed, ..again };
    save(&world.boot().0, &[write(&ended)]);
    assert_eq!(ids(&world.boot().1.live), BTreeSet::from([id(0), id(2)]), "it ended, and is not put away");
}

#[test]
fn an_index_of_another_folder_is_not_believed() {
    let (one, other) = (indexed(), World::new());
    let mut changed = ended(4);
    changed.exit_code = Some(7);
    save(&other.open(), &[write(&changed)]);
    fs::copy(one.octo().join("index.jsonl"), other.octo().join("index.jsonl")).unwrap();
    let (_, loaded) = other.boot();
    assert_eq!(loaded.ended, [Summary::of(&changed)]);
}

#[test]
fn what_stands_in_the_indexs_place_is_no_obstacle() {
    let world = indexed();
    let file = world.octo().join("index.jsonl");
    for n in 0..3 {
        fs::remove_file(&file).unwrap();
        match n {
            0 => symlink("/etc/passwd", &file).unwrap(),
            1 => rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
            _ => fs::create_dir(&file).unwrap(),
        }
        assert_eq!(world.boot().1.ended.len(), 10);
        let (store, loaded) = world.boot();
        assert_eq!(loaded.ended.len(), 10);
        store.note_ended(&loaded.ended[0]);
        save(&store, &[write(&ended(1))]);
    }
    assert!(file.is_dir(), "what is not ours is left alone");
}

#[test]
fn a_stale_index_is_written_anew_and_a_fresh_one_is_not() {
    use std::os::unix::fs::MetadataExt as _;
    let world = indexed();
    let file = world.octo().join("index.jsonl");
    let inode = || fs::metadata(&file).unwrap().ino();
    let (store, loaded) = world.boot();
    let before = inode();
    (0..3).for_each(|_| store.note_ended(&loaded.ended[0]));
    drop(world.boot());
    assert_eq!(inode(), before);
    (0..5).for_each(|_| store.note_ended(&loaded.ended[0]));
    drop(world.boot());
    assert_ne!(inode(), before);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 11);
}
