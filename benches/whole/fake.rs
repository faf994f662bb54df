//! What this program does when a task of a bench runs it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// The word that makes this program a task.
pub(crate) const STAMPER: &str = "--stamp-lines";

/// Nanoseconds of the clock that all processes share.
pub(crate) fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Acts as a helper if this program was started as one.
pub(crate) fn helper() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(STAMPER) {
        return None;
    }
    let lines: usize = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
    Some(match stamp(lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Writes so many lines, each the moment of its write, with pauses between them.
fn stamp(lines: usize) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for _ in 0..lines {
        std::thread::sleep(Duration::from_millis(10));
        let line = format!("{}\n", clock());
        out.write_all(line.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}
