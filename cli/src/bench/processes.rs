//! Processes that this one starts, and ends.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use super::cpu::Process;

/// From the start to the first line.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// A terminator drains in less.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The files that this process has open besides.
const OTHER_FILES: u64 = 100;

/// Whether this process may open so many sockets.
///
/// # Errors
/// If it may not.
pub(super) fn check_files(count: usize) -> anyhow::Result<()> {
    let (limit, _) = rlimit::Resource::NOFILE.get()?;
    if count as u64 + OTHER_FILES > limit {
        bail!("this process may open {limit} files, which is too few for {count} connections (ulimit -n)");
    }
    Ok(())
}

/// A process of this one. Killed when it is dropped.
pub(crate) struct Child {
    process: Process,
    child: tokio::process::Child,
    /// Some processes end when their standard input does.
    _stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts a program, and waits for its first line.
    ///
    /// # Errors
    /// If it does not start, or says nothing in time. Its own reason is on standard error.
    pub(crate) async fn start(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: impl IntoIterator<Item = (&str, &str)>,
    ) -> anyhow::Result<(Self, String)> {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().ok_or_else(|| anyhow!("the {name} ended at once"))?;
        let stdout = child.stdout.take().ok_or_else(|| anyhow!("the {name} has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = match timeout(START_TIMEOUT, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(_) => bail!("the {name} did not start; it says why above"),
            Err(_) => bail!("the {name} said nothing for {} s", START_TIMEOUT.as_secs()),
        };
        let process = Process {
            name: name.to_owned(),
            pid: Some(pid),
        };
        let _stdin = child.stdin.take();
        Ok((Self { process, child, _stdin }, line))
    }

    /// Its name and id.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Asks it to end, and kills it if it does not.
    pub(crate) async fn end(mut self) {
        terminate(self.process.pid);
        if timeout(END_TIMEOUT, self.child.wait()).await.is_err() {
            // It may have ended in this moment, which is as well.
            let _ = self.child.kill().await;
        }
    }
}

/// Sends SIGTERM: neither std nor tokio can send a signal other than SIGKILL.
fn terminate(pid: Option<u32>) {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // If it has ended already, there is nothing to ask.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// The file that runs.
pub(crate) fn this_executable() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this executable")
}
