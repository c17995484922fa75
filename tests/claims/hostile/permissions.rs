//! The least permissions of `docs/permissions.md` are enough, and those of anyone who is outside are too few for harm.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, ExchangeKind,
    options::{BasicConsumeOptions, BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::{
    App, Queue, Span, Stack, Store, connection_of, effect::Effects, eventually, peers::audience::Audience,
    shared_broker, token_for, tool,
};

use crate::authentication::expiry::{SOON, brief, fresh};

/// Configure, write, read, by user, as the page has them for the namespace `countersign`.
pub(crate) fn documented() -> BTreeMap<String, [String; 3]> {
    include_str!("../../../docs/permissions.md")
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

/// The URLs of those who publish from outside.
pub(crate) struct Outside {
    /// Who logs in with its name as its password.
    pub injector_name: String,
    injector: String,
    pusher: String,
    revoker: String,
    /// Who looks after dead letters.
    pub operator: String,
    /// Who looks at the depth of queues.
    pub scaler: String,
    /// Who moves messages to queues of other arguments.
    pub mover: String,
}

/// The name, and password, of another user at a stack's broker, who may inject as the page has it, and do nothing else.
pub(crate) async fn injector_of(stack: &Stack) -> String {
    let name = format!("injector-{}-{:08x}", stack.namespace(), rand::random::<u32>());
    let permissions = documented().remove("injector").expect("an injector");
    let permissions = permissions.map(|regex| regex.replace("countersign", stack.namespace()));
    stack.broker().add_users(&[(name.clone(), permissions)]).await;
    name
}

/// Publishes under `key`, for a subject or no one, and returns what comes back by direct reply-to.
async fn replied(stack: &Stack, url: &str, key: &str, body: Value, subject: Option<&str>) -> Value {
    let queue = Queue::connect(url, stack.namespace()).await;
    let direct = "amq.rabbitmq.reply-to";
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = queue
        .channel()
        .basic_consume(direct.into(), "".into(), options, FieldTable::default());
    let mut answers = consumer.await.unwrap();
    let mut headers = FieldTable::default();
    if let Some(subject) = subject {
        headers.insert("subject".into(), AMQPValue::LongString(subject.into()));
    }
    let properties = BasicProperties::default()
        .with_reply_to(direct.into())
        .with_headers(headers);
    queue.publish(key, body.to_string(), properties).await;
    let answer = tokio::time::timeout(30.s(), answers.next()).await.unwrap();
    serde_json::from_slice(&answer.unwrap().unwrap().data).unwrap()
}

/// A system whose programs have the documented permissions, and the URLs of those outside of it.
pub(crate) async fn permitted() -> (Stack, Outside) {
    let broker = shared_broker().await;
    let suffix = format!("{:08x}", rand::random::<u32>());
    let name = |user: &str| format!("{}-{suffix}", user.replace(' ', "-"));
    let stack = Stack::builder()
        .terminators(0)
        .poisoned_workers(0)
        .setting("max-deliveries", "2");
    let stack = stack.users(&broker.url_of(&name("terminator")), &broker.url_of(&name("worker")));
    let stack = stack.start().await;
    let users = documented().into_iter().map(|(user, permissions)| {
        let permissions = permissions.map(|regex| regex.replace("countersign", stack.namespace()));
        (name(&user), permissions)
    });
    broker.add_users(&users.collect::<Vec<_>>()).await;
    let outside = Outside {
        injector_name: name("injector"),
        injector: broker.url_of(&name("injector")),
        pusher: broker.url_of(&name("pusher")),
        revoker: broker.url_of(&name("revoker")),
        operator: broker.url_of(&name("operator")),
        scaler: broker.url_of(&name("scaler")),
        mover: broker.url_of(&name("mover")),
    };
    (stack, outside)
}

#[tokio::test]
async fn the_documented_permissions_are_enough_for_all_of_it() {
    let (mut stack, users) = permitted().await;
    // A queue of an earlier version is moved before, by its own user.
    let retry = format!("{}.retry", stack.namespace());
    let administrator = stack.queue().await;
    administrator.declare_quorum_queue(&retry).await;
    administrator
        .publish_to("", &retry, "by its name", BasicProperties::default())
        .await;
    let mover = ["--amqp-url", &users.mover, "--namespace", stack.namespace()];
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let internal = format!("{}.internal", stack.namespace());
    let declared = administrator.channel().exchange_declare(
        internal.as_str().into(),
        ExchangeKind::Direct,
        durable,
        FieldTable::default(),
    );
    declared.await.expect("an exchange");
    let moved = tool(&[&["queues", "move", "--max-deliveries", "2"], &mover[..]].concat(), "");
    assert_eq!(moved.status, 0, "{moved:?}");
    assert!(moved.stdout.contains("1 messages moved"), "{moved:?}");
    assert_eq!(administrator.purge(&retry).await, 1);

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

    // Anyone who publishes from outside is answered by a direct reply, for which it needs no permission.
    let answer = replied(
        &stack,
        &users.injector,
        "message",
        json!({"type": "echo", "token": token}),
        None,
    )
    .await;
    assert_eq!(answer["type"], "reply");
    let outcome = replied(&stack, &users.pusher, "push", json!({"n": 1}), Some("alice")).await;
    assert!(
        ["delivered", "held"].contains(&outcome["outcome"].as_str().unwrap()),
        "{outcome}"
    );
    let outcome = replied(&stack, &users.revoker, "revoke", json!({"subject": "mallory"}), None).await;
    assert_eq!(outcome["outcome"], "revoked", "{outcome}");
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

#[tokio::test(flavor = "multi_thread")]
async fn those_of_the_programs_and_of_a_listener_are_enough_for_events() {
    let broker = shared_broker().await;
    let suffix = format!("{:08x}", rand::random::<u32>());
    let name = |user: &str| format!("{}-{suffix}", user.replace(' ', "-"));
    let stack = Stack::builder().terminators(0).workers(0);
    let stack = stack.setting("connection-events", "on");
    let stack = stack.users(&broker.url_of(&name("terminator")), &broker.url_of(&name("worker")));
    let mut stack = stack.start().await;
    let mut documented = documented();
    for user in ["terminator", "worker", "listener"] {
        let permissions = documented.remove(user).expect("it is on the page");
        let [configure, write, read] = permissions.map(|regex| regex.replace("countersign", stack.namespace()));
        broker.add_user(&name(user), &configure, &write, &read).await;
    }
    stack.start_workers(1).await;
    stack.start_terminators(1).await;
    let url = broker.url_of(&name("listener"));
    let namespace = stack.namespace().to_owned();
    let listener = || Queue::connect(&url, &namespace);
    let audience = Audience::on(listener().await, stack.namespace()).await;
    let mut client = stack.client().await;
    let connection = connection_of(&client.authenticate(&fresh("alice")).await);
    client.close().await;
    assert_eq!(audience.until_closed(&connection, SOON).await.len(), 3);
    let mut lost = stack.client().await;
    let lost_id = connection_of(&lost.authenticate(&fresh("bob")).await);
    let entered = "countersign_worker_open_events_total";
    eventually(SOON, "workers know of it", async || {
        stack.workers()[0].metric(entered).await >= 5.0
    })
    .await;
    stack.terminator(0).kill();
    let terminator = lost_id.split('.').next().expect("a terminator");
    let return_queue = format!("{}.return.{terminator}", stack.namespace());
    stack.queue().await.delete(&return_queue).await;
    assert_eq!(audience.until_closed(&lost_id, SOON).await.len(), 3);
    // A listener tells nothing, and reads nothing else.
    let ours = |name: &str| format!("{namespace}.{name}");
    for (exchange, key) in [(ours("events"), "connection.closed"), (ours("internal"), "open")] {
        let properties = BasicProperties::default();
        let refused = listener()
            .await
            .try_publish(&exchange, key, "x", properties, 5.s())
            .await;
        assert!(refused.unwrap_err().contains("ACCESS"), "{exchange} {key}");
    }
    for queue in ["messages", "open", "dead"] {
        let queue = ours(queue);
        let theirs = listener().await;
        let got = theirs
            .channel()
            .basic_get(queue.as_str().into(), BasicGetOptions::default());
        assert!(got.await.unwrap_err().to_string().contains("ACCESS"), "{queue}");
    }
}

#[tokio::test]
async fn those_of_an_application_and_of_its_worker_are_enough_to_ask_and_to_answer() {
    let broker = shared_broker().await;
    let suffix = format!("{:08x}", rand::random::<u32>());
    let name = |user: &str| format!("{}-{suffix}", user.replace(' ', "-"));
    let stack = Stack::builder().terminators(0).workers(0).setting("handler", "amqp");
    let stack = stack.users(
        &broker.url_of(&name("terminator")),
        &broker.url_of(&name("amqp worker")),
    );
    let mut stack = stack.start().await;
    let users = documented().into_iter().map(|(user, permissions)| {
        let permissions = permissions.map(|regex| regex.replace("countersign", stack.namespace()));
        (name(&user), permissions)
    });
    broker.add_users(&users.collect::<Vec<_>>()).await;
    stack.start_workers(1).await;
    stack.start_terminators(1).await;
    let queue = Queue::connect(&broker.url_of(&name("application")), stack.namespace()).await;
    let mut app = App::idle_on(queue, stack.namespace(), "#").await;
    app.consume().await;
    let mut client = stack.client().await;
    let id = client.ask("x", Some(&token_for("alice").mint()), json!(1)).await;
    let asked = app.next().await;
    app.answer(&asked, "2").await;
    assert_eq!(client.answer_to(&id, 10.s()).await["payload"], 2);
    // Not even an application reads what clients have sent.
    for queue in ["messages", "injected", "pushes", "undelivered"] {
        let theirs = Queue::connect(&broker.url_of(&name("application")), stack.namespace()).await;
        let queue = format!("{}.{queue}", stack.namespace());
        let refused = theirs
            .channel()
            .basic_get(queue.as_str().into(), BasicGetOptions::default())
            .await;
        assert!(refused.unwrap_err().to_string().contains("ACCESS"), "{queue}");
    }
}

#[tokio::test]
async fn nobody_outside_can_pass_for_a_terminator_or_a_worker_nor_read_what_others_sent() {
    let (mut stack, users) = permitted().await;
    stack.start_terminators(1).await;
    let ours = |name: &str| format!("{}.{name}", stack.namespace());
    let internal = ours("internal");
    for url in [&users.injector, &users.pusher, &users.revoker] {
        for (exchange, key) in [
            (&*internal, "forward"),
            (&*internal, "undelivered"),
            (&*internal, "revoked"),
            ("", &*ours("messages")),
            ("", &*ours("injected")),
            ("", &*ours("pushes")),
        ] {
            let queue = Queue::connect(url, stack.namespace()).await;
            let refused = queue
                .try_publish(exchange, key, "x", BasicProperties::default(), 5.s())
                .await;
            assert!(refused.unwrap_err().contains("ACCESS"), "{url} {exchange} {key}");
        }
        for name in ["messages", "injected", "pushes", "revocations", "undelivered", "dead"] {
            let queue = Queue::connect(url, stack.namespace()).await;
            let refused = queue
                .channel()
                .basic_get(ours(name).as_str().into(), BasicGetOptions::default())
                .await;
            assert!(refused.unwrap_err().to_string().contains("ACCESS"), "{url} {name}");
        }
    }
    assert_eq!(stack.queue().await.count(&ours("messages")).await, 0);
}

#[tokio::test]
async fn whoever_has_an_exchange_of_its_own_may_push_and_nothing_else() {
    let (mut stack, _) = permitted().await;
    stack.start_terminators(1).await;
    stack.start_workers(1).await;
    let administrator = stack.queue().await;
    let exchange = format!("{}-pushers", stack.namespace());
    let (direct, options) = (lapin::ExchangeKind::Direct, ExchangeDeclareOptions::default());
    let channel = administrator.channel();
    channel
        .exchange_declare(exchange.as_str().into(), direct, options, FieldTable::default())
        .await
        .unwrap();
    let pushes = format!("{}.pushes", stack.namespace());
    channel
        .queue_bind(
            pushes.as_str().into(),
            exchange.as_str().into(),
            "push".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let broker = shared_broker().await;
    let name = format!("narrow-{:08x}", rand::random::<u32>());
    let url = broker.add_user(&name, "^$", &format!("^{exchange}$"), "^$").await;
    let queue = Queue::connect(&url, &exchange).await;
    let mut outcomes = administrator.reply_queue().await;
    let mut headers = FieldTable::default();
    headers.insert("subject".into(), AMQPValue::LongString("alice".into()));
    queue
        .publish("push", "1", outcomes.properties().with_headers(headers))
        .await;
    assert_eq!(outcomes.next(10.s()).await.json(), json!({"outcome": "held"}));
    let refused = queue
        .try_publish(stack.namespace(), "revoke", "{}", BasicProperties::default(), 5.s())
        .await;
    assert!(refused.unwrap_err().contains("ACCESS"));
}

/// The user of the store, as the page has it for the namespace `countersign`: what follows `user worker`.
fn documented_store_rules(namespace: &str) -> Vec<String> {
    let page = include_str!("../../../docs/permissions.md");
    let line = page.lines().find_map(|line| line.strip_prefix("user worker "));
    let rules = line.expect("a line of an ACL file").split(' ');
    rules
        .map(|rule| rule.replace("countersign:", &format!("{namespace}:")))
        .collect()
}

async fn admit(store: &Store, rules: &[String]) {
    let mut administrator = store.connect().await.unwrap();
    let mut allow = redis::cmd("ACL");
    allow.arg(&["SETUSER", "worker"]).arg(rules);
    allow.exec_async(&mut administrator).await.unwrap();
}

/// What was denied to whom, as the store itself has logged it. That a client may not say which library it is hinders
/// no one.
async fn denied(store: &Store) -> String {
    let mut administrator = store.connect().await.unwrap();
    let mut log = redis::cmd("ACL");
    log.arg("LOG");
    let redis::Value::Array(entries) = log.query_async(&mut administrator).await.unwrap() else {
        panic!("the log is a list");
    };
    let entries = entries.iter().map(|entry| format!("{entry:?}"));
    let denied: Vec<_> = entries.filter(|entry| !entry.contains("client|setinfo")).collect();
    denied.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rules_of_the_store_are_enough_for_all_of_it() {
    let store = Arc::new(Store::start().await);
    let url = store.url().replace("//", "//worker:PASSWORD@");
    let stack = Stack::builder()
        .store(&store)
        .poisoned_workers(0)
        .setting("store-url", &url)
        .setting("jwt-leeway", "0s")
        .setting("idempotency-window", "10m");
    let mut stack = stack.start().await;
    admit(&store, &documented_store_rules(stack.namespace())).await;
    stack.start_workers(2).await;
    let mut backend = stack.producer().await;
    let (mut alice, mut bob) = (stack.client().await, stack.client().await);
    // Proved, expired, held, resumed; pushed to, meanwhile and after.
    let token = brief("alice");
    let key = alice.authenticate(&token.mint()).await["resume"].clone();
    token.expired().await;
    let held = alice.ask("echo", None, json!("held")).await;
    alice.expect_required("expired", SOON).await;
    assert_eq!(backend.push_to("alice", 1).await, "held");
    alice.close().await;
    let mut next = stack.client().await;
    next.resume(&fresh("alice"), key.as_str().expect("a key")).await;
    assert_eq!(next.answer_to(&held, SOON).await["payload"], "held");
    assert_eq!(next.push(SOON).await["payload"], 1);
    // Once, and no second time.
    for kind in ["echo", "echo", "fail"] {
        let message = json!({"id": "once", "type": kind, "payload": 1});
        next.send_json(&message).await;
        let answer = next.answer_to("once", SOON).await;
        let told = (&answer["payload"], &answer["error"]["code"]);
        let refused = kind == "fail";
        assert_eq!(told.0 == 1, !refused, "{answer}");
        assert_eq!(told.1 == "duplicate", refused, "{answer}");
    }
    let effects = Effects::default();
    let busy = json!({"id": "busy", "type": "effect", "payload": effects.payload("busy")});
    next.send_json(&busy).await;
    assert_eq!(next.answer_to("busy", SOON).await["error"]["code"], "busy");
    next.forget().await;
    // Revoked.
    bob.authenticate(&fresh("bob")).await;
    backend.revoke(&json!({"subject": "bob"})).await;
    bob.expect_close(4503, SOON).await;
    assert_eq!(denied(&store).await, "");
    assert!(
        store.dump().await.contains(":decisions"),
        "the worker wrote what it had to"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rules_of_the_store_name_what_is_needed_and_let_nobody_do_more() {
    let rules = documented_store_rules("countersign");
    let named: BTreeSet<_> = rules.iter().filter_map(|rule| rule.strip_prefix('+')).collect();
    let needed = worker::store::COMMANDS
        .iter()
        .map(|command| command.to_lowercase().replace(' ', "|"));
    let needed: Vec<_> = needed.collect();
    assert_eq!(named, needed.iter().map(String::as_str).collect());

    let store = Store::start().await;
    admit(&store, &rules).await;
    let client = redis::Client::open(store.url().replace("//", "//worker:PASSWORD@")).unwrap();
    let mut worker = client.get_multiplexed_async_connection().await.unwrap();
    let mut ask = async |command: &[&str]| {
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async::<redis::Value>(&mut worker).await
    };
    ask(&["HSET", "countersign:a", "b", "c"]).await.unwrap();
    for command in [
        &["HSET", "other:a", "b", "c"][..],
        &["HGET", "countersign", "b"],
        &["KEYS", "*"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["SCRIPT", "FLUSH"],
        &["PUBLISH", "countersign:a", "b"],
        &["ACL", "LIST"],
    ] {
        let refused = ask(command).await.unwrap_err().to_string();
        assert!(
            refused.contains("NOPERM") || refused.contains("permissions"),
            "{command:?}: {refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_documented_rules_need_one_command_more() {
    let store = Arc::new(Store::start_clustered().await);
    let url = store.url().replace("redis://", "redis-cluster://worker:PASSWORD@");
    let stack = Stack::builder().store(&store).workers(0).setting("store-url", &url);
    let mut stack = stack.start().await;
    let mut rules = documented_store_rules(stack.namespace());
    rules.push("+cluster|slots".to_owned());
    admit(&store, &rules).await;
    stack.start_workers(1).await;
    let mut alice = stack.client().await;
    let answer = alice.request("echo", Some(&fresh("alice")), json!(1)).await;
    assert_eq!(answer["payload"], 1, "{answer}");
    assert_eq!(denied(&store).await, "");
}
