//! Where the store is.

use std::fmt;
use std::path::{Path, PathBuf};

use redis::IntoConnectionInfo;
use shared::service::config::{Origin, Shown, Value, redacted};

/// The address of the store. `Debug` and `Display` show `***` for a password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    form: StoreForm,
    file: Option<PathBuf>,
}

/// What the store is. It may hold a password, hence no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreForm {
    /// This process's own memory.
    Memory,
    /// One Redis server: a URL of scheme `redis` or `rediss` that the client library understands.
    Redis(String),
    /// A Redis cluster: such a URL for each node it is to be asked of first, all with the same user and password.
    Cluster(Vec<String>),
}

const MEMORY: &str = "memory:";
/// The beginnings of a cluster's URL, and of each of its nodes'.
const CLUSTER: (&str, &str) = ("redis-cluster://", "redis://");
const CLUSTER_BY_TLS: (&str, &str) = ("rediss-cluster://", "rediss://");

impl Value for StoreUrl {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let wanted = "`memory:` or a URL such as `redis://user:password@host:6379`, `rediss://…` for TLS or \
                      `redis-cluster://host:6379,host:6379` for a cluster (`rediss-cluster://…` for one by TLS)";
        let of_cluster = [CLUSTER, CLUSTER_BY_TLS]
            .into_iter()
            .find_map(|(scheme, each)| Some(seeds(each, text.strip_prefix(scheme)?)));
        let form = match of_cluster {
            _ if text == MEMORY => StoreForm::Memory,
            Some(nodes) => StoreForm::Cluster(nodes),
            None if text.starts_with("redis://") || text.starts_with("rediss://") => StoreForm::Redis(text.to_owned()),
            None => return Err(wanted.to_owned()),
        };
        // The library's complaint may repeat the URL, so it is not passed on.
        let understood = |url: &String| url.as_str().into_connection_info().is_ok();
        let all_understood = match &form {
            StoreForm::Memory => true,
            StoreForm::Redis(url) => understood(url),
            StoreForm::Cluster(urls) => urls.iter().all(understood),
        };
        if all_understood {
            Ok(Self { form, file: None })
        } else {
            Err(wanted.to_owned())
        }
    }

    fn show(&self) -> Shown {
        self.to_string().into()
    }

    fn came_from(&mut self, origin: &Origin) {
        self.file = origin.file().map(Path::to_owned);
    }
}

impl StoreUrl {
    /// What it says, password and all: for anyone who connects.
    pub const fn form(&self) -> &StoreForm {
        &self.form
    }

    /// Whether the store is this process's own memory.
    pub const fn is_memory(&self) -> bool {
        matches!(self.form, StoreForm::Memory)
    }

    /// Whether it is reached by TLS.
    pub fn has_tls(&self) -> bool {
        let is_secure = |url: &String| url.starts_with(CLUSTER_BY_TLS.1);
        match &self.form {
            StoreForm::Memory => false,
            StoreForm::Redis(url) => is_secure(url),
            StoreForm::Cluster(urls) => urls.iter().any(is_secure),
        }
    }

    /// One URL of these nodes', the first with its user, the others without: as it was written.
    fn of_cluster(&self, urls: &[String]) -> String {
        let (scheme, each) = if self.has_tls() { CLUSTER_BY_TLS } else { CLUSTER };
        let nodes = urls.iter().enumerate().map(|(place, url)| {
            let node = url.strip_prefix(each).unwrap_or(url);
            match place {
                0 => node,
                _ => node.rsplit('@').next().unwrap_or(node),
            }
        });
        format!("{scheme}{}", nodes.collect::<Vec<_>>().join(","))
    }

    /// The configuration file that it was read from, if that is so.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The URL as it was written, password and all: for anyone who connects.
    pub fn expose(&self) -> String {
        match &self.form {
            StoreForm::Memory => MEMORY.to_owned(),
            StoreForm::Redis(url) => url.clone(),
            StoreForm::Cluster(urls) => self.of_cluster(urls),
        }
    }
}

/// The URL of each node in `user:password@host:port,host:port`.
fn seeds(scheme: &str, nodes: &str) -> Vec<String> {
    let (user, hosts) = nodes
        .rsplit_once('@')
        .map_or(("", nodes), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    hosts
        .split(',')
        .map(|host| format!("{scheme}{user}{at}{}", host.trim()))
        .collect()
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            StoreForm::Memory => f.write_str(MEMORY),
            StoreForm::Redis(url) => f.write_str(&redacted(url)),
            StoreForm::Cluster(urls) => {
                let redacted: Vec<String> = urls.iter().map(|url| redacted(url)).collect();
                f.write_str(&self.of_cluster(&redacted))
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_connects_gets_the_url_as_it_was_written() {
        for url in [
            "memory:",
            "redis://u:p@h/1",
            "redis-cluster://a:1,b:2",
            "redis-cluster://u:p@a:1,b:2",
            "rediss-cluster://u:p@a:1,b:2",
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap().expose(), url);
        }
    }

    #[test]
    fn a_store_is_memory_or_redis_in_one_of_its_forms() {
        assert!(StoreUrl::parse("memory:").unwrap().is_memory());
        for url in ["redis://127.0.0.1:6379", "rediss://u:p@h/1"] {
            let form = StoreUrl::parse(url).unwrap().form;
            assert!(form == StoreForm::Redis(url.to_owned()), "{url}");
        }
        for wrong in [
            "",
            "memory",
            "memory://",
            "http://h",
            "redis://",
            "redis://h:port",
            "redis-cluster://",
            "unix:///s",
        ] {
            assert!(StoreUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_node_of_a_cluster_is_asked_as_the_same_user() {
        let nodes = ["redis://u:p@a:7000".to_owned(), "redis://u:p@b:7001".to_owned()];
        let url = StoreUrl::parse("redis-cluster://u:p@a:7000,b:7001").unwrap();
        assert!(url.form == StoreForm::Cluster(nodes.to_vec()));
        assert_eq!(url.to_string(), "redis-cluster://u:***@a:7000,b:7001");
        let one = StoreUrl::parse("redis-cluster://a:7000").unwrap();
        assert!(one.form == StoreForm::Cluster(vec!["redis://a:7000".to_owned()]));
        let nodes = nodes.map(|node| node.replace("redis", "rediss"));
        let by_tls = StoreUrl::parse("rediss-cluster://u:p@a:7000,b:7001").unwrap();
        assert!(by_tls.form == StoreForm::Cluster(nodes.to_vec()) && by_tls.has_tls());
        assert_eq!(by_tls.to_string(), "rediss-cluster://u:***@a:7000,b:7001");
        assert!(!url.has_tls() && StoreUrl::parse("rediss://a").unwrap().has_tls());
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "redis://u:hunter2@h",
            "rediss://:hunter2@h/1",
            "redis-cluster://:hunter2@a,b",
            "rediss-cluster://:hunter2@a,b",
        ] {
            let url = StoreUrl::parse(url).unwrap();
            assert!(!format!("{url} {url:?} {}", url.show()).contains("hunter2"));
        }
    }
}
