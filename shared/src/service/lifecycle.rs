//! A process's life: start, the signal to end, the drain, the exit status.
//!
//! Whoever runs us (systemd, Kubernetes, a person at a terminal) tells us to end by
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
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::config::{self, Config};
pub use super::exit_status::{EXIT_CONFIG, EXIT_FAILURE};
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
    let config = match config::load_or_exit_code::<C>(args) {
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
        // There is nobody else to tell if standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{error}");
    }
    std::process::exit(i32::from(EXIT_CONFIG))
}

fn start<C: Config>(config: &C) -> Result<tokio::runtime::Runtime, String> {
    if let Err(error) = telemetry::init(config.logging()) {
        // There is no log to tell it in.
        use std::io::Write;
        let _ = writeln!(io::stderr().lock(), "{error}");
        return Err(error.to_string());
    }
    tracing::info!(program = C::PROGRAM.name, version = C::PROGRAM.version, "starting");
    install_crypto_provider().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start the runtime: {error}"))
}

/// How often this process was told to read its files again.
static RELOADS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Changes whenever this process is told to read its files again, by SIGHUP.
pub fn reloads() -> watch::Receiver<u64> {
    RELOADS.subscribe()
}

/// From now on SIGHUP ends nothing.
async fn reload_on(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        tracing::info!(signal = "SIGHUP", "credentials are read again");
        RELOADS.send_modify(|count| *count += 1);
    }
}

/// The signals that ask this process to end.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens for SIGTERM and SIGINT, which from now on end the process only if somebody acts on them.
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
/// If somebody else has installed one.
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
    fn the_crypto_provider_can_be_asked_for_twice() {
        assert_eq!(install_crypto_provider(), Ok(()));
        assert_eq!(install_crypto_provider(), Ok(()));
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
