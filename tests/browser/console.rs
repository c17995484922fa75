//! The console by itself: on the admin ports of the real programs, and what it never tells.

use std::net::SocketAddr;

use serde_json::json;
use tests::{Span, Stack, token_for};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{chromium::Browser, dev::Dev, page::an_expiry};

async fn with_consoles() -> Stack {
    Stack::builder()
        .setting("console", "on")
        .setting("jwt-leeway", "0s")
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminators_console_follows_a_connection_from_anonymous_to_expired_and_back() {
    let (stack, browser) = tokio::join!(with_consoles(), Browser::start());
    let terminator = stack.terminators()[0].admin();
    let page = browser.open(&format!("http://{terminator}/")).await;
    page.watching().await;
    page.shows("text('#process') === 'terminator' && text('.chips').startsWith('broker')")
        .await;
    page.shows("text('#console-connections').includes('No clients are connected.')")
        .await;
    let mut client = stack.client().await;
    page.shows("rows().length === 1 && rows()[0].state === 'anonymous'")
        .await;

    let token = token_for("alice").expiring_in(5.s());
    client.authenticate(&token.mint()).await;
    page.shows("rows()[0].state === 'live'").await;
    page.shows_within(an_expiry(), "rows()[0].state === 'expired'").await;
    client.send_json(&json!({"id": "1", "type": "greeting"})).await;
    client.expect_required("expired", 10.s()).await;
    page.shows("rows()[0].heldIn === 1 && number('#tile-held-in .value') === 1")
        .await;
    page.picture("terminator").await;
    client.authenticate(&token_for("alice").mint()).await;
    page.shows("rows()[0].state === 'live' && rows()[0].heldIn === 0").await;
    drop(client);
    page.shows("rows().length === 0 && events().includes('left')").await;
    page.expect_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_console_tells_verdicts_and_decisions() {
    let (stack, browser) = tokio::join!(with_consoles(), Browser::start());
    let worker = stack.workers()[0].admin();
    let page = browser.open(&format!("http://{worker}/console")).await;
    page.watching().await;
    page.shows("text('#process') === 'worker' && all('.chips .tag').length === 3")
        .await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let expired = token_for("alice").expired_since(60.s()).mint();
    client
        .send_json(&json!({"id": "late", "type": "greeting", "token": expired}))
        .await;
    page.shows("counter('granted') === 1 && counter('expired') === 1 && events().includes('granted')")
        .await;
    page.picture("worker").await;
    page.expect_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_console_unless_it_is_wanted_and_none_for_a_name_that_could_point_anywhere() {
    let (without, with) = tokio::join!(Stack::start(), with_consoles());
    for program in without.terminators().iter().chain(without.workers()) {
        assert_eq!(program.get("/console").await.status, 404);
        assert_eq!(program.get("/console/feed").await.status, 404);
    }
    for program in with.terminators().iter().chain(with.workers()) {
        assert_eq!(program.get("/console").await.status, 200);
        let admin = program.admin();
        for path in ["/console", "/console/feed", "/console/console.js"] {
            let answer = ask(admin, path, &format!("evil.example:{}", admin.port()), "").await;
            assert!(answer.starts_with("HTTP/1.0 421"), "{path}: {answer}");
            let answer = ask(admin, path, &admin.to_string(), "Origin: http://evil.example\r\n").await;
            assert!(answer.starts_with("HTTP/1.0 403"), "{path}: {answer}");
        }
        assert_eq!(program.get("/livez").await.status, 200, "orchestrators ask by any name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_payload_is_in_what_the_console_is_told() {
    let dev = Dev::start().await;
    let mut feed = dev.feed().await;
    let mut client = dev.client().await;
    let token = dev.token("alice", 60).await;
    client.authenticate(&token).await;
    let broken = format!("{token}x");
    for (id, token) in [("1", &token), (token.as_str(), &broken), ("3", &broken)] {
        // Whatever a client writes into an id is its own affair; an id that is a token is too long, and refused.
        client
            .send_json(&json!({"id": id, "type": "greeting", "token": token, "payload": "a-secret-thing"}))
            .await;
    }
    let told = feed
        .until(|told| told.contains("\"what\":\"refused\"") && told.contains("\"rows\":[{"))
        .await;
    assert!(told.contains("alice"), "{told}");
    for secret in ["eyJ", "a-secret-thing", &token[token.len() - 20..]] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

/// The answer to a request with this `Host`, and other headers; of a feed, its beginning.
async fn ask(server: SocketAddr, path: &str, host: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 4_096];
    let count = timeout(10.s(), stream.read(&mut bytes))
        .await
        .expect("an answer")
        .unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_quantiles_are_those_of_what_was_counted_meanwhile() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&dev.url()).await;
    let found = page
        .awaited(
            r#"
            const { Series, Histogram, sum, buckets } = await import("./console/rates.js");
            const series = new Series();
            // A hundred a second for four seconds; then the process begins anew.
            for (let at = 0; at <= 4000; at += 250) series.add(at, at / 10);
            const [fast, bins] = [series.rate(4000), series.bins(4000, 60).slice(-5)];
            series.add(5000, 7);
            const histogram = new Histogram();
            const grown = (count) => [[0.001, 90 * count], [0.01, 99 * count], [Infinity, 100 * count]];
            histogram.add(0, grown(0));
            histogram.add(1000, grown(1));
            const figures = new Map([["a_total{kind=\"x\"}", 1], ["a_total{kind=\"y\"}", 2], ["b_bucket{le=\"+Inf\"}", 3], ["b_bucket{le=\"0.5\"}", 2]]);
            const of = (wanted) => sum(figures, (metric, { kind }) => metric === "a_total" && wanted.includes(kind), new Map());
            return {
                fast, bins, anew: series.total, counted: series.rate(5000) < 100,
                median: histogram.quantile(0.5).toFixed(5), most: histogram.quantile(0.99).toFixed(5),
                x: of(["x"]), both: of(["x", "y"]), none: of(["z"]), buckets: buckets(figures, "b").map(([, count]) => count),
                empty: new Histogram().quantile(0.5),
            };
            "#,
        )
        .await;
    assert_eq!(
        found,
        json!({
            "fast": 100, "bins": [0, 100, 100, 100, 100], "anew": 7, "counted": true,
            "median": "0.00056", "most": "0.01000", "x": 1, "both": 3, "none": null, "buckets": [2, 3], "empty": null,
        })
    );
}
