//! What a producer asks for: a payload, for an identity or for a connection.
//!
//! Pure. Anyone who may publish may push, so nothing in here raises anyone's
//! rights: a push can only be written where its addressee has proved who it is, and
//! its outcome goes to no queue of ours.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use shared::bus::topology::Names;
use shared::bus::{EXPIRATION, Message, Properties, UNREADABLE, Value};
use shared::service::chance;
use shared::service::clock::Timestamp;
use shared::wire::envelope::command::Producer;
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{ErrorBody, ErrorCode, MAX_ID_BYTES, ServerKind, ServerMessage};
use shared::wire::request_id::RequestId;
use shared::wire::tag::IdentityTag;

use crate::auth::identity::{self, Issuer, Unnamed};
use crate::message::{self, NOT_AMQP};
use crate::store::{HeldWrite, hold};

/// The most that one push is for.
pub(crate) const MOST_SUBJECTS: usize = 1_000;

/// The header that names whom it is for: the `sub` of an identity.
pub(crate) const SUBJECT: &str = "subject";
/// The header that names who vouches for the subject; needed only where there are several.
pub(crate) const ISSUER: &str = "issuer";
/// The header that names the one connection that it is for.
pub(crate) const CONNECTION: &str = "connection";

/// The header that names a connection which has it already: it is left out, and what no one else hears is not held.
pub(crate) const EXCEPT: &str = "except";

/// With what the keys of pushes begin, and those of answers do not.
const KEY_PREFIX: &str = hold::PUSH;

/// Whom a push is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Addressee {
    /// Every live connection of an identity, or its next one.
    Identity(IdentityTag),
    /// One connection, on behalf of who it is authenticated as.
    Connection(ConnectionId),
}

/// A push that can be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Push {
    /// For whom.
    pub(crate) to: Addressee,
    /// What the client sees as its `id`, and by which it knows it if it comes twice.
    pub(crate) id: String,
    /// The text, as it crosses the socket.
    pub(crate) body: String,
    /// Who wants to know what becomes of it.
    pub(crate) producer: Option<Producer>,
    /// Which user sends it, if it is no backend.
    pub(crate) sender: Option<IdentityTag>,
    /// Which connection has it already.
    pub(crate) except: Option<ConnectionId>,
    /// When it was first given to us.
    pub(crate) since: Timestamp,
    /// Until when it may be held, if its producer has said so.
    pub(crate) until: Option<Timestamp>,
}

/// What is wrong with a push. The texts go to its producer, and never repeat what it wrote.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A part of what stands around it is missing.
    #[error("{NOT_AMQP}")]
    Unreadable,
    /// None of the headers is there.
    #[error("a push needs `subject`, `subjects` or `connection`")]
    NoAddressee,
    /// More than one is there.
    #[error("a push has one of `subject`, `subjects` and `connection`, not several")]
    TwoAddressees,
    /// Not who it may be for.
    #[error("`subjects` is not a JSON array of 1 to {MOST_SUBJECTS} texts")]
    Subjects,
    /// A header that is no text.
    #[error("`{0}` is not a text")]
    NotText(&'static str),
    /// RFC 7519 §4.1.2, as narrow as the verifier reads it.
    #[error("the subject is empty, longer than {max} bytes, or has control characters", max = identity::MAX_SUBJECT_BYTES)]
    Subject,
    /// Only with one issuer does a subject say enough.
    #[error("there are several issuers: name the subject's in `issuer`")]
    NoIssuer,
    /// No one could ever be who it is for.
    #[error("the issuer is not one of the accepted issuers")]
    UnknownIssuer,
    /// No connection has such a name.
    #[error("`{0}` is not the name of a connection")]
    Connection(&'static str),
    /// It would not fit where ids go.
    #[error("the message_id is longer than {MAX_ID_BYTES} bytes")]
    Id,
    /// It cannot be written to a client.
    #[error("the payload: {0}")]
    Payload(#[from] message::Fault),
}

impl From<Unnamed> for Fault {
    fn from(unnamed: Unnamed) -> Self {
        match unnamed {
            Unnamed::Several => Self::NoIssuer,
            Unnamed::Unknown => Self::UnknownIssuer,
        }
    }
}

impl Fault {
    /// What the producer is told.
    pub(crate) fn error(&self) -> ErrorBody {
        let code = match self {
            Self::Payload(message::Fault::TooLarge(_)) => ErrorCode::TooLarge,
            _ => ErrorCode::BadRequest,
        };
        ErrorBody::new(code, self.to_string())
    }
}

impl Push {
    /// Reads what came out of `<ns>.pushes`. An id is drawn where there is none.
    ///
    /// # Errors
    /// If it is no push: the first fault found.
    pub(crate) fn read(message: &Message, issuers: &[Issuer], now: Timestamp) -> Result<Self, Fault> {
        let properties = &message.properties;
        if properties.header(UNREADABLE).is_some() {
            return Err(Fault::Unreadable);
        }
        let to = addressee(properties, issuers)?;
        let except = header(properties, EXCEPT)?.map(str::parse).transpose();
        let except = except.map_err(|_| Fault::Connection(EXCEPT))?;
        let id = match properties.message_id.as_deref() {
            Some(id) if id.len() > MAX_ID_BYTES => return Err(Fault::Id),
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => format!("{:032x}", chance::bits()),
        };
        Ok(Self {
            to,
            body: body(&id, message::payload(&message.body)?),
            id,
            producer: producer(properties),
            sender: None,
            except,
            since: now,
            until: held_for(properties).map(|held_for| now.saturating_add(held_for)),
        })
    }

    /// One of a user's for all connections of an identity, whose producer waits for what becomes of it.
    ///
    /// # Errors
    /// If the payload cannot be written to a client.
    pub(crate) fn relayed(
        sender: IdentityTag,
        identity: IdentityTag,
        id: String,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<Self, Fault> {
        Ok(Self {
            to: Addressee::Identity(identity),
            body: body(&id, message::payload(payload)?),
            id,
            producer: None,
            sender: Some(sender),
            except: None,
            since: now,
            until: None,
        })
    }

    /// The key by which terminators and the hold know it if it comes twice.
    pub(crate) fn key(&self) -> String {
        match self.sender {
            Some(sender) => hold::key_of_user(sender, &self.id),
            None => format!("{KEY_PREFIX}{}", self.id),
        }
    }

    /// Whether it is never to be held.
    pub(crate) fn is_live_only(&self) -> bool {
        self.until.is_some_and(|until| until <= self.since)
    }

    /// The text, to be published.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.body.as_bytes())
    }

    /// The same to be held.
    pub(crate) fn to_hold(&self) -> HeldWrite {
        HeldWrite {
            key: self.key(),
            body: self.body.clone(),
            asker: None,
            producer: self.producer.clone(),
            since: self.since,
            until: self.until,
        }
    }
}

/// How long its producer lets it be held: what AMQP calls its expiration.
fn held_for(properties: &Properties) -> Option<Duration> {
    match properties.header(EXPIRATION)? {
        Value::Integer(ms) => u64::try_from(*ms).ok().map(Duration::from_millis),
        _ => None,
    }
}

/// The text, as it crosses the socket.
fn body(id: &str, payload: &RawValue) -> String {
    let message = ServerMessage {
        kind: ServerKind::Push,
        id: Some(RequestId::text(id)),
        payload: Some(payload),
        error: None,
        auth: None,
    };
    message.to_json()
}

/// Who wants to know what becomes of a message of anyone's. Whether that is told there is for the one who tells it
/// ([`PushOutcomePublisher`](crate::outbound::outcome_publisher::PushOutcomePublisher)).
pub(crate) fn producer(properties: &Properties) -> Option<Producer> {
    Some(Producer {
        reply_to: properties.reply_to.clone()?,
        correlation_id: properties.correlation_id.clone(),
        subject: None,
        // As large as a header can be.
        key: chance::number() >> 1,
    })
}

/// The same, if it may be told: what is refused, and told to no one, is dead-lettered.
pub(crate) fn reachable_producer(properties: &Properties, names: &Names) -> Option<Producer> {
    producer(properties).filter(|producer| names.may_be_answered(&producer.reply_to))
}

fn addressee(properties: &Properties, issuers: &[Issuer]) -> Result<Addressee, Fault> {
    match (header(properties, SUBJECT)?, header(properties, CONNECTION)?) {
        (None, None) => Err(Fault::NoAddressee),
        (Some(_), Some(_)) => Err(Fault::TwoAddressees),
        (None, Some(name)) => name
            .parse()
            .map(Addressee::Connection)
            .map_err(|_| Fault::Connection(CONNECTION)),
        (Some(subject), None) => {
            let issuer = identity::issuer_of(header(properties, ISSUER)?, issuers)?;
            if !identity::is_subject(subject) {
                return Err(Fault::Subject);
            }
            Ok(Addressee::Identity(identity::tag_of(&issuer, subject)))
        }
    }
}

fn header<'a>(properties: &'a Properties, name: &'static str) -> Result<Option<&'a str>, Fault> {
    match properties.header(name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::NotText(name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::wire::id::TerminatorId;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(7);

    fn issuers(names: &[&str]) -> Vec<Issuer> {
        names.iter().map(|name| Issuer::new(*name)).collect()
    }

    fn asked(headers: &[(&str, &str)], body: &str) -> Message {
        let headers = headers
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Value::Text((*text).to_owned())))
            .collect();
        Message {
            body: Bytes::copy_from_slice(body.as_bytes()),
            properties: Properties {
                message_id: Some("m-1".to_owned()),
                headers,
                ..Properties::default()
            },
        }
    }

    fn read(message: &Message, of: &[&str]) -> Result<Push, Fault> {
        Push::read(message, &issuers(of), NOW)
    }

    fn fault(headers: &[(&str, &str)], body: &str, of: &[&str]) -> Fault {
        read(&asked(headers, body), of).expect_err("it is no push")
    }

    #[test]
    fn a_push_is_written_with_its_id_and_its_payload_as_it_came() {
        let push = read(&asked(&[("subject", "alice")], r#" {"n": [1,2]} "#), &["i"]).unwrap();
        assert_eq!(push.body, r#"{"type":"push","id":"m-1","payload":{"n": [1,2]}}"#);
        assert_eq!(
            push.to,
            Addressee::Identity(identity::tag_of(&Issuer::new("i"), "alice"))
        );
        assert!(push.key().starts_with(hold::PUSH) && push.since == NOW);
        assert_eq!(push.to_hold().body, push.body);
    }

    #[test]
    fn a_push_without_an_id_is_given_one_that_no_other_has() {
        let mut message = asked(&[("subject", "alice")], "1");
        message.properties.message_id = None;
        let ids = [(); 2].map(|()| read(&message, &["i"]).unwrap().id);
        assert!(ids[0] != ids[1] && ids[0].len() <= MAX_ID_BYTES);
    }

    #[test]
    fn a_subject_needs_its_issuer_only_where_there_are_several() {
        let named = asked(&[("subject", "alice"), ("issuer", "j")], "1");
        assert_eq!(
            read(&named, &["i", "j"]).unwrap().to,
            Addressee::Identity(identity::tag_of(&Issuer::new("j"), "alice"))
        );
        assert_eq!(fault(&[("subject", "alice")], "1", &["i", "j"]), Fault::NoIssuer);
        assert_eq!(
            fault(&[("subject", "alice"), ("issuer", "k")], "1", &["i", "j"]),
            Fault::UnknownIssuer
        );
    }

    #[test]
    fn each_fault_has_its_name() {
        let of = &["i"];
        let connection = ConnectionId {
            terminator: TerminatorId::random(),
            number: 1,
        };
        let connection = connection.to_string();
        assert_eq!(fault(&[], "1", of), Fault::NoAddressee);
        let both = [("subject", "alice"), ("connection", connection.as_str())];
        assert_eq!(fault(&both, "1", of), Fault::TwoAddressees);
        for subject in ["", "a\nb", &"a".repeat(256)] {
            assert_eq!(fault(&[("subject", subject)], "1", of), Fault::Subject);
        }
        assert_eq!(
            fault(&[("connection", "nonsense")], "1", of),
            Fault::Connection(CONNECTION)
        );
        let except = [("subject", "a"), ("except", "nonsense")];
        assert_eq!(fault(&except, "1", of), Fault::Connection(EXCEPT));
        for body in ["", "{", "\"\\ud800\"", "1 2"] {
            assert!(
                matches!(fault(&[("subject", "a")], body, of), Fault::Payload(_)),
                "{body}"
            );
        }
        let mut message = asked(&[("subject", "a")], "1");
        message.properties.message_id = Some("x".repeat(129));
        assert_eq!(read(&message, of), Err(Fault::Id));
        message.properties.headers = vec![("subject".to_owned(), Value::Integer(1))];
        assert_eq!(read(&message, of), Err(Fault::NotText("subject")));
    }

    #[test]
    fn a_payload_may_be_as_deep_as_the_client_can_read_the_message_that_is_made_of_it() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let push = read(&asked(&[("subject", "a")], &nested(126)), &["i"]).unwrap();
        serde_json::from_str::<serde_json::Value>(&push.body).expect("as deep as serde_json reads");
        assert_eq!(
            fault(&[("subject", "a")], &nested(127), &["i"]),
            Fault::Payload(message::Fault::TooDeep)
        );
    }

    proptest! {
        #[test]
        fn no_message_makes_the_reader_panic(body: Vec<u8>, subject: String, issuer: Option<String>, id: Option<String>) {
            let mut message = asked(&[("subject", &subject)], "");
            message.body = body.into();
            message.properties.message_id = id;
            message.properties.headers.extend(issuer.map(|name| ("issuer".to_owned(), Value::Text(name))));
            if let Ok(push) = read(&message, &["i"]) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&push.body).is_ok());
            }
        }
    }
}
