//! What the kernel and the user bring along.

use rustix::process::{PidfdFlags, geteuid, getpid, pidfd_open};

use super::Finding;

pub(super) fn all() -> Vec<Finding> {
    let children = std::fs::read("/proc/thread-self/children").is_ok();
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).is_ok();
    vec![user(geteuid().is_root()), descendants(children), pidfds(pidfd)]
}

pub(super) fn user(is_root: bool) -> Finding {
    if is_root {
        Finding::warn(
            "this is root: every task has all rights on this machine",
            "run Octo as an ordinary user unless this is a throw-away container",
        )
    } else {
        Finding::ok("this is an ordinary user")
    }
}

pub(super) fn descendants(readable: bool) -> Finding {
    if readable {
        Finding::ok("/proc lists the children of a process")
    } else {
        Finding::warn(
            "/proc does not list the children of a process",
            "stopping a task falls back to a slower search; mount /proc, on a kernel with CONFIG_PROC_CHILDREN",
        )
    }
}

pub(super) fn pidfds(work: bool) -> Finding {
    if work {
        Finding::ok("the kernel knows process descriptors")
    } else {
        Finding::error(
            "the kernel knows no process descriptors (pidfd), so nothing can be stopped safely",
            "use Linux 5.3 or newer, or a container that allows pidfd_open",
        )
    }
}
