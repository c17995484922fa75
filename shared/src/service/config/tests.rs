//! The configuration, through its entries.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

crate::settings! {
    /// A program that exists only here. Its names are borrowed, so that they are known.
    struct GateConfig {
        use broker: BrokerConfig,
        use logging: LogConfig,
        /// Where to listen.
        pub listen: SocketAddr = "127.0.0.1:8080",
        /// How long to wait | and not longer.
        /// A second line.
        pub idle_timeout: Option<Duration> = "30s" in "1s"..="10m",
        /// How often.
        pub max_deliveries: u32 = "5" in "2"..="20",
        /// How much.
        pub send_queue_bytes: Size = "64KiB" in "1KiB"..="1MiB",
        /// Who may.
        pub jwt_issuer: Vec<String> = "",
        /// The key.
        pub tls_key: Option<PathBuf> = "off",
        /// The certificate.
        pub tls_cert: Option<PathBuf> = "off",
    }
}

impl Config for GateConfig {
    const PROGRAM: Program = Program {
        name: "gate",
        version: "1.2.3",
        about: "Opens and shuts",
        examples: "Examples:\n  gate",
    };

    fn logging(&self) -> &LogConfig {
        &self.logging
    }

    fn check(&self) -> Vec<Conflict> {
        let alone = self.tls_cert.is_some() && self.tls_key.is_none();
        alone
            .then(|| Conflict::new("tls-cert", "needs `tls-key`"))
            .into_iter()
            .collect()
    }
}

fn load_gate(args: &[&str], env: &[(&str, &str)]) -> Result<Loaded<GateConfig>, ConfigErrors> {
    let env = env
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load(args.iter().map(OsString::from), env)
}

fn run(args: &[&str], env: &[(&str, &str)]) -> GateConfig {
    match load_gate(args, env) {
        Ok(Loaded::Run(config)) => config,
        other => panic!("{other:?}"),
    }
}

fn print(args: &[&str], env: &[(&str, &str)]) -> String {
    match load_gate(args, env) {
        Ok(Loaded::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn errors(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    load_gate(args, env)
        .unwrap_err()
        .to_string()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// A file that is gone when it is dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn of(content: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "config-{}-{}.toml",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_later_source_wins() {
    let file =
        TempFile::of("listen = '127.0.0.1:1'\nmax-deliveries = 6\nidle-timeout = 'off'\nsend-queue-bytes = 2048");
    let env = [("COUNTERSIGN_MAX_DELIVERIES", "7"), ("COUNTERSIGN_IDLE_TIMEOUT", "5s")];
    let config = run(&["--config", file.path(), "--idle-timeout=6s"], &env);
    assert_eq!(config.listen.to_string(), "127.0.0.1:1");
    assert_eq!(config.send_queue_bytes, Size::from_bytes(2048));
    assert_eq!(config.max_deliveries, 7);
    assert_eq!(config.idle_timeout, Some(Duration::from_secs(6)));
    assert_eq!(config.broker.namespace.as_str(), "countersign");
}

#[test]
fn a_file_is_named_by_the_environment_unless_a_flag_names_another() {
    let (one, other) = (TempFile::of("max-deliveries = 6"), TempFile::of("max-deliveries = 7"));
    let env = [("COUNTERSIGN_CONFIG", one.path())];
    assert_eq!(run(&[], &env).max_deliveries, 6);
    assert_eq!(run(&["--config", other.path()], &env).max_deliveries, 7);
}

#[test]
fn an_array_of_the_file_is_a_list() {
    let file = TempFile::of("jwt-issuer = ['a', 'b']\namqp-url = ['amqp://one', 'amqp://two']");
    let config = run(&["--config", file.path()], &[]);
    assert_eq!(config.jwt_issuer, ["a", "b"]);
    assert_eq!(config.broker.amqp_url.len(), 2);
    assert_eq!(config.broker.amqp_url.first().expose(), "amqp://one");
    let file = TempFile::of("jwt-issuer = ['a,b']");
    assert!(errors(&["--config", file.path()], &[])[0].contains("no comma"));
}

#[test]
fn all_errors_come_at_once_each_with_its_setting_its_source_and_what_would_be_right() {
    let file = TempFile::of("listen = 'nowhere'\ncolour = 'red'\n[tls-key]\na = 1");
    let args = [
        "--config",
        file.path(),
        "--max-deliveries",
        "1",
        "--speed",
        "9",
        "stray",
    ];
    let errors = errors(
        &args,
        &[("COUNTERSIGN_IDLE_TIMEOUT", "5"), ("COUNTERSIGN_AMPQ_URL", "x")],
    );
    let place = format!("(file {})", file.path());
    let expected = [
        format!("listen {place}: want an IP address and a port"),
        format!("colour {place}: no such setting"),
        format!("tls-key {place}: want a string"),
        "max-deliveries (flag --max-deliveries): want 2 to 20, not `1`".to_owned(),
        "speed (flag --speed): no such setting".to_owned(),
        "an argument without `--` (command line)".to_owned(),
        "idle-timeout (environment COUNTERSIGN_IDLE_TIMEOUT): want a duration".to_owned(),
        "ampq-url (environment COUNTERSIGN_AMPQ_URL): no such setting; did you mean `amqp-url`?".to_owned(),
    ];
    for start in &expected {
        assert!(
            errors.iter().any(|error| error.starts_with(start)),
            "{start} is not in {errors:#?}"
        );
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
}

#[test]
fn settings_of_another_program_are_passed_over_but_not_among_the_flags() {
    let file = TempFile::of("jwt-keys = 'k'\nmax-deliveries = 6");
    run(
        &["--config", file.path()],
        &[("COUNTERSIGN_STORE_URL", "memory:"), ("HOME", "/root")],
    );
    assert_eq!(
        errors(&["--store-url", "memory:"], &[]),
        ["store-url (flag --store-url): is a setting of another program"]
    );
}

#[test]
fn what_contradicts_is_told_with_the_place_of_the_setting() {
    assert_eq!(
        errors(&["--tls-cert", "c"], &[]),
        ["tls-cert (flag --tls-cert): needs `tls-key`"]
    );
    run(&["--tls-cert", "c", "--tls-key", "k"], &[]);
}

#[test]
fn a_flag_has_one_value_and_is_given_once() {
    assert_eq!(
        errors(&["--listen", "--tls-key=k"], &[]),
        ["listen (flag --listen): has no value"]
    );
    assert_eq!(errors(&["--listen"], &[]), ["listen (flag --listen): has no value"]);
    assert_eq!(
        errors(&["--tls-key=a", "--tls-key", "b"], &[]),
        ["tls-key (flag --tls-key): is given twice"]
    );
    assert_eq!(
        run(&["--tls-key=--odd=name"], &[]).tls_key.as_deref(),
        Some(Path::new("--odd=name"))
    );
}

#[test]
fn a_password_is_in_no_error_and_no_print() {
    let secret = "amqp://u:hunter2@h/%2f";
    let mut seen = String::new();
    let wrong_urls = [
        "amqp://u:hunter2@h:port",
        "http://u:hunter2@h",
        "amqp://u:hunter2@h/%2f,amqp:hunter2",
    ];
    for wrong in wrong_urls {
        let _ = write!(seen, "{:?}", errors(&["--amqp-url", wrong], &[]));
        let _ = write!(seen, "{:?}", errors(&[], &[("COUNTERSIGN_AMQP_URL", wrong)]));
    }
    for content in [
        format!("amqp-url = '{secret}"),
        format!("amqp-url = '{secret}' x"),
        format!("amqp-url = {secret}"),
    ] {
        let file = TempFile::of(&content);
        let _ = write!(seen, "{:?}", errors(&["--config", file.path()], &[]));
    }
    let _ = write!(seen, "{:?}", run(&["--amqp-url", secret], &[]));
    let _ = write!(seen, "{}", print(&["--amqp-url", secret, "--print-config"], &[]));
    assert!(!seen.contains("hunter2"), "{seen}");
    assert!(seen.contains("amqp://u:***@h/%2f"), "{seen}");
}

#[test]
fn what_is_printed_has_the_same_effect_as_what_was_given() {
    let args = [
        "--listen=[::1]:9",
        "--idle-timeout=90s",
        "--jwt-issuer=a, b",
        "--tls-key=/a \"b\"",
        "--log-filter=warn",
    ];
    let printed = print(
        &["--print-config"].iter().chain(&args).copied().collect::<Vec<_>>(),
        &[],
    );
    assert!(
        printed.contains("idle-timeout = \"90s\"  # flag --idle-timeout\n"),
        "{printed}"
    );
    assert!(printed.contains("max-deliveries = 5\n"), "{printed}");
    let file = TempFile::of(&printed);
    let (first, second) = (run(&args, &[]), run(&["--config", file.path()], &[]));
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

#[test]
fn help_and_version_are_to_be_had_when_the_rest_is_wrong() {
    assert_eq!(print(&["--speed", "9", "--version"], &[]), "gate 1.2.3\n");
    let help = print(&["--listen", "nowhere", "--help"], &[("COUNTERSIGN_COLOUR", "red")]);
    for part in [
        "Opens and shuts",
        "--idle-timeout <VALUE>",
        "A second line. From 1s to 10m.",
        "COUNTERSIGN_LISTEN",
    ] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    assert!(
        help.contains("default: 64KiB") && help.trim_end().ends_with("Examples:\n  gate"),
        "{help}"
    );
    assert_eq!(print(&["-h"], &[]), print(&["--version", "--help"], &[]));
}

#[test]
fn a_file_that_is_no_file_or_no_toml_is_named() {
    let errors_of = |path: &str| errors(&["--config", path], &[]);
    assert!(errors_of("/nowhere/x.toml")[0].starts_with("config (file /nowhere/x.toml): cannot be read"));
    let file = TempFile::of("listen = '127.0.0.1:1'\n\nmax-deliveries = = 3");
    assert!(
        errors_of(file.path())[0].contains("is not TOML from line 3 on"),
        "{:?}",
        errors_of(file.path())
    );
    let file = TempFile::of(&"#".repeat(1 << 21));
    assert!(errors_of(file.path())[0].contains("longer than"));
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_explained() {
    let errors = errors(
        &[],
        &[
            ("COUNTERSIGN_SERVICE_HOST", "10.0.0.1"),
            ("COUNTERSIGN_PORT", "tcp://10.0.0.1:80"),
        ],
    );
    assert_eq!(errors.len(), 2);
    assert!(
        errors.iter().all(|error| error.contains("enableServiceLinks")),
        "{errors:?}"
    );
}

#[cfg(unix)]
#[test]
fn text_that_is_not_utf8_is_an_error_and_no_loss() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![b'/', 0xff]);
    let env = [
        (OsString::from("COUNTERSIGN_TLS_KEY"), odd()),
        (OsString::from("ELSEWHERE"), odd()),
    ];
    let errors = load::<GateConfig>(["--listen".into(), odd()], env).unwrap_err();
    assert_eq!(errors.0.len(), 2, "{errors}");
    assert!(errors.0.iter().all(|error| error.problem == "is not UTF-8"), "{errors}");
}

#[test]
fn pairs_given_by_a_program_are_read_like_any_other_source() {
    let config: GateConfig = from_pairs([("listen", "127.0.0.1:0"), ("namespace", "test-1")]).unwrap();
    assert_eq!((config.listen.port(), config.broker.namespace.as_str()), (0, "test-1"));
    let errors = from_pairs::<GateConfig>([("lisden", "x"), ("max-deliveries", "21")])
        .unwrap_err()
        .to_string();
    assert!(
        errors.contains("did you mean `listen`?") && errors.contains("want 2 to 20"),
        "{errors}"
    );
}

#[test]
fn the_reference_has_every_setting_on_one_line_of_a_table() {
    let text = reference(&[section::<GateConfig>(), section::<GateConfig>()]);
    assert_eq!(text.matches("## `gate`\n\nOpens and shuts.\n").count(), 2);
    let line = "| `idle-timeout` | `COUNTERSIGN_IDLE_TIMEOUT` | `30s` | \
                How long to wait \\| and not longer. A second line. From 1s to 10m. |\n";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("| `jwt-issuer` | `COUNTERSIGN_JWT_ISSUER` | empty | Who may. |"),
        "{text}"
    );
}
