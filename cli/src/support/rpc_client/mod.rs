//! Requests put into the queue, and their answers: many on their way at a time.
//!
//! Any AMQP client may publish the same,
//! and have the answers come to a queue of its own. Ours belongs to one run and
//! goes with it. What the requests are, and what an answer means, is for
//! [`Requests`] to say.

mod bar;
mod one;

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use shared::bus::rabbitmq::RabbitmqBus;
use shared::bus::topology::{Names, Topology};
use shared::bus::{Bus, Consumer, Delivery, Message, Publication, PublishError, PublishTimeout, Publisher, Route};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::broker::{self, BrokerArgs};
pub(crate) use super::rpc_client::bar::progress;
pub(crate) use super::rpc_client::one::One;

/// What is asked, and what is made of the answers.
pub(crate) trait Requests {
    /// The next request; nothing after the last. `correlation_id` and `reply_to` are added to it. Cancel-safe.
    async fn next(&mut self) -> Option<anyhow::Result<Message>>;

    /// An answer has come. A line's requests are numbered from 0; a `request` that is nothing is none of them.
    /// Tells whether it was the last answer to its request.
    fn answered(&mut self, request: Option<Request>, answer: &Message) -> bool;

    /// The broker has a request, and an answer is waited for.
    fn taken(&mut self, _request: u64) {}

    /// A request will have no answer that anyone waits for.
    fn settled(&mut self, request: u64, why: NoReply);
}

/// Which request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// From 0.
    pub(crate) number: u64,
    /// Whether it still waits for its answer: if not, the answer comes late, or once more.
    pub(crate) waits: bool,
}

/// What becomes of a request besides an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReply {
    /// The broker has it, and no answer is wanted.
    Taken,
    /// The broker has not taken it.
    NotTaken(PublishError),
    /// No answer came in time. It may still come, and the request may still be dealt with.
    Unanswered,
}

/// How many at a time, and how long one may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How many requests may wait for their answers at a time.
    pub(crate) in_flight: u16,
    /// How long to wait for each answer.
    pub(crate) timeout: Duration,
}

/// A way to the workers and, if answers are wanted, back.
pub(crate) struct RpcClient {
    /// The connection, if it is this client's own.
    bus: Option<RabbitmqBus>,
    names: Names,
    pace: Pace,
    publisher: Publisher,
    /// How many requests there were: a late answer to one of them must not pass for one to another.
    asked: u64,
    /// The queue of the answers, and who reads it.
    answers: Option<(String, Consumer)>,
}

impl RpcClient {
    /// Connects. Nothing is declared but a queue for the answers: anyone who asks needs no right to declare what belongs to
    /// terminators and workers.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub(crate) async fn open(args: &BrokerArgs, pace: Pace, wants_answers: bool) -> anyhow::Result<Self> {
        let names = Names::new(&args.namespace);
        let bus = broker::connect(args.access()?, Topology::default()).await?;
        let mut client = Self::on(&bus, names, pace, wants_answers);
        // The queue must be there before anyone is asked to answer into it.
        broker::wait_until_up(&bus).await?;
        client.bus = Some(bus);
        Ok(client)
    }

    /// The same, on a connection that there is.
    pub(crate) fn on(bus: &dyn Bus, names: Names, pace: Pace, wants_answers: bool) -> Self {
        let answers = wants_answers.then(|| {
            let queue = names.inject_queue(rand::random());
            (queue.name.clone(), bus.consumer(queue, pace.in_flight))
        });
        Self {
            bus: None,
            names,
            pace,
            publisher: bus.publisher(PublishTimeout::Limited(pace.timeout)),
            asked: 0,
            answers,
        }
    }

    /// Puts all that `asker` has to ask under routing key `key` of the exchange for everyone, and waits until each
    /// request is answered or given up.
    ///
    /// # Errors
    /// If the requests cannot be read.
    pub(crate) async fn ask(&mut self, key: &str, asker: &mut impl Requests) -> anyhow::Result<()> {
        let (settle, mut taken) = mpsc::unbounded_channel();
        let mut asking = Asking {
            asker,
            pace: self.pace,
            route: Route::new(&self.names.exchange().name, key),
            publisher: &self.publisher,
            reply_to: self.answers.as_ref().map(|(queue, _)| queue.clone()),
            settle,
            pending: VecDeque::new(),
            first: self.asked,
            asked: &mut self.asked,
        };
        let mut consumer = self.answers.as_mut().map(|(_, consumer)| consumer);
        asking.run(&mut consumer, &mut taken).await
    }

    /// Hangs up.
    pub(crate) async fn close(self) {
        drop((self.publisher, self.answers));
        if let Some(bus) = self.bus {
            broker::hang_up(&bus).await;
        }
    }
}

/// What became of handing one request to the broker.
struct Handed {
    number: u64,
    outcome: Result<(), PublishError>,
}

enum Event {
    /// There is room, and this is the next request; or there is none any more.
    Next(Option<anyhow::Result<Message>>),
    Handed(Handed),
    Answer(Box<Delivery>),
    /// The oldest that waits has waited long enough.
    TooLate,
    /// Everything is settled.
    Finished,
}

/// One run.
struct Asking<'a, A> {
    asker: &'a mut A,
    pace: Pace,
    route: Route,
    publisher: &'a Publisher,
    reply_to: Option<String>,
    settle: mpsc::UnboundedSender<Handed>,
    /// When each request was asked, from number `first`; nothing once it is settled.
    pending: VecDeque<Option<Instant>>,
    first: u64,
    /// The number of the next request, the client's own: it holds good even if this run is dropped.
    asked: &'a mut u64,
}

impl<A: Requests> Asking<'_, A> {
    async fn run(
        &mut self,
        consumer: &mut Option<&mut Consumer>,
        taken: &mut mpsc::UnboundedReceiver<Handed>,
    ) -> anyhow::Result<()> {
        let mut more = true;
        loop {
            match self.next_event(more, consumer, taken).await {
                Event::Next(Some(request)) => self.send(request.context("cannot read what is to be sent")?).await,
                Event::Next(None) => more = false,
                Event::Handed(handed) => self.handed(&handed),
                Event::Answer(delivery) => self.answer(*delivery),
                Event::TooLate => self.give_up(self.first, NoReply::Unanswered),
                Event::Finished => return Ok(()),
            }
        }
    }

    async fn next_event(
        &mut self,
        more: bool,
        consumer: &mut Option<&mut Consumer>,
        taken: &mut mpsc::UnboundedReceiver<Handed>,
    ) -> Event {
        if !more && self.pending.is_empty() {
            return Event::Finished;
        }
        let room = more && self.pending.len() < usize::from(self.pace.in_flight);
        let oldest = self.pending.front().copied().flatten();
        let deadline = oldest.map(|asked| asked + self.pace.timeout);
        tokio::select! {
            biased;
            Some(delivery) = async { match consumer {
                Some(consumer) => consumer.recv().await,
                None => std::future::pending().await,
            } } => Event::Answer(Box::new(delivery)),
            Some(handed) = taken.recv() => Event::Handed(handed),
            () = async { match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            } } => Event::TooLate,
            request = async {
                if room { self.asker.next().await } else { std::future::pending().await }
            } => Event::Next(request),
        }
    }

    async fn send(&mut self, mut request: Message) {
        let number = *self.asked;
        *self.asked += 1;
        self.pending.push_back(Some(Instant::now()));
        request.properties.correlation_id = Some(number.to_string());
        request.properties.reply_to = self.reply_to.clone();
        let settle = self.settle.clone();
        let publication = Publication {
            route: self.route.clone(),
            message: request,
            receipt: Box::new(move |outcome| {
                // If no one listens any more, the run is over.
                let _ = settle.send(Handed { number, outcome });
            }),
        };
        self.publisher.submit(publication).await;
    }

    fn handed(&mut self, handed: &Handed) {
        match handed.outcome {
            Ok(()) if self.reply_to.is_some() => self.asker.taken(handed.number),
            Ok(()) => self.give_up(handed.number, NoReply::Taken),
            Err(error) => self.give_up(handed.number, NoReply::NotTaken(error)),
        }
    }

    fn answer(&mut self, mut delivery: Delivery) {
        let message = delivery.take_message();
        delivery.ack();
        let number: Option<u64> = message
            .properties
            .correlation_id
            .as_deref()
            .and_then(|id| id.parse().ok());
        let request = number.map(|number| Request {
            number,
            waits: self.waits(number),
        });
        if self.asker.answered(request, &message)
            && let Some(request) = request
        {
            self.settle(request.number);
        }
    }

    fn give_up(&mut self, number: u64, why: NoReply) {
        if self.settle(number) {
            self.asker.settled(number, why);
        }
    }

    fn waits(&self, number: u64) -> bool {
        self.index(number)
            .and_then(|index| self.pending.get(index))
            .is_some_and(Option::is_some)
    }

    /// Takes a request off the list of those that wait. Tells whether it was there.
    fn settle(&mut self, number: u64) -> bool {
        let waited = self
            .index(number)
            .and_then(|index| self.pending.get_mut(index))
            .and_then(Option::take)
            .is_some();
        while let Some(None) = self.pending.front() {
            self.pending.pop_front();
            self.first += 1;
        }
        waited
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}
