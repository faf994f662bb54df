//! What a task has used, and how much of its budgets that is.

use super::{count, thousands};
use crate::task::{Kind, Status, Task};

/// How much of each of its budgets a task has used itself: `12,345 of 50,000 tokens (24 %)`; empty when it has none.
#[must_use]
pub fn budgets(task: &Task) -> Vec<String> {
    let (usage, budget) = (&task.usage, &task.budget);
    let mut parts = Vec::new();
    if let Some(most) = budget.tokens {
        let used = usage.tokens();
        let tokens = format!("{} of {} tokens", thousands(used), thousands(most));
        parts.push(format!("{tokens} ({} %)", percent(used.saturating_mul(100), most)));
    }
    if let Some(most) = budget.usd.filter(|usd| usd.is_finite() && *usd > 0.0) {
        let used = usage.cost_usd.unwrap_or(0.0);
        let shown = (used / most * 100.0).floor();
        parts.push(format!("${used:.2} of ${most:.2} ({shown} %)"));
    }
    if task.kind == Kind::Agent && task.max_turns > 0 {
        parts.push(format!("{} of {}", usage.turns, count(usize::try_from(task.max_turns).unwrap_or(0), "turn")));
    }
    parts
}

/// What a chat's message shows of that in a few words: `25 % of its budget`; `None` without one. The budget of which
/// most is used counts.
#[must_use]
pub fn budget_used(task: &Task) -> Option<String> {
    let tokens = task.budget.tokens.map(|most| percent(task.usage.tokens().saturating_mul(100), most));
    let money = task.budget.usd.filter(|usd| *usd > 0.0).zip(task.usage.cost_usd).map(|(most, used)| {
        // Shown, not counted with: what is beyond any sense is as much as can be.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of floats saturates")]
        let shown = (used / most * 100.0).floor() as u64;
        shown
    });
    tokens.max(money).map(|used| format!("{used} % of its budget"))
}

fn percent(hundredfold: u64, of: u64) -> u64 {
    hundredfold.checked_div(of).unwrap_or(100)
}

/// The budget and the run as one number, which changes when the budget is raised: what a Raise that was offered is for.
#[must_use]
pub fn budget_mark(task: &Task) -> u32 {
    let usd = task.budget.usd.map_or(0, f64::to_bits);
    let words =
        [u64::from(task.run), task.budget.tokens.unwrap_or(0), usd, u64::from(task.max_turns), task.usage.tokens()];
    // FNV-1a over the numbers' bytes.
    let hash = words
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash
}

/// Tells whether the task would go on if its budget were raised.
#[must_use]
pub fn can_be_raised(task: &Task) -> bool {
    task.kind == Kind::Agent && task.status == Status::BudgetExceeded
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::task;
    use super::*;

    #[test]
    fn what_is_used_is_shown_against_what_may_be() {
        let mut task = task(12, Status::BudgetExceeded);
        assert_eq!((budgets(&task), budget_used(&task)), (vec![], None));
        task.kind = Kind::Agent;
        (task.usage.input_tokens, task.usage.output_tokens, task.usage.turns) = (45_000, 5_123, 7);
        task.usage.cost_usd = Some(0.126);
        (task.budget.tokens, task.budget.usd) = (Some(50_000), Some(0.5));
        assert_eq!(
            budgets(&task),
            ["50,123 of 50,000 tokens (100 %)", "$0.13 of $0.50 (25 %)", "7 of 50 turns"].map(str::to_owned)
        );
        assert_eq!(budget_used(&task).as_deref(), Some("100 % of its budget"));
        task.budget.tokens = None;
        assert_eq!(budget_used(&task).as_deref(), Some("25 % of its budget"));
        (task.budget.usd, task.max_turns) = (Some(0.0), 1);
        assert_eq!((budgets(&task), budget_used(&task)), (vec!["7 of 1 turn".to_owned()], None));
        task.budget.tokens = Some(0);
        assert_eq!(budget_used(&task).as_deref(), Some("100 % of its budget"));
    }

    #[test]
    fn the_mark_of_a_budget_changes_when_it_is_raised() {
        let mut task = task(12, Status::BudgetExceeded);
        let mut marks = std::collections::HashSet::from([budget_mark(&task)]);
        for raise in [
            |t: &mut Task| t.budget.tokens = Some(50_000),
            |t: &mut Task| t.budget.tokens = Some(100_000),
            |t: &mut Task| t.budget.usd = Some(0.5),
            |t: &mut Task| t.max_turns += 50,
            |t: &mut Task| t.usage.output_tokens += 1,
            |t: &mut Task| t.run += 1,
        ] {
            raise(&mut task);
            assert!(marks.insert(budget_mark(&task)));
        }
        assert!(!can_be_raised(&task));
        task.kind = Kind::Agent;
        assert!(can_be_raised(&task));
    }
}
