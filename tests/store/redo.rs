//! What the journal does again at a start, after a death and after a power cut.
//!
//! A power cut is played by taking `.octo` to another mount, with files missing, empty or torn as unsynced ones
//! are: there every frame counts, as after a new boot.

use super::*;
use std::process::Command;

/// A tmpfs of its own; `None` where mounting is not permitted.
struct Mount(TempDir);

impl Mount {
    fn new() -> Option<Mount> {
        let dir = tempfile::tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(dir.path()).output();
        let done = mounted.is_ok_and(|out| out.status.success());
        if !done {
            eprintln!("skipped: mounting a tmpfs is not permitted here");
        }
        done.then_some(Mount(dir))
    }

    /// What is left of a workspace after a power cut, as `damage` says.
    fn after_a_cut(&self, world: &World, damage: impl FnOnce(&Path)) -> PathBuf {
        let octo = self.0.path().join(".octo");
        let copied = Command::new("cp").arg("-a").arg(world.octo()).arg(&octo).status();
        assert!(copied.is_ok_and(|s| s.success()));
        damage(&octo);
        octo
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn with_rev(n: u32, rev: u64) -> Task {
    let mut task = task(n);
    task.rev = rev;
    task
}

#[test]
fn after_a_power_cut_every_frame_counts() {
    let Some(mount) = Mount::new() else { return };
    let world = World::new();
    let (store, _) = world.boot();
    save(&store, &[write(&with_rev(1, 1)), write(&with_rev(2, 1)), write(&with_rev(3, 1)), write(&with_rev(4, 1))]);
    save(&store, &[write(&with_rev(1, 2)), Write::Remove(id(4))]);
    save(&store, &[write(&ended(5)), write(&with_rev(6, 1))]);
    let octo = mount.after_a_cut(&world, |octo| {
        let record = |n: u32| octo.join("tasks").join(format!("{}.json", id(n)));
        // The second save of one is lost, two are gone, one is empty, one holds zeros; a removal is undone.
        fs::write(record(1), serde_json::to_vec_pretty(&with_rev(1, 1)).unwrap()).unwrap();
        fs::remove_file(record(2)).unwrap();
        fs::write(record(3), "").unwrap();
        fs::write(record(4), serde_json::to_vec_pretty(&with_rev(4, 1)).unwrap()).unwrap();
        fs::remove_file(record(5)).unwrap();
        fs::write(record(6), [0; 1200]).unwrap();
    });
    let store = Store::open(&octo).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.live, [with_rev(1, 2), with_rev(2, 1), with_rev(3, 1), with_rev(6, 1)]);
    assert_eq!(loaded.ended, [Summary::of(&ended(5))]);
    assert_eq!(store.read(id(4)), Err(ReadError::NotFound));
}

#[test]
fn what_is_newer_than_the_journal_stays_and_what_makes_no_sense_is_kept() {
    let Some(mount) = Mount::new() else { return };
    let world = World::new();
    let (store, _) = world.boot();
    save(&store, &[write(&with_rev(1, 1)), write(&with_rev(2, 1)), write(&with_rev(3, 1))]);
    let octo = mount.after_a_cut(&world, |octo| {
        let record = |n: u32| octo.join("tasks").join(format!("{}.json", id(n)));
        fs::write(record(1), serde_json::to_vec_pretty(&with_rev(1, 7)).unwrap()).unwrap();
        fs::write(record(2), "{ this was edited").unwrap();
        let mut newer = serde_json::to_value(with_rev(3, 1)).unwrap();
        newer["schema"] = json!(99);
        newer["number"] = json!("three");
        fs::write(record(3), newer.to_string()).unwrap();
    });
    let loaded = Store::open(&octo).unwrap().load().unwrap();
    assert_eq!(loaded.live, [with_rev(1, 7), with_rev(2, 1)]);
    let told: Vec<&str> = loaded.problems.iter().map(|p| p.file.as_str()).collect();
    assert_eq!(told, ["tasks/a0000003.json", "tasks/a0000002.json"]);
    assert_eq!(fs::read(&loaded.problems[1].kept).unwrap(), b"{ this was edited");
    assert!(octo.join("tasks/a0000003.json").exists(), "a newer Octo's record stays where it is");
    assert_eq!(Store::open(&octo).unwrap().load().unwrap().problems.len(), 1, "told once");
}

#[test]
fn a_run_that_may_have_begun_is_not_lost_with_its_folder() {
    let Some(mount) = Mount::new() else { return };
    let world = World::new();
    let (store, _) = world.boot();
    let launch = |n: u32, run: u32| Write::Launch { id: id(n), run };
    save(&store, &[1, 2, 3, 4].map(|n| write(&with_rev(n, 1))));
    save(&store, &[launch(1, 1), launch(2, 1), launch(3, 1), launch(4, 1)]);
    // The second has ended since, the third is at its next run, the fourth left a claim of its own.
    let mut over = ended(2);
    over.rev = 2;
    let mut again = with_rev(3, 2);
    again.run = 2;
    save(&store, &[write(&over), write(&again)]);
    let octo = mount.after_a_cut(&world, |octo| {
        fs::create_dir_all(octo.join("tasks/a0000004/run-1")).unwrap();
        fs::write(octo.join("tasks/a0000004/run-1/claim.json"), "its own").unwrap();
    });
    let store = Store::open(&octo).unwrap();
    store.load().unwrap();
    let claim = |n: u32, run: u32| octo.join(format!("tasks/{}/run-{run}/claim.json", id(n)));
    let text = fs::read_to_string(claim(1, 1)).unwrap();
    let facts = octo::run::RunDir::new(&octo.join("tasks"), id(1), 1).facts().unwrap();
    assert!(matches!(facts.claim, octo::run::ClaimFact::Real(_)), "{text}");
    let judged = octo::run::verdict(Status::Dispatched, false, &facts, std::time::Duration::ZERO);
    assert!(matches!(judged, octo::run::Verdict::CutOff(_)), "it is not run again: {judged:?}");
    for (n, run) in [(2, 1), (3, 1), (3, 2)] {
        assert!(!claim(n, run).exists(), "{n}");
    }
    assert_eq!(fs::read_to_string(claim(4, 1)).unwrap(), "its own");
    // The power fails again before the system has written any of it.
    drop(store);
    fs::remove_dir_all(octo.join("tasks/a0000001")).unwrap();
    let Some(next) = Mount::new() else { return };
    let moved = next.0.path().join(".octo");
    assert!(Command::new("cp").arg("-a").arg(&octo).arg(&moved).status().is_ok_and(|s| s.success()));
    Store::open(&moved).unwrap().load().unwrap();
    assert!(moved.join("tasks/a0000001/run-1/claim.json").exists(), "the next segment remembers it");
    assert!(!moved.join("tasks/a0000002").exists());
}

#[test]
fn after_a_mere_death_files_stay_as_somebody_made_them_since() {
    let world = World::new();
    let (store, _) = world.boot();
    save(&store, &[write(&with_rev(1, 1)), write(&with_rev(2, 1)), write(&with_rev(3, 1))]);
    save(&store, &[write(&with_rev(3, 2)), Write::Launch { id: id(3), run: 1 }]);
    drop(store);
    // Whoever edits or deletes records between two daemons has the last word.
    fs::remove_file(world.record("a0000001")).unwrap();
    fs::write(world.record("a0000002"), "{").unwrap();
    let (_, loaded) = world.boot();
    assert_eq!(loaded.live, [with_rev(3, 2)]);
    assert_eq!(loaded.problems.len(), 1);
    assert!(!world.tasks().join("a0000003").exists(), "its run was never launched, as everybody can see");
}

#[test]
fn a_frame_that_a_death_cut_short_is_completed() {
    let world = World::new();
    let (store, _) = world.boot();
    let batch: Vec<Task> = (1..=20).map(|n| with_rev(n, 1)).collect();
    save(&store, &batch.iter().map(write).collect::<Vec<_>>());
    drop(store);
    // The death came after the sync and before the last renames: the word behind the frame is missing.
    let journal = world.octo().join("journal-0");
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(8).rposition(|w| w == b"applied\n").unwrap();
    bytes[at..at + 8].fill(0);
    fs::write(&journal, &bytes).unwrap();
    for n in 11..=20 {
        fs::remove_file(world.tasks().join(format!("{}.json", id(n)))).unwrap();
    }
    let (_, loaded) = world.boot();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.live, batch);
}

#[test]
fn a_journal_that_makes_no_sense_is_kept_and_told_of_once() {
    let world = World::new();
    let (store, _) = world.boot();
    save(&store, &[write(&task(1))]);
    drop(store);
    symlink("/etc/passwd", world.octo().join("journal-7")).unwrap();
    fs::write(world.octo().join("journal-8"), "of somebody else").unwrap();
    fs::write(world.octo().join("journal-08"), "no name of ours").unwrap();
    let (store, loaded) = world.boot();
    assert_eq!(loaded.problems.iter().map(|p| p.file.as_str()).collect::<Vec<_>>(), ["journal-7"]);
    assert_eq!(loaded.live, [task(1)]);
    save(&store, &[write(&task(2))]);
    drop(store);
    let (_, loaded) = world.boot();
    assert_eq!((loaded.problems.len(), loaded.live.len()), (0, 2));
    assert!(world.octo().join("journal-08").exists());
}

#[test]
fn an_older_segment_that_is_still_there_does_not_bring_a_removed_task_back() {
    let Some(mount) = Mount::new() else { return };
    let world = World::new();
    let (store, _) = world.boot();
    save(&store, &[write(&with_rev(1, 1)), write(&with_rev(2, 1))]);
    let octo = mount.after_a_cut(&world, |_| ());
    let older = fs::read(octo.join("journal-0")).unwrap();
    let store = Store::open(&octo).unwrap();
    assert_eq!(store.load().unwrap().live.len(), 2);
    save(&store, &[Write::Launch { id: id(1), run: 1 }]);
    save(&store, &[Write::Remove(id(1)), write(&with_rev(2, 2))]);
    drop(store);
    // The system was slow, or failed, to sync: the segment from before the cut was never deleted.
    fs::write(octo.join("journal-0"), older).unwrap();
    let store = Store::open(&octo).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!((loaded.live, loaded.problems), (vec![with_rev(2, 2)], vec![]));
    assert_eq!(store.read(id(1)), Err(ReadError::NotFound));
}

#[test]
fn what_could_not_be_redone_is_neither_forgotten_nor_run() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

    let Some(mount) = Mount::new() else { return };
    let world = World::new();
    let (store, _) = world.boot();
    save(&store, &[write(&with_rev(1, 1)), write(&with_rev(2, 1)), Write::Launch { id: id(1), run: 1 }]);
    let octo = mount.after_a_cut(&world, |octo| {
        fs::remove_file(octo.join("tasks").join("a0000001.json")).unwrap();
        fs::create_dir_all(octo.join("tasks/a0000001/run-1")).unwrap();
    });
    let tasks = fs::File::open(octo.join("tasks")).unwrap();
    let Ok(flags) = ioctl_getflags(&tasks) else { return eprintln!("skipped: no flags here") };
    if ioctl_setflags(&tasks, flags | IFlags::IMMUTABLE).is_err() {
        return eprintln!("skipped: nothing can be made immutable here");
    }
    let store = Store::open(&octo).unwrap();
    let loaded = store.load().unwrap();
    ioctl_setflags(&tasks, flags).unwrap();
    assert_eq!(loaded.problems.len(), 1, "{:?}", loaded.problems);
    assert!(loaded.stray_folders.is_empty(), "its folder is nobody's litter");
    let launch = Write::Launch { id: id(1), run: 1 };
    assert!(store.save(&[launch], &[]).remove(0).is_err(), "nobody knows whether it has begun");
    // However long the journal gets, the segment that alone has the record stays.
    let mut large = with_rev(2, 2);
    large.result = "x".repeat(3 << 20);
    for rev in 2..5 {
        large.rev = rev;
        save(&store, &[write(&large)]);
    }
    assert!(octo.join("journal-0").exists());
    drop(store);
    let loaded = Store::open(&octo).unwrap().load().unwrap();
    assert_eq!(loaded.live, [with_rev(1, 1), large]);
}
