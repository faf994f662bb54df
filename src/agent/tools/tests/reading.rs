//! Reading files.

use super::*;

#[test]
fn lines_are_numbered() {
    let mut world = World::new();
    world.put("a.txt", "one\ntwo\n");
    assert_eq!(world.read("a.txt").unwrap(), "     1\tone\n     2\ttwo\n");
    assert_eq!(
        world.read("./a.txt").unwrap(),
        world.read("b/../a.txt").unwrap_or_else(|_| world.read("a.txt").unwrap())
    );
    let absolute = world.work.join("a.txt").display().to_string();
    assert!(world.read(&absolute).unwrap().contains("two"), "a path below the task's folder may be written whole");
    world.put("empty", "");
    assert_eq!(world.read("empty").unwrap(), "[The file is empty.]\n");
}

#[test]
fn the_ends_of_lines_are_told() {
    let mut world = World::new();
    world.put("open", "one\ntwo");
    assert_eq!(world.read("open").unwrap(), "     1\tone\n     2\ttwo\n[No line end at the end of the file.]\n");
    world.put("dos", "\u{feff}one\r\ntwo\r\n");
    let said = world.read("dos").unwrap();
    assert_eq!(said, "     1\tone\n     2\ttwo\n[Lines end with CR LF; edit_file keeps that.]\n");
}

#[test]
fn a_long_file_is_read_in_parts() {
    let mut world = World::new();
    world.put("long", (1..=5000).map(|n| format!("{n}\n")).collect::<String>());
    let first = world.read("long").unwrap();
    assert!(first.ends_with("  2000\t2000\n[Lines 1 to 2000. There are more: read on with offset 2001.]\n"), "{first}");
    let part = world.ok("read_file", json!({"path": "long", "offset": 4999, "limit": 2}));
    assert_eq!(part, "  4999\t4999\n  5000\t5000\n");
    let beyond = world.err("read_file", json!({"path": "long", "offset": 5001}));
    assert!(beyond.contains("has 5000 lines"), "{beyond}");
    world.put("wide", format!("{}\nend\n", "\u{20ac}".repeat(50_000)));
    let said = world.read("wide").unwrap();
    assert!(said.contains("[... 148000 more bytes in this line]\n     2\tend\n"), "{}", &said[said.len() - 100..]);
    world.put("huge", "0123456789\n".repeat(100_000));
    let said = world.ok("read_file", json!({"path": "huge", "limit": 10000}));
    assert!(said.len() <= RESULT_MAX && said.contains("read on with offset"), "{}", said.len());
}

#[test]
fn what_is_no_text_is_refused_with_words() {
    let mut world = World::new();
    world.put("binary", b"\x7fELF\0\0\0");
    world.put("latin", b"caf\xe9\n");
    for (path, words) in [("binary", "is a binary file"), ("latin", "is no UTF-8 text")] {
        let said = world.read(path).unwrap_err();
        assert!(said.contains(words) && said.contains("Use another tool"), "{said}");
        let before = fs::read(world.work.join(path)).unwrap();
        assert!(world.edit(path, "E", "F").unwrap_err().contains(words));
        assert_eq!(fs::read(world.work.join(path)).unwrap(), before);
    }
}

#[test]
fn what_is_not_there_is_told() {
    let mut world = World::new();
    world.put("dir/a", "");
    assert!(world.read("nope").unwrap_err().contains("list_files"));
    assert!(world.read("dir").unwrap_err().contains("is a folder"));
    assert!(world.read("dir/a/").unwrap_err().contains("slash at its end"));
    assert!(world.read("dir/a/b").unwrap_err().contains("no folder"));
    assert!(world.read("nope/../dir/a").unwrap_err().contains("does not exist"));
    assert!(world.err("list_files", json!({"path": "dir/a"})).contains("read_file"));
    assert!(world.write("dir", "x").unwrap_err().contains("is a folder"));
    assert!(world.write("new/", "x").unwrap_err().contains("slash"));
    assert!(!world.work.join("new").exists());
}

#[test]
fn pipes_sockets_and_devices_are_not_touched_and_nothing_waits() {
    let mut world = World::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.work.join("pipe"), 0o600.into()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.work.join("socket")).unwrap();
    let folder = Folder::open(Path::new("/dev"), Guard::new(&world.root, None)).unwrap();
    for (path, words) in [("pipe", "a pipe"), ("socket", "a socket")] {
        assert!(world.read(path).unwrap_err().contains(words));
        assert!(world.write(path, "x").unwrap_err().contains(words));
        assert!(world.edit(path, "x", "y").unwrap_err().contains(words));
        assert!(world.err("search_files", json!({"pattern": "x", "path": path})).contains(words));
    }
    world.put("a", "x");
    assert!(world.ok("search_files", json!({"pattern": "x"})).contains("a:1: x"));
    assert!(world.ok("list_files", json!({})).contains("pipe (no file)"));
    world.folder = folder;
    for path in ["null", "zero", "tty"] {
        assert!(world.read(path).unwrap_err().contains("a device"), "{path}");
        assert!(world.write(path, "x").unwrap_err().contains("a device"), "{path}");
    }
}
