//! Answers in words: replies to cards, `/task ID resume`, and plain text, which answers nothing by guess.

use octo::command::{ListQuery, Refused, RefusedCode, ResumeRequest, TaskRef};
use octo::render::name_of;
use octo::task::{Question, Task, TaskId};

use super::{Hands, QUESTIONS_SHOWN, Who};
use crate::telegram::calls::{Desk, exactly};
use crate::telegram::card::{self, asks};
use crate::telegram::errand::{Errand, Note};
use crate::telegram::gate::{Replied, Text};
use crate::telegram::post::Post;
use crate::telegram::seal::{Button, What};
use crate::telegram::text::escape;
use crate::telegram::words;

/// What became of an answer.
pub(super) enum Given {
    /// It counts.
    Taken(Task),
    /// The question was closed before.
    Late(Task),
}

impl<D: Desk> Hands<D> {
    /// Gives an answer; who was first is decided there.
    pub(super) async fn give(
        &self,
        user: i64,
        task: TaskId,
        question: &str,
        answer: String,
        update: u32,
    ) -> Result<Given, Refused> {
        let request = ResumeRequest { answer, question: Some(question.to_owned()), key: self.key(update) };
        match self.desk.answer(user, task, request).await {
            Ok(task) => Ok(Given::Taken(task)),
            Err(refused) if refused.code == RefusedCode::Conflict => {
                let task = self.desk.get(&exactly(task)).await?;
                let open = find(&task, question).is_none_or(|q| q.open);
                if open { Err(refused) } else { Ok(Given::Late(task)) }
            }
            Err(refused) => Err(refused),
        }
    }

    /// Edits every card of a question in this chat, and the message that is known to be one.
    pub(super) fn edit_cards(&self, who: Who, task: &Task, question: &Question, known: Option<i32>) -> Vec<Errand> {
        let mut messages: Vec<i32> = known.into_iter().collect();
        for (chat, message) in self.book().messages_of(task.id, &question.id) {
            if chat == who.chat && !messages.contains(&message) {
                messages.push(message);
            }
        }
        let card = self.draw(who, |face| asks(task, question, false, face));
        let edit = |message| Post::Edit { chat: who.chat, message, html: card.html.clone(), keys: card.keys.clone() };
        messages.into_iter().map(|message| edit(message).into()).collect()
    }

    /// The cards of a task's open questions.
    pub(super) fn open_questions(&self, who: Who, task: &Task) -> impl Iterator<Item = Errand> {
        task.questions.iter().filter(|q| q.open).map(move |question| {
            let card = self.draw(who, |face| asks(task, question, true, face));
            self.send(who, card, Note::Question { task: task.id, question: question.id.clone() })
        })
    }

    /// What a reply means; `None` when it is to be read as any other text.
    pub(super) async fn reply(
        &self,
        who: Who,
        text: &Text,
        reply: &Replied,
        update: u32,
    ) -> Result<Option<Vec<Errand>>, Refused> {
        if !reply.own || words::is_command(&text.text, &self.rules.name) || text.text.trim().is_empty() {
            return Ok(None);
        }
        // The message's own signed buttons say what it is; a card without buttons is looked up.
        let sealed: Vec<Button> =
            reply.data.iter().filter_map(|data| self.seal.open(who.chat, who.user, data)).collect();
        let by_button = sealed.iter().find_map(|button| match button {
            Button::Task(task, What::Answer(question, _) | What::Show(question)) => Some((*task, question.clone())),
            _ => None,
        });
        let asked = self.book().asked(who.chat, reply.message);
        if let Some((task, question)) = asked.or(by_button) {
            return self.answer_card(who, task, &question, text, reply.message, update).await.map(Some);
        }
        let by_button = sealed.iter().find_map(|button| match button {
            Button::Task(task, _) => Some(*task),
            Button::Run(_) | Button::Drop(_) | Button::Recap => None,
        });
        let task = self.book().task_of(who.chat, reply.message).or(by_button);
        match task {
            Some(task) => self.reply_to_task(who, task, text, update).await.map(Some),
            None => Ok(None),
        }
    }

    /// A reply to the card of a question.
    async fn answer_card(
        &self,
        who: Who,
        task: TaskId,
        id: &str,
        text: &Text,
        message: i32,
        update: u32,
    ) -> Result<Vec<Errand>, Refused> {
        let task = self.desk.get(&exactly(task)).await?;
        let Some(question) = find(&task, id) else {
            return Ok(vec![self.say(who, "That question is not there any more.".to_owned())]);
        };
        // An answer of this update's may be there already: whether it counts is decided where it is kept.
        let answer = if question.open { question.accepts(&text.text) } else { Some(text.text.trim().to_owned()) };
        let Some(answer) = answer else {
            let choices: Vec<String> = question
                .choices
                .iter()
                .take(20)
                .enumerate()
                .map(|(n, c)| format!("{}. `{}`", n + 1, c.replace('`', "'")))
                .collect();
            let said =
                format!("That is none of the choices. Tap one, or reply with its number:\n{}", choices.join("\n"));
            return Ok(vec![self.say(who, words::prose(&octo::render::sanitize::text(&self.mask.apply(&said))))]);
        };
        let given = self.give(who.user, task.id, id, answer, update).await?;
        Ok(self.told(who, given, id, Some(message)))
    }

    /// What somebody hears whose answer was given in words.
    fn told(&self, who: Who, given: Given, id: &str, message: Option<i32>) -> Vec<Errand> {
        let (task, late) = match given {
            Given::Taken(task) => (task, false),
            Given::Late(task) => (task, true),
        };
        let Some(question) = find(&task, id) else { return Vec::new() };
        let mut errands = self.edit_cards(who, &task, question, message);
        if late || message.is_none() {
            let words = self.draw(who, |face| card::closed_words(&task, question, face));
            let said = if late { format!("Too late: {words}") } else { words };
            errands.push(self.say(who, format!("<b>{}</b> {}", name_of(&task), escape(&said))));
        }
        errands
    }

    /// A reply to the card of a task: that of an ended one is followed up.
    async fn reply_to_task(&self, who: Who, task: TaskId, text: &Text, update: u32) -> Result<Vec<Errand>, Refused> {
        let task = self.desk.get(&exactly(task)).await?;
        let name = name_of(&task);
        if task.status.is_ended() {
            return self.followup(who, text.at, &task, text.text.trim().to_owned(), update).await;
        }
        let mut errands: Vec<Errand> = self.open_questions(who, &task).take(QUESTIONS_SHOWN).collect();
        let said = if errands.is_empty() {
            format!("<b>{name}</b> asks nothing at present.")
        } else {
            "Which question is that for? Tap its button, or reply to it.".to_owned()
        };
        errands.insert(0, self.say(who, said));
        Ok(errands)
    }

    /// Text that is neither a command nor a reply is said to the supervisor agent, unless it looks like an answer to
    /// an open question: to which one nobody knows, and an agent gives no answers.
    pub(super) async fn plain(&self, who: Who, at: i64, text: String, update: u32) -> Result<Vec<Errand>, Refused> {
        let listing = self.desk.list(ListQuery { limit: Some(1), ..ListQuery::default() }).await?;
        let could_answer = |q: &Question| q.open && !q.choices.is_empty() && q.choices.iter().any(|c| same(c, &text));
        let open = listing.active.iter().flat_map(|t| &t.questions).filter(|q| could_answer(q)).count();
        if open == 0 {
            return self.speak(who, at, text, update).await;
        }
        let said = match open {
            1 => "If that was an answer: one question is open. Tap its button, or reply to it.".to_owned(),
            n => format!("If that was an answer: {n} questions are open. Tap a button, or reply to the one you mean."),
        };
        let asking: Vec<&Task> = listing.active.iter().filter(|t| t.questions.iter().any(could_answer)).collect();
        let mut errands = vec![self.say(who, said)];
        errands.extend(asking.into_iter().flat_map(|task| self.open_questions(who, task)).take(QUESTIONS_SHOWN));
        Ok(errands)
    }

    /// `/task ID resume ANSWER`; without an answer: what is asked.
    pub(super) async fn resume(
        &self,
        who: Who,
        task: &TaskRef,
        question: Option<String>,
        answer: String,
        update: u32,
    ) -> Result<Vec<Errand>, Refused> {
        if answer.is_empty() {
            return self.show(who, task).await;
        }
        let task = self.desk.get(task).await?;
        let key = self.key(update);
        let question = match question {
            Some(question) => question,
            // Applied before: to the question that was meant then.
            None => match task.answers.iter().find(|a| a.key == key) {
                Some(answer) => answer.question.clone(),
                None => match self.only_open(who, &task) {
                    Ok(question) => question,
                    Err(errands) => return Ok(errands),
                },
            },
        };
        let given = self.give(who.user, task.id, &question, answer, update).await?;
        Ok(self.told(who, given, &question, None))
    }

    /// The only open question, if it is a plain one; else what is to be told.
    fn only_open(&self, who: Who, task: &Task) -> Result<String, Vec<Errand>> {
        let open: Vec<&Question> = task.questions.iter().filter(|q| q.open).collect();
        let name = name_of(task);
        match open.as_slice() {
            [one] if !one.is_permission() => Ok(one.id.clone()),
            [] => Err(vec![self.say(
                who,
                match task.questions.last().filter(|_| !task.status.is_ended()) {
                    Some(last) => {
                        let words = self.draw(who, |face| card::closed_words(task, last, face));
                        format!("<b>{name}</b> asks nothing any more: {}", escape(&words))
                    }
                    None => format!("<b>{name}</b> asks nothing."),
                },
            )]),
            _ => {
                let said = "Which question is that for? Tap its button, or reply to it.".to_owned();
                let mut errands = vec![self.say(who, said)];
                errands.extend(self.open_questions(who, task).take(QUESTIONS_SHOWN));
                Err(errands)
            }
        }
    }
}

/// The same words, as people type them.
fn same(choice: &str, text: &str) -> bool {
    choice.trim().to_lowercase() == text.trim().to_lowercase()
}

/// A question of a task.
pub(super) fn find<'a>(task: &'a Task, id: &str) -> Option<&'a Question> {
    task.questions.iter().find(|q| q.id == id)
}
