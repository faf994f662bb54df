//! A full disk. (Failing system calls are injected from outside; see the soak.)

use super::*;
use std::process::Command;

/// A small tmpfs; `None` where mounting is not permitted.
struct Small(TempDir);

impl Small {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        mount.is_ok_and(|out| out.status.success()).then_some(Small(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn fill_up(options: &str, fill: impl Fn(&Path)) {
    let Some(small) = Small::mount(options) else {
        eprintln!("skipped: mounting a tmpfs is not permitted here");
        return;
    };
    let octo = small.0.path().join(".octo");
    let store = Store::open(&octo).unwrap();
    store.load().unwrap();
    let mut old = task(1);
    old.result = "x".repeat(3000);
    save(&store, &[write(&old)]);
    fill(small.0.path());
    let mut new = old.clone();
    new.rev = 1;
    let results = store.save(&[write(&new), write(&task(2)), Write::Remove(id(9))], &[]);
    let error = results[0].as_ref().unwrap_err();
    assert_eq!(error.to_string(), "no space left on device while saving tasks/a0000001.json");
    assert!(!error.maybe_visible && results[1].is_err() && results[2].is_ok());
    let mut there = names(&octo.join("tasks"));
    assert_eq!(there, BTreeSet::from(["a0000001.json".to_owned()]), "no temps");
    assert_eq!(store.read(id(1)).unwrap(), old);
    assert_eq!(Store::open(&octo).unwrap().load().unwrap().live, std::slice::from_ref(&old));
    for entry in fs::read_dir(small.0.path()).unwrap().flatten().filter(|e| e.file_name() != ".octo") {
        fs::remove_file(entry.path()).unwrap();
    }
    save(&store, &[write(&new), write(&task(2))]);
    there.insert("a0000002.json".to_owned());
    assert_eq!(names(&octo.join("tasks")), there);
    assert_eq!(store.read(id(1)).unwrap(), new);
}

#[test]
fn a_disk_without_space_refuses_cleanly_and_works_again() {
    fill_up("size=256k,mode=700", |dir| {
        let mut file = fs::File::create(dir.join("ballast")).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 512]).is_ok() {}
    });
}

#[test]
fn a_disk_without_inodes_refuses_cleanly_and_works_again() {
    fill_up("nr_inodes=40,mode=700", |dir| {
        let _ = (0..100).find(|n| fs::File::create(dir.join(format!("f{n}"))).is_err());
    });
}
