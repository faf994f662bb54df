//! The group commit: many writes, one sync of the folder.
//!
//! 1. Every new file is written under a temp name and synced; up to [`SYNCERS`] at a time, since a disk syncs
//!    several files in little more time than one.
//! 2. Environments and marks are renamed and their folders synced: what a record relies on comes first.
//! 3. Records are renamed or unlinked in the order of the batch, and `tasks/` is synced once.
//!
//! An item that fails in any step is out; the others go on.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::disk::{self, Temp};
use super::error::{SaveError, words};
use super::{Marks, Store, Write, env, intent, locked, record};
use crate::task::{SCHEMA, Task, TaskId};

/// How many files are synced at the same time.
const SYNCERS: usize = 8;

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
    /// Of a record: its folder, and the environment that it names.
    task: Option<TaskId>,
    folder: bool,
    env: &'a str,
}

#[derive(Debug)]
enum Item<'a> {
    Put(File<'a>),
    Remove(TaskId),
    /// Already on disk.
    Done,
}

type Outcome = Result<(), SaveError>;

impl Store {
    /// Makes a batch of writes durable; one result for each, in order.
    ///
    /// An item that failed did not happen, and what was there before is still there; see
    /// [`SaveError::maybe_visible`] for the one exception. A record fails along with its environment when both
    /// are in the batch, and a removal along with the marks. Records of a newer schema, records that would be
    /// too large to be read again, and records whose bad file could not be set aside are refused.
    pub fn save(&self, batch: &[Write]) -> Vec<Outcome> {
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
        fail_dependants(batch, &items, &mut outcomes);
        self.take_back_lines(&items, &outcomes);
        self.commit_tasks(&items, &mut temps, &mut outcomes);
        outcomes
    }

    fn prepare<'a>(&self, write: &'a Write) -> Result<Item<'a>, SaveError> {
        match write {
            Write::Task { task, folder } => self.prepare_task(task, *folder),
            Write::Remove(id) => {
                self.refuse_frozen(*id, "removed")?;
                Ok(Item::Remove(*id))
            }
            Write::Env { digest, env } => self.prepare_env(digest, env),
            Write::Intent(tasks) => prepare_intent(tasks),
            Write::Marks(marks) => {
                let bytes = self.marks_bytes(*marks)?;
                Ok(Item::Put(File::plain(Place::Octo, "marks", "marks.json", bytes)))
            }
        }
    }

    fn prepare_task<'a>(&self, task: &'a Task, folder: bool) -> Result<Item<'a>, SaveError> {
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
        Ok(Item::Put(File { place: Place::Tasks, stem, name, bytes, task: Some(task.id), folder, env: &task.env }))
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

    /// Step 1. A worker closes each file before it takes the next one: a large batch needs few descriptors.
    fn write_temps<'s>(&'s self, items: &[Item<'_>], outcomes: &mut [Outcome]) -> Vec<Option<Temp<'s>>> {
        let files: Vec<(usize, &File<'_>)> =
            items.iter().enumerate().filter_map(|(at, i)| Some((at, i.file()?))).collect();
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(files.len()));
        let work = || {
            while let Some((at, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let temp = Temp::write(self.dir(file.place), &file.stem, &file.bytes);
                locked(&done).push((*at, temp));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..files.len().min(SYNCERS) {
                // No more threads to be had: those that run do the work.
                if std::thread::Builder::new().name("octo-sync".to_owned()).spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        let mut temps: Vec<_> = items.iter().map(|_| None).collect();
        for (at, temp) in done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            let (Some(slot), Some(outcome), Some(file)) =
                (temps.get_mut(at), outcomes.get_mut(at), items.get(at).and_then(Item::file))
            else {
                continue;
            };
            match temp {
                Ok(temp) => *slot = Some(temp),
                Err(e) => *outcome = Err(file.error(e)),
            }
        }
        temps
    }

    /// Step 2: puts the files of one place there and syncs it, if there are any.
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

    /// Step 3.
    fn commit_tasks(&self, items: &[Item<'_>], temps: &mut [Option<Temp<'_>>], outcomes: &mut [Outcome]) {
        let mut changed = vec![false; items.len()];
        for (((item, temp), outcome), changed) in items.iter().zip(temps).zip(outcomes.iter_mut()).zip(&mut changed) {
            if outcome.is_err() {
                continue;
            }
            let step = match item {
                Item::Remove(id) => self.unlink(*id),
                Item::Put(file) => match temp.take() {
                    Some(temp) => self.put_record(file, temp),
                    None => continue,
                },
                Item::Done => continue,
            };
            *changed = step.is_ok();
            *outcome = step;
        }
        self.sync_place(Place::Tasks, items, &changed, outcomes);
    }

    /// Makes the folder and renames the record; a folder that was made for nothing is taken away again.
    fn put_record(&self, file: &File<'_>, temp: Temp<'_>) -> Outcome {
        let folder = file.task.filter(|_| file.folder);
        let made = match folder {
            Some(id) => self.make_folder(id)?,
            None => false,
        };
        temp.put(&file.name).map_err(|e| {
            if let Some(id) = folder.filter(|_| made) {
                let _ = rustix::fs::unlinkat(&self.tasks, id.as_str(), AtFlags::REMOVEDIR);
            }
            file.error(e)
        })
    }

    fn make_folder(&self, id: TaskId) -> Result<bool, SaveError> {
        let made = disk::retry(|| rustix::fs::mkdirat(&self.tasks, id.as_str(), Mode::from_raw_mode(0o700)));
        match made {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&self.tasks, id.as_str(), AtFlags::SYMLINK_NOFOLLOW);
                match stat.map(|s| FileType::from_raw_mode(s.st_mode)) {
                    Ok(FileType::Directory) => Ok(false),
                    Ok(_) => Err(SaveError::new(format!("tasks/{id} is in the way: it is no folder"))),
                    Err(e) => Err(SaveError::io(e, format!("looking at the folder tasks/{id}"))),
                }
            }
            Err(e) => Err(SaveError::io(e, format!("making the folder tasks/{id}"))),
        }
    }

    fn unlink(&self, id: TaskId) -> Outcome {
        let name = record::name(id);
        match disk::retry(|| rustix::fs::unlinkat(&self.tasks, name.as_str(), AtFlags::empty())) {
            // Synced all the same: an earlier removal may have failed at the sync.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(SaveError::io(e, format!("removing tasks/{name}"))),
        }
    }

    fn sync_place(&self, place: Place, items: &[Item<'_>], changed: &[bool], outcomes: &mut [Outcome]) {
        if !changed.contains(&true) || crate::sabotage::broken("no_folder_fsync") {
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
                Write::Task { .. } | Write::Remove(_) | Write::Intent(_) => {}
            }
        }
    }

    /// Before a record changes, its line in the index goes: see the module's doc.
    fn take_back_lines(&self, items: &[Item<'_>], outcomes: &[Outcome]) {
        let changing = items.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
        let ids = changing.filter_map(|(item, _)| match item {
            Item::Put(file) => file.task,
            Item::Remove(_) | Item::Done => None,
        });
        locked(&self.index).take_back(ids);
    }
}

fn prepare_intent<'a>(tasks: &[Task]) -> Result<Item<'a>, SaveError> {
    let Some(first) = tasks.first() else { return Ok(Item::Done) };
    let bytes = serde_json::to_vec(tasks).map_err(|e| SaveError::new(format!("a batch cannot be written: {e}")))?;
    if bytes.len() as u64 > intent::INTENT_MAX {
        return Err(SaveError::new(format!("a batch of {} bytes is too large", bytes.len())));
    }
    Ok(Item::Put(File::plain(Place::Octo, "batch", &intent::name(first.id), bytes)))
}

/// A record fails with the environment that it names, a removal with the marks that remember its number.
fn fail_dependants(batch: &[Write], items: &[Item<'_>], outcomes: &mut [Outcome]) {
    let mut bad_envs: Vec<(&str, String)> = Vec::new();
    let mut bad_marks = None;
    for (write, outcome) in batch.iter().zip(outcomes.iter()) {
        match (write, outcome) {
            (Write::Env { digest, .. }, Err(e)) => bad_envs.push((digest, e.message.clone())),
            (Write::Marks(_), Err(e)) => bad_marks = Some(e.message.clone()),
            (Write::Env { .. } | Write::Marks(_) | Write::Task { .. } | Write::Remove(_) | Write::Intent(_), _) => {}
        }
    }
    for (item, outcome) in items.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
        let cause = match item {
            Item::Put(file) if file.task.is_some() => bad_envs.iter().find(|(d, _)| *d == file.env).map(|(_, m)| m),
            Item::Remove(_) => bad_marks.as_ref(),
            Item::Put(_) | Item::Done => None,
        };
        if let Some(cause) = cause {
            *outcome = Err(SaveError::new(cause.clone()));
        }
    }
}

impl<'a> File<'a> {
    fn plain(place: Place, stem: &str, name: &str, bytes: Vec<u8>) -> Self {
        File { place, stem: stem.to_owned(), name: name.to_owned(), bytes, task: None, folder: false, env: "" }
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
            Item::Remove(_) | Item::Done => None,
        }
    }

    fn label(&self) -> String {
        match self {
            Item::Put(file) => format!("{}{}", file.place.label(), file.name),
            Item::Remove(id) => format!("tasks/{id}.json"),
            Item::Done => String::new(),
        }
    }
}
