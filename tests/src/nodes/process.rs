//! One child process in a group of its own: signalled by id, reaped, and gone with its value.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::watchdog;
use crate::wait::{Span, eventually};

/// The signals that claims send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends at once, with no chance to tidy.
    Kill,
    /// Asks for an orderly end.
    Terminate,
    /// Asks for the same, as Ctrl-C at a terminal does.
    Interrupt,
    /// Freezes: sockets stay open, nothing answers.
    Stop,
    /// Thaws.
    Continue,
    /// Has a program read its files again.
    Hangup,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Hangup => "HUP",
        }
    }
}

/// Sends `signal` to the process `id`; one that is already gone is no error.
pub fn signal(id: u32, signal: Signal) {
    send(&id.to_string(), signal);
}

/// The shell's `kill`, since the system call is `unsafe` in Rust and a test needs no such speed.
fn send(target: &str, signal: Signal) {
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "kill", signal.name(), target])
        .stderr(Stdio::null())
        .status()
        .expect("sh starts");
}

/// Whether the process `id` still runs. A zombie does not.
#[must_use]
pub fn is_alive(id: u32) -> bool {
    state(&format!("/proc/{id}/stat")).is_some_and(|state| !['Z', 'X'].contains(&state))
}

/// The state of a process or of one of its threads, as a letter.
fn state(stat: &str) -> Option<char> {
    // It follows the name, which is in parentheses and may hold anything (proc(5)).
    let stat = fs::read_to_string(stat).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Stops a process, and returns when each of its threads stands still: on a busy machine one may go on for a while.
///
/// # Panics
/// If one does for 10 s.
pub async fn freeze(id: u32) {
    signal(id, Signal::Stop);
    let stopped = || {
        let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?;
        let mut states = threads
            .flatten()
            .map(|thread| state(&format!("{}/stat", thread.path().display())));
        Some(states.all(|state| state == Some('T')))
    };
    eventually(10.s(), "every thread stands still", async || stopped().unwrap_or(false)).await;
}

/// A child process and whatever it starts in its group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in a process group of its own, with nothing to read.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.get_program()));
        watchdog::watch(child.id());
        Self { child, ended: None }
    }

    /// Its process id, which is also its group's.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process itself. Nothing is sent to one that has been reaped: the id may be another's.
    pub fn signal(&mut self, what: Signal) {
        if self.exit_status().is_none() {
            signal(self.id(), what);
        }
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().expect("our own child can be asked")
        {
            self.note_end(status);
        }
        self.ended
    }

    /// Waits until it has ended by itself.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        eventually(limit, "the process ends", async || self.exit_status()).await
    }

    /// Kills the whole group and returns when the process is gone.
    pub fn kill(&mut self) {
        if self.exit_status().is_none() {
            send(&format!("-{}", self.id()), Signal::Kill);
            let status = self.child.wait().expect("our own child can be waited for");
            self.note_end(status);
        }
    }

    fn note_end(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        watchdog::forget(self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until no process `id` runs any more, for processes that are not our children.
pub async fn wait_gone(id: u32) {
    eventually(10.s(), "the process is gone", async || !is_alive(id)).await;
}
