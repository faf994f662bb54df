use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::server::{ask, request};
use crate::agent::model::*;
use crate::testkit::{Scripted, Step};

fn quick() -> Policy {
    Policy { tries: 4, first: Duration::from_millis(1), most: Duration::from_millis(200) }
}

const PASSING: [ErrorKind; 6] = [
    ErrorKind::RateLimited { reset: None },
    ErrorKind::Overloaded,
    ErrorKind::Server(500),
    ErrorKind::Network,
    ErrorKind::Cut,
    ErrorKind::Malformed,
];

const LASTING: [ErrorKind; 6] = [
    ErrorKind::Refused(400),
    ErrorKind::ContextOverflow,
    ErrorKind::BadKey,
    ErrorKind::NoKey,
    ErrorKind::NoCredit,
    ErrorKind::Invalid,
];

#[tokio::test]
async fn what_passes_is_tried_again_and_what_lasts_is_not() {
    for kind in PASSING {
        let model = Scripted::new([Step::fail(kind), Step::fail(kind), Step::text("here")]);
        let (reply, _) = ask(&Retry::new(model.clone()).policy(quick()), &request("demo/echo")).await;
        assert_eq!(reply.unwrap().message.text, "here", "{kind:?}");
        assert_eq!(model.asked().len(), 3);
    }
    for kind in LASTING {
        let model = Scripted::new([Step::fail(kind), Step::text("never")]);
        let (reply, _) = ask(&Retry::new(model.clone()).policy(quick()), &request("demo/echo")).await;
        assert_eq!(reply.unwrap_err().kind, kind);
        assert_eq!(model.asked().len(), 1);
    }
}

#[tokio::test]
async fn tries_have_a_bound() {
    let model = Scripted::new((0..10).map(|_| Step::fail(ErrorKind::Overloaded)));
    let (reply, _) = ask(&Retry::new(model.clone()).policy(quick()), &request("demo/echo")).await;
    assert_eq!(reply.unwrap_err().kind, ErrorKind::Overloaded);
    assert_eq!((model.asked().len(), model.left()), (4, 6));
}

#[tokio::test]
async fn the_servers_own_delay_is_kept_and_told_before_it_begins() {
    let wait = Duration::from_millis(80);
    let error = ModelError::rate_limited("slow down", Some(wait), Timestamp::now());
    let model = Scripted::new([Step::Fail(String::new(), error.clone()), Step::text("here")]);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    let retry = Retry::new(model).policy(quick()).on_wait(move |wait| hearing.lock().unwrap().push(wait.clone()));
    let begun = Instant::now();
    let (reply, words) = ask(&retry, &request("demo/echo")).await;
    assert!(reply.is_ok());
    assert!(begun.elapsed() >= wait);
    // Nothing was shown of the failed try, so nothing has to be taken back.
    assert_eq!(words, "here");
    let heard = heard.lock().unwrap();
    let [told] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((told.attempt, &told.error), (1, &error));
    assert!(told.delay >= wait && told.delay <= wait.mul_f64(1.11), "{:?}", told.delay);
}

#[tokio::test]
async fn a_limit_that_ends_late_is_returned_for_the_task_to_be_parked() {
    let now: Timestamp = "2026-11-21T18:00:00Z".parse().unwrap();
    let error = ModelError::rate_limited("tomorrow", Some(Duration::from_secs(3600)), now);
    let reset: Timestamp = "2026-11-21T19:00:00Z".parse().unwrap();
    assert_eq!(error.kind, ErrorKind::RateLimited { reset: Some(reset) });
    let model = Scripted::new([Step::Fail(String::new(), error.clone()), Step::text("never")]);
    let (retry, request) = (Retry::new(model.clone()).policy(quick()), request("demo/echo"));
    let (reply, _) = tokio::time::timeout(Duration::from_secs(30), ask(&retry, &request)).await.unwrap();
    assert_eq!(reply.unwrap_err(), error);
    assert_eq!(model.asked().len(), 1);
}

#[tokio::test]
async fn words_of_a_broken_reply_are_followed_by_a_mark() {
    let cut = ModelError::new(ErrorKind::Cut, "cut");
    let model = Scripted::new([Step::Fail("Hel".into(), cut), Step::text("Hello.")]);
    let (reply, words) = ask(&Retry::new(model).policy(quick()), &request("demo/echo")).await;
    assert_eq!(reply.unwrap().message.text, "Hello.");
    assert_eq!(words, format!("Hel{BEGUN_AGAIN}Hello."));
}

#[tokio::test]
async fn a_call_that_is_dropped_is_over() {
    let model = Scripted::new([Step::Hang, Step::text("later")]);
    let retry = Retry::new(model.clone()).policy(quick());
    let request = request("demo/echo");
    let never = tokio::time::timeout(Duration::from_millis(20), ask(&retry, &request)).await;
    assert!(never.is_err());
    assert_eq!(ask(&retry, &request).await.0.unwrap().message.text, "later");
    assert_eq!(model.asked().len(), 2);
}

#[test]
fn waits_grow_and_stay_below_the_bound() {
    let retry = Retry::new(Scripted::default()).policy(Policy { tries: 100, ..Policy::default() });
    let error = ModelError::new(ErrorKind::Overloaded, "busy");
    for attempt in 1..100 {
        let longest = Duration::from_secs(2_u64.saturating_pow(attempt - 1).min(60));
        let delay = retry.delay(attempt, &error).unwrap();
        assert!(delay >= longest / 2 && delay <= longest, "{attempt}: {delay:?}");
    }
    assert_eq!(retry.delay(100, &error), None);
}
