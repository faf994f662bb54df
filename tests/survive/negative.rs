//! Tests of the tests: with one promise broken on purpose, the same checks must find it.

use crate::common::checker::Kind;
use crate::{shim_kills, soak};

#[test]
fn without_the_claim_a_command_runs_twice() {
    let killed = shim_kills::run(4, 1, "no_claim");
    println!("no claim: {killed}");
    assert!(killed.findings.count(Kind::Twice) > 0, "the check did not see it: {killed}");
}

#[test]
fn with_the_daemon_as_parent_results_are_lost() {
    let soaked = soak::run(30, 1, "daemon_as_parent");
    println!("daemon as parent: {soaked}");
    assert!(soaked.findings.count(Kind::Wrong) > 0, "the check did not see it: {soaked}");
}

#[test]
fn when_told_before_saved_acknowledged_tasks_vanish() {
    let soaked = soak::run(60, 1, "told_before_saved");
    println!("told before saved: {soaked}");
    assert!(soaked.findings.count(Kind::Lost) > 0, "the check did not see it: {soaked}");
}
