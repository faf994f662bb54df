//! Questions as people read and answer them.

use unicode_width::UnicodeWidthStr;

use super::rows::{cut, diff_rows};
use super::tongue::Tongue;
use super::{Paint, View, ago, count, duration, fit, name_of, sanitize, status_paint};
use crate::task::{Action, Question, Status, Task};

/// The most choices that are listed, but where all of a question is shown.
const CHOICES_MAX: usize = 24;

/// The most questions that [`open_questions`] shows in full.
const OPEN_MAX: usize = 5;

/// How much of a question is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Rows of the question's text.
    pub text: usize,
    /// Rows of the action that it asks permission for.
    pub action: usize,
}

impl Room {
    /// For a question that has just been asked.
    pub const NEW: Room = Room { text: 12, action: 20 };
    /// For one of several that wait.
    pub const WAITING: Room = Room { text: 4, action: 8 };
    /// All of it.
    pub const ALL: Room = Room { text: usize::MAX, action: usize::MAX };
}

/// What stands under a question's first line: its text or its action, its choices, and how to answer.
pub(super) struct Block<'a> {
    pub(super) task: &'a Task,
    pub(super) question: &'a Question,
    pub(super) tongue: Tongue,
    pub(super) room: Room,
    pub(super) view: &'a View,
}

impl Block<'_> {
    /// Its lines, each indented by so many columns and ended.
    pub(super) fn lines(&self, indent: usize) -> String {
        let width = self.view.width.map(|w| w.saturating_sub(indent).max(20));
        let mut lines = self.text(width);
        if let Some(action) = &self.question.action {
            lines.extend(self.action(action, width));
        }
        lines.extend(self.choices(width));
        if self.question.open {
            lines.push(self.answer());
        }
        lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
    }

    fn text(&self, width: Option<usize>) -> Vec<String> {
        // A permission's usual words say no more than its first line.
        let usual = |a: &Action| self.question.text == format!("May it use {}?", a.tool);
        if self.question.action.as_ref().is_some_and(usual) {
            return Vec::new();
        }
        let text = cut(&sanitize::text(&self.question.text), width, true, self.room.text);
        let mut lines: Vec<String> = text.shown.iter().map(|row| self.view.paint(Paint::Yellow, row)).collect();
        lines.extend(self.more(text.left));
        lines
    }

    fn action(&self, action: &Action, width: Option<usize>) -> Vec<String> {
        let mut lines = Vec::new();
        if !action.folder.is_empty() {
            lines.push(format!("{} {}", self.view.paint(Paint::Dim, "in"), sanitize::exact(&action.folder)));
        }
        let (what, diff) = (sanitize::exact(&action.what), action.format == "diff");
        let what = if action.format == "command" { format!("$ {what}") } else { what };
        let rows = diff_rows(&what, width, self.room.action);
        lines.extend(rows.shown.iter().map(|(paint, row)| match paint {
            Some(paint) if diff => self.view.paint(*paint, row),
            _ => row.clone(),
        }));
        lines.extend(self.more(rows.left));
        lines
    }

    fn choices(&self, width: Option<usize>) -> Vec<String> {
        let all = &self.question.choices;
        let line = |(i, choice): (usize, &String)| {
            let line = format!("{:>3}  {}", i + 1, sanitize::line(choice));
            width.map_or(line.clone(), |w| fit(&line, w))
        };
        let most = if self.room == Room::ALL { usize::MAX } else { CHOICES_MAX };
        let mut lines: Vec<String> = all.iter().take(most).enumerate().map(line).collect();
        if all.len() > most {
            let shows = self.tongue.task(self.task);
            lines.push(format!("     … {}: {shows} shows all", count(all.len() - most, "more choice")));
        }
        lines
    }

    /// What answers it, and how long that will do.
    fn answer(&self) -> String {
        let left = self.question.deadline.millis().map(|at| at - self.view.now).filter(|ms| *ms > 0);
        let label = left.map_or_else(|| "answer:".to_owned(), |ms| format!("answer within {}:", duration(ms)));
        format!("{} {}", self.view.paint(Paint::Dim, &label), self.tongue.answer(self.task, self.question))
    }

    /// The remark on what is left out: nobody shall take a part for the whole.
    fn more(&self, left: usize) -> Option<String> {
        let line = format!("… {}: {} shows all", count(left, "more line"), self.tongue.task(self.task));
        (left > 0).then(|| self.view.paint(Paint::Bold, &line))
    }
}

/// What a question is, behind the task's name: `asks`, `wants to use Bash`.
pub(super) fn asks(task: &Task, question: &Question) -> String {
    let several = task.questions.iter().filter(|q| q.open).count() > 1;
    let id = if several { format!(" ({})", sanitize::line(&question.id)) } else { String::new() };
    match &question.action {
        Some(action) => format!("wants to use {}{id}", fit(&sanitize::line(&action.tool), 60)),
        None => format!("asks{id}"),
    }
}

/// One open question in full: a line that names the task, and what to know and type to answer it.
#[must_use]
pub fn question(task: &Task, question: &Question, tongue: Tongue, room: Room, view: &View) -> String {
    let head = format!("{} {}", Status::Paused.icon(), name_of(task));
    let mut said = asks(task, question);
    if let Some(asked) = question.asked_at.millis().filter(|at| view.now - at >= 60_000) {
        said.push_str(&format!(", {}", ago(view.now - asked)));
    }
    let mut out = head_line(&head, &said, task, status_paint(Status::Paused), view);
    out.push_str(&Block { task, question, tongue, room, view }.lines(4));
    out
}

/// `? #12 c4b1e09a asks: make test`, ended.
pub(super) fn head_line(head: &str, said: &str, task: &Task, paint: Paint, view: &View) -> String {
    let used = head.width() + said.width() + 3;
    let title = sanitize::line(task.title());
    let title = view.width.map_or(title.clone(), |w| fit(&title, w.saturating_sub(used).max(8)));
    let title = if title.is_empty() { title } else { format!(": {title}") };
    format!("{} {said}{title}\n", view.paint(paint, head))
}

/// Every open question of these tasks, the oldest first, below a heading; empty when there is none.
#[must_use]
pub fn open_questions(tasks: &[Task], tongue: Tongue, view: &View) -> String {
    let open = |task: &'_ Task| task.questions.iter().filter(|q| q.open).cloned().collect::<Vec<_>>();
    let mut all: Vec<(&Task, Question)> =
        tasks.iter().flat_map(|task| open(task).into_iter().map(move |q| (task, q))).collect();
    all.sort_by_key(|(_, q)| q.asked_at.millis());
    if all.is_empty() {
        return String::new();
    }
    let mut out = format!("{}\n", view.paint(Paint::Bold, &format!("{}:", waiting(all.len()))));
    for (task, one) in all.iter().take(OPEN_MAX) {
        out.push_str(&question(task, one, tongue, Room::WAITING, view));
    }
    if all.len() > OPEN_MAX {
        let list = match tongue {
            Tongue::Shell => "octo tasks",
            Tongue::Chat => "/tasks",
        };
        let line = format!("… {}: {list} lists them", count(all.len() - OPEN_MAX, "more question"));
        out.push_str(&format!("{}\n", view.paint(Paint::Dim, &line)));
    }
    out
}

/// `1 question waits`, `2 questions wait`.
#[must_use]
pub fn waiting(questions: usize) -> String {
    format!("{} wait{}", count(questions, "question"), if questions == 1 { "s" } else { "" })
}

/// What a question is about, in one line.
#[must_use]
pub fn subject(question: &Question) -> String {
    match &question.action {
        Some(action) => {
            // Of a diff, the file that it changes.
            let file = action.what.lines().find_map(|l| l.strip_prefix("+++ ")).filter(|_| action.format == "diff");
            sanitize::line(&format!("{}: {}", action.tool, file.unwrap_or(&action.what)))
        }
        None => sanitize::line(&question.text),
    }
}

/// A question in one line with its choices.
#[must_use]
pub fn question_line(question: &Question) -> String {
    let text = subject(question);
    if question.choices.is_empty() {
        return text;
    }
    let choices: Vec<_> = question.choices.iter().map(|c| sanitize::line(c)).collect();
    format!("{text}  [{}]", choices.join(" / "))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{NOW, permission, task};
    use super::*;
    use crate::task::Stamp;

    fn view(width: usize) -> View {
        View { width: Some(width), colour: false, now: NOW }
    }

    fn shown(task: &Task, width: usize) -> String {
        question(task, &task.questions[0], Tongue::Chat, Room::NEW, &view(width))
    }

    #[test]
    fn a_question_says_all_that_is_needed_to_answer_it() {
        insta::assert_snapshot!(shown(&task(9, Status::Paused), 80), @r#"
        ? #9 c4b1e009 asks: make -C /srv/project9 test && echo done
            Also refactor the helpers?
              1  yes
              2  no
            answer: /task 9 resume yes
        "#);
        let mut free = task(9, Status::Paused);
        free.questions[0].choices.clear();
        free.questions[0].asked_at = Stamp::from_millis(NOW - 600_000);
        free.questions[0].text =
            "Which name shall the new module have?\nIt holds the parsers for dates and the code that formats them."
                .into();
        let mut other = free.questions[0].clone();
        other.id = "q2".into();
        free.questions.push(other);
        insta::assert_snapshot!(shown(&free, 50), @r#"
        ? #9 c4b1e009 asks (q1), 10m ago: make -C /srv/pr…
            Which name shall the new module have?
            It holds the parsers for dates and the code
            that formats them.
            answer: /task 9 resume --question q1 ANSWER
        "#);
    }

    #[test]
    fn a_permission_shows_the_exact_action_and_its_question_is_named() {
        let command = permission(9, "command", "make clean && rm -rf \x1b]0;\u{202e}build; echo a  b");
        insta::assert_snapshot!(shown(&command, 50), @r#"
        ? #9 c4b1e009 wants to use Bash: make -C /srv/pro…
            in /srv/work
            $ make clean && rm -rf \u{1b}]0;\u{202e}build;
             echo a  b
              1  allow
              2  allow for this task
              3  deny
            answer: /task 9 resume --question q1 allow
        "#);
        let lines: String = (1..=30).map(|n| format!("+line {n}\n")).collect();
        let diff = permission(9, "diff", &format!("--- a.rs\n+++ a.rs\n@@ -1,0 +1,30 @@\n context\n-old\n{lines}"));
        insta::assert_snapshot!(shown(&diff, 60), @r#"
        ? #9 c4b1e009 wants to use Edit: make -C /srv/project9 test…
            in /srv/work
            --- a.rs
            +++ a.rs
            @@ -1,0 +1,30 @@
             context
            -old
            +line 1
            +line 2
            +line 3
            +line 4
            +line 5
            +line 6
            +line 7
            +line 8
            +line 9
            +line 10
            +line 11
            +line 12
            +line 13
            +line 14
            +line 15
            … 15 more lines: /task 9 shows all
              1  allow
              2  allow for this task
              3  deny
            answer: /task 9 resume --question q1 allow
        "#);
        assert_eq!(question_line(&diff.questions[0]), "Edit: a.rs  [allow / allow for this task / deny]");
        let coloured = question(&diff, &diff.questions[0], Tongue::Chat, Room::NEW, &View { colour: true, ..view(60) });
        assert!(coloured.contains("\x1b[32m+line 1\x1b[0m") && coloured.contains("\x1b[31m-old\x1b[0m"), "{coloured}");
    }

    #[test]
    fn no_part_of_a_long_command_is_cut_off_at_the_edge() {
        let what = format!("ls {}; rm -rf ~", " ".repeat(300));
        let shown = shown(&permission(9, "command", &what), 40);
        assert!(shown.replace("\n    ", "").contains("; rm -rf ~"), "{shown}");
        let wide = |l: &&str| l.starts_with("    ") && l.width() > 40 && !l.contains("answer:");
        assert_eq!(shown.lines().filter(wide).count(), 0, "{shown}");
    }

    #[test]
    fn what_waits_is_listed_oldest_first_and_counted() {
        let mut old = task(12, Status::Paused);
        old.questions[0].asked_at = Stamp::from_millis(NOW - 3_600_000);
        let tasks = [task(9, Status::Paused), task(10, Status::Running), old.clone()];
        insta::assert_snapshot!(open_questions(&tasks, Tongue::Chat, &view(80)), @r#"
        2 questions wait:
        ? #12 c4b1e012 asks, 1h ago: make -C /srv/project12 test && echo done
            Also refactor the helpers?
              1  yes
              2  no
            answer: /task 12 resume yes
        ? #9 c4b1e009 asks: make -C /srv/project9 test && echo done
            Also refactor the helpers?
              1  yes
              2  no
            answer: /task 9 resume yes
        "#);
        assert_eq!(open_questions(&tasks[1..2], Tongue::Chat, &view(80)), "");
        let many = vec![old; 9];
        let told = open_questions(&many, Tongue::Chat, &view(80));
        assert!(told.ends_with("… 4 more questions: /tasks lists them\n"), "{told}");
    }
}
