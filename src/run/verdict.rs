//! The verdict: facts on disk in, what has become of the run out. Pure.

use std::time::Duration;

use super::{Claim, ClaimFact, Exit, ExitFact, Facts, LockFact};
use crate::task::Status;

/// How long a shim may hold the lock without a claim before the daemon tries to void the claim.
pub const START_PATIENCE: Duration = Duration::from_secs(30);

/// What has become of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No shim was ever spawned for it: launch it as this same run (with a stop intent: cancelled).
    NotSpawned,
    /// It ended, as `exit.json` says.
    Ended(Exit),
    /// It runs: adopt it. The claim is unknown when it cannot be read; then only waiting is possible.
    Running(Option<Claim>),
    /// A shim is about to claim it: look again later.
    Starting,
    /// Try [`super::RunDir::void`]. Won: it is [`Verdict::NeverStarted`]. Lost: read the facts anew.
    VoidFirst,
    /// Its command never ran and never will: launch run N+1 (with a stop intent: cancelled).
    NeverStarted,
    /// It was cut off. First [`super::RunDir::end_what_is_left`], then save `cancelled` (with a stop
    /// intent) or `interrupted`. It never runs again unasked.
    CutOff(Option<Claim>),
}

/// Judges a run by its facts; the table of [`crate::run`], row by row.
///
/// `status` is the record's, which must not have ended; `stop` tells whether it holds a stop intent;
/// `waited` is how long the run has been `dispatched` with a held lock and no claim.
#[must_use]
pub fn verdict(status: Status, stop: bool, facts: &Facts, waited: Duration) -> Verdict {
    debug_assert!(!status.is_ended(), "the verdict is never taken on an ended record");
    if let ExitFact::Ended(exit) = &facts.exit {
        return Verdict::Ended(exit.clone());
    }
    // An unreadable exit.json counts as none; a free lock then makes the run one that was cut off.
    let held = facts.lock == LockFact::Held;
    match &facts.claim {
        ClaimFact::Real(claim) if held => Verdict::Running(Some(claim.clone())),
        ClaimFact::Real(claim) => Verdict::CutOff(Some(claim.clone())),
        ClaimFact::Unreadable if held => Verdict::Running(None),
        ClaimFact::Unreadable => Verdict::CutOff(None),
        ClaimFact::Void if status == Status::Dispatched => Verdict::NeverStarted,
        // `running` was saved because a real claim was seen, so its command may have run.
        ClaimFact::Void => Verdict::CutOff(None),
        ClaimFact::None if status == Status::Dispatched => unclaimed(stop, held, facts.folder, waited),
        ClaimFact::None if held => Verdict::Running(None),
        ClaimFact::None => Verdict::CutOff(None),
    }
}

/// The rows of a dispatched record whose run has no claim.
fn unclaimed(stop: bool, held: bool, folder: bool, waited: Duration) -> Verdict {
    match (folder, held) {
        (false, _) => Verdict::NotSpawned,
        (true, true) if !stop && waited < START_PATIENCE => Verdict::Starting,
        (true, _) => Verdict::VoidFirst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ProcId;
    use crate::task::Stamp;

    fn claim() -> Claim {
        let proc = ProcId { pid: 1, start: 2 };
        Claim { shim: proc, child: proc, boot_id: "b".into(), at: Stamp::default(), version: "1".into() }
    }

    fn exit() -> Exit {
        Exit { code: Some(3), signal: None, reason: None, error: None, at: Stamp::default(), log_bytes: 0 }
    }

    const ALIVE: [Status; 4] = [Status::Dispatched, Status::Running, Status::Paused, Status::Resumed];
    const NOW: Duration = Duration::ZERO;

    fn claims() -> [ClaimFact; 4] {
        [ClaimFact::None, ClaimFact::Real(claim()), ClaimFact::Void, ClaimFact::Unreadable]
    }

    fn facts(lock: LockFact, claim: ClaimFact, exit: ExitFact) -> Facts {
        Facts { folder: true, lock, claim, exit }
    }

    /// Every cell: (claim, held) -> verdict for a dispatched record, and for one that was seen to run.
    #[test]
    fn every_cell_of_the_table() {
        use LockFact::{Free, Held};
        let real = || Some(claim());
        let table = [
            (ClaimFact::Real(claim()), Held, Verdict::Running(real()), Verdict::Running(real())),
            (ClaimFact::Real(claim()), Free, Verdict::CutOff(real()), Verdict::CutOff(real())),
            (ClaimFact::Void, Held, Verdict::NeverStarted, Verdict::CutOff(None)),
            (ClaimFact::Void, Free, Verdict::NeverStarted, Verdict::CutOff(None)),
            (ClaimFact::None, Held, Verdict::Starting, Verdict::Running(None)),
            (ClaimFact::None, Free, Verdict::VoidFirst, Verdict::CutOff(None)),
            (ClaimFact::Unreadable, Held, Verdict::Running(None), Verdict::Running(None)),
            (ClaimFact::Unreadable, Free, Verdict::CutOff(None), Verdict::CutOff(None)),
        ];
        for (claim, lock, dispatched, seen) in table {
            for status in ALIVE {
                for unreadable in [ExitFact::None, ExitFact::Unreadable] {
                    let want = if status == Status::Dispatched { &dispatched } else { &seen };
                    let f = facts(lock, claim.clone(), unreadable);
                    assert_eq!(&verdict(status, false, &f, NOW), want, "{status} {f:?}");
                }
            }
        }
    }

    #[test]
    fn exit_json_decides_whatever_else_is_there() {
        for status in ALIVE {
            for lock in [LockFact::Held, LockFact::Free] {
                for claim in claims() {
                    let f = facts(lock, claim, ExitFact::Ended(exit()));
                    for stop in [false, true] {
                        assert_eq!(verdict(status, stop, &f, NOW), Verdict::Ended(exit()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_stop_or_thirty_seconds_void_a_claim_that_does_not_come() {
        let f = facts(LockFact::Held, ClaimFact::None, ExitFact::None);
        let at = |stop, waited| verdict(Status::Dispatched, stop, &f, waited);
        assert_eq!(at(true, NOW), Verdict::VoidFirst);
        assert_eq!(at(false, START_PATIENCE - Duration::from_millis(1)), Verdict::Starting);
        assert_eq!(at(false, START_PATIENCE), Verdict::VoidFirst);
    }

    #[test]
    fn a_stop_changes_no_other_cell() {
        for status in ALIVE {
            for lock in [LockFact::Held, LockFact::Free] {
                for claim in claims() {
                    if claim == ClaimFact::None && lock == LockFact::Held && status == Status::Dispatched {
                        continue;
                    }
                    let f = facts(lock, claim, ExitFact::None);
                    assert_eq!(verdict(status, true, &f, NOW), verdict(status, false, &f, NOW));
                }
            }
        }
    }

    #[test]
    fn without_a_folder_a_dispatched_run_was_never_spawned_and_a_running_one_was_cut_off() {
        let f = Facts { folder: false, lock: LockFact::Free, claim: ClaimFact::None, exit: ExitFact::None };
        for stop in [false, true] {
            assert_eq!(verdict(Status::Dispatched, stop, &f, START_PATIENCE), Verdict::NotSpawned);
            assert_eq!(verdict(Status::Running, stop, &f, NOW), Verdict::CutOff(None));
        }
    }
}
