//! Budgets: what is asked for is taken at once, a tree keeps to its budget whatever happens in what order, and what was
//! used is known after every restart.

use std::collections::BTreeMap;

use octo::exec::agent::{Report, Reserve, Reserved};
use octo::supervisor::core::{Ask, Limits, Reply};
use octo::task::{Kind, NoticeKind, Status, TaskId};

use super::agents::for_all;
use super::random::Dice;
use super::{Lab, limits, started};

const MILLION: u64 = 1_000_000;

impl Lab {
    fn reserve_at(
        &mut self,
        id: TaskId,
        prompt: u64,
        max_output: u32,
        rates: Option<(u64, u64)>,
    ) -> Result<u32, String> {
        let run = self.task(id).run;
        match self.ask(Ask::Reserve(Reserve { id, run, prompt, max_output, rates })) {
            Ok(Reply::Reserved(Reserved::Output(tokens))) => Ok(tokens),
            Ok(Reply::Reserved(Reserved::Later)) => Err("later".to_owned()),
            Ok(Reply::Reserved(Reserved::UsedUp(text))) => Err(text),
            other => panic!("no answer to a reservation: {other:?}"),
        }
    }

    fn reserve(&mut self, id: TaskId, prompt: u64, max_output: u32) -> Result<u32, String> {
        self.reserve_at(id, prompt, max_output, None)
    }

    fn uses(&mut self, id: TaskId, input: u64, output: u64) {
        self.agents.uses(id, input, output, None);
        self.works(id);
    }

    fn over_budget(&mut self, id: TaskId, which: &str) {
        self.report(id, Report::OverBudget(which.into())).unwrap();
        assert_eq!(self.status(id), Status::BudgetExceeded);
    }

    fn raise(&mut self, id: TaskId, tokens: Option<u64>) -> super::Answer {
        self.ask(Ask::Raise { id, tokens })
    }

    fn told_of_budgets(&self, id: TaskId) -> Vec<String> {
        let notices = self.task(id).notices;
        notices.iter().filter(|n| n.kind == NoticeKind::Budget).map(|n| n.text.clone()).collect()
    }

    /// A parent with a budget of its own, and four below it in a chain and beside each other.
    fn family(&mut self, tokens: u64) -> [TaskId; 5] {
        let root = started(&self.agent_with("root", |r| r.budget_tokens = Some(tokens)));
        let a = self.child(root, "a", Kind::Agent);
        let b = self.child(root, "b", Kind::Agent);
        let c = self.child(b, "c", Kind::Agent);
        let d = self.child(c, "d", Kind::Agent);
        [root, a, b, c, d].map(|id| {
            self.works(id);
            id
        })
    }
}

fn roomy(slots: usize) -> Lab {
    Lab::with(Limits { global_budget: 100 * MILLION, ..limits(slots) })
}

#[test]
fn a_request_gets_what_the_budget_leaves_and_nothing_below_256() {
    let mut lab = roomy(1);
    let id = started(&lab.agent_with("a", |r| r.budget_tokens = Some(10_000)));
    lab.works(id);
    let saves = lab.store.writes();
    assert_eq!(lab.reserve(id, 1000, 4000), Ok(4000));
    assert_eq!(lab.store.writes(), saves, "decided at once, without a save");
    lab.uses(id, 1000, 2000);
    assert_eq!(lab.reserve(id, 5000, 4000), Ok(2000), "10,000 - 3,000 - 5,000");
    lab.uses(id, 5000, 1744);
    assert_eq!(lab.reserve(id, 0, 4000), Ok(256));
    lab.works(id);
    let text = lab.reserve(id, 1, 4000).unwrap_err();
    assert_eq!(text, "its budget of 10,000 tokens is used up (9,744 are)");
    assert_eq!(lab.reserve(id, 200, 10), Ok(10), "who wants less gets that");
    lab.works(id);
    lab.reserve(id, 300, 10).unwrap_err();
    lab.over_budget(id, &text);
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.error, task.budget.over.as_str()), (text, "tokens"));
    assert_eq!(task.notices.last().map(|n| n.kind), Some(NoticeKind::BudgetExceeded));
    assert!(lab.ask(Ask::Reserve(Reserve { id, run: 1, prompt: 0, max_output: 1, rates: None })).is_err());
}

#[test]
fn what_is_reserved_counts_until_the_next_report() {
    let mut lab = roomy(3);
    let [root, a, b, ..] = lab.family(10_000);
    assert_eq!(lab.reserve(a, 1000, 5000), Ok(5000));
    assert_eq!(lab.reserve(b, 1000, 3000), Ok(3000), "the other one's request counts for the root");
    // What is left by them is no measure: they may use less.
    assert_eq!(lab.reserve(root, 0, 1000).unwrap_err(), "later");
    lab.uses(a, 900, 100);
    assert_eq!(lab.reserve(a, 1000, 5000).unwrap_err(), "later", "nor would a shorter reply do");
    assert_eq!(lab.reserve(root, 1000, 4000), Ok(4000));
    lab.works(root);
    // A driver that leaves gives back what it did not use.
    lab.report(b, Report::Lost("gone".into())).unwrap();
    assert_eq!(lab.reserve(root, 1000, 9000), Ok(8000), "what was used leaves no more");
    lab.works(root);
    lab.uses(a, 8900, 0);
    assert_eq!(lab.reserve(root, 0, 1000).unwrap_err(), "its budget of 10,000 tokens is used up (9,900 are)");
}

#[test]
fn turns_and_money_are_budgets_too() {
    let mut lab = roomy(2);
    let id = started(&lab.agent_with("a", |r| r.max_turns = Some(2)));
    lab.works(id);
    for _ in 0..2 {
        lab.reserve(id, 10, 1000).unwrap();
        lab.uses(id, 10, 10);
    }
    let text = lab.reserve(id, 10, 1000).unwrap_err();
    assert_eq!(text, "its 2 turns are used up");
    lab.over_budget(id, &text);
    lab.raise(id, None).unwrap();
    assert_eq!((lab.task(id).max_turns, lab.task(id).budget.tokens), (4, Some(50_000)));
    lab.works(id);
    lab.reserve(id, 10, 1000).unwrap();
    lab.completes(id);

    let id = started(&lab.agent_with("b", |r| {
        r.budget_usd = Some(1.0);
        r.budget_tokens = Some(MILLION);
    }));
    lab.works(id);
    // 3 and 15 dollars for a million tokens.
    let rates = Some((3 * MILLION, 15 * MILLION));
    assert_eq!(lab.reserve_at(id, 10_000, 8000, rates), Ok(8000));
    lab.agents.uses(id, 10_000, 8000, Some(0.9));
    lab.works(id);
    assert_eq!(lab.reserve_at(id, 10_000, 8000, rates), Ok(4666), "0.10 - 0.03 dollars");
    lab.works(id);
    assert!(lab.reserve_at(id, 10_000, 8000, None).unwrap_err().contains("nobody knows what its model costs"));
    let text = lab.reserve_at(id, 33_000, 8000, rates).unwrap_err();
    assert_eq!(text, "its budget of $1.00 is used up ($0.90 are)");
    assert_eq!(lab.told_of_budgets(id), ["80 % of its budget of $1.00 are used"]);
    lab.over_budget(id, &text);
    lab.raise(id, None).unwrap();
    assert_eq!((lab.task(id).budget.usd, lab.task(id).budget.tokens), (Some(2.0), Some(MILLION)));
    assert_eq!(lab.reserve_at(id, 0, 8000, Some((0, 0))), Ok(8000), "what is free is free");
}

#[test]
fn of_80_percent_the_owner_is_told_once_and_again_after_a_raise() {
    let mut lab = roomy(3);
    let [root, a, ..] = lab.family(10_000);
    lab.uses(a, 7000, 999);
    assert_eq!(lab.told_of_budgets(root), [""; 0]);
    lab.uses(a, 0, 1);
    lab.uses(a, 0, 1);
    assert_eq!(lab.told_of_budgets(root), ["80 % of its budget of 10,000 tokens are used"]);
    assert_eq!(lab.told_of_budgets(a), [""; 0], "its own budget is another one");
    let mut lab = lab.reboot();
    lab.works(root);
    lab.works(a);
    lab.uses(a, 0, 1);
    assert_eq!(lab.told_of_budgets(root).len(), 1);
    lab.reserve(root, 5000, 5000).unwrap_err();
    lab.over_budget(root, "used up");
    lab.raise(root, Some(2000)).unwrap();
    lab.uses(a, 1600, 0);
    assert_eq!(lab.told_of_budgets(root).last().unwrap(), "80 % of its budget of 12,000 tokens are used");
    assert!(lab.task(root).notices.iter().all(|n| !n.kind.is_end() || n.kind == NoticeKind::BudgetExceeded));
}

#[test]
fn a_raise_goes_on_from_the_journal_in_the_same_run() {
    let mut lab = roomy(1);
    let id = started(&lab.agent_with("a", |r| r.budget_tokens = Some(1000)));
    let refused = lab.raise(id, None).unwrap_err();
    assert!(refused.message.contains("is dispatched; only an agent that used up its budget"), "{refused}");
    lab.works(id);
    lab.uses(id, 800, 100);
    lab.reserve(id, 0, 1000).unwrap_err();
    lab.over_budget(id, "used up");
    lab.pass(3);
    assert!(lab.engine.core.is_settled(id));
    let other = lab.agent("other");
    let last = lab.agent("last");
    lab.works(other);
    lab.pass(2);
    lab.raise(id, Some(0)).unwrap_err();
    lab.raise(id, None).unwrap();
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.status, task.run, task.budget.tokens), (Status::Dispatched, 1, Some(2000)));
    assert_eq!((task.error.as_str(), task.budget.over.as_str(), task.completed_at.is_empty()), ("", "", true));
    assert_eq!(task.budget.original.and_then(|o| o.tokens), Some(1000));
    let mut lab = lab.reboot();
    lab.works(other);
    lab.completes(other);
    assert!(lab.is_driven(id) && !lab.is_driven(last), "who had begun goes first");
    lab.works(id);
    assert_eq!(lab.reserve(id, 0, 4000), Ok(1100));
    lab.over_budget(id, "used up");
    lab.raise(id, Some(500)).unwrap();
    assert_eq!(lab.task(id).budget.tokens, Some(2500));
    lab.over_budget(id, "used up");
    lab.raise(id, None).unwrap();
    assert_eq!(lab.task(id).budget.tokens, Some(3500), "the original again, not what it was raised to");
    lab.works(id);
    lab.completes(id);
    lab.raise(id, None).unwrap_err();
    lab.pass(3);
    lab.engine.core.check().unwrap();
}

#[test]
fn a_raise_that_would_help_nothing_says_whose_budget_it_is() {
    let mut lab = roomy(5);
    let [root, a, ..] = lab.family(10_000);
    lab.uses(a, 9900, 0);
    let text = lab.reserve(a, 0, 1000).unwrap_err();
    let name = format!("task #{} {root}", lab.task(root).number);
    assert_eq!(text, format!("the budget of {name} of 10,000 tokens is used up (9,900 are)"));
    lab.over_budget(a, &text);
    let refused = lab.raise(a, Some(MILLION)).unwrap_err();
    assert_eq!(refused.message, format!("the budget that is used up is that of {name}, which started it"));
    lab.reserve(root, 0, 1000).unwrap_err();
    lab.over_budget(root, "used up");
    lab.raise(root, Some(5000)).unwrap();
    lab.raise(a, None).unwrap();
    assert_eq!(lab.task(a).budget.tokens, Some(50_000), "its own budget was not the matter");

    let mut lab = Lab::with(Limits { global_budget: 10_000, ..limits(2) });
    let id = lab.agent("a");
    lab.works(id);
    lab.uses(id, 9900, 0);
    let text = lab.reserve(id, 0, 1000).unwrap_err();
    assert!(text.starts_with("the budget of 10,000 tokens that all agents have in 24 hours"), "{text}");
    lab.over_budget(id, &text);
    let refused = lab.raise(id, Some(MILLION)).unwrap_err();
    assert!(refused.message.contains("that of all agents: 9,900 of 10,000 tokens in 24 hours"), "{refused}");
    lab.now.wall += 25 * 3_600_000;
    lab.raise(id, None).unwrap();
}

#[test]
fn the_window_of_24_hours_holds_over_restarts_for_agents_and_claude() {
    let mut lab = Lab::with(Limits { global_budget: 10_000, ..limits(3) });
    let old = lab.agent("old");
    lab.works(old);
    lab.uses(old, 3000, 0);
    lab.completes(old);
    lab.now.wall += 20 * 3_600_000;
    let claude = lab.start("claude");
    lab.pass(1);
    lab.runs.says_it_used(claude, 1, 2000, 500);
    lab.finish(claude, 0);
    assert_eq!(lab.store.task(claude).unwrap().usage.tokens(), 2500);
    lab.pass(3);
    assert!(lab.engine.core.is_settled(old) && lab.engine.core.is_settled(claude));
    for reboot in [false, true] {
        if reboot {
            lab = lab.reboot();
        }
        let id = lab.agent(&format!("new-{reboot}"));
        lab.works(id);
        assert_eq!(lab.reserve(id, 1000, 9000), Ok(3500), "{reboot}");
        lab.completes(id);
        lab.pass(3);
    }
    lab.now.wall += 5 * 3_600_000;
    let id = lab.agent("later");
    lab.works(id);
    assert_eq!(lab.reserve(id, 1000, 9000), Ok(6500), "the first one is more than a day ago");
    // A clock that was set back by years forgets nothing of today, and nothing from a future counts for ever.
    lab.completes(id);
    lab.now.wall -= 15 * 3_600_000;
    let id = lab.agent("back");
    lab.works(id);
    assert_eq!(lab.reserve(id, 1000, 9000), Ok(6000), "what is hours ahead by a wrong clock does not count");
    lab.engine.core.check().unwrap();
}

#[test]
fn a_long_life_keeps_a_day_of_hours() {
    let mut lab = roomy(1);
    let id = lab.agent("a");
    for _ in 0..100 {
        lab.uses(id, 10, 0);
        lab.now.wall += 3_600_000;
    }
    lab.completes(id);
    let hours = lab.store.task(id).unwrap().hours;
    assert_eq!((hours.len(), hours.iter().map(|h| h.tokens).sum::<u64>()), (25, 250));
    lab.pass(3);
    lab.engine.core.check().unwrap();
}

#[test]
fn usage_adds_up_over_runs_and_journals_and_a_retry_has_the_budget_again() {
    let mut lab = roomy(1);
    let id = started(&lab.agent_with("a", |r| r.budget_tokens = Some(1000)));
    lab.works(id);
    lab.uses(id, 900, 0);
    lab.report(id, Report::Failed("no".into())).unwrap();
    lab.ask(Ask::Retry { id }).unwrap();
    assert_eq!((lab.task(id).budget.tokens, lab.task(id).max_turns), (Some(1900), 51));
    lab.works(id);
    lab.uses(id, 100, 0);
    assert_eq!(lab.task(id).usage.tokens(), 1000, "it goes on from its journal");
    lab.report(id, Report::Failed("no".into())).unwrap();
    lab.ask(Ask::Retry { id }).unwrap();
    lab.agents.begins_anew(id);
    lab.works(id);
    lab.uses(id, 50, 0);
    let task = lab.task(id);
    assert_eq!((task.usage.tokens(), task.usage.turns, task.budget.tokens), (1050, 3, Some(2000)));
    assert_eq!(task.hours.iter().map(|h| h.tokens).sum::<u64>(), 1050);
    lab.completes(id);

    let claude = lab.start("claude");
    for run in 1..=2 {
        lab.pass(1);
        lab.runs.says_it_used(claude, run, 100, 10);
        lab.finish(claude, 1);
        if run == 1 {
            lab.ask(Ask::Retry { id: claude }).unwrap();
        }
    }
    assert_eq!(lab.task(claude).usage.tokens(), 220);
    lab.engine.core.check().unwrap();
}

/// Five agents of one tree, a process among them, ask, use less or all of what they got, end, die with the daemon and
/// are lost, in any order: what the tree used never passes its budget.
#[test]
fn a_tree_of_five_keeps_its_budget_in_whatever_order() {
    const BUDGET: u64 = 20_000;
    let mut refused = 0;
    for seed in 1..=60_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut lab = roomy(8);
        let ids = lab.family(BUDGET);
        let mut granted: BTreeMap<TaskId, (u64, u32)> = BTreeMap::new();
        for _ in 0..200 {
            let id = ids[dice.below(ids.len())];
            if lab.status(id).is_ended() || !lab.is_driven(id) {
                lab.pass(1);
                continue;
            }
            match dice.below(12) {
                0..6 => match granted.remove(&id) {
                    Some((prompt, output)) => {
                        let part = dice.below(output as usize + 1) as u64;
                        lab.uses(id, prompt, if dice.below(2) == 0 { part } else { u64::from(output) });
                    }
                    None => {
                        let (prompt, most) = (dice.below(1500) as u64, 300 + dice.below(2000) as u32);
                        match lab.reserve(id, prompt, most) {
                            Ok(output) => drop(granted.insert(id, (prompt, output))),
                            Err(_) => refused += 1,
                        }
                    }
                },
                6 => {
                    // The request was lost with its driver; the journal counts its prompt.
                    if let Some((prompt, _)) = granted.remove(&id) {
                        lab.agents.uses(id, prompt, 0, None);
                    }
                    lab.report(id, Report::Lost("gone".into())).unwrap();
                }
                7 if dice.below(10) == 0 && id != ids[0] => {
                    if let Some((prompt, output)) = granted.remove(&id) {
                        lab.agents.uses(id, prompt, u64::from(output), None);
                    }
                    lab.completes(id);
                }
                8 if granted.is_empty() => lab.parks(id, for_all()),
                9 => lab.pass(2),
                10 if dice.below(4) == 0 && granted.is_empty() => {
                    lab.pass(2);
                    lab = lab.reboot();
                    for (id, _) in lab.agents.driven() {
                        lab.works(id);
                    }
                }
                _ => lab.works_on_without_a_report(),
            }
            let used: u64 = ids.iter().map(|id| lab.task(*id).usage.tokens()).sum();
            assert!(used <= BUDGET, "seed {seed}: {used}");
            lab.engine.core.check().unwrap();
        }
    }
    assert!(refused > 60, "{refused}: nothing came near the budget");
}

impl Lab {
    fn works_on_without_a_report(&mut self) {
        self.turn();
    }
}
