//! A store whose calls are seen in the trace of anyone who makes them.
//!
//! It stands before the real one only where traces are exported, and passes on
//! whatever is not part of one.

use std::sync::Arc;

use shared::service::trace::{self, KeyValue, SpanKind, words};

use super::{Around, Call, Store};

/// Stands before a store.
pub struct Traced(pub Arc<dyn Store>);

impl Around for Traced {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    fn around<'a, T: Send + 'a>(&'a self, operation: &'static str, call: Call<'a, T>) -> Call<'a, T> {
        let span = trace::child("store", SpanKind::Client);
        if span.context().is_none() {
            return call;
        }
        span.describe(|| [KeyValue::new(words::STORE_OPERATION, operation)]);
        Box::pin(async move {
            let result = call.await;
            if result.is_err() {
                span.fail("store_failed");
            }
            result
        })
    }
}
