//! What a handler pushes along with its answer: to the one who asked it goes with the answer itself, before what was said after
//! it; to the other connections of the identity as a push.

use bytes::Bytes;
use futures_util::future::try_join_all;
use shared::bus::{Message, Properties, Route, Value};
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{Effect, ErrorBody, ErrorCode};
use tracing::debug;

use super::Pipeline;
use crate::auth::identity::Identity;
use crate::handler::{Along, Answers, Request, Whom};
use crate::outbound::pushes::push::{EXCEPT, ISSUER, SUBJECT};

impl Pipeline {
    /// Brings on their way what is for others than the connection that asked, and waits until it is there. They are brought
    /// on their way again when the message is handled again, and known by their ids.
    ///
    /// # Errors
    /// If the broker does not take one of them.
    pub(super) async fn push_along(&self, request: &Request<'_>, mut answers: Answers) -> Result<Answers, ErrorBody> {
        let queue = self.names.pushes().name;
        let to_all = answers.pushes().filter(|push| push.to == Whom::Identity);
        let sends = to_all.map(|along| {
            let message = to_identity(request.identity, along, request.answered_on);
            self.publisher.publish(Route::queue(&queue), message)
        });
        if let Err(reason) = try_join_all(sends).await {
            debug!(%reason, "what was to be pushed with an answer was not taken");
            let why = "the application's pushes cannot be published at the moment";
            return Err(ErrorBody::new(ErrorCode::Busy, why).having(Effect::Unknown));
        }
        if request.forwarded_id.is_none() {
            // The one who injected it hears answers, and nothing else.
            answers.keep_replies();
        }
        Ok(answers)
    }
}

/// What is pushed to an identity along with an answer, for the queue of pushes. That connection has it with the answer.
fn to_identity(identity: &Identity, along: &Along, except: Option<ConnectionId>) -> Message {
    let header = |name: &str, text: String| (name.to_owned(), Value::Text(text));
    let mut headers = vec![
        header(SUBJECT, identity.subject.as_str().to_owned()),
        header(ISSUER, identity.issuer.as_str().to_owned()),
    ];
    headers.extend(except.map(|connection| header(EXCEPT, connection.to_string())));
    Message {
        body: Bytes::copy_from_slice(along.payload.get().as_bytes()),
        properties: Properties {
            message_id: Some(along.id.clone()),
            headers,
            ..Properties::default()
        },
    }
}
