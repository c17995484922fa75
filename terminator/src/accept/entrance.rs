//! What a terminator opens before anything else: the ways in, for clients and for operators.
//!
//! An address that is taken, or a certificate that cannot be used, is known before the broker is asked for anything, and is one
//! line of the log.

use shared::credentials::{Credential, Credentials, Register};
use shared::service::admin::{Admin, Console, Readiness};
use shared::service::config::Config;
use shared::service::telemetry;
use tokio_rustls::TlsAcceptor;

use super::doors::Door;
use super::open_files::OpenFiles;
use super::tls;
use crate::{StartError, TerminatorConfig};

pub(crate) struct Entrance {
    pub(crate) tls: Option<Credential<TlsAcceptor>>,
    /// None if there is no way in.
    pub(crate) doors: Vec<Door>,
    pub(crate) files: OpenFiles,
    pub(crate) admin: Admin,
    pub(crate) readiness: Readiness,
    pub(crate) console: Option<Console>,
    /// What is in files, and may change.
    pub(crate) credentials: Credentials,
}

impl Entrance {
    pub(crate) async fn open(config: &TerminatorConfig) -> Result<Self, StartError> {
        let files = OpenFiles::raised(config.max_connections);
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
        Self::with_admin(config, (tls, credentials), doors, files).await
    }

    pub(crate) async fn with_admin(
        config: &TerminatorConfig,
        (tls, credentials): (Option<Credential<TlsAcceptor>>, Credentials),
        doors: Vec<Door>,
        files: OpenFiles,
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
            &config.admin_allowed_hosts,
        )
        .await?;
        Ok(Self {
            tls,
            doors,
            files,
            admin,
            readiness,
            console,
            credentials,
        })
    }
}
