//! A message can be followed from the socket to the handler and back, and nothing waits for anyone who follows.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tests::servers::app::text;
use tests::servers::collector::Exported;
use tests::servers::upstream::{Asked, Said};
use tests::{App, Collector, Span, Stack, Upstream, eventually, token_for};

use crate::authentication::expiry::SOON;

/// A trace that someone else has begun.
const FOREIGN: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const FOREIGN_SPAN: &str = "00f067aa0ba902b7";

fn foreign(flags: &str) -> FieldTable {
    let mut headers = FieldTable::default();
    let text = format!("00-{FOREIGN}-{FOREIGN_SPAN}-{flags}");
    headers.insert("traceparent".into(), AMQPValue::LongString(text.into()));
    headers
}

async fn stack(collector: &Collector, ratio: &str) -> Stack {
    Stack::builder()
        .setting("otlp-endpoint", &collector.url())
        .setting("trace-sample-ratio", ratio)
        .setting("jwt-leeway", "0s")
        .start()
        .await
}

/// Each span's parent, by their names: `process` < `publish`.
fn parents(spans: &[Exported]) -> BTreeMap<String, String> {
    let name_of = |id: &str| {
        let parent = spans.iter().find(|span| span.id == id);
        parent.map_or(format!("({id})"), |span| span.name.clone())
    };
    spans
        .iter()
        .map(|span| (span.name.clone(), name_of(&span.parent)))
        .collect()
}

#[tokio::test]
async fn a_message_is_one_trace_from_the_socket_to_the_handler_and_back() {
    let collector = Collector::start().await;
    let stack = stack(&collector, "1").await;
    let mut client = stack.client().await;
    client.request("echo", Some(&token_for("alice").mint()), json!(1)).await;
    let root = collector.span("receive").await;
    let all = [
        "receive", "publish", "process", "verify", "store", "handle", "answer", "write",
    ];
    let spans = collector.trace_with(&root.trace, &all).await;
    let expected = [
        ("receive", "()"),
        ("publish", "receive"),
        ("process", "publish"),
        ("verify", "process"),
        ("store", "process"),
        ("handle", "process"),
        ("answer", "process"),
        ("write", "answer"),
    ];
    let expected = expected.map(|(span, parent)| (span.to_owned(), parent.to_owned()));
    assert_eq!(parents(&spans), BTreeMap::from(expected), "{spans:#?}");
    for span in &spans {
        let service = match span.name.as_str() {
            "receive" | "publish" | "write" => "countersign-terminator",
            _ => "countersign-worker",
        };
        assert_eq!((span.service.as_str(), span.failed), (service, false), "{span:?}");
    }
    let process = spans.iter().find(|span| span.name == "process").expect("it is there");
    let expected = [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.type", "process"),
        ("countersign.type", "echo"),
        ("countersign.verdict", "valid"),
        ("countersign.outcome", "handled"),
    ];
    for (name, value) in expected {
        assert_eq!(
            process.attributes.get(name).map(String::as_str),
            Some(value),
            "{process:?}"
        );
    }
    assert_eq!(process.attributes["enduser.pseudo.id"].len(), 32);
    assert!(
        !collector.everything().contains("alice"),
        "people are told apart, not named"
    );
}

#[tokio::test]
async fn what_a_handler_logs_has_the_name_of_the_trace() {
    let collector = Collector::start().await;
    let stack = Stack::builder()
        .poisoned_workers(1)
        .setting("otlp-endpoint", &collector.url())
        .setting("trace-sample-ratio", "1");
    let stack = stack.start().await;
    let mut client = stack.client().await;
    client
        .request("panic", Some(&token_for("alice").mint()), json!(1))
        .await;
    let handle = collector.span("handle").await;
    assert!(
        handle.failed && handle.attributes["error.type"] == "panic",
        "{handle:?}"
    );
    let log = stack.workers()[0].log();
    let line = log.iter().find(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("the handler panicked"))
    });
    assert_eq!(line.expect("it is logged")["span"]["trace_id"], handle.trace.as_str());
}

#[tokio::test]
async fn a_handler_can_hand_the_trace_on_to_whoever_it_asks() {
    let collector = Collector::start().await;
    let stack = Stack::builder()
        .poisoned_workers(1)
        .setting("otlp-endpoint", &collector.url())
        .setting("trace-sample-ratio", "0");
    let stack = stack.start().await;
    let queue = stack.queue().await;
    let message = json!({"type": "trace", "token": token_for("alice").mint()}).to_string();
    let mut handed_on = Vec::new();
    for headers in [FieldTable::default(), foreign("00"), foreign("01")] {
        let mut replies = queue.reply_queue().await;
        let properties = replies.properties().with_headers(headers);
        queue.publish("message", &message, properties).await;
        handed_on.push(replies.next(SOON).await.json()["payload"].clone());
    }
    let handle = collector.span("handle").await;
    let expected = [
        json!({}),
        // That it was not drawn is for others to know too.
        json!({"traceparent": format!("00-{FOREIGN}-{FOREIGN_SPAN}-00")}),
        json!({"traceparent": format!("00-{FOREIGN}-{}-01", handle.id)}),
    ];
    assert_eq!(handed_on, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_elsewhere_is_told_the_trace_that_it_is_part_of() {
    let collector = Collector::start().await;
    let upstream = Upstream::start(|_: &Asked| Said::status(200, "1")).await;
    for handler in ["amqp".to_owned(), upstream.handler()] {
        let stack = Stack::builder()
            .setting("otlp-endpoint", &collector.url())
            .setting("trace-sample-ratio", "1")
            .setting("handler", &handler)
            .start()
            .await;
        let mut app = None;
        if handler == "amqp" {
            app = Some(App::start(&stack, "#").await);
        }
        let mut client = stack.client().await;
        let id = client.ask("order", Some(&token_for("alice").mint()), json!(1)).await;
        let told = if let Some(app) = &mut app {
            let asked = app.next().await;
            app.answer(&asked, "1").await;
            text(&asked, "traceparent")
        } else {
            client.answer_to(&id, SOON).await;
            upstream.asked()[0].header("traceparent").map(str::to_owned)
        };
        let told = told.expect("a traceparent");
        let spans = collector.trace_with(&told[3..35], &["handle"]).await;
        let handle = spans.iter().find(|span| span.name == "handle").expect("it is there");
        assert_eq!(told, format!("00-{}-{}-01", handle.trace, handle.id));
    }
}

#[tokio::test]
async fn an_injector_s_trace_goes_on_if_it_says_so_and_only_then() {
    let collector = Collector::start().await;
    // Nothing is begun here, and what is brought is followed all the same.
    let stack = stack(&collector, "0").await;
    let queue = stack.queue().await;
    let message = json!({"type": "echo", "token": token_for("alice").mint(), "payload": 1}).to_string();
    for flags in ["00", "01"] {
        let mut replies = queue.reply_queue().await;
        queue
            .publish("message", &message, replies.properties().with_headers(foreign(flags)))
            .await;
        let answer = replies.next(SOON).await;
        let goes_on = match answer.header("traceparent") {
            Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).contains(FOREIGN),
            other => other.is_some(),
        };
        assert_eq!(goes_on, flags == "01");
    }
    let spans = collector
        .trace_with(FOREIGN, &["process", "verify", "handle", "answer"])
        .await;
    let process: Vec<_> = spans.iter().filter(|span| span.name == "process").collect();
    assert_eq!(process.len(), 1, "{spans:?}");
    assert_eq!(process[0].parent, FOREIGN_SPAN);
}

#[tokio::test]
async fn an_injector_can_have_no_more_than_so_many_traces() {
    let collector = Collector::start().await;
    let stack = stack(&collector, "0").await;
    let queue = stack.queue().await;
    let message = json!({"type": "echo", "token": token_for("alice").mint()}).to_string();
    let mut replies = queue.reply_queue().await;
    // Only in nine seconds could all of them be traced.
    let publish =
        (0..1_000).map(|_| queue.publish("message", &message, replies.properties().with_headers(foreign("01"))));
    futures_util::future::join_all(publish).await;
    let mut traced = 0;
    for _ in 0..1_000 {
        traced += usize::from(replies.next(SOON).await.header("traceparent").is_some());
    }
    assert!((100..1_000).contains(&traced), "{traced}");
}

#[tokio::test]
async fn what_is_held_goes_on_in_a_trace_that_goes_back_to_the_first() {
    let collector = Collector::start().await;
    let stack = stack(&collector, "1").await;
    let mut client = stack.client().await;
    let brief = token_for("alice").expiring_in(2.s());
    client.authenticate(&brief.mint()).await;
    brief.expired().await;
    let id = client.ask("echo", None, json!("later")).await;
    client.expect_required("expired", SOON).await;
    client.authenticate(&token_for("alice").mint()).await;
    assert_eq!(client.answer_to(&id, SOON).await["payload"], "later");
    let released = eventually(20.s(), "the release is exported", async || {
        collector.spans().into_iter().find(|span| !span.links.is_empty())
    })
    .await;
    let held = eventually(20.s(), "the hold is exported", async || {
        let is_held = |span: &Exported| {
            span.attributes
                .get("countersign.outcome")
                .is_some_and(|outcome| outcome == "held")
        };
        collector.spans().into_iter().find(is_held)
    })
    .await;
    assert_eq!(
        (released.name.as_str(), &released.links),
        ("process", &vec![held.trace])
    );
    let spans = collector
        .trace_with(&released.trace, &["process", "handle", "answer", "write"])
        .await;
    assert_eq!(parents(&spans)["handle"], "process", "{spans:?}");
}

#[tokio::test]
async fn a_message_that_waits_for_those_before_it_stays_in_its_trace() {
    let collector = Collector::start().await;
    let mut stack = Stack::builder()
        .setting("otlp-endpoint", &collector.url())
        .setting("trace-sample-ratio", "1")
        .setting("order", "none")
        .start()
        .await;
    let mut client = stack.client().await;
    // Whether the second may be handled is for the first to say, and that is not settled when the second is read.
    stack.worker(0).freeze().await;
    client.ask("echo", Some(&token_for("alice").mint()), json!(1)).await;
    let second = client.ask("echo", None, json!(2)).await;
    crate::faults::kills::in_flight(&stack.terminators()[0], 2.0).await;
    stack.worker(0).thaw();
    assert_eq!(client.answer_to(&second, SOON).await["payload"], 2);
    let waited = collector.span("wait").await;
    let spans = eventually(20.s(), "both rounds are exported", async || {
        let spans = collector.trace_with(&waited.trace, &["receive", "write"]).await;
        let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
        let both = (count("publish"), count("process")) == (2, 2);
        if both { Ok(spans) } else { Err(spans) }
    })
    .await;
    let again = spans.iter().find(|span| span.parent == waited.id);
    assert_eq!(again.map(|span| span.name.as_str()), Some("publish"), "it goes on");
}

#[tokio::test]
async fn where_nothing_is_traced_nothing_is_on_the_broker() {
    let collector = Collector::start().await;
    for settings in [
        &[][..],
        &[
            ("otlp-endpoint", collector.url()),
            ("trace-sample-ratio", "0".to_owned()),
        ][..],
    ] {
        let stack = settings
            .iter()
            // What is taken out of the queue is answered by no one.
            .fold(
                Stack::builder().workers(0).setting("order", "none"),
                |stack, (name, value)| stack.setting(name, value),
            );
        let mut stack = stack.start().await;
        let queue = stack.queue().await;
        let mut client = stack.client().await;
        let token = token_for("alice").mint();
        client.ask("echo", Some(&token), json!(1)).await;
        let messages = format!("{}.messages", stack.namespace());
        let message = eventually(SOON, "it is in the queue", async || queue.get(&messages).await).await;
        assert!(
            !message.everything().contains("traceparent"),
            "{}",
            message.everything()
        );
        stack.start_workers(1).await;
        client.request("echo", Some(&token), json!(1)).await;
        let injected = queue.request(&json!({"type": "echo", "token": token})).await;
        assert!(
            !injected.everything().contains("traceparent"),
            "{}",
            injected.everything()
        );
        end(&mut stack).await;
    }
    assert_eq!(collector.spans(), []);
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_nothing_and_what_it_misses_is_counted() {
    let mut collector = Collector::away();
    let mut stack = stack(&collector, "1").await;
    let mut client = stack.client().await;
    let token = token_for("alice").mint();
    for number in 0..200 {
        assert_eq!(
            client.request("echo", Some(&token), json!(number)).await["payload"],
            number
        );
    }
    for (program, name) in [(&stack.terminators()[0], "terminator"), (&stack.workers()[0], "worker")] {
        let failed = format!("countersign_{name}_spans_total{{outcome=\"failed\"}}");
        // Twice, and it is told once.
        let mut before = 0.0;
        for _ in 0..2 {
            before = eventually(30.s(), "it is counted", async || {
                let now = program.metrics().await[&failed];
                (now > before).then_some(now)
            })
            .await;
            client.request("echo", Some(&token), Value::Null).await;
        }
        assert_eq!(program.stderr().matches("traces cannot be exported").count(), 1, "once");
    }
    collector.come().await;
    eventually(20.s(), "it is sent again", async || {
        client.request("echo", Some(&token), Value::Null).await;
        !collector.spans().is_empty()
    })
    .await;
    end(&mut stack).await;
    assert!(stack.workers()[0].stderr().contains("traces are exported again"));
}

#[tokio::test]
async fn the_last_spans_leave_before_the_program_does() {
    let collector = Collector::start().await;
    let mut stack = stack(&collector, "1").await;
    let mut client = stack.client().await;
    client.request("echo", Some(&token_for("alice").mint()), json!(1)).await;
    // Nothing is left to wait for.
    client.close().await;
    end(&mut stack).await;
    let spans = collector.spans();
    for name in ["receive", "process", "write"] {
        assert!(spans.iter().any(|span| span.name == name), "{name} is among {spans:?}");
    }
}

#[tokio::test]
async fn no_part_of_a_token_is_exported() {
    let collector = Collector::start().await;
    let stack = stack(&collector, "1").await;
    let queue = stack.queue().await;
    let token = token_for("alice").claim("canary", "c4n4ry").mint();
    let expired = token_for("alice")
        .claim("canary", "c4n4ry")
        .expired_since(60.s())
        .mint();
    let mut client = stack.client().await;
    for token in [&token, &expired] {
        client.ask("echo", Some(token), json!("p4yl0ad")).await;
        client
            .send_text(&json!({"type": format!("{token:.127}"), "token": token}).to_string())
            .await;
        client.send_text(&format!("Bearer {token}")).await;
        client.ping(SOON).await;
        // An injector may put one anywhere.
        let mut headers = foreign("01");
        headers.insert(
            "tracestate".into(),
            AMQPValue::LongString(format!("a={token:.250}").into()),
        );
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_correlation_id(format!("{token:.255}").as_str().into())
            .with_reply_to(format!("amq.gen-{token:.247}").as_str().into());
        queue
            .publish(
                "message",
                json!({"type": "echo", "token": token}).to_string(),
                properties,
            )
            .await;
    }
    collector
        .trace_with(FOREIGN, &["process", "verify", "handle", "answer"])
        .await;
    collector.span("write").await;
    let everything = collector.everything();
    for token in [&token, &expired] {
        for segment in token.split('.') {
            assert!(!everything.contains(&segment[..24]), "{everything}");
        }
    }
    assert!(!everything.contains("c4n4ry") && !everything.contains("p4yl0ad") && !everything.contains("alice"));
}

async fn end(stack: &mut Stack) {
    stack.terminator(0).terminate();
    assert!(stack.terminator(0).wait_exit(30.s()).await.success());
    stack.worker(0).terminate();
    assert!(stack.worker(0).wait_exit(30.s()).await.success());
}

#[tokio::test]
async fn each_stage_of_a_message_is_a_line_of_the_log_that_names_it() {
    let stack = Stack::builder().setting("log-filter", "info,countersign::journey=debug");
    let stack = stack.start().await;
    let mut client = stack.client().await;
    let token = token_for("alice").mint();
    client.request("echo", Some(&token), json!(1)).await;
    let expected = [
        (
            &stack.terminators()[0],
            ["forward", "queue", "return", "socket"].as_slice(),
        ),
        (
            &stack.workers()[0],
            &["worker", "verdict", "granted", "handler", "return"],
        ),
    ];
    let mut names = Vec::new();
    for (program, stages) in expected {
        let lines = eventually(SOON, "all its stages are logged", async || {
            let mut log = program.log();
            log.retain(|line| line["target"] == "countersign::journey");
            let has = |stage: &&str| log.iter().any(|line| line["stage"] == *stage);
            stages.iter().all(has).then_some(log)
        })
        .await;
        names.extend(lines.iter().map(|line| line["message_id"].clone()));
        assert!(lines.iter().all(|line| line["event"].is_string()), "{lines:?}");
    }
    names.dedup();
    assert_eq!(names.len(), 1, "it is one message: {names:?}");
}
