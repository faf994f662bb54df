//! Budgets: what tasks have used, what their requests may use, and what is left.
//!
//! Every request to a model is asked for before it is made, and what it may use at most is taken from all budgets that
//! it counts for: the task's own, those of the tasks that it was started by, and the one of all tasks over 24 hours.
//! So a budget holds whatever happens at the same time, and is passed by nothing but a reply that was longer than it
//! was allowed to be. What is reserved is only known to this daemon: after a crash, each agent's journal says what
//! its lost requests may have used.
//!
//! A budget covers a task and all that it starts; so what settled tasks used is kept in their summaries.

use super::{Core, Live, Now, Phase, Reply, commands::Decision, schedule::stamp};
use crate::command::{Refused, RefusedCode};
use crate::exec::agent::{self, Reserve};
use crate::render::thousands;
use crate::store::pico;
use crate::supervisor::Event;
use crate::supervisor::core::Effect;
use crate::task::{Hour, Kind, NoticeKind, Original, Status, Step, Task, TaskId, Usage};

/// The shortest reply that is worth a request, in tokens.
const LEAST: u32 = 256;

/// The hours of the global budget.
const DAY: u64 = 24;

/// How many hours a record keeps: a day, and the hour that it begins in.
const HOURS_MAX: usize = 25;

/// What the requests of an agent may use that it has not reported yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reserved {
    tokens: u64,
    /// In millionths of a millionth of a dollar.
    cost: u64,
}

/// Tokens and money of one task or many.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    tokens: u64,
    cost: u64,
}

impl Sum {
    fn add(self, tokens: u64, cost: u64) -> Sum {
        Sum { tokens: self.tokens.saturating_add(tokens), cost: self.cost.saturating_add(cost) }
    }
}

/// A budget that leaves too little: what records call it, and what people read.
struct UsedUp {
    over: String,
    text: String,
}

/// What a request would use, and what is left of its reply.
#[derive(Debug, Clone, Copy)]
struct Wish {
    prompt: u64,
    output: u32,
    least: u32,
    rates: Option<(u64, u64)>,
}

impl Wish {
    fn cost(&self, output: u32) -> u64 {
        let (prompt, reply) = self.rates.unwrap_or_default();
        self.prompt.saturating_mul(prompt).saturating_add(u64::from(output).saturating_mul(reply))
    }

    /// Lowers the output to what a budget of tokens leaves; false when that is too little.
    fn fits_tokens(&mut self, budget: u64, used: u64) -> bool {
        let left = budget.saturating_sub(used).saturating_sub(self.prompt);
        self.lower(left)
    }

    /// As [`Wish::fits_tokens`], for money.
    fn fits_cost(&mut self, budget: u64, used: u64) -> bool {
        let Some((_, reply)) = self.rates else { return false };
        match budget.saturating_sub(used).checked_sub(self.cost(0)) {
            Some(left) => self.lower(left.checked_div(reply).unwrap_or(u64::MAX)),
            None => false,
        }
    }

    fn lower(&mut self, left: u64) -> bool {
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        if left < self.least {
            return false;
        }
        self.output = self.output.min(left);
        true
    }
}

impl Core {
    /// Takes what a request may use from all budgets, or says which one is used up.
    ///
    /// Requests take more than they will use, as nobody knows the length of a reply before. So where those of others
    /// leave too little, or would shorten this one's reply, it waits for them; only what was used stops an agent.
    pub(super) fn reserve(&mut self, reserve: &Reserve, now: Now) -> Decision {
        let id = reserve.id;
        let of_now = |l: &&Live| {
            let goes_on = !l.task.status.is_ended() && l.phase != Phase::Foreign && l.task.stop.is_none();
            l.is_agent() && l.task.run == reserve.run && goes_on
        };
        if self.live.get(&id).filter(of_now).is_none() {
            let message = format!("run {} of task {id} is over, or is being stopped", reserve.run);
            return Err(Refused::new(RefusedCode::Conflict, message).hint("its driver leaves"));
        }
        if let Some(live) = self.live.get_mut(&id) {
            // An agent makes one request at a time.
            live.reserved = Reserved::default();
        }
        let wish = Wish {
            prompt: reserve.prompt,
            output: reserve.max_output,
            least: LEAST.min(reserve.max_output),
            rates: reserve.rates,
        };
        let result = self.granted(id, wish, now, |_| true);
        let output = |granted: &Result<Wish, UsedUp>| granted.as_ref().map_or(0, |wish| wish.output);
        if output(&result) < output(&self.granted(id, wish, now, |one| one == id)) {
            return Ok((vec![], Reply::Reserved(agent::Reserved::Later)));
        }
        let Some(live) = self.live.get_mut(&id) else { return Err(Refused::no_such_task(id)) };
        let reply = match result {
            Ok(wish) => {
                let tokens = wish.prompt.saturating_add(u64::from(wish.output));
                live.reserved.tokens = live.reserved.tokens.saturating_add(tokens);
                live.reserved.cost = live.reserved.cost.saturating_add(wish.cost(wish.output));
                agent::Reserved::Output(wish.output)
            }
            Err(UsedUp { over, text }) => {
                live.over = over;
                agent::Reserved::UsedUp(text)
            }
        };
        Ok((vec![], Reply::Reserved(reply)))
    }

    /// What a request may use when what these tasks reserved counts as used.
    fn granted(&self, id: TaskId, mut wish: Wish, now: Now, reserved: impl Fn(TaskId) -> bool) -> Result<Wish, UsedUp> {
        let Some(live) = self.live.get(&id) else { return Ok(wish) };
        if !live.task.is_chat() && live.task.usage.turns >= u64::from(live.task.max_turns) {
            let text = format!("its {} turns are used up", live.task.max_turns);
            return Err(UsedUp { over: "turns".to_owned(), text });
        }
        for one in std::iter::once(id).chain(self.ancestors(id)) {
            self.fits_budget_of(one, id, &mut wish, &reserved)?;
        }
        let (budget, used) = (self.limits.global_budget, self.used_today(now, &reserved));
        if !wish.fits_tokens(budget, used) {
            let text = format!(
                "the budget of {} tokens that all agents have in 24 hours is used up ({} are)",
                thousands(budget),
                thousands(used)
            );
            return Err(UsedUp { over: "global".to_owned(), text });
        }
        Ok(wish)
    }

    /// Lowers a request of `id` to what the budget of `one` leaves.
    fn fits_budget_of(
        &self,
        one: TaskId,
        id: TaskId,
        wish: &mut Wish,
        reserved: impl Fn(TaskId) -> bool,
    ) -> Result<(), UsedUp> {
        let (tokens, cost) = self.budget_of(one);
        if tokens.is_none() && cost.is_none() {
            return Ok(());
        }
        let used = self.used_by_tree(one, reserved);
        let whose = if one == id { "its budget".to_owned() } else { format!("the budget of {}", self.name_of(one)) };
        let over = |kind: &str| if one == id { kind.to_owned() } else { one.to_string() };
        if let Some(budget) = tokens
            && !wish.fits_tokens(budget, used.tokens)
        {
            let (budget, used) = (thousands(budget), thousands(used.tokens));
            return Err(UsedUp {
                over: over("tokens"),
                text: format!("{whose} of {budget} tokens is used up ({used} are)"),
            });
        }
        if let Some(budget) = cost
            && !wish.fits_cost(budget, used.cost)
        {
            let text = match wish.rates {
                Some(_) => format!("{whose} of {} is used up ({} are)", dollars(budget), dollars(used.cost)),
                None => format!("{whose} of {} cannot be kept: nobody knows what its model costs", dollars(budget)),
            };
            return Err(UsedUp { over: over("usd"), text });
        }
        Ok(())
    }

    /// `#12 c4b1e09a`.
    fn name_of(&self, id: TaskId) -> String {
        let number = self.live.get(&id).map(|l| l.task.number).or(self.settled.get(&id).map(|s| s.number));
        format!("task #{} {id}", number.unwrap_or(0))
    }

    fn budget_of(&self, id: TaskId) -> (Option<u64>, Option<u64>) {
        match (self.live.get(&id), self.settled.get(&id).and_then(|s| s.spent.as_ref())) {
            (Some(live), _) => (live.task.budget.tokens, live.task.budget.usd.map(pico)),
            (None, Some(spent)) => (spent.budget_tokens, spent.budget_cost),
            (None, None) => (None, None),
        }
    }

    /// What a task and all that it started have used; and may use by now, with what these `reserved`.
    pub(super) fn used_by_tree(&self, id: TaskId, reserved: impl Fn(TaskId) -> bool) -> Sum {
        let all = std::iter::once(id).chain(self.descendants(id));
        all.fold(Sum::default(), |sum, id| {
            match (self.live.get(&id), self.settled.get(&id).and_then(|s| s.spent.as_ref())) {
                (Some(live), _) => {
                    let cost = live.task.usage.cost_usd.map_or(0, pico);
                    let may = if reserved(id) { live.reserved } else { Reserved::default() };
                    sum.add(live.task.usage.tokens(), cost).add(may.tokens, may.cost)
                }
                (None, Some(spent)) => sum.add(spent.tokens, spent.cost),
                (None, None) => sum,
            }
        })
    }

    /// The tokens that all tasks used in the last 24 hours, and may use by now, with what these `reserved`.
    fn used_today(&self, now: Now, reserved: impl Fn(TaskId) -> bool) -> u64 {
        let hour = hour_of(now);
        // A clock that was wrong for a while must not use up the budget of next year.
        let window = self.hours.range(hour.saturating_sub(DAY)..=hour + 1).map(|(_, tokens)| *tokens);
        let may = self.live.iter().filter(|(id, _)| reserved(**id)).map(|(_, l)| l.reserved.tokens);
        window.chain(may).fold(0, u64::saturating_add)
    }

    /// Counts the tokens of a task's hours for the budget of all, or takes them back.
    pub(super) fn count_hours(&mut self, hours: &[Hour], there: bool) {
        for Hour { hour, tokens } in hours {
            let sum = self.hours.entry(*hour).or_default();
            *sum = if there { sum.saturating_add(*tokens) } else { sum.saturating_sub(*tokens) };
            if *sum == 0 {
                self.hours.remove(hour);
            }
        }
    }

    /// Takes in what an agent reports: all that it used since the beginning of its journal.
    pub(super) fn spend_reported(&mut self, id: TaskId, reported: &Usage, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let task = &mut live.task;
        let own = task.usage.turns.saturating_sub(task.usage_before.turns);
        let own_tokens = task.usage.tokens().saturating_sub(task.usage_before.tokens());
        if reported.turns < own || reported.tokens() < own_tokens {
            // It is another journal.
            task.usage_before = task.usage.clone();
        }
        let usage = plus(&task.usage_before, reported);
        self.spend(id, usage, now);
        self.warn(id, now);
    }

    /// Takes in what a run of a process used, which is known when it has ended.
    pub(super) fn spend_of_run(&mut self, id: TaskId, of_run: &Usage, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        let usage = plus(&live.task.usage_before, of_run);
        self.spend(id, usage, now);
    }

    /// A task has used so much by now.
    fn spend(&mut self, id: TaskId, usage: Usage, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let grown = usage.tokens().saturating_sub(live.task.usage.tokens());
        live.task.usage = usage;
        if grown > 0 {
            let before = live.task.hours.clone();
            note_hour(&mut live.task.hours, hour_of(now), grown);
            let after = live.task.hours.clone();
            self.count_hours(&before, false);
            self.count_hours(&after, true);
        }
        let above: Vec<TaskId> = self.ancestors(id).collect();
        for one in above {
            self.warn(one, now);
        }
    }

    /// Tells the owner once that 80 % of a budget are used.
    fn warn(&mut self, id: TaskId, now: Now) {
        let (tokens, cost) = self.budget_of(id);
        let goes_on = |l: &&Live| !l.task.status.is_ended() && l.phase != Phase::Foreign;
        if self.live.get(&id).filter(goes_on).is_none() || tokens.is_none() && cost.is_none() {
            return;
        }
        let sum = self.used_by_tree(id, |_| false);
        let Some(live) = self.live.get(&id) else { return };
        let most = |used: u64, budget: u64| u128::from(used) * 5 >= u128::from(budget) * 4 && used < budget;
        let mut warned = live.task.budget.warned.unwrap_or_default();
        let mut said = Vec::new();
        let usd = live.task.budget.usd;
        if let Some(budget) = tokens.filter(|b| most(sum.tokens, *b))
            && warned.tokens != tokens
        {
            warned.tokens = tokens;
            said.push(format!("80 % of its budget of {} tokens are used", thousands(budget)));
        }
        if let Some(budget) = cost.filter(|b| most(sum.cost, *b))
            && warned.usd != usd
        {
            warned.usd = usd;
            said.push(format!("80 % of its budget of {} are used", dollars(budget)));
        }
        for text in said {
            self.touch(id);
            if let Some(live) = self.live.get_mut(&id) {
                live.task.budget.warned = Some(warned);
            }
            if self.raise_saying(id, NoticeKind::Budget, "", text, now) {
                let seq = self.marks.seq_used;
                self.emit(Some(id), Effect::Ring(Event::Notice { seq }));
            }
            self.ring(id);
        }
    }

    /// Lets an agent go on that used up its budget.
    pub(super) fn raise_budget(
        &mut self,
        id: TaskId,
        tokens: Option<u64>,
        record: Option<Box<Task>>,
        now: Now,
    ) -> Decision {
        let task =
            self.live_task(id).map(|l| &l.task).or(record.as_deref()).ok_or_else(|| Refused::no_such_task(id))?;
        self.check_mark(task)?;
        if task.status != Status::BudgetExceeded || task.kind != Kind::Agent {
            let message = format!("task {id} is {}; only an agent that used up its budget can be raised", task.status);
            let hint = if task.status.is_ended() {
                format!("`octo task {id} retry` runs it again")
            } else {
                format!("`octo task {id}` shows it")
            };
            return Err(Refused::new(RefusedCode::Conflict, message).hint(hint));
        }
        if tokens == Some(0) {
            return Err(Refused::new(RefusedCode::BadRequest, "no tokens are no raise")
                .hint(format!("`octo task {id} raise` adds the original budget again")));
        }
        if self.shutting_down {
            return Err(Refused::new(RefusedCode::Unavailable, "the daemon is shutting down").hint("try again"));
        }
        let mut task = task.clone();
        raise(&mut task, tokens);
        self.others_leave_room(&task, now)?;
        self.touch(id);
        self.unindex(id);
        task.stop = None;
        task.launches = 0;
        task.error.clear();
        // Its clock stood still.
        task.paused_at = std::mem::take(&mut task.completed_at);
        task.budget.over.clear();
        if let Err(illegal) = task.take(Step::Raise, &stamp(now)) {
            tracing::error!(%id, %illegal, "a raise was refused");
        }
        let mut live = Live::new(task, Phase::Queued);
        live.take_up_clock(now);
        self.insert_live(live);
        self.ring(id);
        Ok((vec![id], self.task_reply(id)))
    }

    /// Refuses a raise that would help nothing: the budget that is used up is another one.
    fn others_leave_room(&self, task: &Task, now: Now) -> Result<(), Refused> {
        let used_up = |text: String, hint: String| Err(Refused::new(RefusedCode::Conflict, text).hint(hint));
        for one in self.ancestors(task.id) {
            let (tokens, cost) = self.budget_of(one);
            let used = self.used_by_tree(one, |_| false);
            let spent = |budget: Option<u64>, used: u64| budget.is_some_and(|b| b.saturating_sub(used) == 0);
            let few = tokens.is_some_and(|b| b.saturating_sub(used.tokens) < u64::from(LEAST));
            if few || spent(cost, used.cost) || task.budget.over == one.as_str() && self.is_over(one) {
                let text = format!("the budget that is used up is that of {}, which started it", self.name_of(one));
                return used_up(text, format!("`octo task {one} raise` raises that one, once it has stopped for it"));
            }
        }
        let used = self.used_today(now, |_| false);
        if self.limits.global_budget.saturating_sub(used) < u64::from(LEAST) {
            let text = format!(
                "the budget that is used up is that of all agents: {} of {} tokens in 24 hours",
                thousands(used),
                thousands(self.limits.global_budget)
            );
            let hint = "wait, or set global_budget of [background_agents] in octo.toml (OCTO_GLOBAL_BUDGET) higher";
            return used_up(text, hint.to_owned());
        }
        Ok(())
    }

    fn is_over(&self, id: TaskId) -> bool {
        self.status_of(id) == Some(Status::BudgetExceeded)
    }
}

/// A further run has the whole budget again: what was used before, by the task and those that it started, stays
/// counted. What a process used in its next run is counted from nothing.
pub(super) fn renew(task: &mut Task, used: Sum) {
    if task.kind == Kind::Process {
        task.usage_before = task.usage.clone();
    }
    let original = original(task);
    task.budget.over.clear();
    if original.tokens.is_none() && original.usd.is_none() && task.kind == Kind::Process {
        return;
    }
    task.budget.tokens = original.tokens.map(|tokens| tokens.saturating_add(used.tokens));
    task.budget.usd = original.usd.map(|usd| usd + to_dollars(used.cost));
    let turns = u32::try_from(task.usage.turns).unwrap_or(u32::MAX);
    task.max_turns = original.turns.saturating_add(turns);
    task.budget.original = Some(original);
}

/// The budget of a task as it was at first.
fn original(task: &Task) -> Original {
    task.budget.original.unwrap_or(Original { tokens: task.budget.tokens, usd: task.budget.usd, turns: task.max_turns })
}

/// Adds to what stopped the task.
fn raise(task: &mut Task, tokens: Option<u64>) {
    let original = original(task);
    let budget = &mut task.budget;
    budget.original = Some(original);
    match budget.over.as_str() {
        "turns" => task.max_turns = task.max_turns.saturating_add(original.turns),
        "usd" => budget.usd = budget.usd.map(|usd| usd + original.usd.unwrap_or(usd)),
        _ => {}
    }
    let again = if matches!(budget.over.as_str(), "tokens" | "") { original.tokens } else { None };
    if let Some(more) = tokens.or(again) {
        budget.tokens = budget.tokens.map(|tokens| tokens.saturating_add(more));
    }
}

fn plus(a: &Usage, b: &Usage) -> Usage {
    let cost_usd = match (a.cost_usd, b.cost_usd) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    };
    Usage {
        input_tokens: a.input_tokens.saturating_add(b.input_tokens),
        output_tokens: a.output_tokens.saturating_add(b.output_tokens),
        cost_usd,
        turns: a.turns.saturating_add(b.turns),
        extra: b.extra.clone(),
    }
}

/// Hours since 1970.
fn hour_of(now: Now) -> u64 {
    u64::try_from(now.wall).unwrap_or(0) / 3_600_000
}

fn note_hour(hours: &mut Vec<Hour>, hour: u64, tokens: u64) {
    match hours.iter_mut().find(|h| h.hour == hour) {
        Some(there) => there.tokens = there.tokens.saturating_add(tokens),
        None => hours.push(Hour { hour, tokens }),
    }
    hours.sort_by_key(|h| h.hour);
    hours.retain(|h| h.hour + DAY >= hour);
    let many = hours.len().saturating_sub(HOURS_MAX);
    hours.drain(..many);
}

#[allow(clippy::cast_precision_loss, reason = "it is shown")]
fn to_dollars(pico: u64) -> f64 {
    pico as f64 / 1e12
}

fn dollars(pico: u64) -> String {
    format!("${:.2}", to_dollars(pico))
}
