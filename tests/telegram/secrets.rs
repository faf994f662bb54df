//! The bot's token in no error, no log line, no condition.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use octo::config::Secret;
use teloxide::payloads::GetMe;

use crate::bridge::api::{Api, Fail, scrub};
use crate::bridge::condition::Polling;
use crate::fake::{BOT, Fake, Fault, TOKEN};
use crate::world::api;

/// The half of the token that must never be seen.
fn canary() -> &'static str {
    TOKEN.split_once(':').unwrap().1
}

#[test]
fn a_token_is_taken_out_of_any_text() {
    let url = format!("https://api.telegram.org/bot{TOKEN}/SendMessage");
    let encoded = url.replace(':', "%3A");
    for text in [&url, &encoded, &format!("x {} y", canary()), &format!("({TOKEN})({TOKEN})")] {
        let clean = scrub(text, TOKEN);
        assert!(!clean.contains(canary()) && clean.contains("<token>"), "{clean}");
    }
    let other = "123456789:AAEhBOweik9ai2o01-d_fewfwefewfwefew";
    assert_eq!(scrub(&format!("bot{other}/getMe"), TOKEN), "bot<token>/getMe", "somebody else's neither");
    let harmless = "at 12:34:56, 7 of 12345678 bytes: ok; id 5550001234: done";
    assert_eq!(scrub(harmless, TOKEN), harmless);
    assert_eq!(scrub("ünï 123 çødé", TOKEN), "ünï 123 çødé");
}

#[test]
fn what_is_no_token_or_address_is_refused_without_quoting_it() {
    for token in ["", "abc", "123 456:x", "x:y", "12:a/../b", "123:\u{e9}"] {
        let error = Api::new(&Secret::new(token), "").unwrap_err();
        assert!(token.is_empty() || !error.contains(token), "{error}");
    }
    assert!(Api::new(&Secret::new(TOKEN), "no address").unwrap_err().contains("`no address`"));
    let api = Api::new(&Secret::new(TOKEN), "http://localhost:1/").unwrap();
    assert_eq!(api.id(), BOT);
    assert!(!format!("{api:?}").contains(canary()));
}

/// A log that everything is written to.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().map_err(|_| std::io::ErrorKind::Other)?.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_error_and_no_log_line_holds_the_token() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fake = Fake::start();
    let api = api(&fake);
    let echo = format!("Bad Request: /bot{TOKEN}/getMe is odd");
    let faults = [
        Fault::internal(),
        Fault::bad_gateway(),
        Fault::Reset,
        Fault::Silent,
        Fault::unauthorized(),
        Fault::conflict(),
        Fault::Refuse(400, echo.clone(), serde_json::Value::Null),
        Fault::Refuse(500, echo, serde_json::Value::Null),
    ];
    let mut seen = Vec::new();
    for fault in faults {
        fake.fault("getMe", 1, fault);
        let fail = api.call(&GetMe::new(), Duration::from_millis(300)).await.unwrap_err();
        seen.push(format!("{fail:?} {:?}", Polling::from(fail.clone())));
    }
    drop(fake);
    // The first finds out that its connection is gone.
    let _ = api.call(&GetMe::new(), Duration::from_secs(5)).await;
    let fail = api.call(&GetMe::new(), Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(&fail, Fail::Passing(why) if why.contains("refused")), "{fail:?}: it says what is wrong");
    seen.push(format!("{fail:?}"));
    tracing::info!("the log is written");
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("the log is written"));
    for text in seen.iter().chain([&log]) {
        assert!(!text.contains(canary()), "{text}");
    }
}
