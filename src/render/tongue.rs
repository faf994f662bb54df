//! What readers are told to type: a line that works where they are.

use unicode_width::UnicodeWidthStr;

use super::sanitize;
use crate::task::{Question, Task};

/// The widest choice that the line to type shows by its words.
const CHOICE_TYPED: usize = 40;

/// In whose words a reader is told what to type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    /// The command line's: `octo task c4b1e09a`.
    Shell,
    /// The chat's: `/task 12`.
    Chat,
}

impl Tongue {
    /// What shows a task.
    #[must_use]
    pub fn task(self, task: &Task) -> String {
        match self {
            Tongue::Shell => format!("octo task {}", task.id),
            Tongue::Chat if task.number == 0 => format!("/task {}", task.id),
            Tongue::Chat => format!("/task {}", task.number),
        }
    }

    /// What shows all of a task's output.
    #[must_use]
    pub fn logs(self, task: &Task) -> String {
        format!("{} logs", self.task(task))
    }

    /// What answers a question, with the first of its choices as the answer. A shell's line names the question, so
    /// that it cannot answer the next one; a chat's does where the answer could be meant for another one.
    #[must_use]
    pub fn answer(self, task: &Task, question: &Question) -> String {
        let several = task.questions.iter().filter(|q| q.open).count() > 1;
        let named = self == Tongue::Shell || several || question.is_permission();
        let id = if named { format!(" --question {}", sanitize::line(&question.id)) } else { String::new() };
        let answer = question.choices.first().map_or_else(|| "ANSWER".to_owned(), |choice| self.typed(choice));
        format!("{} resume{id} {answer}", self.task(task))
    }

    /// The first choice as it is typed: its words, or its number where those are awkward.
    fn typed(self, choice: &str) -> String {
        let awkward = sanitize::line(choice) != choice || choice.starts_with('-') || choice.width() > CHOICE_TYPED;
        match self {
            _ if awkward || choice.is_empty() => "1".to_owned(),
            Tongue::Shell => shell_words::quote(choice).into_owned(),
            Tongue::Chat => choice.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::task;
    use super::*;
    use crate::task::Status;

    #[test]
    fn the_line_to_type_is_one_that_works() {
        let mut task = task(9, Status::Paused);
        let line = |task: &Task| [Tongue::Chat, Tongue::Shell].map(|t| t.answer(task, &task.questions[0]));
        assert_eq!(line(&task), ["/task 9 resume yes", "octo task c4b1e009 resume --question q1 yes"]);
        for (choice, chat, shell) in [
            ("a b", "a b", "'a b'"),
            ("-f", "1", "1"),
            ("two\nlines", "1", "1"),
            ("\x1b[2Jx", "1", "1"),
            ("", "1", "1"),
        ] {
            choice.clone_into(&mut task.questions[0].choices[0]);
            assert_eq!(
                line(&task),
                [format!("/task 9 resume {chat}"), format!("octo task c4b1e009 resume --question q1 {shell}")]
            );
        }
    }
}
