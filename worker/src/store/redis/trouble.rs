//! Why the store cannot be used, in words by which an operator finds out what to do. None has a password or a key in it.

use std::error::Error;
use std::sync::Arc;
use std::{fmt, io};

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why, and at which server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Host and port, or those of a cluster.
    at: String,
    why: String,
}

impl Trouble {
    pub(super) fn of(at: &str, error: &RedisError) -> Self {
        Self::new(at, why(error))
    }

    pub(super) fn new(at: &str, why: impl Into<String>) -> Self {
        let (at, why) = (at.to_owned(), why.into());
        Self { at, why }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.why)
    }
}

impl Error for Trouble {}

fn why(error: &RedisError) -> String {
    let known = match error.code() {
        Some("NOAUTH" | "WRONGPASS") => "refuses the user or the password of store-url",
        Some("NOPERM") => "does not let the user of store-url do that: docs/permissions.md has its rules",
        Some("OOM") => FULL,
        Some("MOVED" | "ASK" | "CROSSSLOT") => {
            "is a node of a cluster, for which store-url begins with redis-cluster://"
        }
        Some("CLUSTERDOWN") => "is a node of a cluster that is down, or not complete yet",
        Some("MASTERDOWN") => "is a replica that has lost its primary",
        Some("BUSY") => "is busy with a long script",
        Some("DENIED") => "is in protected mode: give it a password, or `protected-mode no`",
        Some("READONLY") => "is a replica, which takes no writes",
        Some("LOADING") => "is loading its data",
        Some("MISCONF") => "cannot write to its disk, and takes no writes",
        Some("NOREPLICAS") => "has too few replicas, and takes no writes",
        // Redis 6 has it within the error of a script.
        _ if error
            .detail()
            .is_some_and(|detail| detail.contains("OOM command not allowed")) =>
        {
            FULL
        }
        _ => match error.kind() {
            ErrorKind::AuthenticationFailed => "refuses the user or the password of store-url",
            ErrorKind::Server(ServerErrorKind::NoPerm) => {
                "does not let the user of store-url do that: docs/permissions.md has its rules"
            }
            ErrorKind::ClusterConnectionNotFound => {
                "is no cluster, or one with no node that can be reached; store-url for a single server begins with redis://"
            }
            ErrorKind::Parse => "speaks another protocol than that of Redis",
            _ if error.is_timeout() => "does not answer in time",
            _ if error.is_connection_refusal() => "refuses the connection",
            ErrorKind::Io if is_closed(error) => {
                "closes the connection: does it want TLS (rediss://), or has it as many clients as maxclients allows?"
            }
            ErrorKind::Io => return format!("cannot be reached: {error}"),
            _ => return format!("fails: {}", error.code().unwrap_or(error.category())),
        },
    };
    known.to_owned()
}

/// Whether the other side has closed the connection. The crate counts a refused one, and a missing file, as such, too.
fn is_closed(error: &RedisError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let kind = source
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    kind.is_some_and(|kind| matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

const FULL: &str = "is full: at its maxmemory it takes no writes";

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: impl Into<RedisError>) -> String {
        Trouble::of("redis:6379", &error.into()).to_string()
    }

    fn refused(code: &str, detail: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
    }

    #[test]
    fn each_cause_has_words_of_its_own_and_none_has_a_secret() {
        let causes = [
            told((
                ErrorKind::AuthenticationFailed,
                "Password authentication failed",
                "hunter2".to_owned(),
            )),
            told(refused("OOM", "command not allowed when used memory > 'maxmemory'.")),
            told(refused("READONLY", "You can't write against a read only replica.")),
            told(refused("MISCONF", "hunter2")),
            told(io::Error::from(io::ErrorKind::ConnectionRefused)),
            told(io::Error::from(io::ErrorKind::TimedOut)),
            told(io::Error::other("failed to lookup address information")),
            told((ErrorKind::Parse, "hunter2")),
            told(refused("ODD", "hunter2")),
            told(refused("MOVED", "1 hunter2:6379")),
            told(refused("CLUSTERDOWN", "hunter2")),
            told(refused("MASTERDOWN", "hunter2")),
            told(refused("BUSY", "hunter2")),
            told(refused("DENIED", "hunter2")),
            told((ErrorKind::ClusterConnectionNotFound, "hunter2")),
            told(io::Error::from(io::ErrorKind::ConnectionReset)),
        ];
        let different: std::collections::BTreeSet<_> = causes.iter().collect();
        assert_eq!(different.len(), causes.len(), "{causes:?}");
        for cause in &causes {
            assert!(
                cause.starts_with("redis:6379 ") && !cause.contains("hunter2"),
                "{cause}"
            );
        }
        assert!(causes[15].contains("closes the connection"), "{causes:?}");
        assert!(causes[1].contains("is full"), "{causes:?}");
        assert!(causes[6].contains("failed to lookup"), "{causes:?}");
        let of_a_script = refused(
            "ERR",
            "Error running script: @user_script:5: -OOM command not allowed when …",
        );
        assert!(told(of_a_script).contains("is full"));
    }
}
