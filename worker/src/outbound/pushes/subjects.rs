//! A push for many: the header `subjects` names them, and for each of them it is a push of its own. Pure.
//!
//! Its producer is told once, when it is known of all of them what becomes of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use shared::bus::{Message, Value};
use shared::service::chance;
use shared::service::clock::Timestamp;
use shared::wire::envelope::command::Producer;

use super::push::{CONNECTION, Fault, MOST_SUBJECTS, Push, SUBJECT};
use crate::auth::identity::{self, Issuer};
use crate::outbound::outcome::{Of, Outcome};

/// The header: a JSON array of texts, each the `sub` of an identity.
pub(crate) const SUBJECTS: &str = "subjects";

/// A push for many, of which each has not been taken yet.
pub(in crate::outbound) struct Many {
    message: Message,
    subjects: std::vec::IntoIter<String>,
    gathered: Arc<Gathered>,
    taken: usize,
}

/// What became of it for each, as far as it is known.
pub(in crate::outbound) struct Gathered {
    producer: Option<Producer>,
    outcomes: Mutex<Outcomes>,
}

struct Outcomes {
    of_each: Vec<Option<Of>>,
    missing: usize,
}

/// One of them.
pub(in crate::outbound) struct Place {
    gathered: Arc<Gathered>,
    place: usize,
    pub(in crate::outbound) subject: String,
}

impl Many {
    /// What `message` is, if it names several; the producer is who wants to know.
    ///
    /// # Errors
    /// If it names none, too many, or others besides.
    pub(in crate::outbound) fn of(message: &Message, producer: Option<Producer>) -> Result<Option<Self>, Fault> {
        let properties = &message.properties;
        let text = match properties.header(SUBJECTS) {
            None => return Ok(None),
            Some(Value::Text(text)) => text,
            Some(_) => return Err(Fault::Subjects),
        };
        if [SUBJECT, CONNECTION]
            .iter()
            .any(|name| properties.header(name).is_some())
        {
            return Err(Fault::TwoAddressees);
        }
        let mut subjects: Vec<String> = serde_json::from_str(text).map_err(|_| Fault::Subjects)?;
        let mut seen = HashSet::new();
        subjects.retain(|subject| seen.insert(subject.clone()));
        if subjects.is_empty() || subjects.len() > MOST_SUBJECTS {
            return Err(Fault::Subjects);
        }
        let outcomes = Outcomes {
            of_each: vec![None; subjects.len()],
            missing: subjects.len(),
        };
        let mut message = message.clone();
        message.properties.headers.retain(|(name, _)| name != SUBJECTS);
        // It is the same push for each of them.
        let id = &mut message.properties.message_id;
        if id.as_ref().is_none_or(String::is_empty) {
            *id = Some(format!("{:032x}", chance::bits()));
        }
        Ok(Some(Self {
            message,
            subjects: subjects.into_iter(),
            gathered: Arc::new(Gathered {
                producer,
                outcomes: Mutex::new(outcomes),
            }),
            taken: 0,
        }))
    }

    /// The same push for some of them.
    pub(in crate::outbound) fn for_some(&self, subjects: &[String]) -> Message {
        let mut message = self.message.clone();
        let text = serde_json::to_string(subjects).unwrap_or_default();
        message
            .properties
            .headers
            .push((SUBJECTS.to_owned(), Value::Text(text)));
        message
    }

    /// The same push for the next of them.
    pub(in crate::outbound) fn next(&mut self) -> Option<(Message, Place)> {
        let subject = self.subjects.next()?;
        let place = Place {
            gathered: self.gathered.clone(),
            place: self.taken,
            subject,
        };
        self.taken += 1;
        let mut message = self.message.clone();
        let header = (SUBJECT.to_owned(), Value::Text(place.subject.clone()));
        message.properties.headers.push(header);
        Some((message, place))
    }
}

impl Place {
    /// What becomes of it is known for this one. If that was the last, tells what became of all, and who wants to know.
    pub(in crate::outbound) fn settle(self, outcome: Outcome) -> Option<(Producer, Outcome)> {
        let subject = Some(self.subject);
        let mut outcomes = self.gathered.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let place = outcomes.of_each.get_mut(self.place)?;
        if place.replace(Of { subject, outcome }).is_none() {
            outcomes.missing -= 1;
        }
        if outcomes.missing > 0 {
            return None;
        }
        let producer = self.gathered.producer.clone()?;
        let outcomes = outcomes.of_each.drain(..).flatten().collect();
        Some((producer, Outcome::OfEach { outcomes }))
    }
}

/// Whether a push, for one or for many, would be accepted: for a sender who is told at once.
///
/// # Errors
/// What would be answered.
pub(crate) fn check(message: &Message, issuers: &[Issuer], now: Timestamp) -> Result<(), Fault> {
    let Some(mut many) = Many::of(message, None)? else {
        return Push::read(message, issuers, now).map(|_| ());
    };
    // It is the same for each of them, but for whom it is for.
    let first = many.next().ok_or(Fault::Subjects)?.0;
    Push::read(&first, issuers, now)?;
    match many.subjects.all(|subject| identity::is_subject(&subject)) {
        true => Ok(()),
        false => Err(Fault::Subject),
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::Properties;

    use super::*;

    fn asked(header: Value) -> Message {
        Message {
            properties: Properties {
                headers: vec![(SUBJECTS.to_owned(), header)],
                ..Properties::default()
            },
            ..Message::default()
        }
    }

    fn of(text: &str) -> Result<Option<Many>, Fault> {
        let producer = Producer {
            reply_to: "q".into(),
            correlation_id: None,
            key: 1,
            subject: None,
        };
        Many::of(&asked(Value::Text(text.to_owned())), Some(producer))
    }

    #[test]
    fn each_is_named_once_in_their_order_and_the_push_has_one_id_for_all() {
        let mut many = of(r#"["b","a","b",""]"#).unwrap().expect("it is for many");
        let (mut seen, mut ids, mut places) = (Vec::new(), HashSet::new(), Vec::new());
        while let Some((message, place)) = many.next() {
            let properties = message.properties;
            assert_eq!(properties.header(SUBJECTS), None);
            assert_eq!(properties.header(SUBJECT), Some(&Value::Text(place.subject.clone())));
            ids.insert(properties.message_id.expect("it has one"));
            seen.push(place.subject.clone());
            places.push(place);
        }
        assert_eq!(seen, ["b", "a", ""]);
        assert_eq!(ids.len(), 1);
        let last = places.remove(1);
        for place in places {
            assert!(place.settle(Outcome::Held).is_none(), "one is missing");
        }
        let (producer, told) = last.settle(Outcome::NoRecipient).expect("all are known");
        assert_eq!(producer.reply_to, "q");
        let Outcome::OfEach { outcomes } = told else {
            panic!("{told:?}");
        };
        let told: Vec<_> = outcomes
            .iter()
            .map(|of| (of.subject.as_deref().unwrap(), &of.outcome))
            .collect();
        let expected = [
            ("b", &Outcome::Held),
            ("a", &Outcome::NoRecipient),
            ("", &Outcome::Held),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_push_for_many_is_accepted_if_it_is_for_each_of_them() {
        let checked = |list: &str, body: &'static str| {
            let message = Message {
                body: body.into(),
                ..asked(Value::Text(list.to_owned()))
            };
            check(&message, &[Issuer::new("i")], Timestamp::from_secs(1))
        };
        assert_eq!(checked(r#"["a","b"]"#, "1"), Ok(()));
        for wrong in [r#"["a",""]"#, r#"["","a"]"#] {
            assert_eq!(checked(wrong, "1"), Err(Fault::Subject), "{wrong}");
        }
        assert!(matches!(checked(r#"["a","b"]"#, "{"), Err(Fault::Payload(_))));
    }

    #[test]
    fn none_too_many_and_what_is_no_list_of_texts_is_a_fault() {
        let list = |count: usize| serde_json::to_string(&(0..count).map(|one| one.to_string()).collect::<Vec<_>>());
        for wrong in [
            "[]",
            "",
            "alice",
            "[1]",
            "{}",
            r#"["a"] x"#,
            &list(MOST_SUBJECTS + 1).unwrap(),
        ] {
            assert_eq!(of(wrong).err(), Some(Fault::Subjects), "{wrong:.20}");
        }
        assert!(of(&list(MOST_SUBJECTS).unwrap()).unwrap().is_some());
        assert_eq!(Many::of(&asked(Value::Other), None).err(), Some(Fault::Subjects));
        assert!(Many::of(&Message::default(), None).unwrap().is_none());
        for other in [SUBJECT, CONNECTION] {
            let mut both = asked(Value::Text(r#"["a"]"#.into()));
            both.properties
                .headers
                .push((other.to_owned(), Value::Text("a".into())));
            assert_eq!(Many::of(&both, None).err(), Some(Fault::TwoAddressees));
        }
    }
}
