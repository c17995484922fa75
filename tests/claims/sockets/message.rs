//! What is no message is refused in words, and costs no one the connection.

use serde_json::{Value, json};
use tests::{Client, Span, Stack, token_for};

/// Far deeper than any parser's stack, and 600 KB where each level is six bytes.
const BOMB_LEVELS: usize = 100_000;

/// Texts that are no message, and the `id` that their refusal must name.
fn no_messages() -> Vec<(String, Option<&'static str>)> {
    let long = "i".repeat(129);
    let bomb = |open: &str, close: &str| format!("{}{}", open.repeat(BOMB_LEVELS), close.repeat(BOMB_LEVELS));
    let arrays = bomb("[", "]");
    let objects = format!("{}1{}", r#"{"a":"#.repeat(BOMB_LEVELS), "}".repeat(BOMB_LEVELS));
    let with_id = |rest: &str| (format!(r#"{{"id":"m",{rest}}}"#), Some("m"));
    let nameless = |text: &str| (text.to_owned(), None);
    vec![
        // Not JSON.
        nameless(""),
        nameless("   "),
        nameless("hello"),
        nameless("{"),
        nameless("{}{}"),
        nameless("\u{feff}{}"),
        nameless(r#"{'type':'x'}"#),
        nameless(r#"{"type":"x",}"#),
        nameless("{\"type\":\"a\nb\"}"),
        nameless(r#"{"type":"x","payload":NaN}"#),
        nameless(r#"{"type":"x","payload":01}"#),
        // What came before the fault could be read.
        (r#"{"id":"m","type":"x","payload":"#.to_owned(), Some("m")),
        (r#"{"id":"m","type":"x"} trailing"#.to_owned(), Some("m")),
        // Not an object.
        nameless("null"),
        nameless("17"),
        nameless(r#""type""#),
        nameless("[]"),
        nameless(r#"[{"id":"m","type":"x"}]"#),
        // No type, or a wrong one.
        with_id(r#""payload":1"#),
        with_id(r#""Type":"x""#),
        with_id(r#""type":null"#),
        with_id(r#""type":7"#),
        with_id(r#""type":["x"]"#),
        with_id(r#""type":"""#),
        // Members of a wrong type.
        with_id(r#""type":"x","token":7"#),
        with_id(r#""type":"x","token":{"a":1}"#),
        nameless(r#"{"id":7.5,"type":"x"}"#),
        nameless(r#"{"id":1e400,"type":"x"}"#),
        nameless(r#"{"id":true,"type":"x"}"#),
        nameless(r#"{"id":{},"type":"x"}"#),
        nameless(&format!(r#"{{"id":{},"type":"x"}}"#, "7".repeat(129))),
        nameless(r#"{"id":"","type":"x"}"#),
        nameless(&format!(r#"{{"id":"{long}","type":"x"}}"#)),
        // Members that stand twice, also where only one of them is written with an escape.
        nameless(r#"{"id":"m","id":"n","type":"x"}"#),
        nameless(r#"{"id":"m","\u0069d":"m","type":"x"}"#),
        with_id(r#""type":"x","type":"x""#),
        with_id(r#""type":"x","payload":1,"payload":1"#),
        with_id(r#""type":"x","token":"a","tok\u0065n":"b""#),
        with_id(r#""type":"x","other":1,"other":1"#),
        // Bombs, wherever they can be put.
        nameless(&arrays),
        nameless(&objects),
        with_id(&format!(r#""type":"x","payload":{arrays}"#)),
        with_id(&format!(r#""type":"x","payload":{objects}"#)),
        with_id(&format!(r#""type":"x","other":{arrays}"#)),
        with_id(&format!(r#""type":{arrays}"#)),
        with_id(&format!(r#""type":"x","token":{arrays}"#)),
        (
            format!(r#"{{"id":"m","type":"x","payload":{}"#, "[".repeat(BOMB_LEVELS)),
            Some("m"),
        ),
        // Lone surrogates.
        with_id(r#""type":"x","payload":"\ud800""#),
        with_id(r#""type":"x","payload":{"\udc00":1}"#),
        with_id(r#""type":"x\ud83d""#),
        with_id(r#""type":"x","token":"\ude00\ud83d""#),
        nameless(r#"{"id":"\ud800","type":"x"}"#),
        // Types of the protocol's own that it does not have, and a spelling that would hide one.
        with_id(r#""type":"auth.""#),
        with_id(r#""type":"auth.elevate""#),
        with_id(r#""type":"\u0061uth.elevate""#),
        with_id(r#""type":"auth\u002eauthenticate","token":"x""#),
        with_id(r#""type":"auth\u002eforget""#),
    ]
}

async fn client_of(stack: &Stack) -> Client {
    Client::connect(&stack.terminators()[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_by_its_id_and_the_connection_lives() {
    let stack = Stack::builder().setting("max-message-size", "2MiB").start().await;
    let token = token_for("alice").mint();
    let mut client = client_of(&stack).await;
    for (number, (text, id)) in no_messages().into_iter().enumerate() {
        let shown: String = text.chars().take(80).collect();
        client.send_text(&text).await;
        let answer = client.next_json(10.s()).await;
        assert_eq!(
            (&answer["type"], &answer["error"]["code"], answer.get("id")),
            (&json!("error"), &json!("bad_request"), id.map(Value::from).as_ref()),
            "{shown}: {answer}"
        );
        assert_eq!(answer["error"]["temporary"], false, "{shown}: {answer}");
        let next = client.request("echo", Some(&token), json!(number)).await;
        assert_eq!(next["payload"], number, "after {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_but_good_messages_are_answered_as_they_were_written() {
    let stack = Stack::start().await;
    let mut client = client_of(&stack).await;
    let token = token_for("alice").mint();
    let longest = "é".repeat(64);
    for (id, payload) in [
        (longest.as_str(), r#"{"a":1,"a":1.0,"b":1e-400}"#),
        ("\u{1f600}", r#""\ud83d\ude00\u0000""#),
        (" ", "123456789012345678901234567890.000"),
        ("0", "null"),
    ] {
        let id = Value::from(id);
        client
            .send_text(&format!(
                r#" {{"unknown":[],"payload":{payload},"id":{id},"\u0074ype":"authority","token":"{token}"}} "#
            ))
            .await;
        let answer = client.next_json(10.s()).await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("reply"), &id), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integer_id_comes_back_as_it_came_and_what_is_null_is_absent() {
    let stack = crate::pushes::holds::stack(&[("strategy", "both")]).await;
    let mut client = stack.client().await;
    let token = token_for("alice").mint();
    // Held as no one's, named in its refusal, handled, and handled after the hold.
    for id in [json!(0), json!(-1), json!(9_007_199_254_740_993_u64), json!("7")] {
        for message in [
            json!({"id": id, "type": "echo", "token": token, "payload": 1}),
            json!({"id": id, "type": "echo", "token": "no token"}),
            json!({"id": id, "type": ""}),
        ] {
            client.send_json(&message).await;
            assert_eq!(client.next_json(10.s()).await["id"], id, "{message}");
        }
    }
    client
        .send_text(&format!(
            r#"{{"id":123456789012345678901234567890,"type":"echo","token":"{token}"}}"#
        ))
        .await;
    let long = client.next_json(10.s()).await;
    assert!(long["id"].to_string().starts_with("1.2345678901234"), "{long}");
    client
        .send_text(&format!(
            r#"{{"id":null,"type":"echo","token":"{token}","payload":null}}"#
        ))
        .await;
    let answer = client.next_json(10.s()).await;
    assert_eq!((&answer["type"], answer.get("id")), (&json!("reply"), None), "{answer}");

    let mut held = stack.client().await;
    held.send_text(r#"{"id":7,"type":"echo","token":null,"payload":"held"}"#)
        .await;
    held.expect_required("missing", 10.s()).await;
    held.authenticate(&token).await;
    let answer = held.next_of_type("reply", 10.s()).await;
    assert_eq!((&answer["id"], &answer["payload"]), (&json!(7), &json!("held")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_value_of_an_authorization_header_is_refused_as_what_it_is() {
    let stack = Stack::start().await;
    let mut client = client_of(&stack).await;
    let token = format!("Bearer {}", token_for("alice").mint());
    let answer = client.request("echo", Some(&token), json!(1)).await;
    assert_eq!(answer["error"]["code"], "token_invalid", "{answer}");
    let message = answer["error"]["message"].as_str().expect("a sentence");
    assert!(message.contains("begins with `Bearer `"), "{message}");
}
