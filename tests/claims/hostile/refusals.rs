//! Who is refused, and why, stands in the log: once for each kind and minute, with the connection by which `explain` says more.

use serde_json::{Value, json};
use tests::{Client, Program, Span, Stack, eventually, token_for, tool};

/// The lines about refusals of that kind.
fn told(program: &Program, code: &str, reason: &str) -> Vec<Value> {
    let log = program.log().into_iter();
    let is_meant = |line: &Value| {
        let says = line["reason"].as_str().is_some_and(|text| text.contains(reason));
        line["level"] == "WARN" && line["refused"] == code && says
    };
    log.filter(is_meant).collect()
}

async fn one_line(program: &Program, code: &str, reason: &str) -> Value {
    eventually(30.s(), "it is told why", async || {
        told(program, code, reason)
            .first()
            .cloned()
            .ok_or_else(|| program.log())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_refusal_is_told_once_with_its_reason_and_its_connection() {
    let builder = Stack::builder().setting("required-scopes", "admin.#=admin");
    let builder = builder
        .setting("unauthenticated-messages-per-second", "off")
        .setting("messages-per-second", "off");
    let stack = builder.start().await;
    let mut client = stack.client().await;
    let padded = |bytes: usize| token_for("alice").claim("padding", "p".repeat(bytes)).mint();
    let (large, larger) = (padded(8 * 1_024), padded(9 * 1_024));
    let elsewhere = token_for("alice").audience("elsewhere").mint();
    for _ in 0..50 {
        for token in [&large, &larger, &elsewhere] {
            let answer = client.request("echo", Some(token), Value::Null).await;
            assert_eq!(answer["error"]["code"], "token_invalid");
        }
    }
    let answer = client
        .request("admin.x", Some(&token_for("alice").mint()), Value::Null)
        .await;
    assert_eq!(answer["error"]["code"], "forbidden");
    let worker = &stack.workers()[0];
    let size = format!("{}", large.len());
    let grouped = format!("{},{}", &size[..size.len() - 3], &size[size.len() - 3..]);
    let line = one_line(worker, "token_invalid", "larger").await;
    let reason = format!("token larger than jwt-max-size: {grouped} of 8,192 bytes");
    assert!(line["reason"].as_str().unwrap().contains(&reason), "{line}");
    one_line(worker, "token_invalid", "`aud`").await;
    one_line(worker, "forbidden", "`admin`").await;
    for (code, reason, most) in [
        ("token_invalid", "larger", 2),
        ("token_invalid", "`aud`", 2),
        ("forbidden", "`admin`", 1),
    ] {
        // A slow machine may be at it for more than a minute.
        let lines = told(worker, code, reason);
        assert!(lines.len() <= most, "{lines:?}");
        assert_eq!(lines[0]["count"], 1, "{lines:?}");
    }
    // The id in the line is what a person asks by, and both say the same.
    let connection = line["connection"].as_str().unwrap();
    let store = stack.store().url();
    let arguments = [
        "explain",
        connection,
        "--store-url",
        &store,
        "--namespace",
        stack.namespace(),
        "--json",
    ];
    let said = tool(&arguments, "");
    assert_eq!(said.status, 0, "{said:?}");
    assert!(
        said.stdout.contains(&reason) && said.stdout.contains("`aud`"),
        "{said:?}"
    );
    // What is injected has no connection, and its reason is told likewise.
    let nobody = json!({"type": "echo", "token": token_for("alice").issuer("https://nobody.test").mint()});
    stack.queue().await.request(&nobody).await;
    one_line(worker, "token_invalid", "`iss`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_a_setting_refuses_are_told_with_the_setting() {
    let stack = Stack::builder()
        .setting("allowed-origins", "https://app.example")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    for _ in 0..5 {
        let refused = Client::to(terminator).origin("https://evil.example").open().await;
        assert!(refused.is_err(), "another page came in");
    }
    let line = one_line(terminator, "origin", "allowed-origins").await;
    assert_eq!(
        (&line["count"], &line["connection"]),
        (&json!(1), &json!("127.0.0.1")),
        "{line}"
    );
    assert_eq!(told(terminator, "origin", "allowed-origins").len(), 1);

    for (setting, code) in [
        ("max-connections-per-ip", "too_many_from_address"),
        ("max-connections", "too_many"),
    ] {
        let stack = Stack::builder().setting(setting, "1").start().await;
        let _first = stack.client().await;
        let terminator = &stack.terminators()[0];
        for _ in 0..5 {
            assert!(Client::to(terminator).open().await.is_err(), "{setting}");
        }
        one_line(terminator, code, setting).await;
        assert_eq!(told(terminator, code, setting).len(), 1, "{setting}");
    }
}
