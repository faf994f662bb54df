//! A deputy waits in this process's place: `octo-shim --wait`, see `shim/wait.rs` for the other half.
//!
//! It gets the connection with the request already sent, and the command line of an `octo` that goes on where this
//! one stopped. What that one has to know is in one word of it ([`Vigil`]'s text): times are those of the
//! clock that never jumps, in milliseconds.

use std::ffi::{CString, OsString};
use std::fmt;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::{POLL, Vigil, record_path};
use crate::client::{ANSWER_WITHIN, Client, start};
use crate::command::TaskRef;

/// Who waits instead.
#[derive(Debug, Clone)]
pub struct Deputy {
    /// The program `octo`, by a path that can be executed again.
    pub octo: PathBuf,
    /// The program `octo-shim`.
    pub shim: PathBuf,
}

impl Deputy {
    /// The deputy of a program; `None` when it has none beside it, or has itself no file any more.
    #[must_use]
    pub fn of(octo: PathBuf) -> Option<Deputy> {
        let shim = octo.with_file_name("octo-shim");
        (octo.is_absolute() && octo.exists() && shim.exists()).then_some(Deputy { octo, shim })
    }

    /// Asks for the task's end and lets the deputy read the answer. Returns when that is not possible.
    pub(super) fn take_over(&self, client: &Client, task: &TaskRef, vigil: &Vigil) {
        let _ = self.try_take_over(client, task, vigil);
    }

    fn try_take_over(&self, client: &Client, task: &TaskRef, vigil: &Vigil) -> Option<()> {
        let asked = Instant::now();
        let path = record_path(task, Some(vigil.left()), vigil).ok()?;
        let vigil = Vigil { asked: Some(asked), ..vigil.clone() };
        let workspace = client.workspace();
        let words = [
            self.shim.as_os_str().to_owned(),
            "--wait".into(),
            self.octo.as_os_str().to_owned(),
            "--workspace".into(),
            workspace.root.as_os_str().to_owned(),
            "task".into(),
            task.0.clone().into(),
            "wait".into(),
            OsString::from(format!("--goes-on={vigil}")),
        ];
        let words: Vec<CString> = words.iter().map(|w| CString::new(w.as_bytes())).collect::<Result<_, _>>().ok()?;
        let mut stream = start::connect(workspace).ok()?;
        let left = vigil.deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
        let limit = left.min(POLL + ANSWER_WITHIN).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(limit)).ok()?;
        let surface = &client.surface;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: octo\r\nx-octo-client: {surface}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let before = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok();
        rustix::stdio::dup2_stdin(&stream).ok()?;
        let _ = nix::unistd::execv(words.first()?, &words);
        rustix::stdio::dup2_stdin(before?).ok()
    }
}

/// Milliseconds of the clock that counts from the start of the machine.
fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// `DEADLINE,ASKED,RUN:QUESTION,...`; a time that is not set is `-`.
impl fmt::Display for Vigil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clock, now) = (clock(), Instant::now());
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let text = |at: Option<Instant>| match at {
            Some(at) if at > now => clock.saturating_add(millis(at - now)).to_string(),
            Some(at) => clock.saturating_sub(millis(now - at)).to_string(),
            None => "-".to_owned(),
        };
        write!(f, "{},{}", text(self.deadline), text(self.asked))?;
        self.told.iter().try_for_each(|(run, question)| write!(f, ",{run}:{question}"))
    }
}

/// Says what a vigil's text must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is written by octo itself, for itself")]
pub struct NoVigil;

impl FromStr for Vigil {
    type Err = NoVigil;

    fn from_str(text: &str) -> Result<Vigil, NoVigil> {
        let (clock, now) = (clock(), Instant::now());
        let time = |word: Option<&str>| match word.ok_or(NoVigil)? {
            "-" => Ok(None),
            word => {
                let at: u64 = word.parse().map_err(|_| NoVigil)?;
                let moment = if at > clock {
                    now.checked_add(Duration::from_millis(at - clock))
                } else {
                    now.checked_sub(Duration::from_millis(clock - at))
                };
                moment.ok_or(NoVigil).map(Some)
            }
        };
        let mut words = text.split(',');
        let (deadline, asked) = (time(words.next())?, time(words.next())?);
        let told = words.map(|word| {
            let (run, question) = word.split_once(':').ok_or(NoVigil)?;
            Ok((run.parse().map_err(|_| NoVigil)?, question.to_owned()))
        });
        Ok(Vigil { deadline, asked, told: told.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vigil_survives_its_text() {
        let now = Instant::now();
        let near = |a: Option<Instant>, b: Option<Instant>| match (a, b) {
            (Some(a), Some(b)) => a.max(b) - a.min(b) <= Duration::from_millis(50),
            (a, b) => a == b,
        };
        for vigil in [
            Vigil::default(),
            Vigil {
                deadline: Some(now + Duration::from_secs(86_400)),
                asked: Some(now - Duration::from_millis(30)),
                told: vec![(1, "q1".to_owned()), (2, "q2".to_owned())],
            },
            Vigil { deadline: Some(now - Duration::from_secs(1)), ..Vigil::default() },
        ] {
            let read: Vigil = vigil.to_string().parse().unwrap();
            assert!(near(read.deadline, vigil.deadline) && near(read.asked, vigil.asked), "{vigil} {read:?}");
            assert_eq!(read.told, vigil.told);
        }
        for bad in ["", "-", "x,-", "-,-,", "-,-,q1", "-,-,x:q1", "-1,-"] {
            assert_eq!(bad.parse::<Vigil>(), Err(NoVigil), "{bad}");
        }
    }
}
