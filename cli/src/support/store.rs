//! Reaching the store to look into it, or saying why not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use shared::credentials::{Credentials, Register};
use shared::service::clock::SystemClock;
use shared::service::config::Value as _;
use worker::config::{StoreFiles, StoreUrl};
use worker::store::{self, Access, Store};

use super::{dev_key, human};
use crate::files::{self, FileArg};

/// A person waits longer than a message.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Which store, and what in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArgs {
    /// The store of the workers: `redis://…`, `rediss://…` or `redis-cluster://…`.
    #[arg(
        long,
        value_name = "URL",
        env = "COUNTERSIGN_STORE_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379",
        value_parser = store_url
    )]
    store_url: StoreUrl,
    /// A file with the name of the store's user; it replaces the user in --store-url.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_STORE_USERNAME_FILE", default_value = "off", value_parser = files::parse)]
    store_username_file: FileArg,
    /// A file with the password of the store's user, likewise: it stands in no list of processes.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_STORE_PASSWORD_FILE", default_value = "off", value_parser = files::parse)]
    store_password_file: FileArg,
    /// The CA certificates by which a rediss:// store is believed, instead of those of this machine.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_STORE_CA", default_value = "off", value_parser = files::parse)]
    store_ca: FileArg,
    /// The certificate that we show the store.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_STORE_CERT", default_value = "off", value_parser = files::parse)]
    store_cert: FileArg,
    /// Its private key.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_STORE_KEY", default_value = "off", value_parser = files::parse)]
    store_key: FileArg,
    /// The prefix of every key.
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = "countersign")]
    namespace: String,
    /// How long after its expiry a token still counts, as the workers have it.
    #[arg(long, value_name = "DURATION", env = "COUNTERSIGN_JWT_LEEWAY", default_value = "5s", value_parser = human::parse_duration)]
    pub(crate) jwt_leeway: Duration,
}

/// Whose subjects are meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct IssuerArgs {
    /// The issuer of the subject, exactly as in the claim `iss`; several are separated by commas.
    #[arg(long, env = "COUNTERSIGN_JWT_ISSUER", value_delimiter = ',', default_value = dev_key::ISSUER)]
    pub(crate) issuer: Vec<String>,
}

impl StoreArgs {
    /// Opens the store, and sees that it is there.
    ///
    /// # Errors
    /// If it is not, or cannot be looked into.
    pub(crate) async fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        if self.store_url.is_memory() {
            bail!("a store in memory can be seen by its own process alone; for that of `dev` there is its page");
        }
        let settings = store::Settings {
            url: self.store_url.expose(),
            namespace: self.namespace.clone(),
            timeout: TIMEOUT,
            leeway: self.jwt_leeway,
            // It revokes nothing.
            max_revocations: 0,
        };
        let files = StoreFiles {
            username: self.store_username_file.0.clone(),
            password: self.store_password_file.0.clone(),
            ca: self.store_ca.0.clone(),
            certificate: self.store_cert.0.clone(),
            key: self.store_key.0.clone(),
        };
        if let Some(conflict) = files.conflicts(&self.store_url).first() {
            bail!("--{} {}", conflict.setting, conflict.problem);
        }
        let access = Access::load(&self.store_url, &files, &mut Credentials::new(&Register::default()))?;
        let store = store::open_by(access, &settings, Arc::new(SystemClock)).context("--store-url")?;
        store
            .ping()
            .await
            .with_context(|| format!("cannot use the store at {}; check --store-url", self.store_url))?;
        Ok(store)
    }
}

fn store_url(text: &str) -> Result<StoreUrl, String> {
    StoreUrl::parse(text).map_err(|want| format!("want {want}"))
}
