//! What is Octo's own, and the owner's, stays so under every name.

use proptest::prelude::*;

use super::*;

/// A workspace as it is in use.
fn used() -> World {
    let world = World::whole(Some("agents.yaml"));
    for path in
        [".octo/tasks/a.json", ".env", "octo.toml", ".git/config", ".git/HEAD", ".mcp.json", ".claude/settings.json"]
    {
        world.put(path, "SECRET token\n");
    }
    for path in ["agents.yaml", "sub/.env", "sub/.octo/octo.sock.txt", "sub/octo.toml", ".env.local", ".env.example"] {
        world.put(path, "SECRET token\n");
    }
    world.put(".ssh/known_hosts", "SECRET token\n");
    world
}

#[test]
fn secrets_are_not_read() {
    let mut world = used();
    let before = tree(&world.root);
    for path in [
        ".octo/tasks/a.json",
        ".env",
        "./.env",
        "sub/../.env",
        ".env.local",
        "sub/.env",
        "sub/.octo/octo.sock.txt",
        ".git/config",
        ".ssh/known_hosts",
        ".OCTO/tasks/a.json",
        ".octo/no/such",
        ".ENV",
        "id_rsa",
        "keys/ID_ED25519",
    ] {
        let said = world.read(path).unwrap_err();
        assert!(said.contains("cannot be read") && !said.contains("SECRET"), "{path}: {said}");
        world.write(path, "x").unwrap_err();
        world.edit(path, "SECRET", "x").unwrap_err();
        world.err("search_files", json!({"pattern": "SECRET", "path": path}));
    }
    assert!(world.err("list_files", json!({"path": ".octo"})).contains("Octo's own"));
    let found = world.ok("search_files", json!({"pattern": "SECRET"}));
    for hidden in [".octo", ".env:", ".env.local:", ".git/", ".ssh"] {
        assert!(!found.contains(hidden), "{found}");
    }
    assert!(found.contains(".env.example:1:") && found.contains("octo.toml:1:"), "{found}");
    assert!(world.read(".env.example").is_ok() && world.read("octo.toml").is_ok() && world.read(".git/HEAD").is_ok());
    assert_eq!(tree(&world.root), before);
}

#[test]
fn what_decides_what_runs_is_not_written() {
    let mut world = used();
    let before = tree(&world.root);
    for path in [
        "octo.toml",
        "OCTO.TOML",
        "octo.toml.",
        "octo\u{200b}.toml",
        "octo.toml::$DATA",
        "deep/er/octo.toml",
        ".git/hooks/pre-commit",
        "sub/.git/config",
        ".GIT/hooks/pre-commit",
        "git~1/hooks/pre-commit",
        ".mcp.json",
        ".mcp.j\u{17f}on",
        "sub/.mcp.json",
        ".claude/settings.json",
        ".Claude/new.json",
        "agents.yaml",
        "./sub/../agents.yaml",
        "other/.env/x",
        ".octo/new/task.json",
    ] {
        let said = world.write(path, "x").unwrap_err();
        assert!(said.contains("cannot be written") && said.contains("ask the owner"), "{path}: {said}");
        world.edit(path, "SECRET", "x").unwrap_err();
    }
    assert_eq!(tree(&world.root), before, "nothing was made");
    for path in [".gitignore", ".github/workflows/ci.yml", "sub/agents.yaml", "octo.toml.md", ".environment"] {
        world.write(path, "x").unwrap_or_else(|e| panic!("{path} is the project's: {e}"));
    }
}

#[test]
fn links_to_them_are_not_followed() {
    let mut world = used();
    symlink(".env", world.root.join("plain.txt")).unwrap();
    symlink(".octo", world.root.join("folder")).unwrap();
    symlink("folder", world.root.join("again")).unwrap();
    symlink(".git", world.root.join("g")).unwrap();
    symlink("octo.toml", world.root.join("t.toml")).unwrap();
    for path in ["plain.txt", "folder/tasks/a.json", "again/tasks/a.json", "again/../.env", "g/config"] {
        assert!(world.read(path).unwrap_err().contains("cannot be read"), "{path}");
    }
    for path in ["plain.txt", "folder/x", "again/x", "g/hooks/x", "t.toml"] {
        assert!(world.write(path, "x").unwrap_err().contains("cannot be written"), "{path}");
    }
}

#[test]
fn hard_links_to_them_are_recognised() {
    let mut world = used();
    for (of, name) in
        [(".env", "e.txt"), ("octo.toml", "t.txt"), (".octo/tasks/a.json", "o.txt"), ("agents.yaml", "y.txt")]
    {
        fs::hard_link(world.root.join(of), world.root.join(name)).unwrap();
    }
    world.put("fine", "SECRET fine\n");
    fs::hard_link(world.root.join("fine"), world.root.join("twin")).unwrap();
    for path in ["e.txt", "o.txt"] {
        assert!(world.read(path).unwrap_err().contains("Octo's own"), "{path}");
        assert!(world.edit(path, "SECRET", "x").is_err(), "{path}");
    }
    for path in ["e.txt", "t.txt", "y.txt"] {
        assert!(world.write(path, "x").unwrap_err().contains("cannot be written"), "{path}");
    }
    let found = world.ok("search_files", json!({"pattern": "SECRET"}));
    assert!(found.contains("twin:1:") && !found.contains("e.txt:") && !found.contains("o.txt:"), "{found}");
    assert_eq!(fs::read_to_string(world.root.join(".octo/tasks/a.json")).unwrap(), "SECRET token\n");
}

/// The settings may themselves be links: the file that they lead to is meant.
#[test]
fn what_the_settings_lead_to_is_kept_too() {
    let mut world = World::whole(None);
    world.put("conf/real.env", "SECRET");
    world.put("conf/real.toml", "");
    symlink("conf/real.env", world.root.join(".env")).unwrap();
    symlink("conf/real.toml", world.root.join("octo.toml")).unwrap();
    assert!(world.read("conf/real.env").unwrap_err().contains("cannot be read"));
    assert!(world.write("conf/real.toml", "x").unwrap_err().contains("cannot be written"));
}

/// A folder above the workspace, or beside it, reaches its files under other paths.
#[test]
fn the_workspace_is_kept_from_a_folder_above_it() {
    let mut world = used();
    let above = world.root.parent().unwrap().to_owned();
    let name = world.root.file_name().unwrap().to_str().unwrap().to_owned();
    world.folder = Folder::open(&above, Guard::new(&world.root, Some(&world.root.join("agents.yaml")))).unwrap();
    assert!(world.read(&format!("{name}/.env")).unwrap_err().contains("cannot be read"));
    assert!(world.write(&format!("{name}/agents.yaml"), "x").unwrap_err().contains("cannot be written"));
    assert!(Folder::open(&world.root.join(".octo/tasks"), Guard::default()).is_err());
}

#[test]
fn a_team_file_that_is_not_there_yet_is_not_made() {
    let mut world = World::whole(Some("teams/mine.yaml"));
    assert!(world.write("teams/mine.yaml", "agents: {}").unwrap_err().contains("cannot be written"));
    assert!(world.write("teams/other.yaml", "x").is_ok());
}

/// A protected name as a forgiving file system may be asked for it.
fn disguised() -> impl Strategy<Value = String> {
    let names = [".octo", ".env", ".git", ".mcp.json", ".claude", "octo.toml", ".env.production", ".ssh"];
    let name = prop::sample::select(names.to_vec());
    let noise = prop::sample::select(vec!["", "", "", "\u{200b}", "\u{ad}", "\u{feff}", "\u{e0001}"]);
    let end = prop::sample::select(vec!["", "", ".", " ", ". .", ":stream"]);
    (name, prop::collection::vec((any::<bool>(), noise), 20), end).prop_map(|(name, changes, end)| {
        let mut text = String::new();
        for (c, (upper, noise)) in name.chars().zip(changes) {
            text.push(if upper { c.to_ascii_uppercase() } else { c });
            text.push_str(noise);
        }
        text + end
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_disguise_helps(above in "([a-z]{1,3}/){0,3}", name in disguised(), below in "(/[a-z]{1,3}){0,2}") {
        thread_local! { static WORLD: std::cell::RefCell<World> = World::new().into(); }
        WORLD.with_borrow_mut(|world| {
            let path = format!("{above}{name}{below}");
            let said = world.write(&path, "x").unwrap_err();
            assert!(said.contains("cannot be written"), "{path:?}: {said}");
            assert!(tree(&world.work).is_empty(), "{path:?}");
        });
    }
}
