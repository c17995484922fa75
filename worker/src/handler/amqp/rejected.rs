//! What applications reject: the one who asked is told at once.
//!
//! The broker tells no one who has published something that it was rejected. But it dead-letters it where the
//! application's queue says: to the queue `<ns>.rejected`, which all workers read. Whichever gets it answers in the application's
//! stead. A request whose time is over comes the same way, and needs no answer.

use shared::bus::topology::Names;
use shared::bus::{Consumer, DEATH_REASON, Message, Properties, Publisher, Route, Value};
use shared::wire::envelope::JSON;
use tracing::debug;

use super::TYPE_ERROR;

const REJECTED: &str = r#"{"code":"internal","message":"the application rejected the message"}"#;
const GIVEN_UP: &str = r#"{"code":"internal","message":"the application left the message too often"}"#;
const FULL: &str = r#"{"code":"busy","message":"too much waits for the application already"}"#;

/// Answers until there is nothing more.
pub(super) async fn answer(mut rejected: Consumer, publisher: Publisher, names: Names) {
    while let Some(mut delivery) = rejected.recv().await {
        if let Some((queue, answer)) = answer_to(delivery.take_message(), &names)
            && let Err(reason) = publisher.publish(Route::queue(&queue), answer).await
        {
            // Its worker is gone, or its time will be over.
            debug!(%reason, "the sender was not told that an application rejected the message");
        }
        delivery.ack();
    }
}

/// What is answered, and where: in a queue of workers for such answers, and in no other, whatever a message says.
fn answer_to(message: Message, names: &Names) -> Option<(String, Message)> {
    let Some(Value::Text(reason)) = message.properties.header(DEATH_REASON) else {
        return None;
    };
    let body = match &**reason {
        "rejected" => REJECTED,
        "delivery_limit" => GIVEN_UP,
        "maxlen" => FULL,
        _ => return None,
    };
    let queue = message.properties.reply_to.filter(|queue| names.is_of_replies(queue))?;
    let answer = Message {
        body: body.into(),
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            kind: Some(TYPE_ERROR.to_owned()),
            correlation_id: Some(message.properties.correlation_id?),
            ..Properties::default()
        },
    };
    Some((queue, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_died_is_answered_and_only_to_a_worker() {
        let names = Names::new("n");
        let died = |reason: &str, reply_to: &str, correlation_id: Option<&str>| {
            let properties = Properties {
                reply_to: Some(reply_to.to_owned()),
                correlation_id: correlation_id.map(str::to_owned),
                headers: vec![(DEATH_REASON.to_owned(), Value::Text(reason.to_owned()))],
                ..Properties::default()
            };
            let message = Message {
                body: "1".into(),
                properties,
            };
            answer_to(message, &names).map(|(queue, answer)| {
                let code: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                let about = answer.properties.correlation_id.unwrap();
                (queue, about, code["code"].as_str().unwrap().to_owned())
            })
        };
        let queue = names.reply_queue(7).name;
        for (reason, code) in [
            ("rejected", Some("internal")),
            ("delivery_limit", Some("internal")),
            ("maxlen", Some("busy")),
            ("expired", None),
            ("other", None),
        ] {
            let expected = code.map(|code| (queue.clone(), "c".to_owned(), code.to_owned()));
            assert_eq!(died(reason, &queue, Some("c")), expected, "{reason}");
        }
        assert_eq!(died("rejected", &queue, None), None);
        for other in ["n.messages", "m.reply.7", "theirs", ""] {
            assert_eq!(died("rejected", other, Some("c")), None, "{other}");
        }
        assert!(answer_to(Message::default(), &names).is_none());
    }
}
