//! Somebody else's Bot API server (`botapi.mjs` says which), and its client: a person with a phone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::fake::{BOT, TOKEN};
use crate::world::{World, wait_for};

const ANN: i64 = 4711;

/// The server, its proxy, and the client of Ann.
pub(crate) struct Phone {
    server: Child,
    bot: u16,
    user: u16,
}

/// A message of the bot as the server keeps it now.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) id: i64,
    pub(crate) text: String,
    message: Value,
    time: i64,
}

impl Shown {
    /// The file that came with it: its name, and what is in it.
    pub(crate) fn file(&self) -> Option<(&str, &str)> {
        let file = &self.message["document"];
        Some((file["file_name"].as_str()?, file["content"].as_str()?))
    }

    /// The buttons below it, with what they send.
    fn buttons(&self) -> impl Iterator<Item = (&str, &str)> {
        let rows = self.message["reply_markup"]["inline_keyboard"].as_array().into_iter().flatten();
        let buttons = rows.filter_map(Value::as_array).flatten();
        buttons.filter_map(|b| Some((b["text"].as_str()?, b["callback_data"].as_str()?)))
    }

    pub(crate) fn labels(&self) -> Vec<&str> {
        self.buttons().map(|(label, _)| label).collect()
    }

    /// As Telegram quotes it in a reply or a tap.
    fn quoted(&self) -> Value {
        let markup = &self.message["reply_markup"];
        let keys = if markup["inline_keyboard"].is_array() { markup.clone() } else { Value::Null };
        let mut quoted = json!({
            "message_id": self.id, "date": self.time / 1000, "text": self.text, "chat": chat(),
            "from": {"id": BOT, "is_bot": true, "first_name": "Test First name", "username": "TestNameBot"},
        });
        if !keys.is_null() {
            quoted["reply_markup"] = keys;
        }
        quoted
    }
}

fn chat() -> Value {
    json!({"id": ANN, "type": "private", "first_name": "Ann"})
}

impl Phone {
    /// Starts the server, and has the workspace's bot use it. Nobody is let in yet.
    pub(crate) fn of(world: &World) -> Phone {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/botapi.mjs");
        let mut server = Command::new(world.program("OCTO_E2E_NODE"))
            .arg(program)
            .arg(world.program("OCTO_E2E_BOTAPI"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the server starts; if not, run tests/e2e/setup.sh again");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports: Value = serde_json::from_str(&line).expect("the server tells its ports");
        let port = |name: &str| u16::try_from(ports[name].as_u64().unwrap()).unwrap();
        let phone = Phone { bot: port("bot"), user: port("user"), server };
        let settings = format!("TELEGRAM_BOT_TOKEN={TOKEN}\nTELEGRAM_API_URL=http://127.0.0.1:{}\n", phone.bot);
        std::fs::write(world.work().join(".env"), settings).unwrap();
        phone
    }

    /// Calls the server's client API.
    fn call(&self, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.user)).unwrap();
        let body = body.to_string();
        // HTTP/1.0: the answer ends with the connection, and is not chunked.
        let head = "Host: 127.0.0.1\r\nContent-Type: application/json";
        write!(stream, "POST {path} HTTP/1.0\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["ok"], true, "{path}: {answer}");
        answer["result"].clone()
    }

    /// Sends an update of Ann's.
    fn send(&self, path: &str, more: Value) {
        let from = json!({"id": ANN, "is_bot": false, "first_name": "Ann"});
        let date = jiff::Timestamp::now().as_second();
        let mut update = json!({"botToken": TOKEN, "from": from, "chat": chat(), "date": date});
        if let (Some(update), Value::Object(more)) = (update.as_object_mut(), more) {
            update.extend(more);
        }
        self.call(path, &update);
    }

    pub(crate) fn say(&self, text: &str) {
        self.send("/sendMessage", json!({"text": text}));
    }

    pub(crate) fn command(&self, text: &str) {
        let length = text.split(' ').next().map_or(0, str::len);
        let entities = json!([{"type": "bot_command", "offset": 0, "length": length}]);
        self.send("/sendCommand", json!({"text": text, "entities": entities}));
    }

    pub(crate) fn reply(&self, to: &Shown, text: &str) {
        self.send("/sendMessage", json!({"text": text, "reply_to_message": to.quoted()}));
    }

    /// Taps the button with this label.
    #[track_caller]
    pub(crate) fn tap(&self, on: &Shown, label: &str) {
        let data = on.buttons().find(|(l, _)| *l == label).unwrap_or_else(|| panic!("no {label}: {on:?}")).1;
        self.send("/sendCallback", json!({"data": data, "message": on.quoted()}));
    }

    /// What the bot's messages to Ann are now, oldest first.
    pub(crate) fn screen(&self) -> Vec<Shown> {
        let history = self.call("/getUpdatesHistory", &json!({"token": TOKEN}));
        let shown = |entry: &Value| {
            let message = entry["message"].clone();
            (message["chat_id"] == ANN).then(|| Shown {
                id: entry["messageId"].as_i64().unwrap(),
                text: message["text"].as_str().unwrap_or_default().to_owned(),
                time: entry["time"].as_i64().unwrap(),
                message,
            })
        };
        history.as_array().unwrap().iter().filter_map(shown).collect()
    }

    /// Waits for a message, newer than `after`, that shows all these texts.
    #[track_caller]
    pub(crate) fn message(&self, after: i64, texts: &[&str]) -> Shown {
        wait_for(&format!("{texts:?} is shown"), || {
            self.screen().into_iter().find(|s| s.id > after && texts.iter().all(|t| s.text.contains(t)))
        })
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}
