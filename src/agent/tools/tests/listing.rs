//! Listing and searching.

use std::time::Duration;

use super::*;

fn project() -> World {
    let world = World::new();
    for (path, text) in [
        (".gitignore", "target/\n*.log\n!keep.log\n/only_top\n"),
        ("a.rs", "fn main() {\n    println!(\"one\");\n}\n"),
        ("debug.log", "fn log\n"),
        ("keep.log", "fn kept\n"),
        ("only_top", "fn top\n"),
        ("src/only_top", "fn deep\n"),
        ("src/b.rs", "// two\nfn two() {}\n"),
        ("src/deep/.gitignore", "*.tmp\n!*.log\n"),
        ("src/deep/c.tmp", "fn tmp\n"),
        ("src/deep/d.log", "fn d\n"),
        ("target/x.rs", "fn built\n"),
        (".git/HEAD", "fn git\n"),
        (".github/ci.yml", "fn: ci\n"),
    ] {
        world.put(path, text);
    }
    world
}

#[test]
fn a_folder_is_listed_without_what_is_ignored() {
    let mut world = project();
    assert_eq!(world.ok("list_files", json!({})), ".github/\n.gitignore\na.rs\nkeep.log\nsrc/\n");
    let all = world.ok("list_files", json!({"recursive": true}));
    insta::assert_snapshot!(all, @r"
    .gitignore
    a.rs
    keep.log
    .github/ci.yml
    src/b.rs
    src/only_top
    src/deep/.gitignore
    src/deep/d.log
    ");
    let rs = world.ok("list_files", json!({"recursive": true, "pattern": "*.rs"}));
    assert_eq!(rs, "a.rs\nsrc/b.rs\n");
    assert_eq!(world.ok("list_files", json!({"pattern": "src/**/*.log"})), "src/deep/d.log\n");
    assert_eq!(
        world.ok("list_files", json!({"path": "src", "pattern": "**/*.{log,rs}"})),
        "src/b.rs\nsrc/deep/d.log\n"
    );
    assert_eq!(world.ok("list_files", json!({"path": "target"})), "target/x.rs\n", "what is named is shown");
    assert!(world.ok("list_files", json!({"pattern": "*.py"})).contains("nothing that is not ignored and matches"));
    assert!(world.err("list_files", json!({"pattern": "a[b"})).contains("is no glob"));
    assert!(world.err("list_files", json!({"path": "nope"})).contains("does not exist"));
}

#[test]
fn lines_are_found_with_those_around_them() {
    let mut world = project();
    let said = world.ok("search_files", json!({"pattern": "fn \\w+\\(", "context": 1}));
    insta::assert_snapshot!(said, @r#"
    a.rs:1: fn main() {
    a.rs-2-     println!("one");
    src/b.rs-1- // two
    src/b.rs:2: fn two() {}
    [2 matching lines in 2 files.]
    "#);
    let one = world.ok("search_files", json!({"pattern": "TWO|(?i)two", "glob": "*.rs", "path": "src"}));
    assert_eq!(one, "src/b.rs:1: // two\nsrc/b.rs:2: fn two() {}\n[2 matching lines in 1 files.]\n");
    let file = world.ok("search_files", json!({"pattern": "main", "path": "a.rs"}));
    assert_eq!(file, "a.rs:1: fn main() {\n[1 matching lines in 1 files.]\n");
    assert!(world.ok("search_files", json!({"pattern": "no such thing"})).starts_with("[No line matches.]"));
    let said = world.err("search_files", json!({"pattern": "main("}));
    assert!(said.contains("unclosed group") && said.contains("put \\ before"), "{said}");
    assert!(world.err("search_files", json!({"pattern": "a\\nb"})).contains("single lines"));
    assert!(world.err("search_files", json!({"pattern": "(?:\\pL{1000}){1000}"})).contains("is not taken"));
}

#[test]
fn links_are_named_and_not_gone_into() {
    let mut world = World::new();
    world.put("real/a", "inside\n");
    symlink("..", world.work.join("up")).unwrap();
    symlink(".", world.work.join("self")).unwrap();
    symlink("real", world.work.join("twin")).unwrap();
    let said = world.ok("list_files", json!({"recursive": true}));
    assert_eq!(said, "self (a symbolic link)\ntwin (a symbolic link)\nup (a symbolic link)\nreal/a\n");
    let said = world.ok("search_files", json!({"pattern": "inside|nobody"}));
    assert_eq!(said, "real/a:1: inside\n[1 matching lines in 1 files.]\n");
    assert!(world.ok("search_files", json!({"pattern": "inside", "path": "twin"})).contains("real/a:1:"));
}

#[test]
fn everything_is_bounded() {
    let mut world = World::new();
    for n in 0..300 {
        world.put(&format!("d{}/f{n}", n % 3), "x x\n".repeat(20));
    }
    let few = Limits { shown: 10, ..Limits::default() };
    let said = world.within("list_files", json!({"recursive": true}), few).unwrap();
    assert!(said.lines().count() == 11 && said.contains("[Stopped after 10 names"), "{said}");
    let said = world.within("search_files", json!({"pattern": "x"}), few).unwrap();
    assert!(said.contains("[Stopped after 10 matching lines") && said.contains("[10 matching lines"), "{said}");
    let narrow = Limits { entries: 50, ..Limits::default() };
    let said = world.within("list_files", json!({"recursive": true}), narrow).unwrap();
    assert!(said.contains("[Stopped after 50 names"), "{said}");
    let short = Limits { within: Duration::ZERO, ..Limits::default() };
    for (tool, args) in [("list_files", json!({"recursive": true})), ("search_files", json!({"pattern": "x"}))] {
        assert!(world.within(tool, args, short).unwrap().contains("[Stopped after 0 seconds"), "{tool}");
    }
    let said = world.within("search_files", json!({"pattern": "x", "path": "d0/f0"}), short).unwrap();
    assert!(said.contains("[Stopped after 0 seconds"), "{said}");
    world.put("wide", format!("{}\n", "y".repeat(100_000)).repeat(300));
    let said = world.ok("search_files", json!({"pattern": "y+"}));
    assert!(said.len() <= RESULT_MAX && said.contains(" [...]") && said.contains("[Stopped after"), "{}", said.len());
    world.put("one_line", "z".repeat(20 << 20));
    let said = world.ok("search_files", json!({"pattern": "z", "glob": "one_line"}));
    assert!(said.contains("could not be read"), "a line that needs too much memory: {said}");
    world.put("binary", b"q\n\0q\n");
    assert!(world.ok("search_files", json!({"pattern": "q"})).contains("turn out to be binary"));
}

#[test]
fn deep_folders_and_odd_rules_do_no_harm() {
    let mut world = World::new();
    world.put(&format!("{}deep", "d/".repeat(150)), "x");
    world.put(".gitignore", b"[\n\xff\xfe\n***\n!\n/\n\\\n");
    let said = world.ok("list_files", json!({"recursive": true}));
    assert!(said.contains(".gitignore"), "{said}");
    fs::remove_file(world.work.join(".gitignore")).unwrap();
    symlink("/etc/passwd", world.work.join(".gitignore")).unwrap();
    assert!(world.ok("list_files", json!({})).contains("d/\n"));
    fs::remove_file(world.work.join(".gitignore")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.work.join(".gitignore"), 0o600.into()).unwrap();
    assert!(world.ok("list_files", json!({})).contains("d/\n"), "a pipe makes nobody wait");
}
