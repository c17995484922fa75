//! The program: settings, start, announcement, signal, drain.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use shared::service::announcement::Announcement;
use shared::service::clock::{Clock, SystemClock};
use shared::service::lifecycle::{self, Drained, Signals};

use crate::{StartError, Terminator, TerminatorConfig};

/// What a drain takes beyond its deadline: the last closing handshakes, and the last words to the broker.
const AFTER_DEADLINE: Duration = Duration::from_secs(15);

/// Runs a terminator as a process of its own; `args` are its flags.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_by(args, Arc::new(SystemClock))
}

/// The same by another clock than the machine's: for anyone who wants to see what becomes of that.
pub fn run_by(args: impl IntoIterator<Item = OsString>, clock: Arc<dyn Clock>) -> ExitCode {
    lifecycle::run(args, |config, signals| serve(config, signals, clock))
}

async fn serve(config: TerminatorConfig, mut signals: Signals, clock: Arc<dyn Clock>) -> Result<Drained, StartError> {
    let limit = config.drain_delay + config.drain_timeout + AFTER_DEADLINE;
    let terminator = match Terminator::bind_by(config, clock).await {
        Err(error) if error.is_configuration() => lifecycle::refuse_settings(&error),
        bound => bound?,
    };
    announce(&terminator);
    signals.next().await;
    terminator.shutdown();
    let drained = async {
        terminator.join().await;
    };
    Ok(signals.drain(limit, drained).await)
}

/// Tells on standard output where it listens, for the one who asked for port 0.
fn announce(terminator: &Terminator) {
    let announcement = Announcement {
        sockets: terminator.urls().to_vec(),
        admin: terminator.admin_addr().map(|addr| format!("http://{addr}")),
    };
    announcement.tell();
}
