//! What people read about settings, made from the table: `.env.example`, `octo.toml`, the README's table.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{VARS, Var};

/// The width at which help is folded in comments.
const WIDTH: usize = 100;

/// The whole text of `.env.example`.
#[must_use]
pub fn env_example() -> String {
    let mut text = String::from(
        "# Octo's settings. Copy this file to `.env` in your workspace and uncomment what you need.\n\
         # The real environment wins over `.env`, and `.env` over `octo.toml`.\n\
         # `octo status` shows what is in force and where it came from.\n",
    );
    for var in VARS {
        text.push('\n');
        comment(&mut text, var.help);
        let _ = writeln!(text, "# {}={}", var.name, quoted(shown_value(var)));
    }
    text
}

/// An `octo.toml` to start from: every setting that it may hold, commented out.
#[must_use]
pub fn octo_toml() -> String {
    let mut sections: BTreeMap<&str, Vec<(&str, &Var)>> = BTreeMap::new();
    for var in VARS {
        if let Some((section, key)) = var.toml.and_then(|t| t.split_once('.')) {
            sections.entry(section).or_default().push((key, var));
        }
    }
    let mut text = String::from(
        "# Octo's settings for this workspace. Secrets do not belong here: put them into `.env`.\n\
         # Once git tracks this file, each change of it takes effect after `octo trust`.\n",
    );
    for (section, rows) in sections {
        let _ = write!(text, "\n[{section}]\n");
        for (key, var) in rows {
            comment(&mut text, var.help);
            let value = shown_value(var);
            let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let _ = writeln!(text, "# {key} = {}", if is_number { value.to_owned() } else { format!("\"{value}\"") });
        }
    }
    text
}

/// The README's table of settings, in Markdown.
#[must_use]
pub fn readme_table() -> String {
    let mut text = String::from("| Setting | Default | In `octo.toml` | What it does |\n|---|---|---|---|\n");
    for var in VARS {
        let code = |s: &str| if s.is_empty() { String::new() } else { format!("`{s}`") };
        let help = var.help.replace('|', "\\|");
        let toml = var.toml.map_or(String::new(), code);
        let _ = writeln!(text, "| `{}` | {} | {toml} | {help} |", var.name, code(var.default));
    }
    text
}

fn shown_value(var: &Var) -> &'static str {
    if var.default.is_empty() { var.example } else { var.default }
}

fn quoted(value: &str) -> String {
    if value.contains(' ') { format!("\"{value}\"") } else { value.to_owned() }
}

fn comment(text: &mut String, help: &str) {
    let mut line = String::from("#");
    for word in help.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}
