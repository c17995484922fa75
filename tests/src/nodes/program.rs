//! The shipped programs, `terminator` and `worker`, as processes that a claim may kill, freeze or end in good order.
//!
//! They are asked for port 0 and say on stdout where they listen; what they log is kept, and printed when a claim fails.
//! `COUNTERSIGN_TEST_PROGRAMS` names a folder with programs to use instead of those of this build.

use std::{
    collections::BTreeMap,
    env, fs,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;
use shared::service::announcement::Announcement;

use super::process::{Process, Signal, freeze, is_alive};
use super::watchdog::Folder;
use crate::servers::http;
use crate::wait::eventually;

/// From start to `/readyz`: a connection to the broker and to the store, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Which of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Holds the sockets.
    Terminator,
    /// A terminator whose clock is ahead by so many seconds, or behind: `src/bin/skewed-terminator.rs`.
    SkewedTerminator(i64),
    /// Validates, decides, handles, answers.
    Worker,
    /// A worker whose handler does the harm that a message asks for: `src/bin/poisoned-worker.rs`.
    PoisonedWorker,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Terminator => "terminator",
            Self::SkewedTerminator(_) => "skewed-terminator",
            Self::Worker => "worker",
            Self::PoisonedWorker => "poisoned-worker",
        }
    }
}

/// One running (or ended) program. Dies with this value.
#[derive(Debug)]
pub struct Program {
    kind: Kind,
    process: Process,
    addresses: OnceLock<Addresses>,
    folder: Folder,
}

#[derive(Debug)]
struct Addresses {
    client: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Program {
    /// Starts a program with `settings` by their names, as in `("hold-ttl", "5s")`. It inherits no other setting of
    /// ours. Does not wait: see [`Program::ready`], and [`Program::wait_exit`] for one that must refuse its settings.
    #[must_use]
    pub fn spawn(kind: Kind, settings: &[(String, String)]) -> Self {
        Self::spawn_with_flags(kind, settings, &[])
    }

    /// The same, with flags on its command line.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn spawn_with_flags(kind: Kind, settings: &[(String, String)], flags: &[&str]) -> Self {
        Self::spawn_from(programs(), kind, settings, flags)
    }

    /// The same of the programs in a folder, as those of another version.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn spawn_from(programs: &Path, kind: Kind, settings: &[(String, String)], flags: &[&str]) -> Self {
        let folder = Folder::new(kind.name());
        let mut command = Command::new(programs.join(kind.name()));
        env::vars_os()
            .filter(|(name, _)| name.to_string_lossy().starts_with("COUNTERSIGN_"))
            .for_each(|(name, _)| _ = command.env_remove(name));
        command
            .args(flags)
            .current_dir(folder.path())
            .env("COUNTERSIGN_LOG_FORMAT", "json")
            .envs(settings.iter().map(|(name, value)| (variable(name), value)))
            .stdout(File::create(folder.join("stdout")).expect("a file for stdout"))
            .stderr(File::create(folder.join("stderr")).expect("a file for stderr"));
        if let Kind::SkewedTerminator(seconds) = kind {
            command.env("TESTS_CLOCK_AHEAD_S", seconds.to_string());
        }
        Self {
            kind,
            process: Process::spawn(&mut command),
            addresses: OnceLock::new(),
            folder,
        }
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// If it ends instead, or is not ready in two minutes.
    pub async fn ready(&mut self) {
        let what = format!("the {} is ready", self.kind.name());
        eventually(READY_LIMIT, &what, async || {
            let ended = self.process.exit_status();
            assert!(
                ended.is_none(),
                "the {} ended at its start: {ended:?}",
                self.kind.name()
            );
            self.is_ready().await
        })
        .await;
    }

    /// Whether `/readyz` answers 200 now.
    ///
    /// # Errors
    /// What it answered instead.
    pub async fn is_ready(&self) -> Result<(), String> {
        let addresses = self.listening().ok_or("it does not say yet where it listens")?;
        match http::get(addresses.admin, "/readyz").await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether it has said where it listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.listening().is_some()
    }

    /// Where a terminator takes clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listening()
            .and_then(|addresses| addresses.client)
            .expect("a terminator that said where it listens")
    }

    /// Where the administration pages are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.listening().expect("a program that said where it listens").admin
    }

    /// `GET` from the administration pages.
    ///
    /// # Panics
    /// If there is no HTTP answer.
    pub async fn get(&self, path: &str) -> http::Answer {
        http::get(self.admin(), path)
            .await
            .expect("the administration pages answer")
    }

    /// Every sample of `/metrics`, by name with labels as in `messages_total{outcome="ok"}`.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        parse_metrics(&self.get("/metrics").await.body)
    }

    /// The sum of all samples named `name`, whatever their labels; 0 if there are none.
    pub async fn metric(&self, name: &str) -> f64 {
        let samples = self.metrics().await;
        samples
            .iter()
            .filter(|(sample, _)| sample.split('{').next() == Some(name))
            .map(|(_, value)| value)
            .sum()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive(self.id())
    }

    /// Kills it, as a crash or a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it: its sockets stay open, and nothing answers. Returns when it stands still.
    pub async fn freeze(&mut self) {
        freeze(self.id()).await;
    }

    /// Lets a frozen one go on.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::Continue);
    }

    /// Asks for an orderly end, as `kill`, systemd and Kubernetes do.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::Terminate);
    }

    /// Has it read all its files again, as `systemctl reload` does.
    pub fn reload(&mut self) {
        self.process.signal(Signal::Hangup);
    }

    /// Asks for the same as [`terminate`](Self::terminate), as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.process.signal(Signal::Interrupt);
    }

    /// Whether it has ended, by itself or by force.
    pub fn has_ended(&mut self) -> bool {
        self.process.exit_status().is_some()
    }

    /// Waits until it has ended by itself.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait_exit(limit).await
    }

    /// What it printed on stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.folder.join("stdout"))
    }

    /// What it printed on stderr so far, as text: the claim that something is *not* in the log looks here.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.folder.join("stderr"))
    }

    /// How many lines of its log so far have this message.
    #[must_use]
    pub fn logged(&self, message: &str) -> usize {
        let lines = self.log();
        lines.iter().filter(|line| line["message"] == message).count()
    }

    /// The errors in its log so far, by their messages.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let errors = self.log().into_iter().filter(|line| line["level"] == "ERROR");
        errors
            .filter_map(|line| line["message"].as_str().map(str::to_owned))
            .collect()
    }

    /// Its log so far: the lines of stderr that are JSON objects.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        self.stderr()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(Value::is_object)
            .collect()
    }

    fn listening(&self) -> Option<&Addresses> {
        if self.addresses.get().is_none()
            && let Some(addresses) = self.stdout().split_inclusive('\n').find_map(parse_listening)
        {
            let _ = self.addresses.set(addresses);
        }
        self.addresses.get()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {} {}, stdout:\n{}", self.kind.name(), self.id(), self.stdout());
            eprintln!("---- {} {}, stderr:\n{}", self.kind.name(), self.id(), self.stderr());
        }
    }
}

/// The environment variable of a setting: `hold-ttl` is `COUNTERSIGN_HOLD_TTL`.
fn variable(setting: &str) -> String {
    format!("COUNTERSIGN_{}", setting.to_uppercase().replace('-', "_"))
}

/// Understands what a program announces. A line that has no end yet may be half an address.
fn parse_listening(line: &str) -> Option<Addresses> {
    let told = Announcement::read(line.strip_suffix('\n')?)?;
    let address = |url: String| url.split_once("://")?.1.parse().ok();
    Some(Addresses {
        client: told.sockets.into_iter().find_map(address),
        admin: told.admin.and_then(address)?,
    })
}

/// Reads the text format of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>). No sample has
/// a timestamp here.
fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The folder of the programs, built by the same profile as this test unless named by the environment. Building is left
/// to cargo, each time the tests start: a claim about a stale program is worth nothing.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        if let Some(folder) = env::var_os("COUNTERSIGN_TEST_PROGRAMS") {
            return folder.into();
        }
        // target/<profile>/deps/claims-<hash>
        let test = env::current_exe().expect("the path of this test");
        let folder = test.ancestors().nth(2).expect("a target folder").to_owned();
        let profile = folder.file_name().and_then(|name| name.to_str()).expect("a profile");
        let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--locked", "--workspace", "--bins", "--profile"])
            .arg(if profile == "debug" { "dev" } else { profile })
            .arg("--target-dir")
            .arg(folder.parent().expect("a target folder"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo starts");
        assert!(built.success(), "the programs do not build");
        folder
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_on_stdout_tells_the_ports() {
        let both = parse_listening("listening on ws://127.0.0.1:4711 admin http://127.0.0.1:4712\n").unwrap();
        assert_eq!(both.client.unwrap().port(), 4711);
        assert_eq!(both.admin.port(), 4712);
        let one = parse_listening("listening on admin http://127.0.0.1:4713\n").unwrap();
        assert_eq!((one.client, one.admin.port()), (None, 4713));
        assert!(parse_listening("listening nowhere\n").is_none());
        assert!(parse_listening("listening on admin http://127.0.0.1:471").is_none());
    }

    #[test]
    fn metrics_keep_their_labels() {
        let samples = parse_metrics("# TYPE a counter\na{b=\"c d\"} 2\na{b=\"e\"} 3.5\n\nf 1e3\n");
        assert_eq!(
            samples.into_iter().collect::<Vec<_>>(),
            [
                ("a{b=\"c d\"}".into(), 2.0),
                ("a{b=\"e\"}".into(), 3.5),
                ("f".into(), 1000.0)
            ]
        );
    }

    #[test]
    fn a_setting_is_passed_under_its_contract_name() {
        assert_eq!(variable("jwt-max-size"), "COUNTERSIGN_JWT_MAX_SIZE");
    }
}
