//! Where the store is, who we are there, and whom we believe: what may change while a worker runs, but for the first.

use std::path::PathBuf;
use std::slice;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult,
    TlsCertificates,
};
use shared::credentials::{ClientTls, Credential, CredentialError, Credentials, Made, Place, Source, line_in};
use shared::service::config::Value as _;

use super::link::wire::Wire;
use crate::config::{StoreFiles, StoreForm, StoreUrl};
use crate::store::StoreError;

/// The longest that one attempt to connect may take, TLS handshake and AUTH included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Attempts at one reconnection, 100 to 250 ms apart: about a second. When they
/// are used up, the next command fails at once and starts the next reconnection.
const CONNECT_ATTEMPTS: usize = 6;
const CONNECT_DELAY_LEAST: Duration = Duration::from_millis(100);
const CONNECT_DELAY_MOST: Duration = Duration::from_millis(250);

/// How often a cluster's command may follow a moved slot before it fails.
const CLUSTER_RETRIES: u32 = 3;

/// Commands on their way at once; those beyond wait their turn, within their timeout.
const COMMANDS_IN_FLIGHT: usize = 1_024;

/// How long what was sent may stay without TCP's acknowledgement. A peer that
/// vanished without a word would otherwise hold the connection for many minutes.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MOST: Duration = Duration::from_secs(5);

/// How to reach Redis.
#[derive(Clone)]
pub struct Access {
    pub(super) reach: Credential<Reach>,
    pub(super) tls: Credential<ClientTls>,
}

impl Access {
    /// By the settings, and the files that they name.
    ///
    /// # Errors
    /// What an operator has to fix.
    pub fn load(url: &StoreUrl, files: &StoreFiles, credentials: &mut Credentials) -> Result<Self, CredentialError> {
        let tls = ClientTls::load(files.tls(), credentials)?;
        let of_file = |setting, path: &Option<PathBuf>| path.clone().map(|path| Place::file(setting, path));
        let places = [
            url.file().map(|file| Place::in_config("store-url", file)),
            of_file("store-username-file", &files.username),
            of_file("store-password-file", &files.password),
        ];
        let given = places.each_ref().map(Option::is_some);
        let known = url.clone();
        let reach = credentials.load(Source {
            places: places.into_iter().flatten().collect(),
            make: Box::new(move |contents| Reach::made_of(&known, given, contents)),
        })?;
        Ok(Self { reach, tls })
    }

    /// By a URL alone, which no one changes.
    ///
    /// # Errors
    /// That it is none.
    pub(super) fn of_url(url: &str) -> Result<Self, StoreError> {
        let parsed = StoreUrl::parse(url).map_err(|_| bad(url))?;
        let reach = Reach::of(&parsed).map_err(|()| bad(url))?;
        Ok(Self {
            reach: Credential::fixed(reach),
            tls: Credential::fixed(ClientTls::default()),
        })
    }
}

/// The parser's own words may quote the URL, and the password in it.
fn bad(url: &str) -> StoreError {
    let known = ["redis://", "rediss://", "redis-cluster://", "rediss-cluster://"];
    StoreError::BadUrl(if known.iter().any(|scheme| url.starts_with(scheme)) {
        "not a well-formed Redis URL"
    } else {
        "must be memory:, redis://…, rediss://…, redis-cluster://… or rediss-cluster://…"
    })
}

/// Addresses, and who we are there.
#[derive(Clone)]
pub(super) struct Reach {
    /// One, or some nodes of a cluster.
    infos: Vec<ConnectionInfo>,
    is_cluster: bool,
}

impl Reach {
    fn of(url: &StoreUrl) -> Result<Self, ()> {
        let (urls, is_cluster) = match url.form() {
            StoreForm::Memory => return Err(()),
            StoreForm::Redis(url) => (slice::from_ref(url), false),
            StoreForm::Cluster(urls) => (urls.as_slice(), true),
        };
        let infos = urls.iter().map(|url| {
            let info = url.as_str().into_connection_info().map_err(|_| ())?;
            Ok(info.set_tcp_settings(tcp()))
        });
        let infos = infos.collect::<Result<_, ()>>()?;
        Ok(Self { infos, is_cluster })
    }

    /// From the text of the setting, the user's name and the password, as far as they are given.
    fn made_of(
        known: &StoreUrl,
        [in_config, username, password]: [bool; 3],
        contents: &[Bytes],
    ) -> Result<Made<Self>, String> {
        let mut contents = contents.iter();
        let mut next = |given: bool| given.then(|| contents.next().map_or(&[][..], |content| content));
        let (text, username, password) = (next(in_config), next(username), next(password));
        let mut kinds = Vec::new();
        let no_url = |()| "names no store to connect to".to_owned();
        let of_known = Self::of(known).map_err(no_url)?;
        let mut reach = of_known.clone();
        if let Some(text) = text {
            kinds.push(("user and password", None));
            let text = str::from_utf8(text).unwrap_or_default();
            let url = StoreUrl::parse(text.trim()).map_err(|want| format!("want {want}"))?;
            reach = Self::of(&url).map_err(no_url)?;
            if !reach.is_at_the_same_place_as(&of_known) {
                return Err("names another address than at the start, which takes a restart".to_owned());
            }
        }
        if let Some(username) = username {
            kinds.push(("user", None));
            let username = line_in(username).map_err(|why| format!("the user's name {why}"))?;
            reach.change(|settings| settings.set_username(&username));
        }
        if let Some(password) = password {
            kinds.push(("password", None));
            let password = line_in(password).map_err(|why| format!("the password {why}"))?;
            reach.change(|settings| settings.set_password(&password));
        }
        Ok(Made {
            value: reach,
            kinds,
            doubt: None,
        })
    }

    fn change(&mut self, change: impl Fn(redis::RedisConnectionInfo) -> redis::RedisConnectionInfo) {
        for info in &mut self.infos {
            let settings = change(info.redis_settings().clone());
            *info = info.clone().set_redis_settings(settings);
        }
    }

    fn is_at_the_same_place_as(&self, other: &Self) -> bool {
        let place = |info: &ConnectionInfo| (info.addr().to_string(), info.redis_settings().db());
        let secure = |info: &ConnectionInfo| matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. });
        let places = |reach: &Self| -> Vec<_> {
            let places = reach.infos.iter().map(|info| (place(info), secure(info)));
            places.collect()
        };
        self.is_cluster == other.is_cluster && places(self) == places(other)
    }

    pub(super) const fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Host and port, or those of the cluster's nodes, and whether they are to speak TLS.
    pub(super) fn at(&self) -> String {
        let shown = |info: &ConnectionInfo| match info.addr() {
            secure @ redis::ConnectionAddr::TcpTls { .. } => format!("{secure} (TLS)"),
            plain => plain.to_string(),
        };
        let nodes: Vec<_> = self.infos.iter().map(shown).collect();
        nodes.join(",")
    }

    /// A connection that is made when it is first used.
    pub(super) fn open(&self, tls: &ClientTls, timeout: Duration) -> RedisResult<Wire> {
        if self.is_cluster {
            let config = ClusterConfig::new()
                .set_connection_timeout(CONNECT_TIMEOUT)
                .set_response_timeout(timeout);
            let connection = self
                .cluster(tls, timeout)?
                .get_pending_async_connection_with_config(config);
            return Ok(Wire::Cluster(connection));
        }
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(timeout))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(CONNECT_ATTEMPTS)
            .set_min_delay(CONNECT_DELAY_LEAST)
            .set_max_delay(CONNECT_DELAY_MOST)
            .set_pipeline_buffer_size(COMMANDS_IN_FLIGHT)
            .set_concurrency_limit(COMMANDS_IN_FLIGHT);
        ConnectionManager::new_lazy_with_config(self.client(tls)?, config).map(Wire::Single)
    }

    /// Connects, to see whether that can be done, and lets go.
    pub(super) async fn probe(&self, tls: &ClientTls) -> Result<(), RedisError> {
        let trying = async {
            if self.is_cluster {
                return self
                    .cluster(tls, CONNECT_TIMEOUT)?
                    .get_async_connection()
                    .await
                    .map(drop);
            }
            connect(self.client(tls)?).await
        };
        in_time(trying).await
    }

    /// Why no node that is named lets us in, by itself; none if one does.
    pub(super) async fn refusal(&self, tls: &ClientTls) -> Option<RedisError> {
        let attempts = self
            .infos
            .iter()
            .map(|info| in_time(async { connect(client(info.clone(), tls)?).await }));
        let outcomes = join_all(attempts).await;
        if outcomes.iter().any(Result::is_ok) {
            return None;
        }
        outcomes.into_iter().find_map(Result::err)
    }

    fn client(&self, tls: &ClientTls) -> RedisResult<Client> {
        let nowhere = || RedisError::from((redis::ErrorKind::InvalidClientConfig, "no address"));
        client(self.infos.first().cloned().ok_or_else(nowhere)?, tls)
    }

    /// All nodes are reached as the first one is: by TLS, or not.
    fn cluster(&self, tls: &ClientTls, timeout: Duration) -> RedisResult<ClusterClient> {
        let builder = ClusterClient::builder(self.infos.clone())
            .tcp_settings(tcp())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(timeout)
            .retries(CLUSTER_RETRIES)
            .connection_concurrency_limit(COMMANDS_IN_FLIGHT);
        match certificates(tls) {
            Some(certificates) => builder.certs(certificates).build(),
            None => builder.build(),
        }
    }
}

fn client(info: ConnectionInfo, tls: &ClientTls) -> RedisResult<Client> {
    match certificates(tls) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

/// Connects to one server, and lets go.
async fn connect(client: Client) -> Result<(), RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map(drop)
}

/// An attempt, which takes no longer than the two steps of it may.
async fn in_time(trying: impl Future<Output = Result<(), RedisError>>) -> Result<(), RedisError> {
    match tokio::time::timeout(2 * CONNECT_TIMEOUT, trying).await {
        Ok(outcome) => outcome,
        Err(_) => Err((redis::ErrorKind::Io, "no answer in time").into()),
    }
}

/// What files say of TLS, if any do.
fn certificates(tls: &ClientTls) -> Option<TlsCertificates> {
    let is_given = tls.ca.is_some() || tls.identity.is_some();
    is_given.then(|| TlsCertificates {
        client_tls: tls.identity.as_ref().map(|[certificate, key]| ClientTlsConfig {
            client_cert: certificate.to_vec(),
            client_key: key.to_vec(),
        }),
        root_cert: tls.ca.as_ref().map(|ca| ca.to_vec()),
    })
}

fn tcp() -> TcpSettings {
    // Commands are small and waited for: Nagle's algorithm would hold each back for the last one's acknowledgement.
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_MOST);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    type User = (Option<String>, Option<String>);

    fn made_of(given: [bool; 3], contents: &[&'static str]) -> Result<Vec<User>, String> {
        let known = StoreUrl::parse("redis://u:p@a:6379/1").unwrap();
        let contents: Vec<_> = contents.iter().copied().map(Bytes::from).collect();
        let made = Reach::made_of(&known, given, &contents)?;
        let settings = made.value.infos.iter().map(|info| info.redis_settings().clone());
        Ok(settings
            .map(|it| (it.username().map(str::to_owned), it.password().map(str::to_owned)))
            .collect())
    }

    fn user(name: &str, password: &str) -> Vec<User> {
        vec![(Some(name.to_owned()), Some(password.to_owned()))]
    }

    #[test]
    fn files_go_before_the_url_and_take_passwords_as_they_are() {
        assert_eq!(made_of([false; 3], &[]), Ok(user("u", "p")));
        assert_eq!(
            made_of([false, true, true], &["n\n", "p/a@s:s#w%rd\n"]),
            Ok(user("n", "p/a@s:s#w%rd"))
        );
        assert_eq!(made_of([false, false, true], &["q"]), Ok(user("u", "q")));
        assert!(made_of([false, false, true], &[""]).is_err());
    }

    #[test]
    fn of_a_configuration_file_user_and_password_may_change_and_nothing_else() {
        let read = |text| made_of([true, false, false], &[text]);
        assert_eq!(read("redis://n:q%2F@a:6379/1"), Ok(user("n", "q/")));
        for other in [
            "redis://n:q@b:6379/1",
            "redis://n:q@a:6380/1",
            "redis://n:q@a:6379/2",
            "rediss://n:q@a:6379/1",
            "redis-cluster://n:q@a:6379",
            "rediss-cluster://n:q@a:6379",
            "memory:",
            "",
        ] {
            assert!(read(other).is_err(), "{other}");
        }
    }
}
