//! The one place where the tool writes to its standard output, and to people on standard error.
//!
//! What others wrote (a client's type, a dead letter, the claims of a token) is shown, and does nothing: see
//! [`shared::wire::inert`].
//!
//! `println!` panics when the reader of a pipe has gone (`countersign … | head`);
//! this ends the process quietly instead, as other tools do.

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
    if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        process::exit(CLOSED_PIPE_STATUS);
    }
}

/// Writes one line for people to standard error.
pub(crate) fn note(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "{}", inert::lines(text));
}
