//! The answers on their way to the one who asked.
//!
//! They leave before the message is acknowledged. Those that no queue takes are held for the identity, dead-lettered or
//! counted, by where they were to go.

use bytes::Bytes;
use futures_util::future::try_join_all;
use shared::bus::topology::keys;
use shared::bus::{Delivery, Message, PublishError, Publisher, Route};
use shared::service::trace::{self as traces, Span, SpanKind, headers, words};
use shared::wire::envelope::request::RECEIVED_MS;
use shared::wire::envelope::{Bounced, Change, ForwardedMessage, Part, Reply};
use shared::wire::protocol::ErrorCode;
use tokio::time::Instant;

use super::{Conclusion, Pipeline, answer};
use crate::admin::event::Event;
use crate::admin::metrics::{Lost, MessageOutcome};
use crate::message::origin::Origin;
use crate::message::{ClientMessage, MAX_FORWARDED_BYTES};

impl Pipeline {
    /// Sends the answers to the one who asked, and waits until they have arrived.
    pub(super) async fn answer(
        &self,
        delivery: &Delivery,
        origin: &Origin,
        conclusion: &Conclusion,
    ) -> Result<(), PublishError> {
        let properties = &delivery.message.properties;
        let Some(reply_to) = origin.reply_to(properties, &self.names) else {
            return match conclusion.refused {
                Some(code) => Box::pin(self.dead_letters.dead_letter_refused(delivery, code)).await,
                None => {
                    let wanted = properties.reply_to.is_some();
                    self.metrics
                        .answer_lost(if wanted { Lost::NotAllowed } else { Lost::Unwanted });
                    Ok(())
                }
            };
        };
        let started = Instant::now();
        let span = traces::child("answer", SpanKind::Producer);
        // An injector may have called its queue anything.
        let queue = origin.message_id().map_or("reply_to", |_| reply_to);
        span.describe(|| words::messaging("answer", "send", queue));
        // They are made again if they do not arrive, which is rare, rather than kept.
        let messages = || self.messages_of(delivery, origin, conclusion, &span);
        let (publisher, route) = match origin.message_id() {
            Some(_) => (&self.publisher, Route::queue(reply_to)),
            None => (self.replier.to(reply_to), Route::queue(reply_to).foreign()),
        };
        match send(publisher, route, messages()).await {
            Err(PublishError::Unroutable) if origin.message_id().is_some() => {
                Box::pin(self.give_to_the_hold(messages())).await?
            }
            Err(PublishError::Malformed) if origin.message_id().is_some() => {
                Box::pin(self.answer_in_parts(delivery, reply_to, messages())).await?;
            }
            // The one who asked named something that takes no answer; what they asked is kept for a person.
            Err(PublishError::Malformed) => {
                Box::pin(self.dead_letters.dead_letter_refused(delivery, ErrorCode::BadRequest)).await?;
            }
            // A queue that someone else has named is theirs to empty. To wait for it would keep others waiting.
            Err(PublishError::Refused) if origin.message_id().is_none() => self.metrics.answer_lost(Lost::QueueFull),
            // No one is there any more, or there never was such a queue.
            Err(PublishError::Unroutable) => self.metrics.answer_lost(Lost::Unroutable),
            outcome => outcome?,
        }
        let took = started.elapsed();
        self.observer.tell(origin.message_id(), Event::Replied { took });
        Ok(())
    }

    /// What is published to the one who asked.
    fn messages_of(&self, delivery: &Delivery, origin: &Origin, conclusion: &Conclusion, span: &Span) -> Vec<Message> {
        let properties = &delivery.message.properties;
        let brings_grant = matches!(conclusion.answer.change, Some(Change::Live { .. }));
        // What is sent back has been waited for since it was received, if its terminator knew when that was.
        let is_sure = origin.forwarded().is_some_and(|forwarded| !forwarded.snapshot.unsure);
        let sent_back = properties
            .header(RECEIVED_MS)
            .filter(|_| is_sure && conclusion.outcome == MessageOutcome::Again);
        let mut messages = parts(&properties.correlation_id, origin, conclusion);
        if let (Some(forwarded), Some(first)) = (origin.forwarded(), messages.first_mut()) {
            let received = ForwardedMessage::received_ms(properties);
            self.tell_time(forwarded, received, brings_grant, &mut first.properties);
        }
        for message in &mut messages {
            headers::write(&mut message.properties, span);
            let received = sent_back.map(|received| (RECEIVED_MS.to_owned(), received.clone()));
            message.properties.headers.extend(received);
        }
        messages
    }

    /// Sends answers of which one at least cannot be published: who asked is told that instead of it. What came before it
    /// may come once more, and is dropped then.
    async fn answer_in_parts(
        &self,
        delivery: &Delivery,
        reply_to: &str,
        messages: Vec<Message>,
    ) -> Result<(), PublishError> {
        for message in messages {
            match send(&self.publisher, Route::queue(reply_to), vec![message.clone()]).await {
                Err(PublishError::Malformed) => {
                    self.metrics.answer_lost(Lost::Unpublishable);
                    let message_id = message
                        .properties
                        .correlation_id
                        .as_deref()
                        .and_then(|id| id.parse().ok());
                    let opened = self
                        .opening
                        .open(message_id, &delivery.message.body)
                        .unwrap_or_default();
                    let asked = ClientMessage::parse(&opened, MAX_FORWARDED_BYTES).ok();
                    let id = asked.as_ref().and_then(|asked| asked.id.as_ref());
                    let Some((_, part)) = Reply::read(&message.properties) else {
                        continue;
                    };
                    // It has nothing of anyone's.
                    let instead = Reply { identity: None, ..part };
                    let message_id = message.properties.correlation_id;
                    let instead = instead.to_message(message_id, answer::unpublishable(id));
                    send(&self.publisher, Route::queue(reply_to), vec![instead]).await?;
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// The terminator is gone, and its queue with it. What is someone's waits for their next connection.
    async fn give_to_the_hold(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        for message in messages {
            let is_somebodys = Reply::read(&message.properties).is_some_and(|(_, answer)| answer.identity.is_some());
            if is_somebodys && !message.body.is_empty() {
                self.send_undelivered(message).await?;
            } else {
                self.metrics.answer_lost(Lost::Unroutable);
            }
        }
        Ok(())
    }

    /// Puts something away whose connection is gone.
    pub(super) async fn send_undelivered(&self, message: Message) -> Result<(), PublishError> {
        let route = Route::new(&self.internal, keys::UNDELIVERED);
        self.metrics.bounced();
        self.publisher.publish(route, Bounced::Gone.to_message(message)).await
    }
}

async fn send(publisher: &Publisher, route: Route, mut messages: Vec<Message>) -> Result<(), PublishError> {
    if messages.len() <= 1 {
        return match messages.pop() {
            Some(only) => publisher.publish(route, only).await,
            None => Ok(()),
        };
    }
    // They are submitted in order, and confirmed together.
    let sends = messages
        .into_iter()
        .map(|message| publisher.publish(route.clone(), message));
    try_join_all(sends).await.map(|_| ())
}

/// The answers as they go to the one who asked. What changes the connection comes with the first, the settlement with the
/// last.
fn parts(correlation_id: &Option<String>, origin: &Origin, conclusion: &Conclusion) -> Vec<Message> {
    let Conclusion { bodies, answer, .. } = conclusion;
    let last = bodies.len().saturating_sub(1);
    let second = origin.forwarded().is_some_and(|forwarded| forwarded.snapshot.again);
    let part = |(body, index): (&Bytes, u32)| {
        let more = (index as usize) < last;
        let mut part = Reply {
            part: Part { index, more },
            second,
            ..answer.clone()
        };
        if index > 0 {
            part.change = None;
        }
        part.to_message(correlation_id.clone(), body.clone())
    };
    bodies.iter().zip(0..).map(part).collect()
}
