//! The pages that are made from the table of settings say what the table says.
//!
//! `UPDATE_DOCS=1 cargo test --test docs` writes them anew.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

use std::fs;
use std::path::{Path, PathBuf};

use octo::config;

const BEGIN: &str = "<!-- settings -->\n";
const END: &str = "<!-- /settings -->";

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn compare(name: &str, is: &str, should: &str) {
    if is == should {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page(name), should).expect("the page can be written");
        return;
    }
    let line = is.lines().zip(should.lines()).position(|(a, b)| a != b).unwrap_or(is.lines().count());
    panic!("{name} differs from the table of settings near line {}; UPDATE_DOCS=1 writes it anew", line + 1);
}

#[test]
fn the_env_example_is_the_table() {
    let is = fs::read_to_string(page(".env.example")).unwrap_or_default();
    compare(".env.example", &is, &config::env_example());
}

#[test]
fn the_readme_holds_the_table() {
    let is = fs::read_to_string(page("README.md")).unwrap();
    let (before, rest) = is.split_once(BEGIN).expect("README.md has a line `<!-- settings -->`");
    let (_, after) = rest.split_once(END).expect("README.md has a line `<!-- /settings -->`");
    compare("README.md", &is, &format!("{before}{BEGIN}{}{END}{after}", config::readme_table()));
}

#[test]
fn the_unit_keeps_tasks_alive() {
    let unit = fs::read_to_string(page("contrib/octod.service")).unwrap();
    for line in ["Type=notify", "KillMode=process", "Restart=always", "RestartSec=1"] {
        assert!(unit.lines().any(|l| l == line), "contrib/octod.service has no line {line}");
    }
}
