//! The one place where the tool writes to its standard output, and to people on standard error.
//!
//! What others wrote (a client's type, a dead letter, the claims of a token) is shown, and does nothing: see
//! [`shared::wire::inert`].
//!
//! `println!` panics when the reader of a pipe has gone (`countersign … | head`);
//! this ends the process quietly instead, as other tools do. A disk that is full ends it with a word.

use std::io::{self, ErrorKind, Write as _};
use std::process;

use shared::wire::inert;

/// The exit status of a process that a closed pipe ended: 128 + SIGPIPE.
const CLOSED_PIPE_STATUS: i32 = 128 + 13;

/// Writes one line to standard output.
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(inert::lines(text).as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(CLOSED_PIPE_STATUS),
        // A script that keeps what is printed must not take half of it for all of it.
        Err(error) => {
            note(&format!("countersign: cannot write to standard output: {error}"));
            process::exit(i32::from(crate::STATUS_FAILED));
        }
    }
}

/// Writes one line for people to standard error.
pub(crate) fn note(text: &str) {
    // The one who closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "{}", inert::lines(text));
}
