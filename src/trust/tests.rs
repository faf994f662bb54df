use std::collections::HashMap;
use std::process::Command;

use super::*;
use crate::config::Config;
use crate::task::Task;

const OURS: &str = "0123456789abcdef0123456789abcdef";
const THEIRS: &str = "ffffffffffffffffffffffffffffffff";

/// A workspace inside a git repository.
fn repository() -> (tempfile::TempDir, Workspace) {
    let dir = tempfile::tempdir().unwrap();
    let ws = Workspace::find(Some(dir.path()), None, dir.path(), None).unwrap();
    ws.create().unwrap();
    fs::create_dir(ws.octo.join("tasks")).unwrap();
    git(&ws, &["init", "-q"]);
    (dir, ws)
}

fn git(ws: &Workspace, words: &[&str]) {
    assert!(Command::new("git").arg("-C").arg(&ws.root).args(words).status().unwrap().success());
}

fn load(ws: &Workspace) -> Config {
    Config::load(&HashMap::new(), ws, &Trust::load(ws, OURS))
}

fn trust(ws: &Workspace) -> Vec<String> {
    trust_all(ws, OURS, None, &Stamp::from_millis(1)).unwrap()
}

fn write_record(ws: &Workspace, id: &str, mark: &str) -> Vec<u8> {
    let mut task = Task::new(id.parse().unwrap(), 1, Stamp::from_millis(1));
    task.mark = mark.to_owned();
    let bytes = serde_json::to_vec(&task).unwrap();
    fs::write(ws.octo.join(format!("tasks/{id}.json")), &bytes).unwrap();
    bytes
}

#[test]
fn an_installation_has_one_id_also_when_many_ask_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/on/demand");
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(|| installation(&data).unwrap())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(ids[0].len(), 32);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(installation(&data).unwrap(), ids[0]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no temp file stays");
    fs::write(data.join("installation"), "torn").unwrap();
    let renewed = installation(&data).unwrap();
    assert_ne!(renewed, ids[0]);
    assert_eq!(fs::read_to_string(data.join("installation.bad")).unwrap(), "torn", "nothing is thrown away");
}

#[test]
fn settings_that_git_tracks_count_only_as_they_were_trusted() {
    let (_keep, ws) = repository();
    fs::write(ws.root.join("octo.toml"), "[background_agents]\nmax_agents = 7\n").unwrap();
    fs::write(ws.root.join(".env"), "OCTO_MODEL=demo/x\n").unwrap();
    assert_eq!(load(&ws).max_concurrent, 7, "not tracked yet: the owner wrote it here");
    git(&ws, &["add", "octo.toml"]);
    let config = load(&ws);
    assert_eq!((config.max_concurrent, config.model.as_str()), (3, "demo/x"));
    assert_eq!(
        config.warnings,
        [
            "octo.toml is not used: git tracks it, so it may have come from somebody else; look at it, then run `octo trust`"
        ]
    );
    let words = trust(&ws);
    assert_eq!(words.len(), 1);
    assert!(words[0].starts_with("the settings file octo.toml as it is now (sha256 "), "{}", words[0]);
    let config = load(&ws);
    assert_eq!((config.max_concurrent, config.warnings.len()), (7, 0));
    assert_eq!(trust(&ws), Vec::<String>::new(), "nothing waits any more");
    fs::write(ws.root.join("octo.toml"), "[background_agents]\nmax_agents = 9\n").unwrap();
    assert_eq!(load(&ws).max_concurrent, 3, "a pull changed it");
}

#[test]
fn the_team_that_an_untrusted_file_names_is_shown_with_it() {
    let (_keep, ws) = repository();
    fs::write(ws.root.join("octo.toml"), "[agents]\nteam = \"team.yaml\"\n").unwrap();
    fs::write(ws.root.join("team.yaml"), "agents: {}\n").unwrap();
    git(&ws, &["add", "octo.toml", "team.yaml"]);
    let names = |ws: &Workspace| -> Vec<String> {
        pending(ws, &Trust::load(ws, OURS), None).into_iter().map(|p| p.name).collect()
    };
    assert_eq!(names(&ws), ["octo.toml", "team.yaml"]);
    assert_eq!(trust(&ws).len(), 2);
    assert_eq!(names(&ws), Vec::<String>::new());
}

#[test]
fn a_file_of_another_user_needs_trust_too() {
    let (_keep, ws) = repository();
    let path = ws.root.join("octo.toml");
    let trust = Trust::load(&ws, OURS);
    let me = rustix::process::geteuid().as_raw();
    assert_eq!(trust.permits(&ws, &path, b"x", me), Ok(()));
    assert_eq!(trust.permits(&ws, &path, b"x", 0), Ok(()));
    assert!(trust.permits(&ws, &path, b"x", me + 4711).unwrap_err().contains("belongs to user"));
}

#[test]
fn records_without_our_mark_are_used_only_as_they_were_trusted() {
    let (_keep, ws) = repository();
    let id = |s: &str| s.parse::<TaskId>().unwrap();
    let ours = write_record(&ws, "aaaaaaaa", OURS);
    let theirs = write_record(&ws, "bbbbbbbb", THEIRS);
    let none = write_record(&ws, "cccccccc", "");
    fs::write(ws.octo.join("tasks/dddddddd.json"), "no record").unwrap();
    nix::unistd::mkfifo(&ws.octo.join("tasks/eeeeeeee.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let before = Trust::load(&ws, OURS);
    assert!(before.accepts_record(id("aaaaaaaa"), OURS, &ours));
    assert!(!before.accepts_record(id("bbbbbbbb"), THEIRS, &theirs));
    assert!(!before.accepts_record(id("cccccccc"), "", &none));
    assert!(!Trust::default().accepts_record(id("cccccccc"), "", &none), "no installation id trusts no record");
    assert_eq!(trust(&ws).len(), 2);
    let after = Trust::load(&ws, OURS);
    assert!(after.accepts_record(id("bbbbbbbb"), THEIRS, &theirs));
    assert!(after.accepts_record(id("cccccccc"), "", &none));
    assert!(!after.accepts_record(id("bbbbbbbb"), THEIRS, &none), "other bytes");
    assert!(!after.accepts_record(id("cccccccc"), THEIRS, &theirs), "another task");
}

#[test]
fn what_another_installation_trusted_is_not_trusted_here() {
    let (_keep, ws) = repository();
    fs::write(ws.root.join("octo.toml"), "[background_agents]\nmax_agents = 7\n").unwrap();
    git(&ws, &["add", "octo.toml"]);
    trust_all(&ws, THEIRS, None, &Stamp::from_millis(1)).unwrap();
    let trust_of_ours = Trust::load(&ws, OURS);
    assert_eq!(trust_of_ours.foreign.as_deref(), Some(THEIRS));
    assert_eq!(load(&ws).max_concurrent, 3, "a clone can ship its own list of what is trusted");
    trust_of_ours.establish(&ws, &Stamp::from_millis(2)).unwrap();
    assert!(Trust::load(&ws, OURS).foreign.is_some(), "just `octo trust` takes a workspace over");
    assert_eq!(trust(&ws).len(), 2);
    assert_eq!(Trust::load(&ws, OURS).foreign, None);
    assert_eq!(load(&ws).max_concurrent, 7);
}

#[test]
fn the_workspace_file_keeps_what_it_does_not_know_and_never_stops_a_start() {
    let (_keep, ws) = repository();
    Trust::load(&ws, OURS).establish(&ws, &Stamp::from_millis(5)).unwrap();
    let path = ws.octo.join("workspace.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(json["mark"], OURS);
    assert_eq!(json["created_at"], "1970-01-01T00:00:00.005Z");
    json["later"] = 1.into();
    json["trusted"]["more"] = 2.into();
    fs::write(&path, json.to_string()).unwrap();
    write_record(&ws, "cccccccc", "");
    assert_eq!(trust(&ws).len(), 1);
    let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&json["later"], &json["trusted"]["more"]), (&1.into(), &2.into()));
    assert_eq!(json["created_at"], "1970-01-01T00:00:00.005Z");

    for bad in ["", "[]", "{\"mark\": 3}", "\u{0}"] {
        fs::write(&path, bad).unwrap();
        let trust = Trust::load(&ws, OURS);
        assert!(trust.problem.contains("workspace.json"), "{bad:?}");
        assert_eq!((trust.mark.as_str(), trust.trusted), (OURS, Trusted::default()));
    }
    assert_eq!(trust(&ws).len(), 1, "it is written anew");
    assert_eq!(Trust::load(&ws, OURS).problem, "");
}
