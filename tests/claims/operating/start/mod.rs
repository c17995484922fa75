//! Settings that cannot be right stop the start, all of them told at once.

mod failures;

use std::fs;

use serde_json::Value;
use tests::nodes::program::Kind;
use tests::{Program, Span, test_keys};

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn run(kind: Kind, settings: &[(&str, &str)], flags: &[&str]) -> Ended {
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut program = Program::spawn_with_flags(kind, &settings, flags);
    let code = program.wait_exit(20.s()).await.code();
    Ended {
        code,
        stdout: program.stdout(),
        stderr: program.stderr(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_is_told_at_once_each_on_a_line_that_names_the_setting() {
    let file = test_keys().folder().join("wrong.toml");
    fs::write(&file, "max-mesage-size = \"1KiB\"\nidle-timeout = \"soon\"\n").unwrap();
    let terminator = run(
        Kind::Terminator,
        &[
            ("max-connections", "0"),
            ("no-such-thing", "1"),
            ("tls-cert", "cert.pem"),
        ],
        &[
            "--config",
            file.to_str().unwrap(),
            "--send-queue-bytes",
            "1",
            "--port",
            "80",
        ],
    )
    .await;
    let names = [
        "max-mesage-size",
        "idle-timeout",
        "max-connections",
        "no-such-thing",
        "send-queue-bytes",
        "port",
    ];
    assert_told(&terminator, &names);
    // A contradiction is one between values that are each right, so there must be no other fault.
    let contradiction = run(
        Kind::Terminator,
        &[
            ("tls-cert", "cert.pem"),
            ("listen", "127.0.0.1:1"),
            ("admin-listen", "127.0.0.1:1"),
        ],
        &[],
    )
    .await;
    assert_told(&contradiction, &["tls-cert", "admin-listen"]);

    let worker = run(
        Kind::Worker,
        &[("prefetch", "many"), ("jwt-leeway", "1h")],
        &["--strategi", "both"],
    )
    .await;
    assert_told(
        &worker,
        &["prefetch", "jwt-leeway", "strategi", "jwt-issuer", "jwt-audience"],
    );
}

fn assert_told(ended: &Ended, names: &[&str]) {
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{}", ended.stderr);
    // A log of objects has nothing but objects in it, from the first line on.
    let message = |line: &str| -> String {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not an object: {line}"));
        object["message"].as_str().expect("a message").to_owned()
    };
    let mut lines: Vec<_> = ended.stderr.lines().map(message).collect();
    for name in names {
        let place = lines
            .iter()
            .position(|line| line.split(['(', ':']).next().unwrap().contains(name));
        let place = place.unwrap_or_else(|| panic!("no line for {name} in\n{}", ended.stderr));
        lines.remove(place);
    }
    assert!(lines.is_empty(), "too much is told: {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_is_printed_without_passwords() {
    let amqp = "amqp://someone:hunter2@127.0.0.1:5672/%2f,amqps://someone:hunter3@localhost";
    let store = "redis://someone:hunter4@127.0.0.1:6379";
    let worker = [
        ("amqp-url", amqp),
        ("store-url", store),
        ("jwt-keys", "a,issuer=https://b;https://someone:hunter5@keys.example/"),
        ("jwt-issuer", "b"),
        ("jwt-audience", "c"),
    ];
    for (kind, settings) in [(Kind::Terminator, &worker[..1]), (Kind::Worker, &worker[..])] {
        let printed = run(kind, settings, &["--print-config"]).await;
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert!(printed.stdout.contains("127.0.0.1:5672"), "{}", printed.stdout);
        let all = printed.stdout + &printed.stderr;
        assert!(!all.contains("hunter"), "{all}");
    }
    // Nor when they are wrong.
    for wrong in [
        "amqp://someone:hunter2@",
        "hunter2",
        "amqp://someone:hunter2@host:port",
        "amqp://u:12/hunter2@host/%2f",
    ] {
        let refused = run(Kind::Terminator, &[("amqp-url", wrong)], &[]).await;
        assert_eq!(refused.code, Some(2), "{wrong}");
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
        assert!(refused.stderr.contains("amqp-url"), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_shows_every_setting_and_examples() {
    for (kind, some) in [(Kind::Terminator, "--allowed-origins"), (Kind::Worker, "--jwt-keys")] {
        for flag in ["--help", "-h"] {
            let help = run(kind, &[], &[flag]).await;
            assert_eq!((help.code, &*help.stderr), (Some(0), ""));
            assert!(
                help.stdout.contains("Examples:") && help.stdout.contains(some),
                "{}",
                help.stdout
            );
        }
        let version = run(kind, &[], &["--version"]).await;
        assert_eq!(version.code, Some(0));
        assert_eq!(version.stdout.lines().count(), 1, "{}", version.stdout);
    }
}
