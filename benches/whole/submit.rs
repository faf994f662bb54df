//! A single task: how soon its id is there, and how soon its command runs.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::inotify;

use crate::world::{Place, World};
use crate::yard::{cli_start, durable_write, median, spawn};
use crate::{Row, ms};

const ROUNDS: usize = 60;

/// `octo bg true` until it has printed the id.
pub(crate) fn submit() -> Result<Vec<Row>> {
    let world = World::new("submit", 3)?;
    let place = Place::new("submit-write")?;
    let (mut ours, mut cli, mut write) = (vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        cli.push(cli_start()?);
        write.push(durable_write(place.path(), &format!("r{round}"))?);
        ours.push(world.time(&["bg", "true"])?);
        world.settle()?;
    }
    let (cli, write) = (median(&mut cli), median(&mut write));
    let beside = format!("CLI start {} + durable write {}", ms(cli), ms(write));
    let limit = (cli + write).mul_f64(1.3);
    Ok(vec![Row::at_most("submit", median(&mut ours), beside, limit, "<= 1.3 x the sum")])
}

/// From before `octo bg` is spawned until the command makes a file.
pub(crate) fn first_instruction() -> Result<Vec<Row>> {
    let world = World::new("first", 3)?;
    let (place, marks) = (Place::new("first-write")?, Place::new("first-marks")?);
    let (mut ours, mut cli, mut write, mut bare) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        cli.push(cli_start()?);
        write.push(durable_write(place.path(), &format!("r{round}"))?);
        bare.push(spawn()?);
        ours.push(until_made(&world, &marks, round)?);
        world.settle()?;
    }
    let (cli, write, bare) = (median(&mut cli), median(&mut write), median(&mut bare));
    let beside = format!("CLI {} + write {} + 2 x spawn {}", ms(cli), ms(write), ms(bare));
    let limit = (cli + write + 2 * bare).mul_f64(1.5);
    Ok(vec![Row::at_most("submit to first instruction", median(&mut ours), beside, limit, "<= 1.5 x the sum")])
}

fn until_made(world: &World, marks: &Place, round: usize) -> Result<Duration> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, marks.path(), inotify::WatchFlags::CREATE)?;
    let line = format!(": > {}", marks.path().join(format!("m{round}")).display());
    let mut command = world.octo(&["bg", &line]);
    let began = Instant::now();
    let mut child = command.spawn()?;
    let mut event = [0_u8; 512];
    rustix::io::read(&watch, &mut event)?;
    let took = began.elapsed();
    child.wait()?;
    Ok(took)
}
