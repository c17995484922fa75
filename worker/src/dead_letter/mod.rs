//! What is kept of a message that could not be brought to an end: all but its token.
//!
//! The broker puts what reached its delivery limit into `<namespace>.failed`, or
//! `<namespace>.injected.failed` if it is no client's,
//! token and all, because it cannot look into it. A worker takes the token out,
//! puts the rest into `<namespace>.dead` for a person to look at, and tells anyone who
//! asked, because a forwarded message is always settled.

mod letter;
pub mod redact;
pub(crate) mod retry;

use std::sync::Arc;

use bytes::Bytes;
use shared::bus::topology::{Names, keys};
use shared::bus::{
    DEATH_EXCHANGE, DEATH_QUEUE, DEATH_REASON, Delivery, Message, PublishError, Publisher, Replier, Route,
};
use shared::service::clock::Clock;
use shared::wire::envelope::run::{self, Entry};
use shared::wire::envelope::{ForwardedMessage, MessageKind, Reply};
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::seal::{Unsealable, is_sealed};
use tracing::error;

use self::letter::{DeadLetterInfo, dead_letter, sealed_letter};
use crate::admin::metrics::{Lost, Metrics};
use crate::message::of_run::{message_of, rest_of};
use crate::message::opening::Opening;
use crate::message::origin::{self, text_header};
use crate::message::{ClientMessage, MAX_FORWARDED_BYTES};
use crate::outbound::outcome::Outcome;
use crate::outbound::outcome_publisher::PushOutcomePublisher;
use crate::outbound::pushes::push::producer;
use crate::process::answer::error;

pub(crate) struct DeadLetterPublisher {
    publisher: Publisher,
    replier: Replier,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    names: Names,
    internal: String,
    max_deliveries: u32,
    route: Route,
    outcomes_publisher: Arc<PushOutcomePublisher>,
    opening: Arc<Opening>,
}

impl DeadLetterPublisher {
    pub(crate) fn new(
        publisher: Publisher,
        replier: Replier,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        names: &Names,
        max_deliveries: u32,
        (outcomes_publisher, opening): (Arc<PushOutcomePublisher>, Arc<Opening>),
    ) -> Self {
        let internal = names.internal_exchange().name;
        Self {
            publisher,
            replier,
            clock,
            metrics,
            route: Route::new(&internal, keys::DEAD),
            internal,
            names: names.clone(),
            max_deliveries,
            outcomes_publisher,
            opening,
        }
    }

    /// Buries what the broker gave up, and tells the one who asked. It is for the caller to acknowledge.
    ///
    /// # Errors
    /// If it could not be dead-lettered, or no one could be told.
    pub(crate) async fn dead_letter_failed(&self, delivery: &Delivery) -> Result<(), PublishError> {
        let Some((first, entries)) = self.run_in(&delivery.message) else {
            return self.dead_letter_one(delivery).await;
        };
        // What the broker did not keep was never tried. Otherwise the first was, alone, and the rest goes on behind it.
        let tried = match text_header(&delivery.message.properties, DEATH_REASON) {
            Some("expired" | "maxlen") => entries.len(),
            _ => 1,
        };
        for (place, entry) in entries.iter().enumerate().take(tried) {
            let request = run::request_at(&first, place, entry);
            let mut message = message_of(&delivery.message, &request, entry);
            message
                .properties
                .headers
                .clone_from(&delivery.message.properties.headers);
            self.dead_letter_one(&delivery.part(message)).await?;
        }
        match rest_of(delivery, &first, &entries, tried, keys::RETRY) {
            Some(rest) => {
                let route = Route::new(&self.internal, keys::RETRY);
                self.publisher.publish(route, rest).await
            }
            None => Ok(()),
        }
    }

    /// The messages of a run, and what is told of the first, if a terminator sent one.
    fn run_in(&self, message: &Message) -> Option<(ForwardedMessage, Vec<Entry>)> {
        let first = ForwardedMessage::read(&message.properties).filter(|request| request.notice == MessageKind::Run)?;
        let entries = run::decode(&message.body).ok()?;
        self.is_of_terminator(message).then_some((first, entries))
    }

    async fn dead_letter_one(&self, delivery: &Delivery) -> Result<(), PublishError> {
        let mut info = self.info_of_failed(delivery);
        let sealed = is_sealed(&delivery.message.body) && self.is_of_terminator(&delivery.message);
        if !sealed {
            self.publish(dead_letter(&delivery.message, info)).await?;
            return self.tell(&delivery.message).await;
        }
        let message_id = ForwardedMessage::read(&delivery.message.properties).map(|request| request.message_id);
        match self.opening.open(message_id, &delivery.message.body) {
            Ok(body) => {
                let opened = Message {
                    body,
                    properties: delivery.message.properties.clone(),
                };
                self.publish(dead_letter(&opened, info)).await?;
                self.tell(&opened).await
            }
            Err(why) => {
                self.opening.tell(message_id, why);
                info.reason = why.to_string();
                self.publish(sealed_letter(&delivery.message, info)).await?;
                self.tell(&delivery.message).await
            }
        }
    }

    /// Buries a client's message that cannot be opened, as it came: sealed, token and all. It is for the caller to acknowledge.
    ///
    /// # Errors
    /// If it could not be dead-lettered.
    pub(crate) async fn dead_letter_unsealable(
        &self,
        delivery: &Delivery,
        why: Unsealable,
        queue: String,
    ) -> Result<(), PublishError> {
        let info = DeadLetterInfo {
            reason: why.to_string(),
            first_seen_s: self.first_seen_s(delivery),
            count: delivery.delivery_count.saturating_add(1),
            queue,
        };
        // What is open has its token taken out like everything else.
        let letter = match is_sealed(&delivery.message.body) {
            true => sealed_letter(&delivery.message, info),
            false => dead_letter(&delivery.message, info),
        };
        self.publish(letter).await
    }

    /// Buries a message whose refusal no one would hear. It is for the caller to acknowledge.
    ///
    /// # Errors
    /// If it could not be dead-lettered.
    pub(crate) async fn dead_letter_refused(&self, delivery: &Delivery, code: ErrorCode) -> Result<(), PublishError> {
        self.dead_letter_unheard(delivery, code, self.names.injected().name)
            .await
    }

    /// Buries what terminators or workers sent as many messages in one and that cannot be read, whole. It is for the caller to
    /// acknowledge.
    ///
    /// # Errors
    /// If it could not be dead-lettered.
    pub(crate) async fn dead_letter_unreadable(
        &self,
        delivery: &Delivery,
        reason: &str,
        queue: String,
    ) -> Result<(), PublishError> {
        error!(
            reason,
            queue,
            bytes = delivery.message.body.len(),
            "a message cannot be read, and is dead-lettered: do older terminators or workers run beside newer ones?"
        );
        let info = DeadLetterInfo {
            reason: reason.to_owned(),
            first_seen_s: self.first_seen_s(delivery),
            count: delivery.delivery_count.saturating_add(1),
            queue,
        };
        self.publish(dead_letter(&delivery.message, info)).await
    }

    /// The same for what came out of `queue`.
    ///
    /// # Errors
    /// If it could not be dead-lettered.
    pub(crate) async fn dead_letter_unheard(
        &self,
        delivery: &Delivery,
        code: ErrorCode,
        queue: String,
    ) -> Result<(), PublishError> {
        let info = DeadLetterInfo {
            reason: code.as_str().to_owned(),
            first_seen_s: self.first_seen_s(delivery),
            count: delivery.delivery_count.saturating_add(1),
            queue,
        };
        self.publish(dead_letter(&delivery.message, info)).await
    }

    async fn publish(&self, dead: Message) -> Result<(), PublishError> {
        let without_body = Message {
            body: Bytes::new(),
            properties: dead.properties.clone(),
        };
        match self.publisher.publish(self.route.clone(), dead).await {
            // A broker that takes smaller messages than it did takes what is known of it.
            Err(PublishError::Malformed) => self.publisher.publish(self.route.clone(), without_body).await?,
            outcome => outcome?,
        }
        self.metrics.buried();
        Ok(())
    }

    /// Tells the one who asked that there will be no other answer.
    async fn tell(&self, message: &Message) -> Result<(), PublishError> {
        let Some(reply_to) = &message.properties.reply_to else {
            return Ok(());
        };
        let queue = text_header(&message.properties, DEATH_QUEUE).unwrap_or_default();
        let was_asked = self.names.is_of_pushes(queue) || queue == self.names.revocations().name;
        if !self.is_of_terminator(message) && !was_asked && !self.names.may_be_answered(reply_to) {
            self.metrics.answer_lost(Lost::NotAllowed);
            return Ok(());
        }
        if was_asked {
            return self.tell_producer(message).await;
        }
        let answer = last_answer(message).to_message(message.properties.correlation_id.clone(), last_word(message));
        let (publisher, route) = match self.names.is_ours(reply_to) {
            true => (&self.publisher, Route::queue(reply_to)),
            false => (self.replier.to(reply_to), Route::queue(reply_to).foreign()),
        };
        match publisher.publish(route, answer).await {
            Err(PublishError::Unroutable | PublishError::Malformed) => {
                self.metrics.answer_lost(Lost::Unroutable);
                Ok(())
            }
            Err(PublishError::Refused) if !self.names.is_ours(reply_to) => {
                self.metrics.answer_lost(Lost::QueueFull);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Whether a terminator sent what the broker gave up. The one who moved it there knew by which exchange it had come, and so does
    /// the broker. All else may be anyone's, whatever it says.
    fn is_of_terminator(&self, message: &Message) -> bool {
        let queue = text_header(&message.properties, DEATH_QUEUE).unwrap_or_default();
        let [retry, _] = self.names.retries(self.max_deliveries);
        if queue == retry.name {
            !origin::was_injected(&message.properties)
        } else {
            self.names.is_of_messages(queue) && text_header(&message.properties, DEATH_EXCHANGE) == Some(&self.internal)
        }
    }

    /// Tells the one who pushed or revoked, in the words for those.
    async fn tell_producer(&self, message: &Message) -> Result<(), PublishError> {
        let Some(producer) = producer(&message.properties) else {
            return Ok(());
        };
        let error = refusal(message, "it could not be handled");
        self.outcomes_publisher
            .tell(&producer, &Outcome::Refused { error })
            .await
    }

    fn info_of_failed(&self, delivery: &Delivery) -> DeadLetterInfo {
        let properties = &delivery.message.properties;
        let header = |name| redact::text(text_header(properties, name).unwrap_or("unknown")).into_owned();
        DeadLetterInfo {
            reason: header(DEATH_REASON),
            first_seen_s: self.first_seen_s(delivery),
            count: self.max_deliveries,
            queue: header(DEATH_QUEUE),
        }
    }

    fn first_seen_s(&self, delivery: &Delivery) -> u64 {
        origin::first_seen_s(delivery, &self.internal).unwrap_or_else(|| self.clock.now().as_secs())
    }
}

/// What is said around the last word: a terminator knows by it which sending of its request is settled.
fn last_answer(message: &Message) -> Reply {
    let request = ForwardedMessage::read(&message.properties);
    Reply {
        second: request.as_ref().is_some_and(|request| request.snapshot.again),
        // As good as all: what could not be released is asked for again.
        left: request.filter(is_release).map_or(0, |_| u64::from(u32::MAX)),
        ..Reply::ONLY
    }
}

/// The refusal. Of what no client has asked there is nothing to say.
fn last_word(message: &Message) -> Bytes {
    if ForwardedMessage::read(&message.properties).is_some_and(|request| is_release(&request)) {
        return Bytes::new();
    }
    let id = match ClientMessage::parse(&message.body, MAX_FORWARDED_BYTES) {
        Ok(message) => message.id,
        Err(malformed) => malformed.id,
    };
    error(id.as_ref(), &refusal(message, "the message could not be handled"), None)
}

/// What the one who asked is told. What the broker did not keep was never handled: a policy of its operator's may say so.
fn refusal(message: &Message, otherwise: &str) -> ErrorBody {
    match text_header(&message.properties, DEATH_REASON) {
        Some("expired" | "maxlen") => ErrorBody::new(ErrorCode::Busy, "no worker took it in time; try again"),
        _ => ErrorBody::new(ErrorCode::Internal, otherwise),
    }
}

const fn is_release(request: &ForwardedMessage) -> bool {
    matches!(request.notice, MessageKind::Release { .. })
}
