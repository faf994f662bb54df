//! claude's options: which take values, and what a command line therefore says.
//!
//! The table is the one that claude 2.1.329 itself walks its arguments by, so that `-p` as the value of
//! `--append-system-prompt` is no print flag here either. An option that is not listed counts as one
//! without a value.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// How many of the words behind an option belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// None.
    Nothing,
    /// The next word, whatever it looks like.
    Value,
    /// The next word, unless it looks like an option.
    Optional,
    /// The next word, and all behind it that do not look like options. Values of repeated options add up.
    Many,
}

/// Options that take one value.
const VALUE: &str = "\
    --advisor --agent --agent-color --agent-id --agent-name --agent-type --agents \
    --append-subagent-system-prompt --append-subagent-system-prompt-file --append-system-prompt \
    --append-system-prompt-file --attach-serve --autocompact --client-data-url --correlation-id --debug-file \
    --deep-link-last-fetch --deep-link-repo --effort --environment --fallback-model --fast-mode \
    --forward-home-settings --inherit-permission-mode --initialize-fields --input-format --json-schema \
    --lead-verify-key --managed-settings --max-budget-usd --max-thinking-tokens --max-turns \
    --messaging-socket-path --metadata --model --name --on-branch --output-format --parent-session-id \
    --permission-mode --permission-prompt-tool --permission-prompts --plan-mode-instructions --plugin-dir \
    --plugin-dir-no-mcp --plugin-url --pool --prefill --proactivity --project-config-root --ref \
    --remote-control-session-name-prefix --resume-drops-turn --resume-session-at --rewind-files --routine \
    --runner-declares --sdk-url --session-began-as-copy --session-id --setting-sources --settings \
    --system-prompt --system-prompt-file --system-prompt-snapshot --task-budget --team-name --teammate-mode \
    --thinking --thinking-display --watch-artifact --watch-artifact-no-autoreact --workload";

/// Options that take one value or none.
const OPTIONAL: &str = "\
    --cloud --debug --from-pr --project --prompt-suggestions --rc --remote --remote-control --resume \
    --teleport --worktree";

/// Options that take one or more values.
const MANY: &str = "\
    --add-dir --allowed-tools --allowedTools --betas --channels --dangerously-load-development-channels \
    --disallowed-tools --disallowedTools --file --mcp-config --tools";

/// Options without a value that are known; others without a value are treated alike, but not complained about.
const NOTHING: &str = "\
    --allow-dangerously-skip-permissions --bare --bg --background --brief --chrome --continue \
    --dangerously-skip-permissions --desktop --disable-slash-commands --fork-session --help --ide \
    --include-hook-events --include-partial-messages --init-only --no-chrome --no-session-persistence --print \
    --replay-user-messages --restricted --safe-mode --strict-mcp-config --verbose --version";

/// Options that may be given several times although each takes just one value.
const REPEATABLE: &str = "\
    --plugin-dir --plugin-dir-no-mcp --plugin-url";

/// Short options and their long names.
const SHORT: &[(u8, &str)] = &[
    (b'c', "--continue"),
    (b'd', "--debug"),
    (b'h', "--help"),
    (b'n', "--name"),
    (b'p', "--print"),
    (b'r', "--resume"),
    (b'v', "--version"),
    (b'w', "--worktree"),
];

/// The sub-commands; a command line whose first plain word is one is none of ours.
const SUBCOMMANDS: &str = "\
    agents attach auth auto-mode config daemon doctor gateway import install kill logs mcp migrate-installer \
    open plugin plugins project purge remote-control respawn rm server setup-token ssh stop ultrareview \
    update upgrade";

/// Options that choose, continue or forbid a session, or run it elsewhere: no id is chosen beside them.
const OWN_SESSION: &str = "\
    --attach-serve --background --bg --cloud --continue --fork-session --from-pr --init-only \
    --no-session-persistence --remote --resume --rewind-files --sdk-url --session-began-as-copy --session-id \
    --teleport";

fn lists(table: &str, name: &str) -> bool {
    table.split(' ').any(|entry| entry == name)
}

/// Tells how many words belong to the option `name` (a long name).
pub(super) fn takes(name: &str) -> Takes {
    match name {
        _ if lists(VALUE, name) => Takes::Value,
        _ if lists(OPTIONAL, name) => Takes::Optional,
        _ if lists(MANY, name) => Takes::Many,
        _ => Takes::Nothing,
    }
}

/// Tells whether `name` is known to take no value.
pub(super) fn is_switch(name: &str) -> bool {
    lists(NOTHING, name)
}

/// Tells whether several values of the option add up instead of the last one counting.
pub(super) fn adds_up(name: &str) -> bool {
    takes(name) == Takes::Many || lists(REPEATABLE, name)
}

/// What the option decides; of two options that decide the same thing, only one can count.
pub(super) fn decides(name: &str) -> &str {
    match name {
        "--allowed-tools" => "--allowedTools",
        "--disallowed-tools" => "--disallowedTools",
        "--append-system-prompt-file" => "--append-system-prompt",
        "--append-subagent-system-prompt-file" => "--append-subagent-system-prompt",
        "--system-prompt-file" => "--system-prompt",
        // With both, skipping wins in either order: who asked for `plan` must not be overruled.
        "--dangerously-skip-permissions" => "--permission-mode",
        "--no-chrome" => "--chrome",
        "--from-pr" | "--resume" | "--continue" => "--session-id",
        _ => name,
    }
}

/// Tells whether an option says which session is used, or where.
pub(super) fn is_of_session(name: &str) -> bool {
    lists(OWN_SESSION, name)
}

/// The long name of a short option.
pub(super) fn long_name(short: u8) -> Option<&'static str> {
    SHORT.iter().find(|(c, _)| *c == short).map(|(_, long)| *long)
}

/// Tells whether claude takes a word for an option rather than a value.
pub(super) fn looks_like_option(word: &OsStr) -> bool {
    word.len() > 1 && word.as_bytes().starts_with(b"-")
}

/// One option of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// Its long name.
    pub(super) name: String,
    /// Its value; the first one where it has many; `None` without one.
    pub(super) value: Option<OsString>,
    /// The values after the first.
    pub(super) more: Vec<OsString>,
}

/// What a command line of claude says, as far as the wrapper cares.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Where the print flag stands.
    pub(super) print_at: Option<usize>,
    /// The options, in order, up to `--`.
    pub(super) options: Vec<Given>,
    /// Whether a sub-command stands before the print flag.
    pub(super) subcommand: bool,
}

impl Reading {
    /// Tells whether the option was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|o| o.name == name)
    }

    /// All values of the option, however often it was given.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        let given = self.options.iter().filter(move |o| o.name == name);
        given.flat_map(|o| o.value.iter().chain(&o.more).map(OsString::as_os_str))
    }

    /// Where the print flag of a print-mode run stands; `None` for every other invocation.
    pub(super) fn print_run(&self) -> Option<usize> {
        let other = self.subcommand || self.has("--help") || self.has("--version");
        self.print_at.filter(|_| !other)
    }

    /// Tells whether the command line itself says which session to use.
    pub(super) fn chooses_session(&self) -> bool {
        self.options.iter().any(|o| lists(OWN_SESSION, &o.name))
    }

    /// Tells whether the command line goes on with an earlier session.
    pub(super) fn resumes(&self) -> bool {
        ["--resume", "--continue", "--from-pr", "--teleport"].iter().any(|name| self.has(name))
    }

    /// The value of the last `--output-format`, which is the one that counts.
    pub(super) fn output_format(&self) -> Option<&OsStr> {
        self.options.iter().rev().find(|o| o.name == "--output-format").and_then(|o| o.value.as_deref())
    }
}

/// Reads the arguments of a claude command line (without the program's name).
pub(super) fn read(args: &[OsString]) -> Reading {
    let mut reading = Reading::default();
    let mut words_seen = false;
    let mut at = 0;
    while let Some(word) = args.get(at) {
        let start = at;
        at += 1;
        if word == "--" {
            break;
        }
        if !looks_like_option(word) {
            let first = !std::mem::replace(&mut words_seen, true);
            let known = word.to_str().is_some_and(|w| lists(SUBCOMMANDS, w));
            reading.subcommand |= first && known && reading.print_at.is_none();
            continue;
        }
        let options = split_option(word);
        if options.iter().any(|o| o.name == "--print" && o.value.is_none()) {
            reading.print_at.get_or_insert(start);
        }
        reading.options.extend(options);
        at += take_values(&mut reading.options, word, &args[at..]);
    }
    reading
}

/// Gives the option that `word` ended with its value from the words behind it; tells how many it took.
fn take_values(options: &mut [Given], word: &OsStr, rest: &[OsString]) -> usize {
    let Some(last) = options.last_mut().filter(|o| o.value.is_none() && !word.as_bytes().contains(&b'=')) else {
        return 0;
    };
    let plain = rest.iter().take_while(|w| !looks_like_option(w)).count();
    let count = match takes(&last.name) {
        Takes::Nothing => 0,
        Takes::Value => rest.len().min(1),
        Takes::Optional => plain.min(1),
        Takes::Many => {
            let more = rest.iter().skip(1).take_while(|w| !looks_like_option(w)).count();
            rest.len().min(1 + more)
        }
    };
    last.value = rest.first().filter(|_| count > 0).cloned();
    last.more = rest[..count].iter().skip(1).cloned().collect();
    count
}

/// Splits one option word: `--name`, `--name=value`, `-x`, `-xVALUE`, `-xyz`.
fn split_option(word: &OsStr) -> Vec<Given> {
    let bytes = word.as_bytes();
    if bytes.starts_with(b"--") || word == "-d2e" {
        let (name, value) = match bytes.iter().position(|b| *b == b'=') {
            Some(eq) => (&bytes[..eq], Some(OsStr::from_bytes(&bytes[eq + 1..]).to_owned())),
            None => (bytes, None),
        };
        return vec![Given { name: String::from_utf8_lossy(name).into_owned(), value, more: Vec::new() }];
    }
    let mut options = Vec::new();
    for (i, short) in bytes.iter().enumerate().skip(1) {
        let Some(name) = long_name(*short).map(str::to_owned) else {
            options.push(Given { name: format!("-{}", char::from(*short)), value: None, more: Vec::new() });
            continue;
        };
        let rest = &bytes[i + 1..];
        if takes(&name) != Takes::Nothing && !rest.is_empty() {
            options.push(Given { name, value: Some(OsStr::from_bytes(rest).to_owned()), more: Vec::new() });
            break;
        }
        options.push(Given { name, value: None, more: Vec::new() });
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        shell_words::split(line).unwrap().into_iter().map(OsString::from).collect()
    }

    fn print_at(line: &str) -> Option<usize> {
        read(&words(line)).print_run()
    }

    #[test]
    fn finds_the_print_flag_where_claude_finds_it() {
        for (line, at) in [
            ("-p hi", Some(0)),
            ("--print hi", Some(0)),
            ("hi -p", Some(1)),
            ("--model opus hi -p", Some(3)),
            ("-cp hi", Some(0)),
            ("-pr ID", Some(0)),
            ("--append-system-prompt -p hi", None),
            ("--append-system-prompt -p -p hi", Some(2)),
            ("--append-system-prompt=-p hi", None),
            ("-n -p hi", None),
            ("-rp", None),
            ("-r -p hi", Some(1)),
            ("--allowedTools a b -p hi", Some(3)),
            ("--allowedTools -p hi", None),
            ("--debug -p", Some(1)),
            ("-- -p", None),
            ("hi", None),
            ("", None),
            ("-", None),
            ("--print=true hi", None),
            ("--printer hi", None),
            ("mcp add x npx -p y", None),
            ("doctor -p", None),
            ("-p doctor", Some(0)),
            ("fix doctor -p", Some(2)),
            ("-p --help", None),
            ("-pv", None),
            ("-p -- --help", Some(0)),
        ] {
            assert_eq!(print_at(line), at, "{line}");
        }
    }

    #[test]
    fn knows_who_chose_the_session() {
        for (line, chosen) in [
            ("-p hi", false),
            ("-p --resume=x", true),
            ("-p -rx", true),
            ("-p -c", true),
            ("-cp", true),
            ("-p --session-id x", true),
            ("-p --append-system-prompt --resume", false),
            ("-p -- --resume", false),
            ("-p --no-session-persistence", true),
            ("-p --fork-session", true),
            ("-p --from-pr 1", true),
        ] {
            assert_eq!(read(&words(line)).chooses_session(), chosen, "{line}");
        }
    }

    #[test]
    fn the_last_output_format_counts() {
        let format = |line| read(&words(line)).output_format().map(|f| f.to_str().unwrap().to_owned());
        assert_eq!(format("-p --output-format=json --output-format text"), Some("text".to_owned()));
        assert_eq!(format("-p --output-format"), None);
        assert_eq!(format("-p -- --output-format json"), None);
    }

    #[test]
    fn words_that_are_no_unicode_are_just_words() {
        let args = vec![OsStr::from_bytes(b"\xff-p").to_owned(), "-p".into(), OsStr::from_bytes(b"--\xff").to_owned()];
        assert_eq!(read(&args).print_run(), Some(1));
    }
}
