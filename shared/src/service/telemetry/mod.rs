//! Logs and metrics of a process.
//!
//! Client messages carry JWTs, and some of the crates we stand on log what they
//! carry. An operator who turns the log up to look for a fault must not thereby
//! write tokens to a disk: so beside the filter of the settings stands a second
//! one that no setting reaches.

mod help;
mod lines;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use super::config::{LogConfig, LogFormat};
use super::telemetry::lines::Lines;
use crate::wire::inert;

/// Upper bounds of the buckets of every histogram whose name ends in `_seconds`: from what one hop within the
/// machine takes to the longest wait that any of our limits allows by default.
const LATENCY_BUCKETS_SECONDS: [f64; 17] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Telemetry could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// Someone else logs in this process already.
    #[error("cannot start the log: another one is installed in this process")]
    Log,
    /// There is no thread that could write it.
    #[error("cannot start the log: its thread cannot be started")]
    Thread,
    /// Someone else gathers metrics in this process already.
    #[error("cannot start the metrics: {0}")]
    Metrics(String),
}

/// The log of this process, once it is started.
struct Log {
    lines: Lines,
    format: LogFormat,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Starts the log, on standard error, and has panics told there. Once per process.
///
/// # Errors
/// If something else was installed as the log before.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let ansi = std::io::stderr().is_terminal();
    let format = config.log_format;
    let tell = match format {
        LogFormat::Text => dropped_as_text,
        LogFormat::Json => dropped_as_json,
    };
    let lines = Lines::start(std::io::stderr(), tell).map_err(|_| TelemetryError::Thread)?;
    let queue = lines.clone();
    let writer = move || Inert {
        writer: queue.clone(),
        ansi,
    };
    let subscriber = subscriber(config, writer, ansi);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Log)?;
    // Who was first has installed the subscriber, too.
    let _ = LOG.set(Log { lines, format });
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn dropped_as_text(dropped: u64) -> String {
    format!("{dropped} lines of the log were dropped here, because standard error took none\n")
}

fn dropped_as_json(dropped: u64) -> String {
    let line = serde_json::json!({
        "level": "WARN",
        "message": "lines of the log were dropped here, because standard error took none",
        "dropped": dropped,
    });
    format!("{line}\n")
}

/// Waits until what was logged is written, but not for longer than that: before the process ends.
pub fn flush(longest: Duration) {
    if let Some(log) = LOG.get() {
        log.lines.flush(longest);
    }
}

/// Whether the log is one object a line.
pub fn writes_json() -> bool {
    LOG.get().is_some_and(|log| log.format == LogFormat::Json)
}

/// Has the metrics say which program this is, of which version. For the one who has asked for [`metrics()`].
pub fn tell_version(program: &'static str, version: &'static str) {
    metrics::gauge!("countersign_build_info", "program" => program, "version" => version).set(1.0);
}

/// Starts gathering metrics, or gives the handle again: one recorder serves the whole process.
///
/// Anyone who holds the handle runs its upkeep, as [`Admin`](crate::service::admin::Admin) does.
///
/// # Errors
/// If something else was installed as the recorder before.
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, TelemetryError>> = OnceLock::new();
    HANDLE.get_or_init(install_recorder).clone()
}

fn install_recorder() -> Result<PrometheusHandle, TelemetryError> {
    let handle = builder()?
        .install_recorder()
        .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
    help::describe();
    lines::count_from_zero();
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, TelemetryError> {
    let latencies = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(latencies, &LATENCY_BUCKETS_SECONDS);
    builder.map_err(|error| TelemetryError::Metrics(error.to_string()))
}

/// Writes a log's lines so that what is foreign in them does nothing. Each line comes in one piece, colours and all; the
/// escape characters of those are ours, since foreign ones are escaped where the line is made.
struct Inert<W> {
    writer: W,
    ansi: bool,
}

impl<W: Write> Write for Inert<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        let mut inert = String::with_capacity(line.len() + 1);
        for (index, part) in line.split('\u{1b}').enumerate() {
            if index > 0 {
                inert.push_str(if self.ansi { "\u{1b}" } else { "\\u001b" });
            }
            inert.push_str(&inert::line(part));
        }
        inert.push_str(end);
        self.writer.write_all(inert.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// What no setting can open.
fn never_logged() -> Targets {
    Targets::new().with_default(LevelFilter::TRACE).with_targets([
        // At WARN it prints whole messages that could not be routed.
        ("lapin::returned_messages", LevelFilter::OFF),
        // Below these levels they print frames, and with them messages and their tokens.
        ("lapin", LevelFilter::INFO),
        ("amq_protocol", LevelFilter::INFO),
        ("tungstenite", LevelFilter::INFO),
        ("tokio_tungstenite", LevelFilter::INFO),
    ])
}

fn subscriber<W>(config: &LogConfig, writer: W, ansi: bool) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let layer = match config.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(config.log_filter.filter().and(never_logged())))
}

/// Tells where a panic happened, but not its message: that may quote the data it stumbled over.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        location,
        thread = thread.name(),
        "panicked; its message is withheld, it may quote a client's data"
    );
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::service::config::{LogFilter, Value};

    /// A log that is kept to be read.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged when `log-filter` filters what `act` does.
    fn logged(log: &str, log_format: LogFormat, act: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let config = LogConfig {
            log_filter: LogFilter::parse(log).unwrap(),
            log_format,
        };
        tracing::subscriber::with_default(subscriber(&config, move || writer.clone(), false), act);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_filter_opens_what_would_print_tokens() {
        for filter in [
            "trace",
            "lapin=trace,lapin::returned_messages=trace,tungstenite=trace,trace",
        ] {
            let log = logged(filter, LogFormat::Text, || {
                tracing::error!(target: "lapin::returned_messages", "eyJ-returned");
                tracing::debug!(target: "lapin::channel", "eyJ-channel");
                tracing::trace!(target: "amq_protocol::frame", "eyJ-frame");
                tracing::debug!(target: "tungstenite::protocol", "eyJ-message");
                tracing::trace!(target: "tokio_tungstenite", "eyJ-poll");
                tracing::trace!(target: "terminator", "ours");
                tracing::warn!(target: "lapin::connection", "theirs");
            });
            assert!(!log.contains("eyJ"), "{log}");
            assert!(log.contains("ours") && log.contains("theirs"), "{log}");
        }
    }

    #[test]
    fn the_setting_filters_what_is_logged() {
        let act = || {
            tracing::info!(target: "worker", "calm");
            tracing::debug!(target: "worker", "close");
        };
        assert!(!logged("info", LogFormat::Text, act).contains("close"));
        assert!(logged("warn,worker=debug", LogFormat::Text, act).contains("close"));
        assert_eq!(logged("off", LogFormat::Text, act), "");
    }

    #[test]
    fn nobody_is_asked_about_what_is_not_logged() {
        let config = LogConfig {
            log_filter: LogFilter::parse("warn,worker=info").unwrap(),
            log_format: LogFormat::Text,
        };
        // Below this level an event costs one comparison, wherever it is.
        let alone = subscriber(&config, std::io::sink, false);
        assert_eq!(alone.max_level_hint(), Some(LevelFilter::INFO));
    }

    #[test]
    fn json_is_one_object_a_line_with_the_fields_at_its_top() {
        let log = logged("info", LogFormat::Json, || tracing::info!(port = 8080, "listening"));
        let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
        assert_eq!((&line["message"], &line["port"]), (&"listening".into(), &8080.into()));
    }

    #[test]
    fn a_line_that_is_logged_within_a_trace_names_it_once() {
        let log = logged("warn", LogFormat::Json, || {
            tracing::error_span!("traced", trace_id = "4bf9").in_scope(|| tracing::warn!("slow"));
        });
        let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
        assert_eq!(line["span"]["trace_id"], "4bf9");
        assert_eq!(log.matches("4bf9").count(), 1, "{log}");
    }

    #[test]
    fn a_panic_is_logged_by_its_place_and_not_by_its_text() {
        let log = logged("info", LogFormat::Text, || {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(log_panic));
            let caught = std::panic::catch_unwind(|| panic!("eyJhbGciOi"));
            std::panic::set_hook(before);
            assert!(caught.is_err());
        });
        assert!(log.contains("panicked") && log.contains("telemetry/mod.rs:"), "{log}");
        assert!(!log.contains("eyJ"), "{log}");
    }

    #[test]
    fn seconds_are_counted_in_buckets_down_to_a_hundred_microseconds() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || metrics::histogram!("wait_seconds").record(0.0002));
        let text = handle.render();
        assert!(text.contains("wait_seconds_bucket{le=\"0.0001\"} 0"), "{text}");
        assert!(text.contains("wait_seconds_bucket{le=\"0.00025\"} 1"), "{text}");
        assert!(text.contains("wait_seconds_bucket{le=\"30\"} 1"), "{text}");
    }

    #[test]
    fn the_recorder_is_installed_once_and_shared() {
        let (one, other) = (super::metrics().unwrap(), super::metrics().unwrap());
        metrics::counter!("shared_total").increment(1);
        assert!(one.render().contains("shared_total 1") && other.render().contains("shared_total 1"));
    }
}
