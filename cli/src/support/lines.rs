//! Lines of a file or of standard input, as they come, without holding up the rest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;
use tokio::sync::mpsc;

/// 16 MiB = 16 * 1,024 * 1,024 bytes: far beyond what any terminator takes.
const MAX_LINE_BYTES: u64 = 16 * 1_024 * 1_024;

/// Lines read ahead of their use.
const READ_AHEAD: usize = 64;

/// Begins to read `path`, or standard input if it is `-`. Empty lines are left out.
///
/// The reading thread may block for ever on standard input; it ends with the process.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn read(path: &Path) -> anyhow::Result<mpsc::Receiver<io::Result<String>>> {
    let (lines, received) = mpsc::channel(READ_AHEAD);
    if path.as_os_str() == "-" {
        std::thread::spawn(move || send_all(io::stdin().lock(), &lines));
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        std::thread::spawn(move || send_all(BufReader::new(file), &lines));
    }
    Ok(received)
}

fn send_all(mut input: impl BufRead, lines: &mpsc::Sender<io::Result<String>>) {
    loop {
        let line = match next_line(&mut input) {
            Ok(None) => return,
            Ok(Some(line)) if line.is_empty() => continue,
            other => other.transpose(),
        };
        let Some(line) = line else { return };
        let last = line.is_err();
        if lines.blocking_send(line).is_err() || last {
            return;
        }
    }
}

fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let bytes = input.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)?;
    if bytes as u64 == MAX_LINE_BYTES {
        return Err(io::Error::other(format!(
            "a line is longer than {MAX_LINE_BYTES} bytes"
        )));
    }
    line.truncate(line.trim_end().len());
    Ok((bytes > 0).then_some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_without_their_ends_and_without_empty_ones() {
        let (sender, mut lines) = mpsc::channel(READ_AHEAD);
        send_all(&b"{\"a\":1}\r\n\n  \nlast"[..], &sender);
        drop(sender);
        assert_eq!(lines.blocking_recv().unwrap().unwrap(), "{\"a\":1}");
        assert_eq!(lines.blocking_recv().unwrap().unwrap(), "last");
        assert!(lines.blocking_recv().is_none());
    }

    #[test]
    fn what_is_not_text_ends_the_reading_with_its_error() {
        let (sender, mut lines) = mpsc::channel(READ_AHEAD);
        send_all(&b"\xff\nmore\n"[..], &sender);
        drop(sender);
        assert!(lines.blocking_recv().unwrap().is_err());
        assert!(lines.blocking_recv().is_none());
    }
}
