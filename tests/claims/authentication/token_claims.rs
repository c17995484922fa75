//! Which claims of a token count, where its issuer writes others than RFC 7519 and RFC 9068 have: whom it speaks for, whom it
//! is meant for, what it allows, and what it is.

use serde_json::{Value, json};
use tests::tokens::token::{AUDIENCE, Builder, ISSUER};
use tests::{Push, Span, Stack, test_keys, token_for, tool};

async fn stack(settings: &[(&str, &str)]) -> Stack {
    Stack::builder().settings(settings).start().await
}

/// What each of these comes to on a connection of its own: `ok`, or the code of the error; and `token verify` says the same.
async fn come_to(stack: &Stack, settings: &[(&str, &str)], cases: &[(Builder<'_>, &str)]) {
    for (token, expected) in cases {
        let minted = token.mint();
        let answer = stack.client().await.request("echo", Some(&minted), json!(1)).await;
        let code = answer["error"]["code"].as_str().unwrap_or("ok");
        assert_eq!(code, *expected, "{}: {answer}", token.payload_text());
        let keys = test_keys().secret_entry();
        let usual = [("jwt-keys", &*keys), ("jwt-issuer", ISSUER), ("jwt-audience", AUDIENCE)];
        let flags: Vec<String> = usual
            .iter()
            .chain(settings)
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
        let mut arguments = vec!["token", "verify", "--json"];
        arguments.extend(flags.iter().map(String::as_str));
        let said = tool(&arguments, &minted);
        let verdict: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let is_valid = *expected == "ok";
        assert_eq!(
            (&verdict["valid"], said.status),
            (&json!(is_valid), i32::from(!is_valid)),
            "{said:?}"
        );
        if !is_valid {
            assert_eq!(
                verdict["reason"], answer["error"]["message"],
                "the tool says what a worker says"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_claim_may_name_the_subject_wherever_a_subject_counts() {
    let settings = [("jwt-subject-claim", "oid")];
    let stack = stack(&settings).await;
    let of = |oid: &str| token_for("pairwise").claim("oid", oid);
    come_to(
        &stack,
        &settings,
        &[
            (of("object-1"), "ok"),
            (of("object-1").without("sub"), "ok"),
            (token_for("pairwise"), "token_invalid"),
            (of(""), "token_invalid"),
            (token_for("pairwise").claim("oid", json!(["object-1"])), "token_invalid"),
        ],
    )
    .await;
    let mut client = stack.client().await;
    let answer = client.request("echo", Some(&of("object-1").mint()), json!(1)).await;
    assert_eq!(answer["auth"]["subject"], "object-1", "{answer}");
    // The connection is that subject's, also for messages that bring no token, and for pushes and revocations.
    assert_eq!(client.request("echo", None, json!(2)).await["payload"], 2);
    let mut producer = stack.producer().await;
    let told = producer.push_to("pairwise", json!("not for it")).await;
    assert_ne!(told["outcome"], "delivered", "{told}");
    producer.push(&Push::to("object-1", json!("for it"))).await;
    assert_eq!(client.next_of_type("push", 30.s()).await["payload"], "for it");
    let other = client.request("echo", Some(&of("object-2").mint()), json!(3)).await;
    assert_eq!(other["error"]["code"], "identity_mismatch", "{other}");
    let mut client = stack.client().await;
    assert_eq!(
        client.request("echo", Some(&of("object-1").mint()), json!(1)).await["type"],
        "reply"
    );
    producer.revoke(&json!({"subject": "object-1"})).await;
    client.expect_close(4503, 30.s()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_that_asked_for_a_token_may_be_its_audience_where_that_is_named() {
    let none = || token_for("alice").without("aud");
    let settings = [("jwt-audience-claims", "aud,client_id,azp")];
    let stack = stack(&settings).await;
    come_to(
        &stack,
        &settings,
        &[
            (token_for("alice"), "ok"),
            (none().claim("client_id", AUDIENCE), "ok"),
            (none().claim("azp", AUDIENCE), "ok"),
            (token_for("alice").audience("account").claim("azp", AUDIENCE), "ok"),
            (none(), "token_invalid"),
            (none().claim("azp", "another"), "token_invalid"),
            (none().claim("appid", AUDIENCE), "token_invalid"),
            (
                token_for("alice").claim("aud", 7).claim("azp", AUDIENCE),
                "token_invalid",
            ),
        ],
    )
    .await;
    let strict = Stack::start().await;
    come_to(
        &strict,
        &[],
        &[(
            none().claim("client_id", AUDIENCE).claim("azp", AUDIENCE),
            "token_invalid",
        )],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_stand_where_the_settings_say() {
    let settings = [
        ("jwt-scope-claims", "scope,roles,realm_access.roles"),
        ("required-scopes", "#=editor"),
    ];
    let stack = stack(&settings).await;
    for (token, expected) in [
        (token_for("alice").claim("roles", json!(["viewer", "editor"])), "ok"),
        (
            token_for("alice").claim("realm_access", json!({"roles": ["editor"]})),
            "ok",
        ),
        (token_for("alice").claim("scope", "openid editor"), "ok"),
        (token_for("alice").claim("scp", "editor"), "forbidden"),
        (
            token_for("alice").claim("realm_access", json!({"groups": ["editor"]})),
            "forbidden",
        ),
        (
            token_for("alice").claim("resource_access", json!({"a": {"roles": ["editor"]}})),
            "forbidden",
        ),
        (token_for("alice").claim("roles", json!({"editor": true})), "forbidden"),
    ] {
        let answer = stack
            .client()
            .await
            .request("echo", Some(&token.mint()), json!(1))
            .await;
        assert_eq!(
            answer["error"]["code"].as_str().unwrap_or("ok"),
            expected,
            "{}",
            token.payload_text()
        );
        // The tool finds the same scopes, and says which.
        let keys = test_keys().secret_entry();
        let of_worker = [
            ("jwt-keys", &*keys),
            ("jwt-issuer", ISSUER),
            ("jwt-audience", AUDIENCE),
            settings[0],
        ];
        let flags = of_worker.map(|(name, value)| format!("--{name}={value}"));
        let verify = [
            &["token", "verify", "--json"],
            &flags.each_ref().map(String::as_str)[..],
        ]
        .concat();
        let said = tool(&verify, &token.mint());
        let verdict: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let scopes = verdict["scopes"].as_array().expect("scopes");
        assert_eq!(scopes.contains(&json!("editor")), expected == "ok", "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_is_required_keeps_all_other_tokens_out() {
    let settings = [("jwt-type", "at+jwt")];
    let stack = stack(&settings).await;
    come_to(
        &stack,
        &settings,
        &[
            (token_for("alice").header("typ", "at+jwt"), "ok"),
            (token_for("alice").header("typ", "application/AT+JWT"), "ok"),
            (token_for("alice"), "token_invalid"),
            (token_for("alice").without_header("typ"), "token_invalid"),
            (token_for("alice").header("typ", "logout+jwt"), "token_invalid"),
        ],
    )
    .await;
}
