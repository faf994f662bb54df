//! What the machine itself can do: bare spawns, synced writes, and task-spooler where it is installed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::world::{OCTO, Place};

/// The middle one.
pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The one that this share of all are not above.
pub(crate) fn share(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * share).ceil() as usize;
    times.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// A program that does nothing, linked statically: the least that a spawn can cost.
///
/// It is built once; where that is not possible, `/bin/true` stands in for it (and makes limits laxer).
pub(crate) fn bare() -> &'static Path {
    static BARE: OnceLock<PathBuf> = OnceLock::new();
    BARE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (source, program) = (dir.join("bare.rs"), dir.join("bare"));
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = program.exists()
            || fs::write(&source, "fn main() {}\n").is_ok()
                && Command::new(rustc)
                    .args(["-O", "-Ctarget-feature=+crt-static", "-Cpanic=abort", "-Cstrip=symbols", "-o"])
                    .args([&program, &source])
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|s| s.success());
        if built {
            return program;
        }
        println!("no static program could be built; /bin/true stands in for it");
        "/bin/true".into()
    })
}

/// One run of a program, from before its spawn until it was reaped.
pub(crate) fn run(program: &Path, words: &[&str]) -> Result<Duration> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status()?;
    let took = began.elapsed();
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    Ok(took)
}

/// One start of the bare program.
pub(crate) fn spawn() -> Result<Duration> {
    run(bare(), &[])
}

/// One start of the command line that does nothing else.
pub(crate) fn cli_start() -> Result<Duration> {
    run(Path::new(OCTO), &["--version"])
}

/// About as long as a record.
const RECORD: usize = 1200;

/// One durable write: temp file, sync, rename, sync of the folder.
pub(crate) fn durable_write(dir: &Path, name: &str) -> Result<Duration> {
    let bytes = [b'x'; RECORD];
    let began = Instant::now();
    let temp = dir.join(format!(".{name}.tmp"));
    let mut file = File::create(&temp)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temp, dir.join(name))?;
    File::open(dir)?.sync_all()?;
    Ok(began.elapsed())
}

/// How many threads work on what the machine can do in parallel: as many as the bulk row has slots.
const THREADS: usize = 8;

/// Jobs a second, `THREADS` at a time.
fn rate(jobs: usize, job: impl Fn(usize) -> Result<()> + Sync) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= jobs {
                    return Ok(());
                }
                job(n)?;
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

/// Bare spawns a second, as many at a time as there are slots.
pub(crate) fn spawns_a_second() -> Result<f64> {
    rate(2000, |_| spawn().map(drop))
}

/// Durable writes a second, as many at a time as there are slots.
pub(crate) fn durable_writes_a_second() -> Result<f64> {
    let place = Place::new("writes")?;
    rate(2000, |n| durable_write(place.path(), &format!("r{n}")).map(drop))
}

/// task-spooler, with a queue of its own.
pub(crate) struct Spooler {
    program: PathBuf,
    place: Place,
}

impl Spooler {
    /// `None` when it is not installed.
    pub(crate) fn start(slots: usize) -> Result<Option<Spooler>> {
        let dirs = std::env::var_os("PATH").unwrap_or_default();
        let Some(program) = std::env::split_paths(&dirs).map(|d| d.join("tsp")).find(|p| p.exists()) else {
            return Ok(None);
        };
        let spooler = Spooler { program, place: Place::new("tsp")? };
        spooler.says(&["-S", &slots.to_string()])?;
        Ok(Some(spooler))
    }

    /// `tsp` with these words; a socket's path must be short, so it is named relative to the place.
    pub(crate) fn tsp(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.place.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("TS_SOCKET", format!("/tmp/octo-bench-tsp.{}", std::process::id()));
        command.env("TMPDIR", self.place.path()).env("TS_MAXFINISHED", "5000");
        command
    }

    pub(crate) fn says(&self, words: &[&str]) -> Result<String> {
        let output = self.tsp(words).stdout(Stdio::piped()).output()?;
        if !output.status.success() {
            bail!("tsp {} ended with {}", words.join(" "), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub(crate) fn finished(&self) -> Result<usize> {
        Ok(self.says(&["-l"])?.lines().filter(|l| l.split_whitespace().nth(1) == Some("finished")).count())
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        let _ = self.tsp(&["-K"]).status();
    }
}
