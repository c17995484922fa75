//! An injector that writes whatever comes to its mind, by chance and again by the same seed: honest clients are answered
//! within a second meanwhile, and of what the broker took nothing vanishes.
//!
//! It has the permissions of `docs/permissions.md` and no more. The claim runs for seconds; `COUNTERSIGN_TEST_INJECTOR_SECONDS=600`
//! makes it ten minutes, and `COUNTERSIGN_TEST_INJECTOR_SEED` chooses what is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    str::FromStr,
    time::Duration,
};

use lapin::types::AMQPValue;
use serde_json::{Value, json};
use testkit::rng::Rng;
use tests::peers::amqp::{Verdict, entry, long, place};
use tests::{Client, Program, Queue, RawProperties, RawPublisher, Span, Stack, eventually};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::permissions::permitted;
use super::sockets::WORKED_OFF;
use crate::authentication::expiry::fresh;

const SECONDS: &str = "COUNTERSIGN_TEST_INJECTOR_SECONDS";
const SEED: &str = "COUNTERSIGN_TEST_INJECTOR_SEED";

/// Within what an honest client is answered.
const PROMISED: Duration = Duration::from_secs(1);
/// How many of a thousand may be later, and none by more than [`LATEST`]: the machine has other things to do, too.
const LATE_OF_THOUSAND: usize = 50;
const LATEST: Duration = Duration::from_secs(10);

/// The keys of what outsiders publish, and the metric that counts each.
const KEYS: [(&str, &str); 3] = [
    ("message", "countersign_worker_messages_total"),
    ("push", "countersign_worker_pushes_total"),
    ("revoke", "countersign_worker_revocations_total"),
];

/// What was given to a worker again, which may have counted it before: its acknowledgement can be lost with the connection for
/// answers.
const REDELIVERIES: &str = "countersign_worker_redeliveries_total";

/// Why the broker itself gives something up.
const BY_BROKER: [&str; 4] = ["expired", "delivery_limit", "maxlen", "rejected"];

fn setting<T: FromStr>(name: &str, default: T) -> T {
    let given = env::var(name).ok();
    given.map_or(default, |text| {
        text.parse().ok().unwrap_or_else(|| panic!("{name} is a number"))
    })
}

/// One publication.
struct Case {
    exchange: String,
    key: String,
    properties: RawProperties,
    body: Vec<u8>,
    /// The further keys that the broker routes it by.
    carbon_copies: Vec<&'static str>,
}

/// What comes to its mind.
struct Mind {
    rng: Rng,
    namespace: String,
    frame_max: usize,
    tokens: Vec<String>,
}

impl Mind {
    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.rng.number() % most as u64).expect("it is below a usize")
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.rng.number().to_le_bytes()[0]).collect()
    }

    fn text(&mut self) -> Vec<u8> {
        match self.below(10) {
            0 => self.bytes(255),
            1 => vec![0xff; self.below(255)],
            2 => vec![b'a'; 255],
            3 => Vec::new(),
            4 => self.tokens[0].clone().into_bytes(),
            5 => format!("{}.messages", self.namespace).into_bytes(),
            6 => b"0123456789abcdef.1.1".to_vec(),
            7 => "\u{202e}\u{0}\u{1b}[31m\u{ffff}".as_bytes().to_vec(),
            _ => format!("n{}", self.below(1_000)).into_bytes(),
        }
    }

    fn reply_to(&mut self) -> Vec<u8> {
        let of_namespace = [
            "messages",
            "injected",
            "retry",
            "return.0123456789abcdef",
            "failed",
            "dead",
            "pushes",
        ];
        match self.below(8) {
            0 => self.text(),
            1 => {
                let name = self.pick(&of_namespace);
                format!("{}.{name}", self.namespace).into_bytes()
            }
            2 => b"amq.rabbitmq.reply-to.AAAA.BBBB".to_vec(),
            3 => b"amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3ODkAAAAAAAAAAAAAAAA=.AAAAAAAA".to_vec(),
            4 => b"amq.gen-nothing".to_vec(),
            _ => b"amq.rabbitmq.reply-to".to_vec(),
        }
    }

    fn value(&mut self, depth: usize) -> Vec<u8> {
        let eight = self.rng.number().to_be_bytes();
        let with = |kind: u8, bytes: &[u8]| [&[kind][..], bytes].concat();
        match self.below(16) {
            0 => with(b't', &eight[..1]),
            1 => with(b'b', &eight[..1]),
            2 => with(self.pick(b"su"), &eight[..2]),
            3 => with(self.pick(b"Ii"), &eight[..4]),
            4 => with(self.pick(b"lLT"), &eight),
            5 => with(b'd', &eight),
            6 => with(b'D', &eight[..5]),
            7 => with(b'V', &[]),
            8 => with(b'x', &long(&self.bytes(300))),
            9 if depth < 4 => {
                let entries: Vec<u8> = (0..self.below(4)).flat_map(|_| self.entry(depth + 1)).collect();
                with(b'F', &long(&entries))
            }
            10 if depth < 4 => {
                let values: Vec<u8> = (0..self.below(4)).flat_map(|_| self.value(depth + 1)).collect();
                with(b'A', &long(&values))
            }
            11 if depth == 0 => {
                let mut nest = Vec::new();
                for _ in 0..self.below(9_000) {
                    nest = with(b'A', &long(&nest));
                }
                with(b'A', &long(&nest))
            }
            _ => with(b'S', &long(&self.text())),
        }
    }

    fn entry(&mut self, depth: usize) -> Vec<u8> {
        let names: [&[u8]; 18] = [
            b"subject",
            b"issuer",
            b"connection",
            b"origin",
            b"first_seen",
            b"grant",
            b"principal",
            b"x-death",
            b"x-death-queue",
            b"x-death-reason",
            b"x-first-death-reason",
            b"x-delivery-count",
            b"unreadable",
            b"publication",
            b"traceparent",
            b"tracestate",
            b"index",
            b"alone",
        ];
        let name = match self.below(3) {
            0 => self.text(),
            _ => self.pick(&names).to_vec(),
        };
        let value = self.value(depth);
        entry(&name, value[0], &value[1..])
    }

    /// The headers, and the keys among them that the broker routes by.
    fn headers(&mut self) -> (Vec<u8>, Vec<&'static str>) {
        let mut entries: Vec<u8> = (0..self.below(8)).flat_map(|_| self.entry(0)).collect();
        if self.one_in(4) {
            entries.extend(entry(b"subject", b'S', &long(b"alice")));
        }
        let mut copies = Vec::new();
        if self.one_in(12) {
            let keys = ["message", "push", "revoke", "nothing"];
            copies = (0..self.below(4)).map(|_| self.pick(&keys)).collect();
            let values: Vec<u8> = copies
                .iter()
                .flat_map(|key| [&b"S"[..], &long(key.as_bytes())].concat())
                .collect();
            let name = self.pick(&["CC", "BCC"]);
            entries.extend(entry(name.as_bytes(), b'A', &long(&values)));
        }
        // What stands around it besides has at most 4 KiB.
        if self.one_in(15) {
            let room = (self.frame_max - 4_096).saturating_sub(entries.len());
            let size = room - self.below(room.min(2_000) + 1);
            let byte = self.pick(b"a\xff\xc3");
            entries.extend(entry(b"large", b'S', &long(&vec![byte; size])));
        }
        entries.truncate(if entries.len() > self.frame_max - 4_000 {
            0
        } else {
            entries.len()
        });
        if entries.is_empty() {
            copies.clear();
        }
        (entries, copies)
    }

    fn properties(&mut self) -> (RawProperties, Vec<&'static str>) {
        let mut properties = RawProperties::default();
        let mut copies = Vec::new();
        for place in [
            place::CONTENT_TYPE,
            place::CONTENT_ENCODING,
            place::CORRELATION_ID,
            place::MESSAGE_ID,
            place::TYPE,
            place::APP_ID,
            place::CLUSTER_ID,
        ] {
            if self.one_in(4) {
                properties = properties.text(place, &self.text());
            }
        }
        if self.one_in(2) {
            properties = properties.text(place::REPLY_TO, &self.reply_to());
        }
        if self.one_in(12) {
            let expirations: [&[u8]; 4] = [b"0", b"1", b"50", b"60000"];
            properties = properties.text(place::EXPIRATION, self.pick(&expirations));
        }
        if self.one_in(60) {
            properties = properties.text(place::EXPIRATION, &self.text());
        }
        if self.one_in(60) {
            properties = properties.text(place::USER_ID, &self.text());
        }
        for (place, size) in [(place::DELIVERY_MODE, 1), (place::PRIORITY, 1), (place::TIMESTAMP, 8)] {
            if self.one_in(4) {
                properties = properties.bytes(place, &self.rng.number().to_be_bytes()[..size]);
            }
        }
        if !self.one_in(3) {
            let (entries, keys) = self.headers();
            (properties, copies) = (properties.headers(&entries), keys);
        }
        (properties, copies)
    }

    fn body(&mut self) -> Vec<u8> {
        let place = self.below(self.tokens.len());
        let token = self.tokens[place].clone();
        let kinds = [
            "echo",
            "whoami",
            "auth.authenticate",
            "auth.logout",
            "auth.x",
            "",
            "a.b.c",
        ];
        match self.below(12) {
            0 => self.bytes(2_000),
            1 => Vec::new(),
            2 => vec![b'['; self.below(200_000)],
            3 => vec![0xff; self.below(3_000_000)],
            4 => json!({"jti": format!("none-{}", self.below(9))})
                .to_string()
                .into_bytes(),
            5 => json!({"subject": "mallory", "grace": "x"}).to_string().into_bytes(),
            6 => {
                let mut text = json!({"id": "i", "type": "echo", "token": token})
                    .to_string()
                    .into_bytes();
                let place = self.below(text.len());
                text[place] = self.rng.number().to_le_bytes()[0];
                text
            }
            _ => {
                let payload = "x".repeat(self.below(3_000));
                json!({"id": "i", "type": self.pick(&kinds), "token": token, "payload": payload})
                    .to_string()
                    .into_bytes()
            }
        }
    }

    fn case(&mut self) -> Case {
        let (properties, carbon_copies) = self.properties();
        let exchange = match self.below(40) {
            0 => format!("{}.internal", self.namespace),
            1 => String::new(),
            2 => "amq.direct".to_owned(),
            _ => self.namespace.clone(),
        };
        let odd = [
            "forward", "retry", "injected", "failed", "dead", "revoked", "nothing", "",
        ];
        let key = match self.below(20) {
            0 => self.pick(&odd),
            1..=3 => "push",
            4 | 5 => "revoke",
            _ => "message",
        };
        Case {
            exchange,
            key: key.to_owned(),
            properties,
            body: self.body(),
            carbon_copies,
        }
    }
}

/// Asks, and asks again, until it is told to stop; how long each answer took.
async fn honest(mut client: Client, stop: CancellationToken) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.is_cancelled() {
        let asked = Instant::now();
        let answer = client.request("echo", Some(&fresh("alice")), json!(took.len())).await;
        assert_eq!(answer["payload"], took.len(), "{answer}");
        took.push(asked.elapsed());
        tokio::time::sleep(20.ms()).await;
    }
    took
}

/// How many of the dead letters the broker gave up, by the key of the queue in which it did. All of them are taken.
async fn given_up_by_the_broker(queue: &Queue, namespace: &str) -> BTreeMap<&'static str, usize> {
    let mut given_up = BTreeMap::new();
    while let Some(letter) = queue.get(&format!("{namespace}.dead")).await {
        let header = |name: &str| match letter.header(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            _ => String::new(),
        };
        if BY_BROKER.contains(&header("reason").as_str()) {
            let key = match header("queue").rsplit('.').next() {
                Some("pushes") => "push",
                Some("revocations") => "revoke",
                _ => "message",
            };
            *given_up.entry(key).or_default() += 1;
        }
    }
    given_up
}

/// What a worker has counted under this name, whatever its labels, but for what terminators tell of their connections.
async fn counted(stack: &Stack, name: &str) -> usize {
    let mut sum = 0.0;
    for worker in stack.workers() {
        let metrics = worker.metrics().await;
        let of_terminators = |metric: &str| ["\"closed\"", "\"announced\""].iter().any(|told| metric.contains(told));
        let ours = |metric: &str| metric.split('{').next() == Some(name) && !of_terminators(metric);
        sum += metrics
            .iter()
            .filter(|(metric, _)| ours(metric))
            .map(|(_, value)| value)
            .sum::<f64>();
    }
    sum as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_injector_writes_honest_clients_are_answered_and_nothing_vanishes() {
    let (seconds, seed) = (setting(SECONDS, 8_u64), setting(SEED, 1_u64));
    let (mut stack, users) = permitted().await;
    stack.start_terminators(1).await;
    stack.start_workers(2).await;
    let (administrator, port) = (stack.queue().await, stack.broker().amqp_port());
    let login = async || {
        RawPublisher::connect(port, &users.injector_name)
            .await
            .expect("it logs in")
    };
    let stop = CancellationToken::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(tokio::spawn(honest(stack.client().await, stop.clone())));
    }
    let mut publisher = login().await;
    let before: Vec<_> = stack.workers().iter().map(losses).collect();
    let mut mind = Mind {
        rng: Rng::new(seed),
        namespace: stack.namespace().to_owned(),
        frame_max: publisher.frame_max(),
        tokens: vec![fresh("mallory"), fresh("mallet"), "no.token.atall".to_owned()],
    };
    let (mut taken, mut cases, mut refused) = (BTreeMap::<&str, usize>::new(), 0, BTreeMap::<String, usize>::new());
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let case = mind.case();
        cases += 1;
        match publisher
            .publish(&case.exchange, &case.key, &case.properties, &case.body)
            .await
        {
            Verdict::Confirmed => {
                let keys: BTreeSet<_> = case.carbon_copies.into_iter().chain([case.key.as_str()]).collect();
                for (key, _) in KEYS.iter().filter(|(key, _)| keys.contains(key)) {
                    *taken.entry(*key).or_default() += 1;
                }
            }
            Verdict::Closed(why) => {
                *refused
                    .entry(why.chars().filter(char::is_ascii_uppercase).take(20).collect())
                    .or_default() += 1;
                publisher = login().await;
            }
            Verdict::Unroutable | Verdict::Refused => {}
        }
    }
    for name in WORKED_OFF {
        let name = format!("{}.{name}", stack.namespace());
        eventually(60.s(), &format!("{name} is worked off (seed {seed})"), async || {
            let count = administrator.count(&name).await;
            if count == 0 { Ok(()) } else { Err(count) }
        })
        .await;
    }
    stop.cancel();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.expect("an honest client is answered"));
    }
    took.sort_unstable();
    let late = took.iter().filter(|took| **took > PROMISED).count();
    let (middle, last) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "seed {seed}: {cases} cases, taken {taken:?}, refused by the broker {refused:?}; {} honest answers, half within {middle:?}, all within {last:?}",
        took.len()
    );
    assert!(
        late * 1_000 <= took.len() * LATE_OF_THOUSAND && last <= LATEST,
        "seed {seed}: {late} late, the last {last:?}"
    );
    // What was taken is still being counted when its queue is empty.
    let mut given_up = BTreeMap::<&str, usize>::new();
    // The first look takes all dead letters, of which ten minutes leave thousands.
    eventually(
        Duration::from_secs(20 + seconds),
        &format!("all that was taken is accounted for (seed {seed})"),
        async || {
            for (key, count) in given_up_by_the_broker(&administrator, stack.namespace()).await {
                *given_up.entry(key).or_default() += count;
            }
            let mut wrong = Vec::new();
            let again = counted(&stack, REDELIVERIES).await;
            for (key, metric) in KEYS {
                let expected =
                    taken.get(key).copied().unwrap_or_default() + if key == "message" { took.len() } else { 0 };
                let accounted = counted(&stack, metric).await + given_up.get(key).copied().unwrap_or_default();
                if !(expected..=expected + again).contains(&accounted) {
                    wrong.push((key, expected, accounted, again));
                }
            }
            if wrong.is_empty() { Ok(()) } else { Err(wrong) }
        },
    )
    .await;
    println!("seed {seed}: {} redeliveries", counted(&stack, REDELIVERIES).await);
    for (worker, before) in stack.workers().iter().zip(before) {
        assert!(worker.is_alive());
        assert_eq!(
            losses(worker),
            before,
            "seed {seed}: no connection is lost but that for answers"
        );
    }
}

/// How often a worker has lost a connection to the broker, but for the one for answers, which goes with a `reply_to` that
/// RabbitMQ cannot read.
fn losses(worker: &Program) -> usize {
    let lost = |line: &Value| line.to_string().contains("lost the broker") && line["role"] != "replying directly";
    worker.log().iter().filter(|line| lost(line)).count()
}
