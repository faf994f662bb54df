//! `octo pair telegram`.

use std::time::Duration;

use expectrl::{Eof, Expect, Session};
use serde_json::json;

use super::fake::Fake;
use super::octo;

#[test]
fn who_sent_the_code_is_let_in_only_by_a_yes_at_the_terminal() {
    for (typed, decided, told) in [("y\r", true, "is let in"), ("\r", false, "Nobody was let in.")] {
        let mut fake = Fake::new();
        fake.serve();
        fake.change(|facts| facts.bridge = true);
        let mut command = fake.octo();
        command.args(["pair", "telegram"]).env_remove("OCTO_TASK_ID");
        let mut pair = Session::spawn(command).unwrap();
        pair.set_expect_timeout(Some(Duration::from_secs(20)));
        pair.expect("Code: ABCD2345").unwrap();
        pair.expect("within 5 minutes").unwrap();
        fake.change(|facts| facts.candidate = Some(json!({"id": 4711, "name": "Ann\x1b[2J\u{202e}\nroot"})));
        pair.expect("Ann root, user 4711, sent it. May this user command Octo here? [y/N] ").unwrap();
        assert_eq!(fake.facts().decided, None);
        pair.send(typed).unwrap();
        pair.expect(told).unwrap();
        pair.expect(Eof).unwrap();
        assert_eq!(fake.facts().decided, Some(decided));
    }
}

#[test]
fn it_needs_a_terminal_and_a_bot() {
    let mut fake = Fake::new();
    fake.serve();
    let piped = octo(&fake, &["pair", "telegram"]);
    assert_eq!((piped.code, piped.out.as_str()), (2, ""));
    assert!(piped.err.starts_with("error: pairing needs a terminal") && piped.err.contains("hint: "), "{}", piped.err);
    let mut command = fake.octo();
    command.args(["pair", "telegram"]);
    let mut pair = Session::spawn(command).unwrap();
    pair.set_expect_timeout(Some(Duration::from_secs(20)));
    pair.expect("error: no bridge to telegram is set up").unwrap();
    pair.expect("hint: ").unwrap();
    pair.expect(Eof).unwrap();
}
