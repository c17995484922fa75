//! The application of a simulation: it says in whose name it was asked, and takes its time.

use std::sync::Mutex;

use serde_json::json;
use shared::bus::memory::chaos::{DEADLY, LatencyModel};
use shared::service::rng::Rng;
use tokio::time::sleep;
use worker::{Answers, Handler, HandlerError, Request};

use super::token::Roles;
use crate::trace::{Event, Trace};

/// The one of a worker.
pub(crate) struct App {
    trace: Trace,
    weather: LatencyModel,
    dice: Mutex<Rng>,
}

impl App {
    pub(crate) fn new(trace: Trace, weather: LatencyModel, dice: Rng) -> Self {
        Self {
            trace,
            weather,
            dice: Mutex::new(dice),
        }
    }
}

impl Handler for App {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        let subject = request.identity.subject.as_str().to_owned();
        let roles = Roles::of_claims(request.claims);
        let took = self.weather.delay(&mut self.dice.lock().expect("no holder panics"));
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
