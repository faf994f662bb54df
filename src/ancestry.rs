//! STAND-IN
use crate::task::TaskId;
use crate::workspace::Workspace;
use std::path::PathBuf;
pub struct ShimAbove {
    pub pid: i32,
    pub workspace: PathBuf,
    pub task: TaskId,
    pub run: u32,
}
pub fn shims_above(_pid: i32) -> Vec<ShimAbove> {
    vec![]
}
pub enum Peer {
    Owner,
    Task(Option<TaskId>),
}
pub fn peer_task(_pid: Option<i32>, _ws: &Workspace) -> Peer {
    Peer::Owner
}
