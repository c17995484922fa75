//! The program: settings, start, announcement, signal, drain.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use shared::service::announcement::Announcement;
use shared::service::lifecycle::{self, Drained, Signals};

use crate::config::WorkerConfig;
use crate::{Handler, StartError, Worker};

/// What may come after the drain-timeout: two seconds for the last spans, two for the broker to let us go, one for the
/// admin server, and one to spare.
const CLOSING_TIME: Duration = Duration::from_secs(6);

/// Runs a worker with the handler of its settings as a process; `args` are its flags.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    lifecycle::run(args, async |config, signals| {
        serve(config, Worker::start_configured, signals).await
    })
}

/// Runs a worker with an application's handler as a process; `args` are its flags.
pub fn run_with(args: impl IntoIterator<Item = OsString>, handler: impl Handler) -> ExitCode {
    let start = async |config| Worker::start(config, handler).await;
    lifecycle::run(args, async |config, signals| serve(config, start, signals).await)
}

async fn serve(
    config: WorkerConfig,
    start: impl AsyncFnOnce(WorkerConfig) -> Result<Worker, StartError>,
    mut signals: Signals,
) -> anyhow::Result<Drained> {
    let deadline = config.drain_timeout + CLOSING_TIME;
    let worker = match start(config).await {
        Err(error) if error.is_configuration() => lifecycle::refuse_settings(&error),
        started => started?,
    };
    announce(&worker);
    signals.next().await;
    worker.shutdown();
    Ok(signals.drain(deadline, worker.join()).await)
}

/// Tells the one who started us that we run, and where.
fn announce(worker: &Worker) {
    let announcement = Announcement {
        sockets: Vec::new(),
        admin: worker.admin_addr().map(|addr| format!("http://{addr}")),
    };
    announcement.tell();
}
