//! Where the broker is, who we are there, and whom we believe: what may change while we run, but for the first.
//!
//! A connection that is there stays. A new one is made as anyone who the files say now. The broker may have the new password before
//! us or after us, so when it refuses, anyone who it let in last is tried in turn.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};

use super::sieve::Mesh;
use super::transport;
use crate::credentials::{ClientTls, Credential, CredentialError, Credentials, Made, Place, Source, line_in};
use crate::service::config::{AmqpUrl, BrokerConfig, OneOrMore, Value as _};

/// How to reach a broker, with each of its nodes. Clones share what is known.
#[derive(Clone)]
pub struct Access {
    uris: Credential<Vec<AMQPUri>>,
    tls: Credential<ClientTls>,
    /// As whom we were let in last.
    proven: Arc<Mutex<Option<Arc<Vec<AMQPUri>>>>>,
}

impl Access {
    /// Of a program: by its settings, and the files that they name.
    ///
    /// # Errors
    /// What an operator has to fix.
    pub fn load(broker: &BrokerConfig, credentials: &mut Credentials) -> Result<Self, CredentialError> {
        let tls = ClientTls::load(broker.tls_files(), credentials)?;
        let file = broker.amqp_url.first().file();
        let (username, password) = (&broker.amqp_username_file, &broker.amqp_password_file);
        let in_config = file.map(|file| Place::in_config("amqp-url", file));
        let of_file =
            |setting, path: &Option<_>| path.clone().map(|path: std::path::PathBuf| Place::file(setting, path));
        let places: [Option<Place>; 3] = [
            in_config,
            of_file("amqp-username-file", username),
            of_file("amqp-password-file", password),
        ];
        let given = places.each_ref().map(Option::is_some);
        let urls = broker.amqp_url.clone();
        let uris = credentials.load(Source {
            places: places.into_iter().flatten().collect(),
            make: Box::new(move |contents| made_of(&urls, given, contents)),
        })?;
        Ok(Self::new(uris, tls))
    }

    /// By URLs alone, which no one changes.
    ///
    /// # Errors
    /// Which is none; it repeats no password.
    pub fn of_urls<T: AsRef<str>>(urls: &[T]) -> Result<Self, String> {
        let urls = urls.iter().map(|url| AmqpUrl::parse(url.as_ref()));
        let urls: Vec<_> = urls.collect::<Result<_, _>>().map_err(|want| format!("want {want}"))?;
        Ok(Self::of(&urls))
    }

    /// By URLs alone, which no one changes.
    pub fn of(urls: &[AmqpUrl]) -> Self {
        let uris = urls.iter().map(|url| url.uri().clone()).collect();
        Self::new(Credential::fixed(uris), Credential::fixed(ClientTls::default()))
    }

    /// A connection to the first node that takes one, for anyone who needs no more than that.
    ///
    /// # Errors
    /// Why the first one takes none.
    pub async fn connect(&self, name: &str) -> Result<Connection, String> {
        let attempt = self.attempt(0);
        let mut refused = None;
        for uri in &*attempt.uris {
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            match transport::connect(uri.clone(), attempt.tls(uri), properties, Mesh::ALL).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let host = host_of(uri);
                    refused.get_or_insert_with(|| format!("{host}: {error}"));
                }
            }
        }
        Err(refused.unwrap_or_else(|| "no node was named".to_owned()))
    }

    fn new(uris: Credential<Vec<AMQPUri>>, tls: Credential<ClientTls>) -> Self {
        Self {
            uris,
            tls,
            proven: Arc::default(),
        }
    }

    /// How many nodes were named.
    pub(super) fn nodes(&self) -> usize {
        self.uris.current().len()
    }

    /// A node's host and port, for people: its URL may hold a password.
    pub(super) fn at(&self, node: usize) -> String {
        let uris = self.uris.current();
        uris.get(node).map_or_else(
            || "a node that is not named".to_owned(),
            |uri| format!("{}:{}", host_of(uri), uri.authority.port),
        )
    }

    /// As whom to try: as the files say, or else, every other time, as we were let in last.
    pub(super) fn attempt(&self, refusals: u32) -> Attempt {
        let newest = self.uris.current();
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let uris = match proven {
            Some(proven) if refusals % 2 == 1 => proven,
            _ => newest,
        };
        Attempt {
            uris,
            tls: self.tls.current(),
        }
    }

    /// The broker let us in.
    pub(super) fn succeeded(&self, attempt: &Attempt) {
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt.uris.clone());
    }
}

/// The host as it stands in a URL.
fn host_of(uri: &AMQPUri) -> String {
    let host = &uri.authority.host;
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.clone(),
    }
}

/// One attempt to connect.
pub(super) struct Attempt {
    uris: Arc<Vec<AMQPUri>>,
    tls: Arc<ClientTls>,
}

impl Attempt {
    /// A node's address, if there is such a node.
    pub(super) fn uri(&self, node: usize) -> Option<AMQPUri> {
        self.uris.get(node).cloned()
    }

    /// Whether, and how, that node is spoken to in TLS.
    pub(super) fn tls(&self, uri: &AMQPUri) -> Option<&ClientTls> {
        (uri.scheme == AMQPScheme::AMQPS).then_some(&*self.tls)
    }
}

/// The addresses, from the text of the setting, the user's name and the password, as far as they are given.
fn made_of(
    known: &OneOrMore<AmqpUrl>,
    [in_config, username, password]: [bool; 3],
    contents: &[Bytes],
) -> Result<Made<Vec<AMQPUri>>, String> {
    let mut contents = contents.iter();
    let mut next = |given: bool| given.then(|| contents.next().map_or(&[][..], |content| content));
    let (text, username, password) = (next(in_config), next(username), next(password));
    let mut kinds = Vec::new();
    let urls = match text {
        Some(text) => {
            kinds.push(("user and password", None));
            let text = str::from_utf8(text).unwrap_or_default();
            let urls = OneOrMore::<AmqpUrl>::parse(text.trim()).map_err(|want| format!("want {want}"))?;
            if !are_of_the_same_nodes(known, &urls) {
                return Err("names other addresses than at the start, which takes a restart".to_owned());
            }
            urls
        }
        None => known.clone(),
    };
    let mut uris: Vec<AMQPUri> = urls.iter().map(|url| url.uri().clone()).collect();
    if let Some(username) = username {
        kinds.push(("user", None));
        let username = line_in(username).map_err(|why| format!("the user's name {why}"))?;
        uris.iter_mut()
            .for_each(|uri| uri.authority.userinfo.username.clone_from(&username));
    }
    if let Some(password) = password {
        kinds.push(("password", None));
        let password = line_in(password).map_err(|why| format!("the password {why}"))?;
        uris.iter_mut()
            .for_each(|uri| uri.authority.userinfo.password.clone_from(&password));
    }
    Ok(Made {
        value: uris,
        kinds,
        doubt: None,
    })
}

/// Whether nothing differs but who we are there.
fn are_of_the_same_nodes(known: &[AmqpUrl], new: &[AmqpUrl]) -> bool {
    let anonymous = |url: &AmqpUrl| {
        let mut uri = url.uri().clone();
        uri.authority.userinfo.username.clear();
        uri.authority.userinfo.password.clear();
        uri
    };
    known.iter().map(anonymous).eq(new.iter().map(anonymous))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> OneOrMore<AmqpUrl> {
        OneOrMore::parse("amqps://u:p@a:5671/v,amqps://u:p@b:5671/v").unwrap()
    }

    fn users(made: &Made<Vec<AMQPUri>>) -> Vec<(&str, &str)> {
        let infos = made.value.iter().map(|uri| &uri.authority.userinfo);
        infos
            .map(|info| (info.username.as_str(), info.password.as_str()))
            .collect()
    }

    #[test]
    fn a_node_is_named_without_its_password() {
        let access = Access::of_urls(&["amqp://u:hunter2@a.example:5673/%2f", "amqps://b"]).unwrap();
        let names = [0, 1, 2].map(|node| access.at(node));
        assert_eq!(names, ["a.example:5673", "b:5671", "a node that is not named"]);
    }

    #[test]
    fn files_go_before_the_url_and_take_passwords_as_they_are() {
        let contents = [Bytes::from("new"), Bytes::from("p/a@s:s#w%rd\n")];
        let made = made_of(&known(), [false, true, true], &contents).unwrap();
        assert_eq!(users(&made), [("new", "p/a@s:s#w%rd"); 2]);
        let made = made_of(&known(), [false, false, true], &contents[1..]).unwrap();
        assert_eq!(users(&made), [("u", "p/a@s:s#w%rd"); 2]);
        assert_eq!(users(&made_of(&known(), [false; 3], &[]).unwrap()), [("u", "p"); 2]);
    }

    #[test]
    fn of_a_configuration_file_user_and_password_may_change_and_nothing_else() {
        let read = |text: &'static str| made_of(&known(), [true, false, false], &[Bytes::from(text)]);
        let made = read("amqps://n:q%2F@a:5671/v,amqps://n:q@b:5671/v").unwrap();
        assert_eq!(users(&made), [("n", "q/"), ("n", "q")]);
        for other in [
            "amqps://n:q@a:5671/v",
            "amqps://n:q@a:5671/v,amqps://n:q@c:5671/v",
            "amqps://n:q@a:5671/v,amqps://n:q@b:5671/w",
            "amqp://n:q@a:5671/v,amqps://n:q@b:5671/v",
            "",
            "nonsense",
        ] {
            assert!(read(other).is_err(), "{other}");
        }
    }

    #[test]
    fn whoever_was_let_in_last_is_tried_in_turn_with_whoever_the_files_name() {
        let access = Access::of_urls(&["amqp://new:1@a/v"]).unwrap();
        let user = |refusals| access.attempt(refusals).uri(0).unwrap().authority.userinfo.username;
        assert_eq!([0, 1, 2].map(user), ["new", "new", "new"]);
        let old = Attempt {
            uris: Arc::new(vec!["amqp://old:0@a/v".parse().unwrap()]),
            tls: Arc::default(),
        };
        access.succeeded(&old);
        assert_eq!([0, 1, 2, 3].map(user), ["new", "old", "new", "old"]);
        assert_eq!(access.attempt(0).uri(1), None);
    }
}
