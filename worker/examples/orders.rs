//! An application in Rust: a worker of its own, with all settings of `worker` but `handler`.
//!
//! ```sh
//! cargo run --example orders -- --jwt-keys hmac:secret.txt --jwt-issuer https://login.example.com --jwt-audience shop
//! ```
//!
//! It depends on this crate, which stands for everything from the queue to the token, and on serde.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use worker::{Answers, ErrorCode, Handler, HandlerError, Request};

/// What a client writes as its payload.
#[derive(Deserialize)]
struct Order {
    item: String,
    count: u32,
}

/// What it is answered.
#[derive(Clone, Serialize)]
struct Receipt {
    number: usize,
    item: String,
    count: u32,
}

/// What was ordered. A real application has a database for it.
#[derive(Default)]
struct Orders {
    /// By the messages' keys, so that one that comes again, because a worker has died, has its effect once.
    placed: Mutex<HashMap<String, Receipt>>,
}

impl Handler for Orders {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        match request.kind {
            "orders.create" => {
                // The client is told `bad_request` if it is none.
                let order: Order = request.payload_as()?;
                let subject = request.identity.subject.as_str();
                Answers::one(&self.place(subject, request.idempotency_key(), order)?)
            }
            // Harmless, and no one waits for an answer.
            "orders.typing" => Ok(Answers::none()),
            _ => Err(HandlerError::new(ErrorCode::BadRequest, "there are only orders here")),
        }
    }
}

impl Orders {
    fn place(&self, subject: &str, key: Option<String>, order: Order) -> Result<Receipt, HandlerError> {
        if order.count == 0 {
            return Err(HandlerError::new(ErrorCode::BadRequest, "an order is of one at least"));
        }
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let number = placed.len() + 1;
        let receipt = Receipt {
            number,
            item: order.item,
            count: order.count,
        };
        let key = key.unwrap_or_else(|| format!("{subject} {number}"));
        Ok(placed.entry(key).or_insert(receipt).clone())
    }
}

fn main() -> ExitCode {
    worker::app::program::run_with(std::env::args_os().skip(1), Orders::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tea(count: u32) -> Order {
        Order {
            item: "tea".to_owned(),
            count,
        }
    }

    #[test]
    fn an_order_that_comes_again_is_placed_once() {
        let orders = Orders::default();
        let place = |key: &str| {
            orders
                .place("alice", Some(key.to_owned()), tea(1))
                .map(|receipt| receipt.number)
        };
        assert_eq!((place("a"), place("b"), place("a")), (Ok(1), Ok(2), Ok(1)));
        assert!(orders.place("alice", None, tea(0)).is_err());
    }
}
