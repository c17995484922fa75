//! `countersign dev`: all of it in one process, and a page to watch it by.
//!
//! A terminator and two workers on an embedded queue and store, with the
//! development key, so that a first message needs nothing but this program.
//! Everyone knows that key: anyone who reaches the port may be whom they like,
//! and so no one but this machine does.

mod backend;
mod console_source;
mod greeting;
mod injector;
mod journey;
mod own;
mod page;
mod push;
mod settings;
mod stack;
mod state;
mod watch;
mod workers;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use shared::bus::topology::Names;
use shared::service::admin::{Console, Readiness};
use shared::service::config::{LogConfig, LogFilter, LogFormat, Namespace, Value as _};
use shared::service::lifecycle::{self, Drained, Signals};
use shared::service::telemetry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::backend::Backend;
use self::console_source::Everything;
use self::injector::Injector;
use self::journey::Journeys;
use self::own::OwnArgs;
use self::page::Server;
use self::page::cors::Cors;
use self::stack::{Broker, Stack};
use self::state::{Addresses, MAX_WATCHERS, Page};
use self::workers::{Policies, worker_config};
use crate::support::print;
use crate::token::mint::Signer;

/// How long the end may take: the drains of terminator and workers, one after the other, and as much again.
/// How long the last lines of the log may take.
const LOG_FLUSH: Duration = Duration::from_secs(1);

const END_TIMEOUT: Duration = Duration::from_secs(20);

/// The handler that needs a broker which others reach.
const AMQP: &str = "amqp";

/// What is not asked for.
const OFF: &str = "off";

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign dev
  countersign dev --listen 127.0.0.1:8081 --page-listen 127.0.0.1:8001
  countersign dev --allowed-origins http://localhost:3000 --handler http:http://127.0.0.1:5000/messages --idempotency-window 24h
      a page and an application of your own: the page gets its tokens by POST from http://127.0.0.1:8000/token
  countersign dev --jwt-issuer https://login.example.com --jwt-audience chat
      tokens of your own provider, besides those of the development key
  countersign dev --strategy explicit --on-unauthenticated close --on-expired-push ignore
  countersign dev --amqp-url amqp://127.0.0.1:5672/%2f --store-url redis://127.0.0.1:6379 --connection-events

For development only: its key is public, so it listens on this machine alone.";

/// Where to listen, and what to stand on.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevArgs {
    /// The address and port for WebSockets; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The address and port of the page; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    page_listen: SocketAddr,
    /// Origins of pages of your own that may connect, and may ask http://PAGE/token for tokens: http://localhost:3000.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    allowed_origins: Vec<String>,
    /// Let clients acknowledge pushes: what a client has not acknowledged is held when its connection ends. It is the
    /// setting push-ack of a terminator.
    #[arg(long)]
    push_ack: bool,
    /// Publish what happens to connections, for presence and the like, with --amqp-url: on, or batched. It is the setting
    /// connection-events of terminators and workers.
    #[arg(
        long,
        value_name = "FORM",
        default_value = "off",
        default_missing_value = "on",
        num_args = 0..=1,
        require_equals = true
    )]
    connection_events: String,
    /// A RabbitMQ broker instead of the embedded queue.
    #[arg(long, value_name = "URL")]
    amqp_url: Option<String>,
    /// A Redis instead of the embedded store.
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// The prefix of every queue, exchange and store key.
    #[arg(long, value_name = "NAME", default_value = "countersign", value_parser = Namespace::parse)]
    namespace: Namespace,
    #[command(flatten)]
    own: OwnArgs,
    #[command(flatten)]
    policies: Policies,
    /// What is logged, to standard error: error, warn, info, debug, or by part: info,worker=debug.
    #[arg(long, value_name = "FILTER", default_value = "warn", value_parser = LogFilter::parse)]
    log_filter: LogFilter,
}

/// Runs until a signal ends it.
///
/// # Errors
/// What kept it from starting, or from serving.
pub(crate) fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    let logging = LogConfig {
        log_filter: args.log_filter.clone(),
        log_format: LogFormat::Text,
    };
    telemetry::init(&logging)?;
    lifecycle::install_crypto_provider()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let drained = runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let dev = Dev::start(args).await?;
        print::line(&dev.greeting());
        signals.next().await;
        Ok::<_, anyhow::Error>(signals.drain(END_TIMEOUT, dev.end()).await)
    })?;
    telemetry::flush(LOG_FLUSH);
    Ok(match drained {
        Drained::Complete => ExitCode::SUCCESS,
        Drained::DeadlinePassed | Drained::Interrupted => ExitCode::from(lifecycle::EXIT_FAILURE),
    })
}

impl DevArgs {
    /// What clap cannot see.
    fn check(&self) -> anyhow::Result<()> {
        for (flag, address) in [("listen", self.listen), ("page-listen", self.page_listen)] {
            if !address.ip().is_loopback() {
                bail!(
                    "--{flag} {address}: the development key is public, so only loopback addresses are allowed; \
                     take a loopback address such as 127.0.0.1"
                );
            }
        }
        if self.own.handler == AMQP && self.amqp_url.is_none() {
            bail!(
                "--handler {AMQP}: an application cannot reach the embedded queue; name a RabbitMQ broker with --amqp-url"
            );
        }
        if self.connection_events != OFF && self.amqp_url.is_none() {
            bail!(
                "--connection-events: nothing can read from the embedded queue; name a RabbitMQ broker with --amqp-url"
            );
        }
        Ok(())
    }
}

/// Everything, running.
struct Dev {
    addresses: Addresses,
    page: Server,
    stack: Stack,
}

impl Dev {
    async fn start(args: &DevArgs) -> anyhow::Result<Self> {
        let page_listener = TcpListener::bind(args.page_listen).await.with_context(|| {
            let address = args.page_listen;
            format!("cannot listen on {address} for the page; choose another port with --page-listen")
        })?;
        let page = page_listener.local_addr()?;
        let names = Names::new(args.namespace.as_str());
        let config = worker_config(args, &args.policies)?;
        let broker = Broker::new(args, &config);
        let journeys = Journeys::new();
        let stack = Stack::start(args, &config, &broker, page, &journeys).await?;
        let addresses = Addresses {
            page,
            socket: stack.addr(),
        };
        let console = Console::new("dev", telemetry::metrics()?, Readiness::new());
        console.show(Arc::new(Everything {
            console_view: stack.console_view(),
            workers: stack.workers.clone(),
            store: stack.store.clone(),
            leeway: config.jwt_leeway,
        }));
        let bus = broker.bus("page");
        let page = Page {
            signer: Signer::development()?,
            injector: Injector::new(Backend::new(&*bus, names.clone())),
            backend: Backend::new(&*bus, names),
            workers: stack.workers.clone(),
            store: stack.store.clone(),
            leeway: config.jwt_leeway,
            journeys,
            console,
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            closing: CancellationToken::new(),
            cors: Cors::new(args.allowed_origins.clone()),
            addresses,
        };
        let page = page.serve(page_listener);
        Ok(Self { addresses, page, stack })
    }

    /// What a person at a terminal needs to begin with.
    fn greeting(&self) -> String {
        greeting::text(self.addresses, &greeting::program())
    }

    /// The page first, because it asks; then the rest, in the order of a message's way.
    async fn end(self) {
        self.page.end().await;
        self.stack.end().await;
    }
}

#[cfg(test)]
mod tests;
