//! Who is on which connection, and who may take over what it leaves.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};

use super::{RedisStore, millis, unreadable};
use crate::auth::identity::{Identity, Issuer, Subject};
use crate::store::{
    AFTERLIFE, Authentication, AuthenticationStore, Call, PREDECESSORS_KEPT, Recorded, ResumeDigest, StoreError,
};

/// The state as it is stored, in JSON, beside the sequence: two texts are equal where what they say is.
#[derive(Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum Stored<'a> {
    Live {
        #[serde(borrow)]
        issuer: Cow<'a, str>,
        #[serde(borrow)]
        subject: Cow<'a, str>,
        until_ms: u64,
        #[serde(borrow)]
        resume: Cow<'a, str>,
    },
    Forgotten,
    Closed,
}

impl AuthenticationStore for RedisStore {
    fn record<'a>(&'a self, connection: ConnectionId, authentication: &'a Authentication) -> Call<'a, Recorded> {
        Box::pin(async move {
            let keep = authentication.kept_for(self.clock.now(), self.leeway);
            let state = serde_json::to_string(&Stored::from(authentication)).map_err(unreadable)?;
            let owner = match authentication {
                Authentication::Live { identity, resume, .. } => Some(owner(identity, resume)?),
                Authentication::Forgotten { .. } => Some(String::new()),
                Authentication::Closed { .. } => None,
            };
            let mut invocation = self.scripts.record.key(self.of_connection(connection, "auth"));
            invocation.arg(authentication.by().get()).arg(state).arg(millis(keep));
            if let Some(owner) = owner {
                invocation.arg(owner);
            }
            let outcome: String = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            match outcome.as_str() {
                "changed" => Ok(Recorded::Changed),
                "unchanged" => Ok(Recorded::Unchanged),
                "stale" => Ok(Recorded::Stale),
                _ => Err(unreadable("the script answered in words it does not know")),
            }
        })
    }

    fn authentication(&self, connection: ConnectionId) -> Call<'_, Option<Authentication>> {
        Box::pin(async move {
            let mut command = redis::cmd("HMGET");
            command
                .arg(self.of_connection(connection, "auth"))
                .arg("by")
                .arg("state");
            let present: (Option<u64>, Option<String>) =
                self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            let (Some(by), Some(state)) = present else {
                return Ok(None);
            };
            let stored: Stored<'_> = serde_json::from_str(&state).map_err(unreadable)?;
            stored.into_authentication(Sequence::new(by)).map(Some)
        })
    }

    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        successor: ConnectionId,
    ) -> Call<'a, bool> {
        Box::pin(async move {
            let taken = self.write_successor(connection, secret, identity, successor).await?;
            if taken {
                self.write_predecessor(successor, connection).await?;
            }
            Ok(taken)
        })
    }

    fn successor(&self, connection: ConnectionId) -> Call<'_, Option<ConnectionId>> {
        Box::pin(async move {
            let mut command = redis::cmd("HGET");
            command.arg(self.of_connection(connection, "auth")).arg("successor");
            let successor: Option<String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            successor
                .map(|successor| successor.parse().map_err(unreadable))
                .transpose()
        })
    }

    fn predecessors(&self, connection: ConnectionId) -> Call<'_, Vec<ConnectionId>> {
        Box::pin(async move {
            let mut command = redis::cmd("ZRANGE");
            command
                .arg(self.of_connection(connection, "predecessors"))
                .arg(&[0, -1]);
            let named: Vec<String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            named.iter().map(|one| one.parse().map_err(unreadable)).collect()
        })
    }
}

impl RedisStore {
    pub(super) async fn write_successor(
        &self,
        connection: ConnectionId,
        secret: &ResumeDigest,
        identity: &Identity,
        successor: ConnectionId,
    ) -> Result<bool, StoreError> {
        if successor == connection {
            return Ok(false);
        }
        let mut invocation = self.scripts.resume.key(self.of_connection(connection, "auth"));
        invocation
            .arg(owner(identity, secret)?)
            .arg(successor.to_string())
            .arg(millis(AFTERLIFE));
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    pub(super) async fn write_predecessor(
        &self,
        successor: ConnectionId,
        predecessor: ConnectionId,
    ) -> Result<(), StoreError> {
        let mut invocation = self.scripts.succeed.key(self.of_connection(successor, "predecessors"));
        invocation
            .arg(predecessor.to_string())
            .arg(self.clock.now().as_millis())
            .arg(millis(AFTERLIFE))
            .arg(PREDECESSORS_KEPT);
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }
}

/// Who it is, and what proves it: equal where both are.
fn owner(identity: &Identity, resume: &ResumeDigest) -> Result<String, StoreError> {
    let parts = (identity.issuer.as_str(), identity.subject.as_str(), hex::encode(resume));
    serde_json::to_string(&parts).map_err(unreadable)
}

fn from_hex(text: &str) -> Option<ResumeDigest> {
    let mut digest = ResumeDigest::default();
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

impl<'a> From<&'a Authentication> for Stored<'a> {
    fn from(authentication: &'a Authentication) -> Self {
        match authentication {
            Authentication::Live {
                identity,
                until,
                by: _,
                resume,
            } => Self::Live {
                issuer: identity.issuer.as_str().into(),
                subject: identity.subject.as_str().into(),
                until_ms: until.as_millis(),
                resume: hex::encode(resume).into(),
            },
            Authentication::Forgotten { by: _ } => Self::Forgotten,
            Authentication::Closed { by: _ } => Self::Closed,
        }
    }
}

impl Stored<'_> {
    fn into_authentication(self, by: Sequence) -> Result<Authentication, StoreError> {
        Ok(match self {
            Self::Live {
                issuer,
                subject,
                until_ms,
                resume,
            } => Authentication::Live {
                identity: Identity::new(Issuer::new(&*issuer), Subject::new(&*subject)),
                until: Timestamp::from_millis(until_ms),
                by,
                resume: from_hex(&resume).ok_or_else(|| unreadable("a digest of another length"))?,
            },
            Self::Forgotten => Authentication::Forgotten { by },
            Self::Closed => Authentication::Closed { by },
        })
    }
}
