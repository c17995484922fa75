//! Who speaks to the queue: producers of pushes, and an operator who revokes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::bus::topology::keys;
use shared::bus::{Bus as _, Message, Properties, Publication, PublishTimeout, Route, Value};
use tests::tokens::token::ISSUER;
use tokio::time::{sleep, timeout};

use crate::scenario::{Push, Revoke, Target};
use crate::trace::{Event, Taken};
use crate::world::World;

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes pushes, one after the other, and never waits for one.
pub(crate) async fn produce(world: Arc<World>, producer: usize, pushes: Vec<(Duration, Push)>) {
    let bus = world.process();
    let publisher = bus.publisher(PublishTimeout::Endless);
    let queue = world.names.inject_queue(producer as u64);
    let mut outcomes = world.broker.consumer(queue.clone(), 100);
    let trace = world.trace.clone();
    tokio::spawn(async move {
        while let Some(delivery) = outcomes.recv().await {
            let id = delivery.message.properties.correlation_id.clone().unwrap_or_default();
            trace.note(Event::Outcome(id, json_of(&delivery.message)));
            delivery.ack();
        }
    });
    for (number, (after, push)) in pushes.into_iter().enumerate() {
        sleep(after).await;
        let id = format!("push-{producer}-{number}");
        world.trace.note(Event::Pushing {
            id: id.clone(),
            subject: push.subject,
            producer,
        });
        let message = Message {
            body: json!({"push": id}).to_string().into(),
            properties: Properties {
                message_id: Some(id.clone()),
                correlation_id: Some(id),
                reply_to: Some(queue.name.clone()),
                headers: [("subject", push.subject), ("issuer", ISSUER)]
                    .map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned())))
                    .to_vec(),
                ..Properties::default()
            },
        };
        let route = Route::new(&world.names.exchange().name, keys::PUSH);
        publisher
            .submit(Publication {
                route,
                message,
                receipt: Box::new(|_| {}),
            })
            .await;
    }
}

/// Takes things back, one after the other, and waits until each is.
pub(crate) async fn operate(world: Arc<World>, revocations: Vec<(Duration, Revoke)>) {
    for (after, one) in revocations {
        sleep(after).await;
        revoke(&world, one).await;
    }
}

/// Takes something back, and waits until it is.
pub(crate) async fn revoke(world: &World, Revoke { target, grace }: Revoke) {
    let bus = world.process();
    let publisher = bus.publisher(PublishTimeout::Endless);
    let number = world.next_revocation();
    let taken = match target {
        Target::Subject(subject) => Taken::Subject(subject),
        Target::LastToken => Taken::Token(world.mint.last()),
    };
    let mut body = match &taken {
        Taken::Subject(subject) => json!({"subject": subject, "issuer": ISSUER}),
        Taken::Token(jti) => json!({"jti": jti, "issuer": ISSUER}),
    };
    if !grace.is_zero() {
        body["grace"] = format!("{}s", grace.as_secs()).into();
    }
    let queue = world.names.inject_queue(1_000 + number as u64);
    // The operator hears at once: what is promised from the acknowledgement on begins when it is given.
    let mut answers = world.broker.consumer(queue.clone(), 10);
    world.trace.note(Event::Revoking {
        number,
        taken,
        grace_ms: u64::try_from(grace.as_millis()).expect("it is short"),
    });
    let message = Message {
        body: body.to_string().into(),
        properties: Properties {
            reply_to: Some(queue.name.clone()),
            correlation_id: Some(number.to_string()),
            ..Properties::default()
        },
    };
    let route = Route::new(&world.names.exchange().name, keys::REVOKE);
    publisher
        .publish(route, message)
        .await
        .expect("there is a queue for it");
    if let Ok(Some(delivery)) = timeout(PATIENCE, answers.recv()).await {
        world.trace.note(Event::Revoked(number, json_of(&delivery.message)));
        delivery.ack();
    }
}

fn json_of(message: &Message) -> Json {
    serde_json::from_slice(&message.body).expect("a worker writes JSON")
}
