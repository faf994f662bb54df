//! Nothing is lost: the daemon is killed at random under load, and what every client was told stays true.
//!
//! `OCTO_SOAK_KILLS` (default 100) and `OCTO_SOAK_SEED` set the length and the course of the soak.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod common;
#[path = "survive/field.rs"]
mod field;
#[path = "survive/negative.rs"]
mod negative;
#[path = "survive/power.rs"]
mod power;
#[path = "survive/shim_kills.rs"]
mod shim_kills;
#[path = "survive/soak.rs"]
mod soak;

use std::time::Instant;

use common::number;

/// A thousand kills in the long form, a hundred here: none may lose, repeat, falsify or cut short anything.
#[test]
fn random_kills_of_the_daemon_lose_nothing() {
    let (kills, seed) = (number("OCTO_SOAK_KILLS", 100), number("OCTO_SOAK_SEED", 1));
    let began = Instant::now();
    let soaked = soak::run(kills, seed, "");
    println!("soak: {soaked} seconds={:.1}", began.elapsed().as_secs_f64());
    soaked.findings.assert_none();
    assert!(soaked.hits >= kills * 95 / 100, "too few kills met a living daemon: {soaked}");
    assert!(soaked.tasks as u64 >= kills / 4, "too little work under the kills: {soaked}");
}
