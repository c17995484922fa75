//! What a client says and hears about its authentication.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::client::{ANSWER_LIMIT, Client};

impl Client {
    /// Sends `auth.authenticate`, and returns the answer.
    pub async fn try_authenticate(&mut self, token: &str) -> Value {
        self.authenticating(token, None).await
    }

    /// Authenticates the connection, and returns the `auth` that it is told.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn authenticate(&mut self, token: &str) -> Value {
        let answer = self.try_authenticate(token).await;
        granted(&answer)
    }

    /// The same, and takes over what the connection with that key had held.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn resume(&mut self, token: &str, key: &str) -> Value {
        let answer = self.authenticating(token, Some(key)).await;
        granted(&answer)
    }

    async fn authenticating(&mut self, token: &str, resume: Option<&str>) -> Value {
        let id = format!("auth-{:08x}", rand::random::<u32>());
        let mut message = json!({"id": id, "type": "auth.authenticate", "token": token});
        if let Some(key) = resume {
            message["payload"] = json!({"resume": key});
        }
        self.send_json(&message).await;
        self.answer_to(&id, ANSWER_LIMIT).await
    }

    /// Logs out: sends `auth.logout`.
    ///
    /// # Panics
    /// If that is not granted.
    pub async fn forget(&mut self) {
        let id = format!("forget-{:08x}", rand::random::<u32>());
        self.send_json(&json!({"id": id, "type": "auth.logout"})).await;
        let answer = self.answer_to(&id, ANSWER_LIMIT).await;
        assert_eq!(answer["type"], "auth.ok", "{answer}");
        assert_eq!(answer.get("auth"), None, "nobody is authenticated any more: {answer}");
    }

    /// Waits to be asked for a fresh token for this `reason`, and returns the request: `{reason, deadline_ms, held}`.
    ///
    /// # Panics
    /// If the connection closes instead, or it does not come within `limit`.
    pub async fn expect_required(&mut self, reason: &str, limit: Duration) -> Value {
        let what = format!("auth.required for the reason {reason}");
        self.next_where(limit, &what, |message| {
            message["type"] == "auth.required" && message["reason"] == reason
        })
        .await
    }

    /// Waits for a push.
    ///
    /// # Panics
    /// If the connection closes instead, or none comes within `limit`.
    pub async fn push(&mut self, limit: Duration) -> Value {
        self.next_of_type("push", limit).await
    }

    /// The payloads of the next `count` pushes, in their order.
    ///
    /// # Panics
    /// If they do not come within 10 s each.
    pub async fn pushes(&mut self, count: usize) -> Vec<Value> {
        let mut payloads = Vec::with_capacity(count);
        for _ in 0..count {
            payloads.push(self.push(ANSWER_LIMIT).await["payload"].clone());
        }
        payloads
    }

    /// Asserts that nothing has come but what is about authentication itself, after all that is on its way has come.
    ///
    /// # Panics
    /// If something else has.
    pub async fn expect_nothing_shown(&mut self) {
        self.ping(ANSWER_LIMIT).await;
        let shown: Vec<_> = self
            .waiting()
            .filter(|message| !message["type"].as_str().is_some_and(|kind| kind.starts_with("auth.")))
            .collect();
        assert!(shown.is_empty(), "something came: {shown:?}");
    }
}

fn granted(answer: &Value) -> Value {
    assert_eq!(answer["type"], "auth.ok", "{answer}");
    answer["auth"].clone()
}

/// The connection that a `resume` key is of.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn connection_of(auth: &Value) -> String {
    let key = auth["resume"].as_str().expect("a key to resume by");
    let (connection, _) = key.rsplit_once('.').expect("a connection before the secret");
    connection.to_owned()
}
