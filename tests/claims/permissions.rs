//! The least permissions of `docs/permissions.md` are enough, and the injector's are too few for harm.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicGetOptions},
    types::FieldTable,
};
use serde_json::{Value, json};
use tests::{Queue, Span, Stack, eventually, shared_broker, token_for};

/// Configure, write, read, by user, as the page has them for the namespace `countersign`.
fn documented() -> BTreeMap<String, [String; 3]> {
    include_str!("../../docs/permissions.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter(|line| line.contains('`'))
        .map(|line| {
            // A bar within a cell is escaped, so that it does not end the cell.
            let mut cells = line.split(" | ").map(|cell| cell.trim_matches('`').replace(r"\|", "|"));
            let user = cells.next().expect("a user");
            (user, [(); 3].map(|()| cells.next().expect("three permissions")))
        })
        .collect()
}

/// A system whose programs have the documented permissions, and the injector's URL.
async fn permitted() -> (Stack, String) {
    let broker = shared_broker().await;
    let suffix = format!("{:08x}", rand::random::<u32>());
    let name = |user: &str| format!("{user}-{suffix}");
    let stack = Stack::builder()
        .terminators(0)
        .poisoned_workers(0)
        .setting("max-deliveries", "2");
    let stack = stack.users(&broker.url_of(&name("terminator")), &broker.url_of(&name("worker")));
    let stack = stack.start().await;
    for (user, permissions) in documented() {
        let [configure, write, read] = permissions.map(|regex| regex.replace("countersign", stack.namespace()));
        broker.add_user(&name(&user), &configure, &write, &read).await;
    }
    (stack, broker.url_of(&name("injector")))
}

#[tokio::test]
async fn the_documented_permissions_are_enough_for_all_of_it() {
    let (mut stack, injector) = permitted().await;
    stack.start_terminators(1).await;
    stack.start_workers(1).await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    assert_eq!(client.request("echo", Some(&token), json!(1)).await["type"], "reply");

    // One that is given back is processed again, alone.
    let slow = client.ask("slow", Some(&token), json!("slow")).await;
    eventually(5.s(), "it is being handled", async || {
        stack.workers()[0].metric("countersign_worker_in_flight").await > 0.0
    })
    .await;
    stack.worker(0).kill();
    stack.replace_ended_workers();
    assert_eq!(client.answer_to(&slow, 20.s()).await["payload"], "slow");
    stack.worker(0).ready().await;
    assert!(stack.workers()[0].metric("countersign_worker_redeliveries_total").await >= 1.0);

    // One that kills is buried.
    let poison = client.ask("abort", Some(&token), Value::Null).await;
    let administrator = stack.queue().await;
    let dead = format!("{}.dead", stack.namespace());
    let letter = eventually(20.s(), "it is buried", async || {
        stack.replace_ended_workers();
        administrator.get(&dead).await
    })
    .await;
    stack.outlive_poison().await;
    assert_eq!(letter.json()["id"], poison.as_str());
    assert_eq!(client.answer_to(&poison, 10.s()).await["error"]["code"], "internal");

    // An injector is answered by a direct reply, for which it needs no permission.
    let queue = Queue::connect(&injector, stack.namespace()).await;
    let direct = "amq.rabbitmq.reply-to";
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = queue
        .channel()
        .basic_consume(direct.into(), "".into(), options, FieldTable::default());
    let mut answers = consumer.await.unwrap();
    let body = json!({"type": "echo", "token": token}).to_string();
    queue
        .publish("message", body, BasicProperties::default().with_reply_to(direct.into()))
        .await;
    let answer = tokio::time::timeout(10.s(), answers.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&answer.data).unwrap()["type"], "reply");
    client.close().await;
    let complaints: Vec<_> = stack
        .terminators()
        .iter()
        .chain(stack.workers())
        .flat_map(tests::Program::log)
        .collect();
    assert!(
        !complaints.iter().any(|line| line.to_string().contains("ACCESS")),
        "{complaints:?}"
    );
}

#[tokio::test]
async fn an_injector_can_neither_pass_for_a_terminator_nor_read_what_others_sent() {
    let (mut stack, injector) = permitted().await;
    stack.start_terminators(1).await;
    let messages = format!("{}.messages", stack.namespace());
    let internal = format!("{}.internal", stack.namespace());
    for (exchange, key) in [(internal.as_str(), "forward"), ("", messages.as_str())] {
        let queue = Queue::connect(&injector, stack.namespace()).await;
        let refused = queue
            .try_publish(exchange, key, "x", BasicProperties::default(), 5.s())
            .await;
        assert!(refused.unwrap_err().contains("ACCESS"), "{exchange} {key}");
    }
    let queue = Queue::connect(&injector, stack.namespace()).await;
    let refused = queue
        .channel()
        .basic_get(messages.as_str().into(), BasicGetOptions::default())
        .await;
    assert!(refused.unwrap_err().to_string().contains("ACCESS"));
    assert_eq!(stack.queue().await.count(&messages).await, 0);
}
