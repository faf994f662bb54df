//! Power cuts: a real file system is shut down under the daemon, mounted again, and read.
//!
//! The workspace lies on ext4 on a loop device. `FS_IOC_SHUTDOWN` without a flush of the journal drops
//! everything that was not synced, as a power cut does. That needs root; where loop devices are not
//! permitted, the syncs of the journal are counted with strace instead, and that is said loudly.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::world::{has_ended, quoted};
use crate::common::{Rng, World, holds_within, number, pause, wait_until};

/// Cuts with the product as it is.
const CUTS: u64 = 20;

/// An ext4 of its own on a loop device, unmounted when dropped.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// Makes and mounts it; `None` when that is not permitted here.
    fn new() -> Option<Disk> {
        let disk = Disk { dir: tempfile::Builder::new().prefix("octo-disk-").tempdir().unwrap() };
        let image = File::create(disk.image()).unwrap();
        image.set_len(96 * 1024 * 1024).unwrap();
        fs::create_dir(disk.point()).unwrap();
        let made = run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(disk.image()));
        (made && disk.mount()).then_some(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn mount(&self) -> bool {
        run(Command::new("mount").arg("-o").arg("loop").arg(self.image()).arg(self.point()))
    }

    fn unmount(&self) -> bool {
        run(Command::new("umount").arg(self.point()))
    }

    /// The power fails: nothing that was not synced is on the disk any more.
    #[allow(unsafe_code)]
    fn cut(&self) {
        const FS_IOC_SHUTDOWN: nix::libc::c_ulong = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let root = File::open(self.point()).unwrap();
        let flags = NO_LOG_FLUSH;
        // SAFETY: the request reads one u32, which lives until the call returns.
        let done = unsafe { nix::libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN, &raw const flags) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// The power is back.
    fn back(&self) {
        wait_until("the dead file system to be let go", || self.unmount());
        assert!(self.mount(), "the file system does not mount after the cut");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !holds_within(std::time::Duration::from_secs(10), || self.unmount()) {
            run(Command::new("umount").arg("-l").arg(self.point()));
        }
    }
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// What was promised before the cuts and is not there after them.
#[derive(Debug, Default)]
struct Broken {
    acknowledged: usize,
    ends_seen: usize,
    missing: Vec<String>,
    stale: Vec<String>,
    /// Commands that ran twice: their marks lie on a disk that keeps its power.
    twice: Vec<String>,
    unreadable: Vec<String>,
    /// Claims and exits whose content did not survive; their runs are interrupted, as they would be without.
    hollow: Vec<String>,
}

/// Cuts the power `cuts` times under work, at random moments; says what was promised and is not true.
fn cut_power(cuts: u64, broken: &str) -> Option<Broken> {
    let disk = Disk::new()?;
    let side = tempfile::Builder::new().prefix("octo-world-").tempdir().unwrap();
    let mut found = Broken::default();
    let mut world = World::at(side, disk.point().canonicalize().unwrap().join("ws"));
    world.set("BG_MAX_CONCURRENT", "2");
    world.set("OCTO_BREAK", broken);
    let mut rng = Rng::new(number("OCTO_SOAK_SEED", 1));
    let mut promised: Vec<(String, Option<Value>)> = Vec::new();
    for cut in 0..cuts {
        world.start();
        compare(&world, &promised, &mut found);
        work(&world, cut, &mut rng, &mut promised);
        disk.cut();
        world.kill_all();
        disk.back();
    }
    world.start();
    compare(&world, &promised, &mut found);
    let marks = world.side("");
    found.twice = names(&marks).into_iter().filter(|name| world.runs(name) > 1).collect();
    found.acknowledged = promised.len();
    found.ends_seen = promised.iter().filter(|(_, end)| end.is_some()).count();
    drop(world);
    Some(found)
}

/// Two long tasks hold the slots in half of the rounds, so that no other sync covers for a missing one.
fn work(world: &World, cut: u64, rng: &mut Rng, promised: &mut Vec<(String, Option<Value>)>) {
    let mut start = |name: String, command: &str| {
        let command = format!("echo run >> {}; {command}", quoted(&world.side(&name)));
        let id = world.bg_with(json!({ "command": command, "key": name }));
        promised.push((id.clone(), None));
        id
    };
    if rng.percent(50) {
        let holders = [0, 1].map(|n| start(format!("hold-{cut}-{n}"), "exec sleep 600"));
        wait_until("both to run", || holders.iter().all(|id| world.status(id) == "running"));
    }
    for n in 0..1 + rng.below(8) {
        start(format!("cut-{cut}-{n}"), "echo done");
    }
    let longest = if rng.percent(50) { 0 } else { 60 };
    pause(rng.up_to(longest));
    for (id, end) in promised.iter_mut().filter(|(_, end)| end.is_none()) {
        let answer = world.ask("GET", &format!("/background-agents/{id}"), "").unwrap();
        // What an earlier cut lost is counted after it.
        if answer.status == 200 && has_ended(&answer.json()) {
            *end = Some(answer.json());
        }
    }
}

fn compare(world: &World, promised: &[(String, Option<Value>)], found: &mut Broken) {
    for name in names(&world.octo_dir().join("quarantine")) {
        // The content of claims and exits need not be synced: a claim's name alone says that the run began, and
        // an end counts as known when its record is saved.
        let of_a_run = name.contains("_claim.json") || name.contains("_exit.json");
        let list = if of_a_run { &mut found.hollow } else { &mut found.unreadable };
        if !list.contains(&name) {
            list.push(name);
        }
    }
    for (id, end) in promised {
        let answer = world.ask("GET", &format!("/background-agents/{id}"), "").unwrap();
        if answer.status != 200 {
            if !found.missing.contains(id) {
                found.missing.push(id.clone());
            }
            continue;
        }
        let now = answer.json();
        let differs = |end: &Value| ["status", "exit_code", "completed_at"].iter().any(|name| end[*name] != now[*name]);
        if end.as_ref().is_some_and(differs) && !found.stale.contains(id) {
            found.stale.push(id.clone());
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

fn say(what: &str, cuts: u64, found: &Broken) {
    let Broken { acknowledged, ends_seen, missing, stale, twice, unreadable, hollow } = found;
    println!(
        "power cuts, {what}: cuts={cuts} acknowledged={acknowledged} ends_seen={ends_seen} missing={} stale={} twice={} unreadable={} hollow_facts_of_runs={}",
        missing.len(),
        stale.len(),
        twice.len(),
        unreadable.len(),
        hollow.len()
    );
}

/// `OCTO_POWER_CUTS` sets their number.
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let cuts = number("OCTO_POWER_CUTS", CUTS);
    let Some(found) = cut_power(cuts, "") else {
        eprintln!("LOOP DEVICES ARE NOT PERMITTED HERE: no power was cut; the syncs are counted with strace instead");
        assert!(syncs_of_the_journal("") > 0, "a start was answered without a sync of the journal");
        return;
    };
    say("as it is", cuts, &found);
    let Broken { missing, stale, twice, unreadable, .. } = &found;
    assert!([missing, stale, twice, unreadable].iter().all(|list| list.is_empty()), "{found:?}");
    assert!(found.acknowledged as u64 >= 2 * cuts, "too little work under the cuts: {found:?}");
}

#[test]
fn without_the_folder_sync_a_power_cut_loses_acknowledged_tasks() {
    let Some(found) = cut_power(CUTS, "no_folder_fsync") else {
        eprintln!("LOOP DEVICES ARE NOT PERMITTED HERE: no power was cut; the syncs are counted with strace instead");
        assert_eq!(syncs_of_the_journal("no_folder_fsync"), 0, "the count cannot tell the difference");
        return;
    };
    say("without the folder sync", CUTS, &found);
    assert!(!(found.missing.is_empty() && found.stale.is_empty()), "the check did not see it: {found:?}");
}

/// How often the journal is synced after a start's frame was written and before the start is answered.
fn syncs_of_the_journal(broken: &str) -> usize {
    let mut world = World::new();
    world.set("OCTO_BREAK", broken);
    let trace = world.beside("trace");
    let mut command = world.command("strace");
    command.args([
        "-f",
        "-qq",
        "-y",
        "-b",
        "execve",
        "-s",
        "200",
        "-e",
        "trace=pwrite64,fsync,fdatasync,sendto,write,writev",
        "-o",
    ]);
    command.arg(&trace).args(world.daemon_words());
    let mut daemon = world.spawn_as_daemon(command);
    assert!(daemon.ready(), "the daemon did not get ready under strace: {}", world.complaints());
    world.bg("true");
    let text = fs::read_to_string(trace).unwrap();
    let frame = |line: &str| line.contains("pwrite64(") && line.contains("/journal-") && line.contains("OCJ1");
    // The first one is the header of the segment.
    let frames: Vec<usize> = text.lines().enumerate().filter(|(_, l)| frame(l)).map(|(at, _)| at).collect();
    let written = *frames.get(1).expect("a frame was written");
    let until_told =
        text.lines().skip(written).take_while(|l| !l.contains("instanceId") && !l.contains("HTTP/1.1 201"));
    let count = until_told.filter(|l| l.contains("sync(") && l.contains("/journal-")).count();
    world.kill_daemons();
    daemon.kill();
    count
}

/// The count that stands in for power cuts where they are not possible tells the two apart as well.
#[test]
fn the_sync_of_the_journal_comes_between_the_frame_and_the_answer() {
    assert!(syncs_of_the_journal("") > 0);
    assert_eq!(syncs_of_the_journal("no_folder_fsync"), 0);
}
