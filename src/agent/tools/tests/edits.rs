//! Writing and editing.

use super::*;

#[test]
fn an_edit_answers_with_the_difference() {
    let mut world = World::new();
    world.put("src/a.rs", "fn one() {}\nfn two() {}\n");
    let said = world.edit("src/a.rs", "fn two() {}", "fn two() -> u8 { 2 }").unwrap();
    insta::assert_snapshot!(said, @r"
    Edited `src/a.rs`.
    --- a/src/a.rs
    +++ b/src/a.rs
    @@ -1,2 +1,2 @@
     fn one() {}
    -fn two() {}
    +fn two() -> u8 { 2 }
    ");
    assert_eq!(world.text("src/a.rs"), "fn one() {}\nfn two() -> u8 { 2 }\n");
}

#[test]
fn a_text_must_be_there_exactly_once() {
    let mut world = World::new();
    let text = "a\nb\na\n  c  d\n";
    world.put("x", text);
    let said = world.edit("x", "a", "z").unwrap_err();
    assert!(said.contains("2 times (lines 1, 3)") && said.contains("replace_all"), "{said}");
    assert!(world.edit("x", "q", "z").unwrap_err().contains("Read the file again"));
    assert!(world.edit("x", "c d", "z").unwrap_err().contains("At line 4 is one that differs only in white space"));
    assert!(world.edit("x", "     1\ta\n     2\tb", "z").unwrap_err().contains("line numbers"));
    assert!(world.edit("x", "q", "b").unwrap_err().contains("at line 2: perhaps this edit was made before"));
    assert!(world.edit("x", "", "b").unwrap_err().contains("is empty"));
    assert!(world.edit("nope", "a", "b").unwrap_err().contains("write_file makes a new file"));
    assert_eq!(world.text("x"), text, "nothing was changed");
    let said =
        world.ok("edit_file", json!({"path": "x", "old_string": "a\n", "new_string": "z\n", "replace_all": true}));
    assert!(said.contains("in 2 places"), "{said}");
    assert_eq!(world.text("x"), "z\nb\nz\n  c  d\n");
}

#[test]
fn ends_of_lines_and_of_the_file_are_kept() {
    let mut world = World::new();
    world.put("dos", "one\r\ntwo\r\nthree");
    world.edit("dos", "one\ntwo\n", "1\n2\n2b\n").unwrap();
    assert_eq!(world.text("dos"), "1\r\n2\r\n2b\r\nthree");
    world.put("open", "a\nb");
    world.edit("open", "b", "c").unwrap();
    assert_eq!(world.text("open"), "a\nc");
    world.put("mixed", "a\nb\r\nc\n");
    world.edit("mixed", "a\n", "z\n").unwrap();
    assert_eq!(world.text("mixed"), "z\nb\r\nc\n");
    world.put("bom", "\u{feff}a\n");
    world.edit("bom", "a", "b").unwrap();
    assert_eq!(world.text("bom"), "\u{feff}b\n");
}

#[test]
fn a_file_keeps_its_rights_and_is_replaced_whole() {
    let mut world = World::new();
    for mode in [0o755, 0o600, 0o640] {
        world.put("run.sh", "#!/bin/sh\n");
        fs::set_permissions(world.work.join("run.sh"), fs::Permissions::from_mode(mode)).unwrap();
        world.edit("run.sh", "/bin/sh", "/bin/bash").unwrap();
        assert_eq!(fs::metadata(world.work.join("run.sh")).unwrap().permissions().mode() & 0o7777, mode);
        world.write("run.sh", "new\n").unwrap();
        assert_eq!(fs::metadata(world.work.join("run.sh")).unwrap().permissions().mode() & 0o7777, mode);
    }
    fs::hard_link(world.work.join("run.sh"), world.work.join("other")).unwrap();
    world.write("run.sh", "newer\n").unwrap();
    assert_eq!(world.text("other"), "new\n", "another name of it is not written through");
    assert_eq!(tree(&world.work), ["other", "run.sh"], "nothing is left behind");
}

#[test]
fn what_nobody_may_write_is_not_replaced() {
    let mut world = World::new();
    world.put("fixed", "a\n");
    fs::set_permissions(world.work.join("fixed"), fs::Permissions::from_mode(0o444)).unwrap();
    let writable = fs::File::options().write(true).open(world.work.join("fixed")).is_ok();
    let said = world.edit("fixed", "a", "b");
    // To root everything is writable.
    assert_eq!(said.is_ok(), writable, "{said:?}");
}

#[test]
fn writing_makes_folders_and_tells_what_changed() {
    let mut world = World::new();
    let said = world.write("a/b/c.txt", "one\ntwo\n").unwrap();
    assert_eq!(said, "Created `a/b/c.txt` (2 lines, 8 bytes).");
    assert!(world.write("a/b/c.txt", "one\ntwo\n").unwrap().contains("already"));
    let said = world.write("a/b/c.txt", "one\n2\n").unwrap();
    assert!(said.contains("-two\n+2\n"), "{said}");
    world.put("binary", b"\0\0");
    assert!(world.write("binary", "text").unwrap().contains("was no text"));
    assert!(world.write(".", "x").is_err() && world.write("a/b/..", "x").is_err());
    assert_eq!(tree(&world.work), ["a", "a/b", "a/b/c.txt", "binary"]);
}

#[test]
fn links_inside_the_folder_lead_to_the_file_and_stay_links() {
    let mut world = World::new();
    world.put("real/a.txt", "a\n");
    symlink("real", world.work.join("link")).unwrap();
    symlink("real/a.txt", world.work.join("a")).unwrap();
    symlink(world.work.join("real/a.txt"), world.work.join("whole")).unwrap();
    symlink("real/new.txt", world.work.join("dangling")).unwrap();
    world.edit("link/a.txt", "a", "b").unwrap();
    world.edit("a", "b", "c").unwrap();
    world.edit("whole", "c", "d").unwrap();
    assert_eq!(world.text("real/a.txt"), "d\n");
    world.write("dangling", "new").unwrap();
    assert_eq!(world.text("real/new.txt"), "new");
    assert!(fs::symlink_metadata(world.work.join("a")).unwrap().is_symlink());
    assert!(world.read("link/../real/a.txt").unwrap().contains('d'));
}

#[test]
fn a_large_file_is_refused_and_a_long_difference_cut() {
    let mut world = World::new();
    world.put("large", "x\n".repeat(3 << 20));
    assert!(world.edit("large", "x", "y").unwrap_err().contains("more than"));
    let old: String = (0..20_000).map(|n| format!("a{n}\n")).collect();
    world.put("many", &old);
    let said = world.write("many", &old.replace('a', "b")).unwrap();
    assert!(said.len() < 20_000 && said.contains("not shown; the whole is in the file"), "{}", said.len());
    assert_eq!(world.text("many"), old.replace('a', "b"));
}
