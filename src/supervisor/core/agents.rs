use super::{Core, NewTask, Now, commands::Decision};
use crate::command::{Refused, RefusedCode};
use crate::exec::agent::{AgentReport, Reserve};
use crate::task::{Task, TaskId};

impl Core {
    pub(super) fn agent_report(&mut self, _: AgentReport, _: Now) -> Decision {
        soon()
    }
    pub(super) fn reserve(&mut self, _: &Reserve, _: Now) -> Decision {
        soon()
    }
    pub(super) fn raise_budget(&mut self, _: TaskId, _: Option<u64>, _: Option<Box<Task>>, _: Now) -> Decision {
        soon()
    }
    pub(super) fn chat(&mut self, _: NewTask, _: Now) -> Decision {
        soon()
    }
}

fn soon() -> Decision {
    Err(Refused::new(RefusedCode::Unsupported, "this version of Octo runs no agents yet"))
}
