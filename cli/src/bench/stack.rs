//! A terminator and workers of its own, in a namespace of its own.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::SinkExt as _;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use shared::bus::Bus as _;
use shared::bus::topology::{FilledBy, Names, Queue, QueueKind, Topology, keys};
use shared::service::announcement::Announcement;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::TERMINATOR;
use super::cpu::Process;
use super::options::BenchArgs;
use super::processes::{Child, this_executable};
use crate::support::ws::{self, WsUrl};
use crate::support::{broker, dev_key, print};

/// Until broker and store are reached, and the queues declared.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(100);
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// As many redeliveries as a worker allows; the queue's name does not depend on it.
const MAX_DELIVERIES: u32 = 5;

/// The private processes.
pub(crate) struct Stack {
    amqp_url: String,
    namespace: String,
    url: WsUrl,
    return_queue: String,
    terminator: Child,
    workers: Vec<Child>,
    _secret: dev_key::SecretFile,
}

/// How many worker threads a runtime of tokio has.
const THREADS: &str = "TOKIO_WORKER_THREADS";

impl Stack {
    /// Starts them, and waits until they are ready.
    ///
    /// # Errors
    /// What is missing: the programs, the broker, the store.
    pub(crate) async fn start(args: &BenchArgs) -> anyhow::Result<Self> {
        let namespace = format!("countersign-bench-{:08x}", rand::random::<u32>());
        match Self::start_in(args, &namespace).await {
            Ok(stack) => Ok(stack),
            Err(error) => {
                delete_namespace(args.amqp_url(), &namespace, &[]).await;
                Err(error)
            }
        }
    }

    async fn start_in(args: &BenchArgs, namespace: &str) -> anyhow::Result<Self> {
        let secret = dev_key::SecretFile::create().context("cannot write the development key to a temporary file")?;
        let (keys, threads) = (secret.entry(), args.threads().to_string());
        let common = [
            (THREADS, threads.as_str()),
            ("COUNTERSIGN_AMQP_URL", args.amqp_url()),
            ("COUNTERSIGN_NAMESPACE", namespace),
            ("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0"),
            ("COUNTERSIGN_LOG_FILTER", "error,lapin=off"),
        ];
        let of_worker = [
            ("COUNTERSIGN_STORE_URL", args.store_url.as_str()),
            ("COUNTERSIGN_JWT_KEYS", &keys),
            ("COUNTERSIGN_JWT_ISSUER", dev_key::ISSUER),
            ("COUNTERSIGN_JWT_AUDIENCE", dev_key::AUDIENCE),
        ];
        // The load comes from one place, as fast as it can.
        let of_terminator = [
            ("COUNTERSIGN_LISTEN", "127.0.0.1:0"),
            ("COUNTERSIGN_MAX_CONNECTIONS_PER_IP", "off"),
            ("COUNTERSIGN_MAX_HANDSHAKES_PER_IP", "off"),
            ("COUNTERSIGN_HANDSHAKES_PER_SECOND_PER_IP", "off"),
            ("COUNTERSIGN_MESSAGES_PER_SECOND", "off"),
            // Many connections are open for longer before the first of them sends anything.
            ("COUNTERSIGN_AUTH_TIMEOUT", "off"),
        ];
        let mut workers = Vec::new();
        for _ in 0..args.workers {
            let environment = common.iter().chain(&of_worker).copied();
            let (worker, line) = Child::start("worker", &this_executable()?, ["worker"], environment).await?;
            ready("worker", &announced(&line, "http://")?).await?;
            workers.push(worker);
        }
        let environment = common.iter().chain(&of_terminator).copied();
        let (terminator, line) = Child::start(TERMINATOR, &this_executable()?, [TERMINATOR], environment).await?;
        ready(TERMINATOR, &announced(&line, "http://")?).await?;
        let url: WsUrl = format!("ws://{}", announced(&line, "ws://")?)
            .parse()
            .map_err(|error: String| anyhow!(error))?;
        let return_queue = return_queue(args.amqp_url(), namespace, &url).await?;
        Ok(Self {
            amqp_url: args.amqp_url().to_owned(),
            namespace: namespace.to_owned(),
            url,
            return_queue,
            terminator,
            workers,
            _secret: secret,
        })
    }

    /// Where the terminator is.
    pub(crate) fn url(&self) -> &WsUrl {
        &self.url
    }

    /// The prefix of all that it has on the broker.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All of them.
    pub(crate) fn processes(&self) -> Vec<Process> {
        std::iter::once(&self.terminator)
            .chain(&self.workers)
            .map(|child| child.process().clone())
            .collect()
    }

    /// Ends them, and deletes their namespace.
    pub(crate) async fn end(self) {
        self.terminator.end().await;
        for worker in self.workers {
            worker.end().await;
        }
        delete_namespace(&self.amqp_url, &self.namespace, &[self.return_queue]).await;
    }
}

/// The address of that scheme in what a process announced.
fn announced(line: &str, scheme: &str) -> anyhow::Result<String> {
    let told = Announcement::read(line).unwrap_or_default();
    let urls = [told.sockets.into_iter().next(), told.admin];
    let mut addresses = urls.iter().flatten().filter_map(|url| url.strip_prefix(scheme));
    let address = addresses.next().map(str::to_owned);
    address.ok_or_else(|| anyhow!("{line:?} names no {scheme} address"))
}

/// Asks `/readyz` until it says yes.
async fn ready(name: &str, admin: &str) -> anyhow::Result<()> {
    let mut said = String::new();
    let asking = async {
        loop {
            match readyz(admin).await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => return,
                Ok(answer) => said = answer.lines().last().unwrap_or_default().to_owned(),
                Err(error) => said = error.to_string(),
            }
            sleep(READY_POLL).await;
        }
    };
    if timeout(READY_TIMEOUT, asking).await.is_err() {
        bail!("the {name} is not ready after {} s: {said}", READY_TIMEOUT.as_secs());
    }
    Ok(())
}

async fn readyz(admin: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(64 * 1_024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The name of the terminator's return queue, which only it knows: every message that it forwards asks for the answer
/// there, so a queue beside the workers' sees it in the first one.
async fn return_queue(amqp_url: &str, namespace: &str, url: &WsUrl) -> anyhow::Result<String> {
    let names = Names::new(namespace);
    let bus = broker::connect(broker::at(amqp_url)?, Topology::default()).await?;
    let mut forwarded = bus.consumer(
        Queue {
            name: format!("{namespace}.probe"),
            kind: QueueKind::Exclusive,
            bindings: vec![(names.internal_exchange().name, keys::FORWARD.to_owned())],
            former_bindings: Vec::new(),
            filled_by: FilledBy::Us,
        },
        1,
    );
    let probe = async {
        broker::wait_until_up(&bus).await?;
        let mut socket = ws::connect(url, None).await?;
        socket.send(Message::text(r#"{"type":"probe"}"#)).await?;
        let delivery = forwarded.recv().await.context("the broker was lost")?;
        let reply_to = delivery.message.properties.reply_to.clone();
        delivery.ack();
        reply_to.context("a forwarded message asks for no answer")
    };
    let found = timeout(PROBE_TIMEOUT, probe)
        .await
        .context("the first message did not arrive")?;
    drop(forwarded);
    broker::hang_up(&bus).await;
    found
}

/// Deletes all that is under a namespace, but for the workers' own queues, which go by themselves. What cannot be deleted is told, and the rest goes on.
pub(crate) async fn delete_namespace(amqp_url: &str, namespace: &str, further: &[String]) {
    match timeout(DELETE_TIMEOUT, delete(amqp_url, namespace, further)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => print::note(&format!("cannot delete the namespace {namespace}: {error:#}")),
        Err(_) => print::note(&format!(
            "cannot delete the namespace {namespace}: the broker does not answer"
        )),
    }
}

async fn delete(amqp_url: &str, namespace: &str, further: &[String]) -> anyhow::Result<()> {
    let names = Names::new(namespace);
    let connection = lapin::Connection::connect(amqp_url, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut queues = names.common().queues;
    queues.extend(names.retries(MAX_DELIVERIES));
    let names_of_queues = queues.iter().map(|queue| &queue.name).chain(further);
    for queue in names_of_queues {
        // With all that is in it, and anyone who consumes it.
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await?;
    }
    for exchange in names.common().exchanges {
        channel
            .exchange_delete(exchange.name.as_str().into(), ExchangeDeleteOptions::default())
            .await?;
    }
    connection.close(200, "deleted".into()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_what_a_process_announces() {
        let line = "listening on ws://127.0.0.1:1 admin http://127.0.0.1:2";
        assert_eq!(announced(line, "ws://").unwrap(), "127.0.0.1:1");
        assert_eq!(announced(line, "http://").unwrap(), "127.0.0.1:2");
        assert!(announced("ready", "http://").is_err());
    }
}
