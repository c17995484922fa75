//! Given up means given up: the worker that has a message stops, whichever it is, and what is not begun will not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tests::servers::upstream::Said;
use tests::{App, Client, Span, Stack, Upstream, eventually, token_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn alice(stack: &Stack) -> Client {
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    client
}

/// The error without its words.
fn told(answer: &Value) -> Value {
    let error = &answer["error"];
    json!([error["code"], error["temporary"], error["effect"]])
}

/// An application that answers nothing, and counts who asks and who hangs up.
#[derive(Default)]
struct Silent {
    asked: AtomicUsize,
    hung_up: AtomicUsize,
}

impl Silent {
    async fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let silent = Arc::<Self>::default();
        let counts = silent.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(counts.clone().listen(stream));
            }
        });
        (silent, format!("http:http://{address}/"))
    }

    async fn listen(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = [0; 4_096];
        let mut is_asked = false;
        while matches!(stream.read(&mut buffer).await, Ok(1..)) {
            if !is_asked {
                is_asked = true;
                self.asked.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.hung_up.fetch_add(usize::from(is_asked), Ordering::SeqCst);
        let _ = stream.shutdown().await;
    }

    async fn wait(&self, asked: usize, hung_up: usize) {
        eventually(30.s(), "so many ask, and hang up", async || {
            self.asked.load(Ordering::SeqCst) == asked && self.hung_up.load(Ordering::SeqCst) == hung_up
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_its_client_gives_up_is_hung_up_on_whichever_worker_has_it() {
    let (application, handler) = Silent::start().await;
    let stack = Stack::builder()
        .workers(3)
        .setting("handler", &handler)
        .setting("handler-timeout", "1h")
        .start()
        .await;
    // Each on a connection of its own, so that no order is asked of them.
    for number in 0..6 {
        let mut client = alice(&stack).await;
        let mut other = alice(&stack).await;
        for client in [&mut client, &mut other] {
            client.send_json(&json!({"id": "1", "type": "x"})).await;
        }
        application.wait(2 * number + 2, 2 * number).await;
        client.send_json(&json!({"cancel": "1"})).await;
        assert_eq!(
            told(&client.answer_to("1", 30.s()).await),
            json!(["cancelled", true, "unknown"])
        );
        application.wait(2 * number + 2, 2 * number + 1).await;
        // That was its own, and this is another's.
        other.expect_nothing_shown().await;
        other.send_json(&json!({"cancel": "1"})).await;
        assert_eq!(told(&other.answer_to("1", 30.s()).await)[0], "cancelled");
        application.wait(2 * number + 2, 2 * number + 2).await;
        client.expect_nothing_shown().await;
    }
}

/// A worker that has one message at a time handled by that application, and takes more of them.
pub(crate) async fn with_one_place(upstream: &Upstream) -> Stack {
    Stack::builder()
        .setting("handler", &upstream.handler())
        .setting("handler-timeout", "1h")
        .setting("concurrency", "1")
        .setting("prefetch", "16")
        .setting("concurrency-per-type-percent", "100")
        .setting("concurrency-per-identity-percent", "100")
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_turn_leaves_it_and_an_id_can_be_used_again() {
    let upstream = Upstream::start(|asked| match asked.kind() {
        "hangs" => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = with_one_place(&upstream).await;
    let (mut slow, mut client) = (alice(&stack).await, alice(&stack).await);
    slow.send_json(&json!({"id": "1", "type": "hangs"})).await;
    eventually(30.s(), "it is with the application", async || {
        upstream.asked().len() == 1
    })
    .await;
    client.send_json(&json!({"id": 1, "type": "x"})).await;
    client.send_json(&json!({"cancel": 1})).await;
    let refused = client.next_json(30.s()).await;
    assert_eq!(
        (&refused["id"], told(&refused)),
        (&json!(1), json!(["cancelled", true, "none"]))
    );
    slow.send_json(&json!({"cancel": "1"})).await;
    assert_eq!(told(&slow.answer_to("1", 30.s()).await)[0], "cancelled");
    slow.send_json(&json!({"id": "1", "type": "x"})).await;
    assert_eq!(slow.answer_to("1", 30.s()).await["payload"], 1);
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_amqp_nobody_waits_any_more_and_with_idempotency_it_can_be_asked_again() {
    let stack = Stack::builder()
        .setting("handler", "amqp")
        .setting("handler-timeout", "1h")
        .setting("idempotency-window", "1m")
        .start()
        .await;
    let mut app = App::start(&stack, "#").await;
    let mut client = alice(&stack).await;
    for answer in [None, Some("1")] {
        client.send_json(&json!({"id": "1", "type": "x"})).await;
        let asked = app.next().await;
        match answer {
            Some(answer) => {
                app.answer(&asked, answer).await;
                assert_eq!(client.answer_to("1", 30.s()).await["payload"], 1);
            }
            None => {
                client.send_json(&json!({"cancel": "1"})).await;
                assert_eq!(told(&client.answer_to("1", 30.s()).await)[0], "cancelled");
            }
        }
    }
    // What is answered stays so.
    client.send_json(&json!({"cancel": "1"})).await;
    client.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_name_cannot_be_given_up_and_nobody_can_without_a_connection() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    for wrong in [
        json!({"cancel": {}}),
        json!({"cancel": ""}),
        json!({"cancel": 1.5}),
        json!({"cancel": "x".repeat(129)}),
    ] {
        client.send_json(&wrong).await;
        let error = client.next_of_type("error", 30.s()).await;
        assert_eq!(error["error"]["code"], "bad_request");
        assert!(
            error["error"]["message"]
                .as_str()
                .is_some_and(|why| why.contains("`cancel`")),
            "{error}"
        );
    }
    let answer = stack.queue().await.request(&json!({"cancel": "1"})).await.json();
    assert_eq!(answer["error"]["code"], "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_fresh_token_is_given_up_at_once_and_is_not_handled_later() {
    let upstream = Upstream::start(|_| Said::status(200, "1")).await;
    let stack = Stack::builder()
        .setting("handler", &upstream.handler())
        .setting("jwt-leeway", "0s")
        .start()
        .await;
    let mut client = stack.client().await;
    let token = token_for("alice").expiring_in(2.s());
    client.authenticate(&token.mint()).await;
    token.expired().await;
    let given_up = client.ask("pay", None, json!(1)).await;
    let wanted = client.ask("pay", None, json!(2)).await;
    client.expect_required("expired", 30.s()).await;
    eventually(30.s(), "both are held", async || {
        let held = stack.terminators()[0]
            .metric("countersign_terminator_held_inbound")
            .await;
        if held == 2.0 { Ok(()) } else { Err(held) }
    })
    .await;
    client.send_json(&json!({"cancel": given_up})).await;
    let answer = client.answer_to(&given_up, 30.s()).await;
    assert_eq!(told(&answer), json!(["cancelled", true, "none"]));
    client.authenticate(&token_for("alice").mint()).await;
    assert_eq!(client.answer_to(&wanted, 30.s()).await["type"], "reply");
    client.expect_nothing_shown().await;
    assert_eq!(upstream.asked().len(), 1, "only what was wanted");
}
