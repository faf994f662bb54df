//! What the REPL knows: the tasks that completion and hints offer, what they ask, and which answers were its own.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use octo::command::{Listing, NoticeItem};
use octo::render::{answer_of, question_line, sanitize};
use octo::task::{NoticeKind, Status, Task};

/// One task, as far as completion needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownTask {
    pub(crate) number: String,
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) title: String,
    /// Its open questions.
    pub(crate) questions: Vec<KnownQuestion>,
}

/// An open question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownQuestion {
    pub(crate) id: String,
    /// What is asked, in one line.
    pub(crate) line: String,
    pub(crate) choices: Vec<String>,
    pub(crate) permission: bool,
}

impl KnownTask {
    fn of(task: &Task) -> Self {
        let question = |q: &octo::task::Question| KnownQuestion {
            id: q.id.clone(),
            line: question_line(q),
            choices: q.choices.clone(),
            permission: q.is_permission(),
        };
        KnownTask {
            number: task.number.to_string(),
            id: task.id.to_string(),
            status: task.status,
            title: sanitize::line(task.title()),
            questions: task.questions.iter().filter(|q| q.open).map(question).collect(),
        }
    }

    /// The question that an answer without an id is for, if that is clear.
    pub(crate) fn only_question(&self) -> Option<&KnownQuestion> {
        match self.questions.as_slice() {
            [one] if !one.permission => Some(one),
            _ => None,
        }
    }
}

/// The tasks that a person is likely to name next.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) tasks: Vec<KnownTask>,
    active: usize,
    /// The questions of each task that this REPL has shown, and not yet shown to be closed.
    shown: HashMap<String, BTreeSet<String>>,
    /// The keys of answers that were given here.
    own: HashSet<String>,
    /// The supervisor agent is answering.
    pub(crate) answering: bool,
}

impl Known {
    /// Takes over what a listing shows.
    pub(crate) fn learn(&mut self, listing: &Listing) {
        self.active = listing.active.len();
        let all = listing.active.iter().chain(&listing.history);
        self.tasks = all.take(super::KNOWN).map(KnownTask::of).collect();
    }

    /// Takes over what a notice brings, and tells whether it is news here: how a question was closed is none when
    /// the answer was given here.
    pub(crate) fn hear(&mut self, item: &NoticeItem) -> bool {
        let (task, question) = (&item.task, &item.notice.question);
        let new = KnownTask::of(task);
        match self.tasks.iter_mut().find(|t| t.id == new.id) {
            Some(old) => *old = new,
            None => self.tasks.insert(0, new),
        }
        match item.notice.kind {
            NoticeKind::Question | NoticeKind::Reminder => self.saw(task),
            NoticeKind::Closed => {
                if let Some(shown) = self.shown.get_mut(task.id.as_str()) {
                    shown.remove(question);
                }
                return !answer_of(task, question).is_some_and(|a| self.own.contains(&a.key));
            }
            NoticeKind::Budget => {}
            NoticeKind::Completed
            | NoticeKind::Failed
            | NoticeKind::Cancelled
            | NoticeKind::BudgetExceeded
            | NoticeKind::Interrupted => self.forget(task.id.as_str()),
        }
        true
    }

    /// The person sees the open questions of this task now, and no others.
    pub(crate) fn saw(&mut self, task: &Task) {
        let open: BTreeSet<String> = task.questions.iter().filter(|q| q.open).map(|q| q.id.clone()).collect();
        self.shown.insert(task.id.to_string(), open);
    }

    /// The questions of a task that the person saw and has to take for open.
    pub(crate) fn shown(&self, task: &str) -> Vec<String> {
        self.shown.get(task).map(|ids| ids.iter().cloned().collect()).unwrap_or_default()
    }

    /// What the person saw of this task's questions does not hold any more.
    pub(crate) fn forget(&mut self, task: &str) {
        self.shown.remove(task);
    }

    /// An answer with this key is given here.
    pub(crate) fn answers(&mut self, key: &str) {
        self.own.insert(key.to_owned());
    }

    /// How many tasks have not ended.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// How many questions wait.
    pub(crate) fn questions(&self) -> usize {
        self.tasks.iter().map(|t| t.questions.len()).sum()
    }

    /// The task with this number or id.
    pub(crate) fn find(&self, reference: &str) -> Option<&KnownTask> {
        let reference = reference.strip_prefix('#').unwrap_or(reference);
        self.tasks.iter().find(|t| t.id == reference).or_else(|| self.tasks.iter().find(|t| t.number == reference))
    }
}

/// A panic elsewhere leaves the list as it was, which does.
pub(crate) fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use octo::task::{Answer, Notice, Question, Stamp};

    fn item(kind: NoticeKind, task: &Task, question: &str) -> NoticeItem {
        let notice = serde_json::json!({"rev": 1, "seq": 1, "kind": kind, "question": question});
        NoticeItem { notice: serde_json::from_value::<Notice>(notice).unwrap(), task: task.clone() }
    }

    #[test]
    fn own_answers_are_no_news_and_others_are() {
        let mut task = Task::new("c4b1e09a".parse().unwrap(), 12, Stamp::default());
        let question = |id: &str| Question { id: id.into(), open: true, ..Question::default() };
        task.questions = vec![question("q1"), question("q2")];
        let mut known = Known::default();
        assert!(known.hear(&item(NoticeKind::Question, &task, "q1")));
        assert_eq!((known.shown("c4b1e09a").len(), known.questions()), (2, 2));
        known.answers("mine");
        for (id, key) in [("q1", "mine"), ("q2", "theirs")] {
            task.answers.push(Answer { question: id.into(), key: key.into(), ..Answer::default() });
        }
        task.questions[0].open = false;
        assert!(!known.hear(&item(NoticeKind::Closed, &task, "q1")));
        assert_eq!(known.shown("c4b1e09a"), ["q2"]);
        task.questions[1].open = false;
        assert!(known.hear(&item(NoticeKind::Closed, &task, "q2")));
        assert_eq!((known.shown("c4b1e09a").len(), known.questions()), (0, 0));
    }
}
