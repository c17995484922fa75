//! `docs/asyncapi.yaml` says what the programs do: its examples are sent, and what comes back is what it documents.

mod document;

use std::collections::BTreeSet;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use shared::wire::connection_event::EventKind;
use shared::wire::protocol::{CloseCode, ErrorCode, LIMITS_SUBPROTOCOL, Reason, SUBPROTOCOL};
use tests::peers::audience::Audience;
use tests::peers::queue::{self, ReplyQueue};
use tests::tokens::token::ISSUER;
use tests::{Client, Push, Queue, Span, Stack, connection_of, token_for};

use super::asyncapi::document::{Document, Message, Operation, members};

/// What is told of connections, alone and together.
const EVENTS: [&str; 2] = ["connectionEvent", "connectionEvents"];

/// Whom the examples are about.
const SUBJECT: &str = "alice";

#[test]
fn every_code_stands_in_the_document_and_no_other() {
    let document = Document::read();
    let words = |schema: &str| {
        let all = document.at(&format!("/components/schemas/{schema}/oneOf")).as_array();
        let word = |one: &Value| one["const"].as_str().expect("a word").to_owned();
        all.expect("a list").iter().map(word).collect::<Vec<_>>()
    };
    let sorted = |mut words: Vec<String>| {
        words.sort();
        words
    };
    assert_eq!(
        sorted(words("ErrorCode")),
        sorted(ErrorCode::ALL.map(|code| code.as_str().to_owned()).to_vec())
    );
    for word in words("Reason") {
        word.parse::<Reason>()
            .unwrap_or_else(|_| panic!("there is no reason {word}"));
    }
    let closes = document.at("/channels/socket/x-close-codes").as_array();
    let closes: Vec<_> = closes
        .expect("a list")
        .iter()
        .map(|close| close["code"].clone())
        .collect();
    assert_eq!(closes, CloseCode::ALL.map(|code| json!(code.code())), "in their order");
    for close in document
        .at("/channels/socket/x-close-codes")
        .as_array()
        .expect("a list")
    {
        let stops = close["client"] == "stops";
        assert_eq!(stops, close["code"].as_u64() >= Some(4500), "{close}");
    }
    let subprotocol = "/channels/socket/bindings/ws/headers/properties/Sec-WebSocket-Protocol/const";
    assert_eq!(document.at(subprotocol), SUBPROTOCOL);
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = Document::read();
    for message in document.messages() {
        assert!(!message.examples().is_empty(), "{} has no example", message.name);
        for example in message.examples() {
            for (part, instance) in members(example).filter(|(part, _)| ["headers", "payload"].contains(part)) {
                let faults = document.faults(&message, part, instance, true);
                assert_eq!(faults, Vec::<String>::new(), "{example}");
            }
        }
    }
}

/// A client that has asked for its limits, and the message with them.
async fn told_its_limits(stack: &Stack) -> (Client, Value) {
    let offer = format!("{SUBPROTOCOL}, {LIMITS_SUBPROTOCOL}");
    let terminator = &stack.terminators()[0];
    let mut client = Client::to(terminator).subprotocol(&offer).open().await.unwrap();
    let limits = client.next_json(10.s()).await;
    (client, limits)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_example_is_answered_as_documented() {
    let document = Document::read();
    let stack = Stack::builder().setting("push-ack", "on").start().await;
    for operation in document
        .operations_of("terminator")
        .iter()
        .filter(|one| one.is_receive())
    {
        for example in examples(operation) {
            let mut before = stack.client().await;
            let auth = before.authenticate(&token_for(SUBJECT).mint()).await;
            let (mut client, _) = told_its_limits(&stack).await;
            client.send_json(&real(&example["payload"], &auth)).await;
            if operation.replies.is_empty() {
                client.expect_nothing_shown().await;
                continue;
            }
            let answer = client.next_json(10.s()).await;
            let name = document.the_one(&operation.replies, "payload", &answer);
            assert_ne!(name, "error", "{}: {example} is answered by {answer}", operation.name);
            assert_eq!(
                answer.get("id"),
                example["payload"].get("id").filter(|_| name != "authRequired")
            );
        }
    }
}

/// One of each kind, to a client that meets with everything.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_server_says_on_a_socket_is_documented() {
    let document = Document::read();
    let stack = Stack::start().await;
    let mut backend = stack.producer().await;
    let mut client = stack.client().await;
    let said = said_on(&document, "terminator");
    let mut heard = BTreeSet::new();
    let mut hear = |message: &Value| _ = heard.insert(document.the_one(&said, "payload", message));

    client.send_json(&json!({"type": "echo", "payload": "held"})).await;
    hear(&client.expect_required("missing", 10.s()).await);
    hear(&client.try_authenticate(&token_for(SUBJECT).mint()).await);
    hear(&client.next_of_type("reply", 10.s()).await);
    hear(
        &client
            .request("echo", Some(&token_for(SUBJECT).mint()), json!({}))
            .await,
    );
    hear(&client.request("echo", Some("nonsense"), json!({})).await);
    assert_eq!(backend.push_to(SUBJECT, Value::Null).await, "delivered");
    hear(&client.push(10.s()).await);

    hear(&told_its_limits(&stack).await.1);

    let mut brief = stack.client().await;
    let token = token_for(SUBJECT).expiring_in(2.s());
    hear(&brief.try_authenticate(&token.mint()).await);
    hear(&brief.expect_required("expiring", 10.s()).await);
    backend.revoke(&json!({"subject": SUBJECT})).await;
    for message in client.expect_close(CloseCode::Revoked.code(), 10.s()).await {
        hear(&message);
    }
    assert_eq!(heard, said.iter().map(|message| message.name).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_queue_example_is_answered_as_documented() {
    let document = Document::read();
    let stack = Stack::builder().setting("hold-ttl", "1s").start().await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let mut client = stack.client().await;
    let auth = client.authenticate(&token_for(SUBJECT).mint()).await;
    let mut heard = BTreeSet::new();

    // Revocations last: what comes after them would have to be issued after them.
    let (revoking, asking): (Vec<_>, Vec<_>) = document
        .operations_of("broker")
        .into_iter()
        .filter(Operation::is_receive)
        .partition(|operation| operation.name == "revoke");
    for operation in asking.iter().chain(&revoking) {
        for example in examples(operation) {
            let example = real(&example, &auth);
            publish(&document, operation, &queue, &replies, &example).await;
            if example["headers"].get("reply_to").is_some() {
                heard.insert(answer(&document, operation, &mut replies, &example).await);
            }
            if operation.name == "pushByIdentity" {
                let push = client.push(10.s()).await;
                assert_eq!(push["payload"], example["payload"]);
            }
        }
    }

    let mut backend = stack.producer().await;
    let nobody = "00000000000000aa.1f";
    let held = backend.send(&Push::to("nobody", json!(1))).await;
    for outcome in [
        backend.outcome_of(&held, 10.s()).await,
        backend.outcome_of(&held, 30.s()).await,
        backend.push(&Push::to_connection(nobody, json!(1))).await,
    ] {
        heard.insert(document.the_one(&said_on(&document, "broker"), "payload", &outcome));
    }
    // What happens to connections answers nothing, and has a claim of its own.
    heard.extend(EVENTS);
    assert_eq!(heard, said_on(&document, "broker").iter().map(|one| one.name).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_told_of_connections_is_documented() {
    let document = Document::read();
    let told = document.operations_of("broker");
    let told = told
        .iter()
        .find(|operation| !operation.is_receive())
        .expect("an operation");
    let keys: BTreeSet<_> = EventKind::ALL.iter().map(|kind| kind.key()).collect();
    let words = document
        .at("/components/schemas/EventKind/oneOf")
        .as_array()
        .expect("a list");
    let words: BTreeSet<_> = words.iter().filter_map(|one| one["const"].as_str()).collect();
    assert_eq!(words, keys);
    let channel = document.follow(&told.value["channel"]);
    let address = channel["address"].as_str().expect("a pattern of keys");
    let prefix = address.strip_suffix("{what}").expect("a parameter");
    let values = channel["parameters"]["what"]["enum"].as_array().expect("a list");
    let addresses: BTreeSet<_> = values
        .iter()
        .map(|one| format!("{prefix}{}", one.as_str().expect("a word")))
        .collect();
    assert!(
        addresses.iter().map(String::as_str).eq(keys.iter().copied()),
        "{addresses:?}"
    );

    let stack = Stack::builder()
        .setting("jwt-leeway", "0s")
        .setting("connection-events", "on");
    let stack = stack.start().await;
    let exchange = format!("{}.events", stack.namespace());
    let declared = channel["bindings"]["amqp"]["exchange"]["name"]
        .as_str()
        .expect("a name");
    assert_eq!(declared.replace("countersign", stack.namespace()), exchange);
    let audience = Audience::on(stack.queue().await, stack.namespace()).await;
    let (mut first, mut second) = (stack.client().await, stack.client().await);
    let brief = token_for(SUBJECT).expiring_in(2.s()).claim("sid", "s-1");
    first.authenticate(&brief.mint()).await;
    let mut seen = BTreeSet::new();
    let mut hear = async |until: &str| loop {
        let heard = audience.next(30.s()).await;
        let faults = document.faults(&told.messages[0], "payload", &heard.event, true);
        assert_eq!(faults, Vec::<String>::new(), "{}", heard.event);
        let done = heard.key == until;
        seen.insert(heard.key);
        if done {
            return;
        }
    };
    hear("connection.expired").await;
    first.authenticate(&token_for(SUBJECT).mint()).await;
    first.forget().await;
    second.authenticate(&token_for(SUBJECT).mint()).await;
    stack.producer().await.revoke(&json!({"subject": SUBJECT})).await;
    hear("connection.closed").await;
    assert!(seen.iter().map(String::as_str).eq(keys), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_connections_together_is_documented() {
    let document = Document::read();
    let all = document.messages();
    let several = all.iter().find(|message| message.name == EVENTS[1]).expect("a message");
    let stack = Stack::builder().setting("connection-events", "batched").start().await;
    let audience = Audience::on(stack.queue().await, stack.namespace()).await;
    let mut client = stack.client().await;
    client.authenticate(&token_for(SUBJECT).mint()).await;
    client.close().await;
    loop {
        let heard = audience.next(30.s()).await;
        let faults = document.faults(several, "payload", &heard.message.json(), true);
        assert_eq!(faults, Vec::<String>::new(), "{}", heard.event);
        if heard.key == "connection.closed" {
            return;
        }
    }
}

/// All examples of what others send.
fn examples(operation: &Operation<'_>) -> Vec<Value> {
    let messages = operation.messages.iter();
    let all: Vec<_> = messages.flat_map(Message::examples).cloned().collect();
    assert!(!all.is_empty(), "{} has no example", operation.name);
    all
}

/// Every message that Countersign sends there, each once.
fn said_on<'d>(document: &'d Document, server: &str) -> Vec<Message<'d>> {
    let mut said: Vec<Message<'d>> = Vec::new();
    for operation in document.operations_of(server) {
        let own = if operation.is_receive() {
            operation.replies
        } else {
            operation.messages
        };
        for message in own {
            if !said.iter().any(|known| known.name == message.name) {
                said.push(message);
            }
        }
    }
    said
}

/// The example with what no document can know: a token, and names that were told by `auth`.
fn real(example: &Value, auth: &Value) -> Value {
    match example {
        Value::Object(old) => old
            .iter()
            .map(|(name, value)| {
                let value = match name.as_str() {
                    "token" => token_for(SUBJECT).mint().into(),
                    "issuer" => ISSUER.into(),
                    "resume" => auth["resume"].clone(),
                    "connection" => connection_of(auth).into(),
                    _ => real(value, auth),
                };
                (name.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(|item| real(item, auth)).collect(),
        other => other.clone(),
    }
}

/// Publishes an example as its operation and channel say.
async fn publish(document: &Document, operation: &Operation<'_>, queue: &Queue, replies: &ReplyQueue, example: &Value) {
    let channel = document.follow(&operation.value["channel"]);
    let message = operation.messages.first().expect("a message").value;
    let schema = document.follow(&message["headers"]);
    let mut properties = BasicProperties::default();
    let mut headers = FieldTable::default();
    for (name, value) in members(&example["headers"]) {
        let text = value.as_str().expect("a header of text");
        let is_property = document.follow(&schema["properties"][name])["x-amqp"] == "property";
        properties = match name {
            "reply_to" => properties.with_reply_to(replies.name().into()),
            "correlation_id" => properties.with_correlation_id(text.into()),
            "message_id" => properties.with_message_id(text.into()),
            _ => {
                headers.insert(name.into(), AMQPValue::LongString(text.into()));
                properties
            }
        };
        assert_eq!(is_property, !headers.contains_key(name), "{name}");
    }
    let key = channel["address"].as_str().expect("a routing key");
    let body = example["payload"].to_string();
    queue.publish(key, body, properties.with_headers(headers)).await;
}

/// Takes the answer to an example, and returns which message of the document it is.
async fn answer<'d>(
    document: &Document,
    operation: &Operation<'d>,
    replies: &mut ReplyQueue,
    example: &Value,
) -> &'d str {
    let answer: queue::Message = replies.next(10.s()).await;
    let correlation = answer.properties.correlation_id().as_ref().map(ToString::to_string);
    assert_eq!(
        correlation.as_deref(),
        example["headers"].get("correlation_id").and_then(Value::as_str),
        "{example}"
    );
    assert_eq!(
        answer
            .properties
            .content_type()
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        document.at("/defaultContentType").as_str()
    );
    document.the_one(&operation.replies, "payload", &answer.json())
}
