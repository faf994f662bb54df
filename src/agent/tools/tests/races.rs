//! Somebody swaps folders and links while the tools work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// Tells the thread that swaps to stop, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Swaps `work/door` between a folder inside and a link to one outside, until told to stop; counts the swaps.
fn flip(work: &Path, stop: &AtomicBool, flips: &AtomicUsize) {
    let (door, link, cwd) = (work.join("door"), work.join("link"), rustix::fs::CWD);
    while !stop.load(Ordering::Relaxed) {
        rustix::fs::renameat_with(cwd, &door, cwd, &link, rustix::fs::RenameFlags::EXCHANGE).unwrap();
        flips.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_folder_that_becomes_a_link_leads_nowhere() {
    let mut world = World::new();
    let outside = world.root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file.txt"), SECRET).unwrap();
    world.put("door/file.txt", "inside 0\n");
    symlink("../outside", world.work.join("link")).unwrap();
    let (stop, flips, work) = (AtomicBool::new(false), AtomicUsize::new(0), world.work.clone());
    let (mut read, mut refused, mut written) = (0, 0, 0);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| flip(&work, &stop, &flips));
        // Until both outcomes were seen often enough to mean something.
        for n in 0.. {
            let answers = [
                world.read("door/file.txt"),
                world.write(&format!("door/new{}.txt", n % 7), "inside new\n"),
                world.edit("door/file.txt", "inside", "inside"),
                world.write("door/file.txt", &format!("inside {n}\n")),
                world.call("search_files", json!({"pattern": "."})),
                world.call("list_files", json!({"recursive": true})),
            ];
            for answer in &answers {
                let (Ok(text) | Err(text)) = answer;
                assert!(!text.contains(SECRET), "{text}");
            }
            read += usize::from(answers[0].is_ok());
            written += usize::from(answers[3].is_ok());
            refused += usize::from(answers[0].is_err()) + usize::from(answers[3].is_err());
            if (n >= 200 && read > 20 && written > 20 && refused > 20) || n > 20_000 {
                break;
            }
        }
    });
    assert_eq!(tree(&outside), ["file.txt"], "nothing was made outside");
    assert_eq!(fs::read_to_string(outside.join("file.txt")).unwrap(), SECRET);
    let left = tree(&world.work).into_iter().filter(|name| name.contains(".octo-tmp")).count();
    assert_eq!(left, 0, "nothing is left behind");
    assert!(read > 20 && written > 20 && refused > 20, "{read} read, {written} written, {refused} refused, {flips:?}");
}

/// A file that becomes a pipe, or a link to one, must not make anybody wait.
#[test]
fn a_file_that_becomes_a_pipe_makes_nobody_wait() {
    let mut world = World::new();
    world.put("file", "inside\n");
    rustix::fs::mkfifoat(rustix::fs::CWD, world.work.join("pipe"), 0o600.into()).unwrap();
    let (stop, work) = (AtomicBool::new(false), world.work.clone());
    let (mut read, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Ordering::Relaxed) {
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, work.join("file"), cwd, work.join("pipe"), flags).unwrap();
            }
        });
        for n in 0.. {
            match world.read("file") {
                Ok(text) => read += usize::from(text.contains("inside")),
                Err(_) => refused += 1,
            }
            if (n >= 1000 && read > 50 && refused > 50) || n > 500_000 {
                break;
            }
        }
    });
    assert!(read > 50 && refused > 50, "{read} read, {refused} refused");
}

#[test]
fn a_file_that_somebody_else_changed_meanwhile_is_not_replaced() {
    let world = World::new();
    world.put("file", "old\n");
    let watch = world.folder.watch();
    let place = super::super::write::writable(&world.folder, "file", &watch).unwrap();
    let new = super::super::write::writable(&world.folder, "new", &watch).unwrap();
    world.put("file", "somebody else's\n");
    world.put("new", "somebody else's\n");
    for place in [&place, &new] {
        let said = super::super::write::replace(&world.folder, place, b"mine").unwrap_err().to_string();
        assert!(said.contains("try again"), "{said}");
    }
    assert_eq!((world.text("file").as_str(), world.text("new").as_str()), ("somebody else's\n", "somebody else's\n"));
}
