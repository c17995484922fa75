//! The tool for people, run once.

use std::{
    env,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::nodes::program::programs;

/// What it said, and the status it ended with.
#[derive(Debug)]
pub struct Said {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `countersign` with these arguments and this text as its standard input, with none of our settings in its environment.
///
/// # Panics
/// If it cannot be run.
#[must_use]
pub fn tool(arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(programs().join("countersign"));
    env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("COUNTERSIGN_"))
        .for_each(|(name, _)| _ = command.env_remove(name));
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    // One that reads no input may have ended already.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the tool ends");
    Said {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
