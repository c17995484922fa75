//! The application of a simulation: it says on whose behalf it was asked, and takes its time.

use std::sync::Mutex;

use serde_json::json;
use testkit::chaos::{DEADLY, LatencyModel};
use testkit::rng::Rng;
use tokio::time::sleep;
use worker::{Answers, Handler, HandlerError, Request};

use super::token::Roles;
use crate::trace::{Event, Trace};

/// The one of a worker.
pub(crate) struct App {
    trace: Trace,
    latency: LatencyModel,
    rng: Mutex<Rng>,
}

impl App {
    pub(crate) fn new(trace: Trace, latency: LatencyModel, rng: Rng) -> Self {
        Self {
            trace,
            latency,
            rng: Mutex::new(rng),
        }
    }
}

impl Handler for App {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        let subject = request.identity.subject.as_str().to_owned();
        let roles = Roles::of_claims(request.claims);
        let took = self.latency.delay(&mut self.rng.lock().expect("no holder panics"));
        self.trace.note(Event::Handled {
            id: request.id.unwrap_or_default().to_owned(),
            subject: subject.clone(),
            roles,
        });
        sleep(took).await;
        let answer = |number: u64| Answers::one(&json!({"as": subject, "may": roles.bits(), "n": number}));
        match request.kind {
            "none" => Ok(Answers::none()),
            "two" => Ok(answer(0)?.and(answer(1)?)),
            "deadly-answer" => Answers::one(&json!({"as": subject, "may": roles.bits(), "note": DEADLY})),
            _ => answer(0),
        }
    }
}
