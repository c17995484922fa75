//! One request, for who has but one.

use shared::bus::Message;

use super::{NoReply, Request, Requests};

/// A request, and what came of it.
pub(crate) struct One {
    request: Option<Message>,
    /// What came of it: nothing until it is settled.
    pub(crate) reply: Option<Result<Message, NoReply>>,
    /// What is done when the broker has it.
    taken: Option<Box<dyn FnOnce() + Send>>,
}

impl One {
    /// A source of that request alone.
    pub(crate) const fn new(request: Message) -> Self {
        Self {
            request: Some(request),
            reply: None,
            taken: None,
        }
    }

    /// The same; `taken` is called when the broker has it.
    pub(crate) fn when_taken(self, taken: impl FnOnce() + Send + 'static) -> Self {
        Self {
            taken: Some(Box::new(taken)),
            ..self
        }
    }
}

impl Requests for One {
    async fn next(&mut self) -> Option<anyhow::Result<Message>> {
        self.request.take().map(Ok)
    }

    fn answered(&mut self, request: Option<Request>, answer: &Message) -> bool {
        let ours = request.is_some_and(|request| request.waits);
        if ours {
            self.reply = Some(Ok(answer.clone()));
        }
        ours
    }

    fn taken(&mut self, _: u64) {
        if let Some(taken) = self.taken.take() {
            taken();
        }
    }

    fn settled(&mut self, _: u64, why: NoReply) {
        self.reply = Some(Err(why));
    }
}
