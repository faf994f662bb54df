//! How the chat language is spoken on a phone: what is typed, and the sentences that answer.

use octo::chat::{self, Ask, COMMANDS, Misunderstood};
use octo::command::Refused;

use super::text::{code, escape};

/// The commands that are registered with Telegram, which offers them while somebody types.
pub(crate) const REGISTERED: &[(&str, &str)] = &[
    ("bg", "runs a shell command in the background"),
    ("tasks", "lists tasks"),
    ("task", "shows a task: its number, then perhaps logs, cancel, retry or resume"),
    ("status", "shows the daemon"),
    ("recap", "tells again what happened last"),
    ("help", "shows what can be said here"),
    ("agent", "gives an agent a job in plain words"),
    ("agents", "shows what agents are at work"),
    ("model", "shows or chooses the model of this conversation"),
    ("new", "begins a new conversation; tasks go on"),
];

/// Tells whether a text begins with one of the commands; an answer may begin with a slash as well.
pub(crate) fn is_command(text: &str, bot: &str) -> bool {
    let Some(word) = text.split_whitespace().next().filter(|w| w.starts_with('/')) else { return false };
    let name = word.split_once('@').filter(|(_, b)| b.eq_ignore_ascii_case(bot)).map_or(word, |(name, _)| name);
    let name = name.to_lowercase();
    name == "/start" || name.starts_with("/task_") || COMMANDS.iter().any(|c| c.name == name)
}

/// Reads what was typed to the bot of this name: `/bg@my_bot make`, `/Tasks`, `/task_12` (what a list offers to tap).
pub(crate) fn understand(text: &str, bot: &str) -> Result<Ask, Misunderstood> {
    let text = text.trim();
    if !text.starts_with('/') {
        return chat::parse(text);
    }
    let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    let name = match word.split_once('@') {
        Some((name, to)) if to.eq_ignore_ascii_case(bot) => name,
        Some((_, to)) => {
            let message = format!("that is for another bot, {to}");
            return Err(Misunderstood { message, hint: String::new() });
        }
        None => word,
    };
    // Phones begin a sentence with a capital letter.
    let mut name = name.to_lowercase();
    if name == "/start" {
        return Ok(Ask::Help);
    }
    if name.starts_with("/task_") {
        name = name.replace('_', " ");
    }
    chat::parse(&format!("{name}{rest}"))
}

/// Text with `words in backticks` as HTML: those become code.
pub(crate) fn prose(text: &str) -> String {
    let part = |(i, part): (usize, &str)| if i % 2 == 1 { code(part) } else { escape(part) };
    text.split('`').enumerate().map(part).collect()
}

/// A refusal in HTML: what happened, and what to do in the words of the chat.
pub(crate) fn refusal(refused: &Refused) -> String {
    let here = |(i, part): (usize, &str)| {
        let said = part.strip_prefix("octo ").filter(|_| i % 2 == 1).map(|words| format!("/{words}"));
        said.filter(|words| chat::parse(words).is_ok()).unwrap_or_else(|| part.to_owned())
    };
    let hint = refused.hint.split('`').enumerate().map(here).collect::<Vec<_>>().join("`");
    sentence(&refused.message, &hint)
}

/// What is wrong with what was typed, and what to type instead.
pub(crate) fn misunderstood(wrong: &Misunderstood) -> String {
    sentence(&wrong.message, &wrong.hint)
}

fn sentence(message: &str, hint: &str) -> String {
    let mut out = prose(message);
    if let Some(first) = out.get(..1).map(str::to_uppercase) {
        out.replace_range(..1, &first);
    }
    if !out.ends_with(['.', '?', '!']) {
        out.push('.');
    }
    if hint.is_empty() { out } else { format!("{out}\n{}", prose(hint)) }
}

/// `/help`.
pub(crate) fn help() -> String {
    let lines = [
        ("/bg COMMAND", "runs a shell command in the background"),
        ("/tasks [STATUS]", "lists tasks; /bg list is the same"),
        ("/task ID", "shows a task"),
        ("/task ID logs", "shows its output"),
        ("/task ID cancel", "stops it, with everything that it started; /bg kill ID is the same"),
        ("/task ID retry", "runs an ended task again"),
        ("/task ID resume ANSWER", "answers its question"),
        ("/task ID followup TEXT", "has an agent go on from its result; so does a reply to its card"),
        ("/task ID raise", "lets an agent go on that used up its budget"),
        ("/agent PROMPT", "gives an agent a job in plain words"),
        ("/agents", "shows what agents are at work"),
        ("/model M", "chooses the model of this conversation"),
        ("/new", "begins a new conversation; tasks go on"),
        ("/bg clear", "hides ended tasks from lists"),
        ("/status", "shows the daemon"),
        ("/recap", "tells again what happened last"),
    ];
    let lines: Vec<String> = lines.iter().map(|(form, means)| format!("{} {means}", code(form))).collect();
    format!(
        "This is Octo: it runs commands in the background, and tells you how they end and what they ask.\n\n{}\n\n\
         Anything else is said to the supervisor agent, which answers and can start tasks. \
         Questions come as messages with buttons; those that want free text are answered by a reply to them. \
         ID is a task's number or its id.",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use octo::command::{RefusedCode, TaskRef};

    fn said(text: &str) -> Ask {
        understand(text, "octo_bot").unwrap()
    }

    #[test]
    fn the_language_as_phones_write_it() {
        let task = |id: &str| TaskRef(id.to_owned());
        for (text, ask) in [
            ("/bg make test", Ask::Start("make test".to_owned())),
            ("/Bg@Octo_Bot make", Ask::Start("make".to_owned())),
            ("/bg cat <<E\nx\nE", Ask::Start("cat <<E\nx\nE".to_owned())),
            ("/bg kill 12", Ask::Cancel(task("12"))),
            ("/task_12", Ask::Show(task("12"))),
            ("/task_12_logs", Ask::Logs(task("12"))),
            ("/task #12 retry", Ask::Retry(task("12"))),
            ("/start", Ask::Help),
            ("/start abc123", Ask::Help),
            ("/TASKS running", Ask::List(Some(octo::task::Status::Running))),
            (" yes ", Ask::Say("yes".to_owned())),
            ("", Ask::Nothing),
        ] {
            assert_eq!(said(text), ask, "{text}");
        }
        let job = |model: &str, prompt: &str| {
            Ask::Agent(chat::Job { model: model.to_owned(), prompt: prompt.to_owned(), ..chat::Job::default() })
        };
        assert_eq!(said("/Agent@octo_bot  fix\nit"), job("", "fix\nit"));
        assert_eq!(said("/agent --model x/y fix it"), job("x/y", "fix it"));
        assert_eq!(
            said("/task_12 followup and the docs"),
            Ask::Followup { task: task("12"), text: "and the docs".to_owned() }
        );
        let resume = |question: Option<&str>, answer: &str| Ask::Resume {
            task: task("12"),
            question: question.map(str::to_owned),
            answer: answer.to_owned(),
        };
        assert_eq!(said("/task 12 resume yes"), resume(None, "yes"));
        assert_eq!(said("/task@octo_bot #12  resume  two words\nand more "), resume(None, "two words\nand more"));
        assert_eq!(said("/task 12 resume --question q2 no"), resume(Some("q2"), "no"));
        assert_eq!(said("/task 12 resume --question=q2 no"), resume(Some("q2"), "no"));
        assert_eq!(said("/task_12 resume"), resume(None, ""));
    }

    #[test]
    fn what_is_not_there_is_said_clearly() {
        for text in ["/bg@other_bot x", "/task 12 resume --question", "/tsaks", "/bg", "/panel", "/agent", "/model x y"]
        {
            assert!(understand(text, "octo_bot").is_err(), "{text}");
        }
    }

    #[test]
    fn answers_that_begin_with_a_slash_are_no_commands() {
        for text in ["/bg x", "/task 1", "/task_1", "/START", "/agent x", "/bg@octo_bot"] {
            assert!(is_command(text, "octo_bot"), "{text}");
        }
        for text in ["/usr/bin", "/", "yes", "", "/tasksfile", "/bg@other"] {
            assert!(!is_command(text, "octo_bot"), "{text}");
        }
    }

    #[test]
    fn refusals_speak_of_the_chats_commands() {
        let refused = Refused::new(RefusedCode::NotFound, "no such task: <x>")
            .hint("`octo tasks` lists them, `octo doctor` helps");
        assert_eq!(
            refusal(&refused),
            "No such task: &lt;x&gt;.\n<code>/tasks</code> lists them, <code>octo doctor</code> helps"
        );
        assert_eq!(refusal(&Refused::new(RefusedCode::Internal, "")), ".");
        assert_eq!(refusal(&Refused::new(RefusedCode::Internal, "é!")), "é!");
    }

    #[test]
    fn what_is_registered_is_understood_and_fits_telegrams_limits() {
        for (name, means) in REGISTERED {
            assert!(is_command(&format!("/{name}"), ""), "{name}");
            assert!(name.len() <= 32 && (3..=256).contains(&means.len()));
        }
        assert!(help().contains("/task ID resume ANSWER"));
    }
}
