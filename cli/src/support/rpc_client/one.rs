//! One question, for who has but one.

use shared::bus::Message;

use super::{NoReply, Request, Requests};

/// A question, and what came of it.
pub(crate) struct One {
    question: Option<Message>,
    /// What came of it: nothing until it is settled.
    pub(crate) reply: Option<Result<Message, NoReply>>,
}

impl One {
    /// That question.
    pub(crate) const fn new(question: Message) -> Self {
        Self {
            question: Some(question),
            reply: None,
        }
    }
}

impl Requests for One {
    async fn next(&mut self) -> Option<anyhow::Result<Message>> {
        self.question.take().map(Ok)
    }

    fn answered(&mut self, question: Option<Request>, answer: &Message) -> bool {
        let ours = question.is_some_and(|question| question.waits);
        if ours {
            self.reply = Some(Ok(answer.clone()));
        }
        ours
    }

    fn settled(&mut self, _: u64, why: NoReply) {
        self.reply = Some(Err(why));
    }
}
