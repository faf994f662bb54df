//! What a task prints, and what it is called, on a terminal: every byte that arrives there is looked at.

use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::pty::openpty;

use crate::harness::World;

/// Bytes that would take over a terminal, a screen or a reader's eyes.
fn poison() -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in [
        "\x1b[2J\x1b[H",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x1b]52;c;aGFjaw==\x07",
        "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x1b_apc\x1b\\",
        "\x1b^pm\x1b\\",
        "\x1bX sos\x1b\\",
        "\x1b[6n",
        "\x1b[c",
        "\x1b[?1049h",
        "\x1b(0lqqk\x1b(B",
        "\x1bc",
        "\u{9b}31m",
        "\u{9d}0;c1 title\u{9c}",
        "\u{90}dcs\u{9c}",
        "\u{85}",
        "over\rwritten",
        "bell\x07",
        "back\x08\x08\x08space",
        "\u{202e}evil\u{202c}",
        "\u{2066}isolate\u{2069}",
        "zero\u{200b}width\u{200d}\u{feff}",
        "\u{e0041}tag",
        "\x0e\x0f",
        "\x00nul\x00",
        "\x7f",
        "\u{2028}ls\u{2029}ps",
        "tab\tstays",
        "\u{ad}soft",
    ] {
        bytes.extend(piece.as_bytes());
        bytes.push(b'\n');
    }
    bytes.extend(b"invalid: \xff\xfe \xc3\x28 \xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf\n");
    for byte in 0..=255u8 {
        bytes.push(byte);
    }
    bytes.extend(b"\n\x1b[38;5;");
    bytes.extend(vec![b'1'; 5000]);
    bytes.extend(b"\n\x1b]0;never ended ");
    bytes.extend(vec![b'y'; 5000]);
    bytes.extend(b"\nthe end\n");
    bytes
}

/// Runs `octo` with a terminal as its output, input and errors, and returns what arrived there.
fn on_terminal(world: &World, args: &[&str], env: &[(&str, &str)]) -> Vec<u8> {
    let size = nix::pty::Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let side = |fd: &OwnedFd| Stdio::from(fd.as_fd().try_clone_to_owned().unwrap());
    let mut command: Command = world.octo_command(args);
    command.env("TERM", "xterm-256color").envs(env.iter().copied());
    command.stdin(side(&pty.slave)).stdout(side(&pty.slave)).stderr(side(&pty.slave));
    let mut child = command.spawn().unwrap();
    // The command holds copies of the terminal; so does this process, and it would never see the end.
    drop((command, pty.slave));
    let mut seen = Vec::new();
    let mut master = std::fs::File::from(pty.master);
    let mut buffer = [0; 1 << 16];
    // The other side's last close shows as an error.
    while let Ok(n @ 1..) = master.read(&mut buffer) {
        seen.extend(&buffer[..n]);
    }
    child.wait().unwrap();
    seen
}

/// Complains about everything that is no text: control bytes but line ends and tabs, C1, bidirectional and
/// invisible controls. Octo's own colours (SGR) are allowed where they are asked for.
#[track_caller]
fn check_clean(what: &str, seen: &[u8], colours: bool) {
    let text = std::str::from_utf8(seen)
        .unwrap_or_else(|e| panic!("{what}: not UTF-8: {e}: {:?}", String::from_utf8_lossy(seen)));
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\x1b' && colours {
            let sgr = rest.find('m').map(|end| &rest[..=end]).filter(|s| {
                s.starts_with("\x1b[")
                    && s[2..s.len() - 1].bytes().all(|b| b.is_ascii_digit() || b == b';')
                    && s.len() < 16
            });
            let Some(sgr) = sgr else {
                panic!("{what}: an escape that is no colour: {:?}", rest.chars().take(40).collect::<String>())
            };
            rest = &rest[sgr.len()..];
            continue;
        }
        let bad = match c {
            '\n' | '\t' => false,
            // The terminal's line discipline makes `\r\n` of `\n`.
            '\r' => !rest.starts_with("\r\n"),
            _ => {
                c.is_control()
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{e0000}'..='\u{e007f}')
            }
        };
        assert!(!bad, "{what}: {c:?} before {:?}", rest.chars().take(40).collect::<String>());
        rest = &rest[c.len_utf8()..];
    }
}

fn poisoned_task(world: &World) -> String {
    std::fs::write(world.path("poison"), poison()).unwrap();
    let name = "name\x1b]0;pwned\x07\u{202e}\x1b[2J\u{9b}5m";
    let dir = "dir\x1b[31m\u{202e}\x07";
    std::fs::create_dir(world.path(dir)).unwrap();
    let command = "cat ../poison; : '\x1b[2J\u{202e}\u{9d}0;x\u{9c}\x07'; exit 3";
    let id = world.bg_with(&["--name", name, "--cwd", dir, "--env", "V=\x1b[2J"], command);
    assert_eq!(world.ended(&id)["status"], "failed");
    id
}

#[test]
fn no_control_byte_of_a_task_reaches_the_terminal() {
    let world = World::new();
    let id = poisoned_task(&world);
    // A second one without a name, so that lists show its command; and one that waits for the first.
    let plain = world.bg("cat poison; : '\x1b[2J\u{202e}\x07'");
    world.ended(&plain);
    for colours in [false, true] {
        let env: &[(&str, &str)] = if colours { &[] } else { &[("NO_COLOR", "1")] };
        for args in [
            &["task", &id][..],
            &["tasks"],
            &["tasks", "--status", "failed"],
            &["task", &id, "logs"],
            &["task", &id, "logs", "--lines", "0"],
            &["task", &id, "logs", "-f"],
            &["task", &id, "wait"],
            &["task", &plain],
            &["task", &plain, "logs"],
            &["status"],
            &["bg", "--after", &id, "true"],
            &["task", "\x1b[2J"],
            &["bg", "--cwd", "no\x1b[2J\u{202e}where", "true"],
            &["bg", "--after", "\x1b]0;x\x07", "true"],
        ] {
            let seen = on_terminal(&world, args, env);
            assert!(!seen.is_empty(), "{args:?} printed nothing");
            check_clean(&format!("octo {args:?}"), &seen, colours);
        }
    }
    let logs = String::from_utf8(on_terminal(&world, &["task", &id, "logs"], &[("NO_COLOR", "1")])).unwrap();
    for visible in ["red", "tab\tstays", "the end", "evil"] {
        assert!(logs.contains(visible), "{visible} is lost: {logs}");
    }
}

#[test]
fn in_a_pipe_the_output_is_byte_for_byte() {
    let world = World::new();
    let id = poisoned_task(&world);
    assert!(world.octo(&["task", &id, "logs"]).exits(0).out == poison());
    assert!(world.get(&format!("/background-agents/{id}/logs")).body == poison());
    // What is not raw by its nature is clean in a pipe too: a pager or an editor is a terminal in the end.
    for args in [&["task", &id][..], &["tasks"]] {
        let out = world.octo(args).exits(0);
        check_clean(&format!("octo {args:?} in a pipe"), &out.out, false);
    }
    // JSON escapes what it must, and the record is what was given.
    let json = world.octo(&["task", &id, "--json"]).exits(0);
    assert!(!json.out.iter().any(|b| *b < 0x20 && *b != b'\n'));
    assert!(json.json()["name"].as_str().unwrap().contains('\x1b'));
}

#[test]
fn the_repl_shows_no_control_byte_either() {
    let world = World::new();
    let id = poisoned_task(&world);
    let mut command = world.octo_command(&[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let script = format!("/tasks\n/task {id}\n/task {id} logs\n/recap\n/status\n/bg list\n/quit\n");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains(&id), "{out:?}");
    check_clean("the REPL's errors", &out.stderr, false);
}

#[test]
fn a_million_marks_are_harmless() {
    let world = World::new();
    let marks = "\u{301}".repeat(500_000);
    std::fs::write(world.path("marks"), format!("a{marks}b\n")).unwrap();
    let id = world.bg("cat marks");
    world.ended(&id);
    let began = std::time::Instant::now();
    let seen = on_terminal(&world, &["task", &id], &[("NO_COLOR", "1")]);
    check_clean("marks", &seen, false);
    let logs = on_terminal(&world, &["task", &id, "logs"], &[("NO_COLOR", "1")]);
    check_clean("marks in logs", &logs, false);
    assert!(logs.len() < 1000, "{} bytes of marks were let through", logs.len());
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!(world.octo(&["task", &id, "logs"]).exits(0).out.len(), 1_000_003);
    // As a name it is cut to what fits.
    let named = world.bg_with(&["--name", &format!("n{}", &marks[..20_000])], "true");
    world.ended(&named);
    let listed = on_terminal(&world, &["tasks"], &[("NO_COLOR", "1")]);
    check_clean("marks in a list", &listed, false);
    assert!(listed.len() < 20_000, "{} bytes", listed.len());
}
