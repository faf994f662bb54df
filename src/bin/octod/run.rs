//! The life of the daemon: lock, load, listen, serve, leave.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use octo::agent::hub::Hub;
use octo::api;
use octo::bridge::Board;
use octo::client::{Client, Door};
use octo::command::Refused;
use octo::config::{self, Config};
use octo::exec::Executors;
use octo::exec::process::{ProcessExecutor, Surroundings};
use octo::store::Store;
use octo::supervisor::core::{Core, Limits};
use octo::supervisor::{self, DiskProbe, Pokes};
use octo::trust::Trust;
use octo::watch::Watcher;
use octo::workspace::{self, DaemonLock, Workspace};

use super::Args;
use super::changes::Changes;
use super::telegram;

/// Turns true when the daemon leaves.
type Left = tokio::sync::watch::Receiver<bool>;

/// How long a start waits for a daemon that is just leaving (or for the descriptors of one that was killed).
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Why the daemon does not run.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: String,
    exit: u8,
}

impl Failure {
    pub(crate) fn new(exit: u8, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: hint.into(), exit }
    }

    /// Tells the person and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("error: {}", self.message);
        if !self.hint.is_empty() {
            eprintln!("hint: {}", self.hint);
        }
        ExitCode::from(self.exit)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::new(refused.code.exit(), refused.message, refused.hint)
    }
}

pub(crate) fn found(args: &Args) -> Result<Workspace, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|e| Failure::new(1, format!("the current folder cannot be used: {e}"), "change to one that exists"))?;
    let env = std::env::var_os("OCTO_WORKSPACE");
    let home = directories::BaseDirs::new().map(|d| d.home_dir().to_owned());
    Ok(Workspace::find(args.workspace.as_deref(), env.as_deref(), &cwd, home.as_deref())?)
}

/// Starts a daemon of its own and returns when it is ready.
pub(crate) fn detach(args: &Args) -> Result<(), Failure> {
    let workspace = found(args)?;
    let failed = |e: std::io::Error| Failure::new(3, format!("the daemon could not be started: {e}"), "`octo doctor`");
    let program = std::env::current_exe().map_err(failed)?;
    keep_to_ourselves();
    let mut child = Command::new(program)
        .arg("--workspace")
        .arg(&workspace.root)
        .arg("--tell")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        // Reads to the end of file: `ready`, or nothing when the daemon ended first.
        let _ = out.read_to_string(&mut said);
    }
    if said.trim() == "ready" {
        return Ok(());
    }
    let mut complaint = String::new();
    if let Some(mut err) = child.stderr.take() {
        let _ = err.read_to_string(&mut complaint);
    }
    let code = child.wait().ok().and_then(|s| s.code()).and_then(|c| u8::try_from(c).ok()).unwrap_or(3);
    let field = |name: &str| complaint.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let (mut message, mut hint) = (field("error:"), field("hint:"));
    if message.is_empty() {
        message = "the daemon ended before it was ready".to_owned();
        hint = format!("its log is {}", workspace.octo.join("octod.log").display());
    }
    Err(Failure::new(code, message, hint))
}

/// No descriptor of the caller's goes to the daemon: a pipe or a lock of a script would stay open as long as it lives.
#[allow(unsafe_code)]
fn keep_to_ourselves() {
    use nix::libc::{CLOSE_RANGE_CLOEXEC, c_int, c_uint, close_range};
    // SAFETY: this closes nothing and touches no memory; it only marks descriptors as not to be inherited.
    // A kernel without it (before 5.11) refuses, and all is as it was.
    let _ = unsafe { close_range(3, c_uint::MAX, CLOSE_RANGE_CLOEXEC as c_int) };
}

/// Runs the daemon until it is told to leave.
pub(crate) fn daemon(args: &Args) -> Result<(), Failure> {
    let workspace = found(args)?;
    refuse_below_own_shim(&workspace)?;
    workspace.create()?;
    let lock = lock(&workspace)?;
    prepare_process(args, &workspace)?;
    let runtime = runtime()?;
    let result = runtime.block_on(serve(args, &workspace, &lock));
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(lock);
    result
}

/// How long a start waits for its threads.
const THREAD_PATIENCE: Duration = Duration::from_secs(2);

/// The event loop, and the thread for what may last, both there before anything begins. The loop runs on the
/// main thread alone: a wake of another one costs more than most requests.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let build = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            // They read records and logs. Each may keep an allocation arena of its own for ever, and more of
            // them make no disk faster.
            .max_blocking_threads(8)
            // One is started below and stays: a machine that has no thread to give finds one at work.
            .thread_keep_alive(Duration::from_secs(u64::from(u32::MAX)))
            .enable_all()
            .build()?;
        let one = async { tokio::time::timeout(THREAD_PATIENCE, tokio::task::spawn_blocking(|| ())).await };
        if !matches!(runtime.block_on(one), Ok(Ok(()))) {
            runtime.shutdown_background();
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        Ok::<_, std::io::Error>(runtime)
    };
    let failed =
        |why: &str| Failure::new(3, format!("no threads for the daemon: {why}"), "raise the limit of processes");
    // Where a thread cannot be had tokio panics, and may then wait for it for ever. That is no defect of
    // Octo's, and nothing has begun yet: say so and leave.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |_| {
        let _ = failed("the system gives none").report();
        std::process::exit(3);
    }));
    let built = build();
    std::panic::set_hook(hook);
    built.map_err(|e| failed(&e.to_string()))
}

/// A daemon below a shim of its own workspace would end with that task.
fn refuse_below_own_shim(workspace: &Workspace) -> Result<(), Failure> {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let above = octo::ancestry::shims_above(me).map_err(|e| {
        Failure::new(3, format!("whether this is inside a task cannot be told: {e}"), "raise the limit of open files")
    })?;
    for shim in above {
        if shim.workspace == workspace.root {
            return Err(Failure::new(
                3,
                format!("this is inside task {}, which cannot start its own workspace's daemon", shim.task),
                "start `octo daemon` from outside the task",
            ));
        }
        eprintln!(
            "warning: this daemon runs inside task {} of {} and ends with it",
            shim.task,
            shim.workspace.display()
        );
    }
    Ok(())
}

fn lock(workspace: &Workspace) -> Result<DaemonLock, Failure> {
    DaemonLock::acquire(workspace, LOCK_PATIENCE)
        .map_err(|error| Failure::new(error.exit(), error.to_string(), "`octo status` shows it, `octo stop` stops it"))
}

/// Leaves the terminal and the starter's session; opens the log.
fn prepare_process(args: &Args, workspace: &Workspace) -> Result<(), Failure> {
    let filter = std::env::var("OCTO_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter =
        tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let filter = match octo::agent::mcp::QUIET.parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    if args.tell {
        // Fails only for the leader of a group, which `--detach` does not make of it.
        let _ = nix::unistd::setsid();
        let log = open_log(&workspace.octo.join("octod.log"))
            .map_err(|e| Failure::new(3, format!("the daemon's log cannot be opened: {e}"), "`octo doctor`"))?;
        subscriber.with_writer(Arc::new(log)).init();
    } else {
        subscriber.with_writer(std::io::stderr).init();
    }
    // The umask stays as it is: it is what tasks make their files with. Octo's own files all name their mode.
    let _ = std::env::set_current_dir("/");
    std::panic::set_hook(Box::new(|info| {
        tracing::error!(%info, "a defect in Octo");
        // Without its supervisor the daemon would only look alive. Tasks go on; a new daemon reads the facts.
        if std::thread::current().name() == Some("supervisor") {
            std::process::abort();
        }
    }));
    Ok(())
}

/// A log over this size is put aside at a start; one older generation is kept.
const LOG_MAX: u64 = 8 * 1024 * 1024;

fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if std::fs::metadata(path).is_ok_and(|m| m.len() > LOG_MAX) {
        let _ = std::fs::rename(path, path.with_extension("log.1"));
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Raises the daemon's own limit of open files; returns what it was, for the commands it runs.
fn raise_descriptor_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536).max(soft), hard).ok()?;
    Some(soft)
}

async fn serve(args: &Args, workspace: &Workspace, lock: &DaemonLock) -> Result<(), Failure> {
    let installation =
        octo::trust::installation(&data_dir()?).and_then(|id| octo::trust::bound(&id, workspace)).map_err(|e| {
            Failure::new(1, format!("this installation's mark cannot be read or made: {e}"), "`octo doctor`")
        })?;
    let trust = Trust::load(workspace, &installation);
    let stamp = octo::task::Stamp::from_millis(supervisor::now().wall);
    let _ = trust.establish(workspace, &stamp).inspect_err(|error| tracing::warn!(%error, "the workspace has no mark"));
    let settings = config::Seen::now(workspace);
    let config = Config::load(&config::settings_of(std::env::vars_os()), workspace, &trust);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let store = Store::open(&workspace.octo).map_err(|e| Failure::new(1, e.message, e.hint))?;
    let loaded = store.load().map_err(|e| Failure::new(1, e.message, e.hint))?;
    let _ = octo::run::empty_trash(&workspace.octo).inspect_err(|error| tracing::warn!(%error, "trash stays"));
    link_wrapper(workspace);
    let limits = Limits {
        slots: config.max_concurrent,
        bridges: if config.telegram_token.is_empty() { Vec::new() } else { vec![telegram::NAME.to_owned()] },
        mark: trust.mark.clone(),
        trusted: trust.records(workspace),
        log_quota: config.log_quota,
        reminders: config.reminders.clone(),
        time_zone: jiff::tz::TimeZone::system(),
        agent_budget: config.per_agent_budget,
        global_budget: config.global_budget,
    };
    let mut core = Core::boot(limits, loaded, supervisor::now());
    for warning in &config.warnings {
        core.add_problem(warning.clone());
    }
    for digest in store.env_digests() {
        if !core.env_used(&digest) {
            store.drop_env(&digest);
        }
    }
    let store = Arc::new(store);
    let fail = |what: &str, e: std::io::Error| Failure::new(3, format!("{what}: {e}"), "`octo doctor` may say more");
    let (pokes, inputs) = Pokes::channel();
    let watcher = Watcher::new(pokes.clone()).map_err(|e| fail("runs cannot be watched", e))?;
    let around = surroundings(workspace, &config)?;
    let tasks = workspace.octo.join("tasks");
    let (hub, warnings) = Hub::new(around.clone(), &config);
    for warning in warnings {
        tracing::warn!("{warning}");
        core.add_problem(warning);
    }
    let process = ProcessExecutor::new(around, Arc::clone(&store), watcher.clone(), pokes);
    let exec = Executors::new(process, Arc::new(hub.clone()), tasks.clone());
    let disk = DiskProbe::new(&tasks);
    let octo = std::fs::File::open(&workspace.octo).map_err(|e| fail("the workspace cannot be opened", e))?;
    let octo = Arc::new(octo);
    let socket = workspace.socket().file_name().map(OsString::from).unwrap_or_default();
    let listener = workspace::bind(workspace, lock).map_err(|e| fail("the socket cannot be made", e))?;
    listener.set_nonblocking(true).map_err(|e| fail("the socket cannot be used", e))?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(|e| fail("the socket cannot be used", e))?;
    let handle =
        supervisor::start(core, Arc::clone(&store), exec, inputs, watcher, disk).map_err(|e| fail("no thread", e))?;
    hub.connect(handle.clone());
    octo::supervisor::audit::spawn(handle.clone());
    let board = Arc::new(Board::default());
    let fixed = api::Fixed {
        workspace: workspace.root.clone(),
        octo: workspace.octo.clone(),
        settings: config.settings.clone(),
        started_at: stamp.to_string(),
        installation,
        team: config.team.clone(),
        board: Arc::clone(&board),
        agents: Some(Arc::new(hub.clone())),
        hub: Some(hub.clone()),
    };
    let (state, left) = api::State::new(handle.clone(), fixed);
    let files = settings.paths(workspace);
    let reload = reload(hub.clone(), workspace.clone(), trust);
    Changes { octo: Arc::clone(&octo), socket: socket.clone(), settings, reload }.watch(
        state.clone(),
        &workspace.socket(),
        &files,
    );
    let telegram = (!config.telegram_token.is_empty()).then(|| {
        let setup = telegram_setup(workspace, &config, board, left.clone());
        telegram::start(setup).map_err(|e| fail("the Telegram bridge cannot be started", e))
    });
    let telegram = telegram.transpose()?;
    leave_on_signals(state.clone()).map_err(|e| fail("signals cannot be handled", e))?;
    ready(args);
    tracing::info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "ready");
    api::serve(listener, state, left).await;
    if let Some(bridge) = telegram {
        // It leaves at the same word, and has two seconds for what is on the wire.
        let _ = tokio::task::spawn_blocking(move || bridge.join()).await;
    }
    // Agents stay as their journals say; what they run goes on under its shims.
    let _ = tokio::task::spawn_blocking(move || hub.leave()).await;
    handle.quit().await;
    let _ = rustix::fs::unlinkat(&*octo, &socket, rustix::fs::AtFlags::empty());
    tracing::info!("left; tasks go on");
    Ok(())
}

/// Takes over what agents live by from settings that changed.
fn reload(hub: Hub, workspace: Workspace, trust: Trust) -> Box<dyn Fn() -> Vec<String> + Send> {
    Box::new(move || {
        let config = Config::load(&config::settings_of(std::env::vars_os()), &workspace, &trust);
        hub.settings(&config)
    })
}

fn telegram_setup(workspace: &Workspace, config: &Config, board: Arc<Board>, leaving: Left) -> telegram::Setup {
    let octod = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("octod"));
    let door = Door { workspace: workspace.clone(), octod, inside_task: false };
    let secrets = [&config.telegram_token, &config.anthropic_api_key, &config.openai_api_key, &config.gemini_api_key];
    telegram::Setup {
        token: config.telegram_token.clone(),
        url: config.telegram_api_url.clone(),
        allowed: config.telegram_allowed_users.clone(),
        run: config.telegram_run,
        quiet: config.quiet_hours,
        secrets: secrets.iter().filter(|s| !s.is_empty()).map(|s| s.expose().to_owned()).collect(),
        workspace: workspace.clone(),
        board,
        // It never starts another daemon: it is part of this one.
        client: Client::new(door, telegram::NAME).only_connect(),
        leaving,
    }
}

fn data_dir() -> Result<PathBuf, Failure> {
    directories::ProjectDirs::from("", "", "octo").map(|d| d.data_dir().to_owned()).ok_or_else(|| {
        Failure::new(1, "there is no home folder to keep this installation's mark in", "set HOME or XDG_DATA_HOME")
    })
}

fn surroundings(workspace: &Workspace, config: &Config) -> Result<Surroundings, Failure> {
    let exe = std::env::current_exe().map_err(|e| Failure::new(3, format!("octod cannot find itself: {e}"), ""))?;
    let shim = exe.with_file_name("octo-shim");
    if !shim.exists() {
        return Err(Failure::new(
            3,
            format!("there is no {}", shim.display()),
            "install octo, octod and octo-shim together",
        ));
    }
    let base_env: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(k, _)| k != "NOTIFY_SOCKET" && k != "LISTEN_FDS" && k != "LISTEN_PID").collect();
    Ok(Surroundings {
        workspace: workspace.root.clone(),
        octo: workspace.octo.clone(),
        shim,
        log_quota: config.log_quota,
        open_files: raise_descriptor_limit(),
        base_env,
        exported: vec![
            ("ADDITIONAL_CLAUDE_ARGS".to_owned(), config.claude_args.clone()),
            ("OCTO_CLAUDE_BRIDGE".to_owned(), config.claude_bridge.word().to_owned()),
        ],
        secrets: config::secret_names().map(str::to_owned).collect(),
    })
}

/// `.octo/bin/claude` is a link to `octo`, made anew at each start: the program may have moved.
fn link_wrapper(workspace: &Workspace) {
    let Ok(exe) = std::env::current_exe() else { return };
    let (octo, link) = (exe.with_file_name("octo"), workspace.octo.join("bin").join("claude"));
    if std::fs::read_link(&link).is_ok_and(|to| to == octo) {
        return;
    }
    let temp = link.with_extension("new");
    let _ = std::fs::remove_file(&temp);
    let made = std::os::unix::fs::symlink(&octo, &temp).and_then(|()| std::fs::rename(&temp, &link));
    if let Err(error) = made {
        tracing::warn!(%error, "no `claude` wrapper for tasks");
    }
}

/// Tells whoever waits that commands are taken now.
fn ready(args: &Args) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    if args.tell {
        let _ = std::io::stdout().write_all(b"ready\n").and_then(|()| std::io::stdout().flush());
        if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
    } else {
        eprintln!("octod {} is ready (pid {})", env!("CARGO_PKG_VERSION"), std::process::id());
    }
}

fn leave_on_signals(state: api::State) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                // A terminal that closes is no reason to leave.
                _ = hup.recv() => {}
            }
        }
        state.leave();
    });
    Ok(())
}
