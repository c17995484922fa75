//! All that a terminator runs on: how its parts are joined, served, and let go.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use shared::bus::topology::Names;
use shared::bus::{Bus, PublishTimeout};
use shared::credentials::Credential;
use shared::service::admin::{Readiness, watch_broker};
use shared::service::trace::Tracer;
use shared::wire::envelope::run;
use shared::wire::protocol::ClientLimits;
use shared::wire::seal::Sealer;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::accept::arrivals::PerAddress;
use crate::accept::connection_factory::ConnectionFactory;
use crate::accept::doors::Door;
use crate::accept::listener::{Acceptor, Limits, Listener};
use crate::accept::open_files::{self, OpenFiles};
use crate::accept::origin::AllowedOrigins;
use crate::accept::proxies::Proxies;
use crate::admin::console::ConsoleView;
use crate::admin::metrics::Metrics;
use crate::broker::announcing::Announcer;
use crate::broker::budget::Budgets;
use crate::broker::forward::Forwarder;
use crate::broker::phase::Phase;
use crate::broker::reply_consumer::ReplyConsumer;
use crate::broker::shards::Shards;
use crate::broker::undelivered::UndeliveredPublisher;
use crate::config::Order;
use crate::connection::registry::Registry;
use crate::context::{ConnectionLimits, TerminatorContext};
use crate::drain::{Drain, FAREWELL_TIMEOUT};
use crate::{Parts, TerminatorConfig};

/// All that a terminator runs on, from the moment when connections may come.
pub(crate) struct Runtime {
    bus: Arc<dyn Bus>,
    pub(crate) acceptor: Arc<Acceptor>,
    /// Whether fewer files may be open than `max-connections` needs.
    has_few_files: bool,
    pub(crate) console_view: ConsoleView,
    phase: Arc<watch::Sender<Phase>>,
    pub(crate) connections: TaskTracker,
    /// Those that run until the last connection has gone.
    background: Vec<JoinHandle<()>>,
    publish_timeout: Duration,
    drain: Drain,
}

impl Runtime {
    /// Opens it. The phase is [`Phase::Waiting`] until it is served.
    pub(crate) fn open(
        config: TerminatorConfig,
        parts: Parts,
        (tls, sealer, files): (Option<Credential<TlsAcceptor>>, Sealer, OpenFiles),
        tracer: Tracer,
    ) -> Self {
        let Parts {
            bus,
            clock,
            id,
            listener,
        } = parts;
        let metrics = Arc::new(Metrics::new());
        let names = Names::new(config.broker.namespace.as_str());
        let return_queue = names.return_queue(id);
        info!(terminator = %id, return_queue = return_queue.name, "terminator starts");
        let shares = ConnectionLimits {
            max_in_flight: config.max_in_flight,
            unauthenticated_in_flight: config.unauthenticated_in_flight,
            send_queue_bytes: config.send_queue_bytes.bytes(),
            send_queue_bytes_total: config.send_queue_bytes_total.bytes(),
            auth_timeout: config.auth_timeout,
            answer_timeout: config.answer_timeout,
            run: match (config.order, config.broker.batches()) {
                (Order::None, _) => None,
                // Anyone who cannot read batches cannot read runs.
                (Order::Connection, None) => Some(1),
                (Order::Connection, Some(_)) => Some(run::MOST_ENTRIES),
            },
        };
        let form = config.broker.connection_events;
        let (events, told) = form
            .map(|form| crate::events::publisher::channel(&names, form, &metrics))
            .unzip();
        let common = TerminatorContext::new(clock, metrics.clone(), shares, tracer)
            .telling(events)
            .heard_by(listener);
        let common = Arc::new(common);
        let (undelivered, given_back) = UndeliveredPublisher::new(&names, common.observer.clone());
        let registry = Arc::new(Registry::new(id, common));

        // The consumer first: what it declares must be there before anyone is asked to answer into it.
        let answers = bus.consumer(return_queue.clone(), crate::broker::PREFETCH);
        let publisher = bus.publisher(PublishTimeout::Limited(config.publish_timeout));
        let rooms = Budgets::new(
            config.receive_queue_bytes_total.bytes(),
            config.unauthenticated_in_flight_bytes.bytes(),
            config.max_in_flight,
        );
        let client_limits = ClientLimits {
            max_message_bytes: config.max_message_size.bytes(),
            messages_per_second: config.messages_per_second.and_then(NonZeroU32::new),
            unauthenticated_messages_per_second: config.unauthenticated_messages_per_second.and_then(NonZeroU32::new),
        };
        let forwarder = Forwarder::new(
            publisher,
            undelivered.clone(),
            Shards::new(&names, config.broker.message_shards),
            return_queue.name,
            metrics,
            (rooms, client_limits),
            sealer.clone(),
        )
        .with_push_ack(config.push_ack);
        let (phase, phases) = watch::channel(Phase::Waiting);
        // What is given back waits as long as it must; it ends when no one can give back any more.
        tokio::spawn(crate::broker::undelivered::run(
            given_back,
            bus.publisher(PublishTimeout::Endless),
        ));
        if let Some(told) = told {
            // The same of events: until no connection is left that could have any.
            tokio::spawn(told.run(bus.publisher(PublishTimeout::Endless)));
        }
        let forwarder = Arc::new(forwarder);
        let (epochs, heard) = watch::channel(None);
        let (entered, known) = mpsc::unbounded_channel();
        let announcer = Announcer {
            registry: registry.clone(),
            forwarder: forwarder.clone(),
            epochs: heard,
            entered: known,
            link: bus.link(),
            renewals: answers.renewals(),
        };
        let background = vec![
            tokio::spawn(ReplyConsumer::new(registry.clone(), undelivered, epochs, entered, sealer).run(answers)),
            tokio::spawn(crate::timers::turning::turn(registry.clone(), phases.clone())),
            tokio::spawn(announcer.run()),
        ];
        let console_view = ConsoleView::new(&registry);
        let (publish_timeout, drain) = (config.publish_timeout, Drain::of(&config));
        let sockets = ConnectionFactory {
            registry,
            forwarder,
            phase: phases,
            idle_timeout: config.idle_timeout,
        };
        let limits = Limits {
            allowed_origins: AllowedOrigins {
                listed: config.allowed_origins,
                tls: config.tls_cert.is_some(),
            },
            max_connections: files.max_connections,
            max_connections_per_ip: config.max_connections_per_ip,
            handshakes: PerAddress {
                pending: config.max_handshakes_per_ip,
                per_second: config.handshakes_per_second_per_ip.and_then(NonZeroU32::new),
            },
            proxies: Proxies {
                trusted: config.trusted_proxies,
                header: config.forwarded_header,
                protocol: config.proxy_protocol,
            },
            max_handshake_size: config.max_handshake_size.bytes(),
            max_message_size: config.max_message_size.bytes(),
            handshake_timeout: config.handshake_timeout,
        };
        Self {
            bus,
            acceptor: Arc::new(Acceptor::new(tls, limits, Arc::new(sockets))),
            has_few_files: files.is_short,
            console_view,
            phase: Arc::new(phase),
            connections: TaskTracker::new(),
            background,
            publish_timeout,
            drain,
        }
    }

    /// Serves who comes until the shutdown, and then lets all go. Tells whether all went in time.
    pub(crate) async fn serve(self, doors: Vec<Door>, readiness: Readiness, shutdown: CancellationToken) -> bool {
        let followers = TaskTracker::new();
        followers.spawn(crate::broker::phase::follow(
            self.bus.link(),
            self.phase.clone(),
            self.publish_timeout,
        ));
        let broker = readiness.check("broker");
        followers.spawn(watch_broker("terminator", broker, self.bus.link()));
        let full = CancellationToken::new();
        if self.has_few_files {
            let files = open_files::watch(readiness.check("files"), self.acceptor.connections());
            tokio::spawn(full.clone().run_until_cancelled_owned(files));
        }
        let telling = self.acceptor.refusals().keep_telling();
        tokio::spawn(full.clone().run_until_cancelled_owned(telling));
        let mut listening = JoinSet::new();
        for door in doors {
            let listener = Listener {
                door,
                acceptor: self.acceptor.clone(),
                tasks: self.connections.clone(),
            };
            listening.spawn(listener.run(full.clone()));
        }
        shutdown.cancelled().await;

        readiness.draining();
        self.drain.until_routing_has_moved().await;
        full.cancel();
        while listening.join_next().await.is_some() {}
        let in_time = self.drain.run(&self.connections, &self.phase).await;
        // Publishers must go before the bus can close: they go with their connections, with the door and with these.
        drop(self.acceptor);
        for task in self.background {
            task.abort();
            let _ = task.await;
        }
        drop(self.phase);
        if timeout(FAREWELL_TIMEOUT, self.bus.close()).await.is_err() {
            warn!("timed out while sending the last messages to the broker");
        }
        in_time
    }
}
