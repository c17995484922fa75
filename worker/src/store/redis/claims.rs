//! Messages that are to have their effect once.

use std::time::Duration;

use redis::ScriptInvocation;

use super::{RedisStore, keep_ms, unreadable};
use crate::store::{Begun, Call, Claim, ClaimStore, MOST_ANSWER_BYTES, MOST_CLAIMS};

impl ClaimStore for RedisStore {
    fn begin<'a>(&'a self, claim: &'a Claim) -> Call<'a, Begun> {
        Box::pin(async move {
            let mut invocation = self.scripts.begin.prepare_invoke();
            self.prepare(&mut invocation, claim, claim.begins_for());
            invocation
                .arg(
                    claim
                        .run
                        .forwarded_id
                        .map(|forwarded_id| forwarded_id.to_string())
                        .unwrap_or_default(),
                )
                .arg(self.clock.now().saturating_add(claim.lease).as_millis())
                .arg(u8::from(claim.redelivered));
            let found: Vec<String> = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            let mut found = found.into_iter();
            match (found.next().as_deref(), found.next()) {
                (Some("first"), None) => Ok(Begun::First),
                (Some("running"), None) => Ok(Begun::Running { same: false }),
                (Some("same"), None) => Ok(Begun::Running { same: true }),
                (Some("conflict"), None) => Ok(Begun::Conflict),
                (Some("done"), answer) => Ok(Begun::Done(answer)),
                _ => Err(unreadable("the script answered in words it does not know")),
            }
        })
    }

    fn finish<'a>(&'a self, claim: &'a Claim, answer: Option<&'a str>) -> Call<'a, Option<String>> {
        Box::pin(async move {
            let mut invocation = self.scripts.finish.prepare_invoke();
            self.prepare(&mut invocation, claim, claim.window);
            invocation.arg(MOST_ANSWER_BYTES);
            if let Some(answer) = answer {
                invocation.arg(answer);
            }
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn abandon<'a>(&'a self, claim: &'a Claim) -> Call<'a, ()> {
        Box::pin(async move {
            let mut invocation = self.scripts.abandon.prepare_invoke();
            self.prepare(&mut invocation, claim, claim.window);
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }
}

impl RedisStore {
    /// What each of the scripts is told.
    fn prepare<'a>(&self, invocation: &mut ScriptInvocation<'a>, claim: &Claim, known_for: Duration) {
        for what in ["claims", "claims:ends", "claims:answers"] {
            invocation.key(self.of_identity(claim.key.identity, what));
        }
        let now = self.clock.now();
        let gone_at = now.saturating_add(known_for);
        invocation
            .arg(hex::encode(claim.key.id))
            .arg(hex::encode(claim.fingerprint))
            .arg(claim.run.number)
            .arg(now.as_millis())
            .arg(gone_at.as_millis())
            .arg(keep_ms(now, gone_at))
            .arg(MOST_CLAIMS);
    }
}
