//! What a terminator opens before anything else: the ways in, for clients and for operators.
//!
//! An address that is taken, or a certificate that cannot be used, is known before the broker is asked for anything, and is one
//! line of the log.

use shared::credentials::{Credential, Credentials, Register};
use shared::service::admin::{Admin, Console, Readiness};
use shared::service::config::Config;
use shared::service::telemetry;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::doors::Door;
use super::tls;
use crate::{StartError, TerminatorConfig};

/// Files that a terminator has open besides its sockets, at most: connections to the broker, standard streams, its log.
const OTHER_FILES: u64 = 64;

pub(crate) struct Entrance {
    pub(crate) tls: Option<Credential<TlsAcceptor>>,
    /// None if nobody is listened to.
    pub(crate) doors: Vec<Door>,
    pub(crate) admin: Admin,
    pub(crate) readiness: Readiness,
    pub(crate) console: Option<Console>,
    /// What is in files, and may change.
    pub(crate) credentials: Credentials,
}

impl Entrance {
    pub(crate) async fn open(config: &TerminatorConfig) -> Result<Self, StartError> {
        raise_file_limit(config.max_connections as u64);
        // Before anything is counted.
        telemetry::metrics()?;
        let mut credentials = Credentials::new(&Register::default());
        let tls = tls::load(config, &mut credentials)?;
        let mut doors = Vec::new();
        for address in &*config.listen {
            let opened = Door::open(address, &config.listen).await;
            doors.push(opened.map_err(|source| StartError::Listen {
                address: address.clone(),
                source,
            })?);
        }
        Self::with_admin(config, (tls, credentials), doors).await
    }

    pub(crate) async fn with_admin(
        config: &TerminatorConfig,
        (tls, credentials): (Option<Credential<TlsAcceptor>>, Credentials),
        doors: Vec<Door>,
    ) -> Result<Self, StartError> {
        let readiness = Readiness::new();
        let metrics = telemetry::metrics()?;
        telemetry::tell_version(TerminatorConfig::PROGRAM.name, TerminatorConfig::PROGRAM.version);
        let console = config
            .console
            .then(|| Console::new("terminator", metrics.clone(), readiness.clone()));
        let admin = Admin::bind(
            config.admin_listen,
            readiness.clone(),
            metrics,
            credentials.register(),
            console.clone(),
        )
        .await?;
        Ok(Self {
            tls,
            doors,
            admin,
            readiness,
            console,
            credentials,
        })
    }
}

/// Each connection is an open file, and most systems start a process with far fewer than it may have.
fn raise_file_limit(max_connections: u64) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(open_files) if open_files < max_connections.saturating_add(OTHER_FILES) => warn!(
            open_files,
            max_connections,
            "the limit of open files is lower than max-connections needs: raise that limit, or lower max-connections"
        ),
        Ok(open_files) => info!(open_files, "the limit of open files; each socket is one"),
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
}
