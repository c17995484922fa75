//! A load that outlives every fault, and writes down what it sent and heard: clients that reconnect, as real ones do,
//! some of them all the time, and a backend that pushes to them.
//!
//! What it sends is at a rate, whatever is answered: a system that stands still has it all to catch up with.

mod backend;
mod seat;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    history::{Event, History, Judgement, judge},
    stack::Stack,
    wait::Span,
};

/// How long is waited, when nothing more is sent, for what is not answered yet.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// How much of everything. Every other client shows, when it comes back, the key of the connection that it has lost.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many clients there are, each an identity of its own.
    pub clients: usize,
    /// How many messages they send in all.
    pub messages_per_second: u32,
    /// How many of the clients reconnect every three seconds.
    pub restless: usize,
    /// How many pushes the backend sends.
    pub pushes_per_second: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 20,
            messages_per_second: 100,
            restless: 2,
            pushes_per_second: 5,
        }
    }
}

/// Where clients find terminators; it changes when one is started anew.
#[derive(Debug, Clone, Default)]
pub struct Targets(Arc<Mutex<Vec<SocketAddr>>>);

impl Targets {
    /// The terminators of a stack that are alive.
    pub fn set(&self, stack: &Stack) {
        let alive = stack.terminators().iter().filter(|terminator| terminator.is_alive());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = alive.map(|one| one.address()).collect();
    }

    /// The same without that one, which is about to end.
    pub fn set_but(&self, stack: &Stack, leaving: usize) {
        let left = stack.terminators().iter().enumerate();
        let left = left.filter(|(number, terminator)| *number != leaving && terminator.is_alive());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = left.map(|(_, one)| one.address()).collect();
    }

    fn of(&self, attempt: usize) -> Option<SocketAddr> {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.get(attempt % targets.len().max(1)).copied()
    }
}

/// A load that runs, and its history.
#[derive(Debug)]
pub struct Drill {
    history: History,
    targets: Targets,
    /// Until when to wait for answers, once nothing more is to be sent.
    ends: watch::Sender<Option<Instant>>,
    tasks: JoinSet<()>,
}

impl Drill {
    /// Starts the load on the terminators of a stack; the backend logs in at one of these URLs after the other.
    #[must_use]
    pub fn start(plan: &Plan, stack: &Stack, broker_urls: &[String], history: History) -> Self {
        let targets = Targets::default();
        targets.set(stack);
        let (ends, ending) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let period =
            Duration::from_secs(1) * u32::try_from(plan.clients).unwrap_or(u32::MAX) / plan.messages_per_second;
        for number in 0..plan.clients {
            let seat = seat::Seat {
                number,
                targets: targets.clone(),
                history: history.clone(),
                period,
                life: (number < plan.restless).then_some(3.s()),
                resumes: number % 2 == 0,
                ending: ending.clone(),
            };
            tasks.spawn(seat.run());
        }
        if plan.pushes_per_second > 0 {
            let backend = backend::Backend {
                urls: broker_urls.to_vec(),
                exchange: stack.namespace().to_owned(),
                clients: plan.clients,
                period: Duration::from_secs(1) / plan.pushes_per_second,
                history: history.clone(),
                ending,
            };
            tasks.spawn(backend.run());
        }
        Self {
            history,
            targets,
            ends,
            tasks,
        }
    }

    /// Where clients find terminators.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Notes that harm is done.
    pub fn fault(&self, name: &str) {
        self.history.note(Event::Fault { name: name.to_owned() });
    }

    /// Notes that it is over.
    pub fn healed(&self, name: &str) {
        self.history.note(Event::Healed { name: name.to_owned() });
    }

    /// How many answers were heard so far.
    #[must_use]
    pub fn answers(&self) -> usize {
        judge(&self.history.lines()).replied
    }

    /// Sends nothing more, waits for what is still owed, and judges.
    pub async fn finish(self) -> Judgement {
        self.ends.send_replace(Some(Instant::now() + SETTLE_LIMIT));
        self.tasks.join_all().await;
        self.history.note(Event::Healed {
            name: "everything".to_owned(),
        });
        judge(&self.history.lines())
    }
}

/// Who the client of that number is.
fn subject(number: usize) -> String {
    format!("user-{number}")
}

/// When it ends, if it is to.
fn end_of(ending: &watch::Receiver<Option<Instant>>) -> Option<Instant> {
    *ending.borrow()
}
