//! The program: settings, start, announcement, signal, drain.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{HandlerKind, WorkerConfig};
use crate::{Echo, Worker};
use shared::life::{self, Drained, Signals};

/// What may come after the drain-timeout: two seconds for the broker to let us go, one for the admin server,
/// and as many again to spare.
const CLOSING_TIME: Duration = Duration::from_secs(6);

/// Runs a worker with its own handlers as a process; `args` are its flags.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    life::run(args, serve)
}

async fn serve(config: WorkerConfig, mut signals: Signals) -> anyhow::Result<Drained> {
    let deadline = config.drain_timeout + CLOSING_TIME;
    let started = match config.handler {
        HandlerKind::Echo => Worker::start(config, Echo).await,
    };
    let worker = match started {
        Ok(worker) => worker,
        Err(error) if error.is_configuration() => life::refuse_settings(&error),
        Err(error) => return Err(error.into()),
    };
    announce(&worker)?;
    signals.next().await;
    worker.shutdown();
    Ok(signals.drain(deadline, worker.join()).await)
}

/// Tells whoever started us that we run, and where.
fn announce(worker: &Worker) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match worker.admin_addr() {
        Some(addr) => writeln!(stdout, "listening on admin http://{addr}")?,
        None => writeln!(stdout, "ready")?,
    }
    stdout.flush()
}
