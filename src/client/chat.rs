//! Talking to the supervisor agent: one message, and its answer as it comes.
//!
//! The message is durable once the answer's head has come. A stream that is cut off (the daemon died) is asked for again
//! under the message's key.

use std::collections::VecDeque;

use serde::Deserialize;

use super::http::Call;
use super::wire::Answer;
use super::{Client, PAUSE, Trouble, new_key, sse};
use crate::command::{ChatRequest, Refused, RefusedCode};

/// What comes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatEvent {
    /// The next piece of the answer's text.
    Delta(String),
    /// The agent used a tool.
    Tool {
        /// Its name.
        name: String,
        /// The call, in a line.
        line: String,
    },
    /// The agent dispatched a task.
    Task {
        /// Its id.
        id: String,
    },
    /// The conversation waits for an answer of its owner's. The question is a notice as well.
    Question {
        /// The conversation's task.
        task: String,
        /// The question's id.
        question: String,
    },
    /// The connection was cut off: the answer is told again from its beginning, and may be another one.
    Again,
    /// The answer's whole text; nothing follows.
    Done(String),
}

/// The data of any event.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Data {
    text: String,
    name: String,
    line: String,
    id: String,
    task: String,
    question: String,
    code: RefusedCode,
    message: String,
    hint: String,
}

impl Default for Data {
    fn default() -> Self {
        let none = String::new;
        Data {
            text: none(),
            name: none(),
            line: none(),
            id: none(),
            task: none(),
            question: none(),
            code: RefusedCode::Internal,
            message: none(),
            hint: none(),
        }
    }
}

/// An answer that is being given.
#[derive(Debug)]
pub struct ChatStream {
    client: Client,
    request: ChatRequest,
    answer: Option<Answer>,
    parser: sse::Parser,
    ready: VecDeque<Result<ChatEvent, Refused>>,
    ended: bool,
}

impl Client {
    /// Says something to the supervisor agent; a key is made when there is none. The message is durable when this
    /// returns, and is said once, however often it comes with its key.
    ///
    /// # Errors
    /// The daemon's refusal: there is no model or no key for one; `Unavailable`.
    pub async fn chat(&self, mut request: ChatRequest) -> Result<ChatStream, Refused> {
        if request.key.is_empty() {
            request.key = new_key();
        }
        let mut stream = ChatStream {
            client: self.clone(),
            request,
            answer: None,
            parser: sse::Parser::default(),
            ready: VecDeque::new(),
            ended: false,
        };
        stream.open().await?;
        Ok(stream)
    }
}

impl ChatStream {
    /// What comes next; `None` after [`ChatEvent::Done`].
    ///
    /// # Errors
    /// Why there will be no answer: the model's refusal, the daemon's, or `Unavailable`.
    pub async fn next(&mut self) -> Result<Option<ChatEvent>, Refused> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.ended |= matches!(event, Ok(ChatEvent::Done(_)) | Err(_));
                return event.map(Some);
            }
            if self.ended {
                return Ok(None);
            }
            let Some(answer) = &mut self.answer else {
                self.client.pause(PAUSE).await;
                self.open().await?;
                return Ok(Some(ChatEvent::Again));
            };
            match answer.piece().await {
                Ok(Some(data)) => self.take(&data)?,
                Ok(None) | Err(_) => self.answer = None,
            }
        }
    }

    async fn open(&mut self) -> Result<(), Refused> {
        let call = Call::post("/chat").body(&self.request)?.repeatable().waits();
        let answer = self.client.repeat(&call, async |answer| Ok::<_, Trouble>(answer)).await?;
        (self.parser, self.answer) = (sse::Parser::default(), Some(answer));
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Refused> {
        let mut events = Vec::new();
        self.parser.push(piece, &mut events);
        for event in events {
            let read = || {
                serde_json::from_str::<Data>(&event.data).map_err(|_| {
                    Refused::new(RefusedCode::Internal, "the daemon's answer is not understood")
                        .hint("client and daemon may be of different versions: `octo stop`, then try again")
                })
            };
            let event = match event.name.as_str() {
                "delta" => Ok(ChatEvent::Delta(read()?.text)),
                "tool" => read().map(|d| ChatEvent::Tool { name: d.name, line: d.line }),
                "task" => read().map(|d| ChatEvent::Task { id: d.id }),
                "question" => read().map(|d| ChatEvent::Question { task: d.task, question: d.question }),
                "done" => read().map(|d| ChatEvent::Done(d.text)),
                "error" => read().and_then(|d| Err(Refused { code: d.code, message: d.message, hint: d.hint })),
                _ => continue, // a newer daemon's
            };
            self.ready.push_back(event);
        }
        Ok(())
    }
}
