//! Files that are looked at while a program runs.
//!
//! They are looked at, not subscribed to: that works on every file system, and through links. A change counts when two looks in
//! a row see the same, because a file that is just being written may be half of one. What belongs together (a certificate and
//! its key) is looked at together, and taken or refused as one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::{info, warn};

use super::file::{self, FileFault, shown};
use super::register::{Entry, Register};
use crate::service::clock::{Clock, SystemClock, Timestamp};
use crate::service::config;
use crate::service::reload::reloads;
use crate::service::repetition::Repetitions;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);

/// After so many looks that each saw something else, that itself is a fault.
pub const MOST_UNSTEADY: u32 = 5;

/// What is in force of a credential. Clones follow the same.
pub struct Credential<T>(watch::Receiver<Arc<T>>);

impl<T> Clone for Credential<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Credential<T> {
    /// One that no one replaces.
    pub fn fixed(value: T) -> Self {
        Self(watch::channel(Arc::new(value)).1)
    }

    /// What is in force now.
    pub fn current(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    /// Waits until there is something that was not seen here yet, and sees it; for ever, if no one replaces it.
    pub async fn changed(&mut self) -> Arc<T> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }
}

/// Where a part of a credential is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The setting that says so.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Whether that is a configuration file, in which the setting's own text is the content.
    pub in_config: bool,
}

impl Place {
    /// A file that a setting names.
    pub fn file(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self {
            setting,
            path: path.into(),
            in_config: false,
        }
    }

    /// A setting's text in a configuration file.
    pub fn in_config(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self {
            in_config: true,
            ..Self::file(setting, path)
        }
    }

    fn read(&self) -> Result<Bytes, FileFault> {
        let content = file::read(&self.path)?;
        if !self.in_config {
            return Ok(content);
        }
        let text = config::text_in(&content, self.setting);
        text.map(Bytes::from).map_err(FileFault::Content)
    }

    /// The setting and the file, as they are told.
    fn told(&self) -> String {
        format!("{} {}", self.setting, shown(&self.path))
    }
}

/// What was made of the content of files.
pub struct Made<T> {
    /// What is in force from now on.
    pub value: T,
    /// Of each file, what it is, and until when it is good.
    pub kinds: Vec<(&'static str, Option<Timestamp>)>,
    /// What is doubtful about it, and yet in force.
    pub doubt: Option<String>,
}

type Make<T> = Box<dyn Fn(&[Bytes]) -> Result<Made<T>, String> + Send + Sync>;

/// A credential: its files, and what is made of them together. Without files it is made of nothing, once.
pub struct Source<T> {
    /// In the order in which `make` gets their contents.
    pub places: Vec<Place>,
    /// Says what is wrong with the contents, as in "tls-cert and tls-key do not go together".
    pub make: Make<T>,
}

/// A credential that cannot be used at the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CredentialError(String);

type Seen = Vec<Result<Bytes, FileFault>>;

impl<T> Source<T> {
    fn read(&self) -> Seen {
        self.places.iter().map(Place::read).collect()
    }

    fn made_of(&self, seen: &Seen) -> Result<Made<T>, String> {
        let contents = seen.iter().zip(&self.places).map(|(seen, place)| match seen {
            Ok(content) => Ok(content.clone()),
            Err(fault) => Err(format!("{}: {fault}", place.told())),
        });
        let contents: Vec<Bytes> = contents.collect::<Result<_, _>>()?;
        (self.make)(&contents).map_err(|why| {
            let places: Vec<_> = self.places.iter().map(Place::told).collect();
            format!("{}: {why}", places.join(", "))
        })
    }
}

/// The credentials of a program, while they are loaded.
pub struct Credentials {
    register: Register,
    clock: Arc<dyn Clock>,
    watched: Vec<Box<dyn Look>>,
}

impl Credentials {
    /// None yet; what is loaded is entered there.
    pub fn new(register: &Register) -> Self {
        Self {
            register: register.clone(),
            clock: Arc::new(SystemClock),
            watched: Vec::new(),
        }
    }

    /// Reads a credential for the first time.
    ///
    /// # Errors
    /// What an operator has to fix, with the setting and the file.
    pub fn load<T: Send + Sync + 'static>(&mut self, source: Source<T>) -> Result<Credential<T>, CredentialError> {
        let (watched, credential) = Watched::new(source, &self.register, &*self.clock)?;
        if !watched.source.places.is_empty() {
            self.watched.push(Box::new(watched));
        }
        Ok(credential)
    }

    /// Where what is loaded is entered.
    pub fn register(&self) -> Register {
        self.register.clone()
    }

    /// Looks at all files from now on, until the answer is dropped.
    pub fn keep(self) -> Keeping {
        Keeping(tokio::spawn(self.run()))
    }

    async fn run(self) {
        let Self { clock, mut watched, .. } = self;
        if watched.is_empty() {
            return;
        }
        let mut reloads = reloads();
        loop {
            let at_once = tokio::select! {
                () = tokio::time::sleep(PERIOD) => false,
                _ = reloads.changed() => true,
            };
            let clock = clock.clone();
            // Disks may be far away and slow. Only one look is under way at a time.
            let look = spawn_blocking(move || {
                for one in &mut watched {
                    one.look(at_once, clock.now());
                }
                watched
            });
            let Ok(looked_at) = look.await else { return };
            watched = looked_at;
        }
    }
}

/// The looking at files. It ends when this is dropped.
#[derive(Debug)]
pub struct Keeping(JoinHandle<()>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks at files once more.
trait Look: Send {
    fn look(&mut self, at_once: bool, now: Timestamp);
}

struct Watched<T> {
    source: Source<T>,
    sender: watch::Sender<Arc<T>>,
    entries: Vec<Entry>,
    /// What is in force.
    good: Seen,
    /// What was last taken, or refused.
    told: Seen,
    last: Seen,
    unsteady: u32,
    repetitions: Repetitions,
}

impl<T> Watched<T> {
    fn new(
        source: Source<T>,
        register: &Register,
        clock: &dyn Clock,
    ) -> Result<(Self, Credential<T>), CredentialError> {
        let seen = source.read();
        let made = source.made_of(&seen).map_err(CredentialError)?;
        let entries: Vec<_> = source
            .places
            .iter()
            .map(|place| register.enter(place.setting, &shown(&place.path)))
            .collect();
        tell_doubt(&source, &made);
        enter(&entries, &made, clock.now());
        let (sender, receiver) = watch::channel(Arc::new(made.value));
        let watched = Self {
            source,
            sender,
            entries,
            good: seen.clone(),
            told: seen.clone(),
            last: seen,
            unsteady: 0,
            repetitions: Repetitions::default(),
        };
        Ok((watched, Credential(receiver)))
    }

    fn files(&self) -> String {
        let files: Vec<_> = self.source.places.iter().map(Place::told).collect();
        files.join(", ")
    }

    /// Told once a minute, however often it happens.
    fn refuse(&self, why: &str) {
        for entry in &self.entries {
            entry.refused(why);
        }
        if let Some(untold) = self.repetitions.admit("", Instant::now()) {
            warn!(
                why,
                untold, "the new credential cannot be used; the last good one stays in force"
            );
        }
    }
}

fn enter<T>(entries: &[Entry], made: &Made<T>, now: Timestamp) {
    for (entry, (kind, until)) in entries.iter().zip(&made.kinds) {
        entry.loaded(kind, now, *until);
    }
}

fn tell_doubt<T>(source: &Source<T>, made: &Made<T>) {
    if let (Some(doubt), Some(place)) = (&made.doubt, source.places.first()) {
        warn!(file = place.told(), doubt, "a credential is in force, but questionable");
    }
}

impl<T: Send + Sync> Look for Watched<T> {
    fn look(&mut self, at_once: bool, now: Timestamp) {
        let seen = self.source.read();
        let is_still = seen == self.last;
        self.last.clone_from(&seen);
        if !is_still && !at_once {
            self.unsteady = self.unsteady.saturating_add(1);
            if self.unsteady == MOST_UNSTEADY {
                self.refuse(&format!("{}: is another at each look", self.files()));
                // Whatever it comes to rest at is looked at.
                self.told.clear();
            }
            return;
        }
        self.unsteady = 0;
        if seen == self.told {
            return;
        }
        self.told.clone_from(&seen);
        if seen == self.good {
            self.entries.iter().for_each(Entry::well);
            info!(files = self.files(), "a credential file is again the one in force");
            return;
        }
        match self.source.made_of(&seen) {
            Ok(made) => {
                self.good = seen;
                info!(files = self.files(), "a credential is replaced");
                tell_doubt(&self.source, &made);
                enter(&self.entries, &made, now);
                // Anyone who follows it may be gone.
                self.sender.send_replace(Arc::new(made.value));
            }
            Err(why) => self.refuse(&why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::service::clock::ManualClock;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("watch-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Two files that go together if they say the same.
    fn pair(folder: &Folder) -> (Watched<String>, Credential<String>, Register) {
        let places = ["a", "b"].map(|name| Place::file("tls-cert", folder.write(name, "1")));
        let source = Source {
            places: places.to_vec(),
            make: Box::new(|contents| {
                if contents[0] != contents[1] {
                    return Err("do not go together".to_owned());
                }
                let value = String::from_utf8_lossy(&contents[0]).into_owned();
                Ok(Made {
                    value,
                    kinds: vec![("text", None); 2],
                    doubt: None,
                })
            }),
        };
        let register = Register::default();
        let clock = ManualClock::at(Timestamp::from_secs(1));
        let (watched, credential) = Watched::new(source, &register, &clock).unwrap();
        (watched, credential, register)
    }

    #[test]
    fn a_change_counts_when_it_is_seen_twice_and_a_pair_that_does_not_fit_keeps_the_old_one() {
        let folder = Folder::new("pair");
        let (mut watched, credential, register) = pair(&folder);
        let mut look = |at_once| {
            watched.look(at_once, Timestamp::from_secs(2));
            credential.current().as_str().to_owned()
        };
        folder.write("a", "2");
        assert_eq!([look(false), look(false)], ["1", "1"]);
        let rows = register.rows();
        let why = rows[0].refused.as_deref().unwrap_or_default();
        assert!(
            why.contains("do not go together") && why.contains("/a") && why.contains("/b"),
            "{why}"
        );
        folder.write("b", "2");
        assert_eq!([look(false), look(false)], ["1", "2"]);
        assert_eq!(
            (&register.rows()[1].refused, register.rows()[1].since),
            (&None, Some(2))
        );
        // Anyone who asks for it has it read at once.
        folder.write("a", "3");
        folder.write("b", "3");
        assert_eq!(look(true), "3");
    }

    #[test]
    fn what_is_refused_and_put_back_is_well_again() {
        let folder = Folder::new("back");
        let (mut watched, _, register) = pair(&folder);
        folder.write("a", "2");
        watched.look(true, Timestamp::from_secs(2));
        assert!(register.rows()[0].refused.is_some());
        folder.write("a", "1");
        watched.look(true, Timestamp::from_secs(3));
        assert_eq!(
            (&register.rows()[0].refused, register.rows()[0].since),
            (&None, Some(1))
        );
        fs::remove_file(folder.0.join("b")).unwrap();
        watched.look(true, Timestamp::from_secs(4));
        assert!(
            register.rows()[1]
                .refused
                .as_deref()
                .unwrap()
                .contains("cannot be read")
        );
    }

    #[test]
    fn a_link_that_is_turned_is_a_change() {
        let folder = Folder::new("link");
        for version in ["1", "2"] {
            fs::create_dir(folder.0.join(version)).unwrap();
            fs::write(folder.0.join(version).join("key"), version).unwrap();
        }
        let turn = |to: &str| {
            std::os::unix::fs::symlink(folder.0.join(to), folder.0.join("new")).unwrap();
            fs::rename(folder.0.join("new"), folder.0.join("data")).unwrap();
        };
        turn("1");
        let source = Source {
            places: vec![Place::file("tls-key", folder.0.join("data/key"))],
            make: Box::new(|contents| {
                Ok(Made {
                    value: contents[0].clone(),
                    kinds: vec![("text", None)],
                    doubt: None,
                })
            }),
        };
        let clock = ManualClock::at(Timestamp::from_secs(1));
        let (mut watched, credential) = Watched::new(source, &Register::default(), &clock).unwrap();
        turn("2");
        watched.look(false, clock.now());
        watched.look(false, clock.now());
        assert_eq!(*credential.current(), "2");
    }

    #[test]
    fn a_file_that_never_rests_is_told_and_the_last_good_one_stays() {
        let folder = Folder::new("unsteady");
        let (mut watched, credential, register) = pair(&folder);
        for version in 0..100 {
            let text = format!("v{version}");
            folder.write("a", &text);
            folder.write("b", &text);
            watched.look(false, Timestamp::from_secs(2));
        }
        assert_eq!(*credential.current(), "1");
        assert!(register.rows()[0].refused.as_deref().unwrap().contains("at each look"));
        watched.look(false, Timestamp::from_secs(2));
        assert_eq!(
            (credential.current().as_str(), &register.rows()[0].refused),
            ("v99", &None)
        );
    }

    #[test]
    fn what_cannot_be_used_at_the_start_names_the_setting_and_the_file() {
        let folder = Folder::new("start");
        let source = Source {
            places: vec![Place::file("amqp-password-file", folder.0.join("none.txt"))],
            make: Box::new(|_| {
                Ok(Made {
                    value: (),
                    kinds: vec![("password", None)],
                    doubt: None,
                })
            }),
        };
        let error = Credentials::new(&Register::default()).load(source).err().unwrap();
        let told = error.to_string();
        assert!(
            told.starts_with("amqp-password-file /") && told.contains("none.txt"),
            "{told}"
        );
    }
}
