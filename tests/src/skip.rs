//! Where what a claim needs cannot be had, it says so, and says nothing else.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// Says that `what` is not checked, and why: in the file that `SKIPPED_TO` names, in which `.ci/run` gathers what was not checked,
/// and past the test's own output, which is not shown of one that passes.
///
/// # Panics
/// If that file cannot be written.
pub fn skip(what: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "{what}: SKIPPED: {reason}");
    if let Some(path) = env::var_os("SKIPPED_TO") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let mut file = file.expect("the file of what is skipped");
        writeln!(file, "{what}: {reason}").expect("it can be written");
    }
}
