//! The way of a log's lines to standard error, which may take none: a log collector that hangs, a terminal that is paused.
//!
//! Anyone who logs must not wait for that, or the work would stop with its log. So lines go into a queue with a bound, which one
//! thread of its own empties; what finds it full is dropped and counted, and when there is room again a line says how many.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::counter;

/// How much may wait: a thousand lines and more.
const MOST_BYTES: usize = 256 * 1024;

/// Counts what was dropped.
const DROPPED: &str = "countersign_log_lines_dropped_total";

/// The queue. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    backlog: Mutex<Backlog>,
    changed: Condvar,
}

/// What waits, and what could not.
#[derive(Debug, Default)]
struct Backlog {
    waiting: Vec<u8>,
    dropped: u64,
    /// Something was taken, and is being written.
    is_writing: bool,
}

impl Backlog {
    /// Tells whether there was room.
    fn push(&mut self, line: &[u8]) -> bool {
        // One that is longer than all the room may come alone.
        let fits = self.waiting.is_empty() || self.waiting.len() + line.len() <= MOST_BYTES;
        // What came later than a dropped line is dropped, too, until that was told: so it is told in its place.
        if !fits || self.dropped > 0 {
            self.dropped += 1;
            return false;
        }
        self.waiting.extend_from_slice(line);
        true
    }

    /// All that waits, and how many lines after it were dropped; none if there is nothing.
    fn take(&mut self) -> Option<(Vec<u8>, u64)> {
        self.is_writing = !(self.waiting.is_empty() && self.dropped == 0);
        let taken = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.dropped));
        self.is_writing.then_some(taken)
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0 && !self.is_writing
    }
}

impl Lines {
    /// Begins to write to `out`, in a thread that lasts as long as the process. `tell` makes the line that says how many were
    /// dropped.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(super) fn start(out: impl Write + Send + 'static, tell: fn(u64) -> String) -> io::Result<Self> {
        let lines = Self(Arc::new(Shared {
            backlog: Mutex::default(),
            changed: Condvar::new(),
        }));
        let writer = lines.clone();
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || writer.run(out, tell))?;
        Ok(lines)
    }

    fn run(&self, mut out: impl Write, tell: fn(u64) -> String) {
        loop {
            let (mut bytes, dropped) = self.next();
            if dropped > 0 {
                bytes.extend_from_slice(tell(dropped).as_bytes());
            }
            // The one who closed standard error does not want to know.
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
            self.lock().is_writing = false;
            self.0.changed.notify_all();
        }
    }

    fn next(&self) -> (Vec<u8>, u64) {
        let mut backlog = self.lock();
        loop {
            if let Some(taken) = backlog.take() {
                return taken;
            }
            backlog = self.0.changed.wait(backlog).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all is written, but not for longer than that.
    pub(super) fn flush(&self, longest: Duration) {
        let backlog = self.lock();
        drop(
            self.0
                .changed
                .wait_timeout_while(backlog, longest, |backlog| !backlog.is_done()),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.0.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each write is one line.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let fits = self.lock().push(line);
        self.0.changed.notify_all();
        if !fits {
            counter!(DROPPED).increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the counter, which most processes never need.
pub(super) fn count_from_zero() {
    counter!(DROPPED).increment(0);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_what_comes_behind_it_too() {
        let mut backlog = Backlog::default();
        let long = vec![b'x'; MOST_BYTES];
        assert!(backlog.push(b"first\n"));
        assert!(!backlog.push(&long));
        assert!(!backlog.push(b"short\n"));
        assert_eq!(backlog.take(), Some((b"first\n".to_vec(), 2)));
        assert!(backlog.push(&long), "alone it may come");
        assert!(!backlog.is_done());
    }

    /// Writes when it is told to.
    struct Gate {
        opened: mpsc::Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.opened.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_hangs_holds_up_nobody_who_logs() {
        let (open, opened) = mpsc::channel();
        let (written, seen) = mpsc::channel();
        let mut lines = Lines::start(Gate { opened, written }, |dropped| format!("{dropped} dropped\n")).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..4096 {
            lines.write_all(&line).unwrap();
        }
        // It hangs still, and so a flush gives up.
        lines.flush(Duration::from_millis(10));
        drop(open);
        lines.flush(Duration::from_secs(30));
        let seen: String = seen.try_iter().collect();
        let notes = seen
            .lines()
            .map(|line| line.trim_start_matches('x').trim_end_matches(" dropped"));
        let dropped: usize = notes.map(|count| count.parse::<usize>().unwrap()).sum();
        assert!(dropped >= 2048, "{dropped}");
        assert_eq!(seen.matches('x').count() / line.len() + dropped, 4096);
    }
}
