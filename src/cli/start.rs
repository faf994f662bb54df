//! What every start has in common: the options, the folder and the environment it is sent from, and what is told of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, World, wait};
use crate::client::{Client, Vigil};
use crate::command::{Refused, RefusedCode, StartRequest, Started, TaskRef};
use crate::render::parse_duration;
use crate::task::{NotifyPolicy, Task};

/// The options that processes and agents share.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Options {
    /// What you call the task
    #[arg(long, value_name = "T")]
    name: Option<String>,
    /// The folder to run in [default: the current one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Sets a variable; K alone takes its value from here (may repeat)
    #[arg(long, value_name = "K[=V]")]
    env: Vec<OsString>,
    /// Stops the task after so long
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    timeout: Option<u64>,
    /// Waits for another task to complete first (may repeat)
    #[arg(long, value_name = "ID")]
    after: Vec<String>,
    /// Which notices you want: all, end, failures, none
    #[arg(long, value_name = "WHICH", default_value = "all", hide_default_value = true)]
    notify: NotifyPolicy,
    /// Leaves alone what the task's commands left behind when it ends
    #[arg(long)]
    leave_children: bool,
    /// Lets the task start others
    #[arg(long)]
    allow_dispatch: bool,
    /// Prints the record as JSON instead of the id
    #[arg(long)]
    json: bool,
    /// Waits for the end; exits 0 when the task completed
    #[arg(long)]
    wait: bool,
}

impl Options {
    /// The part of the request that all tasks of one call share.
    pub(super) fn request(&self, world: &World) -> Result<StartRequest, Refused> {
        Ok(StartRequest {
            name: self.name.clone().unwrap_or_default(),
            cwd: folder(world, self.cwd.as_deref())?,
            env: Some(world.env()),
            env_overrides: overrides(world, &self.env)?,
            timeout: self.timeout.unwrap_or(0),
            after: self.after.iter().cloned().map(TaskRef).collect(),
            notify: self.notify,
            leave_children: self.leave_children,
            allow_dispatch: self.allow_dispatch,
            ..StartRequest::default()
        })
    }

    /// Prints the ids, or the records, and waits for the ends where that is wanted. The records of a batch are a list,
    /// also where there is one.
    pub(super) async fn tell(&self, world: &World, started: Vec<Started>, is_batch: bool) -> Result<(), Failure> {
        if !self.json {
            let ids: String = started.iter().map(|s| format!("{}\n", s.instance_id)).collect();
            world.print(ids)?;
        } else if !self.wait {
            return print_records(world, is_batch, started.into_iter().map(|s| s.task).collect());
        }
        if self.wait { self.wait_for_all(world, is_batch, &started).await } else { Ok(()) }
    }

    async fn wait_for_all(&self, world: &World, is_batch: bool, started: &[Started]) -> Result<(), Failure> {
        let id = |one: &Started| TaskRef(one.instance_id.to_string());
        if let [one] = started
            && !self.json
        {
            return wait::run(world, &id(one), Vigil::default()).await;
        }
        let mut ended = Vec::new();
        for one in started {
            if let Some(task) = wait::until_end(world, &id(one)).await? {
                ended.push(task);
            }
        }
        let verdict = ended.iter().try_for_each(|task| wait::verdict(world, task));
        if self.json {
            print_records(world, is_batch, ended)?;
        }
        verdict
    }
}

/// Starts one task in the current folder, with this environment.
///
/// # Errors
/// The daemon's refusal, or that the current folder cannot be used.
pub async fn start_one(world: &World, client: &Client, request: StartRequest) -> Result<Started, Refused> {
    let here = Options::default().request(world)?;
    client.start(StartRequest { cwd: here.cwd, env: here.env, ..request }).await
}

fn print_records(world: &World, is_batch: bool, records: Vec<Task>) -> Result<(), Failure> {
    match records.as_slice() {
        [one] if !is_batch => world.print_json(one),
        _ => world.print_json(&records),
    }
}

/// The folder to run in.
fn folder(world: &World, named: Option<&Path>) -> Result<String, Refused> {
    let folder = match named {
        Some(dir) => world.cwd()?.join(dir),
        None => world.cwd()?.to_owned(),
    };
    folder.into_os_string().into_string().map_err(|dir| {
        usage(format!("the folder {} has a name that is no UTF-8", Path::new(&dir).display()))
            .hint("run in another folder and `cd` in the command")
    })
}

/// Reads `--env K=V` and `--env K`.
fn overrides(world: &World, given: &[OsString]) -> Result<BTreeMap<String, String>, Refused> {
    let mut set = BTreeMap::new();
    for one in given {
        let Some(text) = one.to_str() else {
            return Err(usage("--env: what is no UTF-8 cannot be set".to_owned())
                .hint("set it in the command itself, or in the environment of `octo`"));
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (text, value_here(world, text)?),
        };
        if name.is_empty() {
            return Err(usage(format!("--env {text}: a variable needs a name")).hint("write --env NAME=VALUE"));
        }
        set.insert(name.to_owned(), value);
    }
    Ok(set)
}

fn value_here(world: &World, name: &str) -> Result<String, Refused> {
    let value = world.vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let value = value.ok_or_else(|| {
        usage(format!("--env {name}: {name} is not set here"))
            .hint(format!("write --env {name}=VALUE, or set and export {name} first"))
    })?;
    value.into_string().map_err(|_| {
        usage(format!("--env {name}: its value is no UTF-8"))
            .hint(format!("leave --env {name} out: the command gets the caller's environment as it is"))
    })
}

/// A usage error.
pub(super) fn usage(message: String) -> Refused {
    Refused::new(RefusedCode::BadRequest, message)
}

/// An amount of money that can be spent.
pub(super) fn dollars(text: &str) -> Result<f64, String> {
    let amount = text.strip_prefix('$').unwrap_or(text).parse::<f64>();
    amount.ok().filter(|x| x.is_finite() && *x > 0.0).ok_or_else(|| "an amount like 0.50 is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_more_than_nothing_and_less_than_everything() {
        assert_eq!((dollars("0.5"), dollars("$2")), (Ok(0.5), Ok(2.0)));
        for bad in ["0", "-1", "inf", "NaN", "x", "", "1,50", "$$1"] {
            assert!(dollars(bad).is_err(), "{bad}");
        }
    }
}
