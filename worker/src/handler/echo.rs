//! The handler that needs no application: anyone who asks gets back what they sent.

use super::{Answers, Handler, HandlerError, Request};

/// Answers every message with its own payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        Ok(Answers::raw(request.payload.map(ToOwned::to_owned)))
    }
}
