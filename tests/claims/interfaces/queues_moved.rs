//! Messages move from queues of other arguments to those of this version, and none is lost, whenever the move is killed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};
use tests::nodes::process::Process;
use tests::nodes::program::programs;
use tests::{Queue, Span, Stack, eventually, tool};

const MESSAGES: u32 = 1_000;
const RETRIES: u32 = 100;

/// By how much the counts of queues have changed when the move is killed.
const SOME: u32 = 600;

/// As many come twice with each kill, at most: what was under way.
const UNDER_WAY: usize = 64;

/// An administrator's view of the broker.
struct Administrator {
    connection: Connection,
    namespace: String,
}

impl Administrator {
    async fn of(stack: &Stack) -> Self {
        let connection = Connection::connect(&stack.broker().url(), ConnectionProperties::default()).await;
        Self {
            connection: connection.expect("the broker accepts us"),
            namespace: stack.namespace().to_owned(),
        }
    }

    fn name(&self, suffix: &str) -> ShortString {
        format!("{}.{suffix}", self.namespace).as_str().into()
    }

    /// A queue as an earlier version might have declared it, bound with that key.
    async fn declare(&self, suffix: &str, key: &str, arguments: &[(&str, AMQPValue)]) {
        let channel = self.connection.create_channel().await.expect("a channel");
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let internal = self.name("internal");
        channel
            .exchange_declare(internal.clone(), ExchangeKind::Direct, durable, FieldTable::default())
            .await
            .expect("the exchange");
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self.name(suffix);
        let declared = channel.queue_declare(queue.clone(), durable, table).await;
        declared.expect("the queue");
        let options = QueueBindOptions::default();
        let bound = channel.queue_bind(queue, internal, key.into(), options, FieldTable::default());
        bound.await.expect("a binding");
    }

    /// How many messages are ready, and how many consumers there are; 0 if there is no such queue.
    async fn counts(&self, suffix: &str) -> (u32, u32) {
        let channel = self.connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let looked = channel.queue_declare(self.name(suffix), options, FieldTable::default());
        looked
            .await
            .map_or((0, 0), |queue| (queue.message_count(), queue.consumer_count()))
    }

    /// How often each number is in a queue. All came through the internal exchange, with that key and what they had with them.
    async fn numbers(&self, suffix: &str, key: &str) -> BTreeMap<u32, usize> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let mut numbers = BTreeMap::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) = channel.basic_get(self.name(suffix), options).await.expect("the queue") {
            let delivery = got.delivery;
            assert_eq!(delivery.exchange, self.name("internal"));
            assert_eq!(delivery.routing_key.as_str(), key);
            let text = String::from_utf8(delivery.data).expect("a number");
            let properties = &delivery.properties;
            assert_eq!(properties.correlation_id(), &Some(text.as_str().into()));
            let headers = properties.headers().as_ref().expect("headers");
            assert_eq!(
                headers.inner().get("grant"),
                Some(&AMQPValue::LongString("alice".into()))
            );
            *numbers.entry(text.parse().expect("a number")).or_default() += 1;
        }
        numbers
    }
}

async fn publish(stack: &Stack, key: &str, count: u32) {
    let queue = Queue::connect(&stack.broker().url(), stack.namespace()).await;
    let internal = format!("{}.internal", stack.namespace());
    let publishing = (0..count).map(|number| {
        let mut headers = FieldTable::default();
        headers.insert("grant".into(), AMQPValue::LongString("alice".into()));
        let text = number.to_string();
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_correlation_id(text.as_str().into())
            .with_headers(headers);
        let (queue, internal) = (&queue, &internal);
        async move { queue.publish_to(internal, key, text, properties).await }
    });
    futures_util::future::join_all(publishing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_move_to_queues_of_other_arguments_and_none_is_lost_however_often_the_move_is_killed() {
    let mut stack = Stack::builder()
        .terminators(0)
        .workers(0)
        .setting("max-deliveries", "2")
        .start()
        .await;
    let administrator = Administrator::of(&stack).await;
    let number = AMQPValue::LongInt;
    administrator
        .declare("messages", "forward", &[("x-max-length", number(500_000))])
        .await;
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    administrator
        .declare("retry", "retry", &[quorum, ("x-delivery-limit", number(50))])
        .await;
    publish(&stack, "forward", MESSAGES).await;
    publish(&stack, "retry", RETRIES).await;

    let (url, namespace) = (stack.broker().url(), stack.namespace().to_owned());
    let flags = ["--max-deliveries", "2", "--amqp-url", &url, "--namespace", &namespace];
    let queues = |what: &'static str| tool(&[&["queues", what][..], &flags].concat(), "");
    let said = queues("check");
    assert_eq!(said.status, 1, "{said:?}");
    for (suffix, count) in [("messages", MESSAGES), ("retry", RETRIES)] {
        let line = format!("{}.{suffix}: {count} messages; ", stack.namespace());
        assert!(said.stdout.contains(&line), "{said:?}");
    }
    assert_eq!(said.stdout.lines().count(), 2, "{said:?}");

    let counted = async || {
        let mut counts = Vec::new();
        for suffix in ["messages", "moved.messages", "retry", "moved.retry"] {
            counts.push(administrator.counts(suffix).await.0);
        }
        counts
    };
    let mut kills = 0;
    loop {
        let before = counted().await;
        let mut command = Command::new(programs().join("countersign"));
        command.args(["queues", "move"]).args(flags);
        let mut moving = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let ended = eventually(120.s(), "it moves some, or ends", async || {
            if let Some(status) = moving.exit_status() {
                return Some(Some(status));
            }
            let now = counted().await;
            let changed: u32 = before.iter().zip(&now).map(|(before, now)| before.abs_diff(*now)).sum();
            (changed > SOME).then_some(None)
        })
        .await;
        if let Some(status) = ended {
            assert!(status.success(), "{:?}", queues("move"));
            break;
        }
        moving.kill();
        kills += 1;
        assert!(kills < 100, "it comes to no end");
        // The broker has noticed: what was under way is back, and the next may begin.
        eventually(60.s(), "it is gone", async || {
            let mut consumers = 0;
            for suffix in ["messages", "moved.messages", "retry", "moved.retry"] {
                consumers += administrator.counts(suffix).await.1;
            }
            consumers == 0
        })
        .await;
    }
    assert!(kills > 0, "it was never killed in the middle");
    let said = queues("check");
    assert_eq!(said.status, 0, "{said:?}");

    for (suffix, key, count) in [("messages", "forward", MESSAGES), ("retry", "retry", RETRIES)] {
        let numbers = administrator.numbers(suffix, key).await;
        let missing: Vec<_> = (0..count).filter(|number| !numbers.contains_key(number)).collect();
        assert!(missing.is_empty(), "{suffix}: lost {missing:?}");
        let twice = numbers.values().sum::<usize>() - numbers.len();
        assert!(twice <= kills * UNDER_WAY, "{suffix}: {twice} came twice");
    }
    // Programs find what they expect.
    stack.start_terminators(1).await;
    stack.start_workers(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_moved_only_when_no_worker_consumes_from_them() {
    let mut stack = Stack::builder().setting("max-deliveries", "4").start().await;
    let administrator = Administrator::of(&stack).await;
    let url = stack.broker().url();
    let namespace = stack.namespace().to_owned();
    let flags = ["--max-deliveries", "8", "--amqp-url", &url, "--namespace", &namespace];
    let queues = |what: &'static str| tool(&[&["queues", what][..], &flags].concat(), "");
    assert_eq!(queues("check").stdout.lines().count(), 2, "the queues of retries");
    let said = queues("move");
    assert_eq!(said.status, 2, "{said:?}");
    assert!(said.stderr.contains("consumers: stop all workers first"), "{said:?}");
    stack.worker(0).is_ready().await.expect("it works on");

    stack.worker(0).kill();
    eventually(60.s(), "its consumers are gone", async || {
        administrator.counts("retry").await.1 + administrator.counts("injected.retry").await.1 == 0
    })
    .await;
    let said = queues("move");
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(said.stdout.lines().count(), 2, "{said:?}");
    stack.set_for_workers("max-deliveries", "8");
    stack.start_workers(1).await;
    // The terminator has noticed nothing.
    let token = tests::token_for("alice").mint();
    let answer = stack
        .client()
        .await
        .request("echo", Some(&token), serde_json::json!(1))
        .await;
    assert_eq!(answer["payload"], 1);
}
