//! A process's life: start, the signal to end, the drain, the exit status.
//!
//! Anyone who runs us (systemd, Kubernetes, a person at a terminal) tells us to end by
//! SIGTERM or SIGINT and expects us to finish what we have begun, but not to take
//! for ever: so a drain has a deadline, and a second signal ends it at once.
//! [`run`] is all of a `main` but what the program itself does:
//!
//! ```no_run
//! # use shared::service::config::{BrokerConfig, Config, LogConfig, Program};
//! # use shared::service::lifecycle::{self, Drained, Signals};
//! # shared::settings! { pub struct GateConfig { use logging: LogConfig, } }
//! # impl Config for GateConfig {
//! #     const PROGRAM: Program = Program { name: "gate", version: "1", about: "A gate", examples: "" };
//! #     fn logging(&self) -> &LogConfig { &self.logging }
//! # }
//! fn main() -> std::process::ExitCode {
//!     lifecycle::run(std::env::args_os().skip(1), serve)
//! }
//!
//! async fn serve(config: GateConfig, mut signals: Signals) -> std::io::Result<Drained> {
//!     // Build, announce, then wait for the signal and drain.
//!     signals.next().await;
//!     Ok(signals.drain(std::time::Duration::from_secs(20), async { /* finish */ }).await)
//! }
//! ```

use std::ffi::OsString;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::config::{self, Config, Loaded, LogFormat};
pub use super::exit_status::{EXIT_CONFIG, EXIT_FAILURE};
use super::reload::reload_on;
use super::telemetry;

/// How long tasks that were left behind may take to notice that the runtime ends.
const RUNTIME_SHUTDOWN: Duration = Duration::from_secs(1);

/// How long the last lines of the log may take, if standard error takes any.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Runs a program from its configuration to its exit status. `args` are its flags, without its name.
///
/// Loads the configuration from `args` and the process's environment, starts the log, installs the
/// crypto provider, and runs `program` to its end. The status is 0 after a drain that was complete (or
/// after `--help`), [`EXIT_FAILURE`] after one that was not and after an error, [`EXIT_CONFIG`] if the
/// configuration is wrong.
pub fn run<C, P, F, E>(args: impl IntoIterator<Item = OsString>, program: P) -> ExitCode
where
    C: Config,
    P: FnOnce(C, Signals) -> F,
    F: Future<Output = Result<Drained, E>>,
    E: Display,
{
    let config = match load::<C>(args) {
        Ok(config) => config,
        Err(status) => return status,
    };
    let outcome = start(&config).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let cannot_listen = |error| format!("cannot listen for signals: {error}");
            let signals = Signals::listen().map_err(cannot_listen)?;
            tokio::spawn(reload_on(signal(SignalKind::hangup()).map_err(cannot_listen)?));
            // An error of anyhow tells its whole chain in this form, others their text.
            program(config, signals).await.map_err(|error| format!("{error:#}"))
        });
        runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
        outcome
    });
    let status = match outcome {
        Ok(Drained::Complete) => ExitCode::SUCCESS,
        Ok(Drained::DeadlinePassed | Drained::Interrupted) => ExitCode::from(EXIT_FAILURE),
        Err(error) => {
            tracing::error!(error, "the program failed");
            ExitCode::from(EXIT_FAILURE)
        }
    };
    telemetry::flush(LOG_FLUSH);
    status
}

/// Ends the process for settings that prove wrong at the start, such as a file that cannot be used, as it ends for any
/// other wrong setting: [`EXIT_CONFIG`], and what is wrong on standard error. Nothing may have been begun yet.
pub fn refuse_settings(error: &dyn std::error::Error) -> ! {
    use std::io::Write;
    if telemetry::writes_json() {
        error.to_string().lines().for_each(|line| tracing::error!("{line}"));
    }
    telemetry::flush(LOG_FLUSH);
    if !telemetry::writes_json() {
        // There is no one else to tell if standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{error}");
    }
    std::process::exit(i32::from(EXIT_CONFIG))
}

/// The configuration of this process's own arguments and environment, or the status to exit with, everything having been
/// printed: 0 after `--help` and its like, [`EXIT_CONFIG`] if the configuration is wrong.
fn load<C: Config>(args: impl IntoIterator<Item = OsString>) -> Result<C, ExitCode> {
    use std::io::Write;
    let args: Vec<_> = args.into_iter().collect();
    match config::load(args.clone(), std::env::vars_os()) {
        Ok(Loaded::Run(config)) => Ok(config),
        Ok(Loaded::Print(text)) => {
            let mut stdout = io::stdout().lock();
            match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
                // A reader that has gone away (`--help | head -1`) is no failure.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    tell(LogFormat::Text, &format!("cannot write to standard output: {error}"));
                    Err(ExitCode::from(EXIT_FAILURE))
                }
                _ => Err(ExitCode::SUCCESS),
            }
        }
        Err(errors) => {
            tell(config::log_format::<C>(args, std::env::vars_os()), &errors.to_string());
            Err(ExitCode::from(EXIT_CONFIG))
        }
    }
}

/// Tells what goes wrong before there is a log, as the log would: each line of text, or each as an object.
fn tell(format: LogFormat, text: &str) {
    use std::io::Write;
    let mut stderr = io::stderr().lock();
    for line in text.lines() {
        // There is no one else to tell if standard error is closed.
        let _ = match format {
            LogFormat::Text => writeln!(stderr, "{line}"),
            LogFormat::Json => writeln!(stderr, "{}", serde_json::json!({"level": "ERROR", "message": line})),
        };
    }
}

fn start<C: Config>(config: &C) -> Result<tokio::runtime::Runtime, String> {
    if let Err(error) = telemetry::init(config.logging()) {
        tell(config.logging().log_format, &error.to_string());
        return Err(error.to_string());
    }
    tracing::info!(program = C::PROGRAM.name, version = C::PROGRAM.version, "starting");
    install_crypto_provider().map_err(|error| error.to_string())?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    try_threads(workers + THREADS_BESIDE, THREAD_STACK).map_err(|error| {
        let wanted = workers + THREADS_BESIDE;
        format!("cannot start {wanted} threads: {error}: the limit of tasks is too low (TasksMax, ulimit -u, the container's)")
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start the runtime: {error}"))
}

/// The runtime starts threads for names and files besides, when it has to.
const THREADS_BESIDE: usize = 2;

/// What each thread of the runtime has for its stack: tokio's default, in bytes.
const THREAD_STACK: usize = 2 << 20;

/// Starts so many threads, and ends them. The runtime panics at the first that the system refuses it.
fn try_threads(count: usize, stack: usize) -> io::Result<()> {
    let gate = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        // None ends before all are there.
        let closed = gate.lock();
        let start = || {
            std::thread::Builder::new()
                .stack_size(stack)
                .spawn_scoped(scope, || drop(gate.lock()))
        };
        let started: io::Result<Vec<_>> = (0..count).map(|_| start()).collect();
        drop(closed);
        // Each counts until it is gone, and not only until it has done what it does.
        started?.into_iter().for_each(|thread| drop(thread.join()));
        Ok(())
    })
}

/// The signals that ask this process to end.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens for SIGTERM and SIGINT, which from now on end the process only if someone acts on them.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal. Safe to be cancelled.
    pub async fn next(&mut self) {
        let signal = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal, "asked to stop");
    }

    /// Runs `work`, which ends what has been begun, until it is done, `deadline` has passed or another
    /// signal comes, and logs which it was.
    pub async fn drain(&mut self, deadline: Duration, work: impl Future<Output = ()>) -> Drained {
        drain(deadline, work, self.next()).await
    }
}

/// How a drain came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything that was begun is finished.
    Complete,
    /// Something was not finished in time.
    DeadlinePassed,
    /// Something was not finished when a second signal came.
    Interrupted,
}

async fn drain(deadline: Duration, work: impl Future<Output = ()>, hurry: impl Future<Output = ()>) -> Drained {
    tokio::select! {
        // Work that is done counts as done, whatever else happened in the same moment.
        biased;
        () = work => {
            tracing::info!("drained");
            Drained::Complete
        }
        () = hurry => {
            tracing::warn!("the drain was cut short by a second signal");
            Drained::Interrupted
        }
        () = tokio::time::sleep(deadline) => {
            let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(deadline_ms, "the drain did not finish by its deadline");
            Drained::DeadlinePassed
        }
    }
}

/// Another crypto provider was installed before ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another TLS crypto provider is installed in this process already")]
pub struct AnotherCryptoProvider;

/// Makes `aws_lc_rs` the provider of TLS's cryptography in this process. May be called again.
///
/// Several crates bring a provider each; where none or two are installed, rustls panics at the first
/// connection. So it is done first, and once.
///
/// # Errors
/// If someone else has installed one.
pub fn install_crypto_provider() -> Result<(), AnotherCryptoProvider> {
    static INSTALLED: OnceLock<Result<(), AnotherCryptoProvider>> = OnceLock::new();
    let install = || rustls::crypto::aws_lc_rs::default_provider().install_default();
    *INSTALLED.get_or_init(|| install().map_err(|_| AnotherCryptoProvider))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_when_the_work_is_done() {
        let started = tokio::time::Instant::now();
        let work = tokio::time::sleep(Duration::from_secs(3));
        assert_eq!(drain(DEADLINE, work, pending()).await, Drained::Complete);
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_never_outlasts_its_deadline() {
        let started = tokio::time::Instant::now();
        assert_eq!(drain(DEADLINE, pending(), pending()).await, Drained::DeadlinePassed);
        assert_eq!(started.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_a_drain_at_once() {
        let started = tokio::time::Instant::now();
        assert_eq!(drain(DEADLINE, pending(), ready(())).await, Drained::Interrupted);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn sigterm_and_sigint_are_heard_and_do_not_kill() {
        let mut signals = Signals::listen().unwrap();
        for name in ["-TERM", "-INT"] {
            let pid = std::process::id().to_string();
            assert!(
                std::process::Command::new("kill")
                    .args([name, &pid])
                    .status()
                    .unwrap()
                    .success()
            );
            tokio::time::timeout(Duration::from_secs(10), signals.next())
                .await
                .unwrap();
        }
    }

    #[test]
    fn threads_that_the_system_refuses_are_told_and_do_not_panic() {
        assert!(try_threads(4, THREAD_STACK).is_ok());
        // No one has that much memory for a stack.
        assert!(try_threads(1, 1 << 60).is_err());
    }

    #[test]
    fn the_crypto_provider_can_be_asked_for_twice() {
        assert_eq!(install_crypto_provider(), Ok(()));
        assert_eq!(install_crypto_provider(), Ok(()));
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
