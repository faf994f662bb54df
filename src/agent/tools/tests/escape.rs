//! No spelling of a path leads out of the task's folder.

use proptest::prelude::*;

use super::*;

/// A task's folder with links of every sort, and around it what must not be reached.
fn maze() -> World {
    let world = World::new();
    world.put("a/b/file.txt", "inside\n");
    world.put("file.txt", "inside\n");
    for (target, link) in [
        ("..", "up"),
        ("../..", "a/upup"),
        ("../secret.txt", "out.txt"),
        ("a/../../secret.txt", "round.txt"),
        ("up/secret.txt", "chain.txt"),
        ("chain.txt", "chain2.txt"),
        ("/", "root"),
        ("/etc/passwd", "passwd"),
        ("/proc/self/cwd", "cwd"),
        ("/proc/self/root", "procroot"),
        ("loop", "loop"),
        ("loop_b", "loop_a"),
        ("loop_a", "loop_b"),
        ("a/b", "in"),
        ("in/file.txt", "in.txt"),
        ("../secret_new.txt", "dangling"),
        ("../made/up", "dangling_folder"),
    ] {
        symlink(target, world.work.join(link)).unwrap();
    }
    symlink(world.root.join("secret.txt"), world.work.join("whole")).unwrap();
    symlink(&world.root, world.work.join("a/wholefolder")).unwrap();
    fs::create_dir(world.root.join("work-not")).unwrap();
    fs::write(world.root.join("work-not/x"), SECRET).unwrap();
    for folder in ["", "work-not"] {
        fs::write(world.root.join(folder).join("never_listed"), "").unwrap();
    }
    world
}

/// Everything outside the task's folder, as it is.
fn outside(world: &World) -> Vec<(String, Option<String>)> {
    let kept = tree(&world.root).into_iter().filter(|name| name != "work" && !name.starts_with("work/"));
    kept.map(|name| (name.clone(), fs::read_to_string(world.root.join(name)).ok())).collect()
}

/// Uses a path in every way. Whatever comes of it, nothing outside is shown, and nothing there changes.
fn try_all(world: &mut World, path: &str) -> Vec<Result<String, String>> {
    let said = vec![
        world.read(path),
        world.edit(path, "inside", "inside!"),
        world.edit(path, "inside!", "inside"),
        world.edit(path, "nobody", "somebody"),
        world.call("list_files", json!({"path": path, "recursive": true})),
        world.call("search_files", json!({"pattern": "nobody|root:|inside", "path": path})),
        world.write(path, "inside\n"),
    ];
    for answer in &said {
        let (Ok(text) | Err(text)) = answer;
        for never in [SECRET, "root:x:", "never_listed"] {
            assert!(!text.contains(never), "{path:?} shows {never:?}: {text}");
        }
    }
    said
}

#[test]
fn known_ways_out_are_shut() {
    let mut world = maze();
    let before = outside(&world);
    let root = world.root.display().to_string();
    let mut paths: Vec<String> = [
        "..",
        "../secret.txt",
        "../work/../secret.txt",
        "a/../../secret.txt",
        "a/b/../../../secret.txt",
        "../work-not/x",
        "up",
        "up/secret.txt",
        "up/new.txt",
        "a/upup/secret.txt",
        "a/wholefolder/secret.txt",
        "out.txt",
        "round.txt",
        "chain.txt",
        "chain2.txt",
        "whole",
        "passwd",
        "root/etc/passwd",
        "cwd/x",
        "procroot/etc/passwd",
        "dangling",
        "dangling_folder/x",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/cwd/Cargo.toml",
        "/proc/self/root/etc/passwd",
        "/dev/stdin",
        "/",
        "loop",
        "loop_a/x",
        "nul\0byte",
        "../secret.txt\0file.txt",
        "~/x/../../../etc/passwd",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.push(format!("{root}/secret.txt"));
    paths.push(format!("{root}/work-not/x"));
    paths.push(format!("{root}/work/../secret.txt"));
    paths.push("x/".repeat(3000));
    paths.push("x".repeat(300));
    paths.push(format!("{}secret.txt", "../".repeat(100)));
    for path in &paths {
        let said = try_all(&mut world, path);
        assert!(said.iter().all(Result::is_err), "{path:?}: {said:?}");
        assert!(said.iter().all(|s| s.as_ref().is_err_and(|e| e.len() < 9000)), "{path:?}");
    }
    assert_eq!(outside(&world), before);
    assert!(world.read("../secret.txt").unwrap_err().contains("leads out of the task's folder"));
    assert!(world.read("in.txt").unwrap().contains("inside"), "links that stay inside are followed");
}

/// Links whose target is no text, and files that have no text for a name.
#[test]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut world = World::new();
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(world.work.join(odd), "inside odd\n").unwrap();
    symlink(odd, world.work.join("to_odd")).unwrap();
    assert!(world.read("to_odd").unwrap().contains("inside odd"));
    let said = world.ok("list_files", json!({}));
    assert!(said.contains("[1 names cannot be written as text") && said.contains("to_odd (a symbolic link)"), "{said}");
    let said = world.ok("search_files", json!({"pattern": "inside"}));
    assert!(said.contains("[1 files could not be read"), "{said}");
    let lone: Result<Value, _> = serde_json::from_str(r#"{"path": "\ud800"}"#);
    assert!(lone.is_err(), "a path that is no text does not get here");
}

/// Parts of paths that mean something here, or look as if they did.
const KNOWN: &[&str] = &[
    "..",
    ".",
    "",
    "a",
    "b",
    "up",
    "upup",
    "in",
    "wholefolder",
    "root",
    "cwd",
    "procroot",
    "out.txt",
    "chain2.txt",
    "loop",
    "file.txt",
    "secret.txt",
    "work",
    "work-not",
    "etc",
    "passwd",
    "proc",
    "self",
    "fd",
    "dangling",
    "dangling_folder",
    "..\u{0}",
    " ",
    "..;",
    "%2e%2e",
    "\u{ff0e}\u{ff0e}",
    "...",
    "\\..\\",
    "new",
];

fn part() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => "\\PC{1,8}", 1 => "[./]{1,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_spelling_escapes(parts in prop::collection::vec(part(), 1..9), start in prop::sample::select(&["", "/", "//", "./"][..]),
                           end in prop::sample::select(&["", "/", "/.", "//"][..])) {
        thread_local! { static MAZE: std::cell::RefCell<World> = maze().into(); }
        MAZE.with_borrow_mut(|world| {
            let path = format!("{start}{}{end}", parts.join("/"));
            let before = outside(world);
            try_all(world, &path);
            assert_eq!(outside(world), before, "{path:?}");
        });
    }
}
