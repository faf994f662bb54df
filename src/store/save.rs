//! The group commit: many writes, one sync.
//!
//! 1. Environments and marks, which records rely on and which change rarely, are written under temp names,
//!    synced, renamed, and their folders synced.
//! 2. Every new record is written under a temp name: a disk without room says so here, for each by itself.
//! 3. All records, removals and launches become one frame of the journal, which is synced: from now on they
//!    hold, all of them.
//! 4. Records are renamed or unlinked in the order of the batch.
//!
//! An item that fails in step 1 or 2 is out, with those that belong together with it; the others go on. A
//! failing step 3 fails them all, and nothing of them is to be seen.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, IFlags, Mode};
use rustix::io::Errno;

use super::disk::{self, Temp};
use super::error::{SaveError, words};
use super::journal::Frame;
use super::{Marks, Store, Write, env, locked, record};
use crate::task::{SCHEMA, Task, TaskId};

/// So many records are written by several threads, each in a folder of its own: one folder takes one new file at a
/// time.
const MANY: usize = 64;

/// As many threads at most.
const WRITERS: usize = 4;

/// How many files of older records wait to be used again.
const USED_KEPT: usize = 64;

/// Which folder a file lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Tasks,
    Envs,
    Octo,
}

impl Place {
    fn label(self) -> &'static str {
        match self {
            Place::Tasks => "tasks/",
            Place::Envs => "env/",
            Place::Octo => "",
        }
    }
}

/// A new file on its way.
#[derive(Debug)]
struct File<'a> {
    place: Place,
    stem: String,
    name: String,
    bytes: Vec<u8>,
    /// Of a record.
    task: Option<&'a Task>,
}

#[derive(Debug)]
enum Item<'a> {
    Put(File<'a>),
    Remove(TaskId),
    Launch(TaskId, u32),
    /// Already on disk.
    Done,
}

type Outcome = Result<(), SaveError>;

impl Store {
    /// Makes a batch of writes durable; one result for each, in order. The tasks of each group in `together`
    /// are saved all or not at all.
    ///
    /// An item that failed did not happen, and what was there before is still there; see
    /// [`SaveError::maybe_visible`] for the one exception. A record fails along with its environment when both
    /// are in the batch, a removal along with the marks, and a launch along with its record. Records of a newer
    /// schema, records that would be too large to be read again, and records whose bad file could not be set
    /// aside are refused.
    pub fn save(&self, batch: &[Write], together: &[Vec<TaskId>]) -> Vec<Outcome> {
        let _still = locked(&self.moving);
        let (items, mut outcomes): (Vec<_>, Vec<_>) = batch
            .iter()
            .map(|write| match self.prepare(write) {
                Ok(item) => (item, Ok(())),
                Err(e) => (Item::Done, Err(e)),
            })
            .unzip();
        let mut temps = self.write_temps(&items, &mut outcomes);
        self.commit_files(Place::Envs, &items, &mut temps, &mut outcomes);
        self.commit_files(Place::Octo, &items, &mut temps, &mut outcomes);
        self.remember(batch, &outcomes);
        fail_dependants(batch, &items, together, &mut outcomes);
        self.take_back_lines(&items, &outcomes);
        self.commit_tasks(&items, &mut temps, &mut outcomes);
        outcomes
    }

    fn prepare<'a>(&self, write: &'a Write) -> Result<Item<'a>, SaveError> {
        match write {
            Write::Task(task) => self.prepare_task(task),
            Write::Launch { id, run } => {
                self.refuse_frozen(*id, "launched")?;
                Ok(Item::Launch(*id, *run))
            }
            Write::Remove(id) => {
                self.refuse_frozen(*id, "removed")?;
                Ok(Item::Remove(*id))
            }
            Write::Env { digest, env } => self.prepare_env(digest, env),
            Write::Marks(marks) => {
                let bytes = self.marks_bytes(*marks)?;
                Ok(Item::Put(File::plain(Place::Octo, "marks", "marks.json", bytes)))
            }
        }
    }

    fn prepare_task<'a>(&self, task: &'a Task) -> Result<Item<'a>, SaveError> {
        let name = record::name(task.id);
        self.refuse_frozen(task.id, "changed")?;
        if task.schema > SCHEMA {
            let why = record::newer(u64::from(task.schema));
            return Err(SaveError::new(format!("tasks/{name} cannot be changed: {why}")));
        }
        let mut bytes = serde_json::to_vec_pretty(task)
            .map_err(|e| SaveError::new(format!("tasks/{name} cannot be written as JSON: {e}")))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > record::RECORD_MAX {
            return Err(SaveError::new(format!(
                "tasks/{name} would be {} bytes long; a record may have {}",
                bytes.len(),
                record::RECORD_MAX
            )));
        }
        let stem = task.id.to_string();
        Ok(Item::Put(File { place: Place::Tasks, stem, name, bytes, task: Some(task) }))
    }

    fn prepare_env<'a>(&self, digest: &str, env: &crate::command::Env) -> Result<Item<'a>, SaveError> {
        if locked(&self.durable_envs).contains(digest) {
            return Ok(Item::Done);
        }
        if digest != env::env_digest(env) {
            return Err(SaveError::new(format!("an environment does not have the digest `{digest}`")));
        }
        let bytes = env::bytes_of(env);
        if bytes.len() as u64 > env::ENV_MAX {
            return Err(SaveError::new(format!("an environment of {} bytes is too large to keep", bytes.len())));
        }
        Ok(Item::Put(File::plain(Place::Envs, digest, digest, bytes)))
    }

    fn marks_bytes(&self, marks: Marks) -> Result<Vec<u8>, SaveError> {
        // Marks never go down, whatever order they are saved in.
        serde_json::to_vec(&marks.max(*locked(&self.marks)))
            .map_err(|e| SaveError::new(format!("marks.json cannot be written: {e}")))
    }

    fn refuse_frozen(&self, id: TaskId, verb: &str) -> Outcome {
        if locked(&self.frozen).contains(&id) {
            let why = "its file was not understood and is still in its place";
            return Err(SaveError::new(format!("tasks/{id}.json cannot be {verb}: {why}")));
        }
        Ok(())
    }

    fn dir(&self, place: Place) -> BorrowedFd<'_> {
        match place {
            Place::Tasks => self.tasks.as_fd(),
            Place::Envs => self.envs.as_fd(),
            Place::Octo => self.octo.as_fd(),
        }
    }

    /// Writes all new files under temp names. Each is closed before the next: a large batch needs few descriptors.
    fn write_temps<'s>(&'s self, items: &[Item<'_>], outcomes: &mut [Outcome]) -> Vec<Option<Temp<'s>>> {
        let mut temps: Vec<_> = items.iter().map(|_| None).collect();
        if !items.iter().any(Item::is_of_a_task) {
            self.write_share(items, outcomes, &mut temps, None);
            return temps;
        }
        let writers = self.writers();
        let (first, others) = match writers {
            [first, others @ ..] if items.len() >= MANY => (first, others),
            _ => {
                self.write_share(items, outcomes, &mut temps, writers.first());
                return temps;
            }
        };
        let share = items.len().div_ceil(writers.len());
        std::thread::scope(|scope| {
            let mut shares = items.chunks(share).zip(outcomes.chunks_mut(share)).zip(temps.chunks_mut(share));
            let mine = shares.next();
            for (((items, outcomes), temps), dir) in shares.zip(others) {
                let job = Arc::new(Mutex::new(Some((outcomes, temps))));
                let theirs = Arc::clone(&job);
                let write = move || {
                    if let Some((outcomes, temps)) = locked(&theirs).take() {
                        self.write_share(items, outcomes, temps, Some(dir));
                    }
                };
                if std::thread::Builder::new().name("writer".to_owned()).spawn_scoped(scope, write).is_err() {
                    // No thread to be had: it is done here.
                    if let Some((outcomes, temps)) = locked(&job).take() {
                        self.write_share(items, outcomes, temps, Some(dir));
                    }
                }
            }
            if let Some(((items, outcomes), temps)) = mine {
                self.write_share(items, outcomes, temps, Some(first));
            }
        });
        temps
    }

    /// Writes some of the files; new records in the folder `dir` if one is given.
    fn write_share<'s>(
        &'s self,
        items: &[Item<'_>],
        outcomes: &mut [Outcome],
        temps: &mut [Option<Temp<'s>>],
        dir: Option<&'s OwnedFd>,
    ) {
        for ((item, outcome), temp) in items.iter().zip(outcomes).zip(temps) {
            let Some(file) = item.file() else { continue };
            let written = match (file.place, dir) {
                (Place::Tasks, dir) => self.write_record(file, dir),
                (Place::Envs | Place::Octo, _) => Temp::write(self.dir(file.place), &file.stem, &file.bytes, true),
            };
            *temp = written.map_err(|e| *outcome = Err(file.error(e))).ok();
        }
    }

    /// A folder for each thread that writes new records; made when they are needed first.
    ///
    /// Their names are new ones each time, and `spare/` is marked as one whose folders have nothing to do with
    /// each other: ext4 then puts each folder, and what is made in it, where there is most room, and not where
    /// many files were deleted a moment ago, which it would have to look at one by one (a file system without a
    /// journal does so for minutes).
    fn writers(&self) -> &[OwnedFd] {
        self.writers.get_or_init(|| {
            if let Ok(flags) = rustix::fs::ioctl_getflags(&self.spare) {
                let _ = rustix::fs::ioctl_setflags(&self.spare, flags | IFlags::TOPDIR);
            }
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(WRITERS);
            let folder = |_| -> rustix::io::Result<OwnedFd> {
                let name = format!("writer-{}", uuid::Uuid::new_v4().simple());
                disk::retry(|| rustix::fs::mkdirat(&self.spare, name.as_str(), Mode::from_raw_mode(0o700)))?;
                disk::open_dir(&self.spare, name.as_str())
            };
            (0..threads).map(folder).collect::<rustix::io::Result<_>>().unwrap_or_default()
        })
    }

    /// Writes a record: into a file that held an older one if there is one, since making and deleting files costs
    /// a disk more; else into a new one in the folder `dir`.
    fn write_record<'s>(&'s self, file: &File<'_>, dir: Option<&'s OwnedFd>) -> rustix::io::Result<Temp<'s>> {
        let used = locked(&self.used).pop();
        if let Some(temp) = used.and_then(|name| Temp::write_again(self.spare.as_fd(), name, &file.bytes).ok()) {
            return Ok(temp);
        }
        match Temp::write(dir.unwrap_or(&self.spare).as_fd(), &file.stem, &file.bytes, false) {
            // Somebody deleted that folder.
            Err(Errno::NOENT) => Temp::write(self.tasks.as_fd(), &file.stem, &file.bytes, false),
            written => written,
        }
    }

    /// Renames a record, which the journal holds already, to its real name.
    fn put_record(&self, file: &File<'_>, temp: Temp<'_>) -> Outcome {
        let failed = |e| SaveError { maybe_visible: true, ..file.error(e) };
        if self.tasks_elsewhere {
            drop(temp);
            let tasks = self.tasks.as_fd();
            let temp = Temp::write(tasks, &file.stem, &file.bytes, false).map_err(failed)?;
            return temp.put(&file.name).map_err(failed);
        }
        // Only a record that was saved before has a file whose place it takes.
        if file.task.is_none_or(|task| task.rev <= 1) || temp.is_in(self.tasks.as_fd()) {
            return temp.put_into(self.tasks.as_fd(), &file.name).map_err(failed);
        }
        if let Some(old) = temp.exchange(self.tasks.as_fd(), &file.name).map_err(failed)? {
            let mut used = locked(&self.used);
            if used.len() < USED_KEPT {
                // All wait in one folder.
                used.extend(old.rename_into(self.spare.as_fd()).ok());
            }
        }
        Ok(())
    }

    /// Step 1: puts the files of one place there and syncs it, if there are any.
    fn commit_files(&self, place: Place, items: &[Item<'_>], temps: &mut [Option<Temp<'_>>], outcomes: &mut [Outcome]) {
        let mut put = vec![false; items.len()];
        for (((item, temp), outcome), put) in items.iter().zip(temps).zip(outcomes.iter_mut()).zip(&mut put) {
            let Some(file) = item.file().filter(|f| f.place == place) else { continue };
            let Some(temp) = temp.take() else { continue };
            *outcome = temp.put(&file.name).map_err(|e| file.error(e));
            *put = outcome.is_ok();
        }
        self.sync_place(place, items, &put, outcomes);
    }

    /// Steps 3 and 4.
    fn commit_tasks(&self, items: &[Item<'_>], temps: &mut [Option<Temp<'_>>], outcomes: &mut [Outcome]) {
        let mut frame = Frame::default();
        for (item, _) in items.iter().zip(outcomes.iter()).filter(|(_, outcome)| outcome.is_ok()) {
            match item {
                Item::Put(File { task: Some(task), bytes, .. }) => frame.put(task.id, bytes, task.status.is_ended()),
                Item::Remove(id) => frame.remove(*id),
                Item::Launch(id, run) => frame.launch(*id, *run),
                Item::Put(_) | Item::Done => {}
            }
        }
        if frame.is_empty() {
            return;
        }
        let mut journal = locked(&self.journal);
        let saved = journal.append(&frame);
        for ((item, temp), outcome) in items.iter().zip(temps).zip(outcomes) {
            if outcome.is_err() {
                continue;
            }
            *outcome = match (saved, item) {
                (Err(failed), Item::Put(_) | Item::Remove(_) | Item::Launch(..)) if item.is_of_a_task() => {
                    let error = SaveError::io(failed.errno, format!("saving {}", item.label()));
                    Err(SaveError { maybe_visible: !failed.gone, ..error })
                }
                (_, Item::Remove(id)) => self.unlink(*id),
                (_, Item::Put(file)) => temp.take().map_or(Ok(()), |temp| self.put_record(file, temp)),
                (_, Item::Launch(..) | Item::Done) => Ok(()),
            };
        }
        if saved.is_ok() {
            journal.applied();
        }
    }

    fn unlink(&self, id: TaskId) -> Outcome {
        let name = record::name(id);
        match disk::retry(|| rustix::fs::unlinkat(&self.tasks, name.as_str(), AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // The journal says that it is gone: after a power cut it would be.
            Err(e) => Err(SaveError { maybe_visible: true, ..SaveError::io(e, format!("removing tasks/{name}")) }),
        }
    }

    fn sync_place(&self, place: Place, items: &[Item<'_>], changed: &[bool], outcomes: &mut [Outcome]) {
        if !changed.contains(&true) {
            return;
        }
        let Err(errno) = disk::sync(self.dir(place)) else { return };
        for ((item, changed), outcome) in items.iter().zip(changed).zip(outcomes) {
            if *changed {
                let message = format!("{} while syncing the folder of {}", words(errno), item.label());
                *outcome = Err(SaveError { message, maybe_visible: true });
            }
        }
    }

    fn remember(&self, batch: &[Write], outcomes: &[Outcome]) {
        for (write, _) in batch.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            match write {
                Write::Env { digest, .. } => {
                    locked(&self.durable_envs).insert(digest.clone());
                }
                Write::Marks(marks) => {
                    let mut known = locked(&self.marks);
                    *known = known.max(*marks);
                }
                Write::Task(_) | Write::Remove(_) | Write::Launch { .. } => {}
            }
        }
    }

    /// Before a record changes, its line in the index goes: see the module's doc.
    fn take_back_lines(&self, items: &[Item<'_>], outcomes: &[Outcome]) {
        let changing = items.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
        let ids = changing.filter_map(|(item, _)| match item {
            Item::Put(file) => file.task.map(|task| task.id),
            Item::Remove(_) | Item::Launch(..) | Item::Done => None,
        });
        locked(&self.index).take_back(ids);
    }
}

/// A record fails with the environment that it names, a removal with the marks that remember its number, all of
/// a group with one of them, a launch with its record.
fn fail_dependants(batch: &[Write], items: &[Item<'_>], together: &[Vec<TaskId>], outcomes: &mut [Outcome]) {
    let mut bad_envs: Vec<(&str, String)> = Vec::new();
    let mut bad_marks = None;
    for (write, outcome) in batch.iter().zip(outcomes.iter()) {
        match (write, outcome) {
            (Write::Env { digest, .. }, Err(e)) => bad_envs.push((digest, e.message.clone())),
            (Write::Marks(_), Err(e)) => bad_marks = Some(e.message.clone()),
            (Write::Env { .. } | Write::Marks(_) | Write::Task(_) | Write::Remove(_) | Write::Launch { .. }, _) => {}
        }
    }
    for (item, outcome) in items.iter().zip(outcomes.iter_mut()).filter(|(_, outcome)| outcome.is_ok()) {
        let cause = match item {
            Item::Put(File { task: Some(task), .. }) => bad_envs.iter().find(|(d, _)| *d == task.env).map(|(_, m)| m),
            Item::Remove(_) => bad_marks.as_ref(),
            Item::Put(_) | Item::Launch(..) | Item::Done => None,
        };
        if let Some(cause) = cause {
            *outcome = Err(SaveError::new(cause.clone()));
        }
    }
    if outcomes.iter().all(Result::is_ok) {
        return;
    }
    let mut bad: HashMap<TaskId, SaveError> =
        batch.iter().zip(outcomes.iter()).filter_map(|(w, o)| Some((w.task()?, o.clone().err()?))).collect();
    for group in together {
        if let Some(error) = group.iter().find_map(|id| bad.get(id)).cloned() {
            bad.extend(group.iter().map(|id| (*id, error.clone())));
        }
    }
    for (write, outcome) in batch.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
        if let Some(error) = write.task().and_then(|id| bad.get(&id)) {
            *outcome = Err(error.clone());
        }
    }
}

impl<'a> File<'a> {
    fn plain(place: Place, stem: &str, name: &str, bytes: Vec<u8>) -> Self {
        File { place, stem: stem.to_owned(), name: name.to_owned(), bytes, task: None }
    }

    fn error(&self, errno: Errno) -> SaveError {
        let (place, name) = (self.place.label(), &self.name);
        if errno == Errno::NOENT {
            return SaveError::new(format!("{place}{name} cannot be saved: its folder was deleted"));
        }
        SaveError::io(errno, format!("saving {place}{name}"))
    }
}

impl<'a> Item<'a> {
    fn file(&self) -> Option<&File<'a>> {
        match self {
            Item::Put(file) => Some(file),
            Item::Remove(_) | Item::Launch(..) | Item::Done => None,
        }
    }

    fn label(&self) -> String {
        match self {
            Item::Put(file) => format!("{}{}", file.place.label(), file.name),
            Item::Remove(id) => format!("tasks/{id}.json"),
            Item::Launch(id, run) => format!("the launch of run {run} of {id}"),
            Item::Done => String::new(),
        }
    }

    /// Tells whether it goes through the journal.
    fn is_of_a_task(&self) -> bool {
        match self {
            Item::Put(file) => file.task.is_some(),
            Item::Remove(_) | Item::Launch(..) => true,
            Item::Done => false,
        }
    }
}
