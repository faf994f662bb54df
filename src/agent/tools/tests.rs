//! Tests of the tools, through the door that the agents' loop uses.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

mod contract;
mod edits;
mod escape;
mod guarded;
mod listing;
mod permission;
mod races;
mod reading;
mod texts;

/// A workspace with a task's folder in it and a secret beside it.
struct World {
    _temp: tempfile::TempDir,
    /// The workspace.
    root: PathBuf,
    /// The task's folder.
    work: PathBuf,
    folder: Folder,
    todos: Todos,
}

const SECRET: &str = "nobody reads this";

impl World {
    fn new() -> World {
        let temp = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(temp.path()).unwrap();
        let work = root.join("work");
        fs::create_dir_all(&work).unwrap();
        fs::write(root.join("secret.txt"), SECRET).unwrap();
        let folder = Folder::open(&work, Guard::new(&root, None)).unwrap();
        World { _temp: temp, root, work, folder, todos: Todos::default() }
    }

    /// One whose task works in the workspace's own folder.
    fn whole(team: Option<&str>) -> World {
        let mut world = World::new();
        let team = team.map(|name| world.root.join(name));
        world.work = world.root.clone();
        world.folder = Folder::open(&world.root, Guard::new(&world.root, team.as_deref())).unwrap();
        world
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.work.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.work.join(path)).unwrap()
    }

    fn call(&mut self, name: &str, args: Value) -> Result<String, String> {
        self.within(name, args, Limits::default())
    }

    fn within(&mut self, name: &str, args: Value, limits: Limits) -> Result<String, String> {
        let call = parse(name, &args).map_err(|e| e.to_string())?;
        here(&call, &self.folder, &mut self.todos, limits).expect("a tool that runs here").map_err(|e| e.to_string())
    }

    fn ok(&mut self, name: &str, args: Value) -> String {
        self.call(name, args).unwrap_or_else(|e| panic!("{name} failed: {e}"))
    }

    /// The error, which must tell a model what to do.
    fn err(&mut self, name: &str, args: Value) -> String {
        let said = format!("{name} {args}");
        self.call(name, args).expect_err(&said)
    }

    fn read(&mut self, path: &str) -> Result<String, String> {
        self.call("read_file", json!({"path": path}))
    }

    fn write(&mut self, path: &str, content: &str) -> Result<String, String> {
        self.call("write_file", json!({"path": path, "content": content}))
    }

    fn edit(&mut self, path: &str, old: &str, new: &str) -> Result<String, String> {
        self.call("edit_file", json!({"path": path, "old_string": old, "new_string": new}))
    }
}

/// Every name below a folder, sorted.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
