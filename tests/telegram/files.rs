//! Files and the lock on a bot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bridge::file::{self, Loaded};
use crate::bridge::inbox::{Inbox, Past, REMEMBERED, Shelf as _, Stored};
use crate::bridge::lock::{Holder, Place};
use crate::fake::BOT;
use crate::world::{HOUR, NOON};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_found_and_nobody_else_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, quarantine) = (dir.path().join("book.json"), dir.path().join("quarantine"));
    assert_eq!(file::load::<Value>(&path, &quarantine).unwrap(), Loaded::Missing);
    for n in 0..3 {
        file::save(&path, &json!({"n": n})).unwrap();
        assert_eq!(file::load::<Value>(&path, &quarantine).unwrap(), Loaded::Whole(json!({"n": n})));
    }
    assert_eq!(mode(&path), 0o600);
    assert_eq!(names(dir.path()), ["book.json"], "no litter");
    fs::write(dir.path().join(".book.json.1-1.octo-tmp"), "{").unwrap();
    fs::write(dir.path().join(".theirs.tmp"), "{").unwrap();
    file::tidy(dir.path()).unwrap();
    assert_eq!(names(dir.path()), [".theirs.tmp", "book.json"]);
    assert!(file::save(&dir.path().join("missing/book.json"), &1).is_err());
}

/// Not a test of its own: what the traced process does.
#[test]
#[ignore = "is run by the test below, as a process of its own"]
fn traced_saver() {
    let Some(dir) = std::env::var_os(TRACED) else { return };
    let dir = Path::new(&dir);
    file::save(&dir.join("one.json"), &1).unwrap();
    file::save_all(&[(dir.join("two.json"), 2), (dir.join("three.json"), 3)]).unwrap();
    file::save_bytes(&dir.join("four.json"), b"4").unwrap();
    file::folder(&dir.join("folder")).unwrap();
    fs::write(dir.join("damaged.json"), "{").unwrap();
    file::load::<Value>(&dir.join("damaged.json"), &dir.join("folder")).unwrap();
}

const TRACED: &str = "OCTO_TEST_TRACED_FOLDER";

#[test]
fn nothing_is_saved_before_file_and_name_are_durable() {
    if !std::process::Command::new("strace").arg("-V").output().is_ok_and(|o| o.status.success()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let saves = dir.path().join("saves");
    fs::create_dir(&saves).unwrap();
    let status = std::process::Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=fsync,rename,renameat,renameat2,mkdir,mkdirat", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "files::traced_saver", "--ignored", "--test-threads=1"])
        .env(TRACED, &saves)
        .status();
    assert!(status.unwrap().success());
    let trace = fs::read_to_string(trace).unwrap();
    let step = |line: &str| {
        let kinds =
            [("fsync(", ".octo-tmp>", "file"), ("fsync(", "", "folder"), ("rename", "", "name"), ("mkdir", "", "make")];
        let kind = kinds.iter().find(|(call, more, _)| line.contains(call) && line.contains(more));
        kind.map(|(_, _, name)| *name)
    };
    let steps: Vec<&str> = trace.lines().filter(|l| l.contains("/saves")).filter_map(step).collect();
    let one = ["file", "name", "folder"];
    let many = ["file", "name", "file", "name", "folder"];
    let made = ["make", "folder"];
    // The quarantine is there already, so that its making fails.
    let aside = ["make", "name", "folder", "folder"];
    assert_eq!(steps, [&one[..], &many, &one, &made, &aside].concat());
}

#[test]
fn a_save_that_fails_leaves_the_old_content_and_no_litter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("book.json");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("in the way"), "").unwrap();
    assert!(file::save(&path, &1).is_err());
    assert_eq!(names(dir.path()), ["book.json"]);
    assert_eq!(names(&path), ["in the way"]);
}

#[test]
fn what_is_damaged_is_set_aside_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (path, quarantine) = (dir.path().join("book.json"), dir.path().join("quarantine"));
    let mut kept = Vec::new();
    for content in [&b"{\"n\": 1"[..], b"", b"\xff\xfe", b"\"a word\""] {
        fs::write(&path, content).unwrap();
        let loaded = file::load::<Vec<u8>>(&path, &quarantine).unwrap();
        let Loaded::Damaged { why, kept: there } = loaded else { panic!("{loaded:?}") };
        assert!(!why.is_empty() && !path.exists());
        assert_eq!(fs::read(&there).unwrap(), content);
        kept.push(there);
    }
    kept.dedup();
    assert_eq!((kept.len(), names(&quarantine).len()), (4, 4), "none replaces another");
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(
        matches!(file::load::<Value>(&path, &quarantine).unwrap(), Loaded::Damaged { .. }),
        "links are not followed"
    );
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(
        matches!(file::load::<Value>(&path, &quarantine).unwrap(), Loaded::Damaged { .. }),
        "and a pipe not opened"
    );
}

fn stored(id: i64) -> Stored {
    let update = serde_json::value::RawValue::from_string(format!(r#"{{"update_id":{id},  "odd":"\ud83d"}}"#)).unwrap();
    Stored { bot: BOT, id, at: NOON + id, update }
}

#[tokio::test]
async fn the_inbox_keeps_bytes_and_order_and_lives_with_damage() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = Inbox::new(dir.path(), BOT);
    inbox.open().await.unwrap();
    inbox.store(vec![stored(9), stored(10), stored(11), stored(8)]).await.unwrap();
    let folder = dir.path().join("bots/telegram-inbox");
    assert_eq!((mode(&folder), mode(&folder.join(format!("{BOT}-9.json")))), (0o700, 0o600));
    fs::write(folder.join(format!("{BOT}-10.json")), "{torn").unwrap();
    fs::write(folder.join("README"), "not ours").unwrap();
    let mut past = Past::default();
    past.add(8, NOON);
    inbox.remember(past.clone()).await.unwrap();
    let (found, waiting) = inbox.open().await.unwrap();
    assert_eq!(found, past);
    assert_eq!(waiting.iter().map(|s| s.id).collect::<Vec<_>>(), [9, 11]);
    assert_eq!(waiting[0].update.get(), stored(9).update.get(), "byte for byte, also what cannot be understood");
    assert_eq!(names(&folder), [format!("{BOT}-11.json"), format!("{BOT}-9.json"), "README".to_owned()]);
    let aside = names(&dir.path().join("quarantine"));
    assert_eq!(fs::read(dir.path().join("quarantine").join(&aside[0])).unwrap(), b"{torn");
    let other = Inbox::new(dir.path(), 77);
    let (found, waiting) = other.open().await.unwrap();
    assert_eq!((found, waiting.len()), (Past::default(), 2), "what another bot got is not forgotten");
    assert_eq!(waiting[0].bot, BOT);
}

#[test]
fn the_past_is_remembered_for_days_and_not_for_ever() {
    let mut past = Past::default();
    for id in 1..=1000 {
        past.add(id, NOON + id);
    }
    past.add(5000, NOON);
    past.add(1001, NOON + 3 * HOUR);
    past.add(1003, NOON + 3 * HOUR);
    past.forget(NOON + REMEMBERED - 1);
    let has = |past: &Past, ids: &[i64]| ids.iter().map(|id| past.has(*id)).collect::<Vec<_>>();
    assert_eq!(has(&past, &[0, 1, 1000, 1001, 1002, 1003, 5000]), [false, true, true, true, false, true, true]);
    let text = serde_json::to_string(&past).unwrap();
    assert!(text.len() < 300, "numbers in a row are one entry: {text}");
    past.forget(NOON + REMEMBERED + HOUR);
    assert_eq!(has(&past, &[1, 1000, 1001, 1003, 5000]), [false, false, true, true, false]);
    for id in 0..6000 {
        past.add(10_000 + 2 * id, NOON + 4 * HOUR);
    }
    past.forget(NOON + 4 * HOUR);
    assert!(past.has(10_000 + 2 * 5999) && serde_json::to_string(&past).unwrap().len() < 400_000, "bounded");
}

#[tokio::test]
async fn one_of_two_has_the_lock_and_the_other_knows_who() {
    let dir = tempfile::tempdir().unwrap();
    let locks = dir.path().join("state/octo");
    let (a, b) = (Place::new(&locks, BOT, Path::new("/w/a")), Place::new(&locks, BOT, Path::new("/w/b")));
    let first = a.attempt().unwrap().unwrap();
    assert!(first.is_intact());
    assert_eq!(b.attempt().unwrap().unwrap_err(), Holder { workspace: "/w/a".into() });
    assert!(Place::new(&locks, BOT + 1, Path::new("/w/b")).attempt().unwrap().is_ok(), "another bot is free");
    let mut told = 0;
    let mut held = Some(first);
    let taken = b.wait(Duration::from_millis(1), |what| {
        assert_eq!(what.unwrap().workspace, Path::new("/w/a"));
        told += 1;
        if told == 3 {
            held = None;
        }
    });
    let second = taken.await;
    assert_eq!(a.attempt().unwrap().unwrap_err(), Holder { workspace: "/w/b".into() });
    fs::remove_file(locks.join(format!("telegram-{BOT}.lock"))).unwrap();
    assert!(!second.is_intact(), "a lock on a file that is gone keeps nobody out");
}

#[test]
fn a_lock_file_that_is_none_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(format!("telegram-{BOT}.lock"))).unwrap();
    assert!(Place::new(dir.path(), BOT, Path::new("/w")).attempt().is_err());
}
