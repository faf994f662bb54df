use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A workspace with these settings files; nothing in it is tracked by git.
struct World {
    _dir: tempfile::TempDir,
    ws: Workspace,
}

impl World {
    fn new(dotenv: &str, toml: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let ws = Workspace::find(Some(dir.path()), None, dir.path(), None).unwrap();
        let world = World { _dir: dir, ws };
        world.write(DOTENV, dotenv);
        world.write(OCTO_TOML, toml);
        world
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        if !text.as_ref().is_empty() {
            fs::write(self.ws.root.join(name), text).unwrap();
        }
    }

    fn load(&self, env: &[(&str, &str)]) -> Config {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::load(&env, &self.ws, &Trust::default())
    }
}

fn source(config: &Config, name: &str) -> (String, String) {
    let setting = config.settings.iter().find(|s| s.name == name).unwrap();
    (setting.value.clone(), setting.source.clone())
}

#[test]
fn without_anything_set_every_default_holds() {
    let config = World::new("", "").load(&[]);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!((config.max_concurrent, config.log_quota), (3, 4 << 30));
    assert_eq!((config.per_agent_budget, config.global_budget), (50_000, 200_000));
    assert_eq!(config.claude_bridge, ClaudeBridge::Full);
    assert_eq!((config.shell_policy, config.telegram_run), (ShellPolicy::Ask, TelegramRun::Ask));
    assert_eq!((config.panel_addr, config.quiet_hours, config.team.clone()), (None, None, None));
    assert_eq!(config.octo_log, "info");
    assert!(config.telegram_token.is_empty() && config.telegram_allowed_users.is_empty());
    assert_eq!(config.settings.len(), VARS.len());
    assert!(config.settings.iter().all(|s| s.source == "default"));
}

#[test]
fn the_environment_wins_over_dotenv_and_that_over_toml() {
    let world = World::new("BG_MAX_CONCURRENT=5", "[background_agents]\nmax_agents = 7\n");
    let config = world.load(&[("BG_MAX_CONCURRENT", "9")]);
    assert_eq!(config.max_concurrent, 9);
    assert_eq!(source(&config, "BG_MAX_CONCURRENT"), ("9".into(), "environment".into()));
    assert_eq!(source(&world.load(&[]), "BG_MAX_CONCURRENT"), ("5".into(), ".env".into()));
    assert_eq!(world.load(&[("BG_MAX_CONCURRENT", "")]).max_concurrent, 5, "a number that is empty is not set");
    world.write(DOTENV, "# nothing");
    assert_eq!(source(&world.load(&[]), "BG_MAX_CONCURRENT"), ("7".into(), "octo.toml".into()));
}

#[test]
fn an_empty_text_overrides() {
    let world = World::new("ADDITIONAL_CLAUDE_ARGS=--model=opus", "");
    assert_eq!(world.load(&[]).claude_args, "--model=opus");
    assert_eq!(world.load(&[("ADDITIONAL_CLAUDE_ARGS", "")]).claude_args, "");
}

#[test]
fn a_bad_value_is_named_with_its_place_and_the_default_holds() {
    let world = World::new("\nBG_MAX_CONCURRENT=many\nOCTO_TYPO=1\nno sense\n", "[logs]\nquota = \"lots\"\ntypo = 1\n");
    let config = world.load(&[("TELEGRAM_RUN", "maybe"), ("TELEGRAM_BOT_TOKEN", "not a token")]);
    assert_eq!((config.max_concurrent, config.log_quota, config.telegram_run), (3, 4 << 30, TelegramRun::Ask));
    assert!(config.telegram_token.is_empty());
    let mut warnings = config.warnings.clone();
    warnings.sort();
    assert_eq!(
        warnings,
        [
            ".env:3 there is no setting OCTO_TYPO",
            ".env:4 is not of the form NAME=value; the line is left out",
            "BG_MAX_CONCURRENT `many` (.env:2) is not a whole number from 1 to 10000; used instead: 3",
            "OCTO_LOG_QUOTA `lots` (octo.toml: logs.quota) is not a size such as `500MiB` or `4GiB`; used instead: 4GiB",
            "TELEGRAM_BOT_TOKEN (TELEGRAM_BOT_TOKEN) holds spaces, control or non-ASCII characters; used instead: it is not set",
            "TELEGRAM_RUN `maybe` (TELEGRAM_RUN) is none of: off, ask, on; used instead: ask",
            "octo.toml: there is no setting `logs.typo`; it is left out",
        ]
    );
    assert_eq!(source(&config, "BG_MAX_CONCURRENT"), ("3".into(), "default".into()));
}

#[test]
fn no_secret_is_shown_anywhere() {
    let canary = "canary-4711";
    let dotenv = format!(
        "TELEGRAM_BOT_TOKEN={canary}\nANTHROPIC_API_KEY='{canary}'\nOPENAI_API_KEY=\"{canary}\nGEMINI_API_KEY={canary} x\n\
         OPENAI_BASE_URL=https://me:{canary}@host/v1\n"
    );
    let config = World::new(&dotenv, "").load(&[]);
    assert_eq!(config.telegram_token.expose(), canary);
    assert_eq!(config.anthropic_api_key.expose(), canary);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert_eq!(source(&config, "TELEGRAM_BOT_TOKEN"), ("set".into(), ".env".into()));
    assert_eq!(source(&config, "GEMINI_API_KEY"), (String::new(), "default".into()));
    assert_eq!(source(&config, "OPENAI_BASE_URL").0, "https://***@host/v1");
    let mut seen = format!("{:?} {:?} {:?}", config.settings, config.warnings, config.telegram_token);
    seen.push_str(&format!("{:?}", Config { openai_base_url: String::new(), ..config }));
    assert!(!seen.contains(canary), "{seen}");
}

#[test]
fn a_warning_quotes_little_and_no_control_characters_or_passwords() {
    let long = format!("\u{1b}]0;x\u{7}{}", "y".repeat(10_000));
    let config = World::new("", "").load(&[("BG_MAX_CONCURRENT", &long), ("OPENAI_BASE_URL", "htp://me:pw@host")]);
    assert_eq!(config.warnings.len(), 2);
    let text = config.warnings.concat();
    assert!(text.len() < 500 && !text.contains(char::is_control) && !text.contains("pw"), "{text}");
}

#[test]
fn just_octos_own_secrets_are_kept_from_tasks() {
    assert_eq!(secret_names().collect::<Vec<_>>(), ["TELEGRAM_BOT_TOKEN"]);
}

#[test]
fn toml_holds_lists_numbers_and_free_sections() {
    let toml = "[telegram]\nallowed_users = [4711, \"4712\"]\n[agents]\nteam = \"team.yaml\"\nmodel = 3\n\
                [background_agents]\nper_agent_budget = 1_000\nmax_agents = true\n\
                [prices.\"demo/x\"]\ninput = 1.5\n[[mcp.servers]]\nname = \"a\"\nargs = [\"x\", { y = 1979-05-27 }]\n\
                [notify]\nquiet_hours = \"22-7:30\"\nother = false\n";
    let world = World::new("", &format!("stray = 1\n{toml}"));
    let config = world.load(&[]);
    assert_eq!(config.telegram_allowed_users, [4711, 4712]);
    assert_eq!(config.per_agent_budget, 1000);
    assert_eq!(config.team, Some(world.ws.root.join("team.yaml")));
    assert_eq!(config.quiet_hours, Some(QuietHours { from: 22 * 60, until: 7 * 60 + 30 }));
    assert_eq!(config.prices, json!({"demo/x": {"input": 1.5}}));
    assert_eq!(config.mcp, json!({"servers": [{"name": "a", "args": ["x", {"y": "1979-05-27"}]}]}));
    assert_eq!(config.notify, json!({"quiet_hours": "22-7:30", "other": false}));
    assert_eq!(
        config.warnings,
        [
            "octo.toml: `stray` stands outside of any section and is left out",
            "octo.toml: `background_agents.max_agents` is no plain value; it is left out",
            "OCTO_MODEL `3` (octo.toml: agents.model) does not look like `provider/model`; used instead: it is not set",
        ]
    );
}

#[test]
fn files_that_cannot_be_read_are_told_and_left_out() {
    let world = World::new("", "[background_agents\nmax_agents = 7");
    nix::unistd::mkfifo(&world.ws.root.join(DOTENV), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let warnings = world.load(&[]).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0], ".env is not used: it is no regular file");
    assert!(warnings[1].starts_with("octo.toml:1 is not used: "), "{}", warnings[1]);

    let world = World::new("", "");
    world.write(OCTO_TOML, vec![b'#'; (1 << 20) + 1]);
    world.write(DOTENV, b"BG_MAX_CONCURRENT=4\nOCTO_MODEL=demo/\xff");
    let config = world.load(&[]);
    assert_eq!(config.max_concurrent, 4, "one bad byte does not cost the other lines");
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
}

#[test]
fn dotenv_lines_mean_what_other_tools_take_them_for() {
    let read = |text: &str| {
        let mut complaints = Vec::new();
        let entries = dotenv::parse(text, &mut complaints);
        (entries.get("A").map(|(v, _)| v.clone()), complaints.len())
    };
    let value = |v: &str| (Some(v.to_owned()), 0);
    for (text, wanted) in [
        ("A=b", value("b")),
        ("\u{feff}A=b", value("b")),
        ("export A=b\r\n", value("b")),
        ("  A = b c  ", value("b c")),
        ("A=b # why", value("b")),
        ("A=b#c", value("b#c")),
        ("A=#c", value("")),
        ("A=", value("")),
        ("A=1\nA=2", value("2")),
        ("A='x # \"y\" $Z \\n' # why", value("x # \"y\" $Z \\n")),
        (r#"A="x\n\t\"\\\$\q" # why"#, value("x\n\t\"\\$\\q")),
        ("A=$HOME", value("$HOME")),
        ("A=b=c", value("b=c")),
        ("# A=b", (None, 0)),
        ("A", (None, 1)),
        ("=b", (None, 1)),
        ("A B=c", (None, 1)),
        ("A='b", (None, 1)),
        ("A=\"b\\", (None, 1)),
        ("A='b'c", (None, 1)),
    ] {
        assert_eq!(read(text), wanted, "{text:?}");
    }
}

#[test]
fn values_are_read_as_people_write_them() {
    use value::*;
    for (text, bytes) in
        [("1", 1), ("1_000", 1000), ("5k", 5 << 10), ("500 MiB", 500 << 20), ("4GB", 4 << 30), ("1TiB", 1 << 40)]
    {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in ["", "0", "-1", "1.5G", "G", "1PB", "99999999TiB", "1 2"] {
        assert!(size(text).is_err(), "{text}");
    }
    let local = |s: &str| Ok(Some(s.parse().unwrap()));
    assert_eq!(loopback("8080"), local("127.0.0.1:8080"));
    assert_eq!(loopback("http://localhost:1"), local("127.0.0.1:1"));
    assert_eq!(loopback("[::1]:9"), local("[::1]:9"));
    for text in ["0.0.0.0:80", "192.168.1.2:80", "127.0.0.1", "127.evil.com:80", "[::]:1", "host"] {
        assert!(loopback(text).is_err(), "{text}");
    }
    assert_eq!(user_ids("1, 2 3,"), Ok(vec![1, 2, 3]));
    for text in ["me", "@me", "-100", "0", "1;2"] {
        assert!(user_ids(text).is_err(), "{text}");
    }
    for text in ["22:00", "22:00-22:00", "24:00-1:00", "1:60-2:00", "a-b", "+1-2", "1-2-3"] {
        assert!(quiet_hours(text).is_err(), "{text}");
    }
    let night = quiet_hours("22:00-07:00").unwrap().unwrap();
    assert!(night.holds(22 * 60) && night.holds(0) && night.holds(7 * 60 - 1));
    assert!(!night.holds(7 * 60) && !night.holds(22 * 60 - 1));
    let noon = quiet_hours("12-13").unwrap().unwrap();
    assert!(noon.holds(12 * 60) && !noon.holds(13 * 60) && !noon.holds(0));
    assert!(shell_words("--a 'b c'").is_ok() && shell_words("--a 'b").is_err());
    assert!(url("https://x").is_ok() && url("ftp://x").is_err() && url("https:///x").is_err());
    assert!(filter("octo=debug,info").is_ok() && filter("octo=loud=x").is_err());
    assert_eq!(without_credentials("https://a@b:c@host?x=@"), "https://***@host?x=@");
    assert_eq!(without_credentials("https://host/@x"), "https://host/@x");
    assert_eq!(without_credentials("me:pw@host"), "***@host");
    assert_eq!(without_credentials("@me"), "@me");
}

#[test]
fn the_table_keeps_its_own_rules() {
    let names: BTreeSet<_> = VARS.iter().map(|v| v.name).collect();
    let keys: BTreeSet<_> = VARS.iter().filter_map(|v| v.toml).collect();
    assert_eq!(names.len(), VARS.len());
    assert_eq!(keys.len(), VARS.iter().filter(|v| v.toml.is_some()).count());
    for var in VARS {
        let mut config = Config::default();
        assert_eq!((var.set)(&mut config, var.default), Ok(()), "{}: default", var.name);
        if !var.example.is_empty() {
            assert_eq!((var.set)(&mut config, var.example), Ok(()), "{}: example", var.name);
        }
        assert!(var.help.ends_with('.') && !var.help.contains('\n'), "{}", var.name);
        assert!(var.secrecy == Secrecy::Open || var.toml.is_none(), "{}: a secret in a shared file", var.name);
        assert!(var.toml.is_none_or(|t| t.split('.').count() == 2), "{}", var.name);
        assert!(var.may_be_empty || !var.default.is_empty(), "{}", var.name);
    }
}

#[test]
fn the_examples_mean_what_they_say_once_uncommented() {
    let is_setting = |line: &&str| {
        let name = line.strip_prefix("# ").and_then(|l| l.split_once('=')).map_or("", |(name, _)| name.trim());
        VARS.iter().any(|v| v.name == name || v.toml.and_then(|t| t.split('.').nth(1)) == Some(name))
    };
    let uncommented = |text: String| {
        let lines = text.lines().map(|l| if is_setting(&l) { &l[2..] } else { l });
        lines.collect::<Vec<_>>().join("\n")
    };
    let config = World::new(&uncommented(env_example()), "").load(&[]);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.claude_args, "--model sonnet");
    assert!(config.settings.iter().all(|s| s.source == ".env"), "{:?}", config.settings);
    let config = World::new("", &uncommented(octo_toml())).load(&[]);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.telegram_allowed_users, [4711, 4712]);
    let from_toml = config.settings.iter().filter(|s| s.source == "octo.toml").count();
    assert_eq!(from_toml, VARS.iter().filter(|v| v.toml.is_some()).count());
    assert_eq!(World::new(&env_example(), &octo_toml()).load(&[]).settings, World::new("", "").load(&[]).settings);
}

#[test]
fn the_environment_may_hold_any_bytes() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![0xff]);
    let vars = [(odd.clone(), odd.clone()), ("OCTO_MODEL".into(), odd), ("PATH".into(), "/bin".into())];
    assert_eq!(settings_of(vars), HashMap::from([("OCTO_MODEL".to_owned(), "\u{fffd}".to_owned())]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No content of the files stops a start, and every setting has a value afterwards.
    #[test]
    fn no_bytes_in_the_files_stop_the_start(dotenv: Vec<u8>, toml: Vec<u8>, value in ".*") {
        let world = World::new("", "");
        world.write(DOTENV, &dotenv);
        world.write(OCTO_TOML, &toml);
        let all: Vec<(&str, &str)> = VARS.iter().map(|v| (v.name, value.as_str())).collect();
        for env in [&[][..], &all] {
            let config = world.load(env);
            prop_assert_eq!(config.settings.len(), VARS.len());
            prop_assert!(config.max_concurrent >= 1 && config.log_quota >= 1 && !config.octo_log.is_empty());
        }
    }
}

#[test]
fn each_change_of_a_settings_file_is_told_once() {
    let world = World::new("OCTO_LOG=info\n", "");
    let mut seen = Seen::now(&world.ws);
    assert_eq!(seen.paths(&world.ws), [world.ws.root.join(DOTENV)]);
    world.write(DOTENV, "OCTO_LOG=info\n");
    assert_eq!(seen.changed(), [""; 0]);
    // Made since, changed, and gone.
    world.write(OCTO_TOML, "[core]\n");
    assert_eq!(seen.changed(), [OCTO_TOML]);
    world.write(OCTO_TOML, "[other]\n");
    fs::remove_file(world.ws.root.join(DOTENV)).unwrap();
    assert_eq!(seen.changed(), [DOTENV, OCTO_TOML]);
    assert_eq!(seen.changed(), [""; 0]);
}

#[test]
fn a_workspace_that_moves_takes_its_settings_files_along() {
    let world = World::new("OCTO_LOG=info\n", "");
    let root = world.ws.root.join("deeper");
    fs::create_dir(&root).unwrap();
    fs::write(root.join(DOTENV), "").unwrap();
    let mut seen = Seen::now(&Workspace { root: root.clone(), octo: root.join(".octo") });
    fs::rename(&root, world.ws.root.join("moved")).unwrap();
    assert_eq!(seen.changed(), [""; 0]);
}
